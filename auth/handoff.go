package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// A host other than public_url's gets a session of its own in three steps (contract, section 5, Other hosts):
//
//	H          /_gate/login    sets a flow cookie, whose nonce stays there, and sends its hash to public_url, sealed: the ask
//	public_url /_gate/login    signs in or uses its own session, and makes a code for who may pass at H
//	H          /_gate/handoff  takes the code from the browser that holds the nonce, and opens a session
//
// A code that is stolen on its way is worth nothing without the nonce, which never leaves H and its browser; an ask that
// is sent to somebody else signs them in nowhere.
const (
	codeLifetime = time.Minute
	codeBytes    = 32
	askVersion   = 1
	askPurpose   = "handoff/ask"
	handoffLabel = "hand-off"
)

// errOverHandoff: the code is none of ours, used, over, or another browser's or host's.
var errOverHandoff = errors.New("hand-off code is not good here (any more)")

// ask is what a host wants of public_url: a sign-in for whoever holds the nonce.
type ask struct {
	issued time.Time
	nonce  [sha256.Size]byte // the hash; the nonce itself stays in the browser
	kind   doorKind
	host   string
}

// handoffNonce is the hash of what only the flow's browser has.
func (f *flow) handoffNonce() [sha256.Size]byte { return sha256.Sum256(f.derive("hand-off nonce")) }

// append writes the ask, also one that is nil, with its length in front.
func (k *ask) append(b []byte) []byte {
	if k == nil {
		return append(b, 0, 0)
	}
	n := 1 + 8 + len(k.nonce) + 1 + len(k.host)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, askVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(k.issued.Unix()))
	b = append(b, k.nonce[:]...)
	return append(append(b, byte(k.kind)), k.host...)
}

// cutAsk reads what append wrote, and returns the rest.
func cutAsk(b []byte) (k *ask, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; n == 0 {
		return nil, b, true
	}
	if n > len(b) || n < 1+8+sha256.Size+1 || b[0] != askVersion {
		return nil, nil, false
	}
	k = &ask{issued: time.Unix(int64(binary.BigEndian.Uint64(b[1:9])), 0)}
	copy(k.nonce[:], b[9:])
	k.kind, k.host = doorKind(b[9+sha256.Size]), string(b[9+sha256.Size+1:n])
	return k, b[n:], true
}

// askPublic begins a hand-off at d: the nonce stays here, in a flow cookie.
func (a *Auth) askPublic(w http.ResponseWriter, r *http.Request, d *door, returnTo, provider string) {
	ctx, cancel := context.WithTimeout(r.Context(), loginWait)
	defer cancel()
	if err := a.reach(ctx); err != nil {
		a.fail(w, r, err, returnTo)
		return
	}
	f := newFlow("", a.clock())
	k := &ask{issued: f.issued, nonce: f.handoffNonce(), kind: d.kind, host: d.host()}
	sealed, err := a.secrets.Seal(askPurpose, k.append(nil))
	if err == nil {
		err = a.setFlow(w, r.Header["Cookie"], d, f)
	}
	if err != nil {
		a.fail(w, r, err, returnTo)
		return
	}
	if strings.HasPrefix(returnTo, "/") {
		returnTo = d.origin + returnTo
	}
	q := url.Values{"handoff": {strings.ReplaceAll(sealed, ":", ".")}}
	redirect(w, a.origins.public.String()+loginQuery(q, returnTo, provider))
}

// openAsk reads an ask that a host of ours made less than ten minutes ago.
func (a *Auth) openAsk(text string) (*ask, error) {
	plain, err := a.secrets.Open(askPurpose, strings.ReplaceAll(text, ".", ":"))
	if err != nil {
		return nil, badAnswer(errors.New("hand-off was not asked for by a host of ours"))
	}
	k, rest, ok := cutAsk(plain)
	if !ok || k == nil || len(rest) > 0 {
		return nil, badAnswer(errors.New("hand-off is malformed"))
	}
	if age := a.clock().Sub(k.issued); age < -time.Minute || age >= flowLifetime {
		return nil, overFault()
	}
	return k, nil
}

