package router

import (
	"net/http"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

// Code names a denial. It is stable: scripts and apps match on it.
type Code string

// The codes of every denial, in the order in which a request meets them.
const (
	MethodNotAllowed        Code = "method_not_allowed"
	BadHost                 Code = "bad_host"
	BadPath                 Code = "bad_path"
	BadReturnTo             Code = "bad_return_to"
	BadRequest              Code = "bad_request"
	NotFound                Code = "not_found"
	HeadersTooLarge         Code = "headers_too_large"
	BodyTooLarge            Code = "body_too_large"
	RateLimited             Code = "rate_limited"
	NoRoute                 Code = "no_route"
	Unauthenticated         Code = "unauthenticated"
	InvalidToken            Code = "invalid_token"
	SessionExpired          Code = "session_expired"
	ProviderUnavailable     Code = "provider_unavailable"
	CrossOrigin             Code = "cross_origin"
	TenantRequired          Code = "tenant_required"
	TenantConflict          Code = "tenant_conflict"
	TenantChanged           Code = "tenant_changed"
	UnknownUser             Code = "unknown_user"
	NoAccess                Code = "no_access"
	MembershipInactive      Code = "membership_inactive"
	TenantInactive          Code = "tenant_inactive"
	TenantPaused            Code = "tenant_paused"
	SubscriptionRequired    Code = "subscription_required"
	RoleRequired            Code = "role_required"
	TierRequired            Code = "tier_required"
	FeatureRequired         Code = "feature_required"
	TenantMisconfigured     Code = "tenant_misconfigured"
	HostDatabaseUnavailable Code = "host_database_unavailable"
	BillingUnavailable      Code = "billing_unavailable"
	UpstreamUnavailable     Code = "upstream_unavailable"
	UpstreamTimeout         Code = "upstream_timeout"
	InternalError           Code = "internal_error"
)

// Refusal is what the public is told about a denial: nothing that depends on who asked or what exists.
type Refusal struct {
	Status int
	// Title is short; Detail says what the person or the program can do.
	Title, Detail string
	// RetryAfter in whole seconds; 0: no Retry-After.
	RetryAfter time.Duration
}

// refusals is the one table from code to status and public text.
var refusals = map[Code]Refusal{
	MethodNotAllowed: {Status: http.StatusMethodNotAllowed, Title: "Method not allowed", Detail: "This address does not take this request method."},
	BadHost:          {Status: http.StatusBadRequest, Title: "Wrong address", Detail: "The Host of this request is missing, malformed, or not one that people sign in at. Start from the application's public address."},
	BadPath:          {Status: http.StatusBadRequest, Title: "Ambiguous address", Detail: "Two servers could read this path differently. Send it without encoded slashes, backslashes, dot segments, empty segments, path parameters or control characters."},
	BadReturnTo:      {Status: http.StatusBadRequest, Title: "Wrong return address", Detail: "return_to leads away from this application. Start from the application's public address."},
	BadRequest:       {Status: http.StatusBadRequest, Title: "This step cannot be completed", Detail: "The request does not fit a sign-in or form of this browser: it may be old, opened twice, or from another browser. Start again."},
	NotFound:         {Status: http.StatusNotFound, Title: "Not found", Detail: "There is nothing at this address."},
	HeadersTooLarge:  {Status: http.StatusRequestHeaderFieldsTooLarge, Title: "Headers too large", Detail: "The request's headers are larger than this server takes. Clearing this site's cookies may help."},
	BodyTooLarge:     {Status: http.StatusRequestEntityTooLarge, Title: "Body too large", Detail: "The request's body is larger than this server takes."},
	RateLimited:      {Status: http.StatusTooManyRequests, Title: "Too many attempts", Detail: "Wait before trying again.", RetryAfter: time.Minute},
	NoRoute:          {Status: http.StatusForbidden, Title: "No route", Detail: "No rule allows this address. The operator adds one under routes."},

	Unauthenticated:     {Status: http.StatusUnauthorized, Title: "Sign in first", Detail: "This address is for people who are signed in."},
	InvalidToken:        {Status: http.StatusUnauthorized, Title: "Invalid token", Detail: "The bearer token is not valid here. Get a new one from where this one came from."},
	SessionExpired:      {Status: http.StatusUnauthorized, Title: "Your session has ended", Detail: "Sign in again to go on."},
	ProviderUnavailable: {Status: http.StatusServiceUnavailable, Title: "Sign-in is unavailable", Detail: "The identity provider cannot be reached. Try again in a moment.", RetryAfter: 5 * time.Second},
	CrossOrigin:         {Status: http.StatusForbidden, Title: "Sent from another site", Detail: "A page of another site sent this request with your session. Go to the application and repeat it there."},
	UnknownUser:         {Status: http.StatusForbidden, Title: "No account here", Detail: "You are signed in, but there is no account for you in this application. Ask whoever runs it for an invitation, or sign in as somebody else."},

	TenantRequired:     {Status: http.StatusBadRequest, Title: "Which workspace?", Detail: "Nothing in this request names a workspace. Choose one first."},
	TenantConflict:     {Status: http.StatusBadRequest, Title: "Two workspaces named", Detail: "The parts of this request that name a workspace disagree. Name one."},
	TenantChanged:      {Status: http.StatusConflict, Title: "The workspace has changed", Detail: "This page was made for another workspace. Reload it before going on."},
	NoAccess:           {Status: http.StatusForbidden, Title: "No access", Detail: "This workspace does not exist, or you are not a member of it. Choose another, or ask its owner for an invitation."},
	MembershipInactive: {Status: http.StatusForbidden, Title: "Your membership is not active", Detail: "You were a member of this workspace. Ask its owner to let you in again."},
	TenantInactive:     {Status: http.StatusForbidden, Title: "This workspace is suspended", Detail: "Nobody can enter it at present. Ask its owner, or whoever runs this application."},
	TenantPaused:       {Status: http.StatusServiceUnavailable, Title: "This workspace is paused", Detail: "Maintenance is under way. Try again in a moment.", RetryAfter: 10 * time.Second},

	SubscriptionRequired: {Status: http.StatusPaymentRequired, Title: "A subscription is needed", Detail: "This workspace has no active subscription. Its owner can renew it."},
	RoleRequired:         {Status: http.StatusForbidden, Title: "Your role does not reach this", Detail: "This needs a higher role in the workspace. Ask its owner."},
	TierRequired:         {Status: http.StatusForbidden, Title: "Not in this plan", Detail: "This needs a higher plan. The workspace's owner can change it."},
	FeatureRequired:      {Status: http.StatusForbidden, Title: "Not in this plan", Detail: "The workspace's plan does not include this feature. Its owner can change the plan."},

	TenantMisconfigured:     {Status: http.StatusServiceUnavailable, Title: "This workspace cannot be reached", Detail: "Its database address is not usable. Whoever runs this application has to correct it.", RetryAfter: 60 * time.Second},
	HostDatabaseUnavailable: {Status: http.StatusServiceUnavailable, Title: "Temporarily unavailable", Detail: "Access could not be checked, so nothing was let through. Try again in a moment.", RetryAfter: 2 * time.Second},
	BillingUnavailable:      {Status: http.StatusServiceUnavailable, Title: "The payment service does not answer", Detail: "Nothing has been charged by this step. Try again in a moment.", RetryAfter: 10 * time.Second},
	UpstreamUnavailable:     {Status: http.StatusBadGateway, Title: "The application does not answer", Detail: "The request may not have reached it. Try again in a moment."},
	UpstreamTimeout:         {Status: http.StatusGatewayTimeout, Title: "The application took too long", Detail: "It may still be working on the request. Check before you repeat it."},
	InternalError:           {Status: http.StatusInternalServerError, Title: "Something went wrong", Detail: "The fault has been recorded. Try again in a moment."},
}

// Refusal returns what the public is told of the code. A code that is not in the table is an internal error: it
// never lets anything through.
func (c Code) Refusal() Refusal {
	if r, ok := refusals[c]; ok {
		return r
	}
	return refusals[InternalError]
}

// Denial is the answer to a request that is not forwarded.
type Denial struct {
	Code Code
	// Cause is for the log, redacted there; never for the public.
	Cause error
	// ClearSession removes the session cookie with the answer.
	ClearSession bool
	// drain is how long requests under way may still take, where drains says that the pause has its own bound.
	drain  time.Duration
	drains bool

	// For the count of denials: whose credential it was where nobody was recognised by it, and the tenant where the user
	// belongs to it.
	user   catalog.UserID
	tenant catalog.TenantID
	// homeless: the user belongs to no tenant at all.
	homeless bool
}

// Error implements error with the code alone.
func (d *Denial) Error() string { return "denied: " + string(d.Code) }

// Unwrap returns the cause.
func (d *Denial) Unwrap() error { return d.Cause }

func deny(c Code) *Denial { return &Denial{Code: c} }

func denyFor(c Code, cause error) *Denial {
	return &Denial{Code: c, Cause: cause, user: auth.RefusedUser(cause)}
}

// denyIn is deny about what is known of the user in a tenant.
func denyIn(c Code, rec *Record) *Denial {
	d := deny(c)
	if rec.member != noMembership {
		d.tenant = rec.tenant.ID
	}
	return d
}
