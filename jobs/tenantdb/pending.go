package tenantdb

import (
	"context"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
)

// Pending says whether there is a migration that the database has not seen, however old: Up would then change its
// schema. It changes nothing.
func (m *Migrations) Pending(ctx context.Context, uri catalog.DBURI) (pending bool, err error) {
	if m.count == 0 {
		return false, nil
	}
	db, engine, err := open(uri)
	if err != nil {
		return false, err
	}
	defer func() { _ = db.Close() }() // nothing was written
	there := "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'"
	if engine == catalog.EnginePostgreSQL {
		there = "SELECT count(to_regclass('goose_db_version'))"
	}
	var n int
	if err := db.QueryRowContext(ctx, there).Scan(&n); err != nil || n == 0 {
		return true, safe("look for migrations that are to come", err)
	}
	applied := map[int64]bool{}
	rows, err := db.QueryContext(ctx, "SELECT version_id, is_applied FROM goose_db_version ORDER BY id")
	if err != nil {
		return false, safe("look for migrations that are to come", err)
	}
	for rows.Next() {
		var version int64
		var is bool
		if err := rows.Scan(&version, &is); err != nil {
			return false, safe("look for migrations that are to come", errors.Join(err, rows.Close()))
		}
		applied[version] = is
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return false, safe("look for migrations that are to come", err)
	}
	for _, v := range m.versions {
		if !applied[v] {
			return true, nil
		}
	}
	return false, nil
}

// FreeConnections is how many more connections the server that a URI leads to takes at this moment; more than anybody
// needs for what is no server.
func FreeConnections(ctx context.Context, uri catalog.DBURI) (n int, err error) {
	db, engine, err := open(uri)
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }() // nothing was written
	if engine != catalog.EnginePostgreSQL {
		return 1 << 20, nil
	}
	err = db.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('max_connections')::int - pg_catalog.current_setting('superuser_reserved_connections')::int
		- (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')`).Scan(&n)
	return max(n, 0), safe("ask the server for its connections", err)
}