func overFault() error {
	return &pageFault{
		status: http.StatusBadRequest, heading: "This sign-in is over",
		text: "It was finished already, took too long, or was begun in another browser. Begin again here.",
	}
}

// askedDoor finds the door of an ask as it is now; errBadHost if it is none any more.
func (a *Auth) askedDoor(ctx context.Context, k *ask) (*door, error) {
	if k.kind == adminDoor {
		if d := a.adminDoor(); d != nil && d.host() == k.host {
			return d, nil
		}
		return nil, errBadHost
	}
	d, err := a.doorOf(ctx, k.host)
	if err == nil && d.kind == publicDoor {
		err = errBadHost
	}
	return d, err
}

// handOn uses the session that the browser has on public_url, if it has one. false: nothing was answered, sign in first.
func (a *Auth) handOn(w http.ResponseWriter, r *http.Request, to journey) bool {
	f, err := a.sessionAt(r.Context(), a.publicDoor(), r.Header["Cookie"])
	if err == nil && to.ask.kind == adminDoor && a.staleForAdmin(f) {
		return false // the admin listener would refuse what comes of it, again and again
	}
	switch {
	case err == nil:
		a.goOn(w, r, &f.row, to)
	case errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrSessionExpired):
		return false
	default:
		a.fail(w, r, err, to.returnTo)
	}
	return true
}

// goOn ends a sign-in on public_url: where the person wanted to go, or with a code to the host that asked, if the
// person may pass there. For others no code exists.
func (a *Auth) goOn(w http.ResponseWriter, r *http.Request, session *catalog.Session, to journey) {
	if to.ask == nil {
		redirect(w, to.returnTo)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), signInTimeout)
	defer cancel()
	d, err := a.askedDoor(ctx, to.ask)
	if err != nil {
		a.fail(w, r, err, "/")
		return
	}
	ok, err := a.mayPass(ctx, session.UserID, d)
	if err != nil {
		a.fail(w, r, unavailable(ctx, err), to.returnTo)
		return
	}
	if !ok {
		a.refuse(w, r, codeNoAccess, refusedFor(errors.New("no active membership at the host that asked"), session.UserID, true))
		return
	}
	code, err := a.makeCode(ctx, session, d, to.ask)
	if err != nil {
		a.fail(w, r, err, to.returnTo)
		return
	}
	q := url.Values{"code": {code}}
	if returnTo, ok := strings.CutPrefix(to.returnTo, d.origin+"/"); ok {
		q.Set("return_to", "/"+returnTo)
	} else if to.returnTo != "/" {
		q.Set("return_to", to.returnTo)
	}
	redirect(w, d.origin+handoffPath+"?"+q.Encode())
}

// makeCode stores a hand-off of the session's sign-in and returns its code.
func (a *Auth) makeCode(ctx context.Context, session *catalog.Session, d *door, k *ask) (string, error) {
	var raw [codeBytes]byte
	_, _ = rand.Read(raw[:]) // never fails, see crypto/rand
	code := base64.RawURLEncoding.EncodeToString(raw[:])
	now := a.clock()
	signedIn, bad := catalog.ParseTimestamp(signedInAt(session))
	ends, bad2 := catalog.ParseTimestamp(session.ExpiresAt)
	if err := errors.Join(bad, bad2); err != nil {
		return "", fmt.Errorf("hand on: %w", err)
	}
	if end := signedIn.Add(a.absolute); end.Before(ends) {
		ends = end
	}
	row := &catalog.Handoff{
		CodeHash: hashOf(code), UserID: session.UserID, Host: d.scope, NonceHash: hex.EncodeToString(k.nonce[:]),
		SignIn: session.SignInOf(), Provider: session.Provider, Subject: session.Subject, SID: session.SID,
		SignedInAt: catalog.Timestamp(signedIn), SessionExpiresAt: catalog.Timestamp(ends),
		CreatedAt: catalog.Timestamp(now), ExpiresAt: catalog.Timestamp(now.Add(codeLifetime)),
	}
	if d.kind == domainDoor {
		row.TenantID, row.OnlyTenant = d.tenant, d.tenant
	}
	row.MAC = hex.EncodeToString(handoffMAC(a.keys.macs[0], code, row))
	if err := a.host.Handoffs.Insert(ctx, row); err != nil {
		return "", fmt.Errorf("hand on: %w", err)
	}
	return code, nil
}

