package checkout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

// errSuperseded: another checkout of the same tenant was started meanwhile, and is the one that stands.
var errSuperseded = errors.New("another checkout was started")

// maxMetadata is what Stripe takes as a value of metadata, in characters.
const maxMetadata = 500

// Checkout serves POST CheckoutPath: it leads to Stripe's checkout for the form's plan and interval. A tenant whose
// subscription goes on at Stripe is led to the portal, so that nobody pays twice by accident.
func (p *Pages) Checkout(w http.ResponseWriter, r *http.Request, v Visit) {
	plan, interval := r.PostFormValue("plan"), r.PostFormValue("interval")
	ctx, cancel := v.within(r.Context())
	defer cancel()
	s, err := p.read(ctx, &v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	i := slices.IndexFunc(s.plans, func(row catalog.PricingPlan) bool { return string(row.ID) == plan })
	if i < 0 || !onSale(&s.plans[i]) || price(&s.plans[i], interval) == "" {
		p.refuse(w, r, codeBadRequest, errors.New("no such plan is on sale at that interval"))
		return
	}
	if len(v.Tenant) > maxMetadata {
		p.refuse(w, r, codeBadRequest, errors.New("the tenant's id is longer than metadata of Stripe's can be"))
		return
	}
	if wait, ok := p.starts.take(v.Tenant); !ok {
		p.tooMany(w, r, wait, "checkouts")
		return
	}
	going, err := p.goesOn(ctx, s)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if going {
		p.toPortal(ctx, w, r, &v, s)
		return
	}
	p.toCheckout(ctx, w, r, &v, &s.plans[i], interval)
}

// goesOn reports whether the tenant's newest subscription goes on at Stripe, which is asked: the row may be behind.
func (p *Pages) goesOn(ctx context.Context, s *state) (bool, error) {
	if s.atStripe() == "" || !lives(s.sub.Status) {
		return false, nil
	}
	sub, err := p.stripe.Subscription(ctx, s.atStripe())
	switch {
	case notHere(err):
		return false, nil
	case err != nil:
		return false, asking("subscription", err)
	}
	if lives(sub.Status) {
		return true, nil
	}
	_, err = p.ledger.Refresh(ctx, s.atStripe(), refreshed)
	return false, asking("refresh", err)
}

// notHere reports whether Stripe says that it has no such object, or has it in the other mode, which it was of before the
// API key was changed.
func notHere(err error) bool {
	return errors.Is(err, ledger.ErrGone) || errors.Is(err, stripeapi.ErrMode)
}

func (p *Pages) toCheckout(ctx context.Context, w http.ResponseWriter, r *http.Request, v *Visit, plan *catalog.PricingPlan, interval string) {
	target, err := p.start(ctx, v, plan, interval)
	switch {
	case errors.Is(err, errSuperseded), errors.Is(err, errChanged):
		p.see(w, v.link(Path))
	case err != nil:
		p.fail(w, r, err)
	default:
		p.lead(w, v, target, "Go on to pay", "The payment is made at the payment service.")
	}
}

// tries is how often it is tried again after something has changed meanwhile, or Stripe turned out not to have the
// customer.
const tries = 4

// start returns where the plan is paid: an address of Stripe's, or one of ours if it turns out to have been paid.
func (p *Pages) start(ctx context.Context, v *Visit, plan *catalog.PricingPlan, interval string) (string, error) {
	for try := 0; ; try++ {
		// Read again: what a checkout that was completed meanwhile has brought counts.
		s, err := p.read(ctx, v)
		if err != nil {
			return "", err
		}
		if going, err := p.goesOn(ctx, s); err != nil || going {
			return v.link(Path), err
		}
		customer, err := p.customer(ctx, v, s)
		if errors.Is(err, errChanged) && try < tries {
			continue
		}
		if err != nil {
			return "", err
		}
		o := p.order(v, s, plan, interval, customer)
		target, err := p.open(ctx, v, o, plan.ID, interval)
		switch {
		case errors.Is(err, errChanged) && try < tries:
		case customerGone(err) && try < tries:
			if err := p.forget(ctx, v, customer); err != nil {
				return "", err
			}
		default:
			return target, err
		}
	}
}

// order is everything that a checkout asks for.
func (p *Pages) order(v *Visit, s *state, plan *catalog.PricingPlan, interval string, customer ledger.StripeID) stripeapi.Order {
	back := url.Values{}
	if v.Parameter != "" {
		back.Set("tenant", v.Parameter)
	}
	cancel := v.Origin + Path
	if len(back) > 0 {
		cancel += "?" + back.Encode()
	}
	success := v.Origin + Path + "?"
	if len(back) > 0 {
		success += back.Encode() + "&"
	}
	return stripeapi.Order{
		Customer: customer, Price: price(plan, interval), TrialDays: s.trialDays(plan), Reference: string(v.Tenant),
		Metadata: map[string]string{
			ledger.MetadataTenant:    string(v.Tenant),
			ledger.MetadataSignature: p.signer.Sign(v.Tenant, string(customer)),
		},
		SuccessURL: success + sessionParameter + "={CHECKOUT_SESSION_ID}", // Stripe's, as it stands
		CancelURL:  cancel,
	}
}

// hashOf is over all that an order asks for.
func hashOf(o *stripeapi.Order) string {
	h := sha256.New()
	for _, part := range []string{
		string(o.Customer), string(o.Price), strconv.FormatInt(o.TrialDays, 10), o.Reference, o.Metadata[ledger.MetadataTenant],
		o.Metadata[ledger.MetadataSignature], o.SuccessURL, o.CancelURL,
	} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// errChanged: what stood is not what it was, so everything is looked at again.
var errChanged = errors.New("the tenant's checkout has changed meanwhile")

// open returns the address of the one open checkout of the tenant, which asks for this: the one that stands, if that
// asks for the same, else a new one in its place.
func (p *Pages) open(ctx context.Context, v *Visit, o stripeapi.Order, plan catalog.PlanID, interval string) (string, error) {
	hash := hashOf(&o)
	row, err := p.host.StripeCustomer(ctx, v.Tenant)
	if err != nil {
		return "", err
	}
	if row.CheckoutSession != "" {
		target, err := p.standingCheckout(ctx, v, row, hash)
		if err != nil || target != "" {
			return target, err
		}
	}
	key, err := p.reserve(ctx, v, row, &o, hash, plan, interval)
	if err != nil {
		return "", err
	}
	made, err := p.stripe.CreateCheckout(ctx, o, key)
	if bad := new(stripeapi.Error); errors.As(err, &bad) && bad.Replayed {
		if err := p.release(ctx, v, key); err != nil {
			return "", err
		}
		return "", asking("create checkout", errors.Join(errChanged, err))
	}
	if err != nil {
		return "", asking("create checkout", err)
	}
	stands := false
	_, err = p.host.ChangeStripeCustomer(ctx, v.Tenant, func(_ *catalog.Tx, row *catalog.StripeCustomer) error {
		if stands = row.CheckoutKey == key; stands {
			row.CheckoutSession = string(made.ID)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if !stands {
		if err := p.stripe.ExpireCheckout(ctx, made.ID); err != nil {
			p.log.WarnContext(ctx, "a checkout that another one has replaced could not be ended", "tenant", string(v.Tenant), "error", err)
		}
		return "", errSuperseded
	}
	return made.URL, nil
}

// release lets go of a key to which Stripe would give for a day the answer that it has given once.
func (p *Pages) release(ctx context.Context, v *Visit, key string) error {
	_, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(_ *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CheckoutKey == key && row.CheckoutSession == "" {
			row.CheckoutKey, row.CheckoutHash = "", ""
		}
		return nil
	})
	return err
}

// standingCheckout looks at the checkout that was made last: "" if a new one is to be made. One that asks for something
// else is ended; one that was paid is written down, and errChanged.
func (p *Pages) standingCheckout(ctx context.Context, v *Visit, row *catalog.StripeCustomer, hash string) (string, error) {
	session, err := p.stripe.Checkout(ctx, ledger.StripeID(row.CheckoutSession))
	if err == nil && session.Status == "open" && (row.CheckoutHash != hash || session.URL == "") {
		if p.stripe.ExpireCheckout(ctx, session.ID) == nil {
			return "", nil
		}
		session, err = p.stripe.Checkout(ctx, session.ID) // it may have been paid at this very moment
	}
	switch {
	case notHere(err):
		return "", nil
	case err != nil:
		return "", asking("checkout", err)
	case session.Status == "open" && row.CheckoutHash == hash && session.URL != "":
		return session.URL, nil
	case session.Status == "open":
		return "", asking("end checkout", errors.New("the checkout stays open"))
	case session.Status != "complete":
		return "", nil
	}
	if _, err := p.settleSession(ctx, v, &session); err != nil {
		return "", err
	}
	_, err = p.host.ChangeStripeCustomer(ctx, v.Tenant, func(_ *catalog.Tx, now *catalog.StripeCustomer) error {
		if now.CheckoutSession == row.CheckoutSession {
			now.CheckoutKey, now.CheckoutHash, now.CheckoutSession = "", "", ""
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return "", errChanged
}

// reserve decides under which idempotency key a checkout is made, and audits that it is started. Of many that ask for the
// same at once all get one key, and so one session.
func (p *Pages) reserve(ctx context.Context, v *Visit, seen *catalog.StripeCustomer, o *stripeapi.Order, hash string, plan catalog.PlanID, interval string) (string, error) {
	row, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(tx *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CustomerID != string(o.Customer) {
			return errChanged
		}
		switch {
		case row.CheckoutSession != seen.CheckoutSession:
			return errChanged
		case row.CheckoutKey != "" && row.CheckoutHash == hash && row.CheckoutSession == "":
			return nil // somebody has just asked for the same
		}
		row.CheckoutKey, row.CheckoutHash, row.CheckoutSession = newKey(), hash, ""
		details := map[string]any{"plan": string(plan), "interval": interval, "price": string(o.Price), "customer": string(o.Customer)}
		if o.TrialDays > 0 {
			details["trial_days"] = o.TrialDays
		}
		return tx.Audit(ctx, "billing.checkout_started", string(v.Tenant), details)
	})
	if err != nil {
		return "", err
	}
	return row.CheckoutKey, nil
}

// lead sends the browser to Stripe. A browser that holds form-action against redirects follows one to the hosts that the
// page named; to any other (a domain of the operator's own for checkout) it is led by a link.
func (p *Pages) lead(w http.ResponseWriter, v *Visit, target, label, about string) {
	u, err := url.Parse(target)
	switch {
	case strings.HasPrefix(target, Path), err == nil && slices.Contains(p.origins, u.Scheme+"://"+u.Host):
		p.see(w, target)
	case err == nil && u.Scheme == "https" && u.Host != "":
		page.Render(w, http.StatusOK, page.Data{
			Heading: label, Text: []string{about}, Who: v.Email,
			Actions: []page.Action{{Label: label, URL: target, Primary: true}, {Label: "Back", URL: v.link(Path)}},
		})
	default:
		p.see(w, v.link(Path))
	}
}

// see is a redirect after a form.
func (p *Pages) see(w http.ResponseWriter, target string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
}
