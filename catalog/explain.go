package catalog

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// ExplainGrantFacts returns the engine's own account of how it answers GrantFacts of q, a step a line: PostgreSQL runs the
// query and reports what it read (EXPLAIN ANALYZE), SQLite tells its plan. For operators and benchmarks.
func (h *HostDatabase) ExplainGrantFacts(ctx context.Context, q GrantQuery) (string, error) {
	args, err := q.parameters()
	if err != nil {
		return "", err
	}
	verb := "EXPLAIN (ANALYZE, BUFFERS) "
	if h.engine == EngineSQLite {
		verb = "EXPLAIN QUERY PLAN "
	}
	var b strings.Builder
	err = h.queryText(ctx, "explain grant facts", readDeadline, verb+h.queries["grant_facts"], args, func(rows *sql.Rows) error {
		b.Reset()
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		for rows.Next() {
			dst := make([]any, len(columns))
			for i := range dst {
				dst[i] = new(sql.NullString)
			}
			if err := rows.Scan(dst...); err != nil {
				return err
			}
			step, ok := dst[len(dst)-1].(*sql.NullString) // the last column is the text
			if !ok {
				return errors.New("a plan without text")
			}
			b.WriteString(step.String + "\n")
		}
		return rows.Err()
	})
	return b.String(), err
}
