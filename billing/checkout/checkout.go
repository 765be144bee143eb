// Package checkout serves the pages on which a tenant is paid for: its plans, Stripe's checkout and customer portal, and
// the way back after payment.
//
// Purpose: a browser that may pay for a tenant is shown what there is to buy and led to Stripe and back, without
// JavaScript. What is bought is written by package ledger; nothing here entitles anybody. Who may pay for what is judged
// before these pages are called (Visit).
//
// Concurrency: a Pages is safe for concurrent use, by any number of replicas: of one tenant they make one Stripe customer,
// and at most one checkout of it is open. No transaction is open while Stripe is asked.
//
// Failure mode: nothing is bought. Where Stripe does not answer, the pages that need it are a 503, and the one that lists
// plans does not. A checkout that cannot be recorded in the audit is not started.
package checkout

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
)

// Paths of the pages.
const (
	Path         = "/_gate/billing"
	CheckoutPath = "/_gate/billing/checkout"
	PortalPath   = "/_gate/billing/portal"
)

// Codes that are passed to Deps.Refuse: rows of the router's denial table.
const (
	codeBadRequest  = "bad_request"
	codeRateLimited = "rate_limited"
	codeUnavailable = "billing_unavailable"
	codeHostDown    = "host_database_unavailable"
	codeNoAccess    = "no_access"
)

// timeout bounds everything that one request asks, of Stripe and of the host database.
const timeout = 20 * time.Second

// Stripe is what the pages ask of Stripe. ErrGone of package ledger means that Stripe has no such object; every other
// error that nothing is known. A call with a key that was used before gives what the first one gave.
type Stripe interface {
	CreateCustomer(ctx context.Context, c stripeapi.Customer, key string) (ledger.StripeID, error)
	CreateCheckout(ctx context.Context, o stripeapi.Order, key string) (stripeapi.Session, error)
	Checkout(ctx context.Context, id ledger.StripeID) (stripeapi.Session, error)
	// ExpireCheckout ends a session that is open. One that is not is an error.
	ExpireCheckout(ctx context.Context, id ledger.StripeID) error
	// CreatePortal returns the address of a portal session.
	CreatePortal(ctx context.Context, customer ledger.StripeID, returnURL string) (string, error)
	Subscription(ctx context.Context, id ledger.StripeID) (ledger.Subscription, error)
}

// Ledger writes what Stripe says of a subscription.
type Ledger interface {
	Refresh(ctx context.Context, id ledger.StripeID, why string) (ledger.Change, error)
}

// Config says what is shown and where it may lead.
type Config struct {
	Rules billing.Rules
	// APIURL is billing.stripe.api_url; "": Stripe's own.
	APIURL string
}

// Deps are what Pages stand on. All are needed but Settle, Clock and Log.
type Deps struct {
	Host   *catalog.HostDatabase
	Stripe Stripe
	Ledger Ledger
	Signer *ledger.Signer
	// Refuse answers a request with a row of the denial table. Headers set before it stay.
	Refuse func(w http.ResponseWriter, r *http.Request, code string, err error)
	// Settle returns once decisions in this process follow what was committed before it was called, or ctx ends. Nil:
	// nobody waits.
	Settle func(ctx context.Context)
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log hears of what Stripe refused, without secrets. Nil: nobody does.
	Log *slog.Logger
}

// Visit is one request of somebody who may pay for a tenant. The gate has judged it.
type Visit struct {
	Tenant catalog.TenantID
	Name   string // the tenant's
	User   catalog.UserID
	Email  string
	// Address is the client's IP, for the audit; "" where it is not known.
	Address string
	// Parameter names the tenant in links and forms, as the tenant parameter; "" where the address does.
	Parameter string
	// Origin is the scheme and host that the browser is at.
	Origin string
	// App is where the tenant's app begins: a local path.
	App string
}

// Pages serves what stands below Path. Make it with New.
type Pages struct {
	rules   billing.Rules
	aliases map[string]string
	host    *catalog.HostDatabase
	stripe  Stripe
	ledger  Ledger
	signer  *ledger.Signer
	refuse  func(w http.ResponseWriter, r *http.Request, code string, err error)
	settle  func(ctx context.Context)
	clock   func() time.Time
	log     *slog.Logger
	origins []string // where checkout and portal are
	starts  *limiter // checkouts and portals
	returns *limiter // sessions looked at
}

