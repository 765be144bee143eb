package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/smalldisk"
)

// told collects what a database says it could not record.
type told struct {
	mu     sync.Mutex
	events []string
}

func (w *told) tell(event string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprint(event, ": ", err))
}

func (w *told) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events)
}

func openMode(t *testing.T, url string, bestEffort bool) (*HostDatabase, *told) {
	t.Helper()
	w := &told{}
	h, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: fakeNow, BestEffortAudit: bestEffort, Unrecorded: w.tell})
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h, w
}

// number is what a query of one number says.
func number(t *testing.T, h *HostDatabase, query string) (n int64) {
	t.Helper()
	must(t, h.queryText(t.Context(), "count", readDeadline, dialect(h.engine, query), nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	}))
	return n
}

// unwritableAudit makes rows of the audit log fail, as a table that ran into a limit does.
func unwritableAudit(t *testing.T, h *HostDatabase, url string) (mend func()) {
	t.Helper()
	if h.engine == EnginePostgreSQL {
		execURL(t, url, `CREATE FUNCTION no_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
			CREATE TRIGGER no_audit BEFORE INSERT ON sys_audit_logs FOR EACH ROW EXECUTE FUNCTION no_audit()`)
		return func() { execURL(t, url, "DROP TRIGGER no_audit ON sys_audit_logs") }
	}
	execSQLite(t, url, "CREATE TRIGGER no_audit BEFORE INSERT ON sys_audit_logs BEGIN SELECT RAISE(ABORT, 'no room'); END")
	return func() { execSQLite(t, url, "DROP TRIGGER no_audit") }
}

func execSQLite(t *testing.T, url, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite:")+"?_pragma=busy_timeout(5000)")
	must(t, err)
	_, err = db.ExecContext(t.Context(), text)
	must(t, errors.Join(err, db.Close()))
}

// changes are all kinds of audited writes. Together they make six rows in core_tenants, whose ids begin with the prefix.
func changes(h *HostDatabase, prefix string) map[string]func(context.Context) error {
	id := func(s string) TenantID { return TenantID(prefix + s) }
	return map[string]func(context.Context) error{
		"one write": func(ctx context.Context) error { return h.Tenants.Insert(ctx, &TenantCatalog{ID: id("one")}) },
		"transaction": func(ctx context.Context) error {
			return h.InTx(ctx, func(tx *Tx) error {
				if err := tx.Tenants.Insert(ctx, &TenantCatalog{ID: id("first")}); err != nil {
					return err
				}
				return tx.Tenants.Insert(ctx, &TenantCatalog{ID: id("second")})
			})
		},
		"import": func(ctx context.Context) error {
			rows := []*TenantCatalog{{ID: id("imported"), Name: new("x")}, {ID: id("too"), Name: new("y")}}
			_, err := h.Tenants.Import(ctx, func() (*TenantCatalog, int, error) {
				if len(rows) == 0 {
					return nil, 0, io.EOF
				}
				row := rows[0]
				rows = rows[1:]
				return row, 2 - len(rows), nil
			}, false)
			return err
		},
		"own event": func(ctx context.Context) error {
			return h.InTx(ctx, func(tx *Tx) error {
				if err := tx.Audit(ctx, "first.event", "x", nil); err != nil {
					return err
				}
				return tx.Tenants.Insert(ctx, &TenantCatalog{ID: id("own")})
			})
		},
	}
}

const tenantsOf = "SELECT count(*) FROM core_tenants WHERE id LIKE '%s%%'"

// What cannot be recorded is not done (required), or done, counted and told (best_effort): whole either way.
func TestAuditModes(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		required, _ := openMode(t, url, false)
		bestEffort, missed := openMode(t, url, true)
		mend := unwritableAudit(t, required, url)
		for name, change := range changes(required, "r") {
			if err := change(t.Context()); err == nil {
				t.Errorf("required, %s: done without a record", name)
			}
		}
		if n := number(t, required, fmt.Sprintf(tenantsOf, "r")); n != 0 {
			t.Errorf("required: %d rows of changes that were refused", n)
		}
		for name, change := range changes(bestEffort, "b") {
			if err := change(t.Context()); err != nil {
				t.Errorf("best_effort, %s: %v", name, err)
			}
		}
		if n := number(t, required, fmt.Sprintf(tenantsOf, "b")); n != 6 {
			t.Errorf("best_effort: %d rows of 6", n)
		}
		if n := missed.count(); n != 6 { // an import has one event for all its rows
			t.Errorf("%d rows are told missing: %v", n, missed.events)
		}
		if n := number(t, required, "SELECT count(*) FROM sys_audit_logs"); n != 0 {
			t.Errorf("%d rows in the log", n)
		}
		mend()
		must(t, required.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
		must(t, bestEffort.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after2"}))
		if n := number(t, required, "SELECT count(*) FROM sys_audit_logs WHERE event_type = 'tenant.created'"); n != 2 || missed.count() != 6 {
			t.Errorf("mended: %d rows in the log, %d told missing", n, missed.count())
		}
	})
}