func hashOf(code string) string {
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

// handoffMAC binds a code to everything that comes of it, so that a row that another program wrote opens nothing.
func handoffMAC(key []byte, code string, h *catalog.Handoff) []byte {
	return macOf(key, handoffLabel, code, string(h.UserID), string(h.TenantID), string(h.OnlyTenant), h.Host, h.NonceHash, h.SignIn,
		h.Provider, h.Subject, h.SID, h.SignedInAt, h.SessionExpiresAt, h.CreatedAt, h.ExpiresAt)
}

// Handoff serves GET /_gate/handoff?code=&return_to= on the host that asked: the end of a hand-off.
func (a *Auth) Handoff(w http.ResponseWriter, r *http.Request) {
	if d := a.atDoor(w, r, http.MethodGet); d != nil {
		a.handoffAt(w, r, d)
	}
}

func (a *Auth) handoffAt(w http.ResponseWriter, r *http.Request, d *door) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["code"]) != 1 || len(query["return_to"]) > 1 {
		a.fail(w, r, badAnswer(errors.New("code is missing or there twice")), "/")
		return
	}
	returnTo, err := a.ReturnTo(r.Context(), query.Get("return_to"))
	if errors.Is(err, ErrBadReturnTo) {
		returnTo, err = "/", nil
	}
	if err != nil {
		a.fail(w, r, err, "/")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), signInTimeout)
	defer cancel()
	f, err := a.redeem(ctx, w, r, d, query.Get("code"))
	if errors.Is(err, errOverHandoff) {
		a.stray(w, r, d, returnTo)
		return
	}
	if err != nil {
		a.fail(w, r, unavailableHandoff(ctx, err), returnTo)
		return
	}
	dropCookie(w, d.names.flow+f.id.String(), d.names.secure)
	redirect(w, returnTo)
}

func unavailableHandoff(ctx context.Context, err error) error {
	if errors.Is(err, ErrUnknownUser) {
		return err
	}
	return unavailable(ctx, err)
}

