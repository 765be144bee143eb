package catalog_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// fh-saas's quick start: open from the environment, insert a user, commit, list.
func ExampleFromEnv() {
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	defer setenv("DB_TYPE", "SQLITE")() // or DB_PASS and its kin for PostgreSQL
	defer setenv("DB_NAME", filepath.Join(dir, "app_host"))()
	defer catalog.ResetInstance()

	if err := quickStart(context.Background()); err != nil {
		panic(err)
	}
	// Output:
	// user@example.com google_123
}

func quickStart(ctx context.Context) error {
	host, err := catalog.FromEnv(ctx)
	if err != nil {
		return err
	}
	tx, err := host.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	user := &catalog.GlobalUser{Email: new("user@example.com"), OAuthID: new("google_123")}
	if err := tx.GlobalUsers.Insert(ctx, user); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	users, _, err := host.GlobalUsers.List(ctx, catalog.Page{})
	for _, u := range users {
		fmt.Println(*u.Email, *u.OAuthID)
	}
	return err
}

// setenv sets a variable and returns what restores it.
func setenv(name, value string) func() {
	old, had := os.LookupEnv(name)
	_ = os.Setenv(name, value) // fails for malformed names alone
	return func() {
		if had {
			_ = os.Setenv(name, old)
		} else {
			_ = os.Unsetenv(name)
		}
	}
}

func TestQuickStartOnPostgreSQL(t *testing.T) {
	u, err := url.Parse(pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	for name, value := range map[string]string{
		"DB_TYPE": "POSTGRESQL", "DB_USER": u.User.Username(), "DB_PASS": password, "DB_HOST": u.Hostname(), "DB_PORT": u.Port(),
		"DB_NAME": strings.TrimPrefix(u.Path, "/"), "PGSSLMODE": "disable",
	} {
		t.Setenv(name, value)
	}
	defer catalog.ResetInstance()
	if err := quickStart(t.Context()); err != nil {
		t.Fatal(err)
	}
	host, err := catalog.FromEnv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := host.UserBySubject(t.Context(), "google_123"); err != nil {
		t.Error(err)
	}
}
