package catalog

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// location is a parsed host database URL.
type location struct {
	engine string
	dsn    DBURI  // PostgreSQL: the URL without a driver's name
	path   string // SQLite: the file
}

// parseURL reads postgresql://…, postgres://…, postgresql+driver://… and sqlite:PATH, sqlite:///PATH, where sqlite:///x
// is relative and sqlite:////x absolute, as SQLAlchemy has it. Errors say what to write and repeat nothing of u.
func parseURL(u DBURI) (location, error) {
	raw := u.Reveal()
	scheme, rest, ok := strings.Cut(raw, ":")
	if raw == "" || !ok {
		return location{}, errors.New("host database url is missing: write postgresql://user:password@host:5432/database or sqlite:PATH")
	}
	dialectName, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	switch dialectName {
	case "postgresql", "postgres":
		if !strings.HasPrefix(rest, "//") {
			return location{}, errors.New("host database url: write postgresql://user:password@host:5432/database")
		}
		return location{engine: EnginePostgreSQL, dsn: NewDBURI("postgresql:" + rest)}, checkPostgresURL("postgresql:" + rest)
	case "sqlite":
		path, err := sqlitePath(rest)
		return location{engine: EngineSQLite, path: path}, err
	}
	return location{}, errors.New("host database url: unknown scheme: write postgresql://… or sqlite:PATH")
}

// CheckURL returns what New would refuse in a URL without asking any server. Its errors repeat nothing of u.
func CheckURL(u DBURI) error {
	loc, err := parseURL(u)
	if err == nil && loc.engine == EnginePostgreSQL {
		_, err = postgresConfig(loc)
	}
	return err
}

// checkPostgresURL finds the likeliest fault without pgx, whose errors repeat the URL.
func checkPostgresURL(dsn string) error {
	for rest := dsn; ; {
		_, after, ok := strings.Cut(rest, "%")
		if !ok {
			return nil
		}
		if len(after) < 2 || !isHex(after[0]) || !isHex(after[1]) {
			return errors.New("host database url: invalid percent-escape: write % in a password as %25")
		}
		rest = after[2:]
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func sqlitePath(rest string) (string, error) {
	path := rest
	if strings.HasPrefix(rest, "//") {
		var ok bool
		if path, ok = strings.CutPrefix(rest, "///"); !ok {
			return "", errors.New("host database url: sqlite has no host: write sqlite:PATH, sqlite:///relative or sqlite:////absolute")
		}
	}
	switch {
	case path == "":
		return "", errors.New("host database url: sqlite needs a file: write sqlite:PATH")
	case path == ":memory:" || strings.HasPrefix(path, "file:"):
		return "", errors.New("host database url: sqlite in memory cannot be shared: write sqlite:PATH")
	case strings.ContainsAny(path, "?\x00"):
		return "", errors.New("host database url: sqlite takes no parameters: write sqlite:PATH")
	}
	return filepath.Clean(path), nil
}

// URLFromEnv builds the URL that DB_TYPE (POSTGRESQL, the default, or SQLITE), DB_USER (postgres), DB_PASS (required
// for PostgreSQL), DB_HOST (localhost), DB_PORT (5432) and DB_NAME (app_host; SQLITE: the file $DB_NAME.db) name, as
// fh-saas reads them. DB_PASS may hold any character. Empty counts as unset.
func URLFromEnv(getenv func(string) string) (DBURI, error) {
	get := func(name, def string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return def
	}
	name := get("DB_NAME", "app_host")
	switch get("DB_TYPE", "POSTGRESQL") {
	case "POSTGRESQL":
	case "SQLITE":
		return NewDBURI("sqlite:" + name + ".db"), nil
	default:
		return DBURI{}, errors.New("DB_TYPE must be POSTGRESQL or SQLITE")
	}
	password := getenv("DB_PASS")
	if password == "" {
		return DBURI{}, errors.New("DB_PASS is required for PostgreSQL: set it, or DB_TYPE=SQLITE")
	}
	host, port := get("DB_HOST", "localhost"), get("DB_PORT", "5432")
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(get("DB_USER", "postgres"), password), Path: "/" + name}
	if strings.HasPrefix(host, "/") { // a unix socket's directory
		u.RawQuery = url.Values{"host": {host}, "port": {port}}.Encode()
	} else {
		u.Host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	if _, err := parseURL(NewDBURI(u.String())); err != nil {
		return DBURI{}, fmt.Errorf("DB_HOST, DB_PORT, DB_USER, DB_PASS, DB_NAME: %w", err)
	}
	return NewDBURI(u.String()), nil
}
