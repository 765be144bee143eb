package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// race runs f in n goroutines at once and returns their errors.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func countNil(errs []error) (n int) {
	for _, err := range errs {
		if err == nil {
			n++
		}
	}
	return n
}

// In fh-saas one person who signs in twice at once becomes two users. Also where doubles of old forbid the unique index.
func TestTwoFirstSignInsMakeOneUser(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a, b := openTest(t, url), openTest(t, url) // two replicas
		execAs(t, url, a, "DROP INDEX tenantgate_users_oauth_id_unique")
		ctx := t.Context()
		for i := range 100 {
			sub := fmt.Sprint("sub", i)
			errs := race(2, func(j int) error {
				h := []*HostDatabase{a, b}[j%2]
				return h.InTx(ctx, func(tx *Tx) error {
					if err := tx.LockUser(ctx, sub); err != nil {
						return err
					}
					_, _, err := tx.UserBySubject(ctx, sub)
					if !errors.Is(err, ErrNotFound) {
						return err
					}
					return tx.GlobalUsers.Insert(ctx, &GlobalUser{OAuthID: &sub})
				})
			})
			if n := countNil(errs); n != len(errs) {
				t.Fatalf("sign-ins failed: %v", errs)
			}
			users, _, err := a.GlobalUsers.List(ctx, Page{Filter: map[string]string{"oauth_id": sub}})
			must(t, err)
			if len(users) != 1 {
				t.Fatalf("%d users", len(users))
			}
			if i >= 20 {
				continue
			}
			// Who does not lock is refused by the table itself.
			if n := countNil(race(4, func(int) error {
				return b.GlobalUsers.Insert(ctx, &GlobalUser{OAuthID: new(sub + "x")})
			})); n != 1 {
				t.Fatalf("%d inserts of one subject succeeded", n)
			}
		}
	})
}

func TestTwoMemberCreatesMakeOneActiveMembership(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a, b := openTest(t, url), openTest(t, url)
		for i := range 20 {
			tenant := TenantID(fmt.Sprint("t", i))
			errs := race(4, func(j int) error {
				return []*HostDatabase{a, b}[j%2].Memberships.Insert(t.Context(), &Membership{UserID: "u", TenantID: tenant})
			})
			if countNil(errs) != 1 {
				t.Fatalf("%v", errs)
			}
			for _, err := range errs {
				if err != nil && !errors.Is(err, ErrConflict) {
					t.Errorf("the loser got %v", err)
				}
			}
		}
	})
}

func TestSlugAndTenantIDRaceHasOneWinner(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a, b := openTest(t, url), openTest(t, url)
		must(t, a.Tenants.Insert(t.Context(), &TenantCatalog{ID: "owner"}))
		for i := range 20 {
			name := fmt.Sprint("n", i)
			errs := race(2, func(j int) error {
				if j == 0 {
					return a.Tenants.Insert(t.Context(), &TenantCatalog{ID: TenantID(name)})
				}
				return b.Domains.Insert(t.Context(), &Domain{Host: DomainName(name), TenantID: "owner", Kind: "slug"})
			})
			if countNil(errs) != 1 {
				t.Fatalf("%v", errs)
			}
		}
	})
}

// Many replicas that start at once sign with one key.
func TestReplicasAgreeOnOneKey(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		hs := []*HostDatabase{openTest(t, url), openTest(t, url), openTest(t, url)}
		ctx := t.Context()
		var made atomic.Int64
		got := make([]Key, 9)
		errs := race(len(got), func(i int) error {
			var err error
			got[i], err = hs[i%3].Keys.Ensure(ctx, "session_mac", func() (string, string, error) {
				n := made.Add(1)
				return fmt.Sprint("kid", n), "sealed", nil
			})
			return err
		})
		if countNil(errs) != len(got) {
			t.Fatalf("%v", errs)
		}
		for _, k := range got {
			if k != got[0] || k.ID == "" || k.Sealed != "sealed" {
				t.Errorf("keys differ: %+v, %+v", k, got[0])
			}
		}
		if made.Load() != 1 {
			t.Errorf("%d keys were made", made.Load())
		}
		other, err := hs[0].Keys.Ensure(ctx, "assertion", func() (string, string, error) { return "other", "s", nil })
		if err != nil || other.ID != "other" {
			t.Errorf("another purpose: %+v, %v", other, err)
		}
		boom := errors.New("boom")
		if _, err := hs[0].Keys.Ensure(ctx, "third", func() (string, string, error) { return "", "", boom }); !errors.Is(err, boom) {
			t.Errorf("a key that cannot be made: %v", err)
		}
		all, err := hs[0].Keys.List(ctx, "session_mac")
		if err != nil || len(all) != 1 {
			t.Errorf("keys %+v, %v", all, err)
		}
		rows, _, err := hs[0].AuditLogs.List(ctx, Page{Filter: map[string]string{"event_type": "key.created"}})
		if err != nil || len(rows) != 2 {
			t.Errorf("%d audit rows, %v", len(rows), err)
		}
		execAs(t, url, hs[0], "UPDATE tenantgate.sys_keys SET retired_at = '2026' WHERE purpose = 'session_mac'")
		next, err := hs[0].Keys.Ensure(ctx, "session_mac", func() (string, string, error) { return "next", "s2", nil })
		if err != nil || next.ID != "next" {
			t.Errorf("after retirement: %+v, %v", next, err)
		}
	})
}

