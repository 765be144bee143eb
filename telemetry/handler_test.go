package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// registeredSecret has no form that a pattern could know.
const registeredSecret = "correct horse battery"

type (
	stringer     struct{ s string }
	formatter    struct{ s string }
	marshaler    struct{ s string }
	logValuer    struct{ s string }
	badValuer    struct{ s string }
	badError     struct{ s string }
	unexported   struct{ S, s string }
	nestedConfig struct {
		Name     string
		Password string `json:"password"`
		Inner    map[string][]string
	}
)

func (v stringer) String() string                { return v.s }
func (v formatter) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, v.s) }
func (v marshaler) MarshalText() ([]byte, error) { return []byte(v.s), nil }
func (v logValuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("inner", v.s), slog.Any("error", errors.New(v.s)))
}
func (v badValuer) LogValue() slog.Value { panic(v.s) }
func (v badError) Error() string         { panic(v.s) }

// LEAK-3: a secret in every input of the logger.
func TestASecretInEveryInputOfTheLoggerNeverComesOut(t *testing.T) {
	secrets := map[string]string{
		"registered": registeredSecret,
		"uri":        "postgresql://user:" + canary + "@db.internal/app",
		"jwt":        jwt,
		"api token":  token,
		"session":    session,
		"header":     "Authorization: Bearer " + canary,
		"cookie":     "__Host-tg_session=" + canary,
		"dsn":        "host=h password=" + canary,
	}
	log := func(log *slog.Logger, s string) {
		ctx := context.Background()
		log.Info(s)
		log.Info("message " + s + " goes on")
		log.Info("m", "text", s)
		log.Info("m", s, "key")
		log.Info("m", slog.Group("group", slog.String("in", s), slog.Group("deeper", slog.String("in", s))))
		log.Info("m", slog.Group(s, slog.String("a", "b")))
		log.Info("m", "error", errors.New(s))
		log.Info("m", "error", fmt.Errorf("wrapped: %w", errors.Join(errors.New("x"), errors.New(s))))
		log.Info("m", "stringer", stringer{s}, "formatter", formatter{s}, "marshaler", marshaler{s}, "valuer", logValuer{s})
		log.Info("m", "pointer", &stringer{s}, "bad valuer", badValuer{s}, "bad error", badError{s})
		log.Info("m", "bytes", []byte(s), "strings", []string{"a", s}, "map", map[string]any{s: s, "b": []any{s}})
		log.Info("m", "raw", json.RawMessage(`{"a":`+fmt.Sprintf("%q", s)+`}`), "struct", unexported{s, s}, "any", any(s))
		log.Info("m", "header", http.Header{"Authorization": {s}, "Cookie": {s}, "X-Other": {s}})
		log.Info("m", "unmarshalable", map[string]any{"f": func() {}, "s": s})
		log.Info("m", "attr", slog.String("a", s), "attrs", []slog.Attr{slog.Any("a", unexported{s, s}), slog.Any(s, logValuer{s})})
		log.With("bound", s).Info("m")
		log.WithGroup(s).Info("m", "a", s)
		log.With("bound", logValuer{s}).WithGroup("g").With(s, s).Info("m")
		log.Log(ctx, slog.LevelError, s, "", s)
		log.Info("m", []any{"odd number of arguments " + s}...)
	}
	for _, format := range []string{"json", "text"} {
		for name, s := range secrets {
			tel, out := start(t, Config{Log: LogConfig{Format: format}}, Options{})
			tel.Redact(registeredSecret)
			log(tel.Logger, s)
			for _, leak := range []string{registeredSecret, canary, jwt, token, session, token[3:], session[:43]} {
				if i := strings.Index(out.String(), leak); i >= 0 {
					t.Errorf("%s, %s: %q came out: %s", format, name, leak, out.String()[max(0, i-100):i+len(leak)])
				}
			}
			if format == "json" && len(lines(t, out)) < 19 {
				t.Errorf("%s: only %d lines", name, len(lines(t, out)))
			}
		}
	}
}

