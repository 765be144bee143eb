package auth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

const (
	// maxIDTokenHint is the longest ID token that is kept for the provider's sign-out page: it travels in a URL.
	maxIDTokenHint = 4 << 10
	logoutTimeout  = 5 * time.Second
	// endSessionWait bounds how long a sign-out waits for the provider's documents; it has happened already.
	endSessionWait = 2 * time.Second
)

// Logout serves GET (a page with a button) and POST /_gate/logout. POST ends the session of every cookie that is
// presented, with its audit row, clears the cookies whatever happens, and goes to the provider's end_session_endpoint
// (OpenID Connect RP-Initiated Logout 1.0) or shows that it is done. Only a form of our own origin may do that (CSRF-1).
func (a *Auth) Logout(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !a.allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoutTimeout)
	defer cancel()
	if r.Method != http.MethodPost {
		a.logoutPage(ctx, w, r)
		return
	}
	asked := r.Clone(ctx)
	asked.Host = a.hostOf(r)
	// Of two the check would see the first alone; no browser sends two.
	doubled := len(r.Header["Origin"]) > 1 || len(r.Header["Sec-Fetch-Site"]) > 1
	if err := a.crossSite.Check(asked); err != nil || doubled {
		a.refuse(w, r, codeCrossOrigin, errors.New("sign-out was asked for by another site"))
		return
	}
	a.ClearSession(w)
	ended, err := a.endPresented(ctx, r)
	if err != nil {
		a.fail(w, r, err, "/")
		return
	}
	if target := a.endSessionURL(ctx, ended); target != "" {
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	signedOut(w)
}

// logoutPage asks; nothing ends by opening an address. Without a session it says so: this is also where a provider
// sends people back to.
func (a *Auth) logoutPage(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	tokens, good, n := sessionTokens(r.Header["Cookie"], a.names.session)
	host := normalHost(a.hostOf(r))
	d := page.Data{
		Heading: "Sign out?", Text: []string{"This ends your session here and at your identity provider."},
		Actions: []page.Action{
			{Label: "Sign out", URL: logoutPath, Method: http.MethodPost, Primary: true},
			{Label: "Stay signed in", URL: "/"},
		},
	}
	open := false
	for i := range good {
		f, err := a.open(ctx, &tokens[i], host)
		switch {
		case err == nil:
			d.Who, open = f.email, true
			d.FormTargets = a.formTargets(f)
		case !errors.Is(err, ErrSessionExpired):
			open = true // unknown now, or a user who is blocked: the button must work all the same
		}
		if err == nil {
			break
		}
	}
	if n == 0 || !open {
		signedOut(w)
		return
	}
	page.Render(w, http.StatusOK, d)
}

// formTargets are where the form's redirects may lead, for browsers that hold form-action against them. A provider may
// sign out through several hosts of its own, so with an https one the scheme is named, not the host.
func (a *Auth) formTargets(f *sessionFacts) []string {
	p := a.provider(f.row.Provider)
	if p == nil {
		return nil
	}
	u, err := url.Parse(p.issuer)
	if err != nil || u.Scheme == "https" {
		return []string{"https:"}
	}
	return []string{u.Scheme + "://" + u.Host}
}

func signedOut(w http.ResponseWriter) {
	page.Render(w, http.StatusOK, page.Data{
		Heading: "You are signed out", Text: []string{"You can close this window, or sign in again."},
		Actions: []page.Action{{Label: "Sign in", URL: loginPath, Primary: true}},
	})
}

// endPresented ends the sessions of all cookies presented and returns them. Errors: the database's.
func (a *Auth) endPresented(ctx context.Context, r *http.Request) ([]*sessionFacts, error) {
	tokens, good, _ := sessionTokens(r.Header["Cookie"], a.names.session)
	var ended []*sessionFacts
	for i := range good {
		// Read, not remembered: what was forgotten a moment ago must not be brought back by a sign-out.
		a.sessions.Invalidate(tokens[i].key())
		f, found, err := a.facts(ctx, tokens[i].key())
		if err != nil {
			return nil, err
		}
		if found && a.matches(f, &tokens[i]) {
			ended = append(ended, f)
		}
	}
	if len(ended) == 0 {
		return nil, nil
	}
	ip := a.clientIP(r)
	err := a.host.InTx(ctx, func(tx *catalog.Tx) error {
		for _, f := range ended {
			actor := catalog.Actor{ID: string(f.row.UserID)}
			if ip.IsValid() {
				actor.IP = ip.String()
			}
			if err := endSession(catalog.WithActor(ctx, actor), tx, f, "asked for"); err != nil {
				return err
			}
		}
		return nil
	})
	for _, f := range ended {
		if key, ok := keyOfSession(f.row.ID); ok {
			a.sessions.Invalidate(key)
		}
	}
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// endSessionURL is where the provider signs the person out too; "" if it offers no such thing, or is not to be had.
func (a *Auth) endSessionURL(ctx context.Context, ended []*sessionFacts) string {
	if len(ended) == 0 {
		return ""
	}
	f := ended[0]
	p := a.provider(f.row.Provider)
	if p == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, endSessionWait)
	defer cancel()
	m, err := p.metadata.get(ctx)
	if err != nil || m.value.EndSession == "" {
		return ""
	}
	u, err := url.Parse(m.value.EndSession)
	if err != nil {
		return ""
	}
	q := u.Query()
	if f.row.IDToken != "" {
		if token, err := a.secrets.Open(idTokenPurpose(f.row.ID), f.row.IDToken); err == nil {
			q.Set("id_token_hint", string(token))
		}
	}
	q.Set("client_id", p.clientID)
	q.Set("post_logout_redirect_uri", a.origins.public.String()+logoutPath)
	u.RawQuery = q.Encode()
	return u.String()
}
