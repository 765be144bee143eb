package stripeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/tenantgate/tenantgate/billing/ledger"
)

// ErrMode: Stripe has the object, but in the other mode than the key's.
var ErrMode = errors.New("the object is of the other mode (live, test) than the API key")

// Error is what Stripe, or the way to it, answered. Its text has no secret and no personal data: Stripe's own message is
// in it only where Stripe complains of a request.
type Error struct {
	Status    int // of HTTP; 0 without an answer
	Type      string
	Code      string
	Param     string
	Message   string
	RequestID string
	// RetryAfter is what Stripe asked for; 0: nothing.
	RetryAfter time.Duration
	// Replayed: it is what Stripe answered to the idempotency key before, and answers to it for a day at least, its own
	// failures included. Only another key gets another answer.
	Replayed bool
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Status == 0:
		b.WriteString("no answer")
	case e.Status == http.StatusUnauthorized:
		b.WriteString("401: the API key is not accepted")
	case e.Status == http.StatusForbidden:
		b.WriteString("403: the API key lacks a permission")
	case e.Status == http.StatusTooManyRequests:
		b.WriteString("429: too many requests")
	default:
		b.WriteString(strconv.Itoa(e.Status))
	}
	for _, part := range []string{e.Code, e.Param, e.Message} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// Refused reports whether asking again would give the same answer: the request, the key or its permissions are wrong.
func (e *Error) Refused() bool {
	return e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusConflict
}

// again reports whether another attempt makes sense. Every request of ours can be repeated: it reads, or it has a key.
func (e *Error) again(note *noted) bool {
	switch {
	case note.tooLarge || note.replayed || note.should == "false":
		return false
	case note.should == "true":
		return true
	case e.Status == 0, e.Status == http.StatusConflict, e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return true
	}
	return e.Status < 400 // an answer that broke off
}

// keyForm matches what looks like a secret of Stripe's, whole or half hidden.
var keyForm = regexp.MustCompile(`(^|[^A-Za-z0-9])(sk|rk|pk|whsec|ek|cs|seti|pi)_[A-Za-z0-9_*]+`)

// fault makes an Error of what stripe-go returned.
func (c *Client) fault(err error, note *noted) *Error {
	f := &Error{Status: note.status, RequestID: word(note.request), RetryAfter: note.retryAfter, Replayed: note.replayed}
	var said *stripe.Error
	switch {
	case note.tooLarge:
		f.Message = errTooLarge.Error()
	case errors.As(err, &said):
		f.Type, f.Code, f.Param = word(string(said.Type)), word(string(said.Code)), word(said.Param)
		if said.Type == stripe.ErrorTypeInvalidRequest && f.Status != http.StatusUnauthorized || said.Type == stripe.ErrorTypeIdempotency {
			f.Message = c.clean(said.Msg)
		}
	case f.Status >= 300:
		f.Message = "not the answer of an API"
	case f.Status > 0:
		f.Message = "the answer broke off or is no JSON"
	default:
		f.Message = network(err)
	}
	return f
}

// clean is a message of Stripe's without anything that may be secret, at most 200 bytes on one line.
func (c *Client) clean(text string) string {
	text = strings.ReplaceAll(text, c.cfg.Key.Reveal(), "***")
	text = keyForm.ReplaceAllString(text, "${1}***")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// word lets an identifier of Stripe's pass, and nothing else.
func word(text string) string {
	if len(text) > 100 || strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-[].", r))
	}) || keyForm.MatchString(text) {
		return ""
	}
	return text
}

// network says what kept an answer from coming, without addresses or anything sent.
func network(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns):
		return "its host name cannot be looked up"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "in time"
	case errors.As(err, &op):
		return op.Op + " failed"
	}
	return "the connection failed"
}

// wrap gives an error its meaning.
func wrap(ctx context.Context, f *Error) error {
	if err := ctx.Err(); err != nil && f.Status == 0 {
		return err
	}
	if f.Status == http.StatusNotFound && f.Code == string(stripe.ErrorCodeResourceMissing) {
		if strings.Contains(f.Message, "a similar object exists in") {
			return fmt.Errorf("%w: %w", ErrMode, f)
		}
		return fmt.Errorf("%w: %w", ledger.ErrGone, f)
	}
	return f
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 {
		return time.Duration(min(n, 86400)) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// loopback reports whether a host is this machine whatever a resolver says.
func loopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
