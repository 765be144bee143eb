package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	maxCallbackQuery = 12 << 10
	maxCode          = 4 << 10
	maxShortParam    = 512
)

// answered is what the provider's authorization endpoint sent back (RFC 6749 4.1.2, RFC 9207 2). Unverified.
type answered struct {
	state, code, fault, issuer string
	hasIssuer                  bool
}

// parseCallback reads the callback's query: each parameter of ours at most once and not too long (CB-1). Others are
// ignored, as RFC 6749 3.1 wants.
func parseCallback(raw string) (answered, error) {
	if len(raw) > maxCallbackQuery {
		return answered{}, errors.New("query is too long")
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return answered{}, errors.New("query is malformed")
	}
	var got answered
	for _, p := range []struct {
		name string
		to   *string
		max  int
	}{
		{"state", &got.state, maxState},
		{"code", &got.code, maxCode},
		{"error", &got.fault, maxShortParam},
		{"iss", &got.issuer, maxShortParam},
	} {
		values := query[p.name]
		switch {
		case len(values) > 1:
			return answered{}, fmt.Errorf("%s is there twice", p.name)
		case len(values) == 1 && len(values[0]) > p.max:
			return answered{}, fmt.Errorf("%s is too long", p.name)
		case len(values) == 1:
			*p.to = values[0]
		}
	}
	got.hasIssuer = len(query["iss"]) == 1
	switch {
	case got.state == "":
		return answered{}, errors.New("state is missing")
	case got.code == "" && got.fault == "":
		return answered{}, errors.New("code is missing")
	case got.code != "" && got.fault != "":
		return answered{}, errors.New("code and error are both there")
	}
	return got, nil
}

// Callback serves GET /_gate/callback/{provider}: the end of a sign-in (FLOW-1). It never trusts a parameter before
// the state was found to be ours and this browser's.
func (a *Auth) Callback(w http.ResponseWriter, r *http.Request) {
	d := a.atDoor(w, r, http.MethodGet)
	if d == nil {
		return
	}
	if d.kind != publicDoor {
		a.refuse(w, r, codeBadHost, errors.New("providers answer at public_url"))
		return
	}
	p := a.provider(strings.TrimPrefix(r.URL.Path, callbackPath))
	if p == nil || !p.signIn {
		a.refuse(w, r, codeNotFound, errors.New("no such identity provider"))
		return
	}
	got, err := parseCallback(r.URL.RawQuery)
	if err != nil {
		a.fail(w, r, badAnswer(err), "/")
		return
	}
	id, tag, to, ok := openState(a.secrets, got.state)
	if !ok {
		a.fail(w, r, badAnswer(errors.New("state is not one of ours")), "/")
		return
	}
	if to.returnTo, err = a.ReturnTo(r.Context(), to.returnTo); errors.Is(err, ErrBadReturnTo) {
		to.returnTo, err = "/", nil // what was allowed when the sign-in began is not any more
	}
	if err != nil {
		a.fail(w, r, err, "/")
		return
	}
	f := a.flowOf(r, d, id)
	if f == nil || f.provider != p.name || !f.began(tag) || !a.useUp(f) {
		a.stray(w, r, d, to.returnTo)
		return
	}
	dropCookie(w, d.names.flow+id.String(), d.names.secure)
	session, err := a.finish(w, r, p, f, got)
	if err != nil {
		a.fail(w, r, err, to.returnTo)
		return
	}
	a.goOn(w, r, session, to)
}

func badAnswer(cause error) error {
	return &pageFault{
		status: http.StatusBadRequest, heading: "This is not an answer to a sign-in of ours",
		text: "The address is incomplete or was changed on its way. Nothing was signed in. Begin again.", cause: cause,
	}
}

// flowOf finds the cookie of a flow; nil: this browser has none, or it is over.
func (a *Auth) flowOf(r *http.Request, d *door, id flowID) *flow {
	for _, c := range a.carriedFlows(r.Header["Cookie"], d, a.clock()) {
		if c.flow != nil && c.flow.id == id {
			return c.flow
		}
	}
	return nil
}

