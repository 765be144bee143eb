package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/devidp"
)

// demoPrefix stands before the provider's subjects in oauth_id.
const demoPrefix = "demo:"

// demoTenant is a tenant of the demo, with its database and what it pays.
type demoTenant struct {
	id, name, plan string
	status         string // of its subscription
	active         bool
	left           time.Duration // of the period that is paid; negative: it is over
}

func demoTenants() []demoTenant {
	const year = 365 * 24 * time.Hour
	return []demoTenant{
		{id: "acme", name: "Acme GmbH", plan: "pro", status: "active", active: true, left: year},
		{id: "globex", name: "Globex Corporation", plan: "basic", status: "trialing", active: true, left: year},
		{id: "initech", name: "Initech", plan: "basic", status: "canceled", active: true, left: -30 * 24 * time.Hour},
		{id: "umbrella", name: "Umbrella Ltd", plan: "pro", status: "active", active: false, left: year},
	}
}

func demoPlans() []catalog.PricingPlan {
	return []catalog.PricingPlan{
		{
			ID: "basic", Name: new("Basic"), Description: new("Invoices"), Currency: new("eur"),
			AmountMonthly: new(int64(1900)), TierLevel: new(int64(1)), SortOrder: new(int64(1)), Features: new(`["api_access"]`),
		},
		{
			ID: "pro", Name: new("Pro"), Description: new("Invoices and reports"), Currency: new("eur"),
			AmountMonthly: new(int64(4900)), TierLevel: new(int64(2)), SortOrder: new(int64(2)), Features: new(`["api_access","advanced_analytics"]`),
		},
	}
}

// demoPerson is somebody who can be picked at the provider; without roles, nobody whom the host database knows.
type demoPerson struct {
	devidp.Person
	roles map[string]string // tenant id: role
}

func demoPeople() []demoPerson {
	person := func(subject, name, note string, roles map[string]string) demoPerson {
		return demoPerson{devidp.Person{
			Subject: subject, Name: name, Note: note, Email: subject + "@people.example", EmailVerified: true,
		}, roles}
	}
	return []demoPerson{
		person("olivia", "Olivia Owner", "owner of Acme, which pays", map[string]string{"acme": "owner"}),
		person("max", "Max Both", "member of Acme and admin of Globex: chooses between two", map[string]string{"acme": "member", "globex": "admin"}),
		person("lena", "Lena Lapsed", "owner of Initech, whose subscription has lapsed", map[string]string{"initech": "owner"}),
		person("sam", "Sam Suspended", "member of Umbrella, which is suspended", map[string]string{"umbrella": "member"}),
		person("stranger", "Stella Stranger", "has no account here", nil),
	}
}

// seedDemo fills an empty host database, all of it or nothing. One that has tenants already stays as it is.
func seedDemo(ctx context.Context, host *catalog.HostDatabase, now time.Time, uri func(tenant string) catalog.DBURI) error {
	err := host.InTx(ctx, func(tx *catalog.Tx) error {
		there, _, err := tx.Tenants.List(ctx, catalog.Page{Limit: 1})
		if err != nil || len(there) > 0 {
			return err
		}
		plans := demoPlans()
		for i := range plans {
			if err := tx.PricingPlans.Insert(ctx, &plans[i]); err != nil {
				return err
			}
		}
		for _, t := range demoTenants() {
			if err := seedTenant(ctx, tx, t, now, uri(t.id)); err != nil {
				return err
			}
		}
		for _, p := range demoPeople() {
			if err := seedPerson(ctx, tx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fill the demo's host database: %w", err)
	}
	return nil
}

func seedTenant(ctx context.Context, tx *catalog.Tx, t demoTenant, now time.Time, uri catalog.DBURI) error {
	return errors.Join(
		tx.Tenants.Insert(ctx, &catalog.TenantCatalog{
			ID: catalog.TenantID(t.id), Name: &t.name, DBURL: uri, IsActive: &t.active, PlanTier: &t.plan,
		}),
		tx.Subscriptions.Insert(ctx, &catalog.Subscription{
			TenantID: catalog.TenantID(t.id), PlanTier: &t.plan, Status: &t.status, PaymentType: new("subscription"),
			CurrentPeriodEnd: new(catalog.Timestamp(now.Add(t.left))),
		}),
	)
}

func seedPerson(ctx context.Context, tx *catalog.Tx, p demoPerson) error {
	if len(p.roles) == 0 {
		return nil
	}
	user := catalog.GlobalUser{Email: &p.Email, OAuthID: new(demoPrefix + p.Subject)}
	if err := tx.GlobalUsers.Insert(ctx, &user); err != nil {
		return err
	}
	for tenant, role := range p.roles {
		err := tx.Memberships.Insert(ctx, &catalog.Membership{
			UserID: user.ID, TenantID: catalog.TenantID(tenant), Role: &role, ProfileID: new(p.Subject),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
