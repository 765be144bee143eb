package devidp

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Bounds on what one authorization request may make us remember, in bytes.
const (
	maxParameter = 2048
	challengeLen = 43 // base64url of SHA-256 (RFC 7636, section 4.2)
)

var (
	errClosed    = errors.New("the development provider is closed")
	errNoRequest = errors.New("no such sign-in: it ended or its time is over")
	errNoToken   = errors.New("no such token: it ended or was never given")
	errNoClient  = errors.New("no such client")
)

// token is an opaque access token that was given out.
type token struct {
	subject string
	scopes  []string
	expires time.Time
}

func (t token) end() time.Time { return t.expires }

// store implements op.Storage in memory.
type store struct {
	people     []Person
	client     *client
	key        *signingKey
	clock      func() time.Time
	maxPending int
	pendingTTL time.Duration

	mu       sync.Mutex
	closed   bool
	requests map[string]*authRequest
	codes    map[string]codeEntry // each belongs to one of requests and goes with it
	tokens   map[string]token
}

type codeEntry struct {
	request string
	expires time.Time
}

func newStore(cfg Config, key *signingKey) *store {
	s := &store{
		people: slices.Clone(cfg.People),
		client: &client{
			id: cfg.ClientID, secret: cfg.ClientSecret,
			redirects: slices.Clone(cfg.RedirectURIs), postLogout: slices.Clone(cfg.PostLogoutRedirectURIs),
		},
		key:        key,
		clock:      cfg.Clock,
		maxPending: cfg.MaxPending,
		pendingTTL: cfg.PendingTTL,
		requests:   make(map[string]*authRequest),
		codes:      make(map[string]codeEntry),
		tokens:     make(map[string]token),
	}
	if s.maxPending == 0 {
		s.maxPending = defaultMaxPending
	}
	if s.pendingTTL == 0 {
		s.pendingTTL = defaultPendingTTL
	}
	return s
}

func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.requests, s.codes, s.tokens = nil, nil, nil
}

func (s *store) person(subject string) (Person, bool) {
	i := slices.IndexFunc(s.people, func(p Person) bool { return p.Subject == subject })
	if i < 0 {
		return Person{}, false
	}
	return s.people[i], true
}

// checkAuthRequest is where PKCE is demanded (PKCE-1): without a challenge there would be nothing for the token endpoint
// to ask the verifier for.
func checkAuthRequest(r *oidc.AuthRequest) error {
	if len(r.CodeChallenge) != challengeLen || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return oidc.ErrInvalidRequest().WithDescription("a code_challenge with code_challenge_method S256 is required")
	}
	if r.ResponseMode != "" && r.ResponseMode != oidc.ResponseModeQuery {
		return oidc.ErrInvalidRequest().WithDescription("response_mode must be query")
	}
	if !slices.Contains(r.Scopes, oidc.ScopeOpenID) {
		return oidc.ErrInvalidScope().WithDescription("the scope openid is required")
	}
	if len(r.State) > maxParameter || len(r.Nonce) > maxParameter || len(r.LoginHint) > maxParameter {
		return oidc.ErrInvalidRequest().WithDescription("state, nonce and login_hint are limited to 2048 bytes")
	}
	if slices.Contains(r.Prompt, oidc.PromptNone) {
		return oidc.ErrLoginRequired().WithDescription("a person must be picked every time")
	}
	return nil
}

// CreateAuthRequest implements op.AuthStorage.
func (s *store) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if err := checkAuthRequest(r); err != nil {
		return nil, err
	}
	now := s.clock()
	req := &authRequest{
		id:        rand.Text(),
		clientID:  r.ClientID,
		redirect:  r.RedirectURI,
		state:     r.State,
		nonce:     r.Nonce,
		scopes:    slices.Clone(r.Scopes),
		challenge: r.CodeChallenge,
		hint:      r.LoginHint,
		expires:   now.Add(s.pendingTTL),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, oidc.ErrServerError().WithDescription("%s", errClosed)
	}
	for _, id := range surplus(s.requests, s.maxPending-1, now) {
		s.deleteRequest(id)
	}
	s.requests[req.id] = req
	return new(*req), nil
}

