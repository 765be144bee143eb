package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// seedGrants makes a user with two memberships, slugs, a custom host, plans and subscriptions.
func seedGrants(t *testing.T, h *HostDatabase) {
	t.Helper()
	ctx := t.Context()
	must(t, h.InTx(ctx, func(tx *Tx) error {
		return errors.Join(
			tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: "ann", Email: new("Ann@Example.com"), OAuthID: new("g|ann")}),
			tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: "bob", Email: new("ann@example.COM")}),
			tx.Tenants.Insert(ctx, &TenantCatalog{ID: "t1", Name: new("beta"), PlanTier: new("monthly")}),
			tx.Tenants.Insert(ctx, &TenantCatalog{ID: "T2", Name: new("Alpha"), IsActive: new(false), PlanTier: new("free")}),
			tx.Tenants.Insert(ctx, &TenantCatalog{ID: "t3", Name: new("gamma")}),
			tx.Memberships.Insert(ctx, &Membership{ID: "m1", UserID: "ann", TenantID: "t1", Role: new("owner")}),
			tx.Memberships.Insert(ctx, &Membership{ID: "m2", UserID: "ann", TenantID: "t1", IsActive: new(false)}),
			tx.Memberships.Insert(ctx, &Membership{ID: "m3", UserID: "ann", TenantID: "T2"}),
			tx.Memberships.Insert(ctx, &Membership{ID: "m4", UserID: "bob", TenantID: "t3"}),
			tx.Memberships.Insert(ctx, &Membership{ID: "m5", UserID: "ann", TenantID: "gone"}),
			tx.PricingPlans.Insert(ctx, &PricingPlan{ID: "monthly"}),
			tx.PricingPlans.Insert(ctx, &PricingPlan{ID: "pro", Features: new(`["api"]`)}),
			tx.PricingPlans.Insert(ctx, &PricingPlan{ID: "basic"}),
			tx.PricingPlans.Insert(ctx, &PricingPlan{ID: "other"}),
			tx.Subscriptions.Insert(ctx, &Subscription{ID: "s1", TenantID: "t1", PlanTier: new("pro"), CreatedAt: new("2026-01-02T00:00:00")}),
			tx.Subscriptions.Insert(ctx, &Subscription{ID: "s2", TenantID: "t1", PlanTier: new("x"), PaymentType: new("one_time"), CreatedAt: new("2026-09-09T00:00:00")}),
			tx.Subscriptions.Insert(ctx, &Subscription{ID: "s3", TenantID: "t3"}),
			tx.Domains.Insert(ctx, &Domain{Host: "widgets", TenantID: "t1", Kind: "slug"}),
			tx.Domains.Insert(ctx, &Domain{Host: "portal.acme.com", TenantID: "t1", Kind: "host", Verified: true}),
			tx.Domains.Insert(ctx, &Domain{Host: "new.acme.com", TenantID: "t1", Kind: "host"}),
		)
	}))
}

func ids[T any](rows []T, id func(T) string) string {
	var out []string
	for _, r := range rows {
		out = append(out, id(r))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func membershipIDs(ms []Membership) string {
	return ids(ms, func(m Membership) string { return string(m.ID) })
}

func planIDs(ps []PricingPlan) string {
	return ids(ps, func(p PricingPlan) string { return string(p.ID) })
}

func TestGrantFactsGatherEverythingAtOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1", Aliases: map[string]string{"monthly": "basic", "z": "other"}})
		must(t, err)
		if f.User == nil || f.User.ID != "ann" || f.Blocked || f.Tenant == nil || f.Tenant.ID != "t1" || f.Locks.Paused(fakeNow()) {
			t.Errorf("facts %+v", f)
		}
		if got := membershipIDs(f.Memberships); got != "m1,m2" {
			t.Errorf("memberships %s", got)
		}
		if f.Subscription == nil || f.Subscription.ID != "s1" {
			t.Errorf("subscription %+v: only payment_type subscription counts", f.Subscription)
		}
		if got := planIDs(f.Plans); got != "basic,monthly,pro" {
			t.Errorf("plans %s", got)
		}
		must(t, h.BlockUser(t.Context(), "ann", "left"))
		must(t, h.PauseTenant(t.Context(), "t1", "moving", time.Time{}))
		f, err = h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
		must(t, err)
		if !f.Blocked || !f.Locks.Paused(fakeNow()) || planIDs(f.Plans) != "monthly,pro" {
			t.Errorf("blocked %v, paused %v, plans %s", f.Blocked, f.Locks.Paused(fakeNow()), planIDs(f.Plans))
		}
	})
}

