package tenantdb

import (
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	connectTimeout = 5 * time.Second
	tcpKeepAlive   = 15 * time.Second
)

// EngineOf is the engine that a database URI is for: catalog.EnginePostgreSQL, catalog.EngineSQLite, or "" for another.
func EngineOf(u catalog.DBURI) string {
	scheme, _, ok := strings.Cut(u.Reveal(), ":")
	dialect, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	switch {
	case !ok:
		return ""
	case dialect == "postgresql" || dialect == "postgres":
		return catalog.EnginePostgreSQL
	case dialect == "sqlite":
		return catalog.EngineSQLite
	}
	return ""
}

// postgresConfig turns a URI into a connection's configuration. pgx's own errors are dropped: they repeat the URI.
func postgresConfig(u catalog.DBURI) (*pgx.ConnConfig, error) {
	_, rest, _ := strings.Cut(u.Reveal(), ":")
	cfg, err := pgx.ParseConfig("postgresql:" + rest)
	if err != nil || !strings.HasPrefix(rest, "//") {
		return nil, errors.New("not understood: write postgresql://user:password@host:5432/database?sslmode=…, and look whether the files that it names can be read")
	}
	if cfg.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, errors.New("default_query_exec_mode=simple_protocol is refused: parameters must travel apart from SQL")
	}
	if cfg.ConnectTimeout <= 0 || cfg.ConnectTimeout > 2*connectTimeout {
		cfg.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: tcpKeepAlive}
	cfg.DialFunc = dialer.DialContext
	for name := range cfg.RuntimeParams { // a pool's, which the server does not know
		if strings.HasPrefix(name, "pool_") {
			delete(cfg.RuntimeParams, name)
		}
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "tenantgate"
	}
	return cfg, nil
}

// strangersConfig is postgresConfig for a tenant's URI, which leads wherever its writer wants: the password that the
// environment has (PGPASSWORD) is the administrator's and goes nowhere with it.
func strangersConfig(u catalog.DBURI) (*pgx.ConnConfig, error) {
	cfg, err := postgresConfig(u)
	if err != nil {
		return nil, err
	}
	if os.Getenv("PGPASSWORD") == "" {
		return cfg, nil
	}
	_, rest, _ := strings.Cut(u.Reveal(), ":")
	said, err := url.Parse("postgresql:" + rest)
	if err != nil {
		return nil, errors.New("not understood")
	}
	if _, own := said.User.Password(); !own && !said.Query().Has("password") {
		cfg.Password = ""
	}
	return cfg, nil
}

// shared are the parameters of an administrator's URL that hold for every role: how to reach the server and how to know
// it. What identifies the administrator stays behind.
func shared(name string) bool {
	return slices.Contains([]string{
		"host", "port", "sslmode", "sslrootcert", "sslsni", "sslnegotiation", "target_session_attrs", "connect_timeout",
	}, name)
}

// tenantURI is the administrator's URL with the place's names and a password.
func tenantURI(admin catalog.DBURI, p Place, password string) catalog.DBURI {
	_, rest, _ := strings.Cut(admin.Reveal(), ":")
	u, err := url.Parse("postgresql:" + rest)
	if err != nil {
		return catalog.DBURI{} // CheckURL would have refused it
	}
	query := url.Values{}
	for name, values := range u.Query() {
		if shared(name) && len(values) > 0 {
			query.Set(name, values[0])
		}
	}
	u.User, u.Path, u.RawPath, u.Fragment = url.UserPassword(p.Role, password), "/"+p.Database, "", ""
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq knows no +
	return catalog.NewDBURI(u.String())
}

// sqliteDirectory is the absolute path of the directory that an administrator's URL names.
func sqliteDirectory(u catalog.DBURI) (string, error) {
	path, err := sqlitePath(u)
	if err != nil {
		return "", err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return "", errors.New("sqlite: the working directory is not known: write an absolute path")
	}
	for i := range len(path) {
		if path[i] < 0x21 || path[i] > 0x7e || strings.IndexByte("%?#", path[i]) >= 0 {
			return "", errors.New("sqlite: the directory's path must be of visible ASCII characters without %, ? and #: it becomes part of the tenants' db_url")
		}
	}
	return path, nil
}

// sqlitePath takes sqlite:PATH, sqlite:///PATH (relative) and sqlite:////PATH (absolute) apart.
func sqlitePath(u catalog.DBURI) (string, error) {
	_, path, _ := strings.Cut(u.Reveal(), ":")
	if strings.HasPrefix(path, "//") {
		var ok bool
		if path, ok = strings.CutPrefix(path, "///"); !ok {
			return "", errors.New("sqlite has no host: write sqlite:PATH, sqlite:///relative or sqlite:////absolute")
		}
	}
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") || strings.ContainsAny(path, "?\x00") {
		return "", errors.New("sqlite: write sqlite:PATH, without parameters")
	}
	return filepath.Clean(path), nil
}

// sqliteDSN opens a file that is there; it makes none.
func sqliteDSN(path string, params url.Values) string {
	params.Set("mode", "rw")
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params.Encode()}).String()
}

// Database is the name that a PostgreSQL URI gives its database, "" for what is none.
func Database(u catalog.DBURI) string {
	if EngineOf(u) != catalog.EnginePostgreSQL {
		return ""
	}
	cfg, err := postgresConfig(u)
	if err != nil {
		return ""
	}
	if cfg.Database == "" {
		return cfg.User
	}
	return cfg.Database
}

// Names reports whether a URI leads to the place: by role and database, or by the file.
func (p Place) Names(u catalog.DBURI) bool {
	if EngineOf(u) == catalog.EngineSQLite {
		path, err := sqlitePath(u)
		return err == nil && p.Role == "" && filepath.Base(path) == p.Database
	}
	if EngineOf(u) != catalog.EnginePostgreSQL {
		return false
	}
	cfg, err := postgresConfig(u)
	return err == nil && cfg.Database == p.Database && cfg.User == p.Role
}
