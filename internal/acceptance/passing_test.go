package acceptance

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/provision"
)

// passing is a whole gate on a database of fh-saas, whose time the test moves on: requests, rows, leases and jobs.
type passing struct {
	t     *testing.T
	dsn   string
	clock movedClock
	fake  *stripefake.Server
	host  *catalog.HostDatabase
}

func newPassing(t *testing.T, dsn string) *passing {
	p := &passing{t: t, dsn: dsn}
	server := httptest.NewUnstartedServer(nil)
	var err error
	p.fake, err = stripefake.New(stripefake.Config{
		Origin: "http://" + server.Listener.Addr().String(), Keys: []stripefake.Key{{Secret: secret.New(stripeKey)}},
		Clock: p.clock.now, DeliveryClock: p.clock.now,
	})
	p.must(err)
	server.Config.Handler = p.fake
	server.Start()
	t.Cleanup(server.Close)
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: echo, People: people, Clock: p.clock.now, Configure: func(c *config.Config) {
			c.HostDatabase.Clock, c.HostDatabase.SharedClock = p.clock.now, p.clock.now
			c.Billing.Stripe.APIKey, c.Billing.Stripe.APIURL = secret.New(stripeKey), server.URL
		},
	})
	p.host = w.Gate.Host()
	eventually(t, patience, "what comes round is known", func() bool {
		runs, err := p.host.JobRuns(t.Context(), catalog.PeriodicJobID(jobs.CleanUpType))
		return err == nil && len(runs) == 1
	})
	return p
}

func (p *passing) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// after moves the time on, and waits until jobs of these types have come round since and are done.
func (p *passing) after(d time.Duration, types ...string) {
	p.t.Helper()
	p.clock.move(d)
	moved := catalog.Timestamp(p.clock.now())
	for _, jobType := range types {
		eventually(p.t, 4*patience, jobType+" comes round", func() bool {
			row, err := p.host.Jobs.Get(p.t.Context(), catalog.PeriodicJobID(jobType))
			return err == nil && *row.CreatedAt >= moved && *row.Status == catalog.JobCompleted
		})
	}
}

// foreign are all jobs but ours, column by column.
func (p *passing) foreign() (text string, n int) {
	p.t.Helper()
	for _, r := range dump(p.t, p.dsn)["sys_jobs"] {
		if !strings.HasPrefix(r["job_type"], jobs.Prefix) {
			text += r.whole() + "\n"
			n++
		}
	}
	return text, n
}

// subscribeUnheard begins a subscription of which no event is ever delivered.
func (p *passing) subscribeUnheard(tenant string) {
	p.t.Helper()
	keys, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	p.must(err)
	signer, err := ledger.LoadSigner(p.t.Context(), p.host, keys)
	p.must(err)
	product := p.fake.AddProduct(stripefake.Product{Name: "small"})
	p.fake.AddPrice(stripefake.Price{ID: "price_small", Product: product, Cents: 900, Interval: "month"})
	customer := p.fake.AddCustomer(stripefake.Customer{Card: stripefake.CardPays})
	p.fake.AddSubscription(stripefake.Subscribe{Customer: customer, Price: "price_small", Metadata: map[string]string{
		ledger.MetadataTenant: tenant, ledger.MetadataSignature: signer.Sign(catalog.TenantID(tenant), customer),
	}})
}

func (p *passing) subscriptions(tenant string) []catalog.Subscription {
	p.t.Helper()
	subs, _, err := p.host.Subscriptions.List(p.t.Context(), catalog.Page{Filter: map[string]string{"tenant_id": tenant}})
	p.must(err)
	return subs
}

