package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/internal/page"
	"github.com/tenantgate/tenantgate/router"
)

// Doors are how people and programs come in. Package auth stands behind them, in the configuration that is in force.
type Doors interface {
	// Enter says who presents these credentials to the admin listener. It returns auth.ErrUnauthenticated,
	// ErrSessionExpired, ErrInvalidToken, ErrUnknownUser or ErrNotAdmin; any other error means that it could not be
	// found out.
	Enter(ctx context.Context, c auth.Credentials) (auth.Administrator, error)
	// Login, Handoff and Logout serve the pages of those names, whoever asks.
	Login(w http.ResponseWriter, r *http.Request)
	Handoff(w http.ResponseWriter, r *http.Request)
	Logout(w http.ResponseWriter, r *http.Request)
}

// Paths of the listener's own pages.
const (
	loginPath   = "/_gate/login"
	handoffPath = "/_gate/handoff"
	logoutPath  = "/_gate/logout"
	whoamiPath  = "/_gate/whoami"
	apiWhoami   = "/api/v1/whoami"
)

// maxReturnTo bounds a return_to that is made from a request, in bytes; longer ones lead to "/".
const maxReturnTo = 2000

// serveDoors answers what is neither health nor metrics. Only signing in and out is open to everybody; whether anything
// lies at another path is told to those who may enter.
func (a *Admin) serveDoors(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawPath == "" {
		switch r.URL.Path {
		case loginPath:
			a.deps.Doors.Login(w, r)
			return
		case handoffPath:
			a.deps.Doors.Handoff(w, r)
			return
		case logoutPath:
			a.deps.Doors.Logout(w, r)
			return
		}
	}
	who, err := a.deps.Doors.Enter(r.Context(), auth.Credentials{
		Cookies: r.Header["Cookie"], Authorization: r.Header["Authorization"], Host: r.Host,
	})
	if err != nil {
		code := codeOf(err)
		a.deps.Denied(r, string(code), auth.RefusedUser(err))
		a.TurnAway(w, r, code)
		return
	}
	if who.Kind == auth.KindSession && !safe(r.Method) && !sameOrigin(r) {
		a.deps.Denied(r, string(router.CrossOrigin), who.User)
		a.TurnAway(w, r, router.CrossOrigin)
		return
	}
	a.inside(w, r, who)
}

// inside serves those who may enter.
func (a *Admin) inside(w http.ResponseWriter, r *http.Request, who auth.Administrator) {
	serve := map[string]func(http.ResponseWriter, *http.Request, auth.Administrator){
		"/": a.home, whoamiPath: a.whoami, apiWhoami: a.whoami,
	}[r.URL.Path]
	switch {
	case serve == nil || r.URL.RawPath != "":
		a.TurnAway(w, r, router.NotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		a.TurnAway(w, r, router.MethodNotAllowed)
	default:
		serve(w, r, who)
	}
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// sameOrigin reports whether a page of this listener, or no page at all, sent the request: what a browser says of it by
// Sec-Fetch-Site, and Origin where it does not (CSRF-1). Another port of this machine is the same site, and not us.
func sameOrigin(r *http.Request) bool {
	switch site := r.Header["Sec-Fetch-Site"]; len(site) {
	case 0:
		return true // Origin, where there is one, was looked at for all requests
	case 1:
		return site[0] == "same-origin" || site[0] == "none"
	default:
		return false
	}
}

func codeOf(err error) router.Code {
	switch {
	case errors.Is(err, auth.ErrUnauthenticated):
		return router.Unauthenticated
	case errors.Is(err, auth.ErrSessionExpired):
		return router.SessionExpired
	case errors.Is(err, auth.ErrInvalidToken):
		return router.InvalidToken
	case errors.Is(err, auth.ErrUnknownUser):
		return router.UnknownUser
	case errors.Is(err, auth.ErrNotAdmin):
		return router.NoAccess
	}
	return router.HostDatabaseUnavailable
}

// TurnAway answers with a row of the denial table: a redirect where a browser can sign in, else a page for people and
// problem+json for programs.
func (a *Admin) TurnAway(w http.ResponseWriter, r *http.Request, code router.Code) {
	ref := code.Refusal()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if code == router.SessionExpired {
		auth.ClearAdminSession(w)
	}
	if ref.RetryAfter > 0 && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.Itoa(int(ref.RetryAfter.Seconds())))
	}
	detail := ref.Detail
	if code == router.NoAccess {
		detail = "The admin listener is for system administrators (is_sys_admin)."
	}
	if ref.Status == http.StatusUnauthorized {
		challenge := `Bearer realm="tenantgate"`
		if code == router.InvalidToken {
			challenge += `, error="invalid_token"`
		}
		h.Set("Www-Authenticate", challenge)
	}
	people := navigates(r)
	if people && r.Method == http.MethodGet && (code == router.Unauthenticated || code == router.SessionExpired) {
		h.Set("Location", loginPath+"?return_to="+url.QueryEscape(returnTo(r)))
		w.WriteHeader(http.StatusFound)
		return
	}
	if people {
		d := page.Data{Heading: ref.Title, Text: []string{detail}, Code: string(code)}
		if code == router.NoAccess || code == router.UnknownUser {
			d.Actions = []page.Action{{Label: "Sign out", URL: logoutPath, Primary: true}}
		}
		page.Render(w, ref.Status, d)
		return
	}
	refuse(w, ref.Status, string(code), detail)
}

