package acceptance

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

var (
	stripeSteps = flag.Int("stripe.steps", 25, "how many things happen at the stateful Stripe")
	stripeSeed  = flag.Uint64("stripe.seed", 1, "of what happens at the stateful Stripe")
)

const stripeKey = "sk_test_acceptance"

// stripeWorld is a stateful Stripe and two replicas on one database, all by one clock.
type stripeWorld struct {
	t        *testing.T
	dsn      string
	clock    *movedClock
	fake     *stripefake.Server
	replicas [2]*gatetest.World
	signer   *ledger.Signer
}

// newStripeWorld starts them; with an API key the replicas ask the Stripe. No endpoint is registered yet.
func newStripeWorld(t *testing.T, dsn string, key bool, app http.Handler, edit func(*stripefake.Config)) *stripeWorld {
	t.Helper()
	w := &stripeWorld{t: t, dsn: dsn, clock: &movedClock{}}
	seed(t, dsn)
	server := httptest.NewUnstartedServer(nil)
	cfg := stripefake.Config{
		Origin: "http://" + server.Listener.Addr().String(), Keys: []stripefake.Key{{Secret: secret.New(stripeKey)}},
		Clock: w.clock.now, DeliveryClock: w.clock.now,
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if w.fake, err = stripefake.New(cfg); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = w.fake
	server.Start()
	t.Cleanup(server.Close)
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProvider(people, gatetest.PublicURL(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	public := gatetest.PublicURL(l)
	for i := range w.replicas {
		w.replicas[i] = gatetest.New(t, gatetest.Options{
			HostURL: dsn, App: app, Provider: provider, Listener: l, Clock: w.clock.now,
			Configure: func(c *config.Config) {
				c.PublicURL, c.Billing.Stripe.WebhookSecret = public, secret.New(webhookSecret)
				if key {
					c.Billing.Stripe.APIKey, c.Billing.Stripe.APIURL = secret.New(stripeKey), server.URL
				}
			},
		})
		l = nil // the second takes any
	}
	w.prices()
	return w
}

func (w *stripeWorld) host() *catalog.HostDatabase { return w.replicas[0].Gate.Host() }

// prices makes two plans with a price each, and reads the key that signs metadata.
func (w *stripeWorld) prices() {
	w.t.Helper()
	for _, plan := range []string{"small", "large"} {
		product := w.fake.AddProduct(stripefake.Product{Name: plan})
		w.fake.AddPrice(stripefake.Price{ID: "price_" + plan, Product: product, Cents: 900, Interval: "month"})
		row := &catalog.PricingPlan{ID: catalog.PlanID(plan), Name: new(plan), StripePriceMonthly: new("price_" + plan)}
		if err := w.host().PricingPlans.Insert(w.t.Context(), row); err != nil {
			w.t.Fatal(err)
		}
	}
	keys, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.signer, err = ledger.LoadSigner(w.t.Context(), w.host(), keys); err != nil {
		w.t.Fatal(err)
	}
}

// endpoint registers a replica's endpoint for what happens from now on.
func (w *stripeWorld) endpoint(replica int, version string) {
	w.fake.AddEndpoint(stripefake.Endpoint{
		URL: "http://" + w.replicas[replica].Addr + "/_gate/webhooks/stripe", Host: strings.TrimPrefix(w.replicas[0].URL, "http://"),
		Secrets: []secret.Text{secret.New(webhookSecret)}, APIVersion: version,
	})
}

// subscribe begins a subscription of a tenant's customer as our checkout would.
func (w *stripeWorld) subscribe(tenant, customer, price string, trial int64) string {
	return w.fake.AddSubscription(stripefake.Subscribe{
		Customer: customer, Price: price, TrialDays: trial,
		Metadata: map[string]string{ledger.MetadataTenant: tenant, ledger.MetadataSignature: w.signer.Sign(catalog.TenantID(tenant), customer)},
	})
}

// lives has things happen to the customers of some tenants, in an order that r chooses, while deliveries go on.
func (w *stripeWorld) lives(r *rand.Rand, tenants []string) {
	w.t.Helper()
	subs, customers := map[string]string{}, map[string]string{}
	for _, tenant := range tenants {
		customers[tenant] = w.fake.AddCustomer(stripefake.Customer{Card: stripefake.CardPays})
	}
	price := func() string { return []string{"price_small", "price_large"}[r.IntN(2)] }
	for range *stripeSteps {
		w.clock.move(time.Second + time.Duration(r.IntN(2))*time.Duration(r.Int64N(int64(12*24*time.Hour))))
		tenant := tenants[r.IntN(len(tenants))]
		sub, customer := subs[tenant], customers[tenant]
		switch n := r.IntN(10); {
		case sub == "" || n == 0 || w.fake.Get(sub)["status"] == "canceled": // another one, while the first may be paid for
			subs[tenant] = w.subscribe(tenant, customer, price(), int64(r.IntN(2)*14))
		case n == 1:
			w.fake.Cancel(sub)
		case n <= 3:
			w.fake.CancelAtPeriodEnd(sub, n == 2)
		case n <= 6:
			w.fake.SwitchPrice(sub, price())
		default:
			w.fake.SetCard(customer, []stripefake.Card{stripefake.CardPays, stripefake.CardDeclines}[n%2])
		}
		if r.IntN(3) > 0 {
			if _, err := w.fake.Deliver(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// badly shuffles, repeats and holds back deliveries.
func badly(r *rand.Rand) func([]stripefake.Delivery) []stripefake.Delivery {
	mixed := stripefake.Mixed(r)
	return func(round []stripefake.Delivery) []stripefake.Delivery {
		round = mixed(round)
		return round[:len(round)-r.IntN(len(round)/2+1)]
	}
}

// unwell has some of what is asked fail, once by a time-out, and counts the failures.
func unwell(n *atomic.Int32) func(*http.Request) *stripefake.Fault {
	var asked atomic.Int32
	faults := map[int32]*stripefake.Fault{2: {Status: 429}, 3: {Status: 429}, 7: {Hang: true}, 11: {Status: 500}, 12: {Status: 503}, 17: {Cut: true}, 18: {Cut: true}}
	return func(*http.Request) *stripefake.Fault {
		f := faults[asked.Add(1)]
		if f != nil {
			n.Add(1)
		}
		return f
	}
}

func number(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

// atStripe is what a subscription's row should say.
func atStripe(o stripefake.Object) (tenant, said string) {
	item := o["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
	end := number(item["current_period_end"])
	cancels := o["cancel_at_period_end"] == true || number(o["cancel_at"]) == end
	plan := strings.TrimPrefix(item["price"].(map[string]any)["id"].(string), "price_")
	moment := func(n int64) string {
		if n == 0 {
			return ""
		}
		return catalog.Timestamp(time.Unix(n, 0))
	}
	tenant = o["metadata"].(map[string]any)[ledger.MetadataTenant].(string)
	return tenant, fmt.Sprintf("%s %s %s until %s, trial %q, cancels %v", tenant, o["status"], plan, moment(end), moment(number(o["trial_end"])), cancels)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// agrees holds the rows against Stripe: one for each subscription, that says what Stripe says, and the newest entitles if any does.
func (w *stripeWorld) agrees() {
	w.t.Helper()
	rows := map[string]string{}
	all, _, err := w.host().Subscriptions.List(w.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range all {
		if id := orEmpty(s.StripeSubID); id != "" {
			if rows[id] != "" {
				w.t.Errorf("two rows of %s", id)
			}
			rows[id] = fmt.Sprintf("%s %s %s until %s, trial %q, cancels %v", s.TenantID, orEmpty(s.Status), orEmpty(s.PlanTier),
				orEmpty(s.CurrentPeriodEnd), orEmpty(s.TrialEnd), s.CancelAtPeriodEnd != nil && *s.CancelAtPeriodEnd)
		}
	}
	pays, late := map[string]bool{}, map[string]bool{}
	for _, o := range w.fake.All("subscription") {
		id, status := o["id"].(string), o["status"].(string)
		tenant, want := atStripe(o)
		entitles := status == "active" || status == "trialing"
		pays[tenant], late[tenant] = pays[tenant] || entitles, late[tenant] || status == "past_due"
		if got, ok := rows[id]; got != want && (ok || entitles || status == "past_due") {
			w.t.Errorf("%s\n\tits row: %s\n\tStripe:  %s", id, got, want)
		}
	}
	rules, err := billing.New(billing.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	for tenant := range pays {
		facts, err := w.host().GrantFacts(w.t.Context(), catalog.GrantQuery{User: "nobody", Tenant: catalog.TenantID(tenant)})
		if err != nil {
			w.t.Fatal(err)
		}
		sub := billing.ParseSince(facts.Subscription, facts.PastDueSince)
		if in := rules.Entitled(w.clock.now(), &sub); in != pays[tenant] && !late[tenant] {
			w.t.Errorf("%s is let in: %v, want %v", tenant, in, pays[tenant])
		}
	}
}

// A stateful Stripe whose deliveries are doubled, shuffled and delayed, and which fails when it is asked, drives two replicas:
// once everything has been taken the rows say what it says.
func TestRowsFollowAStatefulStripe(t *testing.T) {
	for engine, url := range map[string]func(testing.TB) string{catalog.EnginePostgreSQL: pgtest.New, catalog.EngineSQLite: sqliteURL} {
		for _, key := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/key=%v", engine, key), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(*stripeSeed, 7))
				w := newStripeWorld(t, url(t), key, echo, func(cfg *stripefake.Config) { cfg.FlexibleBilling = *stripeSeed%2 == 0 })
				w.endpoint(0, "")
				w.endpoint(1, stripefake.VersionOld)
				var failed atomic.Int32
				w.fake.SetArrange(badly(r))
				w.fake.SetFaults(unwell(&failed))
				w.lives(r, []string{"acme", "globex", "lapsed"})
				w.fake.SetArrange(stripefake.Mixed(r))
				if err := w.fake.DeliverAll(t.Context(), 30); err != nil {
					t.Fatal(err)
				}
				w.agrees()
				if key != (failed.Load() == 7) {
					t.Errorf("%d answers of Stripe's failed", failed.Load())
				}
				if n := len(w.fake.All("event")); n < *stripeSteps/2 {
					t.Errorf("only %d events", n)
				}
			})
		}
	}
}

// An event that one replica took is in force on both within the bound, and ends what is open on the other.
func TestADeliveredEventReachesTheOtherReplicaAndItsStreams(t *testing.T) {
	for engine, url := range map[string]func(testing.TB) string{catalog.EnginePostgreSQL: pgtest.New, catalog.EngineSQLite: sqliteURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			app := newStreamApp()
			w := newStripeWorld(t, url(t), false, app.handler(), nil)
			w.endpoint(0, "")
			first := signedIn(t, w.replicas[0], "lou")
			second := replicas{dsn: w.dsn, a: w.replicas[0], b: w.replicas[1]}.overB(t, first)
			at := w.replicas[0].URL + "/t/lapsed/"
			deliver := func() time.Time {
				t.Helper()
				if err := w.fake.DeliverAll(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				return time.Now()
			}
			become := func(since time.Time, want int) {
				t.Helper()
				for name, c := range map[string]*http.Client{"first": first, "second": second} {
					eventually(t, freshness-time.Since(since), fmt.Sprintf("%d on the %s replica", want, name), func() bool {
						res, _ := fetch(t, c, "GET", at, nil)
						return res.StatusCode == want
					})
				}
				t.Logf("%d on both replicas %s after the event was taken", want, time.Since(since))
			}
			become(time.Now(), http.StatusPaymentRequired)
			sub := w.subscribe("lapsed", w.fake.AddCustomer(stripefake.Customer{Card: stripefake.CardPays}), "price_large", 0)
			become(deliver(), http.StatusOK)

			events := open(t, second, newRequest(t, t.Context(), "GET", at+"events", nil, nil))
			app.events <- "one"
			w.clock.move(time.Second) // an end in the second of the beginning would do too
			w.fake.Cancel(sub)
			taken := deliver()
			if text, err := io.ReadAll(events.Body); err != nil || string(text) != "data: one\n\n" {
				t.Errorf("event stream: %q, %v; want its end", text, err)
			}
			if lag := time.Since(taken); lag > freshness {
				t.Errorf("the stream ended %s after the event was taken", lag)
			} else {
				t.Logf("the stream ended %s after the event was taken", lag)
			}
			await(t, app.gone, "the app's request to end")
			become(taken, http.StatusPaymentRequired)
		})
	}
}
