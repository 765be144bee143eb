package catalog

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestInsertFillsIDAndDefaults(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		u := &GlobalUser{Email: new("a@example.com")}
		must(t, h.GlobalUsers.Insert(ctx, u))
		if len(u.ID) != 32 || *u.CreatedAt != "2026-06-01T12:00:00" || *u.IsSysAdmin {
			t.Errorf("user %+v", u)
		}
		got, err := h.GlobalUsers.Get(ctx, u.ID)
		must(t, err)
		if *got.Email != "a@example.com" || got.OAuthID != nil || got.IsSysAdmin == nil || *got.IsSysAdmin {
			t.Errorf("stored %+v", got)
		}
		ten := &TenantCatalog{ID: "acme", DBURL: NewDBURI("postgresql://u:p@h/db")}
		must(t, h.Tenants.Insert(ctx, ten))
		gotT, err := h.Tenants.Get(ctx, "acme")
		must(t, err)
		if !*gotT.IsActive || *gotT.PlanTier != "free" || gotT.DBURL.Reveal() != "postgresql://u:p@h/db" {
			t.Errorf("tenant %+v", gotT)
		}
		m := &Membership{UserID: u.ID, TenantID: "acme"}
		must(t, h.Memberships.Insert(ctx, m))
		if *m.Role != "member" || !*m.IsActive {
			t.Errorf("membership %+v", m)
		}
		s := &Subscription{TenantID: "acme", Status: new("active")}
		must(t, h.Subscriptions.Insert(ctx, s))
		if *s.PaymentType != "subscription" || *s.CancelAtPeriodEnd || *s.CreatedAt == "" {
			t.Errorf("subscription %+v", s)
		}
		p := &PricingPlan{ID: "pro"}
		must(t, h.PricingPlans.Insert(ctx, p))
		if *p.Currency != "usd" || *p.TrialDays != 30 || *p.TierLevel != 1 || !*p.IsActive || *p.SortOrder != 0 {
			t.Errorf("plan %+v", p)
		}
	})
}

// exercise walks one model through its life.
func exercise[ID ~string, T any](t *testing.T, table *Table[ID, T], row *T, change func(*T), changed func(*T) bool) {
	t.Helper()
	ctx := t.Context()
	must(t, table.Insert(ctx, row))
	id := ID(table.id(row))
	if err := table.Insert(ctx, row); !errors.Is(err, ErrConflict) {
		t.Errorf("%s: insert twice: %v", table.noun, err)
	}
	change(row)
	must(t, table.Update(ctx, row))
	got, err := table.Get(ctx, id)
	must(t, err)
	if !changed(got) {
		t.Errorf("%s: update was not stored: %+v", table.noun, got)
	}
	page, next, err := table.List(ctx, Page{Limit: 10})
	must(t, err)
	if len(page) != 1 || next != "" || !changed(&page[0]) {
		t.Errorf("%s: list: %d rows, next %q", table.noun, len(page), next)
	}
	must(t, table.Delete(ctx, id))
	for what, err := range map[string]error{
		"get":    func() error { _, err := table.Get(ctx, id); return err }(),
		"update": table.Update(ctx, row),
		"delete": table.Delete(ctx, id),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %s of an absent row: %v", table.noun, what, err)
		}
	}
}