// In fh-saas a rollback of one thread destroys what another wrote.
func TestTransactionsOfGoroutinesNeverMix(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		boom := errors.New("boom")
		errs := race(20, func(i int) error {
			err := h.InTx(ctx, func(tx *Tx) error {
				for j := range 3 {
					if err := tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: UserID(fmt.Sprint("u", i, "-", j))}); err != nil {
						return err
					}
				}
				if i%2 == 1 {
					return boom
				}
				return nil
			})
			return ignore(err, boom)
		})
		if countNil(errs) != len(errs) {
			t.Fatalf("%v", errs)
		}
		users, _, err := h.GlobalUsers.List(ctx, Page{Limit: 1000})
		must(t, err)
		audits, _, err := h.AuditLogs.List(ctx, Page{Limit: 1000})
		must(t, err)
		if len(users) != 30 || len(audits) != 30 {
			t.Errorf("%d users, %d audit rows; want 30 of each", len(users), len(audits))
		}
	})
}

func TestSessionLife(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		ctx := t.Context()
		s := &Session{
			ID: "s1", UserID: "ann", Host: "app.example.com", Provider: "google", Subject: "ann", SID: "sid", MAC: "mac", IDToken: "tok",
			ExpiresAt: "2026-06-02T12:00:00", LastSeen: "2026-06-01T12:00:00",
		}
		must(t, h.Sessions.Insert(ctx, s))
		if err := h.Sessions.Insert(ctx, s); !errors.Is(err, ErrConflict) {
			t.Errorf("insert twice: %v", err)
		}
		got, u, blocked, err := h.SessionUser(ctx, "s1")
		must(t, err)
		if *got != *s || u.ID != "ann" || blocked || got.CreatedAt != "2026-06-01T12:00:00" || got.TenantID != "" {
			t.Errorf("session %+v, user %+v, %v", got, u, blocked)
		}
		must(t, h.Sessions.Touch(ctx, "s1", "2026-06-01T12:05:00"))
		must(t, h.Sessions.Touch(ctx, "s1", "2026-06-01T12:04:00")) // another replica, later but with an older look
		must(t, h.Sessions.SetTenant(ctx, "s1", "t1"))
		got, _, _, err = h.SessionUser(ctx, "s1")
		must(t, err)
		if got.LastSeen != "2026-06-01T12:05:00" || got.TenantID != "t1" {
			t.Errorf("session %+v", got)
		}
		must(t, h.Sessions.SetTenant(ctx, "s1", ""))
		if got, _, _, _ = h.SessionUser(ctx, "s1"); got.TenantID != "" {
			t.Errorf("choice not cleared: %+v", got)
		}
		for what, err := range map[string]error{
			"touch": h.Sessions.Touch(ctx, "none", "2026"), "set": h.Sessions.SetTenant(ctx, "none", "t"), "delete": h.Sessions.Delete(ctx, "none"),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of no session: %v", what, err)
			}
		}
		for i, exp := range []string{"2026-06-01T12:00:00", "2026-06-01T12:00:00.5", "2026-06-01T11:59:59.999999"} {
			must(t, h.Sessions.Insert(ctx, &Session{ID: SessionID(fmt.Sprint("e", i)), UserID: "gone", Host: "h", MAC: "m", ExpiresAt: exp}))
		}
		if _, u, _, err := h.SessionUser(ctx, "e0"); err != nil || u != nil {
			t.Errorf("session of a user that is gone: %+v, %v", u, err)
		}
		if more, err := h.CleanUp(ctx, fakeNow().Add(keepEnded), 10); more || err != nil {
			t.Errorf("%v, %v", more, err)
		}
		all, err := h.Sessions.ListByUser(ctx, "gone")
		if err != nil || len(all) != 1 || all[0].ID != "e1" {
			t.Errorf("left %+v, %v", all, err)
		}
		must(t, h.Sessions.Delete(ctx, "s1"))
		if _, _, _, err := h.SessionUser(ctx, "s1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleted session: %v", err)
		}
	})
}

