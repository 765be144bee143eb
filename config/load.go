package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// DefaultPath is the file that Load reads where it is told of none and this one exists.
const DefaultPath = "config.yaml"

// LoadOptions says what Load reads. The zero value reads ./config.yaml, if there is one, and the process' environment.
type LoadOptions struct {
	// Path is the file; it must exist. Empty: DefaultPath if it exists, else the environment alone.
	Path string
	// Environ is a list of NAME=value. Nil: os.Environ().
	Environ []string
	// ReadFile reads the file and those that hold secrets. Nil: the file system, at most 1 MiB each.
	ReadFile func(name string) ([]byte, error)
	// Serve also demands what the proxy needs and the Go middleware does not: routes, each with an upstream.
	Serve bool
}

// Load makes a Config of, in this order of precedence, the environment, the file and the defaults, reads the files of
// secrets, tries those of certificates and keys, and validates all of it. The error is an *Error of every fault that was found.
//
// In the file, ${NAME} in a value is replaced by the environment variable's value, once, and $$ by $. Variables set
// keys as TENANTGATE_ and the path in upper case with _; they are taken verbatim.
func Load(ctx context.Context, opts LoadOptions) (*Config, error) {
	l, err := gather(ctx, opts)
	if err != nil {
		return nil, err
	}
	l.cfg.readSecrets(l.read, &l.found)
	l.cfg.checkFiles(l.read, &l.found)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.cfg.Defaults()
	v := newValidator(l.cfg)
	v.all()
	if opts.Serve {
		v.serve()
	}
	merge(&l.found, &v.faults)
	if err := l.found.err(); err != nil {
		return nil, err
	}
	return l.cfg, nil
}

// LoadHostDatabase reads where the host database is and nothing else, for programs that administer it: the rest may be
// missing or wrong, but for what might have been meant for this section, such as unknown keys and variables.
func LoadHostDatabase(ctx context.Context, opts LoadOptions) (catalog.Config, error) {
	cfg, err := loadPart(ctx, opts, "host_database")
	return cfg.HostDatabase, err
}

// LoadKeys is LoadHostDatabase with the master secrets, for programs that use the sealed keys in it too.
func LoadKeys(ctx context.Context, opts LoadOptions) (catalog.Config, secret.Text, error) {
	cfg, err := loadPart(ctx, opts, "host_database", "secret_key", "secret_key_file")
	return cfg.HostDatabase, cfg.SecretKey, err
}

// LoadBilling is LoadKeys with what leads to Stripe and what entitles, for programs that compare with Stripe. The Config
// holds these sections, and others unchecked.
func LoadBilling(ctx context.Context, opts LoadOptions) (*Config, error) {
	return loadPart(ctx, opts, "host_database", "secret_key", "secret_key_file", "billing", "subscription")
}

// LoadProvisioning is LoadKeys with how tenants are made, for programs that make, change and remove their databases. The
// Config holds these sections, and others unchecked.
func LoadProvisioning(ctx context.Context, opts LoadOptions) (*Config, error) {
	return loadPart(ctx, opts, "host_database", "secret_key", "secret_key_file", "provisioning", "subscription", "roles")
}

// loadPart reads those sections alone. The Config holds whatever else was there, unchecked.
func loadPart(ctx context.Context, opts LoadOptions, sections ...string) (*Config, error) {
	l, err := gather(ctx, opts)
	if err != nil {
		return &Config{}, err
	}
	l.cfg.Identity.Providers = nil
	if !slices.Contains(sections, "secret_key_file") {
		l.cfg.SecretKeyFile = ""
	}
	l.cfg.readSecrets(l.read, &l.found)
	l.cfg.Defaults()
	v := newValidator(l.cfg)
	v.values()
	v.later()
	v.secrets()
	v.hostDatabase()
	v.provisioning()
	v.stripe()
	v.bounds()
	merge(&l.found, &v.faults)
	l.found.list = slices.DeleteFunc(l.found.list, func(f Fault) bool {
		section, _, below := strings.Cut(f.Path, ".")
		elsewhere := !slices.Contains(sections, section) && f.Path != ""
		return elsewhere && (below || strings.Contains(f.Path, "[") || schema().fieldFor(section) != nil)
	})
	return l.cfg, l.found.err()
}

// loading is a Config on its way: file and environment are in it, secrets' files and defaults are not.
type loading struct {
	cfg   *Config
	read  func(string) ([]byte, error)
	found findings
}