func TestEveryModelLivesAndDies(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		exercise(t, &h.GlobalUsers, &GlobalUser{Email: new("x@example.com"), OAuthID: new("sub")},
			func(u *GlobalUser) { u.Email = nil; u.IsSysAdmin = new(true) },
			func(u *GlobalUser) bool { return u.Email == nil && *u.IsSysAdmin && *u.OAuthID == "sub" })
		exercise(t, &h.Tenants, &TenantCatalog{Name: new("Acme")},
			func(c *TenantCatalog) { c.IsActive = nil; c.DBURL = NewDBURI("sqlite:///x.db") },
			func(c *TenantCatalog) bool { return c.IsActive == nil && c.DBURL.Reveal() == "sqlite:///x.db" })
		exercise(t, &h.Memberships, &Membership{UserID: "u", TenantID: "t"},
			func(m *Membership) { m.Role = new("owner") },
			func(m *Membership) bool { return *m.Role == "owner" && m.UserID == "u" })
		exercise(t, &h.Subscriptions, &Subscription{TenantID: "t", AmountCents: new(int64(799))},
			func(s *Subscription) { s.AmountCents = new(int64(-1)); s.CancelAtPeriodEnd = new(true) },
			func(s *Subscription) bool { return *s.AmountCents == -1 && *s.CancelAtPeriodEnd })
		exercise(t, &h.PricingPlans, &PricingPlan{ID: "pro", Features: new(`["a"]`)},
			func(p *PricingPlan) { p.TierLevel = nil; p.Features = new(`["é"]`) },
			func(p *PricingPlan) bool { return p.TierLevel == nil && *p.Features == `["é"]` })
		exercise(t, &h.Jobs, &SystemJob{JobType: new("x"), Status: new("pending")},
			func(j *SystemJob) { j.Status = new("done") }, func(j *SystemJob) bool { return *j.Status == "done" })
		exercise(t, &h.WebhookEvents, &StripeWebhookEvent{EventID: new("evt_1")},
			func(e *StripeWebhookEvent) { e.Status = new("failed") },
			func(e *StripeWebhookEvent) bool { return *e.Status == "failed" })
		must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "t1"}))
		exercise(t, &h.Domains, &Domain{Host: "portal.acme.com", TenantID: "t1", Kind: "host"},
			func(d *Domain) { d.Verified = true }, func(d *Domain) bool { return d.Verified && d.TenantID == "t1" })
	})
}

// Every write through Tables leaves its row; no row shows a secret (LEAK-3, AUD-3).
func TestEveryWriteIsAudited(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := WithActor(t.Context(), Actor{ID: "cli:root@box", IP: "203.0.113.9"})
		const canary = "C4nary%2Fpw"
		ten := &TenantCatalog{ID: "acme", Name: new("Acme"), DBURL: NewDBURI("postgresql://u:" + canary + "@h/db")}
		must(t, h.Tenants.Insert(ctx, ten))
		ten.DBURL, ten.PlanTier = NewDBURI("postgresql://u:"+canary+"2@h/db2"), new("pro")
		must(t, h.Tenants.Update(ctx, ten))
		must(t, h.Tenants.Update(ctx, ten)) // no difference: no write, no row
		must(t, h.Tenants.Delete(ctx, "acme"))
		user := &GlobalUser{ID: "u1", PasswordHash: new(canary)}
		must(t, h.GlobalUsers.Insert(ctx, user))
		user.PasswordHash = new(canary + "2")
		must(t, h.GlobalUsers.Update(ctx, user))
		must(t, h.RecordLogin(ctx, "u1", "2026-06-01T12:00:01"))
		user.LastLogin = new("2026-06-01T12:00:02")
		must(t, h.GlobalUsers.Update(ctx, user)) // last_login alone is no audited change
		job := &SystemJob{ID: "j1", Payload: new(canary)}
		must(t, h.Jobs.Insert(ctx, job))

		rows, _, err := h.AuditLogs.List(ctx, Page{Limit: 100})
		must(t, err)
		var events []string
		for _, r := range rows {
			events = append(events, *r.EventType+" "+*r.TargetID)
			if *r.ActorUserID != "cli:root@box" || *r.IPAddress != "203.0.113.9" || *r.CreatedAt != "2026-06-01T12:00:00" {
				t.Errorf("row %+v", r)
			}
			if r.Details != nil && (strings.Contains(*r.Details, "C4nary") || strings.Contains(*r.Details, "password_hash")) {
				t.Errorf("details show a secret: %s", *r.Details)
			}
		}
		slices.Sort(events)
		want := []string{
			"job.created j1", "tenant.created acme", "tenant.deleted acme", "tenant.updated acme", "user.created u1", "user.updated u1",
		}
		if !slices.Equal(events, want) {
			t.Errorf("events %q, want %q", events, want)
		}
		updates, _, err := h.AuditLogs.List(ctx, Page{Filter: map[string]string{"event_type": "tenant.updated"}})
		must(t, err)
		if len(updates) != 1 {
			t.Fatalf("%d updates", len(updates))
		}
		var details map[string]map[string]any
		must(t, json.Unmarshal([]byte(*updates[0].Details), &details))
		if details["plan_tier"]["from"] != "free" || details["plan_tier"]["to"] != "pro" ||
			details["db_url"]["to"] != "postgresql://u:***@h/db2" || len(details) != 2 {
			t.Errorf("details %v", details)
		}
	})
}