// What is rolled back was not done, and nothing is missing of it. A statement of the change that fails is no matter of
// the audit's mode.
func TestBestEffortIsAboutTheAuditAlone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h, missed := openMode(t, url, true)
		unwritableAudit(t, h, url)
		given := errors.New("given up")
		if err := h.InTx(t.Context(), func(tx *Tx) error {
			must(t, tx.Tenants.Insert(t.Context(), &TenantCatalog{ID: "x"}))
			return given
		}); !errors.Is(err, given) {
			t.Errorf("got %v", err)
		}
		if err := h.InTx(t.Context(), func(tx *Tx) error {
			_, err := tx.execText(t.Context(), "fail", "INSERT INTO no_such_table VALUES (1)")
			if err == nil {
				t.Error("a table that is not there took a row")
			}
			_ = tx.Audit(t.Context(), "event", "x", nil)
			return nil
		}); err == nil {
			t.Error("a transaction with a failed statement was committed")
		}
		if missed.count() != 0 || number(t, h, fmt.Sprintf(tenantsOf, "x")) != 0 {
			t.Errorf("told: %v", missed.events)
		}
	})
}

// Somebody who keeps the audit log locked costs a change a second, not its life.
func TestLockedAuditLogIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	url := newPostgres(t)
	h, missed := openMode(t, url, true)
	tx, err := h.Begin(t.Context())
	must(t, err)
	_, err = tx.execText(t.Context(), "lock", "LOCK TABLE sys_audit_logs IN EXCLUSIVE MODE")
	must(t, err)
	begin := time.Now()
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "x"}))
	if d := time.Since(begin); d > patience || missed.count() != 1 {
		t.Errorf("it took %s, told: %v", d, missed.events)
	}
	must(t, tx.Rollback())
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "y"}))
	if missed.count() != 1 {
		t.Errorf("told: %v", missed.events)
	}
}

