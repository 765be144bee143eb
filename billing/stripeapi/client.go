// Package stripeapi asks Stripe's API: what ledger, checkout and reconcile need of it and no more.
//
// Purpose: one client whose every request is bounded in time, in size of its answer and in repetitions, and whose errors
// can be logged. stripe-go gives parameters, paths and shapes, all of one API version that every request names; the rest
// of it (its HTTP client, its retries, its logger, its telemetry) is not used.
//
// Concurrency: a Client is safe for concurrent use and keeps nothing between calls. It starts no goroutine.
//
// Failure mode: an error of type *Error, or one that wraps ledger.ErrGone or ErrMode. Nothing is known then, and a call
// that would have changed something may have done so: it is repeated with the same idempotency key.
package stripeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"
	"github.com/stripe/stripe-go/v85/form"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// Limits of one call.
const (
	DefaultTimeout  = 15 * time.Second
	DefaultAttempts = 5
	DefaultPatience = 2 * time.Minute
	// maxAnswer bounds what is read of one answer: a page of a hundred events, each with its object, has a few MiB.
	maxAnswer = 16 << 20
)

const (
	firstPause   = 500 * time.Millisecond
	longestPause = 16 * time.Second
)

// Config of a Client. The key is needed.
type Config struct {
	// Key is a secret (sk_…) or restricted key (rk_…).
	Key secret.Text
	// URL is where the API is, https, or http on loopback; "": Stripe's own.
	URL string
	// Timeout bounds one attempt, its answer included. 0: DefaultTimeout.
	Timeout time.Duration
	// Attempts in all. 0: DefaultAttempts.
	Attempts int
	// Patience bounds the pauses of one call together: an answer that asks for a longer one (Retry-After) is the call's
	// error. 0: DefaultPatience.
	Patience time.Duration
	// Transport carries requests; nil: one of the Client's own.
	Transport http.RoundTripper
	// Sleep pauses until d has passed or ctx ends; nil: the real clock.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client asks one account, in the mode of its key.
type Client struct {
	cfg     Config
	backend stripe.Backend
	http    *http.Client
}

// New makes a Client. Nothing is asked yet.
func New(cfg Config) (*Client, error) {
	if err := CheckKey(cfg.Key); err != nil {
		return nil, err
	}
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxResponseHeaderBytes = 64 << 10
		t.ResponseHeaderTimeout = cfg.Timeout
		cfg.Transport = t
	}
	c := &Client{cfg: cfg}
	c.http = &http.Client{
		Timeout:       cfg.Timeout,
		Transport:     bounded{cfg.Transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	backend := &stripe.BackendConfig{
		HTTPClient: c.http, LeveledLogger: silent{}, MaxNetworkRetries: new(int64(0)), EnableTelemetry: new(false),
	}
	if cfg.URL != "" {
		backend.URL = new(strings.TrimSuffix(cfg.URL, "/"))
	}
	c.backend = stripe.GetBackendWithConfig(stripe.APIBackend, backend)
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CheckKey says what is wrong with the form of an API key. It never repeats it.
func CheckKey(key secret.Text) error {
	text := key.Reveal()
	switch {
	case text == "":
		return errors.New("there is no Stripe API key (billing.stripe.api_key_file)")
	case strings.HasPrefix(text, "pk_"):
		return errors.New("that is a publishable key (pk_…), which can read nothing: a secret (sk_…) or restricted key (rk_…) is needed")
	case strings.HasPrefix(text, "whsec_"):
		return errors.New("that is a webhook secret (whsec_…): a secret (sk_…) or restricted key (rk_…) is needed")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) || len(text) > 255:
		return errors.New("the Stripe API key has bytes that no key has")
	}
	return nil
}

// CheckURL says what is wrong with an API's address; "" is Stripe's own.
func CheckURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("must be https://HOST[:PORT], without a path")
	case u.Scheme == "https" || (u.Scheme == "http" && loopback(u.Hostname())):
		return nil
	}
	return errors.New("must begin with https://; http is for loopback addresses, localhost and *.localhost")
}

// Mode is the mode of the key, by its form.
func (c *Client) Mode() ledger.Mode { return ledger.ModeOf(c.cfg.Key.Reveal()) }