func TestBlockingEndsAllSessions(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		ctx := t.Context()
		for _, id := range []SessionID{"s1", "s2"} {
			must(t, h.Sessions.Insert(ctx, &Session{ID: id, UserID: "ann", Host: "h", MAC: "m", ExpiresAt: "2027"}))
		}
		must(t, h.BlockUser(ctx, "ann", "left the company"))
		must(t, h.BlockUser(ctx, "ann", "again"))
		if left, err := h.Sessions.ListByUser(ctx, "ann"); err != nil || len(left) != 0 {
			t.Errorf("sessions left: %+v, %v", left, err)
		}
		must(t, h.UnblockUser(ctx, "ann"))
		must(t, h.PauseTenant(ctx, "t1", "", time.Time{}))
		// A lock of another holder, written as another program may: by tenant_id alone.
		execAs(t, url, h, "INSERT INTO tenantgate.sys_tenant_locks (tenant_id) VALUES ('t1')")
		must(t, h.UnpauseTenant(ctx, "t1"))
		if f, err := h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "t1"}); err != nil || !f.Locks.Paused(fakeNow()) || f.Blocked {
			t.Errorf("facts %+v, %v", f, err)
		}
		execAs(t, url, h, "INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('bob')")
		if f, err := h.GrantFacts(ctx, GrantQuery{User: "bob", Tenant: "t3"}); err != nil || !f.Blocked {
			t.Errorf("facts %+v, %v", f, err)
		}
		for what, err := range map[string]error{
			"block": h.BlockUser(ctx, "none", ""), "unblock": h.UnblockUser(ctx, "ann"),
			"pause": h.PauseTenant(ctx, "none", "", time.Time{}), "unpause": h.UnpauseTenant(ctx, "t1"),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of what is not there: %v", what, err)
			}
		}
		rows, _, err := h.AuditLogs.List(ctx, Page{Filter: map[string]string{"target_id": "ann"}})
		must(t, err)
		if got := ids(rows, func(r HostAuditLog) string { return *r.EventType }); got != "user.blocked,user.created,user.unblocked" {
			t.Errorf("events %s", got)
		}
	})
}

