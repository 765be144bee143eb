package auth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/catalog"
)

// signInTimeout bounds the one transaction of a sign-in.
const signInTimeout = 5 * time.Second

// signUpLimited: too many new users from one client IP, on all replicas together; the next one is allowed after that time.
type signUpLimited time.Duration

// Error implements error.
func (signUpLimited) Error() string { return "too many sign-ups from this address; try again later" }

// arrival is a person at the door, with all that the transaction needs.
type arrival struct {
	provider *provider
	flow     *flow
	who      *person
	family   string // names the sign-in, if it is a new one
	oauthID  string
	address  string // verified, "" if none is
	ip       string
	network  string // what counts as one client for sign_up_limit
	how      string // known, linked, created: for the audit
}

// signInPerson finds or makes the user, replaces the session that the browser came with, and sets the cookie.
func (a *Auth) signInPerson(w http.ResponseWriter, r *http.Request, at *arrival, m *metadata, token *oauth2.Token) (*catalog.Session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), signInTimeout)
	defer cancel()
	p, ok := at.provider, false
	if at.oauthID, ok = p.oauthID(at.who.subject); !ok {
		return nil, fmt.Errorf("%w: its sub begins with another provider's prefix", ErrUnknownUser)
	}
	if a.needsAddress(ctx, p, at.oauthID) {
		if err := p.askUserInfo(ctx, m, at.who, token.AccessToken); err != nil {
			return nil, err
		}
	}
	var domain string
	if at.address, domain = verifiedAddress(at.who.claims); !p.admitsDomain(domain) {
		return nil, fmt.Errorf("%w: no verified address in email_domains", ErrUnknownUser)
	}
	d := a.publicDoor()
	old, err := a.presented(ctx, d, r.Header["Cookie"])
	if err != nil {
		return nil, err
	}
	at.family = a.family(r.Header["Cookie"], d, at.flow)
	ip := a.clientIP(r)
	at.network = network(ip)
	if ip.IsValid() {
		at.ip = ip.String()
	}
	secretToken, row, err := a.record(ctx, at, old)
	if err != nil {
		return nil, err
	}
	a.subjects.Invalidate(at.oauthID)
	setCookie(w, d.names.session, secretToken.encode(), d.names.secure, a.absolute)
	return row, nil
}

// family names a new sign-in by the oldest of the flows that this browser has under way, so that tabs which sign in at
// the same moment, none of them with a session to go by, make one sign-in that ends as one.
func (a *Auth) family(cookies []string, d *door, own *flow) string {
	oldest := own
	for _, c := range a.carriedFlows(cookies, d, a.clock()) {
		if f := c.flow; f != nil && f.provider != "" && f.issued.Before(oldest.issued) {
			oldest = f
		}
	}
	return hex.EncodeToString(oldest.derive("sign-in")[:sessionIDBytes])
}

// needsAddress: the address matters for email_domains, and for linking and sign-up of a subject that nobody has. A
// database that does not answer is found out by the transaction.
func (a *Auth) needsAddress(ctx context.Context, p *provider, oauthID string) bool {
	if len(p.domains) > 0 {
		return true
	}
	if !p.trustEmail && !a.signsUp() {
		return false
	}
	_, found, err := a.subject(ctx, oauthID)
	return err == nil && !found
}

// signsUp: an unknown person with a verified address becomes a user. create_tenant makes the user alone here; the tenant
// is made from a page of its own.
func (a *Auth) signsUp() bool { return a.signUp == signUpCreateUser || a.signUp == signUpCreateTenant }

// presented are the sessions at a door whose tokens the browser holds, ended or not: they end with a new sign-in
// (SESS-1).
func (a *Auth) presented(ctx context.Context, d *door, cookies []string) ([]*sessionFacts, error) {
	tokens, good, _ := sessionTokens(cookies, d.names.session)
	var list []*sessionFacts
	for i := range good {
		f, found, err := a.facts(ctx, tokens[i].key())
		if err != nil {
			return nil, err
		}
		if found && a.matches(f, &tokens[i]) && f.row.Host == d.scope {
			list = append(list, f)
		}
	}
	return list, nil
}