func TestAuditRowsThemselvesAreOnlyAddedQuietly(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		row := &HostAuditLog{ID: "a1", EventType: new("login")}
		must(t, h.AuditLogs.Insert(ctx, row))
		row.EventType = new("forged")
		if h.engine == EngineSQLite { // where the file has no owner: nobody changes the log who leaves the triggers alone
			for what, err := range map[string]error{"update": h.AuditLogs.Update(ctx, row), "delete": h.AuditLogs.Delete(ctx, "a1")} {
				if !errors.Is(err, ErrConflict) {
					t.Errorf("%s: %v", what, err)
				}
			}
			kept, err := h.AuditLogs.Get(ctx, "a1")
			if err != nil || *kept.EventType != "login" {
				t.Errorf("kept %+v, %v", kept, err)
			}
			return
		}
		must(t, h.AuditLogs.Update(ctx, row))
		must(t, h.AuditLogs.Delete(ctx, "a1"))
		rows, _, err := h.AuditLogs.List(ctx, Page{Filter: map[string]string{"target_id": "a1"}})
		must(t, err)
		var events []string
		for _, r := range rows {
			events = append(events, *r.EventType)
		}
		slices.Sort(events)
		if !slices.Equal(events, []string{"audit_log.deleted", "audit_log.updated"}) {
			t.Errorf("events %q: tampering left no trace", events)
		}
	})
}

// The audit row and the change stand or fall together (AUD-3).
func TestRolledBackTransactionLeavesNothing(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		boom := errors.New("boom")
		err := h.InTx(ctx, func(tx *Tx) error {
			must(t, tx.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
			if _, err := tx.Tenants.Get(ctx, "acme"); err != nil {
				t.Errorf("a transaction does not see its own write: %v", err)
			}
			must(t, tx.Sessions.Insert(ctx, &Session{ID: "s", UserID: "u", Host: "h", MAC: "m", ExpiresAt: "2026"}))
			must(t, tx.Audit(ctx, "sign_in", "u", nil))
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatalf("InTx returned %v", err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = h.InTx(ctx, func(tx *Tx) error {
				must(t, tx.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
				panic("boom")
			})
		}()
		if _, err := h.Tenants.Get(ctx, "acme"); !errors.Is(err, ErrNotFound) {
			t.Errorf("tenant is there: %v", err)
		}
		if _, _, _, err := h.SessionUser(ctx, "s"); !errors.Is(err, ErrNotFound) {
			t.Errorf("session is there: %v", err)
		}
		rows, _, err := h.AuditLogs.List(ctx, Page{})
		must(t, err)
		if len(rows) != 0 {
			t.Errorf("%d audit rows are left", len(rows))
		}
	})
}

func TestTransactionGoesOnAfterARuleRefusedButNotAfterTheEngineDid(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.InTx(ctx, func(tx *Tx) error {
			must(t, tx.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
			if err := tx.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}); !errors.Is(err, ErrConflict) {
				t.Errorf("id taken: %v", err)
			}
			return tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: "u1", OAuthID: new("sub")})
		}))
		tx, err := h.Begin(ctx)
		must(t, err)
		must(t, tx.Tenants.Insert(ctx, &TenantCatalog{ID: "beta"}))
		if _, err := tx.execText(ctx, "break", "SELECT no_such_column FROM core_tenants"); !errors.Is(err, ErrSchema) {
			t.Errorf("broken statement: %v", err)
		}
		if err := tx.Commit(); err == nil {
			t.Error("commit after a failed statement succeeded")
		}
		must(t, tx.Rollback())
		if err := tx.Commit(); err == nil {
			t.Error("commit after the end succeeded")
		}
		if _, err := h.Tenants.Get(ctx, "beta"); !errors.Is(err, ErrNotFound) {
			t.Errorf("half a transaction was committed: %v", err)
		}
	})
}

