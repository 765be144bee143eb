package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	backchannelPath = "/_gate/backchannel-logout/"

	// maxLogoutForm bounds the body: a logout token and what a form adds to it.
	maxLogoutForm = maxIDToken + 4<<10
	// maxLogoutAge is how old a logout token may be, whatever its exp says; two minutes are usual (Back-Channel Logout
	// 1.0, 2.4). For so long, and leeway and other replicas' clocks beyond it, its jti is remembered.
	maxLogoutAge  = 10 * time.Minute
	rememberExtra = 10 * time.Minute
	maxJTI        = 256
	maxSID        = 256

	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// errReplayed: the logout token was used before.
var errReplayed = errors.New("logout_token was used before")

// logoutOrder is what a verified logout token asks for: the session sid, or all sessions of subject.
type logoutOrder struct {
	provider     *provider
	subject, sid string
	jti          string
	issued       time.Time
}

// Backchannel serves POST /_gate/backchannel-logout/{provider} (OpenID Connect Back-Channel Logout 1.0): the sessions
// that the provider names end on every host, in one transaction with their audit rows. It answers 200, also where
// there is no such session; 400 with an OAuth error object where the token is not good or was used before; 503 where
// that could not be checked or done, and then the same token is good again. Cookies count for nothing here: who may end
// a session is whoever the provider's signature stands for.
func (a *Auth) Backchannel(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !a.allows(w, r, http.MethodPost) {
		return
	}
	p := a.provider(strings.TrimPrefix(r.URL.Path, backchannelPath))
	if p == nil || !p.signIn {
		a.refuse(w, r, codeNotFound, errors.New("no such identity provider"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fetchTimeout)
	defer cancel()
	raw, err := readLogoutForm(w, r)
	if err != nil {
		a.refuseLogout(w, r, p, err)
		return
	}
	order, err := a.readLogoutToken(ctx, p, raw)
	if err == nil {
		err = a.obey(ctx, r, order)
	}
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, ErrProviderUnavailable):
		a.log.WarnContext(ctx, "logout token could not be checked", "provider", p.name, "error", err)
		a.refuse(w, r, codeProviderUnavailable, err)
	case errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil:
		a.refuse(w, r, codeHostDatabase, err)
	default:
		a.refuseLogout(w, r, p, err)
	}
}