// New makes the pages. Nothing is asked of Stripe yet.
func New(cfg Config, deps Deps) (*Pages, error) {
	if deps.Host == nil || deps.Stripe == nil || deps.Ledger == nil || deps.Signer == nil || deps.Refuse == nil {
		return nil, errors.New("billing pages: a dependency is missing")
	}
	origins, err := originsOf(cfg.APIURL)
	if err != nil {
		return nil, err
	}
	p := &Pages{
		rules: cfg.Rules, aliases: cfg.Rules.Aliases(), host: deps.Host, stripe: deps.Stripe, ledger: deps.Ledger, signer: deps.Signer,
		refuse: deps.Refuse, settle: deps.Settle, clock: deps.Clock, log: deps.Log, origins: origins,
	}
	if p.settle == nil {
		p.settle = func(context.Context) {}
	}
	if p.clock == nil {
		p.clock = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.starts, p.returns = newLimiter(startBurst, startEvery, p.clock), newLimiter(returnBurst, returnEvery, p.clock)
	return p, nil
}

// originsOf says where Stripe's own pages are: beside its API, on hosts of their own, or with another api_url there.
func originsOf(api string) ([]string, error) {
	if api == "" {
		return []string{"https://checkout.stripe.com", "https://billing.stripe.com"}, nil
	}
	u, err := url.Parse(api)
	if err != nil || u.Host == "" {
		return nil, errors.New("billing.stripe.api_url: not a URL")
	}
	if u.Host == "api.stripe.com" {
		return originsOf("")
	}
	return []string{u.Scheme + "://" + u.Host}, nil
}

// state is what is known of a tenant's payments.
type state struct {
	tenant   catalog.TenantCatalog
	row      *catalog.Subscription // the newest, nil without one
	sub      billing.Sub
	entitled bool   // by row
	exempt   bool   // needs no subscription
	open     bool   // the tenant can be entered: the plan of key is in force
	key      string // of the plan
	plans    []catalog.PricingPlan
}

// errNoTenant: the tenant was deleted since the request was judged.
var errNoTenant = errors.New("the tenant is gone")

// maxPlans bounds the plans that are read; an installation has few.
const maxPlans = 1000

// read reads the tenant's state and all plans, those first that are shown first.
func (p *Pages) read(ctx context.Context, v *Visit) (*state, error) {
	facts, err := p.host.GrantFacts(ctx, catalog.GrantQuery{User: v.User, Tenant: v.Tenant, Aliases: p.aliases})
	if err != nil {
		return nil, err
	}
	if facts.Tenant == nil {
		return nil, errNoTenant
	}
	s := &state{tenant: *facts.Tenant, row: facts.Subscription}
	now := p.clock()
	s.sub = billing.Parse(s.row)
	s.entitled = p.rules.Entitled(now, &s.sub)
	s.exempt = p.rules.Exempt(text(s.tenant.PlanTier))
	s.open = s.entitled || s.exempt || !p.rules.Required()
	s.key = p.rules.PlanKey(now, s.tenant.PlanTier, &s.sub)
	if s.plans, _, err = p.host.PricingPlans.List(ctx, catalog.Page{Limit: maxPlans}); err != nil {
		return nil, err
	}
	slices.SortFunc(s.plans, func(a, b catalog.PricingPlan) int {
		return cmp.Or(cmp.Compare(number(a.SortOrder), number(b.SortOrder)), cmp.Compare(number(a.TierLevel), number(b.TierLevel)), cmp.Compare(a.ID, b.ID))
	})
	return s, nil
}

// Words of Stripe's for a subscription, compared exactly.
const (
	statusActive     = "active"
	statusTrialing   = "trialing"
	statusPastDue    = "past_due"
	statusUnpaid     = "unpaid"
	statusPaused     = "paused"
	statusCanceled   = "canceled"
	statusIncomplete = "incomplete"
)

// lives reports whether a subscription of that status goes on at Stripe, so that a second one would be a double.
func lives(status string) bool {
	return slices.Contains([]string{statusActive, statusTrialing, statusPastDue, statusUnpaid, statusPaused}, status)
}

// atStripe is the id of the newest subscription if it is one of Stripe's, else "".
func (s *state) atStripe() ledger.StripeID {
	if s.row == nil {
		return ""
	}
	return ledger.StripeID(text(s.row.StripeSubID))
}

// payer is the Stripe customer as which the tenant pays, "" where none is known: its newest subscription's, else the one
// that was made for it. One that another tenant pays as, too, is nobody's: its portal would show the other's invoices.
func (p *Pages) payer(ctx context.Context, s *state) (ledger.StripeID, error) {
	if s.row != nil && text(s.row.StripeCustID) != "" {
		customer := text(s.row.StripeCustID)
		if tenant, err := p.host.StripeCustomerTenant(ctx, customer); err != nil || tenant == s.tenant.ID {
			return ledger.StripeID(customer), err
		}
	}
	row, err := p.host.StripeCustomer(ctx, s.tenant.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case row.CustomerID == "":
		return "", nil
	}
	tenant, err := p.host.StripeCustomerTenant(ctx, row.CustomerID)
	if err != nil || tenant != s.tenant.ID {
		return "", err
	}
	return ledger.StripeID(row.CustomerID), nil
}

// within bounds all that a request does, and names its actor for the audit.
func (v *Visit) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(catalog.WithActor(ctx, catalog.Actor{ID: string(v.User), IP: v.Address}), timeout)
}

// link is a page of ours with the tenant named where it has to be, and with more parameters, name and value in turn.
func (v *Visit) link(path string, more ...string) string {
	query := url.Values{}
	for name, value := range v.fields(more...) {
		query.Set(name, value)
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// fields are a form's.
func (v *Visit) fields(more ...string) map[string]string {
	f := map[string]string{}
	if v.Parameter != "" {
		f["tenant"] = v.Parameter
	}
	for i := 0; i+1 < len(more); i += 2 {
		f[more[i]] = more[i+1]
	}
	return f
}

// fail answers an error: the host database's, or Stripe's.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	bad := new(stripeError)
	switch {
	case errors.Is(err, errNoTenant):
		p.refuse(w, r, codeNoAccess, err)
	case errors.As(err, &bad) && !errors.Is(err, catalog.ErrUnavailable):
		p.refuse(w, r, codeUnavailable, err)
	default:
		p.refuse(w, r, codeHostDown, err)
	}
}

// stripeError is an error of Stripe's, or of the way to it.
type stripeError struct {
	asked string
	err   error
}

// Error implements error.
func (e *stripeError) Error() string { return "stripe: " + e.asked + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *stripeError) Unwrap() error { return e.err }

// asking marks an error as Stripe's; nil stays nil.
func asking(what string, err error) error {
	if err == nil {
		return nil
	}
	return &stripeError{what, err}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func number(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
