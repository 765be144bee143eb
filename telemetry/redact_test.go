package telemetry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	canary = "hunter2-CANARY" // stands for a secret that is not registered and must be found by its surroundings
	jwt    = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJodW50ZXIyLUNBTkFSWSJ9.c2lnbmF0dXJlLWNhbmFyeQ"
	token  = "tg_c2VjcmV0LXRva2VuLWNhbmFyeQ"
	hidden = "4eC39HqLyjWDarjtT1zdp7dc" // behind Stripe's prefixes
	// A session cookie's value: 48 random bytes.
	session = "Zm9ydHktZWlnaHQgcmFuZG9tIGJ5dGVzIGFyZSBhIHNlc3Npb24gdG9rZW4hMDEy"
)

// LEAK-2, LEAK-3: what looks like a credential is hidden wherever it stands.
func TestPatternsHideCredentials(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		// URIs
		{"postgresql://user:" + canary + "@host/db", "postgresql://user:***@host/db"},
		{"postgresql+psycopg2://user:" + canary + "@host:5432/db?sslmode=require", "postgresql+psycopg2://user:***@host:5432/db?sslmode=require"},
		{"dial postgres://u:" + canary + "@a/x and postgres://v:" + canary + "@b/y failed", "dial postgres://u:***@a/x and postgres://v:***@b/y failed"},
		{`parse "postgres://u:p ` + canary + `@h/db": invalid userinfo`, `parse "postgres://u:***@h/db": invalid userinfo`},
		{"postgres://u:p@" + canary + "/x?y#z@h/db", "postgres://u:***@h/db"},
		{"postgres://u:" + canary + "'\"@h/db", "postgres://u:***@h/db"},
		{"postgres://u://" + canary + "//@h/db", "postgres://u:***@h/db"},
		{"://u:" + canary + "@h/db", "://u:***@h/db"},
		{"postgres://:" + canary + "@h/db", "postgres://:***@h/db"},
		{"https://u:" + canary + "@idp.example.com/x", "https://u:***@idp.example.com/x"},
		{"host=h user=u password=" + canary + " dbname=d", "host=h user=u password=*** dbname=d"},
		{`host=h password='a b\'` + canary + `' user=u`, `host=h password='***' user=u`},
		{`password=a\ ` + canary + ` user=u`, `password=*** user=u`},
		{"postgres://h/db?user=u&password=" + canary + "&x=1", "postgres://h/db?user=u&password=***&x=1"},
		// headers
		{"Authorization: Bearer " + canary, "Authorization: ***"},
		{"Proxy-Authorization=Basic " + canary, "Proxy-Authorization=***"},
		{"map[Authorization:[Bearer " + canary + "] X:[y]]", "map[Authorization:***"},
		{`{"Authorization":["Bearer ` + canary + `"],"X":["y"]}`, `{"Authorization":***],"X":["y"]}`},
		{`{"cookie":"a=` + canary + `","x":1}`, `{"cookie":***,"x":1}`},
		{"cookie: a=b; other=\"" + canary + "\"\nhost: h", "cookie: ***\nhost: h"},
		{"Set-Cookie: __Host-tg_session=" + canary + "; Path=/", "Set-Cookie: ***"},
		{"got __Host-tg_session=" + canary + "; Secure", "got __Host-tg_session=***; Secure"},
		{"tg_flow_x=" + canary, "tg_flow_x=***"},
		{"sent Bearer " + canary + " to h", "sent Bearer *** to h"},
		{"basic " + base64.StdEncoding.EncodeToString([]byte("me:"+canary)), "basic ***"},
		// tokens
		{"token " + jwt + " is expired", "token *** is expired"},
		{"(" + jwt + ")", "(***)"},
		{"key " + token + ".", "key tg_***."},
		{"id=tga_" + canary, "id=tga_***"},
		{"x_tg_tg_" + canary, "x_tg_***"},
		{"session " + session, "session ***"},
		{"challenge " + session[:43], "challenge ***"},
		{"POST sk_live_" + hidden + ": refused", "POST ***: refused"},
		{"(rk_test_" + hidden + ")", "(***)"},
		{"https://h/x/whsec_" + hidden, "https://h/x/***"},
		{"key=sk_test_" + hidden, "key=***"},
		{"old_sk_live_" + hidden, "old_***"},
		// names
		{"client_secret=" + canary, "client_secret=***"},
		{`"client_secret":"` + canary + `"`, `"client_secret":"***"`},
		{`{\"access_token\":\"` + canary + `\"}`, `{\"access_token\":***`},
		{"password: " + canary, "password: ***"},
		{"DB_PASS... PGPASSWORD=" + canary, "DB_PASS... PGPASSWORD=***"},
		{"api_key => " + canary, "api_key => ***"},
		{"token=>" + canary, "token=>***"},
		{"token=>>" + canary, "token=>***"},
		{"pwd\f=\f" + canary, "pwd\f=\f***"},
		{"grant?code=" + canary + "&state=" + canary + "#x", "grant?code=***&state=***#x"},
		{"webhook secret: whsec_1234567890", "webhook secret: ***"},
	} {
		got := NewRedactor().String(c.in)
		if got != c.want {
			t.Errorf("%q\n became %q\n    want %q", c.in, got, c.want)
		}
		for _, secret := range []string{canary, jwt, token, session, hidden} {
			if strings.Contains(got, secret) {
				t.Errorf("%q still shows %q", got, secret)
			}
		}
	}
}