// refuseLogout answers as section 2.8 wants. The texts are ours and hold nothing of what was sent.
func (a *Auth) refuseLogout(w http.ResponseWriter, r *http.Request, p *provider, err error) {
	a.log.InfoContext(r.Context(), "logout token refused", "provider", p.name, "error", err)
	a.denied(r, codeInvalidToken, "")
	body, _ := json.Marshal(struct { // two texts: it cannot fail
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{"invalid_request", err.Error()})
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(body)
}

// readLogoutForm takes the one logout_token out of a form in the body; a query counts for nothing.
func readLogoutForm(w http.ResponseWriter, r *http.Request) (string, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return "", errors.New("body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogoutForm))
	if err != nil {
		return "", fmt.Errorf("body cannot be read, or is longer than %d bytes", maxLogoutForm)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", errors.New("body is not a form")
	}
	if tokens := form["logout_token"]; len(tokens) == 1 {
		return tokens[0], nil
	}
	return "", errors.New("form must hold logout_token once")
}

// readLogoutToken verifies a logout token (section 2.6): form, header and claims first, then the signature, then what
// go-oidc asks of one. Errors other than ErrProviderUnavailable mean that the token is bad.
func (a *Auth) readLogoutToken(ctx context.Context, p *provider, raw string) (*logoutOrder, error) {
	t, err := parseJWS(raw, maxIDToken)
	if err != nil {
		return nil, err
	}
	now := a.clock()
	order, err := p.checkLogoutToken(t, now)
	if err != nil {
		return nil, err
	}
	if _, err := p.verifySignature(ctx, t); err != nil {
		return nil, err
	}
	verifier := oidc.NewVerifier(p.issuer, verified{raw, t.payload}, &oidc.Config{
		ClientID: p.clientID, SupportedSigningAlgs: allAlgorithms(),
		Now: func() time.Time { return now.Add(-defaultLeeway) },
	})
	if _, err := verifier.VerifyLogout(ctx, raw); err != nil {
		return nil, errors.New("is not a logout token for us") // go-oidc's texts repeat claims
	}
	return order, nil
}

// checkLogoutToken holds header and claims against section 2.4 and 2.6. An ID token or an access token is never taken
// for a logout token (RFC 8725 3.11): those have no events, and a nonce or a type of their own.
func (p *provider) checkLogoutToken(t *jws, now time.Time) (*logoutOrder, error) {
	switch t.typ {
	case "", "jwt", "logout+jwt":
	default:
		return nil, errors.New("token is of another type")
	}
	if iss, ok := t.claims.text("iss"); !ok || iss != p.issuer {
		return nil, errors.New("iss is not the provider's")
	}
	if aud, ok := t.claims.audience(); !ok || !slices.Contains(aud, p.clientID) {
		return nil, errors.New("aud is not us")
	}
	if _, ok := t.claims["nonce"]; ok {
		return nil, errors.New("token has a nonce")
	}
	if !t.claims.saysLogout() {
		return nil, errors.New("events is not that of a logout")
	}
	o := &logoutOrder{provider: p}
	var given, ok bool
	if o.issued, given, ok = t.claims.date("iat"); !given || !ok || now.Add(defaultLeeway).Before(o.issued) {
		return nil, errors.New("iat is missing or in the future")
	}
	if now.Sub(o.issued) >= maxLogoutAge+defaultLeeway {
		return nil, errors.New("token is too old")
	}
	if exp, given, ok := t.claims.date("exp"); !given || !ok || !now.Before(exp.Add(defaultLeeway)) {
		return nil, errors.New("token has expired, or has no exp")
	}
	if nbf, _, ok := t.claims.date("nbf"); !ok || now.Add(defaultLeeway).Before(nbf) {
		return nil, errors.New("token is not valid yet")
	}
	if o.jti, ok = t.claims.text("jti"); !ok || o.jti == "" || len(o.jti) > maxJTI {
		return nil, errors.New("token has no jti that is a short text")
	}
	return o, o.readWhom(t.claims)
}

// readWhom reads sub and sid, of which at least one must be there.
func (o *logoutOrder) readWhom(claims object) error {
	var ok bool
	if _, given := claims["sub"]; given {
		if o.subject, ok = claims.subject(); !ok {
			return errors.New("sub is not a short text")
		}
	}
	if _, given := claims["sid"]; given {
		if o.sid, ok = claims.text("sid"); !ok || o.sid == "" || len(o.sid) > maxSID {
			return errors.New("sid is not a short text")
		}
	}
	if o.subject == "" && o.sid == "" {
		return errors.New("token has neither sub nor sid")
	}
	return nil
}

// saysLogout reports whether events is an object whose member of the logout event is an object.
func (o object) saysLogout() bool {
	var events map[string]json.RawMessage
	if raw, ok := o["events"]; !ok || json.Unmarshal(raw, &events) != nil {
		return false
	}
	var event map[string]json.RawMessage
	return json.Unmarshal(events[logoutEvent], &event) == nil && event != nil
}

// obey ends the sessions and remembers the token, in one transaction: a token whose transaction failed can come again.
func (a *Auth) obey(ctx context.Context, r *http.Request, o *logoutOrder) error {
	sum := sha256.Sum256([]byte(o.provider.name + "\x00" + o.jti)) // neither holds a NUL
	token := catalog.LogoutToken{
		ID: hex.EncodeToString(sum[:]), Provider: o.provider.name, Subject: o.subject, SID: o.sid,
		Issued: catalog.Timestamp(o.issued), Expires: catalog.Timestamp(o.issued.Add(maxLogoutAge + defaultLeeway + rememberExtra)),
	}
	actor := catalog.Actor{ID: "provider:" + o.provider.name}
	if ip := a.clientIP(r); ip.IsValid() {
		actor.IP = ip.String()
	}
	ctx = catalog.WithActor(ctx, actor)
	var ended []catalog.Session
	err := a.host.InTx(ctx, func(tx *catalog.Tx) (err error) {
		if err := a.lockOrder(ctx, tx, o); err != nil {
			return err
		}
		fresh, err := tx.UseLogoutToken(ctx, token)
		if err != nil {
			return err
		}
		if !fresh {
			return errReplayed
		}
		if ended, err = tx.Sessions.DeleteByProvider(ctx, o.provider.name, o.subject, o.sid); err != nil {
			return err
		}
		return auditEnded(ctx, tx, o.provider.name, ended)
	})
	a.forget(ended)
	if err == nil || errors.Is(err, errReplayed) {
		return err
	}
	return fmt.Errorf("end sessions: %w", unavailable(ctx, err))
}

// lockOrder takes the locks that sign-ins of the same person take, in the same order.
func (a *Auth) lockOrder(ctx context.Context, tx *catalog.Tx, o *logoutOrder) error {
	if o.subject != "" {
		if err := lockSubject(ctx, tx, o.provider.prefix+o.subject); err != nil {
			return err
		}
	}
	if o.sid == "" {
		return nil
	}
	return tx.LockProviderSession(ctx, o.provider.name, o.sid)
}

// maxAuditedSessions bounds how many sessions one audit row names; their number is always told.
const maxAuditedSessions = 10

// auditEnded writes one row for each user: a provider may end very many sessions of one person at once.
func auditEnded(ctx context.Context, tx *catalog.Tx, provider string, ended []catalog.Session) error {
	byUser := map[catalog.UserID][]string{}
	var users []catalog.UserID
	for _, s := range ended {
		if _, ok := byUser[s.UserID]; !ok {
			users = append(users, s.UserID)
		}
		byUser[s.UserID] = append(byUser[s.UserID], string(s.ID))
	}
	for _, user := range users {
		ids := byUser[user]
		details := map[string]any{
			"provider": provider, "reason": "the provider ended it (back channel)", "sessions": len(ids),
			"session": strings.Join(ids[:min(len(ids), maxAuditedSessions)], " "),
		}
		if err := tx.Audit(ctx, "sign_out", string(user), details); err != nil {
			return err
		}
	}
	return nil
}
