package config

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// NewSecret makes a master secret for secret_key: base64 of 32 random bytes.
func NewSecret() string { return seal.GenerateSecret().Reveal() }

// twin is a secret and the key that names its file.
type twin struct {
	path  string // of the secret; its file's is the same with _file
	value string
	file  string
	set   func(string)
	lines bool // may hold several lines
	later bool // belongs to what is not supported yet: refused when set, so never read
}

// twins returns every secret of c.
func (c *Config) twins() []twin {
	text := func(path string, t *secret.Text, file string) twin {
		return twin{path: path, value: t.Reveal(), file: file, set: func(s string) { *t = secret.New(s) }}
	}
	out := []twin{
		text("secret_key", &c.SecretKey, c.SecretKeyFile),
		text("forward_auth.secret", &c.ForwardAuth.Secret, c.ForwardAuth.SecretFile),
		text("provisioning.admin_url", &c.Provisioning.AdminURL, c.Provisioning.AdminURLFile),
		text("billing.stripe.webhook_secret", &c.Billing.Stripe.WebhookSecret, c.Billing.Stripe.WebhookSecretFile),
		text("billing.stripe.api_key", &c.Billing.Stripe.APIKey, c.Billing.Stripe.APIKeyFile),
	}
	for i := range out {
		switch out[i].path {
		case "secret_key", "billing.stripe.webhook_secret":
			out[i].lines = true
		case "billing.stripe.api_key", "provisioning.admin_url":
		default:
			out[i].later = true
		}
	}
	db := &c.HostDatabase
	out = append(out, twin{
		path: "host_database.url", value: db.URL.Reveal(), file: db.URLFile,
		set: func(s string) { db.URL = catalog.NewDBURI(s) },
	})
	for i := range c.Identity.Providers {
		p := &c.Identity.Providers[i]
		out = append(out, text(indexPath("identity.providers", i)+".client_secret", &p.ClientSecret, p.ClientSecretFile))
	}
	return out
}

// ReadSecrets reads the files that *_file keys name into the secrets that they stand for. Load does it; programs that
// fill a Config by hand call it before they use one. Reading again takes what the files hold by then. read is
// os.ReadFile, bounded, where nil. The error is an *Error of all unreadable, empty and malformed files; secrets beside
// a *_file of their own are left to Validate, which refuses the pair.
func (c *Config) ReadSecrets(read func(name string) ([]byte, error)) error {
	var found findings
	c.readSecrets(read, &found)
	return found.err()
}

func (c *Config) readSecrets(read func(string) ([]byte, error), found *findings) {
	if read == nil {
		read = readFile
	}
	src := sources{read: map[string]string{}}
	if c.src != nil {
		src.file, src.at, src.digests = c.src.file, c.src.at, c.src.digests
		maps.Copy(src.read, c.src.read)
	}
	c.src = &src
	for _, t := range c.twins() {
		if t.file == "" || t.later || t.value != "" && src.read[t.path] == "" {
			continue
		}
		content, problem := readSecret(read, t)
		if problem != "" {
			found.add(src.fault(t.path+"_file", problem))
			continue
		}
		t.set(content)
		src.read[t.path] = t.file
	}
}

// readSecret returns a secret file's content without one trailing newline, or what is wrong with it (FAIL-1).
func readSecret(read func(string) ([]byte, error), t twin) (content, problem string) {
	b, err := read(t.file)
	if err != nil {
		return "", "the file cannot be read: " + reason(err)
	}
	s := string(b)
	if cut, ok := strings.CutSuffix(s, "\n"); ok {
		s = strings.TrimSuffix(cut, "\r")
	}
	switch {
	case strings.TrimSpace(s) == "":
		return "", "the file is empty; it must hold the secret"
	case !t.lines && hasControl(s):
		return "", "the file must hold one line; only one newline at its end is not part of the secret"
	}
	return s, ""
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0
}

// readFile reads a file of at most maxFileBytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(b) > maxFileBytes {
		err = errTooLarge
	}
	return b, err
}

var errTooLarge = errors.New("larger than 1MiB")

// reason is an I/O error without the file's name, which is a value of the configuration.
func reason(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	if errors.Is(err, errTooLarge) {
		return errTooLarge.Error()
	}
	return "unreadable"
}

// Secrets returns every secret that c holds, each line of those that hold several, and the passwords in the URLs of the
// host database and of the tenants' server, for a redactor to know.
func (c *Config) Secrets() []secret.Text {
	var out []secret.Text
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, secret.New(s))
		}
	}
	for _, t := range c.twins() {
		add(t.value)
		if strings.Contains(t.value, "\n") {
			for line := range strings.SplitSeq(t.value, "\n") {
				add(line)
			}
		}
	}
	for _, uri := range []string{c.HostDatabase.URL.Reveal(), c.Provisioning.AdminURL.Reveal()} {
		for _, password := range uriPasswords(uri) {
			add(password)
		}
	}
	return out
}
