package catalog

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// moving is a host database whose clock the test moves.
func moving(t *testing.T, url string) (*HostDatabase, *atomic.Int64) {
	t.Helper()
	var now atomic.Int64
	now.Store(fakeNow().UnixNano())
	h, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: func() time.Time { return time.Unix(0, now.Load()) }})
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h, &now
}

func rowsIn(t testing.TB, h *HostDatabase, text string) (n int) {
	t.Helper()
	must(t, h.read.QueryRowContext(t.Context(), dialect(h.engine, text)).Scan(&n))
	return n
}

func events(t testing.TB, h *HostDatabase, event string) int {
	t.Helper()
	return rowsIn(t, h, "SELECT count(*) FROM sys_audit_logs WHERE event_type = '"+event+"'")
}

// A program that is killed keeps nobody out for long, and one that lives keeps its pause.
func TestHoldEndsUnlessItIsRenewed(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h, now := moving(t, url)
		ctx := t.Context()
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
		hold := Hold{Tenant: "acme", Holder: "migrate:1", Reason: "tenant migrate", Drain: 3 * time.Second, Lasts: time.Minute}
		if err := h.HoldTenant(ctx, Hold{Tenant: "nowhere", Holder: "migrate:1", Lasts: time.Minute}); !errors.Is(err, ErrNotFound) {
			t.Errorf("hold of no tenant: %v", err)
		}
		for _, bad := range []Hold{{Tenant: "acme", Lasts: time.Minute}, {Tenant: "acme", Holder: "operator", Lasts: time.Minute}, {Tenant: "acme", Holder: "migrate:1"}} {
			if err := h.HoldTenant(ctx, bad); err == nil {
				t.Errorf("taken: %+v", bad)
			}
		}
		must(t, h.HoldTenant(ctx, hold))
		locks := func() Locks {
			states, err := h.TenantStates(ctx, "acme")
			must(t, err)
			return states["acme"].Locks
		}
		if d, ok := locks().Drain(); !locks().Paused(h.clock()) || !ok || d != 3*time.Second {
			t.Errorf("locks %+v", locks())
		}
		now.Add(int64(50 * time.Second))
		must(t, h.RenewHold(ctx, hold))
		now.Add(int64(50 * time.Second))
		if !locks().Paused(h.clock()) {
			t.Error("a renewed pause has ended")
		}
		now.Add(int64(time.Minute))
		if err := h.RenewHold(ctx, hold); !errors.Is(err, ErrNotFound) || locks().Paused(h.clock()) {
			t.Errorf("a pause that has ended was renewed: %v", err)
		}
		must(t, h.PauseTenant(ctx, "acme", "by hand", time.Time{}))
		if n, err := h.ForgetEndedHolds(ctx, "migrate:"); err != nil || n != 1 {
			t.Errorf("%d removed, %v", n, err)
		}
		if all, err := h.TenantLocks(ctx); err != nil || len(all) != 1 || all[0].Holder != "operator" {
			t.Errorf("left: %+v, %v", all, err)
		}
		must(t, h.HoldTenant(ctx, hold))
		must(t, h.ReleaseTenant(ctx, hold))
		if err := h.ReleaseTenant(ctx, hold); !errors.Is(err, ErrNotFound) {
			t.Errorf("released twice: %v", err)
		}
		if !locks().Endless() {
			t.Error("the operator's pause went with it")
		}
		if p, u := events(t, h, "tenant.paused"), events(t, h, "tenant.unpaused"); p != 3 || u != 1 {
			t.Errorf("%d paused, %d unpaused in the audit", p, u)
		}
	})
}

func TestSchemasAreRecordedAndOnlyChangesAudited(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for _, id := range []TenantID{"b", "A", "c"} {
			must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: id}))
		}
		saw := func(was *TenantSchema, seen TenantSchema, changed bool) (taken bool) {
			taken, err := h.SawTenantSchema(ctx, was, seen, changed, map[string]any{"to": seen.Version})
			must(t, err)
			return taken
		}
		if was, err := h.TenantSchema(ctx, "b"); err != nil || was != nil {
			t.Errorf("%+v, %v", was, err)
		}
		if !saw(nil, TenantSchema{TenantID: "b", Version: 3}, true) || saw(nil, TenantSchema{TenantID: "b", Version: 4}, true) {
			t.Error("of two who saw nothing on record not the first alone was heard")
		}
		was, err := h.TenantSchema(ctx, "b")
		must(t, err)
		if was.Version != 3 || !saw(was, *was, false) || saw(&TenantSchema{Version: 2}, TenantSchema{TenantID: "b", Version: 5}, true) {
			t.Errorf("%+v, or one who saw something else was heard", was)
		}
		saw(nil, TenantSchema{TenantID: "A", Version: 2, Failure: "00003_x.sql: no"}, false)
		if _, err := h.SawTenantSchema(ctx, nil, TenantSchema{TenantID: "nowhere"}, false, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("schema of no tenant: %v", err)
		}
		all, err := h.TenantSchemas(ctx, "")
		must(t, err)
		at := Timestamp(fakeNow())
		want := []TenantSchema{{"A", 2, at, "", "00003_x.sql: no"}, {"b", 3, at, at, ""}}
		if !slices.Equal(all, want) {
			t.Errorf("%+v", all)
		}
		if rest, err := h.TenantSchemas(ctx, "A"); err != nil || len(rest) != 1 {
			t.Errorf("%+v, %v", rest, err)
		}
		if m, f := events(t, h, "tenant.migrated"), events(t, h, "tenant.migration_failed"); m != 1 || f != 1 {
			t.Errorf("%d migrated, %d failed in the audit", m, f)
		}
	})
}

