package stripefake

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Endpoint is where webhooks go.
type Endpoint struct {
	URL string
	// Host overrides the Host header; "": the URL's.
	Host string
	// Secrets sign, each with a signature of its own, as while a secret is rolled.
	Secrets []secret.Text
	// APIVersion decides the shape; "": the account's.
	APIVersion string
	// Live endpoints get events of live mode, others of test mode.
	Live bool
	// Types of events; none: all.
	Types []string
}

func (e Endpoint) wants(kind string, live bool) bool {
	return e.Live == live && (len(e.Types) == 0 || slices.Contains(e.Types, kind))
}

// AddEndpoint registers an endpoint for the events from now on.
func (s *Server) AddEndpoint(e Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = append(s.endpoints, e)
}

// Delivery is an event on its way to an endpoint.
type Delivery struct {
	Event, Type, Object string
	Attempts            int
	// Status of the last attempt; 0 without an answer.
	Status int
	// Answer is the body of the last attempt, at most 4 KiB.
	Answer   string
	endpoint int
}

// Pending are the deliveries that no endpoint has taken yet, oldest first.
func (s *Server) Pending() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return slices.Clone(s.pending)
}

// Forget drops what is pending: endpoints that were down for longer than Stripe keeps trying.
func (s *Server) Forget() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	lost := s.pending
	s.pending = nil
	return lost
}

// SetArrange lets f choose the order of each round of deliveries, and repeat or hold back some. Nil: oldest first.
func (s *Server) SetArrange(f func([]Delivery) []Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrange = f
}

// Mixed is an arrangement that shuffles each round and sends about one delivery in four twice.
func Mixed(r *rand.Rand) func([]Delivery) []Delivery {
	return func(round []Delivery) []Delivery {
		for _, d := range slices.Clone(round) {
			if r.IntN(4) == 0 {
				round = append(round, d)
			}
		}
		r.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		return round
	}
}

// Deliver tries every pending delivery once, one after the other, and returns what was tried. What gets no 2xx stays
// pending. An error is ctx's alone.
func (s *Server) Deliver(ctx context.Context) ([]Delivery, error) {
	s.mu.Lock()
	s.settle()
	round := slices.Clone(s.pending)
	if s.arrange != nil {
		round = s.arrange(round)
	}
	s.mu.Unlock()
	for i := range round {
		if err := ctx.Err(); err != nil {
			return round[:i], err
		}
		round[i].Status, round[i].Answer = s.post(ctx, round[i])
		s.tried(round[i])
	}
	return round, ctx.Err()
}

// DeliverAll repeats Deliver until nothing is pending, at most that many rounds; what is left then is an error.
func (s *Server) DeliverAll(ctx context.Context, rounds int) error {
	for range rounds {
		if _, err := s.Deliver(ctx); err != nil {
			return err
		}
		if len(s.Pending()) == 0 {
			return nil
		}
	}
	left := s.Pending()
	return fmt.Errorf("%d deliveries are left after %d rounds, the first %s answered %d: %s", len(left), rounds, left[0].Type, left[0].Status, left[0].Answer)
}

// tried notes an attempt.
func (s *Server) tried(d Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.pending, func(p Delivery) bool { return p.Event == d.Event && p.endpoint == d.endpoint })
	if i < 0 {
		return
	}
	if d.Status/100 == 2 {
		s.pending = slices.Delete(s.pending, i, i+1)
		return
	}
	s.pending[i].Attempts++
	s.pending[i].Status, s.pending[i].Answer = d.Status, d.Answer
}

// Payload is an event as an endpoint of that API version gets it.
func (s *Server) Payload(event, apiVersion string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.payload(s.entries[event].now, Endpoint{APIVersion: apiVersion})
}

func (s *Server) payload(event object, at Endpoint) []byte {
	v := at.APIVersion
	if v == "" {
		v = s.cfg.APIVersion
	}
	o := shaped(event, v)
	o["api_version"] = v
	body, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic("stripe fake: an event is no JSON")
	}
	return body
}

// Sign makes a Stripe-Signature header over body.
func Sign(body []byte, at time.Time, secrets ...secret.Text) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	header := "t=" + stamp
	for _, k := range secrets {
		mac := hmac.New(sha256.New, []byte(k.Reveal()))
		_, _ = io.WriteString(mac, stamp+".")
		_, _ = mac.Write(body)
		header += ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	return header
}

func (s *Server) post(ctx context.Context, d Delivery) (int, string) {
	s.mu.Lock()
	at := s.endpoints[d.endpoint]
	body := s.payload(s.entries[d.Event].now, at)
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Host = at.Host
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	r.Header.Set("Stripe-Signature", Sign(body, s.cfg.DeliveryClock(), at.Secrets...))
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(answer)
}

// wake tells Run that something may be due.
func (s *Server) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run delivers webhooks as they come until ctx ends, and tries failed ones again every few seconds.
func (s *Server) Run(ctx context.Context) error {
	t := time.NewTicker(3 * time.Second)
	defer t.Stop()
	for {
		if _, err := s.Deliver(ctx); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-t.C:
		}
	}
}
