package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/router"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// sample is a Config of nothing but defaults with one item in every list of sections, so that every key has a value.
func sample() *Config {
	c := &Config{
		Upstreams: map[string]router.UpstreamConfig{"app": {}},
		Routes:    []router.RouteConfig{{CORS: &router.CORSConfig{}}},
	}
	c.Identity.Providers = []auth.Provider{{}}
	c.Defaults()
	return c
}

// defaults returns the default of every key by its pattern, as a file would write it.
func defaults() map[string]string {
	out := map[string]string{}
	schema().walk(reflect.ValueOf(sample()).Elem(), "", func(s *spec, v reflect.Value, _ string) {
		switch {
		case !v.IsValid():
			out[s.pattern] = ""
		case v.Kind() == reflect.Map:
			out[s.pattern] = "{}"
		default:
			out[s.pattern] = formatLeaf(v)
		}
	})
	return out
}

func TestEveryKeyIsDocumentedAndNothingElse(t *testing.T) {
	docs := keyDocs()
	schema().leaves(func(s *spec) {
		if docs[s.pattern].doc == "" {
			t.Errorf("%s has no documentation in keys.go", s.pattern)
		}
		delete(docs, s.pattern)
	})
	for pattern := range docs {
		t.Errorf("keys.go documents %s, which is no key", pattern)
	}
}

func TestEverySecretHasAFileTwinThatIsRead(t *testing.T) {
	var twins []string
	for _, tw := range sample().twins() {
		twins = append(twins, strings.ReplaceAll(tw.path, "[0]", "[]"))
	}
	var patterns []string
	schema().leaves(func(s *spec) { patterns = append(patterns, s.pattern) })
	schema().leaves(func(s *spec) {
		if s.kind != secretKind && s.kind != uriKind {
			return
		}
		if !slices.Contains(patterns, s.pattern+"_file") || !slices.Contains(twins, s.pattern) {
			t.Errorf("%s has no %s_file, or twins() does not know it", s.pattern, s.key)
		}
	})
}

// documentation is docs/configuration.md.
func documentation() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Every key, as ` + "`config.example.yaml`" + ` shows it. This table is made from the code (` + "`go test ./config -run Documentation -update`" + `).

Precedence: environment, file, default. In the file, ` + "`${NAME}`" + ` in a value is replaced by the environment variable NAME, once; one
that is not set is an error; ` + "`$$`" + ` is a plain ` + "`$`" + `. The variable of a key is TENANTGATE_ and its path in upper case: an item of a list has
its index, counted from 0 (` + "`_0_`" + ` below), a section by name has its name (` + "`_NAME_`" + `); lists of values are separated by commas. What a
variable holds is taken as it is. An unknown key and an unknown TENANTGATE_ variable are errors, but for TENANTGATE_PORT,
TENANTGATE_PORT_* and TENANTGATE_SERVICE_*, which Kubernetes makes of a service called tenantgate.

Durations are numbers with ms, s, m, h or d (` + "`1d12h`" + `), sizes whole numbers with B, KiB, MiB or GiB. Every secret has a ` + "`*_file`" + ` twin: both
together are an error, as is a file that cannot be read or is empty; one newline at its end is not part of the secret.
A key without a value (` + "`min_role:`" + `) is an error, and so is an explicit empty value or 0 where it would only mean the default.

| key | variable | type | default | meaning |
|---|---|---|---|---|
`)
	values := defaults()
	schema().leaves(func(s *spec) {
		def := s.def
		if value := values[s.pattern]; def == "" && value != "" {
			def = "`" + value + "`"
		}
		variable := "`" + variableOf(s.pattern) + "`"
		if s.kind == textMapKind {
			variable = "`" + variableOf(s.pattern) + "_KEY`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.pattern, variable, s.kind, def, strings.NewReplacer("|", `\|`, "*", `\*`).Replace(s.doc+among(s)))
	})
	return b.String()
}

func TestDocumentationIsWhatTheCodeSays(t *testing.T) {
	const name = "../docs/configuration.md"
	if *update {
		if err := os.WriteFile(name, []byte(documentation()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != documentation() {
		t.Error("docs/configuration.md is not what the code says; go test ./config -run Documentation -update")
	}
}

// example loads config.example.yaml with its files made up.
func example(t *testing.T) (*Config, []byte) {
	t.Helper()
	text, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(t.Context(), LoadOptions{Path: "config.example.yaml", Environ: []string{}, Serve: true, ReadFile: files{
		"config.example.yaml": string(text), "/run/secrets/tenantgate": masterSecret + "\n",
		"/run/secrets/host_database": "postgresql://u:p@db/host\n", "/run/secrets/google": "secret",
	}.read})
	if err != nil {
		t.Fatalf("config.example.yaml does not load:\n%v", err)
	}
	return cfg, text
}

func TestExampleFileLoadsAndShowsEveryKeyWithItsDefault(t *testing.T) {
	cfg, text := example(t)
	written := map[string]bool{}
	var note func(s *spec, n *node)
	note = func(s *spec, n *node) {
		switch s.kind {
		case sectionKind:
			for _, e := range n.entries {
				note(s.fieldFor(e.key), e.value)
			}
		case sectionsKind:
			for _, item := range n.items {
				note(s.elem, item)
			}
		case sectionMapKind:
			for _, e := range n.entries {
				note(s.elem, e.value)
			}
		default:
			written[s.pattern] = true
		}
	}
	note(schema(), readDocument(text, environment{}.lookup, func(o origin, path, message string) { t.Error(o, path, message) }))

	values := defaults()
	schema().leaves(func(s *spec) {
		if !written[s.pattern] {
			t.Errorf("config.example.yaml does not show %s", s.pattern)
		}
	})
	schema().walk(reflect.ValueOf(cfg).Elem(), "", func(s *spec, v reflect.Value, path string) {
		fromFile := s.kind == uriKind || s.kind == secretKind || s.pattern == "host_database.url_file"
		if s.example || fromFile || !v.IsValid() || strings.HasPrefix(s.pattern, "routes[]") {
			return
		}
		if v.Kind() == reflect.Map {
			if v.Len() > 0 {
				t.Errorf("%s is not empty", path)
			}
			return
		}
		if got := formatLeaf(v); got != values[s.pattern] {
			t.Errorf("%s shows %s, the default is %s", path, got, values[s.pattern])
		}
	})
	for _, w := range cfg.Warnings() {
		t.Errorf("the example is doubtful: %s", w)
	}
}
