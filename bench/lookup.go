package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// lookup measures the routing look-up, user and tenant to grant, one after the other, of random members.
func lookup(ctx context.Context, s hostSettings, d *hostDB) error {
	sh := shapeOf(d.size)
	begin := time.Now()
	if err := d.fill(ctx, sh, 0); err != nil {
		return err
	}
	filled := time.Since(begin)
	begin = time.Now()
	if _, err := catalog.Migrate(ctx, catalog.Config{URL: catalog.NewDBURI(d.url)}); err != nil {
		return err
	}
	migrated := time.Since(begin)
	if err := d.analyze(ctx); err != nil {
		return err
	}
	h, err := catalog.Open(ctx, d.url)
	if err != nil {
		return err
	}
	defer h.Close()
	random := rand.New(rand.NewPCG(1, 2))
	ask := func() (time.Duration, error) {
		u, t := sh.pair(random.Int64N(int64(sh.memberships)))
		q := catalog.GrantQuery{User: catalog.UserID(identifier(u, kindUser)), Tenant: catalog.TenantID(identifier(t, kindTenant))}
		begin := time.Now()
		f, err := h.GrantFacts(ctx, q)
		took := time.Since(begin)
		if err == nil && (f.User == nil || f.Tenant == nil || len(f.Memberships) == 0 || f.Subscription == nil || len(f.Plans) != 1) {
			err = fmt.Errorf("the facts of a member are incomplete: %d memberships, %d plans", len(f.Memberships), len(f.Plans))
		}
		return took, err
	}
	for range 2000 { // statements are compiled, caches warm
		if _, err := ask(); err != nil {
			return err
		}
	}
	var all []time.Duration
	for end := time.Now().Add(s.duration); time.Now().Before(end); {
		took, err := ask()
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	slices.Sort(all)
	fmt.Printf("lookup, %s, %d memberships, %d users, %d tenants: p50 %s, p90 %s, p99 %s, %d look-ups (filled in %s, migrated in %s)\n",
		d.engine, sh.memberships, sh.users, sh.tenants, percentile(all, 0.5), percentile(all, 0.9), percentile(all, 0.99), len(all),
		filled.Round(time.Millisecond), migrated.Round(time.Millisecond))
	u, t := sh.pair(int64(sh.memberships / 2))
	plan, err := h.ExplainGrantFacts(ctx, catalog.GrantQuery{
		User: catalog.UserID(identifier(u, kindUser)), Tenant: catalog.TenantID(identifier(t, kindTenant)),
	})
	if err != nil {
		return err
	}
	fmt.Println(indent(plan))
	return nil
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

// analyze lets the engine know what was filled in.
func (d *hostDB) analyze(ctx context.Context) error {
	db, err := d.open()
	if err != nil {
		return err
	}
	defer db.Close()
	text := "ANALYZE"
	if d.engine == catalog.EnginePostgreSQL {
		text = "VACUUM ANALYZE"
	}
	_, err = db.ExecContext(ctx, text)
	return err
}