// ENUM-1: what is not there and what is not the user's differ in the facts alone, not in the statement.
func TestGrantFactsOfWhatIsNotThere(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		ctx := t.Context()
		f, err := h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "none"})
		must(t, err)
		if f.User == nil || f.Tenant != nil || len(f.Memberships) != 0 || f.Subscription != nil || f.Plans != nil {
			t.Errorf("no tenant: %+v", f)
		}
		f, err = h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "gone"})
		must(t, err)
		if f.Tenant != nil || len(f.Memberships) != 0 {
			t.Errorf("a membership of a tenant that is gone shows: %+v", f)
		}
		f, err = h.GrantFacts(ctx, GrantQuery{User: "nobody", Tenant: "t1"})
		must(t, err)
		if f.User != nil || f.Tenant == nil || len(f.Memberships) != 0 {
			t.Errorf("no user: %+v", f)
		}
		f, err = h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "t3"})
		must(t, err)
		if f.Tenant == nil || len(f.Memberships) != 0 {
			t.Errorf("another's tenant: %+v", f)
		}
		for _, q := range []GrantQuery{{User: "ann"}, {User: "ann", Tenant: "t1", Name: "t1"}} {
			if _, err := h.GrantFacts(ctx, q); err == nil {
				t.Errorf("query %+v was taken", q)
			}
		}
	})
}

// HOST-1, TEN-2: which spelling names whom.
func TestTenantNames(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		for _, c := range []struct {
			name string
			kind NameKind
			want TenantID
		}{
			{"t1", NamePlain, "t1"},
			{"T1", NamePlain, ""}, // an id is exact
			{"T2", NamePlain, "T2"},
			{"t2", NamePlain, ""},
			{"widgets", NamePlain, "t1"},
			{"WIDgets", NamePlain, "t1"}, // a slug is folded
			{"portal.acme.com", NamePlain, ""},
			{"t1", NameHost, "t1"},
			{"widgets", NameHost, "t1"},
			{"t2", NameHost, ""},
			{"portal.acme.com", NameDomain, "t1"},
			{"new.acme.com", NameDomain, ""}, // not verified
			{"widgets", NameDomain, ""},
			{"t1", NameDomain, ""},
			{"x' OR '1'='1", NamePlain, ""},
			{"ſ", NamePlain, ""},
		} {
			got, ok, err := h.ResolveTenant(t.Context(), c.name, c.kind)
			if err != nil || got != c.want || ok != (c.want != "") {
				t.Errorf("ResolveTenant(%q, %d) = %q, %v, %v; want %q", c.name, c.kind, got, ok, err, c.want)
			}
			f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Name: c.name, Kind: c.kind})
			must(t, err)
			if (f.Tenant == nil) != (c.want == "") || f.Tenant != nil && f.Tenant.ID != c.want {
				t.Errorf("GrantFacts(%q, %d) names %+v; want %q", c.name, c.kind, f.Tenant, c.want)
			}
		}
	})
}

