package catalog

import (
	"errors"
	"testing"
	"time"
)

// A lock ends by the clock; one that has no end, or an end that cannot be read, stands.
func TestLocksEndByTheClock(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		now := fakeNow()
		past, soon, later := Timestamp(now.Add(-time.Second)), Timestamp(now.Add(time.Second)), "2026-06-01T14:00:02+02:00"
		for name, c := range map[string]struct {
			ends   []string // "NULL" for none
			paused bool
			until  string
		}{
			"none":              {},
			"no end":            {[]string{"NULL"}, true, ""},
			"past":              {[]string{past}, false, past},
			"now":               {[]string{Timestamp(now)}, false, Timestamp(now)},
			"to come":           {[]string{soon}, true, soon},
			"the last counts":   {[]string{soon, past, later}, true, "2026-06-01T12:00:02"},
			"one without end":   {[]string{past, "NULL", soon}, true, ""},
			"unreadable":        {[]string{past, "tomorrow"}, true, ""},
			"empty":             {[]string{""}, true, ""},
			"two ends in one":   {[]string{past + "|" + past}, true, ""},
			"all of them past":  {[]string{past, "2020-01-01"}, false, past},
			"a zone's past":     {[]string{"2026-06-01T13:59:59+02:00"}, false, past},
			"beyond every year": {[]string{"99999-01-01"}, true, ""},
		} {
			execAs(t, url, h, "DELETE FROM tenantgate.sys_tenant_locks")
			for i, end := range c.ends {
				if end != "NULL" {
					end = "'" + end + "'"
				}
				execAs(t, url, h, "INSERT INTO tenantgate.sys_tenant_locks (tenant_id, holder, expires_at) VALUES ('t1', '"+string(rune('a'+i))+"', "+end+")")
			}
			f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
			must(t, err)
			all, err := h.UserGrants(t.Context(), "ann", nil, 0)
			must(t, err)
			states, err := h.TenantStates(t.Context(), "t1", "T2")
			must(t, err)
			listed := all[1] // by name: Alpha, beta
			for what, l := range map[string]Locks{"grant": f.Locks, "list": listed.Locks, "state": states["t1"].Locks} {
				until, ok := l.Until()
				if l.Paused(now) != c.paused || ok != (c.until != "") || ok && Timestamp(until) != c.until {
					t.Errorf("%s, %s: paused %v until %v (%v)", name, what, l.Paused(now), until, ok)
				}
			}
			if states["T2"].Locks.Paused(now) || all[0].Locks.Paused(now) {
				t.Errorf("%s: another tenant is paused", name)
			}
		}
	})
}

func TestDeletionOutlivesNoRow(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
		if _, err := h.DeleteTenant(ctx, "nowhere", time.Hour); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete of no tenant: %v", err)
		}
		if _, err := h.DeleteTenant(ctx, "acme", -time.Hour); err == nil {
			t.Error("a negative retention is taken")
		}
		_, err := h.DeleteTenant(ctx, "acme", time.Hour)
		must(t, err)
		execAs(t, url, h, "DELETE FROM core_tenants WHERE id = 'acme'") // another program
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
		if states, err := h.TenantStates(ctx, "acme"); err != nil || states["acme"].Deletion != nil {
			t.Errorf("a new tenant is born deleted: %+v, %v", states, err)
		}
	})
}

// Between the look at the DNS and the write a domain may change hands.
func TestVerifyingJudgesTheRowThatWasLookedAt(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "a"}))
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "b"}))
		must(t, h.Domains.Insert(ctx, &Domain{Host: "x.example", TenantID: "a"}))
		seen, err := h.ChallengeDomain(ctx, "x.example")
		must(t, err)
		moved := *seen
		moved.TenantID = "b"
		must(t, h.Domains.Update(ctx, &moved))
		if _, err := h.VerifyDomain(ctx, seen, "txt"); !errors.Is(err, ErrConflict) {
			t.Errorf("verified for the tenant of old: %v", err)
		}
		if d, err := h.Domains.Get(ctx, "x.example"); err != nil || d.Verified || d.Challenge == seen.Challenge {
			t.Errorf("%+v, %v", d, err)
		}
		// A row of another program's has no challenge until it is asked for.
		execAs(t, url, h, "INSERT INTO tenantgate.core_tenant_domains (host, tenant_id, kind) VALUES ('y.example', 'a', 'host')")
		y, err := h.ChallengeDomain(ctx, "y.example")
		must(t, err)
		again, err := h.ChallengeDomain(ctx, "y.example")
		must(t, err)
		if len(y.Challenge) != 32 || *again != *y {
			t.Errorf("challenges %+v, %+v", y, again)
		}
		if y, err = h.VerifyDomain(ctx, y, "txt"); err != nil || !y.Verified {
			t.Errorf("%+v, %v", y, err)
		}
	})
}