func gather(ctx context.Context, opts LoadOptions) (*loading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	digests := map[string][sha256.Size]byte{}
	opts.ReadFile = digesting(opts.ReadFile, digests)
	data, name, err := readConfig(opts)
	if err != nil {
		return nil, err
	}
	env := newEnvironment(opts.Environ)
	l := &loading{read: opts.ReadFile}
	l.cfg = &Config{src: &sources{file: name, at: map[string]origin{}, digests: digests}}
	if name != "" && !l.cfg.fromDocument(data, env, &l.found) {
		return nil, l.found.err()
	}
	applyEnvironment(l.cfg, env, l.cfg.src, &l.found)
	l.cfg.hostDatabaseFromEnv(env, &l.found)
	return l, nil
}

// digesting notes the digest of all that read returns, so that Watch knows what was loaded.
func digesting(read func(string) ([]byte, error), digests map[string][sha256.Size]byte) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		b, err := read(name)
		if err == nil {
			digests[name] = sha256.Sum256(b)
		}
		return b, err
	}
}

// readConfig returns the file's content and name, both empty where there is none to read.
func readConfig(opts LoadOptions) ([]byte, string, error) {
	name := opts.Path
	if name == "" {
		name = DefaultPath
	}
	data, err := opts.ReadFile(name)
	switch {
	case err == nil:
		return data, name, nil
	case opts.Path == "" && errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	}
	return nil, "", &Error{Faults: []Fault{{File: name, Message: "cannot be read: " + reason(err)}}}
}

// fromDocument fills c from YAML. It returns false where the document cannot be read at all.
func (c *Config) fromDocument(data []byte, env environment, found *findings) bool {
	root := schema()
	d := &decoder{src: c.src, list: found, root: root}
	doc := readDocument(data, env.lookup, d.report)
	if doc == nil {
		return len(found.list) == 0
	}
	d.decode(root, doc, reflect.ValueOf(c).Elem(), "")
	return doc.kind == dictNode || doc.kind == nullNode
}

// hostDatabaseFromEnv takes fh-saas' own DB_* variables where nothing else names the host database.
func (c *Config) hostDatabaseFromEnv(env environment, found *findings) {
	db := &c.HostDatabase
	if !db.URL.IsZero() || db.URLFile != "" {
		return
	}
	const path = "host_database.url"
	if o, ok := c.src.at[path]; ok && hasFaultAt(found, path, o) {
		return // it is set, wrongly
	}
	url, err := catalog.URLFromEnv(func(name string) string { return env[name] })
	if err != nil {
		f := c.src.fault(path, "missing, and the DB_ variables do not say it either: "+err.Error())
		found.add(f)
		return
	}
	db.URL = url
	c.src.at[path] = origin{variable: "DB_*"}
}

func hasFaultAt(found *findings, path string, o origin) bool {
	return slices.ContainsFunc(found.list, func(f Fault) bool {
		return f.Path == path && (f.Line == o.line || f.Variable == o.variable)
	})
}

// merge adds what validation found, but for keys that are known to be wrong already, in themselves, in what is below
// them or in their twin: what validation misses there is missing only because of that.
func merge(found, more *findings) {
	faulty := map[string]bool{}
	for _, f := range found.list {
		for path := f.Path; path != ""; path = parentPath(path) {
			faulty[path] = true
		}
	}
	for _, f := range more.list {
		if !faulty[f.Path] && !faulty[strings.TrimSuffix(f.Path, "_file")] && !faulty[f.Path+"_file"] {
			found.add(f)
		}
	}
	found.more += more.more
}

// File returns the file that c was loaded from, or "".
func (c *Config) File() string {
	if c.src == nil {
		return ""
	}
	return c.src.file
}

// Files returns the other files that c names and that count as part of it: secrets, certificates and keys. Sorted,
// without repetition.
func (c *Config) Files() []string {
	set := map[string]bool{}
	for _, t := range c.twins() {
		set[t.file] = true
	}
	schema().walk(reflect.ValueOf(c).Elem(), "", func(s *spec, v reflect.Value, _ string) {
		if s.kind == textKind && (s.key == "ca_file" || s.key == "cert_file" || s.key == "key_file") {
			set[v.String()] = true
		}
	})
	delete(set, "")
	return slices.Sorted(maps.Keys(set))
}