// Another program may break the rule that no slug equals an id: the id wins.
func TestIDWinsOverSlug(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		execAs(t, url, h, "INSERT INTO tenantgate.core_tenant_domains (host, tenant_id, kind, verified) VALUES ('t3', 't1', 'slug', true)")
		got, _, err := h.ResolveTenant(t.Context(), "t3", NamePlain)
		if err != nil || got != "t3" {
			t.Errorf("resolved %q, %v", got, err)
		}
	})
}

func TestUserGrantsListsTenantsByNameWithTheirFacts(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		all, err := h.UserGrants(t.Context(), "ann", map[string]string{"monthly": "basic"}, 0)
		must(t, err)
		if len(all) != 2 || all[0].Tenant.ID != "T2" || all[1].Tenant.ID != "t1" {
			t.Fatalf("grants %+v", all)
		}
		one, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1", Aliases: map[string]string{"monthly": "basic"}})
		must(t, err)
		if a, b := asJSON(t, sorted(one)), asJSON(t, sorted(all[1])); a != b {
			t.Errorf("the same tenant's facts differ:\n%s\n%s", a, b)
		}
		first, err := h.UserGrants(t.Context(), "ann", nil, 1)
		must(t, err)
		if len(first) != 1 || first[0].Tenant.ID != "T2" {
			t.Errorf("limit 1: %+v", first)
		}
		none, err := h.UserGrants(t.Context(), "nobody", nil, 0)
		if err != nil || len(none) != 0 {
			t.Errorf("nobody's grants: %v, %v", none, err)
		}
	})
}

func sorted(f GrantFacts) GrantFacts {
	slices.SortFunc(f.Memberships, func(a, b Membership) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(f.Plans, func(a, b PricingPlan) int { return cmp.Compare(a.ID, b.ID) })
	return f
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

// execAs runs a statement as another program would, written for PostgreSQL.
func execAs(t testing.TB, url string, h *HostDatabase, text string) {
	t.Helper()
	_, err := h.write.ExecContext(t.Context(), dialect(h.engine, text))
	must(t, err)
}

func TestNewestSubscriptionByTextThenStripeIDThenID(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for tenant, rows := range map[TenantID][]string{
			// id|stripe_sub_id|created_at; the first is the one that counts. NULL is written as -.
			"fraction":  {"a|x|2026-01-01T00:00:00.5", "b|z|2026-01-01T00:00:00"},
			"z-suffix":  {"a|x|2026-01-01T00:00:00Z", "b|z|2026-01-01T00:00:00"},
			"null-last": {"a|x|2020", "b|z|-"},
			"stripe":    {"a|sub_b|2026", "z|sub_a|2026"},
			"stripe-C":  {"a|sub_a|2026", "z|sub_B|2026"}, // by bytes, not by any language's alphabet
			"id":        {"b|sub|2026", "a|sub|2026"},
			"no-stripe": {"a|x|-", "b|-|-"},
		} {
			for _, r := range rows {
				part := strings.Split(r, "|")
				text := "INSERT INTO core_subscriptions (id, tenant_id, stripe_sub_id, created_at, payment_type) VALUES ('" +
					string(tenant) + part[0] + "', '" + string(tenant) + "', '" + part[1] + "', '" + part[2] + "', 'subscription')"
				execAs(t, url, h, strings.ReplaceAll(text, "'-'", "NULL"))
			}
			must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: tenant}))
			must(t, h.Memberships.Insert(ctx, &Membership{UserID: "u", TenantID: tenant}))
			want := SubscriptionID(string(tenant) + strings.Split(rows[0], "|")[0])
			f, err := h.GrantFacts(ctx, GrantQuery{User: "u", Tenant: tenant})
			must(t, err)
			if f.Subscription == nil || f.Subscription.ID != want {
				t.Errorf("%s: %+v, want %s", tenant, f.Subscription, want)
			}
		}
		all, err := h.UserGrants(ctx, "u", nil, 0)
		must(t, err)
		for _, f := range all {
			one, err := h.GrantFacts(ctx, GrantQuery{User: "u", Tenant: f.Tenant.ID})
			must(t, err)
			if one.Subscription.ID != f.Subscription.ID {
				t.Errorf("%s: UserGrants %s, GrantFacts %s", f.Tenant.ID, f.Subscription.ID, one.Subscription.ID)
			}
		}
		if len(all) != 7 {
			t.Errorf("%d grants", len(all))
		}
	})
}