// answer keeps what Stripe sent, as it came.
type answer struct {
	stripe.APIResource
	body json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *answer) UnmarshalJSON(b []byte) error {
	a.body = append(a.body[:0], b...)
	return nil
}

// call makes one call, with repetitions, and decodes its answer into v. Every call that changes something has an
// idempotency key in params.
func (c *Client) call(ctx context.Context, method, path string, params stripe.ParamsContainer, v any) error {
	return c.repeat(ctx, method+" "+family(path), v, func(ctx context.Context, a *answer) error {
		params.GetParams().Context = ctx
		return c.backend.Call(method, path, c.cfg.Key.Reveal(), params, a)
	})
}

// page fetches one page of a list.
func (c *Client) page(ctx context.Context, path string, params any, v any) error {
	query := &form.Values{}
	form.AppendTo(query, params)
	return c.repeat(ctx, http.MethodGet+" "+path, v, func(ctx context.Context, a *answer) error {
		return c.backend.CallRaw(http.MethodGet, path, c.cfg.Key.Reveal(), []byte(query.Encode()), &stripe.Params{Context: ctx}, a)
	})
}

// repeat tries until there is an answer, or until trying again would be of no use.
func (c *Client) repeat(ctx context.Context, what string, v any, try func(context.Context, *answer) error) error {
	var spent time.Duration
	for attempt := 1; ; attempt++ {
		var a answer
		note := &noted{}
		err := try(context.WithValue(ctx, notedKey{}, note), &a)
		if err == nil {
			if json.Unmarshal(a.body, v) != nil {
				return fmt.Errorf("ask Stripe (%s): %w", what, &Error{Status: note.status, RequestID: word(note.request), Message: "an answer of an unknown shape"})
			}
			return nil
		}
		fault := c.fault(err, note)
		pause := fault.pause(attempt)
		if ctx.Err() != nil || !fault.again(note) || attempt >= c.cfg.Attempts || spent+pause > c.cfg.Patience || c.cfg.Sleep(ctx, pause) != nil {
			return fmt.Errorf("ask Stripe (%s): %w", what, wrap(ctx, fault))
		}
		spent += pause
	}
}

// family is a path without ids, for errors.
func family(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.Contains(p, "_") && p != "billing_portal" {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "/")
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// pause is how long to wait after that attempt: what Stripe asks for, else longer and longer, with jitter.
func (e *Error) pause(attempt int) time.Duration {
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	d := min(firstPause<<min(attempt-1, 10), longestPause)
	return d/2 + rand.N(d/2)
}

// noted is what the transport saw of the last answer of an attempt.
type noted struct {
	status     int
	request    string
	retryAfter time.Duration
	should     string // Stripe-Should-Retry
	replayed   bool   // Idempotent-Replayed
	tooLarge   bool
}

type notedKey struct{}

// bounded caps answers, notes what stripe-go drops, and says no more of this machine than the program's name.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("X-Stripe-Client-User-Agent")
	r.Header.Set("User-Agent", "tenantgate")
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	note, _ := r.Context().Value(notedKey{}).(*noted)
	if note == nil {
		note = &noted{}
	}
	note.status, note.request = resp.StatusCode, resp.Header.Get("Request-Id")
	note.should = resp.Header.Get("Stripe-Should-Retry")
	note.replayed = resp.Header.Get("Idempotent-Replayed") == "true"
	note.retryAfter = retryAfter(resp.Header.Get("Retry-After"))
	resp.Body = &capped{ReadCloser: resp.Body, left: maxAnswer, note: note}
	return resp, nil
}

var errTooLarge = errors.New("the answer is too large")

// capped is a body that fails once it has more than it may have.
type capped struct {
	io.ReadCloser
	left int64
	note *noted
}

// Read implements io.Reader.
func (b *capped) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.note.tooLarge = true
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// silent is the logger given to stripe-go, whose own would print requests and answers.
type silent struct{}

// Debugf does nothing, as do the others.
func (silent) Debugf(string, ...any) {}

// Errorf does nothing.
func (silent) Errorf(string, ...any) {}

// Infof does nothing.
func (silent) Infof(string, ...any) {}

// Warnf does nothing.
func (silent) Warnf(string, ...any) {}
