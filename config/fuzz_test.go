package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzLoad: whatever stands in the file and in a variable, Load ends, and either gives a Config that validates, prints
// and loads again as the same, or faults that are one line each and repeat no secret.
func FuzzLoad(f *testing.F) {
	sample, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		string(sample), minimal, string(Starter("/run/key")), at("a: &x {b: *x}\n"), at("cache: {<<: [{ttl: 1m}, {ttl: 2m}]}\n"),
		at("roles: [${R}, $$, |\n  x\n]\n"), "? [a]\n: b\n", "%YAML 1.2\n---\n" + minimal, "\xef\xbb\xbf" + minimal, strings.ReplaceAll(minimal, "\n", "\r\n"),
		"- - - -", "{{{{", "!!str x", "a:\n\t- b", "&a [*a, *a]",
	} {
		f.Add([]byte(text), "TENANTGATE_CACHE_TTL", "1m")
	}
	f.Add([]byte(minimal), "TENANTGATE_UPSTREAMS_A_B_URLS_0", "unix:/x")
	f.Add([]byte(minimal), "TENANTGATE_ROUTES_0_CORS_ORIGINS", "*,*")
	const canary = "c4n4ry-t0ps3cr3t"
	f.Fuzz(func(t *testing.T, text []byte, variable, value string) {
		opts := LoadOptions{Path: "c", Environ: []string{variable + "=" + value, "R=" + canary, "DB_PASS=" + canary}, ReadFile: files{
			"c": string(text), "/run/key": masterSecret, "/run/secrets/tenantgate": masterSecret, "/run/secrets/google": canary, "/run/secrets/host_database": "postgresql://u:" + canary + "@h/d",
		}.read}
		cfg, err := Load(context.Background(), opts)
		if err != nil {
			faults, ok := errors.AsType[*Error](err)
			if !ok || len(faults.Faults) == 0 || len(faults.Faults) > maxFaults+1 {
				t.Fatalf("not a list of faults: %v", err)
			}
			for _, fault := range faults.Faults {
				line := fault.String()
				if strings.ContainsAny(line, "\n\r\x00") || fault.Message == "" || strings.Contains(line, canary) && !strings.Contains(string(text)+variable, canary) {
					t.Fatalf("bad line %q", line)
				}
			}
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Fatalf("loads and does not validate: %v", err)
		}
		cfg.Warnings()
		if out := string(cfg.YAML()); strings.Contains(out, masterSecret) && !strings.Contains(string(text)+value, masterSecret) {
			t.Fatalf("a secret is printed:\n%s", out)
		}
		opts.ReadFile = files{"c": string(cfg.YAML()), "/run/key": masterSecret, "/run/secrets/tenantgate": masterSecret, "/run/secrets/google": canary, "/run/secrets/host_database": "postgresql://u:" + canary + "@h/d"}.read
		opts.Environ = []string{"DB_PASS=x"}
		if _, err := Load(context.Background(), opts); err != nil && !strings.Contains(string(cfg.YAML()), `***`) {
			t.Fatalf("what is printed does not load: %v\n%s", err, cfg.YAML())
		}
	})
}

// A document that is small to write and huge to read is refused in moderate time (the parser's own takes gigabytes).
func TestYAMLBombsAreRefused(t *testing.T) {
	const n = maxFileBytes / 8
	var laughs strings.Builder
	laughs.WriteString("roles:\n  - &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&laughs, "  - &a%d [*a%[2]d, *a%[2]d, *a%[2]d, *a%[2]d, *a%[2]d, *a%[2]d, *a%[2]d, *a%[2]d]\n", i, i-1)
	}
	var deep strings.Builder
	for i := 0; deep.Len() < n; i++ {
		deep.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	var wide strings.Builder
	for i := 0; wide.Len() < n; i++ {
		fmt.Fprintf(&wide, "k%d: v\n", i)
	}
	for name, text := range map[string]string{
		"billion laughs":     laughs.String(),
		"too large":          "# " + strings.Repeat("x", maxFileBytes),
		"deep in flow":       strings.Repeat("[", n),
		"deep in mappings":   strings.Repeat("{a: ", n/4),
		"deep in one line":   strings.Repeat("- ", n/2),
		"deep by questions":  strings.Repeat("? ", n/2),
		"deep by indent":     deep.String(),
		"many keys":          wide.String(),
		"many items":         "roles:\n" + strings.Repeat("  - x\n", n/8),
		"many anchors":       strings.Repeat("&a ", n/3),
		"many tags":          strings.Repeat("!a ", n/3),
		"many colons":        strings.Repeat("a: ", n/3),
		"long value":         "roles: [" + strings.Repeat("x", n) + "]\nnonsense: 1\n",
		"deep by aliases":    chain(),
		"merges upon merges": merges(),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := load(t, text)
			if err == nil {
				t.Fatal("it loads")
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// chain nests through aliases, so that no place of the text is deep.
func chain() string {
	var b strings.Builder
	b.WriteString("roles:\n  - &a0 [x]\n")
	for i := 1; i < 5000; i++ {
		fmt.Fprintf(&b, "  - &a%d [*a%d]\n", i, i-1)
	}
	return b.String()
}

// merges doubles what is merged with every line.
func merges() string {
	var b strings.Builder
	b.WriteString("upstreams:\n  a0: &a0 {urls: [x], k: {a: 1}}\n")
	for i := 1; i < 64; i++ {
		fmt.Fprintf(&b, "  a%d: &a%[1]d {<<: [*a%[2]d, *a%[2]d]}\n", i, i-1)
	}
	return b.String()
}
