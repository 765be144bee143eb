package catalog

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"pgregory.net/rapid"
)

// copyIn speaks COPY's protocol.
func copyIn(t *testing.T, db *sql.DB, statement, data string) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	must(t, conn.Raw(func(c any) error {
		_, err := c.(*stdlib.Conn).Conn().PgConn().CopyFrom(t.Context(), strings.NewReader(data), statement)
		return err
	}))
}

// A transaction is held open while others commit, and looks see those; it is seen by the first look after its own
// commit, once, and delays nobody. Its own id is below those that were seen.
func TestLateCommitIsNoticedWhenItCommits(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	log := logOf(t, h)
	late := rawDB(t, url)
	tx, err := late.BeginTx(t.Context(), nil)
	must(t, err)
	execOn(t, tx, "INSERT INTO core_tenants (id) VALUES ('late')")
	for i := range 5 {
		execURL(t, url, fmt.Sprintf("INSERT INTO core_tenants (id) VALUES ('n%d')", i))
		wantChanges(t, log, "beside an open transaction", fmt.Sprintf("tenant/n%d//n%d/", i, i))
		wantChanges(t, log, "again")
	}
	execOn(t, tx, "INSERT INTO core_tenants (id) VALUES ('later')")
	must(t, tx.Commit())
	wantChanges(t, log, "late commit", "tenant/late//late/", "tenant/later//later/")
	wantChanges(t, log, "again")
}

// Transactions begin, write, commit and roll back in any order, and looks come in between: each look tells exactly the
// changes of those that committed since the look before, each once.
func TestLooksSeeEachCommitOnce(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	db := rawDB(t, url)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		log, err := h.changeLog(defaultHeartbeat)
		if err != nil {
			r.Fatal(err)
		}
		defer log.close()
		if err := log.connect(t.Context()); err != nil {
			r.Fatal(err)
		}
		look := func() (found []string, whole bool) {
			whole, err := log.look(t.Context(), func(changes []Change) {
				for _, c := range changes {
					found = append(found, c.ID)
				}
			})
			if err != nil {
				r.Fatal(err)
			}
			slices.Sort(found)
			return found, whole
		}
		look()
		open := make([]*sql.Tx, 4)
		wrote := make([][]string, 4)
		var expected []string
		defer func() {
			for _, tx := range open {
				if tx != nil {
					_ = tx.Rollback()
				}
			}
		}()
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			i := rapid.IntRange(0, len(open)-1).Draw(r, "transaction")
			var err error
			switch action := rapid.SampledFrom([]string{"write", "write", "commit", "roll back", "savepoint", "alone", "look", "look"}).Draw(r, "action"); {
			case action == "look":
				found, whole := look()
				slices.Sort(expected)
				if !slices.Equal(found, expected) || !whole {
					r.Fatalf("found %v (whole: %v), want %v", found, whole, expected)
				}
				expected = nil
			case action == "alone":
				n++
				id := fmt.Sprint("r", n)
				_, err = db.ExecContext(t.Context(), "INSERT INTO core_tenants (id) VALUES ($1)", id)
				expected = append(expected, id)
			case open[i] == nil:
				open[i], err = db.BeginTx(t.Context(), nil)
				wrote[i] = nil
			case action == "write":
				n++
				id := fmt.Sprint("r", n)
				_, err = open[i].ExecContext(t.Context(), "INSERT INTO core_tenants (id) VALUES ($1)", id)
				wrote[i] = append(wrote[i], id)
			case action == "savepoint":
				n++
				_, err = open[i].ExecContext(t.Context(), fmt.Sprintf("SAVEPOINT s; INSERT INTO core_tenants (id) VALUES ('r%d'); ROLLBACK TO s", n))
			case action == "commit":
				err = open[i].Commit()
				expected, open[i] = append(expected, wrote[i]...), nil
			default:
				err = open[i].Rollback()
				open[i] = nil
			}
			if err != nil {
				r.Fatal(err)
			}
		}
	})
}

// A look reads what is new, by the index, however long the log is and whatever the planner believes of it.
func TestLookDoesNotReadTheLog(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	for name, fill := range map[string]string{
		"many transactions": "INSERT INTO tenantgate.sys_changes (xid, kind) SELECT i::text::xid8, 'plan' FROM generate_series(3, 20000) AS i",
		"one transaction":   "INSERT INTO tenantgate.sys_changes (kind) SELECT 'plan' FROM generate_series(3, 20000) AS i",
	} {
		execURL(t, url, "TRUNCATE tenantgate.sys_changes; "+fill+"; ANALYZE tenantgate.sys_changes")
		log, err := newPostgresLog(h, defaultHeartbeat)
		must(t, err)
		must(t, log.connect(t.Context()))
		lookAt(t, log)
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			rows, err := log.conn.Query(t.Context(), "SELECT set_config('plan_cache_mode', $1, false)", mode)
			must(t, err)
			rows.Close()
			text := ""
			rows, err = log.conn.Query(t.Context(), "EXPLAIN (ANALYZE) "+h.queries["postgresql_look"], log.seen.text, lookLimit+1)
			must(t, err)
			for rows.Next() {
				var line string
				must(t, rows.Scan(&line))
				text += line + "\n"
			}
			must(t, rows.Err())
			if strings.Contains(text, "Seq Scan on sys_changes") || strings.Count(text, "using sys_changes_pkey on sys_changes") != 2 {
				t.Errorf("%s, %s:\n%s", name, mode, text)
			}
		}
		log.close()
	}
}

func TestLookDoesNotReadTheLogOnSQLite(t *testing.T) {
	h := openTest(t, "sqlite:"+t.TempDir()+"/host.db")
	conn, err := h.write.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	plan := explain(t, conn, "EXPLAIN QUERY PLAN "+strings.NewReplacer("?1", "5", "?2", "9").Replace(h.queries["sqlite_look"]))
	if strings.Contains(plan, "SCAN c") || !strings.Contains(plan, "SEARCH c USING INTEGER PRIMARY KEY (rowid>?)") {
		t.Error(plan)
	}
	// What a REPLACE might remove is found by indexes too: every insert asks.
	for _, w := range watchedTables() {
		var text string
		must(t, h.read.QueryRowContext(t.Context(), "SELECT sql FROM sqlite_master WHERE name = $1", "tenantgate_"+w.name+"_replace").Scan(&text))
		_, where, ok := strings.Cut(text, "WHERE ")
		where, _, ok2 := strings.Cut(where, ";")
		if !ok || !ok2 {
			t.Fatalf("trigger %s", text)
		}
		where = strings.NewReplacer(`NEW."`, `+r."`, "NEW.rowid", "5").Replace(where)
		for _, key := range []string{"id", "oauth_id", "host", "user_id", "tenant_id", "holder", "stripe_sub_id"} {
			where = strings.ReplaceAll(where, `+r."`+key+`"`, "'x'")
		}
		plan := explain(t, conn, "EXPLAIN QUERY PLAN SELECT 1 FROM "+w.name+" r WHERE "+where)
		if strings.Contains(plan, "SCAN r") || !strings.Contains(plan, "SEARCH r") {
			t.Errorf("%s: %s", w.name, plan)
		}
	}
}