// The audit log's own disk is full: the change is done in one mode and refused in the other, and all is well again once
// there is room.
func TestFullDiskOfTheAuditLog(t *testing.T) {
	t.Parallel()
	if !smalldisk.Able(t) {
		return
	}
	s := pgtest.NewServer(t)
	url := s.URL(t)
	required, _ := openMode(t, url, false)
	bestEffort, missed := openMode(t, url, true)
	disk := smalldisk.New(t, 2<<20)
	execURL(t, url, "ALTER TABLE sys_audit_logs SET TABLESPACE "+s.Tablespace(t, disk.Dir))
	t.Cleanup(func() { execURL(t, url, "ALTER TABLE sys_audit_logs SET TABLESPACE pg_default") })
	disk.Fill(t)
	full := fillLog(t, required, "r")
	if !errors.Is(full, ErrUnavailable) || !strings.Contains(full.Error(), "disk is full") {
		t.Errorf("required: %v", full)
	}
	if rows, log := number(t, required, fmt.Sprintf(tenantsOf, "r")), number(t, required, "SELECT count(*) FROM sys_audit_logs"); rows != log {
		t.Errorf("%d changes, %d rows in the log", rows, log)
	}
	long := strings.Repeat("x", 900)
	must(t, bestEffort.Tenants.Insert(t.Context(), &TenantCatalog{ID: "b", Name: &long}))
	if missed.count() != 1 || number(t, required, fmt.Sprintf(tenantsOf, "b")) != 1 {
		t.Errorf("best_effort: told %v", missed.events)
	}
	disk.Free(t)
	must(t, required.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
}

// fillLog writes until the log has no room, and returns the error.
func fillLog(t *testing.T, h *HostDatabase, prefix string) error {
	t.Helper()
	long := strings.Repeat("x", 900)
	for i := range 10_000 {
		if err := h.Tenants.Insert(t.Context(), &TenantCatalog{ID: TenantID(fmt.Sprint(prefix, i)), Name: &long}); err != nil {
			return err
		}
	}
	t.Fatal("the disk does not become full")
	return nil
}

// The whole database's disk is full: what is there is still read, what is written is there whole or not at all.
func TestFullDiskOfTheHostDatabase(t *testing.T) {
	t.Parallel()
	if !smalldisk.Able(t) {
		return
	}
	for _, mode := range []bool{false, true} {
		t.Run(fmt.Sprint("best_effort=", mode), func(t *testing.T) {
			t.Run(EnginePostgreSQL, func(t *testing.T) {
				s := pgtest.NewServer(t)
				url := s.URL(t)
				h, _ := openMode(t, url, mode)
				seedGrants(t, h)
				must(t, h.Close())
				disk := smalldisk.New(t, 24<<20)
				name := url[strings.LastIndexByte(url, '/')+1 : strings.IndexByte(url, '?')]
				pgtest.Exec(t, strings.Replace(url, name, "postgres", 1), `ALTER DATABASE "`+name+`" SET TABLESPACE `+s.Tablespace(t, disk.Dir))
				fullDisk(t, url, mode, disk)
			})
			t.Run(EngineSQLite, func(t *testing.T) {
				disk := smalldisk.New(t, 8<<20)
				url := "sqlite:" + filepath.Join(disk.Dir, "host.db")
				h, _ := openMode(t, url, mode)
				seedGrants(t, h)
				must(t, h.Close())
				fullDisk(t, url, mode, disk)
			})
		})
	}
}

func fullDisk(t *testing.T, url string, mode bool, disk *smalldisk.Disk) {
	h, missed := openMode(t, url, mode)
	before := number(t, h, "SELECT count(*) FROM sys_audit_logs")
	disk.Fill(t)
	if err := fillLog(t, h, "x"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a full disk is %v", err)
	}
	rows := number(t, h, fmt.Sprintf(tenantsOf, "x"))
	log := number(t, h, "SELECT count(*) FROM sys_audit_logs") - before
	if rows != log+int64(missed.count()) || !mode && missed.count() > 0 {
		t.Errorf("%d changes, %d rows in the log, %d told missing", rows, log, missed.count())
	}
	f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
	if err != nil || f.Tenant == nil {
		t.Errorf("reading beside a full disk: %+v, %v", f, err)
	}
	disk.Free(t)
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
}

// A command that opens a file on a full disk, which nobody else has open, says what is wrong: SQLite wants room beside the
// file even to read it.
func TestAFileOnAFullDiskSaysSo(t *testing.T) {
	t.Parallel()
	disk := smalldisk.New(t, 8<<20)
	url := "sqlite:" + filepath.Join(disk.Dir, "host.db")
	h, _ := openMode(t, url, false)
	must(t, h.Close())
	disk.Fill(t)
	if _, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: fakeNow}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("opening: %v", err)
	}
	disk.Free(t)
	again, _ := openMode(t, url, false)
	must(t, again.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
}

// A server that takes no writes is read as ever.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t)
	url := s.URL(t)
	required, _ := openMode(t, url, false)
	bestEffort, missed := openMode(t, url, true)
	seedGrants(t, required)
	s.ReadOnly(t, true)
	for name, h := range map[string]*HostDatabase{"required": required, "best_effort": bestEffort} {
		if err := h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "x"}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s: %v", name, err)
		}
		f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
		if err != nil || f.Tenant == nil {
			t.Errorf("%s: reading: %+v, %v", name, f, err)
		}
	}
	opened := openTest(t, url) // a replica that starts now
	if f, err := opened.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"}); err != nil || f.Tenant == nil {
		t.Errorf("opened while it is read-only: %+v, %v", f, err)
	}
	s.ReadOnly(t, false)
	must(t, required.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
	if missed.count() != 0 {
		t.Errorf("told missing: %v", missed.events)
	}
}

// A database file that lies on a read-only disk cannot be opened: SQLite's readers keep their marks beside it. That is an
// unreachable database, and no other once the disk takes writes.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	if !smalldisk.Able(t) {
		return
	}
	disk := smalldisk.New(t, 16<<20)
	url := "sqlite:" + filepath.Join(disk.Dir, "host.db")
	h, _ := openMode(t, url, false)
	seedGrants(t, h)
	must(t, h.Close())
	disk.ReadOnly(t, true)
	if _, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: fakeNow}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("opening: %v", err)
	}
	disk.ReadOnly(t, false)
	again, _ := openMode(t, url, false)
	f, err := again.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
	if err != nil || f.Tenant == nil {
		t.Errorf("reading: %+v, %v", f, err)
	}
	must(t, again.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"}))
}
