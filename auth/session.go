package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// sessionFacts are what the host database holds of one session, and what has been found out about it since. It holds
// no verdict: a token is compared, and expiry, idleness and user are looked at, on every use.
type sessionFacts struct {
	row      catalog.Session
	mac      []byte // decoded; nil if the row's is no MAC
	expires  time.Time
	created  time.Time // when the person authenticated
	lastSeen time.Time // as stored
	known    bool      // the user exists
	blocked  bool
	sysAdmin bool
	email    string // for our own pages
	began    time.Time
	use      *lastUse
	// proven is the hash of a token whose MAC was found right, so that the next use need not compute it again. A token
	// with the same id and another secret does not touch it.
	proven atomic.Pointer[[sha256.Size]byte]
}

// lastUse is when a session was last used, here, in nanoseconds since 1970. It outlives the facts, which are read anew
// every few seconds, so that a session is not taken for idle before last_seen is written.
type lastUse struct {
	at      atomic.Int64
	written atomic.Int64 // the last_seen that was written or read last
}

func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if to <= old || v.CompareAndSwap(old, to) {
			return
		}
	}
}

func sessionIDOf(key sessionKey) catalog.SessionID {
	return catalog.SessionID(hex.EncodeToString(key[:]))
}

func keyOfSession(id catalog.SessionID) (key sessionKey, ok bool) {
	if len(id) != 2*sessionIDBytes {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(id))
	return key, err == nil
}

// sessionMAC binds a token to its user, host and end, so that a row that another program wrote opens nothing. Every
// part carries its length: no two different rows meet in one input.
func sessionMAC(key []byte, t *sessionToken, user catalog.UserID, host, expires string) []byte {
	return macOf(key, string(t[:]), string(user), host, expires)
}

func macOf(key []byte, parts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, part := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		m.Write(n[:])
		m.Write([]byte(part))
	}
	return m.Sum(nil)
}

// matches reports whether t is the token that the row was made for.
func (a *Auth) matches(f *sessionFacts, t *sessionToken) bool {
	sum := sha256.Sum256(t[:])
	if p := f.proven.Load(); p != nil && subtle.ConstantTimeCompare(p[:], sum[:]) == 1 {
		return true
	}
	for _, key := range a.keys.macs {
		if hmac.Equal(f.mac, sessionMAC(key, t, f.row.UserID, f.row.Host, f.row.ExpiresAt)) {
			f.proven.Store(new(sum))
			return true
		}
	}
	return false
}

