package catalog

import (
	"errors"
	"sync"
	"testing"
)

func TestStripeCustomerIsMadeUpOnceHoweverManyAsk(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		var wg sync.WaitGroup
		keys := make([]string, 8)
		for i := range keys {
			wg.Go(func() {
				row, err := h.ChangeStripeCustomer(t.Context(), "acme", func(_ *Tx, row *StripeCustomer) error {
					if row.CreationKey == "" {
						row.CreationKey = GenID()
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				keys[i] = row.CreationKey
			})
		}
		wg.Wait()
		for _, k := range keys {
			if k == "" || k != keys[0] {
				t.Fatalf("keys %q", keys)
			}
		}
		row, err := h.StripeCustomer(t.Context(), "acme")
		if err != nil || row.CreationKey != keys[0] || row.CreatedAt == "" || row.CustomerID != "" {
			t.Errorf("%+v, %v", row, err)
		}
	})
}

func TestStripeCustomerIsWrittenWholeOrNotAtAll(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		stop := errors.New("stop")
		_, err := h.ChangeStripeCustomer(t.Context(), "acme", func(tx *Tx, row *StripeCustomer) error {
			row.CustomerID = "cus_1"
			if err := tx.Audit(t.Context(), "billing.customer_created", "acme", nil); err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if _, err := h.StripeCustomer(t.Context(), "acme"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a row stands: %v", err)
		}
		logs, _, err := h.AuditLogs.List(t.Context(), Page{Limit: 10})
		if err != nil || len(logs) > 0 {
			t.Errorf("%d audit rows, %v", len(logs), err)
		}
	})
}

func TestCustomerIsATenantsOnlyIfNobodyElsePaysAsIt(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		add := func(tenant, customer string) {
			t.Helper()
			err := h.Subscriptions.Insert(ctx, &Subscription{TenantID: TenantID(tenant), StripeCustID: &customer, Status: new("canceled")})
			if err != nil {
				t.Fatal(err)
			}
		}
		record := func(tenant, customer string) {
			t.Helper()
			_, err := h.ChangeStripeCustomer(ctx, TenantID(tenant), func(_ *Tx, row *StripeCustomer) error {
				row.CustomerID = customer
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		add("acme", "cus_1")
		add("acme", "cus_1")
		record("acme", "cus_1")
		record("globex", "cus_2")
		add("acme", "cus_both")
		add("globex", "cus_both")
		add("hooli", "cus_2")
		for customer, want := range map[string]TenantID{"cus_1": "acme", "cus_2": "", "cus_both": "", "cus_unknown": "", "": "", "a\x00b": ""} {
			if got, err := h.StripeCustomerTenant(ctx, customer); err != nil || got != want {
				t.Errorf("%q: %q, %v, want %q", customer, got, err, want)
			}
		}
	})
}

func TestDeletedTenantsCustomerIsForgotten(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		if err := h.Tenants.Insert(ctx, &TenantCatalog{ID: "acme", DBURL: NewDBURI("sqlite:acme.db")}); err != nil {
			t.Fatal(err)
		}
		_, err := h.ChangeStripeCustomer(ctx, "acme", func(_ *Tx, row *StripeCustomer) error {
			row.CustomerID = "cus_1"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Tenants.Delete(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.StripeCustomer(ctx, "acme"); !errors.Is(err, ErrNotFound) {
			t.Errorf("another tenant of that id would pay as the old one's customer: %v", err)
		}
	})
}