func TestKeysThatNameASecretHideWhateverTheyHold(t *testing.T) {
	for _, key := range []string{
		"password", "Password", "db_password", "Authorization", "cookie", "Set-Cookie", "access_token", "client_secret", "api_key",
		"db_url", "dbURI", "X-Tenant-Db-Uri", "dsn", "X-Gate-Assertion", "PrivateKey",
	} {
		tel, out := start(t, Config{}, Options{})
		tel.Logger.Info("m", key, "swordfish", slog.Group(key, slog.String("a", "swordfish"), slog.Int("n", 4711)),
			"x", map[string]any{key: []string{"swordfish"}, "y": map[string]any{key: map[string]any{"z": "swordfish"}}},
			"n", slog.GroupValue(slog.Any(key, 4711), slog.Any(key, []int{4711}), slog.Any(key, stringer{"swordfish"}), slog.Any(key, struct{ A string }{"swordfish"})))
		if s := out.String(); strings.Contains(s, "swordfish") || strings.Contains(s, "4711") {
			t.Errorf("%s: %s", key, s)
		}
	}
	tel, out := start(t, Config{}, Options{})
	tel.Logger.Info("m", "secret_key_file", "/run/secrets/tenantgate", "password", "", "has_cookie", true)
	if s := out.String(); !strings.Contains(s, "/run/secrets/tenantgate") || !strings.Contains(s, `"password":""`) || !strings.Contains(s, `"has_cookie":true`) {
		t.Errorf("a path, an absent secret and a boolean are no secrets: %s", s)
	}
}

func TestASecretRegisteredAfterItWasBoundIsHiddenToo(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	log := tel.Logger.With("bound", registeredSecret)
	tel.Redact(registeredSecret)
	log.Info("m")
	if strings.Contains(out.String(), registeredSecret) || len(lines(t, out)) != 1 {
		t.Errorf("%s", out)
	}
}

func TestANumberThatIsASecretIsHidden(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	tel.Redact("73571")
	tel.Redact("99887766")
	tel.Logger.Info("m", "n", 73571, "u", uint64(99887766), "other", 12, "tree", map[string]any{"n": 99887766})
	if s := out.String(); strings.Contains(s, "73571") || strings.Contains(s, "99887766") || !strings.Contains(s, `"other":12`) {
		t.Errorf("%s", s)
	}
	lines(t, out) // still JSON
}

func TestValuesKeepTheirShape(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	u, err := url.Parse("https://u:" + canary + "@h/x")
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Info("m",
		"int", 3, "float", 1.5, "bool", true, "duration", time.Second, "nil", nil, "url", u,
		"typed nil", (*url.URL)(nil), "secret", secret.New("swordfish"),
		"config", nestedConfig{Name: "acme", Password: "swordfish", Inner: map[string][]string{"a": {"b"}}})
	line := lines(t, out)[0]
	for key, want := range map[string]any{"int": 3.0, "float": 1.5, "bool": true, "duration": 1e9, "nil": nil, "url": "https://u:***@h/x", "secret": "***"} {
		if line[key] != want {
			t.Errorf("%s: %v, want %v", key, line[key], want)
		}
	}
	config, ok := line["config"].(map[string]any)
	if !ok || config["Name"] != "acme" || config["password"] != "***" || fmt.Sprint(config["Inner"]) != "map[a:[b]]" {
		t.Errorf("config: %v", line["config"])
	}
}

func TestLongAndDeepValuesAreBounded(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	deep := slog.String("k", "bottom")
	var tree any = "bottom"
	for range 100 {
		deep = slog.Group("g", deep)
		tree = []any{tree}
	}
	long := strings.Repeat("x", 1<<20)
	tel.Logger.Info(long, "text", long, long, 1, "bytes", []byte(long), "list", []string{long}, "deep", deep, "tree", tree)
	if n := out.Len(); n > 100<<10 {
		t.Errorf("%d bytes", n)
	}
	if strings.Contains(out.String(), "bottom") {
		t.Error("no bound on depth")
	}
	lines(t, out)
}

// A secret must not survive because a cut went through the middle of it.
func TestTextsAreCutAfterTheyAreRedacted(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	tel.Redact(registeredSecret)
	tel.Logger.Info(strings.Repeat("x", maxLogText-5) + registeredSecret)
	if strings.Contains(out.String(), registeredSecret[:4]) {
		t.Error("half of a secret came out")
	}
}

func TestControlCharactersCannotForgeALine(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		tel, out := start(t, Config{Log: LogConfig{Format: format}}, Options{})
		tel.Logger.Info("a\nlevel=ERROR msg=forged\r\n", "k\n", "v\n\x1b[31m", "err", errors.New("x\ny"))
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 || bytes.ContainsAny(out.Bytes(), "\r\x1b") {
			t.Errorf("%s: %d lines: %q", format, n, out)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestALogThatCannotBeWrittenFailsNobody(t *testing.T) {
	tel, err := New(Config{}, Options{Writer: failingWriter{}})
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Error("m")
	tel.Access.Write(&Access{Status: 200})
	if err := tel.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func BenchmarkLogger(b *testing.B) {
	tel, err := New(Config{}, Options{Writer: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Close(b.Context()) }()
	b.ReportAllocs()
	for b.Loop() {
		tel.Logger.Info("grant loaded", "tenant", "acme", "user", "49874b645a544296b1aa6427682be48c", "rows", 3)
	}
}
