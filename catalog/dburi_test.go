package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// LEAK-3
func TestDBURIRedactsItself(t *testing.T) {
	for uri, want := range map[string]string{
		"":                                 "",
		"postgresql://user:s3cret@host/db": "postgresql://user:***@host/db",
		"postgresql://user:s3cret@host:5432/db?password=s3c":  "postgresql://user:***@host:5432/db",
		"postgresql://user@host/db":                           "postgresql://user@host/db",
		"postgresql://host/db":                                "postgresql://host/db",
		"postgresql://user:12/s3cret@host/db":                 "postgresql:***",
		"postgresql://user:12?s3cret@host/db":                 "postgresql:***",
		"postgresql://user:12#s3cret@host/db":                 "postgresql:***",
		"postgresql://user:s3c@ret@host/db":                   "postgresql:***",
		"postgresql://u:s3cret@h1:1,h2:2/db":                  "postgresql://u:***@h1:1,h2:2/db",
		"postgresql://user:s3cret%zz@host/db":                 "***",
		"postgresql://user:s3cret@host/db\nx":                 "***",
		"sqlite:///s3cret.db":                                 "sqlite:***",
		"enc:v1:k:s3cret":                                     "enc:***",
		"ref:env:S3CRET":                                      "ref:***",
		"s3cret":                                              "***",
		"mailto:s3cret":                                       "mailto:***",
		"postgresql+psycopg2://user:s3cret@host/db?sslkey=s3": "postgresql+psycopg2://user:***@host/db",
	} {
		if got := NewDBURI(uri).String(); got != want {
			t.Errorf("%q is shown as %q, want %q", uri, got, want)
		}
	}
}

func TestDBURIShowsNothingHoweverPrinted(t *testing.T) {
	u := NewDBURI("postgresql://user:s3cret@host/db")
	type inside struct{ uri DBURI } // fmt calls no methods on unexported fields
	shown := ""
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%5.1f"} {
		for _, v := range []any{u, &u, inside{u}, &inside{u}, []DBURI{u}, map[string]any{"u": u}, TenantCatalog{DBURL: u}} {
			shown += fmt.Sprintf(verb, v)
		}
	}
	text, err := json.Marshal([]any{u, TenantCatalog{DBURL: u}, map[string]DBURI{"u": u}})
	must(t, err)
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "u", u, "in", inside{u}, "t", TenantCatalog{DBURL: u})
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "u", u, "in", inside{u}, "t", TenantCatalog{DBURL: u})
	if shown += string(text) + logged.String(); strings.Contains(shown, "s3cret") || strings.Contains(strings.ToLower(shown), "733363726574") {
		t.Errorf("shown: %s", shown)
	}
	if u.Reveal() != "postgresql://user:s3cret@host/db" || u != NewDBURI(u.Reveal()) || !(DBURI{}).IsZero() || !NewDBURI("").IsZero() {
		t.Error("a DBURI is not what it was made from")
	}
}
