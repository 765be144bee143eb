package catalog_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// fh-saas's quick start: open from the environment, insert a user, commit, list. It runs on both engines.
func ExampleFromEnv() {
	quickStart := func(ctx context.Context) error {
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
			fmt.Println(host.Engine(), *u.Email, *u.OAuthID)
		}
		return err
	}

	for _, engine := range []string{"POSTGRESQL", "SQLITE"} {
		leave := enterEnvironment(engine) // sets DB_TYPE, DB_NAME and so on
		err := quickStart(context.Background())
		catalog.ResetInstance() // one instance a process
		leave()
		if err != nil {
			panic(err)
		}
	}
	// Output:
	// postgresql user@example.com google_123
	// sqlite user@example.com google_123
}

// enterEnvironment sets the variables that fh-saas reads, for a fresh database, and returns what takes all back.
func enterEnvironment(engine string) (leave func()) {
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		panic(err)
	}
	vars := map[string]string{"DB_TYPE": engine, "DB_NAME": filepath.Join(dir, "app_host")}
	if engine == "POSTGRESQL" {
		dsn, err := pgtest.ForExample()
		if err != nil {
			panic(err)
		}
		u, err := url.Parse(dsn)
		if err != nil {
			panic(err)
		}
		password, _ := u.User.Password()
		vars = map[string]string{
			"DB_TYPE": engine, "DB_USER": u.User.Username(), "DB_PASS": password, "DB_HOST": u.Hostname(), "DB_PORT": u.Port(),
			"DB_NAME": strings.TrimPrefix(u.Path, "/"), "PGSSLMODE": "disable",
		}
	}
	undo := []func(){func() { _ = os.RemoveAll(dir) }}
	for name, value := range vars {
		undo = append(undo, setenv(name, value))
	}
	return func() {
		for _, u := range undo {
			u()
		}
	}
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
