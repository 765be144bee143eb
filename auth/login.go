package auth

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

// Paths of our pages.
const (
	loginPath    = "/_gate/login"
	handoffPath  = "/_gate/handoff"
	logoutPath   = "/_gate/logout"
	callbackPath = "/_gate/callback/"
)

// loginWait bounds how long a browser waits for a provider that does not answer.
const loginWait = 5 * time.Second

// journey is where a browser goes once it is signed in.
type journey struct {
	returnTo string
	// ask is the other host that wants the sign-in handed on; nil: public_url is where it ends.
	ask *ask
}

// Login serves GET /_gate/login?return_to=&provider=. On public_url: to the provider, or with several and none named to
// a page to choose one; a sign-in always begins anew, also for somebody who is signed in. On another host: to
// public_url, which hands its sign-in on (&handoff=).
func (a *Auth) Login(w http.ResponseWriter, r *http.Request) {
	d := a.atDoor(w, r, http.MethodGet, http.MethodHead)
	if d == nil {
		return
	}
	a.loginAt(w, r, d)
}

func (a *Auth) loginAt(w http.ResponseWriter, r *http.Request, d *door) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["return_to"]) > 1 || len(query["provider"]) > 1 || len(query["handoff"]) > 1 {
		a.refuse(w, r, codeBadReturnTo, ErrBadReturnTo)
		return
	}
	to, name := journey{}, query.Get("provider")
	if to.returnTo, err = a.ReturnTo(r.Context(), query.Get("return_to")); err != nil {
		a.fail(w, r, err, "/")
		return
	}
	if d.kind != publicDoor {
		a.askPublic(w, r, d, to.returnTo, name)
		return
	}
	if text := query.Get("handoff"); text != "" {
		if to.ask, err = a.openAsk(text); err != nil {
			a.fail(w, r, err, to.returnTo)
			return
		}
		if a.handOn(w, r, to) {
			return
		}
	}
	a.signInWith(w, r, name, to)
}

// signInWith sends the browser to the provider of that name; "": to the only one, or to a page to choose.
func (a *Auth) signInWith(w http.ResponseWriter, r *http.Request, name string, to journey) {
	choices := a.signInProviders()
	switch {
	case len(choices) == 0:
		a.refuse(w, r, codeProviderUnavailable, errors.New("no identity provider to sign in with is configured"))
	case name == "" && len(choices) > 1:
		a.choose(w, r, choices, to)
	case name == "":
		a.sendAway(w, r, choices[0], to)
	default:
		p := a.provider(name)
		if p == nil || !p.signIn {
			a.refuse(w, r, codeNotFound, errors.New("no such identity provider"))
			return
		}
		a.sendAway(w, r, p, to)
	}
}

func (a *Auth) allows(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	a.refuse(w, r, codeMethodNotAllowed, errors.New("method not allowed"))
	return false
}

func (a *Auth) signInProviders() []*provider {
	var list []*provider
	for _, p := range a.providers {
		if p.signIn {
			list = append(list, p)
		}
	}
	return list
}

func loginURL(returnTo, provider string) string { return loginQuery(url.Values{}, returnTo, provider) }

func loginQuery(q url.Values, returnTo, provider string) string {
	if returnTo != "" && returnTo != "/" {
		q.Set("return_to", returnTo)
	}
	if provider != "" {
		q.Set("provider", provider)
	}
	if len(q) == 0 {
		return loginPath
	}
	return loginPath + "?" + q.Encode()
}

func (a *Auth) choose(w http.ResponseWriter, r *http.Request, choices []*provider, to journey) {
	q := url.Values{}
	if to.ask != nil {
		q.Set("handoff", r.URL.Query().Get("handoff"))
	}
	d := page.Data{Heading: "Sign in", Text: []string{"Choose the account to sign in with."}}
	for _, p := range choices {
		d.Items = append(d.Items, page.Item{
			Title: p.name, Text: p.host(), Action: &page.Action{Label: "Continue", URL: loginQuery(q, to.returnTo, p.name)},
		})
	}
	page.Render(w, http.StatusOK, d)
}

// host is the issuer's host, for people.
func (p *provider) host() string {
	if u, err := url.Parse(p.issuer); err == nil {
		return u.Host
	}
	return ""
}

