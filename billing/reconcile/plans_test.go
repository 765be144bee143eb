package reconcile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (r *rig) sync(dryRun bool) *PlanReport {
	r.t.Helper()
	report, err := SyncPlans(r.t.Context(), r.host, r.api, dryRun)
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

func (r *rig) plan(id catalog.PlanID) string {
	r.t.Helper()
	row, err := r.host.PricingPlans.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	row.CreatedAt = nil
	return jsonOf(r.t, row)
}

// shown is a report in the form that tests compare: plan.column=value, sorted.
func shown(report *PlanReport) string {
	var out []string
	for _, c := range report.Changes {
		out = append(out, fmt.Sprintf("%s.%s=%v", c.Plan, c.Column, c.To))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// What metadata leaves open is shown too: the row that is written has no value that a dry run did not name.
func TestADryRunNamesEveryValueOfANewPlan(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		team := r.AddProduct(stripefake.Product{ID: "prod_team", Name: "Team", Metadata: map[string]string{"plan": "team"}})
		r.AddPrice(stripefake.Price{ID: "price_team", Product: team, Cents: 900})
		const want = `team.amount_monthly=900 team.currency=usd team.is_active=true team.name=Team team.sort_order=0 ` +
			`team.stripe_price_monthly=price_team team.tier_level=1 team.trial_days=0`
		if got := shown(r.sync(true)); got != want {
			t.Errorf("dry run %s", got)
		}
		r.sync(false)
		if got := r.plan("team"); got != `{"id":"team","name":"Team","description":null,"stripe_price_monthly":"price_team","stripe_price_yearly":null,`+
			`"amount_monthly":900,"amount_yearly":null,"currency":"usd","trial_days":0,"features":null,"tier_level":1,"is_active":true,"sort_order":0,"created_at":null}` {
			t.Errorf("written %s", got)
		}
	})
}

func TestPlansFollowProducts(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		pro := r.AddProduct(stripefake.Product{
			ID: "prod_pro", Name: "Pro", Description: "For teams", Features: []string{"Unlimited everything"},
			Metadata: map[string]string{"tenantgate_plan": "pro", "features": "advanced_analytics, exports", "tier_level": "2", "trial_days": "14", "sort_order": "3"},
		})
		r.AddPrice(stripefake.Price{ID: "price_month", Product: pro, Cents: 4900, Currency: "eur"})
		r.AddPrice(stripefake.Price{ID: "price_year", Product: pro, Cents: 49000, Currency: "eur", Interval: "month", Count: 12})
		r.AddPrice(stripefake.Price{ID: "price_week", Product: pro, Cents: 100, Currency: "eur", Interval: "week"})
		r.AddPrice(stripefake.Price{ID: "price_old", Product: pro, Cents: 1, Currency: "eur", Archived: true})
		legacy := r.AddProduct(stripefake.Product{ID: "prod_basic", Name: "Basic", Features: []string{"exports"}})
		r.AddPrice(stripefake.Price{ID: "price_basic", Product: legacy, Cents: 900})
		r.AddProduct(stripefake.Product{Name: "A mug"})
		for _, row := range []catalog.PricingPlan{
			{ID: "basic", StripePriceMonthly: new("price_basic"), AmountMonthly: new(int64(500)), TierLevel: new(int64(7)), TrialDays: new(int64(5))},
			{ID: "free", Name: new("Free")},
			{ID: "lost", StripePriceMonthly: new("price_lost")},
		} {
			if err := r.host.PricingPlans.Insert(ctx, &row); err != nil {
				t.Fatal(err)
			}
		}
		before := r.dump()
		dry := r.sync(true)
		if r.dump() != before || len(r.audited("plan.updated")) != 0 {
			t.Fatal("a dry run wrote")
		}
		const want = `basic.amount_monthly=900 basic.features=["exports"] basic.name=Basic ` +
			`pro.amount_monthly=4900 pro.amount_yearly=49000 pro.currency=eur pro.description=For teams ` +
			`pro.features=["advanced_analytics","exports"] pro.is_active=true pro.name=Pro pro.sort_order=3 ` +
			`pro.stripe_price_monthly=price_month pro.stripe_price_yearly=price_year pro.tier_level=2 pro.trial_days=14`
		if got := shown(dry); got != want {
			t.Errorf("a dry run says\n%s\nwant\n%s", got, want)
		}
		if dry.Foreign != 1 || len(dry.Problems) != 1 || !strings.Contains(dry.Problems[0], "price_lost") {
			t.Errorf("%d foreign, problems %q", dry.Foreign, dry.Problems)
		}
		if got := shown(r.sync(false)); got != want {
			t.Errorf("done:\n%s\nwant\n%s", got, want)
		}
		const wantPro = `{"id":"pro","name":"Pro","description":"For teams","stripe_price_monthly":"price_month","stripe_price_yearly":"price_year",` +
			`"amount_monthly":4900,"amount_yearly":49000,"currency":"eur","trial_days":14,"features":"[\"advanced_analytics\",\"exports\"]",` +
			`"tier_level":2,"is_active":true,"sort_order":3,"created_at":null}`
		if got := r.plan("pro"); got != wantPro {
			t.Errorf("%s\nwant\n%s", got, wantPro)
		}
		if got := r.plan("basic"); !strings.Contains(got, `"tier_level":7`) || !strings.Contains(got, `"trial_days":5`) {
			t.Errorf("what Stripe does not say has changed: %s", got)
		}
		if got := r.audited("plan."); !slices.Contains(got, "plan.updated basic") || !slices.Contains(got, "plan.created pro") {
			t.Errorf("audit %v", got)
		}
		again := r.sync(false)
		if len(again.Changes) != 0 || again.Same != 2 {
			t.Errorf("a second time: %s, %d the same", shown(again), again.Same)
		}
		if got := r.audited("plan.updated"); len(got) != 1 {
			t.Errorf("audit after it: %v", got)
		}
	})
}

