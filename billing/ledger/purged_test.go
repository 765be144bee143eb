package ledger

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// purge removes a tenant as `tenant delete` does.
func (r *rig) purge(tenant catalog.TenantID, between func()) {
	r.t.Helper()
	_, err := r.host.DeleteTenant(r.t.Context(), tenant, 0)
	r.must(err)
	_, err = r.host.BeginPurge(r.t.Context(), tenant)
	r.must(err)
	if between != nil {
		between()
	}
	r.must(r.host.EndPurge(r.t.Context(), tenant, nil))
}

// signed is the metadata that our checkout writes.
func (r *rig) signed(tenant catalog.TenantID, customer string) map[string]string {
	return map[string]string{MetadataTenant: string(tenant), MetadataSignature: r.signer.Sign(tenant, customer)}
}

func TestTheNextTenantOfAnIDHasNothingThatTheEarlierOnePaidFor(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		var log bytes.Buffer
		r.ledger.log = slog.New(slog.NewTextHandler(&log, nil))
		r.ledger.cfg.TrustMetadata = true // what is not signed names the tenant no better
		r.tenant("acme", "globex")
		for _, tenant := range []catalog.TenantID{"acme", "globex"} {
			customer := "cus_" + string(tenant)
			if got := r.told(StripeID("sub_"+tenant), StripeID(customer), r.signed(tenant, customer)); got != Processed {
				t.Fatal(got)
			}
		}
		r.purge("acme", nil)
		r.tenant("acme")
		r.kept("sub_acme2", "cus_acme", r.signed("acme", "cus_acme")) // the customer's next one
		r.kept("sub_acme3", "cus_acme", map[string]string{MetadataTenant: "acme"})
		outcome, err := r.ledger.ApplyEvent(t.Context(), &Event{ID: "evt_u", Type: "customer.subscription.updated", Created: start.Add(time.Minute), Subscription: &Subscription{
			ID: "sub_acme", Customer: "cus_acme", Status: "active", Created: start, PeriodEnd: start.AddDate(0, 2, 0), Metadata: r.signed("acme", "cus_acme"),
		}})
		if err != nil || outcome != Kept {
			t.Errorf("an update of what the earlier one pays: %s, %v", outcome, err)
		}
		if n := strings.Count(log.String(), "cancel it at Stripe"); n != 3 || !strings.Contains(log.String(), "object=sub_acme customer=cus_acme tenant=acme") {
			t.Errorf("%d lines: %s", n, &log)
		}
		r.must(r.ledger.Sweep(t.Context()))
		r.must(r.ledger.sweep(t.Context(), map[catalog.TenantID]bool{"acme": true}, false))
		if got := r.subs("acme"); got != nil {
			t.Errorf("the next one is paid for by the earlier one: %q", got)
		}
		// It pays by itself, as another customer; and other tenants are as they were.
		if got := r.told("sub_new", "cus_new", r.signed("acme", "cus_new")); got != Processed || !slices.Equal(r.subs("acme"), []string{"sub_new active"}) {
			t.Errorf("its own: %s, %q", got, r.subs("acme"))
		}
		if got := r.told("sub_globex2", "cus_globex", r.signed("globex", "cus_globex")); got != Processed {
			t.Errorf("another tenant's: %s", got)
		}
		// Who brings the tenant back from its backup says whose the subscription is.
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "acme", StripeSubID: new("sub_acme"), Status: new("canceled")}))
		r.must(r.ledger.sweep(t.Context(), map[catalog.TenantID]bool{"acme": true}, false))
		if got := r.subs("acme"); !slices.Contains(got, "sub_acme active") {
			t.Errorf("with a row that names it: %q", got)
		}
	})
}

// An event that is being applied while its tenant is removed leaves nothing behind for the next one of its id.
func TestAnEventBesideARemovalLeavesNothingBehind(t *testing.T) {
	r := newRig(t, pgtest.New(t)) // SQLite has one writer at a time
	r.tenant("acme")
	if got := r.told("sub_1", "cus_1", r.signed("acme", "cus_1")); got != Processed {
		t.Fatal(got)
	}
	read, removed, wrote := make(chan struct{}), make(chan struct{}), make(chan error)
	r.purge("acme", func() {
		go func() {
			wrote <- r.host.InTx(t.Context(), func(tx *catalog.Tx) error {
				run := &run{l: r.ledger, tx: tx, at: start}
				w, s, err := run.load(t.Context(), &asked{object: "sub_1", customer: "cus_1"})
				if err == nil && w.TenantID != "acme" {
					t.Errorf("the tenant before: %q", w.TenantID)
				}
				close(read)
				<-removed
				if err == nil {
					err = run.claim(t.Context(), w, s)
				}
				return err
			})
		}()
		<-read
	})
	close(removed)
	r.must(<-wrote)
	r.tenant("acme")
	r.must(r.ledger.Sweep(t.Context()))
	if w := r.mark("sub_1"); w == nil || w.TenantID != "" || r.subs("acme") != nil {
		t.Errorf("the watermark %+v, rows %q", w, r.subs("acme"))
	}
}