// Contract section 6, Duplicates: of several users with one oauth_id the smallest (created_at, id), NULL last.
func TestDoubledSubjectMeansTheEldest(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		execAs(t, url, h, "DROP INDEX tenantgate_users_oauth_id_unique")
		for _, v := range []string{
			"('n', 'sub', NULL)", "('b', 'sub', '2026-01-01T00:00:00')", "('B', 'sub', '2026-01-01T00:00:00')",
			"('a', 'sub', '2026-01-01T00:00:00.1')", "('z', '', '2020')", "('', 'nameless', '2020')",
		} {
			execAs(t, url, h, "INSERT INTO core_users (id, oauth_id, created_at) VALUES "+v)
		}
		u, blocked, err := h.UserBySubject(t.Context(), "sub")
		if err != nil || blocked || u.ID != "B" {
			t.Errorf("user %+v, %v, %v", u, blocked, err)
		}
		for _, none := range []string{"", "SUB", "sub ", "nameless"} {
			if _, _, err := h.UserBySubject(t.Context(), none); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", none, err)
			}
		}
		must(t, h.BlockUser(t.Context(), "B", ""))
		if _, blocked, err := h.UserBySubject(t.Context(), "sub"); err != nil || !blocked {
			t.Errorf("blocked %v, %v", blocked, err)
		}
	})
}

// ID-1, LINK-2: addresses are folded in ASCII alone, or two people would become one.
func TestEmailIsFoldedInASCIIAlone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		seedGrants(t, h)
		ctx := t.Context()
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "dotted", Email: new("İ@example.com")}))
		must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "kelvin", Email: new("\u212A@example.com")}))
		for email, want := range map[string]string{
			"ANN@example.com": "ann,bob", "i@example.com": "", "k@example.com": "", "\u212A@EXAMPLE.com": "kelvin", "ann@example.com ": "",
		} {
			users, err := h.UsersByEmail(ctx, email)
			must(t, err)
			if got := ids(users, func(u GlobalUser) string { return string(u.ID) }); got != want {
				t.Errorf("%q: %s, want %s", email, got, want)
			}
		}
	})
}

// fhSaas makes the URL of a database that holds fh-saas's dump.
func loadFHSaas(t *testing.T, url string) {
	t.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		loadSQLite(t, strings.TrimPrefix(url, "sqlite:"), "testdata/fh_saas_host_sqlite.sql")
		return
	}
	loadPostgres(t, url)
}