// surplus names the entries that have ended and, of the others, the oldest beyond keep.
func surplus[V interface{ end() time.Time }](entries map[string]V, keep int, now time.Time) []string {
	var live, out []string
	for id, v := range entries {
		if now.Before(v.end()) {
			live = append(live, id)
		} else {
			out = append(out, id)
		}
	}
	if len(live) <= keep {
		return out
	}
	slices.SortFunc(live, func(a, b string) int { return entries[a].end().Compare(entries[b].end()) })
	return append(out, live[:len(live)-keep]...)
}

// deleteRequest forgets a request and its code. Called with mu held.
func (s *store) deleteRequest(id string) {
	if req, ok := s.requests[id]; ok {
		delete(s.codes, req.code)
		delete(s.requests, id)
	}
}

// request returns the live request. Called with mu held.
func (s *store) request(id string) (*authRequest, error) {
	req, ok := s.requests[id]
	if !ok || !s.clock().Before(req.expires) {
		return nil, errNoRequest
	}
	return req, nil
}

// AuthRequestByID implements op.AuthStorage.
func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	return s.pending(id)
}

func (s *store) pending(id string) (*authRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := s.request(id)
	if err != nil {
		return nil, err
	}
	return new(*req), nil
}

// pick makes subject the person of a pending request. Picking again is allowed until the code was exchanged (a double
// click); the earlier code is void then.
func (s *store) pick(id, subject string) (*authRequest, error) {
	if _, ok := s.person(subject); !ok {
		return nil, errors.New("nobody has this subject")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := s.request(id)
	if err != nil {
		return nil, err
	}
	delete(s.codes, req.code)
	req.code, req.subject, req.authTime = "", subject, s.clock()
	return new(*req), nil
}

// SaveAuthCode implements op.AuthStorage. One request has one code.
func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := s.request(id)
	if err != nil {
		return err
	}
	if !req.Done() {
		return errNoRequest
	}
	delete(s.codes, req.code)
	req.code = code
	s.codes[code] = codeEntry{request: id, expires: s.clock().Add(codeTTL)}
	return nil
}

// AuthRequestByCode implements op.AuthStorage. It consumes the code, whatever becomes of the exchange: of two exchanges
// at once one wins, and a code shown with a wrong verifier is spent (RFC 6749, section 4.1.2).
func (s *store) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, ok := s.codes[code]
	if !ok {
		return nil, errNoRequest
	}
	req, err := s.request(entry.request)
	s.deleteRequest(entry.request)
	if err != nil || !s.clock().Before(entry.expires) {
		return nil, errNoRequest
	}
	return new(*req), nil
}

// DeleteAuthRequest implements op.AuthStorage.
func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteRequest(id)
	return nil
}

// CreateAccessToken implements op.AuthStorage.
func (s *store) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	now := s.clock()
	t := token{subject: r.GetSubject(), scopes: slices.Clone(r.GetScopes()), expires: now.Add(tokenTTL)}
	id := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", time.Time{}, errClosed
	}
	for _, old := range surplus(s.tokens, maxTokens-1, now) {
		delete(s.tokens, old)
	}
	s.tokens[id] = t
	return id, t.expires, nil
}

// TerminateSession implements op.AuthStorage: the person's tokens end. There is no session here to end, a person is
// picked every time.
func (s *store) TerminateSession(_ context.Context, subject, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.tokens {
		if t.subject == subject {
			delete(s.tokens, id)
		}
	}
	return nil
}

// SigningKey, SignatureAlgorithms and KeySet implement op.AuthStorage.
func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{s.key.algorithm}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) { return []op.Key{publicKey{s.key}}, nil }

// GetClientByClientID implements op.OPStorage.
func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.client.id {
		return nil, errNoClient
	}
	return s.client, nil
}

// AuthorizeClientIDSecret implements op.OPStorage.
func (s *store) AuthorizeClientIDSecret(_ context.Context, id, given string) error {
	if id != s.client.id || !s.client.secret.Equal(secret.New(given)) {
		return errNoClient
	}
	return nil
}

// Health implements op.Storage.
func (s *store) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return nil
}
