// Package webhook takes Stripe's events at POST /_gate/webhooks/stripe.
//
// Purpose: what reaches billing/ledger was signed by Stripe with a secret of this endpoint within the last five minutes, is
// no larger than a MiB, of this account and mode, and has a shape that can be. Replies are contract section 5's.
//
// Concurrency: a Handler is immutable and safe for concurrent use. Failure mode: nothing changes. What is refused is told to
// the sender in fixed words and logged in one line, 120 a minute at most, never with what was sent.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// MaxBody is the largest event, in bytes.
const MaxBody = 1 << 20

const (
	// bodyWithin bounds how long a body may take to arrive.
	bodyWithin = 10 * time.Second
	// applyWithin bounds an event's work: Stripe waits some twenty seconds for the reply.
	applyWithin = 15 * time.Second
)

// Applier is what applies events: a ledger.Ledger.
type Applier interface {
	// CheckMode returns ledger.ErrMode for an event of another mode, live or test, than this installation's.
	CheckMode(ctx context.Context, live bool) error
	// ApplyEvent applies an event once. An error that is catalog.ErrUnavailable left no trace, any
	// other is recorded and may succeed when it is tried again.
	ApplyEvent(ctx context.Context, ev *ledger.Event) (ledger.Outcome, error)
}

// Config holds the endpoint's secrets.
type Config struct {
	// Secrets of the endpoint, one a line, each accepted. None: there is no endpoint.
	Secrets secret.Text
}

// Deps are what a Handler stands on. Ledger is needed.
type Deps struct {
	Ledger Applier
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log hears of what was refused and what failed. Nil: nobody does.
	Log *slog.Logger
	// Seen hears what became of each delivery: an Outcome of the ledger's, or one of the words below. Nil: nobody does.
	Seen func(r *http.Request, outcome string)
}

// What becomes of a delivery beside the ledger's outcomes.
const (
	Failed           = "failed"            // 500
	Unavailable      = "unavailable"       // 503
	RefusedSignature = "refused_signature" // missing, of no secret of ours, or too old: a refused credential
	RefusedSize      = "refused_size"
	RefusedJSON      = "refused_json"  // not said to be JSON
	RefusedEvent     = "refused_event" // signed, and not an event that can be
	RefusedMode      = "refused_mode"  // of the other mode, live or test
	RefusedBody      = "refused_body"  // it did not arrive whole
)

// Handler is the endpoint. Make it with New.
type Handler struct {
	secrets [][]byte
	ledger  Applier
	clock   func() time.Time
	log     *slog.Logger
	seen    func(r *http.Request, outcome string)
	quiet   *quiet
}

// New makes a Handler; nil without a secret.
func New(cfg Config, deps Deps) *Handler {
	h := &Handler{secrets: parseSecrets(cfg.Secrets), ledger: deps.Ledger, clock: deps.Clock, log: deps.Log, seen: deps.Seen}
	if len(h.secrets) == 0 {
		return nil
	}
	if h.clock == nil {
		h.clock = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.seen == nil {
		h.seen = func(*http.Request, string) {}
	}
	h.quiet = &quiet{clock: h.clock}
	return h
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// refusal is a reply other than 200.
type refusal struct {
	status      int
	code, title string
	retry       string // Retry-After
}

// The refusals; their codes are stable.
func refusalOf(status int) refusal {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return refusal{status: status, code: "body_too_large", title: "Event too large"}
	case http.StatusUnsupportedMediaType:
		return refusal{status: status, code: "not_json", title: "Not JSON"}
	case http.StatusServiceUnavailable:
		return refusal{status: status, code: "host_database_unavailable", title: "Temporarily unavailable", retry: "2"}
	case http.StatusInternalServerError:
		return refusal{status: status, code: "internal_error", title: "The event could not be applied", retry: "60"}
	}
	return refusal{status: http.StatusBadRequest, code: "bad_event", title: "Event refused"}
}

// ServeHTTP takes one event. The caller has seen to method, host and path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := h.clock()
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		h.refuse(w, r, http.StatusUnsupportedMediaType, RefusedJSON, errors.New("send application/json"))
		return
	}
	if r.ContentLength > MaxBody {
		h.refuse(w, r, http.StatusRequestEntityTooLarge, RefusedSize, errors.New("an event has at most 1 MiB"))
		return
	}
	sig, err := parseSignature(r.Header.Values(signatureHeader), now)
	if err != nil {
		h.refuse(w, r, http.StatusBadRequest, RefusedSignature, err)
		return
	}
	body, status, err := readBody(w, r)
	if err != nil {
		why := RefusedBody
		if status == http.StatusRequestEntityTooLarge {
			why = RefusedSize
		}
		h.refuse(w, r, status, why, err)
		return
	}
	if !sig.verify(h.secrets, body) {
		h.refuse(w, r, http.StatusBadRequest, RefusedSignature, errBadSignature)
		return
	}
	e, err := readEnvelope(body)
	var ev *ledger.Event
	if err == nil && e.Account {
		err = errAccount
	}
	if err == nil {
		ev, err = e.read()
	}
	if err != nil {
		h.refuse(w, r, http.StatusBadRequest, RefusedEvent, err)
		return
	}
	h.apply(w, r, &e, ev)
}