// stray answers a callback or a hand-off that this browser does not wait for (any more): opened twice, too late, or in
// another browser. Who is signed in already goes on; others begin again.
func (a *Auth) stray(w http.ResponseWriter, r *http.Request, d *door, returnTo string) {
	if _, err := a.sessionAt(r.Context(), d, r.Header["Cookie"]); err == nil {
		redirect(w, returnTo)
		return
	}
	a.fail(w, r, overFault(), returnTo)
}

// finish redeems the code and signs the person in.
func (a *Auth) finish(w http.ResponseWriter, r *http.Request, p *provider, f *flow, got answered) (*catalog.Session, error) {
	ctx := r.Context()
	m, err := p.metadata.get(ctx)
	if err != nil {
		return nil, err
	}
	if (got.hasIssuer && got.issuer != p.issuer) || (!got.hasIssuer && m.value.SendsIssuer) {
		return nil, badAnswer(errors.New("iss is not the provider's")) // mix-up, RFC 9207 2.4
	}
	if got.fault != "" {
		return nil, providerSaid(got.fault)
	}
	token, err := a.exchange(ctx, p, m.value, f, got.code)
	if err != nil {
		return nil, err
	}
	who, err := a.readIDToken(ctx, p, f, token)
	if err != nil {
		return nil, err
	}
	return a.signInPerson(w, r, &arrival{provider: p, flow: f, who: who}, m.value, token)
}

// providerSaid maps the provider's error (RFC 6749 4.1.2.1, OpenID Connect Core 3.1.2.6). Its description is not shown:
// anybody can write one into a link.
func providerSaid(code string) error {
	cause := errors.New("provider answered with an error that is none of the known ones")
	for _, known := range []string{
		"access_denied", "invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope", "server_error",
		"temporarily_unavailable", "interaction_required", "login_required", "account_selection_required", "consent_required",
	} {
		if code == known {
			cause = errors.New("provider answered " + known)
		}
	}
	switch code {
	case "server_error", "temporarily_unavailable":
		return fmt.Errorf("%w: %w", ErrProviderUnavailable, cause)
	case "access_denied":
		return &pageFault{
			status: http.StatusForbidden, heading: "Sign-in was not allowed",
			text: "You or your identity provider ended the sign-in. Nothing was signed in.", cause: cause,
		}
	default:
		return &pageFault{
			status: http.StatusBadRequest, heading: "Your identity provider could not sign you in",
			text: "Try again. If it happens again, tell whoever runs this site: the provider refuses its requests.", cause: cause,
		}
	}
}

// exchange redeems the code at the token endpoint with the PKCE verifier. Errors never hold what was sent or received.
func (a *Auth) exchange(ctx context.Context, p *provider, m *metadata, f *flow, code string) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.client)
	token, err := p.oauth(m, a.callbackURL(p)).Exchange(ctx, code, oauth2.VerifierOption(f.verifier()))
	if err == nil {
		return token, nil
	}
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.Response == nil || refused.Response.StatusCode >= 500 {
		return nil, fmt.Errorf("%w: token endpoint of %s: %w", ErrProviderUnavailable, p.name, withoutBody(err))
	}
	if refused.ErrorCode != "invalid_grant" {
		// Wrong client credentials and the like: no browser can mend it by trying again.
		return nil, fmt.Errorf("%w: token endpoint of %s: %w", ErrProviderUnavailable, p.name, withoutBody(err))
	}
	return nil, &pageFault{
		status: http.StatusBadRequest, heading: "This sign-in is over",
		text: "Your identity provider does not accept its answer any more. Begin again.", cause: withoutBody(err),
	}
}

// withoutBody keeps of an error what can be logged: an answer's body may repeat code and secret.
func withoutBody(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return withoutURL(err)
	}
	status := 0
	if refused.Response != nil {
		status = refused.Response.StatusCode
	}
	code := "no error code"
	for _, known := range []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"} {
		if refused.ErrorCode == known {
			code = known
		}
	}
	return fmt.Errorf("status %d, %s", status, code)
}
