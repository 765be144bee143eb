package reconcile

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/webhook"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

// storm is an account whose webhooks reach our endpoint through a bad network.
type storm struct {
	*rig
	mu     sync.Mutex
	rand   *rand.Rand
	calm   bool
	prices []string
	subs   []string
}

// roll is a number below n; 0 means that something goes wrong.
func (s *storm) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calm {
		return n - 1
	}
	return s.rand.IntN(n)
}

// endpoint serves our webhook. Before or after an event is applied the answer may get lost, be late, or be a 500.
func (s *storm) endpoint(source ledger.Source, apiVersion string) {
	s.t.Helper()
	rules, err := billing.New(billing.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	book := ledger.New(ledger.Config{Rules: rules, Mode: ledger.ModeTest}, ledger.Deps{Host: s.host, Source: source, Signer: s.signer, Clock: s.Now})
	const endpointSecret = "whsec_storm"
	hook := webhook.New(webhook.Config{Secrets: secret.New(endpointSecret)}, webhook.Deps{Ledger: book})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		switch s.roll(8) {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1: // applied, and nobody hears of it
			hook.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
		case 2: // applied twice at once
			var group sync.WaitGroup
			for range 2 {
				again := r.Clone(r.Context())
				again.Body = io.NopCloser(bytes.NewReader(body))
				group.Go(func() { hook.ServeHTTP(httptest.NewRecorder(), again) })
			}
			group.Wait()
			panic(http.ErrAbortHandler)
		default:
			hook.ServeHTTP(w, r)
		}
	}))
	s.t.Cleanup(server.Close)
	s.AddEndpoint(stripefake.Endpoint{URL: server.URL, Secrets: []secret.Text{secret.New(endpointSecret)}, APIVersion: apiVersion})
}

// fault is what befalls a request to the API.
func (s *storm) fault(*http.Request) *stripefake.Fault {
	switch s.roll(12) {
	case 0:
		return &stripefake.Fault{Status: 429, RetryAfter: time.Second}
	case 1:
		return &stripefake.Fault{Status: 500}
	case 2:
		return &stripefake.Fault{Cut: true, Done: true}
	case 3:
		return &stripefake.Fault{Delay: 2 * time.Millisecond}
	}
	return nil
}

// arrange mixes deliveries, doubles some and holds some back.
func (s *storm) arrange(round []stripefake.Delivery) []stripefake.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calm {
		return round
	}
	round = stripefake.Mixed(s.rand)(round)
	return round[:len(round)-s.rand.IntN(1+len(round)/2)]
}

// live lets something happen at Stripe.
func (s *storm) live() {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[s.rand.IntN(len(s.subs))]
	customer := fmt.Sprint(s.Get(sub)["customer"])
	switch s.rand.IntN(7) {
	case 0:
		s.SetCard(customer, stripefake.CardDeclines)
	case 1:
		s.SetCard(customer, stripefake.CardPays)
	case 2:
		s.SwitchPrice(sub, s.prices[s.rand.IntN(len(s.prices))])
	case 3:
		s.CancelAtPeriodEnd(sub, s.rand.IntN(2) == 0)
	case 4:
		if s.rand.IntN(3) == 0 {
			s.Cancel(sub)
		}
	}
	s.Advance(time.Duration(s.rand.IntN(4*24)) * time.Hour)
}

// same reports whether every row says what Stripe says, and every subscription that ever entitled has one.
func (s *storm) same() {
	s.t.Helper()
	rows, _, err := s.host.Subscriptions.List(s.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[string]catalog.Subscription{}
	for _, row := range rows {
		if _, twice := found[*row.StripeSubID]; twice {
			s.t.Errorf("%s has two rows", *row.StripeSubID)
		}
		found[*row.StripeSubID] = row
	}
	for _, id := range s.subs {
		want, err := s.api.Subscription(s.t.Context(), ledger.StripeID(id))
		if err != nil {
			s.t.Fatal(err)
		}
		row, ok := found[id]
		if !ok {
			s.t.Errorf("%s: %s at Stripe has no row", id, want.Status)
			continue
		}
		plan := map[ledger.StripeID]string{ledger.StripeID(s.prices[0]): "pro", ledger.StripeID(s.prices[1]): "max"}[want.PriceID]
		got := fmt.Sprint(deref(row.Status), deref(row.CurrentPeriodEnd), *row.CancelAtPeriodEnd, deref(row.PlanTier))
		if is := fmt.Sprint(want.Status, catalog.Timestamp(want.PeriodEnd), want.CancelAtPeriodEnd, plan); got != is {
			s.t.Errorf("%s: %s, Stripe has %s", id, got, is)
		}
	}
}

// rounds is how long the storm lasts; each round something happens, and what is pending is tried once.
var rounds = flag.Int("storm", 10, "rounds of the storm between Stripe and the endpoint")

// Show 3: whatever order, repetition, outage and delay there is, in the end our rows say what Stripe says.
func TestTheStateIsStripesWhateverGoesWrong(t *testing.T) {
	for _, way := range []struct {
		name, version string
		key           bool
		on            func(*testing.T, func(*testing.T, *rig))
	}{
		{"with a key", stripefake.VersionCurrent, true, engines},
		{"events alone", stripefake.VersionCurrent, false, sqlite},
		{"events of an old version", stripefake.VersionOld, false, sqlite},
	} {
		t.Run(way.name, func(t *testing.T) {
			way.on(t, func(t *testing.T, r *rig) {
				s := &storm{rig: r, rand: rand.New(rand.NewPCG(7, uint64(len(way.name))))}
				for _, id := range []catalog.PlanID{"pro", "max"} {
					s.prices = append(s.prices, r.price())
					if err := r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: id, StripePriceMonthly: &s.prices[len(s.prices)-1]}); err != nil {
						t.Fatal(err)
					}
				}
				var source ledger.Source
				if way.key {
					source = r.api
				}
				s.endpoint(source, way.version)
				s.SetArrange(s.arrange)
				s.SetFaults(s.fault)
				for i := range 5 {
					s.subs = append(s.subs, s.subscribe(fmt.Sprintf("t%d", i), s.prices[i%2]))
				}
				for range *rounds {
					s.live()
					if _, err := s.Deliver(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				s.mu.Lock()
				s.calm = true
				s.mu.Unlock()
				if err := s.DeliverAll(t.Context(), 5); err != nil {
					t.Fatal(err)
				}
				s.same()
				if report := s.run(true); len(report.Changes) != 0 || len(report.Missed) != 0 || len(report.Problems) != 0 {
					t.Errorf("reconcile finds %q, missed %v, problems %q", said(report), report.Missed, report.Problems)
				}
			})
		})
	}
}