// record does the sign-in in one transaction: user, last_login, new session, ended sessions, audit. A write that
// another one made impossible meanwhile (the same person twice at once) is tried once more.
func (a *Auth) record(ctx context.Context, at *arrival, old []*sessionFacts) (t sessionToken, row *catalog.Session, err error) {
	var ended []catalog.Session
	for range 2 {
		t = newSessionToken()
		now := a.clock()
		err = a.host.InTx(ctx, func(tx *catalog.Tx) error {
			at.how = ""
			user, err := a.admit(ctx, tx, at)
			if err != nil {
				return err
			}
			if err := at.stillGood(ctx, tx); err != nil {
				return err
			}
			row, ended, err = a.writeSession(ctx, tx, at, user, &t, now, old)
			return err
		})
		if !errors.Is(err, catalog.ErrConflict) {
			break
		}
	}
	if err != nil {
		return t, nil, fmt.Errorf("sign in: %w", err)
	}
	a.forget(ended)
	return t, row, nil
}

// stillGood: the provider has not ended meanwhile, through the back channel, what this sign-in stands on.
func (at *arrival) stillGood(ctx context.Context, tx *catalog.Tx) error {
	provider := at.provider.name
	if at.who.sid != "" {
		if err := tx.LockProviderSession(ctx, provider, at.who.sid); err != nil {
			return err
		}
	}
	ended, err := tx.SignInEnded(ctx, provider, at.who.subject, at.who.sid, catalog.Timestamp(at.who.issued))
	if err != nil || !ended {
		return err
	}
	return &pageFault{
		status: http.StatusBadRequest, heading: "This sign-in is over",
		text: "Your identity provider has signed you out meanwhile. Begin again.",
	}
}

func lockSubject(ctx context.Context, tx *catalog.Tx, oauthID string) error {
	return tx.LockUser(ctx, "subject/"+oauthID)
}

// forget drops what is remembered of sessions that have ended.
func (a *Auth) forget(ended []catalog.Session) {
	for i := range ended {
		if key, ok := keyOfSession(ended[i].ID); ok {
			a.sessions.Invalidate(key)
		}
	}
}

func (a *Auth) writeSession(ctx context.Context, tx *catalog.Tx, at *arrival, user *catalog.GlobalUser, t *sessionToken, now time.Time, old []*sessionFacts) (row *catalog.Session, ended []catalog.Session, err error) {
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: string(user.ID), IP: at.ip})
	key := t.key()
	row = &catalog.Session{
		ID: sessionIDOf(key), UserID: user.ID, Host: a.origins.publicHost, SignIn: at.family,
		Provider: at.provider.name, Subject: at.who.subject, SID: at.who.sid,
		CreatedAt: catalog.Timestamp(now), LastSeen: catalog.Timestamp(now), ExpiresAt: catalog.Timestamp(now.Add(a.absolute)),
	}
	for _, f := range old {
		if f.row.UserID == user.ID {
			row.SignIn = f.row.SignInOf() // the same person again: one sign-in, which ends as one
		}
	}
	row.MAC = hex.EncodeToString(sessionMAC(a.keys.macs[0], t, row.UserID, row.Host, row.ExpiresAt))
	if len(at.who.idToken) <= maxIDTokenHint {
		sealed, err := a.secrets.Seal(idTokenPurpose(row.ID), []byte(at.who.idToken))
		if err != nil {
			return nil, nil, err
		}
		row.IDToken = sealed
	}
	if ended, err = replace(ctx, tx, old, row, at.flow.issued); err != nil {
		return nil, nil, err
	}
	if err := tx.Sessions.Insert(ctx, row); err != nil {
		return nil, nil, err
	}
	if err := tx.RecordLogin(ctx, user.ID, catalog.Timestamp(now)); err != nil {
		return nil, nil, err
	}
	return row, ended, tx.Audit(ctx, "sign_in", string(user.ID), map[string]any{
		"session": string(row.ID), "provider": row.Provider, "host": row.Host, "user": at.how,
	})
}

// replace ends what a browser had at the door where it gets a new session (SESS-1). Another person's sign-in ends on
// every host, and so does an earlier one of the same person; of the same sign-in this one session. What was made since
// the new one was asked for is left to end with its sign-in: it belongs to a tab that was opened beside this one and
// may just be loading its page.
func replace(ctx context.Context, tx *catalog.Tx, old []*sessionFacts, row *catalog.Session, asked time.Time) ([]catalog.Session, error) {
	const why = "replaced by a new sign-in"
	var ended []catalog.Session
	for _, f := range old {
		same := f.row.UserID == row.UserID
		if made, err := catalog.ParseTimestamp(f.row.CreatedAt); err == nil && same && asked.Before(made) {
			continue
		}
		if same && f.row.SignInOf() == row.SignIn {
			if err := endSession(ctx, tx, &f.row, why); err != nil {
				return nil, err
			}
			ended = append(ended, f.row)
			continue
		}
		rows, err := endSignIn(ctx, tx, &f.row, why)
		if err != nil {
			return nil, err
		}
		ended = append(ended, rows...)
	}
	return ended, nil
}