// What fh-saas answered on its own rows, over all pairs of user and tenant.
func TestFactsOfTheDumpMatchFHSaas(t *testing.T) {
	var want struct {
		VerifyMembershipTrue [][2]string        `json:"verify_membership_true"`
		UserByOAuthID        map[string]*string `json:"user_by_oauth_id"`
		Subscriptions        map[string]struct {
			Active *string `json:"get_active_subscription"`
			Status struct {
				Has bool `json:"has_subscription"`
			} `json:"get_subscription_status"`
		} `json:"subscriptions"`
	}
	text, err := os.ReadFile("testdata/fh_saas_host_expected.json")
	must(t, err)
	must(t, json.Unmarshal(text, &want))
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		h := openTest(t, url)
		ctx := t.Context()
		users, _, err := h.GlobalUsers.List(ctx, Page{Limit: 1000})
		must(t, err)
		tenants, _, err := h.Tenants.List(ctx, Page{Limit: 1000})
		must(t, err)
		if len(users) != 50 || len(tenants) != 20 {
			t.Fatalf("%d users, %d tenants", len(users), len(tenants))
		}
		members := map[[2]string]bool{}
		for _, pair := range want.VerifyMembershipTrue {
			members[pair] = true
		}
		for _, u := range users {
			for _, ten := range tenants {
				f, err := h.GrantFacts(ctx, GrantQuery{User: u.ID, Tenant: ten.ID})
				must(t, err)
				active := slices.ContainsFunc(f.Memberships, func(m Membership) bool { return m.IsActive != nil && *m.IsActive })
				if active != members[[2]string{string(u.ID), string(ten.ID)}] {
					t.Errorf("user %s, tenant %s: active membership %v", u.ID, ten.ID, active)
				}
				if s := want.Subscriptions[string(ten.ID)]; s.Active != nil && (f.Subscription == nil || string(f.Subscription.ID) != *s.Active) ||
					!s.Status.Has && s.Active == nil && f.Subscription != nil && isOneOf(*f.Subscription.Status, "active", "trialing") {
					t.Errorf("tenant %s: newest subscription %+v, want %v", ten.ID, f.Subscription, s.Active)
				}
				if asJSON(t, *f.Tenant) != asJSON(t, ten) || f.Tenant.DBURL != ten.DBURL || asJSON(t, *f.User) != asJSON(t, u) {
					t.Errorf("facts and rows differ for %s, %s", u.ID, ten.ID)
				}
			}
		}
		for sub, id := range want.UserByOAuthID {
			u, _, err := h.UserBySubject(ctx, sub)
			if id == nil {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("subject %q: %+v, %v", sub, u, err)
				}
				continue
			}
			if err != nil || string(u.ID) != *id {
				t.Errorf("subject %q: %+v, %v, want %s", sub, u, err, *id)
			}
		}
	})
}

func isOneOf(s string, of ...string) bool { return slices.Contains(of, s) }

// SQLite stores anything anywhere: odd rows count as NULL, which grants nothing, and take nobody else down.
func TestOddSQLiteValuesGrantNothing(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/host.db"
	h := openTest(t, url)
	for _, text := range []string{
		"INSERT INTO core_users (id, is_sys_admin, email) VALUES ('u', 'yes', x'ff00')",
		"INSERT INTO core_tenants (id, is_active, db_url) VALUES ('t', 7, 42)",
		"INSERT INTO core_memberships (id, user_id, tenant_id, is_active, role) VALUES (NULL, 'u', 't', 'true', 1)",
		"INSERT INTO core_memberships (id, user_id, tenant_id, is_active) VALUES (NULL, 'u', 't', x'01')",
		"INSERT INTO core_subscriptions (id, tenant_id, payment_type, amount_cents) VALUES (NULL, 't', 'subscription', 'much')",
		"INSERT INTO core_pricing_plans (id, tier_level, is_active) VALUES ('p', 'high', 2.5)",
	} {
		execAs(t, url, h, text)
	}
	f, err := h.GrantFacts(t.Context(), GrantQuery{User: "u", Tenant: "t"})
	must(t, err)
	if f.User.IsSysAdmin != nil || f.Tenant.IsActive != nil || f.Tenant.DBURL.Reveal() != "42" || len(f.Memberships) != 2 ||
		f.Memberships[0].IsActive != nil || f.Memberships[1].IsActive != nil || f.Subscription == nil || f.Subscription.AmountCents != nil {
		t.Errorf("facts %+v", f)
	}
	p, err := h.PricingPlans.Get(t.Context(), "p")
	if err != nil || p.TierLevel != nil || p.IsActive != nil {
		t.Errorf("plan %+v, %v", p, err)
	}
	all, err := h.UserGrants(t.Context(), "u", nil, 0)
	if err != nil || len(all) != 1 || len(all[0].Memberships) != 2 || all[0].Subscription == nil {
		t.Errorf("grants %+v, %v", all, err)
	}
}
