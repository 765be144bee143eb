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

// everywhereField of the sign-out form: "1" ends all sessions of the user, in other browsers too.
const everywhereField = "everywhere"

// maxSignOutForm bounds the form of a sign-out.
const maxSignOutForm = 4 << 10

// Logout serves GET (a page with buttons) and POST /_gate/logout, on every host. POST ends the sign-ins of every cookie
// that is presented, with their sessions on all hosts and an audit row for each, clears the cookies whatever happens,
// and goes to the provider's end_session_endpoint (OpenID Connect RP-Initiated Logout 1.0) or shows that it is done.
// Only a form of our own origin may do that (CSRF-1).
func (a *Auth) Logout(w http.ResponseWriter, r *http.Request) {
	host := normalHost(a.hostOf(r))
	a.logoutAt(w, r, &door{scope: host, names: a.names}, func() { a.ClearSession(w, host) })
}

// logoutAt is Logout at a door; clear takes its cookies away.
func (a *Auth) logoutAt(w http.ResponseWriter, r *http.Request, d *door, clear func()) {
	w.Header().Set("Cache-Control", "no-store")
	if !a.allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoutTimeout)
	defer cancel()
	if r.Method != http.MethodPost {
		a.logoutPage(ctx, w, r, d, clear)
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
	clear()
	r.Body = http.MaxBytesReader(w, r.Body, maxSignOutForm)
	everywhere := r.PostFormValue(everywhereField) == "1" // what cannot be read asks for nothing more than a sign-out
	ended, err := a.endPresented(ctx, r, d, everywhere)
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
func (a *Auth) logoutPage(ctx context.Context, w http.ResponseWriter, r *http.Request, d *door, clear func()) {
	tokens, good, n := sessionTokens(r.Header["Cookie"], d.names.session)
	p := page.Data{
		Heading: "Sign out?", Text: []string{"This ends your session in this browser, on every address of this application, and at your identity provider.", "Everywhere means in other browsers and on other devices, too."},
		Actions: []page.Action{
			{Label: "Sign out", URL: logoutPath, Method: http.MethodPost, Primary: true},
			{Label: "Sign out everywhere", URL: logoutPath, Method: http.MethodPost, Hidden: map[string]string{everywhereField: "1"}},
			{Label: "Stay signed in", URL: "/"},
		},
	}
	open := false
	for i := range good {
		f, err := a.open(ctx, &tokens[i], d.scope)
		switch {
		case err == nil:
			p.Who, open = f.email, true
			p.FormTargets = a.formTargets(f)
		case !errors.Is(err, ErrSessionExpired):
			open = true // unknown now, or a user who is blocked: the button must work all the same
		}
		if err == nil {
			break
		}
	}
	if n > 0 && !open {
		clear() // ended elsewhere
	}
	if !open {
		signedOut(w)
		return
	}
	page.Render(w, http.StatusOK, p)
}

// formTargets are where the form's redirects may lead, for browsers that hold form-action against them. A provider may
// sign out through several hosts of its own, so with an https one the scheme is named, not the host.
func (a *Auth) formTargets(f *sessionFacts) []string {
	public := a.origins.public.String() // where the provider sends people back to
	p := a.provider(f.row.Provider)
	if p == nil {
		return []string{public}
	}
	u, err := url.Parse(p.issuer)
	if err != nil || u.Scheme == "https" {
		return []string{public, "https:"}
	}
	return []string{public, u.Scheme + "://" + u.Host}
}

func signedOut(w http.ResponseWriter) {
	page.Render(w, http.StatusOK, page.Data{
		Heading: "You are signed out", Text: []string{"You can close this window, or sign in again."},
		Actions: []page.Action{{Label: "Sign in", URL: loginPath, Primary: true}},
	})
}

// endPresented ends the sign-ins of all cookies presented, on every host, and returns the sessions that were theirs.
// With everywhere the other sign-ins of these users end too, where the cookie is still good: one that has ended may have
// been found anywhere. Errors: the database's.
func (a *Auth) endPresented(ctx context.Context, r *http.Request, d *door, everywhere bool) ([]catalog.Session, error) {
	tokens, good, _ := sessionTokens(r.Header["Cookie"], d.names.session)
	var presented []*sessionFacts
	all := map[catalog.UserID]bool{}
	for i := range good {
		// Read, not remembered: what was forgotten a moment ago must not be brought back by a sign-out.
		a.sessions.Invalidate(tokens[i].key())
		f, found, err := a.facts(ctx, tokens[i].key())
		if err != nil {
			return nil, err
		}
		if found && a.matches(f, &tokens[i]) {
			presented = append(presented, f)
			_, err := a.open(ctx, &tokens[i], d.scope)
			all[f.row.UserID] = all[f.row.UserID] || everywhere && err == nil
		}
	}
	if len(presented) == 0 {
		return nil, nil
	}
	ip := a.clientIP(r)
	var ended []catalog.Session
	err := a.host.InTx(ctx, func(tx *catalog.Tx) error {
		for _, f := range presented {
			actor := catalog.Actor{ID: string(f.row.UserID)}
			if ip.IsValid() {
				actor.IP = ip.String()
			}
			rows, err := endFor(catalog.WithActor(ctx, actor), tx, &f.row, all[f.row.UserID])
			if err != nil {
				return err
			}
			ended = append(ended, rows...)
		}
		return nil
	})
	for _, f := range presented { // also where another replica was quicker
		ended = append(ended, f.row)
	}
	a.forget(ended)
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// endFor ends a session's sign-in, or all of its user's.
func endFor(ctx context.Context, tx *catalog.Tx, session *catalog.Session, everywhere bool) ([]catalog.Session, error) {
	if !everywhere {
		return endSignIn(ctx, tx, session, "asked for")
	}
	if err := tx.LockSessions(ctx, session.UserID); err != nil {
		return nil, err
	}
	rows, err := tx.Sessions.ListByUser(ctx, session.UserID)
	if err != nil {
		return nil, err
	}
	n, err := tx.Sessions.DeleteByUser(ctx, session.UserID)
	if err != nil || n == 0 {
		return nil, err
	}
	return rows, tx.Audit(ctx, "sign_out", string(session.UserID), map[string]any{
		"session": string(session.ID), "host": session.Host, "reason": "asked for everywhere", "sessions": n,
	})
}

// endSessionURL is where the provider signs the person out too; "" if it offers no such thing, or is not to be had.
// Of a sign-in the session on public_url holds the ID token.
func (a *Auth) endSessionURL(ctx context.Context, ended []catalog.Session) string {
	if len(ended) == 0 {
		return ""
	}
	row := &ended[len(ended)-1] // one that was presented
	for i := range ended {
		if s := &ended[i]; s.IDToken != "" && s.SignInOf() == row.SignInOf() && s.UserID == row.UserID {
			row = s
			break
		}
	}
	p := a.provider(row.Provider)
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
	if row.IDToken != "" {
		if token, err := a.secrets.Open(idTokenPurpose(row.ID), row.IDToken); err == nil {
			q.Set("id_token_hint", string(token))
		}
	}
	q.Set("client_id", p.clientID)
	q.Set("post_logout_redirect_uri", a.origins.public.String()+logoutPath)
	u.RawQuery = q.Encode()
	return u.String()
}