// redeem exchanges a code for a session of d, sets its cookie, and returns the flow that waited for it.
func (a *Auth) redeem(ctx context.Context, w http.ResponseWriter, r *http.Request, d *door, code string) (*flow, error) {
	if len(code) != base64.RawURLEncoding.EncodedLen(codeBytes) {
		return nil, errOverHandoff
	}
	h, err := a.host.Handoffs.Get(ctx, hashOf(code)) // before the transaction: anybody can send a code, nobody should hold up writers
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, errOverHandoff
	}
	if err != nil {
		return nil, err
	}
	var f *flow
	for _, c := range a.carriedFlows(r.Header["Cookie"], d, a.clock()) {
		if c.flow == nil || c.flow.provider != "" {
			continue
		}
		if nonce := c.flow.handoffNonce(); h.NonceHash == hex.EncodeToString(nonce[:]) {
			f = c.flow
		}
	}
	if f == nil || h.Host != d.scope || h.OnlyTenant != d.tenant || !a.madeHere(code, h) {
		return nil, errOverHandoff
	}
	old, err := a.presented(ctx, d, r.Header["Cookie"])
	if err != nil {
		return nil, err
	}
	t := newSessionToken()
	row := a.handedOn(&t, h)
	var ended []catalog.Session
	err = a.host.InTx(ctx, func(tx *catalog.Tx) error {
		actor := catalog.Actor{ID: string(h.UserID)}
		if ip := a.clientIP(r); ip.IsValid() {
			actor.IP = ip.String()
		}
		ended, err = a.takeOver(catalog.WithActor(ctx, actor), tx, h, row, old, f.issued)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.forget(ended)
	ends, err := catalog.ParseTimestamp(row.ExpiresAt)
	if err != nil {
		return nil, err
	}
	setCookie(w, d.names.session, t.encode(), d.names.secure, ends.Sub(a.clock()))
	return f, nil
}

func (a *Auth) madeHere(code string, h *catalog.Handoff) bool {
	got, err := hex.DecodeString(h.MAC)
	for _, key := range a.keys.macs {
		if err == nil && hmac.Equal(got, handoffMAC(key, code, h)) {
			return true
		}
	}
	return false
}

// handedOn is the session that comes of a hand-off. It ends when the sign-in does that it stems from.
func (a *Auth) handedOn(t *sessionToken, h *catalog.Handoff) *catalog.Session {
	now := catalog.Timestamp(a.clock())
	row := &catalog.Session{
		ID: sessionIDOf(t.key()), UserID: h.UserID, Host: h.Host, Provider: h.Provider, Subject: h.Subject, SID: h.SID,
		CreatedAt: now, LastSeen: now, ExpiresAt: h.SessionExpiresAt, SignIn: h.SignIn, SignedInAt: h.SignedInAt, OnlyTenant: h.OnlyTenant,
	}
	row.MAC = hex.EncodeToString(sessionMAC(a.keys.macs[0], t, row.UserID, row.Host, row.ExpiresAt))
	return row
}

// takeOver uses the code up and makes the session, in one transaction. The sign-in must still stand on public_url: a
// sign-out that came between ends what is on its way, too.
func (a *Auth) takeOver(ctx context.Context, tx *catalog.Tx, h *catalog.Handoff, row *catalog.Session, old []*sessionFacts, asked time.Time) ([]catalog.Session, error) {
	if err := a.lockHandoff(ctx, tx, h); err != nil {
		return nil, err
	}
	taken, err := tx.Handoffs.Take(ctx, h.CodeHash, h.Host, h.NonceHash, row.CreatedAt)
	if err != nil {
		return nil, err
	}
	if !taken || row.ExpiresAt <= row.CreatedAt {
		return nil, errOverHandoff
	}
	if err := a.signInStands(ctx, tx, h); err != nil {
		return nil, err
	}
	ended, err := replace(ctx, tx, old, row, asked)
	if err != nil {
		return nil, err
	}
	if err := tx.Sessions.Insert(ctx, row); err != nil {
		return nil, err
	}
	return ended, tx.Audit(ctx, "sign_in", string(row.UserID), map[string]any{
		"session": string(row.ID), "provider": row.Provider, "host": row.Host, "user": "handed on",
	})
}

// lockHandoff takes the locks that sign-ins, sign-outs and the provider's logouts of the same person take, in the same
// order.
func (a *Auth) lockHandoff(ctx context.Context, tx *catalog.Tx, h *catalog.Handoff) error {
	p := a.provider(h.Provider)
	if p == nil {
		return errOverHandoff // taken out of the configuration meanwhile
	}
	if err := lockSubject(ctx, tx, p.prefix+h.Subject); err != nil {
		return err
	}
	if h.SID != "" {
		if err := tx.LockProviderSession(ctx, h.Provider, h.SID); err != nil {
			return err
		}
	}
	return tx.LockSessions(ctx, h.UserID)
}

// signInStands reports errOverHandoff if the sign-in has no session on public_url any more, and ErrUnknownUser if its
// user is gone or blocked.
func (a *Auth) signInStands(ctx context.Context, tx *catalog.Tx, h *catalog.Handoff) error {
	rows, err := tx.Sessions.ListBySignIn(ctx, h.UserID, h.SignIn)
	if err != nil {
		return err
	}
	for i := range rows {
		if s := &rows[i]; s.Host != a.origins.publicHost || s.Provider != h.Provider || s.SID != h.SID {
			continue
		}
		_, user, blocked, err := tx.SessionUser(ctx, rows[i].ID)
		if err != nil {
			return err
		}
		if user == nil || blocked {
			return fmt.Errorf("%w: gone or blocked", ErrUnknownUser)
		}
		return nil
	}
	return errOverHandoff
}