// Every row of ours that names a tenant ends with it, or is known to stay. A new table with a column tenant_id must be
// in one of the two lists.
func TestPurgeEndsEveryRowOfTheTenantAndNoOther(t *testing.T) {
	stay := []string{
		"sys_changes",         // the change log: keys that end with their age
		"sys_sign_ups",        // bounds sign-ups; ends within the hour
		"sys_stripe_events",   // each is applied once
		"sys_stripe_purged",   // what the tenant paid with is not the next one's
		"sys_tenant_sign_ups", // one tenant a person, also once that is gone
	}
	onBothEngines(t, func(t *testing.T, url string) {
		h, now := moving(t, url)
		ctx := t.Context()
		known := stay
		for _, o := range tenantsRows() {
			known = append(known, strings.TrimPrefix(o.table, ownSchema+"."))
		}
		for _, table := range tablesOfTenants(t, h) {
			if !slices.Contains(known, table) && table != "sys_sessions" {
				t.Errorf("%s has a column tenant_id: do its rows end with the tenant? (tenantsRows)", table)
			}
		}
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "ann"}))
		for _, id := range []TenantID{"acme", "globex"} {
			must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: id}))
			must(t, h.Memberships.Insert(ctx, &Membership{UserID: "ann", TenantID: id}))
			must(t, h.Subscriptions.Insert(ctx, &Subscription{TenantID: id}))
			must(t, h.Domains.Insert(ctx, &Domain{Host: DomainName(string(id) + ".example"), TenantID: id}))
			must(t, h.APITokens.Insert(ctx, &APIToken{UserID: "ann", TenantID: id, Kind: TokenUser, MAC: "m"}))
			must(t, h.HoldTenant(ctx, Hold{Tenant: id, Holder: "migrate:1", Lasts: time.Minute}))
			_, err := h.SawTenantSchema(ctx, nil, TenantSchema{TenantID: id, Version: 1}, false, nil)
			must(t, err)
			must(t, h.InTx(ctx, func(tx *Tx) error {
				_, err := tx.ChangeStripeCustomer(ctx, id, func(_ *Tx, row *StripeCustomer) error {
					row.CustomerID = "cus_" + string(id)
					return nil
				})
				return errors.Join(err, tx.Stripe.PutWatermark(ctx, &StripeWatermark{Object: "sub_" + StripeID(id), TenantID: id}), tx.Stripe.PutPastDue(ctx, "sub_"+StripeID(id), id, "1"))
			}))
			execAs(t, url, h, "INSERT INTO tenantgate.sys_sessions (id, user_id, host, mac, created_at, expires_at, tenant_id) VALUES ('chose-"+string(id)+"', 'ann', 'h', 'm', '1', '9', '"+string(id)+"')")
			execAs(t, url, h, "INSERT INTO tenantgate.sys_sessions (id, user_id, host, mac, created_at, expires_at, only_tenant) VALUES ('only-"+string(id)+"', 'ann', 'h', 'm', '1', '9', '"+string(id)+"')")
		}
		if _, err := h.BeginPurge(ctx, "acme"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a tenant that is not deleted: %v", err)
		}
		_, err := h.DeleteTenant(ctx, "acme", time.Hour)
		must(t, err)
		must(t, h.WantBackup(ctx, "acme", "/backups"))
		refused := func(why string) {
			t.Helper()
			if _, err := h.BeginPurge(ctx, "acme"); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", why, err)
			}
			if err := h.EndPurge(ctx, "acme", nil); !errors.Is(err, ErrConflict) {
				t.Errorf("%s: its rows could be ended: %v", why, err)
			}
		}
		refused("kept until")
		now.Add(int64(time.Hour))
		refused("backup")
		must(t, h.BackupMade(ctx, "acme", "/backups/acme.dump", "00ff", nil))
		execAs(t, url, h, "UPDATE core_tenants SET is_active = true WHERE id = 'acme'")
		refused("active again")
		execAs(t, url, h, "UPDATE core_tenants SET is_active = false WHERE id = 'acme'")
		if due, err := h.PurgesDue(ctx, 10); err != nil || !slices.Equal(due, []TenantID{"acme"}) {
			t.Errorf("due: %v, %v", due, err)
		}
		_, err = h.BeginPurge(ctx, "acme")
		must(t, err)
		d, err := h.BeginPurge(ctx, "acme")
		if err != nil || d.PurgingAt == "" || d.Backup != (Backup{"/backups", "/backups/acme.dump", "00ff", Timestamp(h.clock())}) {
			t.Errorf("%+v, %v", d, err)
		}
		for what, err := range map[string]error{
			"restore": h.RestoreTenant(ctx, "acme"), "another backup": h.WantBackup(ctx, "acme", "/elsewhere"),
			"another end": errOf(h.DeleteTenant(ctx, "acme", time.Hour)),
		} {
			if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
				t.Errorf("%s once its removal has begun: %v", what, err)
			}
		}
		must(t, h.EndPurge(ctx, "acme", map[string]any{"database": "tg_acme"}))
		for _, o := range tenantsRows() {
			if n := rowsIn(t, h, "SELECT count(*) FROM "+o.table+" WHERE "+o.column+" = 'acme'"); n != 0 {
				t.Errorf("%s: %d rows are left", o.table, n)
			}
			if n := rowsIn(t, h, "SELECT count(*) FROM "+o.table+" WHERE "+o.column+" = 'globex'"); n == 0 && !slices.Contains([]string{"sys_tenant_deletions", "sys_handoffs", "sys_tenant_databases"}, strings.TrimPrefix(o.table, ownSchema+".")) {
				t.Errorf("%s: another tenant's rows went too", o.table)
			}
		}
		if n := rowsIn(t, h, "SELECT count(*) FROM tenantgate.sys_sessions WHERE id = 'chose-acme' AND tenant_id IS NULL"); n != 1 {
			t.Error("the session of somebody who had chosen the tenant is gone")
		}
		if err := h.EndPurge(ctx, "acme", nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("twice: %v", err)
		}
		if n := events(t, h, "tenant.purged"); n != 1 {
			t.Errorf("%d audit rows", n)
		}
	})
}

