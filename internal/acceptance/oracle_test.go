package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// oracleCase is a case of billing/testdata/subscription_oracle.json: rows, a clock, a grace period and whether fh-saas 0.9.9
// let the tenant in.
type oracleCase struct {
	Case      int
	Tags      []string
	Now       time.Time
	GraceDays int64                  `json:"grace_period_days"`
	Asked     string                 `json:"asked_tenant_id"`
	Rows      []catalog.Subscription `json:"rows_in_insertion_order"`
	Answer    struct {
		Entitled bool `json:"has_active_subscription"`
	}
}

// oracleDiffers are the cases that we answer differently on purpose; billing/oracle_test.go says why.
var oracleDiffers = map[int]bool{90: true, 92: true, 114: true, 115: false, 119: true, 162: true, 164: false}

// oracleCases reads the file and gives the tenants that many cases share a name of their own each.
func oracleCases(t *testing.T) []oracleCase {
	t.Helper()
	raw, err := os.ReadFile("../../billing/testdata/subscription_oracle.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []oracleCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 120 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	const shared = "tnt_1"
	for i := range file.Cases {
		c := &file.Cases[i]
		if c.Asked != shared && c.Asked != "tnt_2" {
			continue // what is asked is the point of the case
		}
		own := fmt.Sprintf("case%03d-", c.Case)
		c.Asked = own + c.Asked
		for j := range c.Rows {
			c.Rows[j].TenantID = catalog.TenantID(own) + c.Rows[j].TenantID
		}
	}
	return file.Cases
}

// TestEveryCaseOfTheOracleThroughTheProxy asks as a tenant's own program would, by API token: 200 or 402.
func TestEveryCaseOfTheOracleThroughTheProxy(t *testing.T) {
	for engine, open := range map[string]func(testing.TB) string{catalog.EnginePostgreSQL: pgtest.New, catalog.EngineSQLite: sqliteURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dsn := open(t)
			provider, err := gatetest.StartProvider(people, "http://localhost")
			if err != nil {
				t.Fatal(err)
			}
			defer provider.Close()
			byGrace, refused, asked := map[int64][]oracleCase{}, 0, 0
			for _, c := range oracleCases(t) {
				grace := c.GraceDays
				if grace < 0 || grace > int64(time.Duration(1<<63-1)/(24*time.Hour)) {
					refused++ // below, and what no duration holds cannot be configured
					continue
				}
				byGrace[grace] = append(byGrace[grace], c)
			}
			for grace, cases := range byGrace {
				askOracle(t, provider, dsn, time.Duration(grace)*24*time.Hour, cases)
				asked += len(cases)
			}
			if asked != 118 || refused != 2 {
				t.Errorf("%d cases asked, %d cannot be configured; want 118 and 2", asked, refused)
			}
			w, err := gatetest.Start(t.Context(), gatetest.Options{HostURL: dsn, App: echo, Provider: provider, Configure: graceOf(-3 * 24 * time.Hour)})
			if err == nil {
				_ = w.Close()
				t.Error("a negative grace period was accepted")
			}
		})
	}
}

func graceOf(d time.Duration) func(*config.Config) {
	return func(cfg *config.Config) { cfg.Subscription.GracePeriod = &d }
}

// askOracle has one gate judge the cases, in the order of their clocks, which stand still.
func askOracle(t *testing.T, provider *gatetest.Provider, dsn string, grace time.Duration, cases []oracleCase) {
	t.Helper()
	slices.SortStableFunc(cases, func(a, b oracleCase) int { return a.Now.Compare(b.Now) })
	tokens := oracleRows(t, dsn, cases)
	var clock atomic.Int64
	clock.Store(cases[0].Now.UnixNano())
	w, err := gatetest.Start(t.Context(), gatetest.Options{
		HostURL: dsn, App: echo, Provider: provider, Configure: graceOf(grace),
		Clock: func() time.Time { return time.Unix(0, clock.Load()).UTC() },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := client(t, w)
	for i, one := range cases {
		clock.Store(one.Now.UnixNano())
		want, differs := oracleDiffers[one.Case]
		if !differs {
			want = one.Answer.Entitled
		}
		res, body := fetch(t, c, "GET", w.URL+"/x", map[string]string{"Authorization": "Bearer " + tokens[i]})
		switch {
		case want && res.StatusCode == http.StatusOK:
			var app echoed
			if err := json.Unmarshal([]byte(body), &app); err != nil || app.URI != "/x" {
				t.Errorf("case %d: the app answered %q, %v", one.Case, body, err)
			}
		case !want && res.StatusCode == http.StatusPaymentRequired && codeOf(body) == "subscription_required":
		default:
			t.Errorf("case %d %v: %s %.200s, want entitled %v", one.Case, one.Tags, res.Status, body, want)
		}
	}
}

// oracleRows writes each case's tenant, a member and the rows as they are, and returns the members' API tokens.
func oracleRows(t *testing.T, dsn string, cases []oracleCase) []string {
	t.Helper()
	ctx := t.Context()
	host, err := catalog.Open(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	secrets, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	if err != nil {
		t.Fatal(err)
	}
	maker, err := auth.NewTokenMaker(ctx, host, secrets)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]string, len(cases))
	for i, c := range cases {
		err := host.InTx(ctx, func(tx *catalog.Tx) error {
			user, tenant := catalog.UserID(fmt.Sprint("member", c.Case)), catalog.TenantID(c.Asked)
			uri := catalog.NewDBURI("postgresql://db.internal/x")
			if err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: tenant, DBURL: uri, PlanTier: new("free")}); err != nil {
				return err
			}
			if err := tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: user}); err != nil {
				return err
			}
			if err := tx.Memberships.Insert(ctx, &catalog.Membership{UserID: user, TenantID: tenant, Role: new("member")}); err != nil {
				return err
			}
			_, text, err := maker.Make(ctx, tx, auth.TokenSpec{User: user, Tenant: tenant})
			tokens[i] = text.Reveal()
			return err
		})
		if err != nil {
			t.Fatalf("case %d: %v", c.Case, err)
		}
	}
	rowsAsTheyAre(t, dsn, cases)
	return tokens
}

// rowsAsTheyAre writes the subscription rows past tenantgate, NULLs included, which fills none of them.
func rowsAsTheyAre(t *testing.T, dsn string, cases []oracleCase) {
	t.Helper()
	text := `INSERT INTO core_subscriptions (id, tenant_id, stripe_sub_id, stripe_cust_id, plan_tier, status, current_period_end,
		cancel_at_period_end, payment_type, trial_end, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	if strings.HasPrefix(dsn, "sqlite:") {
		text = strings.ReplaceAll(text, "$", "?")
	}
	db := openSQL(t, dsn)
	defer db.Close()
	for _, c := range cases {
		for _, r := range c.Rows {
			if _, err := db.ExecContext(context.Background(), text, string(r.ID), string(r.TenantID), r.StripeSubID, r.StripeCustID, r.PlanTier,
				r.Status, r.CurrentPeriodEnd, r.CancelAtPeriodEnd, r.PaymentType, r.TrialEnd, r.CreatedAt); err != nil {
				t.Fatalf("case %d: %v", c.Case, err)
			}
		}
	}
}