func TestActiveMembershipIsNotDoubled(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		first := &Membership{UserID: "u", TenantID: "t"}
		must(t, h.Memberships.Insert(ctx, first))
		if err := h.Memberships.Insert(ctx, &Membership{UserID: "u", TenantID: "t"}); !errors.Is(err, ErrConflict) {
			t.Errorf("second active membership: %v", err)
		}
		idle := &Membership{UserID: "u", TenantID: "t", IsActive: new(false)}
		must(t, h.Memberships.Insert(ctx, idle))
		idle.IsActive = new(true)
		if err := h.Memberships.Update(ctx, idle); !errors.Is(err, ErrConflict) {
			t.Errorf("activating a second membership: %v", err)
		}
		first.IsActive = new(false)
		must(t, h.Memberships.Update(ctx, first))
		must(t, h.Memberships.Update(ctx, idle))
		if err := h.Memberships.Insert(ctx, &Membership{UserID: "u"}); err == nil {
			t.Error("a membership of no tenant was stored")
		}
	})
}

func TestSlugAndTenantIDNeverMeet(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme"}))
		must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "t2"}))
		slug := &Domain{Host: "widgets", TenantID: "acme", Kind: "slug"}
		must(t, h.Domains.Insert(ctx, slug))
		if !slug.Verified {
			t.Error("a slug is not verified")
		}
		for name, err := range map[string]error{
			"slug equal to another tenant's id": h.Domains.Insert(ctx, &Domain{Host: "t2", TenantID: "acme", Kind: "slug"}),
			"slug equal to its own tenant's id": h.Domains.Insert(ctx, &Domain{Host: "acme", TenantID: "acme", Kind: "slug"}),
			"tenant id equal to a slug":         h.Tenants.Insert(ctx, &TenantCatalog{ID: "widgets"}),
			"slug taken":                        h.Domains.Insert(ctx, &Domain{Host: "widgets", TenantID: "t2", Kind: "slug"}),
		} {
			if !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := h.Domains.Insert(ctx, &Domain{Host: "gone", TenantID: "none", Kind: "slug"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("slug of no tenant: %v", err)
		}
		for _, bad := range []Domain{
			{Host: "Acme2", Kind: "slug"},
			{Host: "a.b", Kind: "slug"},
			{Host: "nodots", Kind: "host"},
			{Host: "a..b", Kind: "host"},
			{Host: "-a.b", Kind: "host"},
			{Host: "a b", Kind: "slug"},
			{Host: "münchen.de", Kind: "host"},
			{Host: "", Kind: "slug"},
			{Host: "x", Kind: "other"},
			{Host: DomainName(strings.Repeat("a", 64)), Kind: "slug"},
			{Host: DomainName(strings.Repeat("abcdefgh.", 32) + "de"), Kind: "host"},
		} {
			bad.TenantID = "acme"
			if err := h.Domains.Insert(ctx, &bad); err == nil {
				t.Errorf("%q as %s was stored", bad.Host, bad.Kind)
			}
		}
	})
}

func TestSubjectIsUnique(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "a", OAuthID: new("sub")}))
		if err := h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "b", OAuthID: new("sub")}); !errors.Is(err, ErrConflict) {
			t.Errorf("second user of a subject: %v", err)
		}
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "c", OAuthID: new("")}))
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "d", OAuthID: new("")}))
		if err := h.GlobalUsers.Update(ctx, &GlobalUser{ID: "c", OAuthID: new("sub")}); !errors.Is(err, ErrConflict) {
			t.Errorf("linking to a taken subject: %v", err)
		}
	})
}