// What a running gate does by the clock alone: an hour in which other programs' jobs stay as they were, then a day, a
// trial's end, and the end of a deleted tenant's retention.
func TestWhatComesRoundWhileAGateRuns(t *testing.T) {
	for _, c := range copies {
		t.Run(c.engine, func(t *testing.T) {
			t.Parallel()
			ctx, p := t.Context(), newPassing(t, c.make(t))
			for _, id := range []catalog.TenantID{"z-paid", "z-tries", "z-goes"} {
				p.must(p.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, IsActive: new(true), PlanTier: new("pro")}))
			}
			execSQL(t, p.dsn, `UPDATE core_subscriptions SET stripe_sub_id = NULL`) // of a Stripe account that is not this one
			before, n := p.foreign()
			if n < 12 {
				t.Fatalf("the copy has few jobs: %s", before)
			}
			tomorrow, trialEnd := catalog.Timestamp(p.clock.now().Add(24*time.Hour)), catalog.Timestamp(p.clock.now().Add(14*24*time.Hour))
			p.must(p.host.Sessions.Insert(ctx, &catalog.Session{ID: "ends", UserID: "u", Host: "h", MAC: "m", ExpiresAt: tomorrow}))
			trial := &catalog.Subscription{
				TenantID: "z-tries", Status: new("trialing"), PlanTier: new("pro"), TrialEnd: &trialEnd, CurrentPeriodEnd: &trialEnd,
				PaymentType: new("subscription"), CreatedAt: new(catalog.Timestamp(p.clock.now())),
			}
			p.must(p.host.Subscriptions.Insert(ctx, trial))
			p.must(p.host.InTx(ctx, func(tx *catalog.Tx) error {
				_, err := jobs.Enqueue(ctx, tx, jobs.Job{Type: provision.TrialEndJob, RunAt: p.clock.now().Add(14 * 24 * time.Hour), Payload: map[string]any{"tenant_id": "z-tries", "subscription_id": trial.ID}})
				return err
			}))
			_, err := p.host.DeleteTenant(ctx, "z-goes", 30*24*time.Hour)
			p.must(err)
			execSQL(t, p.dsn, `INSERT INTO sys_jobs (id, job_type) VALUES ('by-sql', 'tenantgate.clean_up')`)

			p.after(20*time.Minute, jobs.CleanUpType, "tenantgate.reconcile")
			p.after(20*time.Minute, jobs.CleanUpType)
			p.after(20*time.Minute, jobs.CleanUpType)
			if row, err := p.host.Jobs.Get(ctx, "by-sql"); err != nil || *row.Status != catalog.JobCompleted {
				t.Errorf("a row inserted by SQL: %+v, %v", row, err)
			}
			p.subscribeUnheard("z-paid")
			p.after(24*time.Hour, "tenantgate.reconcile", jobs.CleanUpType)
			if n := len(p.subscriptions("z-paid")); n != 1 {
				t.Errorf("a day later: %d subscriptions of the one at Stripe", n)
			}
			if _, _, _, err := p.host.SessionUser(ctx, "ends"); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("a session that ended: %v", err)
			}
			if subs := p.subscriptions("z-tries"); !has(subs, trial.ID, "trialing") {
				t.Errorf("the trial before its end: %+v", subs)
			}
			p.after(13*24*time.Hour, lifecycle.PurgeType)
			eventually(t, patience, "the trial has ended", func() bool { return has(p.subscriptions("z-tries"), trial.ID, "canceled") })
			if row, err := p.host.Tenants.Get(ctx, "z-tries"); err != nil || *row.PlanTier != "free" {
				t.Errorf("its tenant: %+v, %v", row, err)
			}
			if _, err := p.host.Tenants.Get(ctx, "z-goes"); err != nil {
				t.Errorf("the deleted tenant before its retention is over: %v", err)
			}
			p.after(16*24*time.Hour, lifecycle.PurgeType)
			if _, err := p.host.Tenants.Get(ctx, "z-goes"); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("the deleted tenant: %v", err)
			}
			if after, _ := p.foreign(); after != before {
				t.Errorf("other programs' jobs, before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func has(subs []catalog.Subscription, id catalog.SubscriptionID, status string) bool {
	for _, s := range subs {
		if s.ID == id {
			return *s.Status == status
		}
	}
	return false
}
