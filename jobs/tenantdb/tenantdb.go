// Package tenantdb makes, changes and removes tenants' databases on the server that they lie on: PostgreSQL, or a
// directory of SQLite files.
//
// Purpose: a Server stands for the place; a Hold is the right to change one tenant's database there, which one process
// has at a time, wherever it runs. Migrations bring a database's schema up to date, whoever made the database.
//
// Trust: the administrator's URL and the tenants' passwords pass through here. Neither is in any error, log or comment of
// an object; a server is told a password's SCRAM verifier (RFC 5802), never the password. A tenant's migrations run with
// the rights of the tenant's own role.
//
// Concurrency: a Server is safe for concurrent use; a Hold belongs to one goroutine. A Hold's lock is the session's that
// also does the work: who has lost the one can do no more of the other.
//
// Failure mode: closed. What exists and does not carry the mark of the record that it is asked for is refused
// (ErrForeign), never taken over, changed or dropped. What is not permitted is refused with the statement that would
// have to be (ErrDenied).
package tenantdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/sealing"
)

// Errors; test with errors.Is. Each is wrapped with what to do.
var (
	// ErrForeign: something of that name is there which our record does not prove ours.
	ErrForeign = errors.New("is not ours")
	// ErrDenied: the administrator of admin_url may not do it; the text holds the statement.
	ErrDenied = errors.New("not permitted")
	// ErrGone: it was made, and is not there any more.
	ErrGone = errors.New("is gone")
	// ErrUnavailable: the server cannot be reached or did not answer in time. Try again later.
	ErrUnavailable = errors.New("server unavailable")
	// ErrMigration: a migration of the tenant failed; the text names the file.
	ErrMigration = errors.New("migration failed")
)

// Config says where tenants' databases are made. The zero value is not usable: URL has no default.
type Config struct {
	// URL is the administrator's: postgresql://… to a database on the server, directly and not through a pooler that
	// shares sessions; or sqlite:DIRECTORY.
	URL catalog.DBURI
	// Installation is catalog's Tables.Installation: the objects of other host databases are foreign.
	Installation string
	// MaxConnections bounds the connections of Holds to the server. 0: 10.
	MaxConnections int
}

// Server is where tenants' databases are.
type Server interface {
	// Engine is catalog.EnginePostgreSQL or catalog.EngineSQLite.
	Engine() string
	// Identity tells the server from others, as catalog.TenantDatabase.Server and catalog's HostPlace have it.
	Identity(ctx context.Context) (string, error)
	// NewPlace names a tenant's database that is to be made. It asks nobody, and no two calls name the same one.
	NewPlace(tenant catalog.TenantID) Place
	// URI is how the tenant's database is reached with the tenant's own rights.
	URI(place Place, password secret.Text) catalog.DBURI
	// Hold waits, as long as ctx lasts, until nobody else has the tenant, and has it until Close.
	Hold(ctx context.Context, tenant catalog.TenantID) (Hold, error)
	// List returns what carries our installation's mark, and what belongs to a role that does.
	List(ctx context.Context) ([]Object, error)
	// Look returns those of the named databases that exist, by name, whoever made them.
	Look(ctx context.Context, databases []string) (map[string]Object, error)
	// Granted returns what roles that carry our installation's mark were granted by name on databases that are not their own.
	Granted(ctx context.Context) ([]Grant, error)
	// OpenToPublic returns the databases that every role of the server may connect to, by name.
	OpenToPublic(ctx context.Context) ([]string, error)
	// Close ends the Server; Holds are to be closed before.
	Close() error
}

// Hold is the right to change one tenant's database. Each method can be called again after any failure.
type Hold interface {
	// CloseToPublic takes CONNECT on those of the named databases that exist from PUBLIC, after every login role that is
	// no tenant's was granted it by name; one that a tenant's role owns is for that role alone. It returns the names of those
	// that it changed, and why others stay open: none keeps another open. The error is of what ended it before the last.
	CloseToPublic(ctx context.Context, databases []string) (closed []string, kept map[string]error, err error)
	// EnsureRole makes the tenant's role, or adopts it, and unless password is zero gives it that password.
	EnsureRole(ctx context.Context, place Place, password secret.Text) error
	// EnsureDatabase makes the tenant's database, empty, or adopts it, closed to everybody but its role. Where the record
	// says that it was made before (place.Made) and it is not there, that is ErrGone.
	EnsureDatabase(ctx context.Context, place Place) error
	// Drop removes the database with all that is in it and then the role, where they are there. It ends open connections.
	Drop(ctx context.Context, place Place) error
	// Close gives the tenant back.
	Close() error
}

// Place is what a tenant's database is called, and what proves it ours.
type Place struct {
	Tenant   catalog.TenantID
	Database string // on SQLite the file's name
	Role     string // "" on SQLite
	Mark     string
	// Made says that the record has the database as made: it is never made a second time.
	Made bool
}

// PlaceOf is the place that a record names. made is whether its Step says that the database was made.
func PlaceOf(row *catalog.TenantDatabase, made bool) Place {
	return Place{Tenant: row.TenantID, Database: row.DatabaseName, Role: row.RoleName, Mark: row.Mark, Made: made}
}

// Object is a database, a role, or both, as they are found on a server.
type Object struct {
	Database string // "" if there is none
	Owner    string // of the database: the role's name
	Role     string // of the database's name, or its owner, if it carries our mark; "" otherwise
	Mark     string // what the comment of the role or the file's name says; "" for none of ours
	// AllowConnections is false while the database is being made or dropped.
	AllowConnections bool
	// PublicRights are what PUBLIC may on the database: CONNECT, TEMPORARY, CREATE.
	PublicRights []string
	// RoleRights are what the role may and a tenant's must not: SUPERUSER, CREATEDB, member of …
	RoleRights []string
}

// Grant is what a role was granted by name on a database that it does not own.
type Grant struct {
	Role, Database string
	Rights         []string // CONNECT, TEMPORARY, CREATE
}

// New makes the Server that cfg names; nothing is asked yet.
func New(cfg Config) (Server, error) {
	if cfg.Installation == "" {
		return nil, errors.New("tenants' databases: no installation")
	}
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if EngineOf(cfg.URL) == catalog.EngineSQLite {
		return newSQLite(cfg)
	}
	return newPostgres(cfg)
}

// CheckURL returns what New would refuse in an administrator's URL. Its errors repeat nothing of it.
func CheckURL(u catalog.DBURI) error {
	switch EngineOf(u) {
	case catalog.EnginePostgreSQL:
		if _, err := postgresConfig(u); err != nil {
			return err
		}
		sample := Place{Database: namePrefix + "any", Role: namePrefix + "any"}
		if uri := tenantURI(u, sample, "any"); !sample.Names(uri) || sealing.CheckURI(uri.Reveal()) != nil {
			return errors.New("no tenant's db_url can be made of it: write host and port plainly, such as db.example.com:5432")
		}
		return nil
	case catalog.EngineSQLite:
		_, err := sqliteDirectory(u)
		return err
	}
	return fmt.Errorf("write postgresql://user:password@host:5432/database, or sqlite:DIRECTORY")
}
