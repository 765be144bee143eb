package config

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecretFilesAreReadWithoutOneTrailingNewline(t *testing.T) {
	for content, want := range map[string]string{
		"s": "s", "s\n": "s", "s\r\n": "s", " s ": " s ",
	} {
		cfg, err := Load(t.Context(), LoadOptions{Path: "c", Environ: []string{}, ReadFile: files{
			"c":        minimal + "identity: {providers: [{name: a, issuer: https://a.example, client_id: i, client_secret_file: /s}]}\n",
			"/run/key": masterSecret, "/s": content,
		}.read})
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		if got := cfg.Identity.Providers[0].ClientSecret.Reveal(); got != want {
			t.Errorf("file %q gives %q", content, got)
		}
	}
}

// A secret that cannot be had stops the start (FAIL-1), and every one that cannot is named.
func TestSecretsThatCannotBeHadAreFaults(t *testing.T) {
	short := base64.StdEncoding.EncodeToString([]byte("too short"))
	tests := []struct{ name, text, key, want string }{
		{"missing", "public_url: https://a.example\nhost_database: {url: \"sqlite:x\"}\n", "", "config.yaml:1:1: secret_key_file: missing"},
		{"file is not there", minimal, "absent", "config.yaml:2:18: secret_key_file: the file cannot be read: file does not exist"},
		{"file is empty", minimal, "", "config.yaml:2:18: secret_key_file: the file is empty"},
		{"file is a newline", minimal, "\n", "config.yaml:2:18: secret_key_file: the file is empty"},
		{"file holds no base64", minimal, "!!", "config.yaml:2:18: secret_key_file: line 1: is not base64"},
		{"file holds a short secret", minimal, short, "config.yaml:2:18: secret_key_file: line 1: is base64 of 9 bytes"},
		{"both", strings.Replace(minimal, "host_", "secret_key: "+masterSecret+"\nhost_", 1), masterSecret, "config.yaml:3:13: secret_key: is set together with secret_key_file"},
		{"both of the database", minimal + "  url_file: /run/key\n", masterSecret, "config.yaml:4:8: host_database.url: is set together with url_file"},
		{"both of a provider", at(strings.Replace(provider, "}]}", ", client_secret_file: /run/key}]}", 1)), masterSecret, "identity.providers[0].client_secret: is set together with client_secret_file"},
		{"secret of two lines", strings.Replace(minimal, "url: sqlite:host.db", "url_file: /run/two", 1), masterSecret, "config.yaml:4:13: host_database.url_file: the file must hold one line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := files{"config.yaml": tt.text, "/run/key": tt.key, "/run/two": "sqlite:x\nsqlite:y\n"}
			if tt.key == "absent" {
				delete(disk, "/run/key")
			}
			_, err := Load(t.Context(), LoadOptions{Path: "config.yaml", Environ: []string{}, ReadFile: disk.read})
			if got := lines(t, err); len(got) != 1 || !strings.Contains(got[0], tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
}

func TestSecretFilesAreBoundedAndNeverNamedByTheirError(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{big: "larger than 1MiB", t.TempDir(): "is a directory", big + "x": "no such file or directory"} {
		_, err := readFile(name)
		if err == nil || reason(err) != want {
			t.Errorf("reading %s: %v, reason %q", name, err, reason(err))
		}
	}
	if got := reason(errors.New("open /secret/place: odd")); strings.Contains(got, "secret") {
		t.Errorf("reason = %q", got)
	}
}

func TestConfigFilledByHandReadsItsSecrets(t *testing.T) {
	var cfg Config
	cfg.PublicURL, cfg.SecretKeyFile, cfg.HostDatabase.URLFile = "https://a.example", "/key", "/url"
	if err := cfg.Validate(); err != nil {
		t.Fatalf("a file that is not read yet is a fault: %v", err)
	}
	disk := files{"/key": masterSecret + "\n", "/url": "sqlite:x\n"}
	for range 2 { // reading again is allowed
		if err := cfg.ReadSecrets(disk.read); err != nil {
			t.Fatal(err)
		}
	}
	if err := cfg.Validate(); err != nil || cfg.SecretKey.Reveal() != masterSecret || cfg.HostDatabase.URL.Reveal() != "sqlite:x" {
		t.Errorf("%v, %q, %q", err, cfg.SecretKey.Reveal(), cfg.HostDatabase.URL.Reveal())
	}
	before := cfg
	disk["/url"] = "sqlite:y"
	if err := cfg.ReadSecrets(disk.read); err != nil || cfg.HostDatabase.URL.Reveal() != "sqlite:y" || before.HostDatabase.URL.Reveal() != "sqlite:x" {
		t.Errorf("%v, new %q, copy %q", err, cfg.HostDatabase.URL.Reveal(), before.HostDatabase.URL.Reveal())
	}
	cfg.Identity.Providers = nil
	if err := (&Config{SecretKeyFile: "/none"}).ReadSecrets(disk.read); err == nil || err.Error() != "secret_key_file: the file cannot be read: file does not exist" {
		t.Errorf("error = %v", err)
	}
}

func TestRedactorIsToldEverySecret(t *testing.T) {
	cfg, err := load(t, strings.Replace(minimal, "sqlite:host.db", "\"postgresql://u:p%40ss@h/d?password=other\"", 1)+provider)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range cfg.Secrets() {
		got = append(got, s.Reveal())
	}
	for _, want := range []string{masterSecret, "s", "postgresql://u:p%40ss@h/d?password=other", "p%40ss", "p@ss", "other"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among the secrets", want)
		}
	}
}

// Whatever is wrong, and wherever a secret stands, no fault and no print repeats it (LEAK-3).
func TestCanaryIsInNoFaultAndNoPrint(t *testing.T) {
	const canary = "c4n4ry-t0ps3cr3t"
	key := base64.StdEncoding.EncodeToString([]byte(canary + canary + canary))
	good := fmt.Sprintf(`public_url: https://app.example.com
secret_key: %s
host_database: {url: "postgresql://user:%s@db/host?sslpassword=%[2]s"}
identity: {providers: [{name: a, issuer: https://a.example, client_id: i, client_secret: %[2]s}]}
`, key, canary)
	cfg, err := load(t, good)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for what, out := range map[string]string{"YAML": string(cfg.YAML()), "%v": fmt.Sprintf("%v", cfg), "%+v": fmt.Sprintf("%+v", cfg), "%#v": fmt.Sprintf("%#v", cfg), "JSON": string(asJSON)} {
		if strings.Contains(out, canary) || strings.Contains(out, key) {
			t.Errorf("%s shows a secret:\n%s", what, out)
		}
	}

	texts := []string{
		strings.ReplaceAll(good, "postgresql:", "mysql:"),
		strings.ReplaceAll(good, "@db/host", "@a,b/host"),
		strings.ReplaceAll(good, "@db/host", "/host"),
		strings.ReplaceAll(good, ":"+canary+"@db", ":%zz"+canary+"@db"),
		strings.ReplaceAll(good, key, key[:20]+canary),
		good + "secret_key_file: /x\nforward_auth: {secret: " + canary + "}\nbilling: {stripe: {api_key: " + canary + "}}\n",
		"secret_key: [" + canary + "]\n", "secret_key: {" + canary + ": 1}\n", "{secret_key:" + canary + "}\n",
		"secret_key: \"" + canary + "\n", "secret_key: '" + canary + "\npublic_url: x\n", "secret_key:" + canary + "\nx: y\n",
		"secret_key: " + canary + ": " + canary + "\n", "secret_key: @" + canary + "\n", "secret_key: %" + canary + "\n", "secret_key: !" + canary + " x\n",
		"secret_key: *" + canary + "\n", "secret_key: &" + canary + "\n", "secret_key: | " + canary + "\n", "? " + canary + "\n: [\n", "- " + canary + "\n", canary,
		"- \"\\" + canary + "\"\n", "%" + canary + " x\n---\n", "\"" + canary + "\": x\n", "a: \"" + canary + "\" x\n",
		"roles: [\"${SECRET}\", \"${SECRET}\"]\n",
	}
	// The value of a variable in the place of every value that there is.
	schema().leaves(func(s *spec) {
		path := strings.NewReplacer("[]", "", ".*", ".a").Replace(s.pattern)
		open, shut := "", ""
		keys := strings.Split(path, ".")
		for i, k := range keys {
			list := strings.Contains(s.pattern, k+"[]")
			open += k + ": "
			if i < len(keys)-1 {
				if list {
					open += "["
					shut = "]" + shut
				}
				open += "{"
				shut = "}" + shut
				if list {
					shut = strings.Replace(shut, "}]", "}]", 1)
				}
			}
		}
		for _, value := range []string{"\"${SECRET}\"", "[\"${SECRET}\", \"${SECRET}\"]", "{a: \"${SECRET}\"}"} {
			texts = append(texts, open+value+shut+"\n")
		}
	})
	for _, text := range texts {
		_, err := load(t, text, "SECRET="+canary, "TENANTGATE_CACHE_TTL="+canary, "TENANTGATE_NONSENSE="+canary, "DB_TYPE="+canary, "DB_PASS="+canary)
		if err == nil {
			t.Errorf("this loads:\n%s", text)
			continue
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("a fault repeats a secret:\n%v\nof\n%s", err, text)
		}
	}
}

func TestNewSecretIsGoodAndNew(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	raw, err := base64.StdEncoding.DecodeString(a)
	if err != nil || len(raw) != 32 || a == b {
		t.Errorf("NewSecret gives %d bytes, %v, twice the same %v", len(raw), err, a == b)
	}
}
