package catalog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

func TestHandoffIsTakenOnceByItsBrowserOnItsHost(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		row := Handoff{
			CodeHash: "c", UserID: "u", OnlyTenant: "acme", Host: "acme.example", NonceHash: "n", SignIn: "s", MAC: "m",
			SignedInAt: "2026-01-01T00:00:00", SessionExpiresAt: "2026-01-02T00:00:00", CreatedAt: "2026-01-01T00:00:00", ExpiresAt: "2026-01-01T00:01:00",
		}
		must(t, h.Handoffs.Insert(ctx, &row))
		if err := h.Handoffs.Insert(ctx, &row); !errors.Is(err, ErrConflict) {
			t.Errorf("the same code again: %v", err)
		}
		if got, err := h.Handoffs.Get(ctx, "c"); err != nil || *got != row {
			t.Errorf("%+v %v", got, err)
		}
		if _, err := h.Handoffs.Get(ctx, "d"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		const now = "2026-01-01T00:00:59"
		for name, q := range map[string][4]string{
			"another host": {"c", "beta.example", "n", now}, "another nonce": {"c", "acme.example", "o", now},
			"another code": {"d", "acme.example", "n", now}, "at its end": {"c", "acme.example", "n", row.ExpiresAt},
		} {
			if ok, err := h.Handoffs.Take(ctx, q[0], q[1], q[2], q[3]); ok || err != nil {
				t.Errorf("%s: %v %v", name, ok, err)
			}
		}
		var won atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if ok, err := h.Handoffs.Take(ctx, "c", "acme.example", "n", now); err != nil {
					t.Error(err)
				} else if ok {
					won.Add(1)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d took it", won.Load())
		}
	})
}

func TestSignInEndsHoweverManySessionsItHas(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		const many = 1001 // one more than a list shows
		must(t, h.InTx(ctx, func(tx *Tx) error {
			for i := range many {
				s := Session{ID: SessionID(fmt.Sprintf("s%04d", i)), UserID: "u", Host: "app", SignIn: "a", MAC: "m", CreatedAt: fmt.Sprint(2000 + i), ExpiresAt: "9999"}
				if err := tx.Sessions.Insert(ctx, &s); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, h.InTx(ctx, func(tx *Tx) error {
			rows, err := tx.DeleteSignIn(ctx, &Session{ID: "s0000", UserID: "u", SignIn: "a"})
			if len(rows) != many {
				t.Errorf("%d sessions ended", len(rows))
			}
			return err
		}))
		if left, err := h.Sessions.ListByUser(ctx, "u"); err != nil || len(left) > 0 {
			t.Errorf("%d sessions are left: %v", len(left), err)
		}
	})
}

func TestSignInEndsOnEveryHostAndNowhereElse(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for _, s := range []Session{
			{ID: "a1", UserID: "u", Host: "app", SignIn: "a"},
			{ID: "a2", UserID: "u", Host: "acme", SignIn: "a", OnlyTenant: "acme", SignedInAt: "2026"},
			{ID: "b1", UserID: "u", Host: "app", SignIn: "b"},
			{ID: "a3", UserID: "v", Host: "app", SignIn: "a"},
			{ID: "old", UserID: "u", Host: "app"},
			{ID: "fromold", UserID: "u", Host: "acme", SignIn: "old"},
			{ID: "b", UserID: "u", Host: "app", SignIn: "c"}, // its id is another sign-in's name
		} {
			s.MAC, s.CreatedAt, s.ExpiresAt = "m", "2026", "2027"
			must(t, h.Sessions.Insert(ctx, &s))
		}
		end := func(id SessionID) int {
			t.Helper()
			s, _, _, err := h.SessionUser(ctx, id)
			must(t, err)
			var rows []Session
			must(t, h.InTx(ctx, func(tx *Tx) (err error) {
				rows, err = tx.DeleteSignIn(ctx, s)
				return err
			}))
			for _, r := range rows {
				if r.UserID != "u" || r.SignInOf() != s.SignInOf() {
					t.Errorf("ended %+v with %+v", r, s)
				}
			}
			return len(rows)
		}
		if n := end("a2"); n != 2 {
			t.Errorf("%d sessions ended instead of both of the sign-in", n)
		}
		if n := end("fromold"); n != 2 {
			t.Errorf("%d ended instead of the one from before and the one that was handed on from it", n)
		}
		if n := end("b1"); n != 1 {
			t.Errorf("%d ended", n)
		}
		must(t, h.Handoffs.Insert(ctx, &Handoff{CodeHash: "c", UserID: "u", Host: "h", NonceHash: "n", SignIn: "c", MAC: "m", SignedInAt: "1", SessionExpiresAt: "1", CreatedAt: "1", ExpiresAt: "1"}))
		if n, err := h.Sessions.DeleteByUser(ctx, "u"); n != 1 || err != nil {
			t.Error(n, err)
		}
		if _, err := h.Handoffs.Get(ctx, "c"); !errors.Is(err, ErrNotFound) {
			t.Error("a code of a user whose sessions were ended is there:", err)
		}
		if _, _, _, err := h.SessionUser(ctx, "a3"); err != nil {
			t.Error("somebody else's:", err)
		}
	})
}

func TestSlugsOfAUsersTenants(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for _, id := range []TenantID{"One Tenant", "two", "three"} {
			must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: id, Name: new("n")}))
		}
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "u"}))
		for _, id := range []TenantID{"One Tenant", "two"} {
			must(t, h.Memberships.Insert(ctx, &Membership{UserID: "u", TenantID: id}))
		}
		for slug, id := range map[string]TenantID{"zeta": "One Tenant", "one": "One Tenant", "drei": "three"} {
			must(t, h.Domains.Insert(ctx, &Domain{Host: DomainName(slug), TenantID: id, Kind: "slug"}))
		}
		got, err := h.TenantSlugs(ctx, "u")
		if err != nil || len(got) != 1 || got["One Tenant"] != "one" {
			t.Errorf("%v %v", got, err)
		}
	})
}
