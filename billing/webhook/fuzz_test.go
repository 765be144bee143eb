package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// Whatever a body holds: no panic, nothing beyond the bounds, and no error that repeats a value of it.
func FuzzEvent(f *testing.F) {
	s := sub{
		id: "sub_1", customer: "cus_1", status: "active", price: "price_basic_m", invoice: "in_1", created: start, end: start.AddDate(0, 1, 0),
		metadata: obj{"tenant_id": "acme", "tenant_sig": "v1.x"},
	}
	for _, v := range []shape{oldShape, currentShape} {
		before := obj{"status": "trialing", "items": obj{"data": []any{obj{"price": obj{"id": "price_old"}, "quantity": 2}}}, "trial_end": nil}
		f.Add(event("evt_1", "customer.subscription.updated", start, s.object(v), before).json())
		f.Add(event("evt_2", "invoice.paid", start, invoice(v, "in_1", s), nil).json())
	}
	f.Add(event("evt_3", "checkout.session.completed", start, obj{
		"id": "cs_1", "object": "checkout.session", "mode": "payment", "customer": "cus_1", "payment_intent": "pi_1", "payment_status": "paid",
		"amount_total": 1900, "currency": "usd", "client_reference_id": "acme", "metadata": obj{"tenant_id": "acme"}, "created": start.Unix(),
	}, nil).json())
	f.Add(event("evt_4", "customer.deleted", start, obj{"id": "cus_1", "object": "customer"}, nil).json())
	for _, body := range []string{``, `null`, `[]`, `{"id":"evt_1","type":"customer.subscription.updated","created":1,"data":{"object":{"items":{"data":[null]}}}}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := readEnvelope(body)
		var ev *ledger.Event
		if err == nil {
			if !json.Valid(body) || !utf8.Valid(body) {
				t.Fatal("what is no JSON was read")
			}
			checkID(t, e.ID)
			checkMoment(t, e.Created)
			ev, err = e.read()
		}
		if err != nil {
			if text := err.Error(); len(text) > 200 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("an error that repeats what was sent: %q", text)
			}
			return
		}
		if ev != nil && ev.Subscription != nil {
			checkSubscription(t, ev.Subscription)
		}
	})
}

func checkID(t *testing.T, id ledger.StripeID) {
	t.Helper()
	if id == "" || len(id) > maxID || strings.ContainsFunc(string(id), func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Fatalf("id %q", id)
	}
}

func checkMoment(t *testing.T, at time.Time) {
	t.Helper()
	if !at.IsZero() && (at.Unix() < 0 || at.Unix() > lastSecond) {
		t.Fatalf("moment %v", at)
	}
}

func checkSubscription(t *testing.T, s *ledger.Subscription) {
	t.Helper()
	checkID(t, s.ID)
	checkID(t, s.Customer)
	for _, at := range []time.Time{s.Created, s.PeriodEnd, s.TrialStart, s.TrialEnd, s.CanceledAt, s.EndedAt} {
		checkMoment(t, at)
	}
	if s.Status == "" || len(s.Status) > maxReported || s.Quantity < 0 || s.AmountCents != nil && *s.AmountCents > 1<<31-1 {
		t.Fatalf("%+v", s)
	}
	for key, value := range s.Metadata {
		if len(value) > maxText || strings.ContainsRune(value, 0) {
			t.Fatalf("metadata %s of %d bytes", key, len(value))
		}
	}
}

// Whatever a header holds: what is accepted names one moment near ours and one of our hashes, written as Stripe writes them.
func FuzzSignature(f *testing.F) {
	body := []byte(`{"id":"evt_1"}`)
	good := sign(testSecret, start, body)
	hash := strings.TrimPrefix(good, fmt.Sprintf("t=%d,v1=", start.Unix()))
	for _, header := range []string{
		good, "", "t=,v1=", "v1=" + hash, good + ",v1=" + strings.Repeat("0", 64), strings.ReplaceAll(good, ",", " , "), "t=1,t=2,v1=" + hash,
		fmt.Sprintf("t=%d,v1=%s", int64(1)<<62, hash), fmt.Sprintf("t=0%d,v1=%s", start.Unix(), hash), fmt.Sprintf("t=%d,v0=%s", start.Unix(), hash),
	} {
		f.Add(header)
	}
	secrets := parseSecrets(secret.New("whsec_other\n" + testSecret))
	f.Fuzz(func(t *testing.T, header string) {
		s, err := parseSignature([]string{header}, start)
		if err != nil {
			return
		}
		if len(s.hashes) == 0 || len(s.hashes) > maxSignatures || len(header) > maxHeader || strings.Count(header, "t="+s.at) == 0 {
			t.Fatalf("%q became %+v", header, s)
		}
		var at int64
		if _, err := fmt.Sscan(s.at, &at); err != nil || at < start.Unix()-300 || at > start.Unix()+300 {
			t.Fatalf("%q: moment %q is accepted", header, s.at)
		}
		want := false
		for _, key := range secrets {
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%d.%s", at, body)
			sum := mac.Sum(nil)
			for _, h := range s.hashes {
				want = want || bytes.Equal(h, sum)
			}
			if s.verify([][]byte{key}, body) && !strings.Contains(strings.ToLower(header), hex.EncodeToString(sum)) {
				t.Fatalf("%q is good without its hash", header)
			}
		}
		if s.verify(secrets, body) != want {
			t.Fatalf("%q: good is %v", header, !want)
		}
		if s.verify(secrets, append([]byte(" "), body...)) && want {
			t.Fatalf("%q is good for two bodies", header)
		}
	})
}