// tablesOfTenants are our own tables and fh-saas's with a column that names a tenant.
func tablesOfTenants(t testing.TB, h *HostDatabase) []string {
	t.Helper()
	text := "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant_id' AND table_schema IN ('public', 'tenantgate')"
	if h.engine == EngineSQLite {
		text = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'tenant_id'"
	}
	rows, err := h.read.QueryContext(t.Context(), text)
	must(t, err)
	var names []string
	must(t, gather(func(rows *sql.Rows) error {
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
		}
		return rows.Err()
	})(rows, nil))
	if len(names) < 9 {
		t.Fatalf("tables: %v", names)
	}
	return names
}

// A lock's row says how long requests under way may take; nonsense in a row says nothing.
// A replica whose clock is years ahead, or behind, ends no retention that is not over for all.
func TestOneWrongClockPurgesNobody(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		right := func() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }
		ahead := func() time.Time { return right().AddDate(5, 0, 0) }
		h, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: right, SharedClock: right})
		must(t, err)
		must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "t", IsActive: new(true)}))
		_, err = h.DeleteTenant(t.Context(), "t", 30*24*time.Hour)
		must(t, errors.Join(err, h.Close()))
		for name, clocks := range map[string][2]func() time.Time{"the process's": {ahead, right}, "the database's": {right, ahead}} {
			h, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: clocks[0], SharedClock: clocks[1]})
			must(t, err)
			if due, err := h.PurgesDue(t.Context(), 10); len(due) != 0 || err != nil {
				t.Errorf("%s clock is ahead: %v, %v", name, due, err)
			}
			if _, err := h.BeginPurge(t.Context(), "t"); !errors.Is(err, ErrConflict) {
				t.Errorf("%s clock is ahead: %v", name, err)
			}
			must(t, h.Close())
		}
	})
}

func TestDrainOfLocks(t *testing.T) {
	end := Timestamp(fakeNow().Add(time.Minute))
	for ends, want := range map[string]struct {
		drain time.Duration
		says  bool
	}{
		end:                           {0, false},
		end + ";3":                    {3 * time.Second, true},
		end + ";0":                    {0, true},
		end + ";-1":                   {0, false},
		end + ";x":                    {0, false},
		end + ";99999999":             {maxDrain, true},
		end + ";30|" + end + ";5|":    {5 * time.Second, true},
		";7":                          {7 * time.Second, true},
		end + ";" + end:               {0, false},
		end + ";5|" + end + "|" + end: {5 * time.Second, true},
	} {
		var l Locks
		must(t, (locksInto{&l}).Scan(ends))
		if d, says := l.Drain(); d != want.drain || says != want.says || !l.Paused(fakeNow()) {
			t.Errorf("%q: %v, %v, %+v", ends, d, says, l)
		}
	}
}
