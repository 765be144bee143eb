package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/demoapp"
	"github.com/tenantgate/tenantgate/internal/devidp"
)

// subjectPrefix stands before the provider's subjects in GlobalUser.oauth_id.
const subjectPrefix = "demo:"

// tenant is a tenant of the demo. Its id is its name in the path, unless a slug is.
type tenant struct {
	id, slug, name string
	plan, status   string
	suspended      bool
	period         time.Duration // until current_period_end
	file           string
}

func (t tenant) pathName() string {
	if t.slug != "" {
		return t.slug
	}
	return t.id
}

func tenants() []tenant {
	const month = 30 * 24 * time.Hour
	return []tenant{
		{id: "5b0f2f6c9d3e4c7fa1d86e4b7c20aa01", slug: "acme", name: "Acme GmbH", plan: "pro", status: "active", period: month, file: "acme.db"},
		{id: "globex", name: "Globex Corporation", plan: "enterprise", status: "trialing", period: month, file: "globex.db"},
		{id: "hooli", name: "Hooli", plan: "basic", status: "active", period: month, file: "hooli.db"},
		{id: "initech", name: "Initech", plan: "basic", status: "canceled", period: -month, file: "initech.db"},
		{id: "umbrella", name: "Umbrella Ltd", plan: "pro", status: "active", suspended: true, period: month, file: "umbrella.db"},
	}
}

func plans() []catalog.PricingPlan {
	plan := func(id, name, about string, cents, tier int64, features string) catalog.PricingPlan {
		return catalog.PricingPlan{
			ID: catalog.PlanID(id), StripePriceMonthly: new(monthlyPrice(id)), StripePriceYearly: new(yearlyPrice(id)), Name: &name, Description: &about, AmountMonthly: &cents, AmountYearly: new(cents * 10),
			Currency: new("eur"), TrialDays: new(int64(14)), Features: &features, TierLevel: &tier, IsActive: new(true), SortOrder: &tier,
		}
	}
	return []catalog.PricingPlan{
		plan("basic", "Basic", "Invoices and customers", 1900, 1, `["invoices"]`),
		plan("pro", "Pro", "Invoices, customers and reports", 4900, 2, `["invoices","advanced_analytics"]`),
		plan("enterprise", "Enterprise", "Everything", 19900, 3, `["all_features"]`),
	}
}

// person is somebody at the provider's page. The host database knows only some of them.
type person struct {
	devidp.Person
	known bool
	roles [][2]string // tenant's path name, role
}

func cast() []person {
	who := func(subject, mail, name, note string, known bool, roles ...[2]string) person {
		return person{devidp.Person{Subject: subject, Email: mail, EmailVerified: true, Name: name, Note: note}, known, roles}
	}
	return []person{
		who("olivia", "olivia@acme.example", "Olivia Ortega", "Owner of Acme, which pays for Pro", true, [2]string{"acme", "owner"}),
		who("mara", "mara@lindqvist.example", "Mara Lindqvist", "Member of Acme, admin of Globex: chooses between two", true,
			[2]string{"acme", "member"}, [2]string{"globex", "admin"}),
		who("noor", "noor@hooli.example", "Noor Haddad", "Owner of Hooli, whose plan has no reports", true, [2]string{"hooli", "owner"}),
		who("luis", "luis@initech.example", "Luís Pereira", "Member of Initech, whose subscription lapsed", true, [2]string{"initech", "member"}),
		who("petra", "petra@initech.example", "Petra Novotná", "Owner of Initech, which does not pay: can choose a plan", true, [2]string{"initech", "owner"}),
		who("sofia", "sofia@umbrella.example", "Sofia Novák", "Member of Umbrella, which is suspended", true, [2]string{"umbrella", "member"}),
		who("kim", "kim@nowhere.example", "Kim Tanaka", "Has an account, but is a member of nothing", true),
		who("sam", "sam@elsewhere.example", "Sam Stranger", "A stranger: has no account here", false),
	}
}

func people() []devidp.Person {
	var out []devidp.Person
	for _, p := range cast() {
		out = append(out, p.Person)
	}
	return out
}

