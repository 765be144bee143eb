package assertion

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	fetchTimeout = 5 * time.Second
	maxKeySet    = 64 << 10 // bytes
	maxKeys      = 32

	refreshAfter = 5 * time.Minute // the gate says max-age=300
	keepFor      = 24 * time.Hour
	fetchGap     = time.Second // least time between two fetches, whoever asks
)

// keys are the gate's public keys: fetched when needed, by one caller at a time.
type keys struct {
	url    string
	client *http.Client
	clock  func() time.Time
	turn   chan struct{} // held by the one who fetches

	mu      sync.Mutex
	byID    map[string]*ecdsa.PublicKey // replaced whole, never changed
	fetched time.Time                   // when byID's fetch began
	began   time.Time                   // the last fetch, good or not
	tried   bool
}

func newKeys(cfg Config) *keys {
	client := &http.Client{Timeout: fetchTimeout}
	if cfg.HTTPClient != nil {
		client.Transport = cfg.HTTPClient.Transport
		if t := cfg.HTTPClient.Timeout; t > 0 && t < fetchTimeout {
			client.Timeout = t
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keys{url: cfg.JWKSURL, client: client, clock: cfg.Clock, turn: make(chan struct{}, 1)}
}

// find returns the key of that id. One that is not known is looked for at the gate, at most once a second.
func (k *keys) find(ctx context.Context, kid string) (*ecdsa.PublicKey, error) {
	if kid == "" {
		return nil, errors.New("it names no key")
	}
	key, stale, _ := k.known(kid)
	if key != nil && !stale {
		return key, nil
	}
	err := k.refresh(ctx, kid, stale)
	if fresh, _, _ := k.known(kid); fresh != nil {
		return fresh, nil
	}
	if err != nil {
		return nil, err
	}
	if _, _, some := k.known(kid); !some {
		return nil, fmt.Errorf("%w: the last attempt failed", ErrKeys)
	}
	return nil, errors.New("it is signed with a key that the gate does not have")
}

// known is the key in memory; stale: the set should be fetched again; some: there is a set that may still be used.
func (k *keys) known(kid string) (key *ecdsa.PublicKey, stale, some bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.clock().Sub(k.fetched)
	if k.byID == nil || age >= keepFor {
		return nil, true, false
	}
	return k.byID[kid], age >= refreshAfter || age < 0, true
}

// refresh fetches the set unless that was just done. Whoever has a usable key does not wait for another's fetch.
func (k *keys) refresh(ctx context.Context, kid string, stale bool) error {
	key, _, _ := k.known(kid)
	if key != nil {
		select {
		case k.turn <- struct{}{}:
		default:
			return nil
		}
	} else {
		select {
		case k.turn <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrKeys, ctx.Err())
		}
	}
	defer func() { <-k.turn }()
	if now, found := k.due(kid, stale); !found {
		return k.fetch(ctx, now)
	}
	return nil
}

// due reports whether there is nothing to do: another caller fetched meanwhile, or too little time has passed.
func (k *keys) due(kid string, stale bool) (now time.Time, done bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now = k.clock()
	if k.byID[kid] != nil && !stale && now.Sub(k.fetched) < keepFor {
		return now, true
	}
	since := now.Sub(k.began)
	return now, k.tried && since >= 0 && since < fetchGap
}

func (k *keys) fetch(ctx context.Context, now time.Time) error {
	set, err := k.get(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil { // a caller that gave up says nothing about the gate
			k.began, k.tried = now, true
		}
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	k.began, k.tried, k.fetched, k.byID = now, true, now, set
	return nil
}

func (k *keys) get(ctx context.Context) (map[string]*ecdsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the gate answered with status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("key set is larger than %d bytes", maxKeySet)
	}
	return parse(body)
}

// parse reads the P-256 keys of a JWK set (RFC 7517, RFC 7518 6.2). A set without one is an error.
func parse(body []byte) (map[string]*ecdsa.PublicKey, error) {
	var doc struct {
		Keys []struct {
			KeyType string `json:"kty"`
			Use     string `json:"use"`
			Alg     string `json:"alg"`
			Curve   string `json:"crv"`
			ID      string `json:"kid"`
			X       string `json:"x"`
			Y       string `json:"y"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("key set is not JSON")
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("key set holds more than %d keys", maxKeys)
	}
	set := make(map[string]*ecdsa.PublicKey, len(doc.Keys))
	for _, j := range doc.Keys {
		if j.KeyType != "EC" || j.Curve != "P-256" || j.ID == "" || (j.Use != "" && j.Use != "sig") || (j.Alg != "" && j.Alg != "ES256") {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(j.X)
		y, errY := base64.RawURLEncoding.DecodeString(j.Y)
		if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
			continue
		}
		point := append(append([]byte{4}, x...), y...)
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			set[j.ID] = key
		}
	}
	if len(set) == 0 {
		return nil, errors.New("key set holds no key for ES256")
	}
	return set, nil
}
