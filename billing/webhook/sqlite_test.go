package webhook

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

// execSQLite is another program at a database file.
func execSQLite(ctx context.Context, uri, text string) error {
	db, err := sql.Open("sqlite", strings.TrimPrefix(uri, "sqlite:///"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, text)
	return errors.Join(err, db.Close())
}