// errAccount and errMode refuse what is not meant for this installation.
var (
	errAccount = errors.New("the event is of a connected account, and this endpoint takes its own account's alone")
	errMode    = errors.New("the event is of another mode, live or test, than this installation")
)

// apply has an event applied; ev is nil if nothing follows from its type.
func (h *Handler) apply(w http.ResponseWriter, r *http.Request, e *envelope, ev *ledger.Event) {
	// The sender's hanging up ends nothing: what has begun is worth ending.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), applyWithin)
	defer cancel()
	outcome, err := ledger.Ignored, h.ledger.CheckMode(ctx, e.Livemode)
	if err == nil && ev != nil {
		outcome, err = h.ledger.ApplyEvent(ctx, ev)
	}
	switch {
	case err == nil:
		h.seen(r, string(outcome))
		reply(w, outcome)
	case errors.Is(err, ledger.ErrMode):
		h.refuse(w, r, http.StatusBadRequest, RefusedMode, errMode)
	case errors.Is(err, catalog.ErrUnavailable):
		h.seen(r, Unavailable)
		h.log.ErrorContext(ctx, "stripe event not applied: the host database is unavailable; Stripe sends it again", "event", e.ID, "type", e.Type, "error", err)
		write(w, refusalOf(http.StatusServiceUnavailable), "The host database cannot be reached. Send the event again.")
	default:
		h.seen(r, Failed)
		h.log.ErrorContext(ctx, "stripe event failed and is recorded so; Stripe sends it again", "event", e.ID, "type", e.Type, "error", err)
		write(w, refusalOf(http.StatusInternalServerError), "The fault has been recorded. Send the event again.")
	}
}

// readBody reads at most MaxBody bytes, in time.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, status int, err error) {
	control := http.NewResponseController(w)
	// Not every server has deadlines; where there are none, the server's own bounds hold.
	_ = control.SetReadDeadline(time.Now().Add(bodyWithin))
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, http.StatusRequestEntityTooLarge, errors.New("an event has at most 1 MiB")
	}
	if err != nil {
		return nil, http.StatusBadRequest, errors.New("the body did not arrive whole, or not within ten seconds")
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, 0, nil
}

// refuse answers, counts and logs, the latter not more often than quiet allows.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, why string, err error) {
	h.seen(r, why)
	if say, unsaid := h.quiet.may(); say {
		h.log.WarnContext(r.Context(), "stripe event refused", "status", status, "reason", reason(err), "unlogged_before", unsaid)
	}
	write(w, refusalOf(status), reason(err))
}

func write(w http.ResponseWriter, ref refusal, detail string) {
	body, err := json.Marshal(problem{Type: "about:blank", Title: ref.title, Status: ref.status, Detail: detail, Code: ref.code})
	if err != nil {
		body = nil // texts are JSON's to render
	}
	if ref.retry != "" {
		w.Header().Set("Retry-After", ref.retry)
	}
	send(w, ref.status, "application/problem+json", body)
}

func reply(w http.ResponseWriter, outcome ledger.Outcome) {
	send(w, http.StatusOK, "application/json", []byte(`{"status":"`+string(outcome)+`"}`))
}

func send(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a sender that is gone asks again
}