// A redactor that hides everything would hide what an operator needs.
func TestPlainTextsStayAsTheyAre(t *testing.T) {
	for _, s := range []string{
		"",
		"listening on http://127.0.0.1:8080", "that is a webhook secret (whsec_…): a secret (sk_…) or restricted key (rk_live_…) is needed", "task_live_upgrades task_list",
		"GET https://app.example.com:8443/users/a@b.example?x=1",
		"postgresql://user:***@host/db",
		"postgresql://db.internal:5432/app",
		"verify token: signature is invalid",
		"secret_key_file: open /run/secrets/tenantgate1: no such file or directory",
		"the bearer token of an unknown subject",
		"basic features are not enough",
		"unknown cookie: expired",
		"code: no_access, status=403",
		"tenant 49874b645a544296b1aa6427682be48c is paused",
		"trace 0af7651916cd43dd8448eb211c80319c, span b7ad6b7169203331",
		"sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"2026-11-23T07:31:00.123456 done in 1.5ms: ok",
		"__Host-tg_session is missing",
		"dial tcp [::1]:5432: connect: connection refused",
		"config.yaml:12:5: tenants.base_domain: must be a host name",
	} {
		if got := NewRedactor().String(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestRegisteredSecretsAreHiddenInEverySpelling(t *testing.T) {
	for _, secret := range []string{
		"hunter2", "p@ss/w:rd#1", "a+b c%20d", "ünïcödé-€", `semi;colon'quote"dq`, `[br]{ace}|pipe\bs`, "q?x=1&y=2;z", "%41%zz", "line1\nline2", "1234567", "<tag>&",
	} {
		r := NewRedactor()
		r.Add(secret)
		j, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]string{
			"plain":   secret,
			"%q":      fmt.Sprintf("%q", secret),
			"%+v":     fmt.Sprintf("%+v", struct{ S string }{secret}),
			"json":    string(j),
			"query":   url.QueryEscape(secret),
			"path":    url.PathEscape(secret),
			"user":    url.UserPassword("u", secret).String(),
			"base64":  base64.StdEncoding.EncodeToString([]byte(secret)),
			"base64u": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			got := r.String("before " + s + " after")
			if strings.Contains(got, secret) || strings.Contains(got, strings.Trim(s, `"`)) || !strings.Contains(got, Redacted) {
				t.Errorf("%q as %s: %q", secret, name, got)
			}
			if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
				t.Errorf("%q as %s: the surroundings are gone: %q", secret, name, got)
			}
		}
	}
}

func TestTheRegisteredURIsPasswordIsASecretOfItsOwn(t *testing.T) {
	r := NewRedactor()
	r.Add("postgresql://app:p%40ss%2Fword@db.internal:5432/app?sslpassword=other-secret")
	for _, s := range []string{"p%40ss%2Fword", "p@ss/word", "other-secret"} {
		if got := r.String("x " + s + " y"); got != "x *** y" {
			t.Errorf("%q", got)
		}
	}
}

func TestShortSecretsAreHiddenWhereTheyStandAlone(t *testing.T) {
	r := NewRedactor()
	r.Add("ab")
	for in, want := range map[string]string{
		"ab":             "***",
		"=ab;":           "=***;",
		"tab about abab": "tab about abab",
		"ab ab":          "*** ***",
		"(ab)":           "(***)",
	} {
		if got := r.String(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	r.Add("")
	r.Add("  \n")
	if got := r.String("a b"); got != "a b" {
		t.Errorf("nothing was registered, and %q came of it", got)
	}
}

func TestOverlappingSecretsAreHiddenTogether(t *testing.T) {
	r := NewRedactor()
	for _, s := range []string{"abcdefgh", "efghijkl", "abcdef"} {
		r.Add(s)
	}
	for in, want := range map[string]string{
		"xabcdefghijklx": "x***x",
		"abcdef":         "***",
		"abcdefg":        "***g",
		"abcdefabcdef":   "******",
	} {
		if got := r.String(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestOfALongTextOnlyTheBeginningIsShownAndNoSecretByHalf(t *testing.T) {
	r := NewRedactor()
	r.Add(canary)
	for _, s := range []string{canary, jwt, "postgres://u:" + strings.Repeat("p", 4000) + "@h/d"} {
		for before := maxRedact - len(s) - 1; before <= maxRedact; before += max(1, len(s)/10) {
			got := r.String(strings.Repeat("x ", before/2) + s + strings.Repeat(" y", maxRedact))
			if len(got) > maxRedact || strings.Contains(got, canary[:4]) || strings.Contains(got, jwt[:12]) || strings.Contains(got, "ppp") {
				t.Fatalf("%d bytes before it: half of a secret is shown: %q", before, got[len(got)-100:])
			}
		}
	}
	if got := r.String(strings.Repeat("authorization", 1<<20)); len(got) > maxRedact {
		t.Errorf("%d bytes", len(got))
	}
}

func TestPropertyARegisteredSecretNeverSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.StringMatching(`[a-c]{6,12}`), 1, 5).Draw(t, "secrets")
		r := NewRedactor()
		for _, s := range secrets {
			r.Add(s)
		}
		var text strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "parts") {
			text.WriteString(rapid.StringMatching(`[a-d]{0,6}`).Draw(t, "noise"))
			text.WriteString(rapid.SampledFrom(secrets).Draw(t, "secret"))
		}
		got := r.String(text.String())
		for _, s := range secrets {
			if strings.Contains(got, s) {
				t.Fatalf("%q shows %q", got, s)
			}
		}
	})
}

// Whatever stands around and in a URI, its password does not come through.
func FuzzRedactURI(f *testing.F) {
	for _, password := range []string{"x", "p@ss", "a/b?c#d", "q:\"'", "a b", "://", "[br]{}|\\", "%41", "ü€", "@@", "a@b c@d", "\x00"} {
		f.Add("dial ", "postgresql", password, "/db failed")
		f.Add("", "mysql+pymysql", password, "")
		f.Add("http://x ", "sqlite3", password, " and https://a@b")
	}
	f.Fuzz(func(t *testing.T, before, scheme, password, after string) {
		if strings.ContainsAny(password, "\r\n") || strings.Contains(password, "://") || len(password) > 200 || web(scheme) || scheme == "" || schemeBefore(scheme) != scheme {
			return // not what is promised: the password must be told from the rest of the line by its @
		}
		const mark = "CANARY7"
		s := before + " " + scheme + "://user:" + password + mark + password + "@host" + after
		if got := NewRedactor().String(s); strings.Contains(got, mark) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

// Whatever the text: no panic, and a registered secret in it is gone.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{jwt, token, session, "a=b", "Authorization: x", `{"cookie":["a=b"]}`, "password='", `password="\`, "ey.", "://", ":", "tg_", "bearer ", "token =>", "secret:\""} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		r := NewRedactor()
		const secret = "s3cr3t-CANARY"
		r.Add(secret)
		got := r.String(before + secret + after)
		if strings.Contains(got, secret) {
			t.Fatalf("%q", got)
		}
		_ = redactNamed(redactRuns(redactURIs(before + after))) // without the net that String spreads
		if clean := "plain words " + strings.Repeat("a", len(before)%40); r.String(clean) != clean {
			t.Fatalf("%q was changed", clean)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	r := NewRedactor()
	for i := range 20 {
		sum := sha256.Sum256([]byte{byte(i)})
		r.Add(base64.StdEncoding.EncodeToString(sum[:]))
	}
	for name, s := range map[string]string{
		"path":    "/reports/2026/11/quarterly-summary",
		"message": "could not load the grant of user 42 in tenant acme: context deadline exceeded",
		"uri":     "dial postgresql://user:secret@db.internal:5432/app: connection refused",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = r.String(s)
			}
		})
	}
}