// endSession deletes a session with its audit row; one that is gone already is left at that.
func endSession(ctx context.Context, tx *catalog.Tx, row *catalog.Session, why string) error {
	err := tx.Sessions.Delete(ctx, row.ID)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return auditEnd(ctx, tx, row, why)
}

// endSignIn ends a session's sign-in on every host, with an audit row for each session, and returns their rows.
func endSignIn(ctx context.Context, tx *catalog.Tx, session *catalog.Session, why string) ([]catalog.Session, error) {
	rows, err := tx.DeleteSignIn(ctx, session)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if err := auditEnd(ctx, tx, &rows[i], why); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func auditEnd(ctx context.Context, tx *catalog.Tx, row *catalog.Session, why string) error {
	return tx.Audit(ctx, "sign_out", string(row.UserID), map[string]any{"session": string(row.ID), "host": row.Host, "reason": why})
}

func idTokenPurpose(id catalog.SessionID) string { return "sys_sessions/id_token/" + string(id) }

// admit finds the user of a subject, or links or makes one where the configuration says so (contract, section 6,
// Linking). The subject is locked to the transaction's end, so that however many sign-ins of one person run at once on
// however many replicas, one user comes of it.
func (a *Auth) admit(ctx context.Context, tx *catalog.Tx, at *arrival) (*catalog.GlobalUser, error) {
	if err := lockSubject(ctx, tx, at.oauthID); err != nil {
		return nil, err
	}
	user, blocked, err := tx.UserBySubject(ctx, at.oauthID)
	switch {
	case err == nil && blocked:
		return nil, refusedFor(fmt.Errorf("%w: blocked", ErrUnknownUser), user.ID, true)
	case err == nil:
		at.how = "known"
		return user, nil
	case !errors.Is(err, catalog.ErrNotFound):
		return nil, err
	}
	if at.provider.trustEmail && at.address != "" {
		if user, err = a.link(ctx, tx, at); user != nil || err != nil {
			return user, err
		}
	}
	if a.signsUp() && at.address != "" {
		return a.create(ctx, tx, at)
	}
	return nil, fmt.Errorf("%w: nobody has this subject", ErrUnknownUser)
}

// link gives the subject to the one user who has the verified address and no other way to sign in. nil without an
// error: there is no such user.
func (a *Auth) link(ctx context.Context, tx *catalog.Tx, at *arrival) (*catalog.GlobalUser, error) {
	if err := tx.LockUser(ctx, "email/"+lowerASCII(at.address)); err != nil {
		return nil, err
	}
	users, err := tx.UsersByEmail(ctx, at.address)
	if err != nil || len(users) != 1 {
		return nil, err
	}
	user := users[0]
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: string(user.ID), IP: at.ip})
	if ok, err := tx.LinkSubject(ctx, user.ID, at.address, at.oauthID); err != nil || !ok {
		return nil, err
	}
	linked, blocked, err := tx.UserBySubject(ctx, at.oauthID)
	if err != nil {
		return nil, err
	}
	if blocked || linked.ID != user.ID {
		return nil, refusedFor(fmt.Errorf("%w: blocked", ErrUnknownUser), linked.ID, true)
	}
	at.how = "linked"
	return linked, nil
}

// create makes a user of a verified address, at most sign_up_limit an hour and client IP. They are counted in the
// transaction that makes the user, so that all replicas together keep the limit, and one that fails counts nothing.
func (a *Auth) create(ctx context.Context, tx *catalog.Tx, at *arrival) (*catalog.GlobalUser, error) {
	user := &catalog.GlobalUser{ID: catalog.UserID(catalog.GenID()), Email: new(at.address), OAuthID: new(at.oauthID)}
	now := a.clock()
	wait, err := tx.CountSignUp(ctx, user.ID, at.network, a.limit, signUpWindow, now)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, signUpLimited(wait)
	}
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: string(user.ID), IP: at.ip})
	if err := tx.GlobalUsers.Insert(ctx, user); err != nil {
		return nil, err
	}
	at.how = "created"
	return user, nil
}

// lowerASCII folds ASCII capitals alone, as the database does.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