// navigates reports whether a person's browser is loading a page.
func navigates(r *http.Request) bool {
	if mode := r.Header["Sec-Fetch-Mode"]; len(mode) > 0 && (len(mode) > 1 || mode[0] != "navigate") {
		return false
	}
	return strings.Contains(strings.Join(r.Header["Accept"], ","), "text/html")
}

// returnTo is the page that was asked for, as a local path.
func returnTo(r *http.Request) string {
	to := r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	if len(to) > maxReturnTo || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
		return "/"
	}
	return to
}

// home says who is in, and how the process is.
func (a *Admin) home(w http.ResponseWriter, _ *http.Request, who auth.Administrator) {
	ready := a.Judge(a.deps.State(), a.deps.Clock())
	d := page.Data{Heading: "tenantgate", Title: "tenantgate admin", Who: who.Email}
	if a.deps.Version != "" {
		d.Text = append(d.Text, "Version "+a.deps.Version+".")
	}
	for _, c := range ready.Checks {
		item := page.Item{Title: c.Name, Text: c.Detail, Badge: "ok"}
		if !c.OK {
			item.Badge = "failing"
		}
		d.Items = append(d.Items, item)
	}
	for _, p := range ready.Providers {
		d.Items = append(d.Items, page.Item{Title: "provider " + p.Name, Badge: p.Status})
	}
	d.Items = append(d.Items, page.Item{Title: "readiness", Badge: ready.Status, Action: &page.Action{URL: "/readyz"}})
	if a.deps.Metrics != nil {
		d.Items = append(d.Items, page.Item{Title: "metrics", Action: &page.Action{URL: "/metrics"}})
	}
	if who.Kind == auth.KindSession {
		d.Actions = []page.Action{{Label: "Sign out", URL: logoutPath}}
	}
	page.Render(w, http.StatusOK, d)
}

// whoamiAnswer says by what the listener was entered.
type whoamiAnswer struct {
	User    *whoamiUser   `json:"user"` // null for an admin token
	Session whoamiSession `json:"session"`
}

type whoamiUser struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

type whoamiSession struct {
	Kind      string  `json:"kind"` // session or admin_token
	Token     *string `json:"token_id"`
	ExpiresAt *string `json:"expires_at"` // null: it does not end by itself
}

func (a *Admin) whoami(w http.ResponseWriter, _ *http.Request, who auth.Administrator) {
	out := whoamiAnswer{Session: whoamiSession{Kind: who.Kind.String()}}
	if who.User != "" {
		out.User = &whoamiUser{string(who.User), who.Email}
	}
	if who.Token != "" {
		out.Session.Token = new(string(who.Token))
	}
	if !who.Expires.IsZero() {
		out.Session.ExpiresAt = new(who.Expires.UTC().Format(time.RFC3339))
	}
	answer(w, http.StatusOK, "application/json", out)
}
