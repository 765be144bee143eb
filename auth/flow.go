package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/internal/seal"
)

const (
	flowLifetime = 10 * time.Minute
	maxFlows     = 12  // cookies a host
	maxFlowBytes = 400 // of one Set-Cookie
	usedFlows    = 16_384
	flowIDBytes  = 12
	seedBytes    = 32
	stateTag     = 16
	maxState     = 4 << 10
	flowVersion  = 2
)

// flowID names a sign-in under way; it is public (cookie name, state).
type flowID [flowIDBytes]byte

func (id flowID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// flow is a sign-in under way. It lives in two sealed pieces: the cookie holds the seed, which binds it to one browser
// and one provider; state holds where to go and a tag that only the seed makes. The server keeps nothing but a list of
// flows that were used up. On a host other than public_url's a flow has no provider: its nonce waits for a hand-off.
type flow struct {
	id       flowID
	seed     [seedBytes]byte
	provider string
	issued   time.Time
}

func newFlow(provider string, now time.Time) *flow {
	f := &flow{provider: provider, issued: now}
	_, _ = rand.Read(f.id[:]) // never fails, see crypto/rand
	_, _ = rand.Read(f.seed[:])
	return f
}

// derive makes nonce, PKCE verifier and state tag from the seed, so that the cookie stays small.
func (f *flow) derive(label string) []byte {
	m := hmac.New(sha256.New, f.seed[:])
	m.Write([]byte(label))
	return m.Sum(nil)
}

func (f *flow) nonce() string { return base64.RawURLEncoding.EncodeToString(f.derive("nonce")) }

// verifier is the PKCE code verifier, 43 characters (RFC 7636 4.1).
func (f *flow) verifier() string { return base64.RawURLEncoding.EncodeToString(f.derive("verifier")) }

// cookiePurpose binds the cookie's content to its name and host (CRYPT-1).
func cookiePurpose(id flowID, host string) string { return "flow/cookie/" + id.String() + "/" + host }

func statePurpose(id flowID) string { return "flow/state2/" + id.String() }

func (f *flow) seal(k seal.Keyset, host string) (string, error) {
	plain := make([]byte, 0, 1+8+seedBytes+len(f.provider))
	plain = append(plain, flowVersion)
	plain = binary.BigEndian.AppendUint64(plain, uint64(f.issued.UnixMicro()))
	plain = append(plain, f.seed[:]...)
	plain = append(plain, f.provider...)
	return k.Seal(cookiePurpose(f.id, host), plain)
}

func openFlow(k seal.Keyset, id flowID, host, sealed string) (*flow, bool) {
	if len(sealed) > maxFlowBytes {
		return nil, false
	}
	plain, err := k.Open(cookiePurpose(id, host), sealed)
	if err != nil || len(plain) < 1+8+seedBytes || plain[0] != flowVersion {
		return nil, false
	}
	f := &flow{id: id, issued: time.UnixMicro(int64(binary.BigEndian.Uint64(plain[1:9])))}
	copy(f.seed[:], plain[9:9+seedBytes])
	f.provider = string(plain[9+seedBytes:])
	return f, true
}

// live reports whether the flow has begun and not ended.
func (f *flow) live(now time.Time) bool {
	age := now.Sub(f.issued)
	return age > -time.Minute && age < flowLifetime
}

// state is what goes to the provider and comes back: the flow's id, and sealed beside it the tag and where to go.
func (f *flow) state(k seal.Keyset, to journey) (string, error) {
	plain := to.ask.append(f.derive("state")[:stateTag:stateTag])
	sealed, err := k.Seal(statePurpose(f.id), append(plain, to.returnTo...))
	if err != nil {
		return "", err
	}
	return f.id.String() + "." + strings.ReplaceAll(sealed, ":", "."), nil
}

// openState reads a state that we made, for whichever browser. tag must still be compared with the flow's.
func openState(k seal.Keyset, state string) (id flowID, tag []byte, to journey, ok bool) {
	name, sealed, found := strings.Cut(state, ".")
	if !found || len(state) > maxState {
		return id, nil, to, false
	}
	if id, ok = parseFlowID(name); !ok {
		return id, nil, to, false
	}
	plain, err := k.Open(statePurpose(id), strings.ReplaceAll(sealed, ".", ":"))
	if err != nil || len(plain) < stateTag {
		return id, nil, to, false
	}
	var rest []byte
	to.ask, rest, ok = cutAsk(plain[stateTag:])
	to.returnTo = string(rest)
	return id, plain[:stateTag], to, ok
}

// began reports whether the tag of a state is this flow's: it was this browser that was sent away with it.
func (f *flow) began(tag []byte) bool { return hmac.Equal(tag, f.derive("state")[:stateTag]) }

func parseFlowID(s string) (id flowID, ok bool) {
	if len(s) != base64.RawURLEncoding.EncodedLen(flowIDBytes) {
		return id, false
	}
	b, err := decodePart(s)
	if err != nil || len(b) != flowIDBytes {
		return id, false
	}
	return flowID(b), true
}

// carried is a flow cookie as a request brings it.
type carried struct {
	name string
	flow *flow // nil: nothing that we made for this host, or over
}

// maxCarried bounds how many flow cookies of one request are looked at; the rest goes next time.
const maxCarried = 128

// carriedFlows reads the flow cookies of a request. Each costs one decryption, where it has the form of one of ours.
func (a *Auth) carriedFlows(cookies []string, d *door, now time.Time) []carried {
	var list []carried
	for _, header := range cookies {
		for header != "" {
			var name, value string
			name, value, header = nextCookie(header)
			text, ours := strings.CutPrefix(name, d.names.flow)
			if !ours || len(list) >= maxCarried || slices.ContainsFunc(list, func(c carried) bool { return c.name == name }) {
				continue
			}
			c := carried{name: name}
			if id, ok := parseFlowID(text); ok {
				if f, ok := openFlow(a.secrets, id, d.scope, value); ok && f.live(now) {
					c.flow = f
				}
			}
			list = append(list, c)
		}
	}
	return list
}

// setFlow gives the browser the cookie of f and takes away those that are over and, of the others, the oldest, so that
// at most maxFlows are left (CK-2): stale ones never block a sign-in.
func (a *Auth) setFlow(w http.ResponseWriter, cookies []string, d *door, f *flow) error {
	sealed, err := f.seal(a.secrets, d.scope)
	if err != nil {
		return err
	}
	var live []carried
	for _, c := range a.carriedFlows(cookies, d, f.issued) {
		if c.flow == nil {
			dropCookie(w, c.name, d.names.secure)
		} else {
			live = append(live, c)
		}
	}
	slices.SortStableFunc(live, func(x, y carried) int { return x.flow.issued.Compare(y.flow.issued) })
	for len(live) >= maxFlows {
		dropCookie(w, live[0].name, d.names.secure)
		live = live[1:]
	}
	setCookie(w, d.names.flow+f.id.String(), sealed, d.names.secure, flowLifetime)
	return nil
}

// dropCookie takes a flow cookie away, in as few bytes as possible: there may be many. A name that a header cannot hold
// is left alone; the browser would not have taken it from us either.
func dropCookie(w http.ResponseWriter, name string, secure bool) {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return
		}
	}
	line := name + "=; Path=/; Max-Age=0"
	if secure {
		line += "; Secure"
	}
	w.Header().Add("Set-Cookie", line)
}

// useUp notes that a flow has come back; false if it had before. In this process; the provider takes a code only once
// anyway, and the cookie goes with the answer.
func (a *Auth) useUp(f *flow) bool {
	seen, _ := a.flows.ContainsOrAdd(f.id, f.issued)
	return !seen
}
