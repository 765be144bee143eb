package config

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// files is a file system for tests: content by name.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	content, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return []byte(content), nil
}

const (
	masterSecret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	minimal      = `public_url: https://app.example.com
secret_key_file: /run/key
host_database:
  url: sqlite:host.db
`
)

// load loads text as config.yaml beside a master secret in /run/key.
func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	return Load(t.Context(), LoadOptions{
		Path: "config.yaml", Environ: append([]string{"X=1"}, environ...),
		ReadFile: files{"config.yaml": text, "/run/key": masterSecret + "\n"}.read,
	})
}

// lines returns the lines that a failed load prints.
func lines(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Fatalf("error is no *config.Error: %v", err)
	}
	return strings.Split(err.Error(), "\n")
}

func TestMinimalFileLoadsWithTheDefaults(t *testing.T) {
	cfg, err := load(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen[0] != ":8080" || cfg.SecretKey.Reveal() != masterSecret || cfg.Identity.SignUp != "deny" {
		t.Errorf("defaults are not filled in: %+v", cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Errorf("a loaded Config does not validate again: %v", err)
	}
}
