package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// What tokens of our own begin with. Everything that begins so is ours to judge, and no other kind of credential does.
const (
	userTokenPrefix  = "tg_"
	adminTokenPrefix = "tga_"
)

// A token is its prefix and 68 characters of base64url: id, secret of 256 bits, and a checksum that costs nothing to
// look at before anything is read, and by which secret scanners know a true one.
const (
	checksumBytes = 3
	apiTokenChars = (tokenBytes + checksumBytes) / 3 * 4
)

// tokenUseEvery is how often last_used is written at most.
const tokenUseEvery = time.Minute

// apiKey is the public part of a token: sys_api_tokens.id as bytes.
type apiKey sessionKey

// apiToken is id and secret.
type apiToken [tokenBytes]byte

func (t *apiToken) key() apiKey { return apiKey(t[:sessionIDBytes]) }

// encode is the token as it is given to people. It is no String method: a token must not print itself.
func (t *apiToken) encode(prefix string) string {
	sum := checksum(t)
	return prefix + encodeSextets(append(t[:len(t):len(t)], sum[:]...))
}

// checksum is the lower part of the CRC-32 of id and secret. It is computed here because what package crc32 is given
// moves to the heap.
func checksum(t *apiToken) [checksumBytes]byte {
	sum := ^uint32(0)
	for _, b := range t {
		sum = crc32.IEEETable[byte(sum)^b] ^ sum>>8
	}
	sum = ^sum
	return [checksumBytes]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// parseAPIToken reads what follows the prefix: exactly 68 characters of base64url, nothing trimmed, one spelling.
func parseAPIToken(text string) (t apiToken, ok bool) {
	var raw [tokenBytes + checksumBytes]byte
	if len(text) != apiTokenChars || !decodeSextets(raw[:], text) {
		return t, false
	}
	copy(t[:], raw[:])
	return t, checksum(&t) == [checksumBytes]byte(raw[tokenBytes:])
}

func apiTokenIDOf(key apiKey) catalog.APITokenID {
	return catalog.APITokenID(hex.EncodeToString(key[:]))
}

func keyOfAPIToken(id catalog.APITokenID) (apiKey, bool) {
	key, ok := keyOfSession(catalog.SessionID(id))
	return apiKey(key), ok
}

// apiTokenMAC binds a token to what its row says of it: kind, user, tenant and end. A row that another program wrote or
// changed opens nothing.
func apiTokenMAC(key []byte, t *apiToken, row *catalog.APIToken) []byte {
	m := hmac.New(sha256.New, key)
	writeText(m, string(t[:]), row.Kind, string(row.UserID), string(row.TenantID), orEmpty(row.ExpiresAt))
	return m.Sum(nil)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// apiTokenFacts are what the host database holds of one token, and what has been found out about it since. It holds no
// verdict: the token is compared, and expiry, user and block are looked at, on every use (CACHE-1).
type apiTokenFacts struct {
	row     catalog.APIToken
	mac     []byte
	expires time.Time // zero: never
	created time.Time
	known   bool // the user exists
	blocked bool
	use     *lastUse
	// proven is the hash of a token whose MAC was found right, see sessionFacts.
	proven atomic.Pointer[[sha256.Size]byte]
}

func (a *Auth) matchesAPIToken(f *apiTokenFacts, t *apiToken) bool {
	sum := sha256.Sum256(t[:])
	if p := f.proven.Load(); p != nil && subtle.ConstantTimeCompare(p[:], sum[:]) == 1 {
		return true
	}
	for _, key := range a.keys.tokenMACs {
		if hmac.Equal(f.mac, apiTokenMAC(key, t, &f.row)) {
			f.proven.Store(new(sum))
			return true
		}
	}
	return false
}

// apiTokenFacts are the token's, from memory or read. found false: there is no such token.
func (a *Auth) apiTokenFacts(ctx context.Context, key apiKey) (*apiTokenFacts, bool, error) {
	if f, found, ok := a.apiTokens.Lookup(key); ok {
		return f, found, nil
	}
	f, found, err := a.apiTokens.Get(ctx, key, func(ctx context.Context) (*apiTokenFacts, bool, error) {
		return a.readAPIToken(ctx, key)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read token: %w", unavailable(ctx, err))
	}
	return f, found, nil
}

func (a *Auth) readAPIToken(ctx context.Context, key apiKey) (*apiTokenFacts, bool, error) {
	began := a.clock()
	read, err := a.host.TokenUser(ctx, apiTokenIDOf(key))
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	f := &apiTokenFacts{row: read.Token, known: read.User != nil, blocked: read.Blocked}
	if f.mac, err = hex.DecodeString(f.row.MAC); err != nil || len(f.mac) != sha256.Size {
		return nil, false, nil // no program of ours wrote this row: it opens nothing
	}
	if f.created, err = catalog.ParseTimestamp(f.row.CreatedAt); err != nil {
		return nil, false, nil
	}
	if end := orEmpty(f.row.ExpiresAt); end != "" {
		if f.expires, err = catalog.ParseTimestamp(end); err != nil {
			return nil, false, nil
		}
	}
	f.use = useOf(a.apiTokenUses, key)
	if used, err := catalog.ParseTimestamp(orEmpty(f.row.LastUsed)); err == nil {
		raise(&f.use.written, min(used.UnixNano(), began.UnixNano()))
	}
	return f, true, nil
}

// openAPIToken finds what a token of that kind stands for. The error is ErrInvalidToken for whatever is not good, alike
// for a token that never was and one that has ended. use: the token is in use.
func (a *Auth) openAPIToken(ctx context.Context, text, kind string, use bool) (*apiTokenFacts, error) {
	t, ok := parseAPIToken(text)
	if !ok {
		return nil, ErrInvalidToken
	}
	f, found, err := a.apiTokenFacts(ctx, t.key())
	if err != nil {
		return nil, err
	}
	if !found || !a.matchesAPIToken(f, &t) {
		return nil, ErrInvalidToken
	}
	now := a.clock()
	if f.row.Kind != kind || f.over(now) {
		return nil, refusedFor(ErrInvalidToken, f.row.UserID, f.known)
	}
	if kind == catalog.TokenUser && (!f.known || f.blocked) {
		return nil, refusedFor(ErrUnknownUser, f.row.UserID, f.known)
	}
	if use {
		a.usedAPIToken(t.key(), f.use, now)
	}
	return f, nil
}

// TokenIdentity says what the API token of that id stands for now, for whoever explains a decision: nobody presents it.
// Errors as Authenticate's.
func (a *Auth) TokenIdentity(ctx context.Context, id catalog.APITokenID) (Identity, error) {
	key, ok := keyOfAPIToken(id)
	if !ok {
		return Identity{}, ErrInvalidToken
	}
	f, found, err := a.apiTokenFacts(ctx, key)
	if err != nil {
		return Identity{}, err
	}
	if !found || f.row.Kind != catalog.TokenUser || f.over(a.clock()) {
		return Identity{}, ErrInvalidToken
	}
	if !f.known || f.blocked {
		return Identity{}, ErrUnknownUser
	}
	return f.identity(KindAPIToken), nil
}

// over reports whether the token has ended.
func (f *apiTokenFacts) over(now time.Time) bool {
	return !f.expires.IsZero() && !now.Before(f.expires)
}

// authenticateAPIToken judges a token of ours on the public listener, where an admin token opens nothing.
func (a *Auth) authenticateAPIToken(ctx context.Context, token string, use bool) (Identity, error) {
	text, ok := strings.CutPrefix(token, userTokenPrefix)
	if !ok {
		return Identity{}, ErrInvalidToken
	}
	f, err := a.openAPIToken(ctx, text, catalog.TokenUser, use)
	if err != nil {
		return Identity{}, err
	}
	return f.identity(KindAPIToken), nil
}

func (f *apiTokenFacts) identity(kind Kind) Identity {
	return Identity{
		User: f.row.UserID, Kind: kind, Token: f.row.ID, TokenTenant: f.row.TenantID, Expires: f.expires, IssuedAt: f.created,
	}
}

// usedAPIToken notes a use and has it written at most once a minute.
func (a *Auth) usedAPIToken(key apiKey, u *lastUse, now time.Time) {
	at := now.UnixNano()
	raise(&u.at, at)
	if written := u.written.Load(); at-written >= int64(tokenUseEvery) && u.written.CompareAndSwap(written, at) {
		a.write(touch{key: sessionKey(key), token: true, use: u, before: written, at: now})
	}
}