// post changes a product or a price as somebody at the dashboard would.
func (r *rig) post(path, form string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+path, strings.NewReader(form))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %d", path, resp.StatusCode)
	}
}

func TestPricesAreChosenAndPlansLeaveOffer(t *testing.T) {
	sqlite(t, func(t *testing.T, r *rig) {
		pro := r.AddProduct(stripefake.Product{ID: "prod_pro", Name: "Pro", Metadata: map[string]string{"plan": "pro"}})
		r.AddPrice(stripefake.Price{ID: "price_1", Product: pro, Cents: 100})
		r.AddPrice(stripefake.Price{ID: "price_y", Product: pro, Cents: 1000, Interval: "year"})
		r.sync(false)
		r.Advance(1)
		r.AddPrice(stripefake.Price{ID: "price_2", Product: pro, Cents: 200})
		if got := shown(r.sync(false)); got != "" {
			t.Errorf("a second price beside the one in use: %s", got)
		}
		r.Edit("prod_pro", func(o stripefake.Object) { o["default_price"] = "price_2" })
		if got := shown(r.sync(false)); got != "pro.amount_monthly=200 pro.stripe_price_monthly=price_2" {
			t.Errorf("another default price: %s", got)
		}
		r.post("/v1/prices/price_y", "active=false")
		if got := shown(r.sync(false)); got != "pro.amount_yearly=<nil> pro.stripe_price_yearly=<nil>" {
			t.Errorf("the year's price archived: %s", got)
		}
		r.post("/v1/products/prod_pro", "active=false")
		if got := shown(r.sync(false)); got != "pro.is_active=false" {
			t.Errorf("the product archived: %s", got)
		}
		r.post("/v1/prices/price_1", "active=false")
		r.post("/v1/prices/price_2", "active=false")
		if got := shown(r.sync(false)); got != "" || !strings.Contains(r.plan("pro"), "price_2") {
			t.Errorf("all prices archived: %s, %s", got, r.plan("pro"))
		}
	})
}

func TestWhatCannotBeAPlanIsReportedAndKeepsNoOtherFromBeingOne(t *testing.T) {
	sqlite(t, func(t *testing.T, r *rig) {
		for name, metadata := range map[string]map[string]string{
			"prod_a": {"plan": "twice"}, "prod_b": {"plan": "twice"}, "prod_c": {"plan": "with space"}, "prod_d": {"plan": "d", "tier_level": "high"},
			"prod_e": {"plan": "e", "trial_days": "731"}, "prod_f": {"plan": "f", "features": `a,"b"`}, "prod_g": {"plan": "good"}, "prod_h": {"plan": "broken"},
		} {
			r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{ID: name, Name: name, Metadata: metadata}), Cents: 1})
		}
		r.Edit("prod_h", func(o stripefake.Object) { o["created"] = "once" })
		report := r.sync(false)
		rows, _, err := r.host.PricingPlans.List(t.Context(), catalog.Page{Limit: 10})
		if err != nil || len(rows) != 1 || rows[0].ID != "good" || !*rows[0].IsActive || *rows[0].TrialDays != 0 {
			t.Errorf("%s, %v", jsonOf(t, rows), err)
		}
		if len(report.Problems) != 6 {
			t.Errorf("%d problems: %q", len(report.Problems), report.Problems)
		}
	})
}

func TestAllFeaturesComeFromMetadataAlone(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{Name: "P", Metadata: map[string]string{"plan": "p"}, Features: []string{"all_features"}}), Cents: 1})
	r.sync(false)
	if got := r.plan("p"); !strings.Contains(got, `"features":null`) {
		t.Errorf("%s", got)
	}
}

func TestStripeDownChangesNoPlan(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{Name: "P", Metadata: map[string]string{"plan": "p"}}), Cents: 1})
	r.SetFaults(func(q *http.Request) *stripefake.Fault {
		if strings.HasSuffix(q.URL.Path, "/prices") {
			return &stripefake.Fault{Status: 500}
		}
		return nil
	})
	if _, err := SyncPlans(t.Context(), r.host, r.api, false); err == nil {
		t.Error("no error")
	}
	if rows, _, err := r.host.PricingPlans.List(t.Context(), catalog.Page{}); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
}