func TestTimestampsAreWrittenAsPythonDoes(t *testing.T) {
	for want, at := range map[string]time.Time{
		"2026-11-23T07:31:00":        time.Date(2026, 11, 23, 7, 31, 0, 0, time.UTC),
		"2026-11-23T07:31:00.123456": time.Date(2026, 11, 23, 8, 31, 0, 123456789, time.FixedZone("CET", 3600)),
		"2026-11-23T07:31:00.100000": time.Date(2026, 11, 23, 7, 31, 0, 100_000_000, time.UTC),
		"2026-11-23T07:31:01":        time.Date(2026, 11, 23, 7, 31, 1, 999, time.UTC),
	} {
		if got := Timestamp(at); got != want {
			t.Errorf("Timestamp(%s) = %s, want %s", at, got, want)
		}
		back, err := ParseTimestamp(want)
		if err != nil || !back.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("ParseTimestamp(%s) = %s, %v", want, back, err)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		id := GenID()
		if len(id) != 32 || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

// TestLinkingJudgesTheRowAsItIsOnceLocked: another program's transaction on the row is open when the link is asked for;
// what it commits counts.
func TestLinkingJudgesTheRowAsItIsOnceLocked(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	for name, change := range map[string]string{
		"another identity": "oauth_id = 'other:victim'",
		"a password":       "password_hash = 'argon'",
		"a flag":           "is_sys_admin = true",
		"another address":  "email = 'boss@x.test'",
	} {
		u := &GlobalUser{Email: new("Eve@x.test")}
		if err := h.GlobalUsers.Insert(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		other, err := h.write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.ExecContext(t.Context(), "UPDATE core_users SET "+change+" WHERE id = $1", string(u.ID)); err != nil {
			t.Fatal(err)
		}
		type answer struct {
			linked bool
			err    error
		}
		done := make(chan answer, 1)
		go func() {
			linked, err := h.LinkSubject(context.Background(), u.ID, "eve@x.test", "eve")
			done <- answer{linked, err}
		}()
		if err := other.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := <-done; got.err != nil || got.linked {
			row, err := h.GlobalUsers.Get(t.Context(), u.ID)
			// The link may have come first: then it stood on the row as it was, and the other's change came after it.
			if got.err != nil || err != nil || !got.linked {
				t.Errorf("%s: %v %v", name, got.err, err)
			} else if row.OAuthID != nil && *row.OAuthID == "eve" {
				t.Errorf("%s: linked although the row had been changed: %+v", name, row)
			}
		}
		if err := h.GlobalUsers.Delete(t.Context(), u.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinking(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		for name, c := range map[string]struct {
			user GlobalUser
			want bool
		}{
			"no other way in": {GlobalUser{Email: new("Eve@X.test")}, true},
			"empty texts":     {GlobalUser{Email: new("eve@x.test"), OAuthID: new(""), PasswordHash: new("")}, true},
			"an identity":     {GlobalUser{Email: new("eve@x.test"), OAuthID: new("o")}, false},
			"a password":      {GlobalUser{Email: new("eve@x.test"), PasswordHash: new("p")}, false},
			"administrator":   {GlobalUser{Email: new("eve@x.test"), IsSysAdmin: new(true)}, false},
			"another address": {GlobalUser{Email: new("eve@x.tests")}, false},
		} {
			if err := h.GlobalUsers.Insert(t.Context(), &c.user); err != nil {
				t.Fatal(err)
			}
			linked, err := h.LinkSubject(t.Context(), c.user.ID, "EVE@x.test", "subject-of-eve")
			if err != nil || linked != c.want {
				t.Errorf("%s: %v %v", name, linked, err)
			}
			if err := h.GlobalUsers.Delete(t.Context(), c.user.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Two programs change different columns of one row at once, each having read it before: neither undoes the other.
func TestChangeKeepsWhatOthersChanged(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a, b := openTest(t, url), openTest(t, url)
		ctx := t.Context()
		must(t, a.Tenants.Insert(ctx, &TenantCatalog{ID: "acme", Name: new("0"), PlanTier: new("0")}))
		const n = 25
		count := func(text **string) error {
			i, err := strconv.Atoi(**text)
			*text = new(strconv.Itoa(i + 1))
			return err
		}
		errs := race(4, func(i int) error {
			h := []*HostDatabase{a, b}[i%2]
			for range n {
				if _, err := h.Tenants.Change(ctx, "acme", func(row *TenantCatalog) error {
					if i < 2 {
						return count(&row.Name)
					}
					return count(&row.PlanTier)
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if countNil(errs) != len(errs) {
			t.Fatal(errs)
		}
		row, err := a.Tenants.Get(ctx, "acme")
		must(t, err)
		if *row.Name != "50" || *row.PlanTier != "50" {
			t.Errorf("name %s, plan tier %s: changes were lost", *row.Name, *row.PlanTier)
		}
	})
}

// The row is read under its lock: what another program's open transaction commits is what edit sees.
func TestChangeWaitsForTheRowAndSeesWhatWasCommitted(t *testing.T) {
	h := openTest(t, newPostgres(t))
	ctx := t.Context()
	must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme", Name: new("old")}))
	must(t, h.InTx(ctx, func(tx *Tx) error {
		_, err := tx.Tenants.Get(ctx, "acme") // a snapshot of before
		if err != nil {
			return err
		}
		other, err := h.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := other.Tenants.Change(ctx, "acme", func(row *TenantCatalog) error { row.IsActive = new(false); return nil }); err != nil {
			return errors.Join(err, other.Rollback())
		}
		done := make(chan error, 1)
		go func() {
			row, err := tx.Tenants.Change(ctx, "acme", func(row *TenantCatalog) error { row.Name = new("new"); return nil })
			if err == nil && *row.IsActive {
				err = errors.New("the other's change was not seen")
			}
			done <- err
		}()
		return errors.Join(other.Commit(), <-done)
	}))
	row, err := h.Tenants.Get(ctx, "acme")
	must(t, err)
	if *row.IsActive || *row.Name != "new" {
		t.Errorf("row %+v", row)
	}
}

func TestChangeRefusesAndReturns(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme", Name: new("Acme")}))
		boom := errors.New("boom")
		for name, c := range map[string]struct {
			id   TenantID
			edit func(*TenantCatalog) error
			want error
		}{
			"its own error":   {"acme", func(row *TenantCatalog) error { row.Name = new("x"); return boom }, boom},
			"an absent row":   {"none", func(*TenantCatalog) error { t.Error("edit of nothing"); return nil }, ErrNotFound},
			"another id":      {"acme", func(row *TenantCatalog) error { row.ID = "other"; return nil }, nil},
			"unstorable text": {"acme", func(row *TenantCatalog) error { row.Name = new("a\x00"); return nil }, nil},
		} {
			row, err := h.Tenants.Change(ctx, c.id, c.edit)
			if err == nil || row != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %+v, %v", name, row, err)
			}
		}
		row, err := h.Tenants.Change(ctx, "acme", func(*TenantCatalog) error { return nil })
		if err != nil || *row.Name != "Acme" {
			t.Errorf("no change: %+v, %v", row, err)
		}
		rows, _, err := h.AuditLogs.List(ctx, Page{})
		if err != nil || len(rows) != 1 {
			t.Errorf("%d audit rows, %v; want that of the insert alone", len(rows), err)
		}
	})
}