func TestListPagesByIDAndFilters(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		must(t, h.InTx(ctx, func(tx *Tx) error {
			for _, id := range []UserID{"e", "a", "c", "b", "d"} {
				if err := tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: id, Email: new("same"), IsSysAdmin: new(id == "c")}); err != nil {
					return err
				}
			}
			return nil
		}))
		var got []string
		after := ""
		for range 4 {
			page, next, err := h.GlobalUsers.List(ctx, Page{After: after, Limit: 2, Filter: map[string]string{"email": "same"}})
			must(t, err)
			for _, u := range page {
				got = append(got, string(u.ID))
			}
			if after = next; next == "" {
				break
			}
		}
		if strings.Join(got, "") != "abcde" {
			t.Errorf("paged %v", got)
		}
		admins, _, err := h.GlobalUsers.List(ctx, Page{Filter: map[string]string{"is_sys_admin": "true"}})
		must(t, err)
		if len(admins) != 1 || admins[0].ID != "c" {
			t.Errorf("admins %+v", admins)
		}
		for _, filter := range []map[string]string{
			{"no_such": "x"}, {"id = '' OR 1=1 --": "x"}, {"is_sys_admin": "maybe"}, {"password_hash": "x"},
		} {
			if _, _, err := h.GlobalUsers.List(ctx, Page{Filter: filter}); err == nil {
				t.Errorf("filter %v was taken", filter)
			}
		}
		if _, _, err := h.PricingPlans.List(ctx, Page{Filter: map[string]string{"tier_level": "x"}}); err == nil {
			t.Error("a number filter took text")
		}
	})
}

// Rows without an id, as other programs may leave them, hide no row behind them.
func TestListGoesOnBehindRowsWithoutID(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		nameless := []string{"('')"}
		if h.engine == EngineSQLite {
			nameless = append(nameless, "(NULL)", "(NULL)")
		}
		for _, v := range append(nameless, "('a')", "('b')", "('c')") {
			execAs(t, url, h, "INSERT INTO core_tenants (id) VALUES "+v)
		}
		for limit := 1; limit <= 5; limit++ {
			var got []string
			for after, pages := "", 0; pages < 10; pages++ {
				page, next, err := h.Tenants.List(t.Context(), Page{After: after, Limit: limit})
				must(t, err)
				for _, row := range page {
					got = append(got, string(row.ID))
				}
				if after = next; next == "" {
					break
				}
			}
			if want := strings.Repeat(",", len(nameless)) + "a,b,c"; strings.Join(got, ",") != want {
				t.Errorf("limit %d: %q", limit, got)
			}
		}
	})
}

func TestWhatOneEngineCannotStoreBothRefuse(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for name, err := range map[string]error{
			"NUL":     h.GlobalUsers.Insert(ctx, &GlobalUser{Email: new("a\x00b")}),
			"UTF-8":   h.GlobalUsers.Insert(ctx, &GlobalUser{Email: new("a\xffb")}),
			"number":  h.PricingPlans.Insert(ctx, &PricingPlan{ID: "p", AmountMonthly: new(int64(1 << 40))}),
			"session": h.Sessions.Insert(ctx, &Session{ID: "s\x00", UserID: "u"}),
		} {
			if err == nil {
				t.Errorf("%s was stored", name)
			}
		}
		// Looked up, the same texts are names of nothing, and no failure.
		for _, odd := range []string{"a\x00b", "a\xffb", ""} {
			if _, err := h.GlobalUsers.Get(ctx, UserID(odd)); !errors.Is(err, ErrNotFound) {
				t.Errorf("get %q: %v", odd, err)
			}
			if _, ok, err := h.ResolveTenant(ctx, odd, NamePlain); ok || err != nil {
				t.Errorf("resolve %q: %v, %v", odd, ok, err)
			}
			if _, _, err := h.UserBySubject(ctx, odd); !errors.Is(err, ErrNotFound) {
				t.Errorf("subject %q: %v", odd, err)
			}
			if users, err := h.UsersByEmail(ctx, odd); err != nil || len(users) != 0 {
				t.Errorf("e-mail %q: %v, %v", odd, users, err)
			}
			if _, _, _, err := h.SessionUser(ctx, SessionID(odd)); !errors.Is(err, ErrNotFound) {
				t.Errorf("session %q: %v", odd, err)
			}
			if odd != "" {
				f, err := h.GrantFacts(ctx, GrantQuery{User: UserID(odd), Name: odd, Kind: NameDomain})
				if err != nil || f.Tenant != nil || f.User != nil {
					t.Errorf("facts of %q: %+v, %v", odd, f, err)
				}
			}
		}
	})
}