// sendAway begins a flow and sends the browser to the provider (OpenID Connect Core 3.1.2.1; PKCE S256, RFC 7636).
func (a *Auth) sendAway(w http.ResponseWriter, r *http.Request, p *provider, to journey) {
	ctx, cancel := context.WithTimeout(r.Context(), loginWait)
	defer cancel()
	if err := a.reach(ctx); err != nil {
		a.fail(w, r, err, to.returnTo)
		return
	}
	m, err := p.metadata.get(ctx)
	if err != nil {
		a.log.WarnContext(r.Context(), "sign-in is not possible", "provider", p.name, "error", err)
		a.refuse(w, r, codeProviderUnavailable, err)
		return
	}
	f := newFlow(p.name, a.clock())
	state, err := f.state(a.secrets, to)
	if err == nil {
		err = a.setFlow(w, r.Header["Cookie"], a.publicDoor(), f)
	}
	if err != nil {
		a.fail(w, r, err, to.returnTo)
		return
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.verifier()), oidc.Nonce(f.nonce())}
	if p.prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", p.prompt))
	}
	redirect(w, p.oauth(m.value, a.callbackURL(p)).AuthCodeURL(state, options...))
}

// pingEvery is how long an answer of the host database lets sign-ins begin.
const pingEvery = time.Second

// reach asks whether the host database is there, so that nobody is sent to a provider to come back to an error.
func (a *Auth) reach(ctx context.Context) error {
	now := a.clock().UnixNano()
	if since := now - a.reached.Load(); since >= 0 && since < int64(pingEvery) {
		return nil
	}
	if err := a.host.Ping(ctx); err != nil {
		return fmt.Errorf("sign-in cannot begin: %w", unavailable(ctx, err))
	}
	a.reached.Store(now)
	return nil
}

func (a *Auth) callbackURL(p *provider) string {
	return a.origins.public.String() + callbackPath + p.name
}

// redirect sends the browser on. http.Redirect would clean the path, which was judged as it stands.
func redirect(w http.ResponseWriter, target string) {
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
}

// pageFault is a refusal that has a page of its own, no row in the denial table: something about one sign-in.
type pageFault struct {
	status  int
	heading string
	text    string
	cause   error
}

func (f *pageFault) Error() string {
	if f.cause == nil {
		return f.heading
	}
	return f.heading + ": " + f.cause.Error()
}

func (f *pageFault) Unwrap() error { return f.cause }

// fail answers with what err means: a row of the denial table, or a page with a way on.
func (a *Auth) fail(w http.ResponseWriter, r *http.Request, err error, returnTo string) {
	var f *pageFault
	var limited signUpLimited
	switch {
	case errors.As(err, &f):
		a.log.InfoContext(r.Context(), "sign-in refused", "error", err)
		a.denied(r, codeBadRequest, RefusedUser(err))
		page.Render(w, f.status, page.Data{
			Heading: f.heading, Text: []string{f.text},
			Actions: []page.Action{{Label: "Sign in again", URL: loginURL(returnTo, ""), Primary: true}, {Label: "To the start", URL: "/"}},
		})
	case errors.Is(err, errBadHost):
		a.refuse(w, r, codeBadHost, fmt.Errorf("%w; they do at %s", err, a.origins.public))
	case errors.Is(err, ErrBadReturnTo):
		a.refuse(w, r, codeBadReturnTo, err)
	case errors.Is(err, ErrUnknownUser):
		a.refuse(w, r, codeUnknownUser, err)
	case errors.As(err, &limited):
		w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(time.Duration(limited).Seconds())), 10))
		a.refuse(w, r, codeRateLimited, err)
	case errors.Is(err, ErrProviderUnavailable):
		a.log.WarnContext(r.Context(), "identity provider unavailable", "error", err)
		a.refuse(w, r, codeProviderUnavailable, err)
	default:
		if !errors.Is(err, catalog.ErrUnavailable) && r.Context().Err() == nil {
			a.log.ErrorContext(r.Context(), "sign-in failed", "error", err)
		}
		a.refuse(w, r, codeHostDatabase, err)
	}
}