// facts are the session's, from memory or read. found false: there is no such session.
func (a *Auth) facts(ctx context.Context, key sessionKey) (*sessionFacts, bool, error) {
	if f, found, ok := a.sessions.Lookup(key); ok {
		return f, found, nil
	}
	f, found, err := a.sessions.Get(ctx, key, func(ctx context.Context) (*sessionFacts, bool, error) {
		return a.readSession(ctx, key)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", unavailable(ctx, err))
	}
	return f, found, nil
}

func (a *Auth) readSession(ctx context.Context, key sessionKey) (*sessionFacts, bool, error) {
	f := &sessionFacts{began: a.clock()}
	row, user, blocked, err := a.host.SessionUser(ctx, sessionIDOf(key))
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	f.row, f.blocked, f.known = *row, blocked, user != nil
	f.sysAdmin = user != nil && user.IsSysAdmin != nil && *user.IsSysAdmin
	if user != nil && user.Email != nil {
		f.email = *user.Email
	}
	var bad [3]error
	f.expires, bad[0] = catalog.ParseTimestamp(row.ExpiresAt)
	f.lastSeen, bad[1] = catalog.ParseTimestamp(row.LastSeen)
	f.created, bad[2] = catalog.ParseTimestamp(signedInAt(row))
	if f.mac, err = hex.DecodeString(row.MAC); err != nil || len(f.mac) != sha256.Size || errors.Join(bad[:]...) != nil {
		return nil, false, nil // no program of ours wrote this row: it opens nothing
	}
	if end := f.created.Add(a.absolute); end.Before(f.expires) {
		f.expires = end // absolute_timeout became shorter since the sign-in
	}
	f.use = useOf(a.uses, key)
	seen := min(f.lastSeen.UnixNano(), f.began.UnixNano()) // a clock that is ahead elsewhere keeps nothing alive here
	raise(&f.use.at, seen)
	raise(&f.use.written, seen)
	return f, true, nil
}

// signedInAt is when the person authenticated: a session that was handed on counts from there.
func signedInAt(row *catalog.Session) string {
	if row.SignedInAt == "" {
		return row.CreatedAt
	}
	return row.SignedInAt
}

func useOf[K comparable](uses *lru.Cache[K, *lastUse], key K) *lastUse {
	if u, ok := uses.Get(key); ok {
		return u
	}
	u := &lastUse{}
	if old, ok, _ := uses.PeekOrAdd(key, u); ok {
		return old
	}
	return u
}

// idleAt reports whether nobody has used the session for the idle timeout.
func (a *Auth) idleAt(f *sessionFacts, now time.Time) bool {
	return now.UnixNano()-f.use.at.Load() >= int64(a.idle)
}

// open finds the session that a token opens on host. Errors: ErrSessionExpired, ErrUnknownUser, the database's.
func (a *Auth) open(ctx context.Context, t *sessionToken, host string) (*sessionFacts, error) {
	key := t.key()
	f, found, err := a.facts(ctx, key)
	if err != nil {
		return nil, err
	}
	if !found || !a.matches(f, t) || f.row.Host != host || a.provider(f.row.Provider) == nil {
		return nil, ErrSessionExpired // the last: a provider that was taken out of the configuration keeps nobody signed in
	}
	now := a.clock()
	if !now.Before(f.expires) {
		return nil, refusedFor(ErrSessionExpired, f.row.UserID, f.known)
	}
	if a.idleAt(f, now) {
		// Another replica may have seen it since: the row is read again, once, before it is refused.
		if now.Sub(f.began) > 0 && f.began.UnixNano()-f.use.at.Load() < int64(a.idle) {
			a.sessions.Invalidate(key)
			if f, found, err = a.facts(ctx, key); err != nil {
				return nil, err
			}
		}
		if !found || !a.matches(f, t) || f.row.Host != host {
			return nil, ErrSessionExpired
		}
		if a.idleAt(f, now) {
			return nil, refusedFor(ErrSessionExpired, f.row.UserID, f.known)
		}
	}
	if !f.known || f.blocked {
		return nil, refusedFor(ErrUnknownUser, f.row.UserID, f.known)
	}
	return f, nil
}

// used notes a use and, where the stored one has become old, has it written.
func (a *Auth) used(key sessionKey, u *lastUse, now time.Time) {
	at := now.UnixNano()
	raise(&u.at, at)
	if written := u.written.Load(); at-written >= int64(a.writeEvery) && u.written.CompareAndSwap(written, at) {
		a.write(touch{key: key, use: u, before: written, at: now})
	}
}

// Use notes that a session or an API token is in use by other means than a request: bytes from the client on an open stream.
func (a *Auth) Use(id Identity) {
	if key, ok := keyOfAPIToken(id.Token); ok && id.Kind == KindAPIToken {
		if u, ok := a.apiTokenUses.Get(key); ok {
			a.usedAPIToken(key, u, a.clock())
		}
	}
	if id.Kind != KindSession {
		return
	}
	if key, ok := keyOfSession(id.Session); ok {
		if u, ok := a.uses.Get(key); ok {
			a.used(key, u, a.clock())
		}
	}
}

// EndsAt is when the clock may end what id stands for: the session's absolute end, or the moment at which it becomes
// idle unless it is used meanwhile; a token's expiry. ok false: no clock ends it.
func (a *Auth) EndsAt(id Identity) (end time.Time, ok bool) {
	end = id.Expires
	if id.Kind == KindSession {
		if key, ok := keyOfSession(id.Session); ok {
			if u, ok := a.uses.Peek(key); ok {
				if idle := time.Unix(0, u.at.Load()).Add(a.idle); idle.Before(end) {
					end = idle
				}
			}
		}
	}
	return end, !end.IsZero()
}

// SetTenant keeps the picker's choice with the session; "" forgets it. In force here at once, elsewhere within the
// age that facts may have. ErrSessionExpired if the session has ended.
func (a *Auth) SetTenant(ctx context.Context, id Identity, tenant catalog.TenantID) error {
	key, ok := keyOfSession(id.Session)
	if id.Kind != KindSession || !ok {
		return errors.New("only a session keeps a tenant")
	}
	err := a.host.Sessions.SetTenant(ctx, id.Session, tenant)
	a.sessions.Invalidate(key)
	if errors.Is(err, catalog.ErrNotFound) {
		return ErrSessionExpired
	}
	if err != nil {
		return fmt.Errorf("keep tenant: %w", unavailable(ctx, err))
	}
	return nil
}

// unavailable makes an error of a read one of the host database, unless the caller itself gave up.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, cache.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
}

// touch is a last use to be written.
type touch struct {
	key    sessionKey
	token  bool // of an API token, not of a session
	use    *lastUse
	before int64 // what was written before
	at     time.Time
}

const (
	touchQueue   = 1024
	touchTimeout = 2 * time.Second
	touchRetry   = time.Second
)

// startTouches starts the one goroutine that writes last uses, so that no request waits for it.
func (a *Auth) startTouches() {
	a.touches = make(chan touch, touchQueue)
	a.owner.run(func(ctx context.Context) {
		for {
			select {
			case t := <-a.touches:
				a.writeTouch(t)
			case <-ctx.Done():
				a.drainTouches()
				return
			}
		}
	})
}

// drainTouches writes what is queued at Close, until one fails: a restart should end no session, nor take long.
func (a *Auth) drainTouches() {
	for range len(a.touches) {
		if !a.writeTouch(<-a.touches) {
			return
		}
	}
}

// write queues t; with a full queue a later use tries again.
func (a *Auth) write(t touch) {
	select {
	case a.touches <- t:
	default:
		t.use.written.CompareAndSwap(t.at.UnixNano(), t.before)
	}
}

// writeTouch writes one last use and says whether the database took it. Close waits for it rather than ending it.
func (a *Auth) writeTouch(t touch) bool {
	ctx, cancel := context.WithTimeout(context.Background(), touchTimeout)
	defer cancel()
	var err error
	every := a.writeEvery
	if t.token {
		every = tokenUseEvery
		err = a.host.APITokens.Touch(ctx, apiTokenIDOf(apiKey(t.key)), catalog.Timestamp(t.at))
	} else {
		err = a.host.Sessions.Touch(ctx, sessionIDOf(t.key), catalog.Timestamp(t.at))
	}
	switch {
	case err == nil:
	case errors.Is(err, catalog.ErrNotFound) && t.token:
		a.apiTokens.Invalidate(apiKey(t.key))
	case errors.Is(err, catalog.ErrNotFound):
		a.sessions.Invalidate(t.key)
	default:
		// Not before a second from now, so that a database that is down is not asked by every request.
		retry := t.at.Add(touchRetry - every).UnixNano()
		t.use.written.CompareAndSwap(t.at.UnixNano(), max(retry, t.before))
		a.log.WarnContext(ctx, "last use of a session or token could not be written", "error", err)
		return false
	}
	return true
}