// Seed makes the tenants' databases in dir/tenants and fills an empty host database with plans, tenants, people and
// what they pay, all of it or nothing, with its audit rows. A host database that has tenants keeps what it has; only
// where dir has moved are the tenants' URIs led to it. dir must be an absolute path of printable ASCII.
func Seed(ctx context.Context, host *catalog.HostDatabase, dir string) error {
	return seed(ctx, host, dir, time.Now())
}

func seed(ctx context.Context, host *catalog.HostDatabase, dir string, now time.Time) error {
	if !filepath.IsAbs(dir) || !plain(dir) {
		return fmt.Errorf("%w: the demo's directory %q must be an absolute path of printable ASCII", ErrUsage, dir)
	}
	at := filepath.Join(dir, "tenants")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return fmt.Errorf("fill the demo: %w", err)
	}
	for _, t := range tenants() {
		if err := demoapp.SeedTenant(ctx, filepath.Join(at, t.file), t.name); err != nil {
			return fmt.Errorf("fill the demo: %w", err)
		}
	}
	err := host.InTx(ctx, func(tx *catalog.Tx) error {
		there, _, err := tx.Tenants.List(ctx, catalog.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(there) > 0 {
			return follow(ctx, tx, at)
		}
		return fill(ctx, tx, at, now)
	})
	if err != nil {
		return fmt.Errorf("fill the demo's host database: %w", err)
	}
	return nil
}

func uriOf(at string, t tenant) catalog.DBURI {
	return catalog.NewDBURI("sqlite:" + filepath.Join(at, t.file))
}

func fill(ctx context.Context, tx *catalog.Tx, at string, now time.Time) error {
	for _, p := range plans() {
		if err := tx.PricingPlans.Insert(ctx, &p); err != nil {
			return err
		}
	}
	ids := make(map[string]catalog.TenantID)
	for _, t := range tenants() {
		ids[t.pathName()] = catalog.TenantID(t.id)
		if err := fillTenant(ctx, tx, t, uriOf(at, t), now); err != nil {
			return err
		}
	}
	for _, p := range cast() {
		if !p.known {
			continue
		}
		user := catalog.GlobalUser{ID: catalog.UserID(p.Subject), Email: &p.Email, OAuthID: new(subjectPrefix + p.Subject)}
		if err := tx.GlobalUsers.Insert(ctx, &user); err != nil {
			return err
		}
		for _, in := range p.roles {
			err := tx.Memberships.Insert(ctx, &catalog.Membership{
				UserID: user.ID, TenantID: ids[in[0]], Role: &in[1], ProfileID: new(p.Subject + "-" + in[0]), IsActive: new(true),
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func fillTenant(ctx context.Context, tx *catalog.Tx, t tenant, uri catalog.DBURI, now time.Time) error {
	id := catalog.TenantID(t.id)
	err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, Name: &t.name, DBURL: uri, IsActive: new(!t.suspended), PlanTier: &t.plan})
	if err != nil {
		return err
	}
	if t.slug != "" {
		err := tx.Domains.Insert(ctx, &catalog.Domain{Host: catalog.DomainName(t.slug), TenantID: id, Kind: "slug", Verified: true})
		if err != nil {
			return err
		}
	}
	return tx.Subscriptions.Insert(ctx, &catalog.Subscription{
		TenantID: id, PlanTier: &t.plan, Status: &t.status, PaymentType: new("subscription"),
		StripeSubID: new("sub_demo_" + t.pathName()), StripeCustID: new("cus_demo_" + t.pathName()),
		CurrentPeriodEnd: new(catalog.Timestamp(now.Add(t.period))), CreatedAt: new(catalog.Timestamp(now.AddDate(0, -3, 0))),
	})
}

// follow leads a tenant's URI to its file where that was moved with the directory. What somebody set otherwise stays.
func follow(ctx context.Context, tx *catalog.Tx, at string) error {
	for _, t := range tenants() {
		row, err := tx.Tenants.Get(ctx, catalog.TenantID(t.id))
		if errors.Is(err, catalog.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		old, ours := strings.CutPrefix(row.DBURL.Reveal(), "sqlite:")
		if !ours || filepath.Base(old) != t.file || row.DBURL == uriOf(at, t) {
			continue
		}
		if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		_, err = tx.Tenants.Change(ctx, row.ID, func(row *catalog.TenantCatalog) error {
			row.DBURL = uriOf(at, t)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
