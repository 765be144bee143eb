package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// untouched fails the test if anything of acme's or of events is on record.
func (r *rig) untouched(what string) {
	r.t.Helper()
	events, _, err := r.host.WebhookEvents.List(context.Background(), catalog.Page{Limit: 10})
	r.must(err)
	own, err := r.host.Stripe.Event(context.Background(), "evt_1")
	if len(events) != 0 || own != nil || err == nil || len(r.rows("acme")) != 0 || r.tier("acme") != "free" {
		r.t.Errorf("%s: something changed", what)
	}
}

func TestWhatIsNotSignedIsRefused(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	body := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil).json()
	good := sign(testSecret, start, body)
	_, hash, _ := strings.Cut(good, "v1=")
	now := start.Unix()
	for name, header := range map[string]string{
		"no header":           "",
		"no timestamp":        "v1=" + hash,
		"no signature":        fmt.Sprintf("t=%d", now),
		"v0 only":             fmt.Sprintf("t=%d,v0=%s", now, hash),
		"another secret":      sign("whsec_other", start, body),
		"another body":        sign(testSecret, start, append([]byte(" "), body...)),
		"too old":             sign(testSecret, start.Add(-301*time.Second), body),
		"too new":             sign(testSecret, start.Add(301*time.Second), body),
		"a moment of nowhere": fmt.Sprintf("t=%d,v1=%s", int64(1)<<62, hash),
		"a negative moment":   fmt.Sprintf("t=-5,v1=%s", hash),
		"two moments":         fmt.Sprintf("t=%d,t=%d,v1=%s", now, now, hash),
		"a spelled moment":    fmt.Sprintf("t=+%d,v1=%s", now, hash),
		"a leading zero":      fmt.Sprintf("t=0%d,v1=%s", now, hash),
		"shortened":           good[:len(good)-2],
		"endless":             fmt.Sprintf("t=%d,%sv1=%s", now, strings.Repeat("v0=1,", 2000), hash),
		"many signatures":     fmt.Sprintf("t=%d,%sv1=%s", now, strings.Repeat("v1="+strings.Repeat("0", 64)+",", 17), hash),
	} {
		if code, text := r.postWith(body, header); code != http.StatusBadRequest || !strings.Contains(text, `"code":"bad_event"`) {
			t.Errorf("%s: %d %s", name, code, text)
		}
		r.untouched(name)
	}
	for name, header := range map[string]string{
		"of a roll":        fmt.Sprintf("t=%d,v1=%s,v1=%s,v0=x", now, strings.Repeat("0", 64), hash),
		"at the edge, old": sign(testSecret, start.Add(-300*time.Second), body),
		"at the edge, new": sign(testSecret, start.Add(300*time.Second), body),
		"with spaces":      strings.ReplaceAll(good, ",", ", "),
	} {
		if code, text := r.postWith(body, header); code != http.StatusOK {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}

func TestEachSecretOfTheEndpointIsAccepted(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	r.h = New(Config{Secrets: secret.New("whsec_new\r\n\n  " + testSecret + " \n")}, Deps{Ledger: r.ledger, Clock: r.clock})
	body := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil).json()
	for i, key := range []string{testSecret, "whsec_new"} {
		if code, text := r.postWith(body, sign(key, start, body)); code != http.StatusOK || text != []string{"processed", "duplicate"}[i] {
			t.Errorf("%s: %d %s", key, code, text)
		}
	}
	for _, none := range []string{"", "\n \r\n"} {
		if New(Config{Secrets: secret.New(none)}, Deps{Ledger: r.ledger}) != nil {
			t.Errorf("an endpoint with %q for a secret", none)
		}
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	good := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil)
	object := r.acme("active").object(currentShape)
	but := func(more obj) obj { return good.with(obj{"data": obj{"object": object.with(more)}}) }
	many := make([]any, 10000)
	for i := range many {
		many[i] = obj{"id": "si"}
	}
	for name, body := range map[string]string{
		"empty":                "",
		"not JSON":             "status=active",
		"cut":                  string(good.json()[:100]),
		"two":                  string(good.json()) + "{}",
		"an array":             "[]",
		"a text":               `"evt"`,
		"null":                 "null",
		"not UTF-8":            "{\"id\":\"\xff\"}",
		"deep":                 strings.Repeat("[", 20000),
		"a thin event":         `{"id":"evt_1","object":"v2.core.event","type":"customer.subscription.created","created":"2026-06-01T12:00:00Z"}`,
		"no id":                string(good.with(obj{"id": nil}).json()),
		"an id with a space":   string(good.with(obj{"id": "evt 1"}).json()),
		"an id with a NUL":     string(good.with(obj{"id": "evt\x00"}).json()),
		"a long id":            string(good.with(obj{"id": strings.Repeat("e", 300)}).json()),
		"no type":              string(good.with(obj{"type": ""}).json()),
		"a number for a type":  string(good.with(obj{"type": 7}).json()),
		"no moment":            string(good.with(obj{"created": 0}).json()),
		"a negative moment":    string(good.with(obj{"created": -1}).json()),
		"half a second":        string(good.with(obj{"created": 1.5}).json()),
		"a moment in text":     string(good.with(obj{"created": "1780315200"}).json()),
		"no object":            string(good.with(obj{"data": obj{}}).json()),
		"no data":              string(good.with(obj{"data": nil}).json()),
		"livemode of text":     string(good.with(obj{"livemode": "false"}).json()),
		"another object":       string(but(obj{"object": "customer"}).json()),
		"no subscription id":   string(but(obj{"id": nil}).json()),
		"no customer":          string(but(obj{"customer": nil}).json()),
		"a customer of none":   string(but(obj{"customer": obj{"name": "x"}}).json()),
		"no status":            string(but(obj{"status": nil}).json()),
		"a negative end":       string(but(obj{"current_period_end": -5}).json()),
		"an end of nowhere":    string(but(obj{"current_period_end": int64(1) << 60}).json()),
		"a huge number":        strings.Replace(string(good.json()), `"quantity":1`, `"quantity":1e400`, 1),
		"a negative quantity":  strings.Replace(string(good.json()), `"quantity":1`, `"quantity":-1`, 1),
		"half an item":         strings.Replace(string(good.json()), `"quantity":1`, `"quantity":0.5`, 1),
		"null items":           string(but(obj{"items": obj{"data": []any{nil}}}).json()),
		"items of text":        string(but(obj{"items": "x"}).json()),
		"10,000 items":         string(but(obj{"items": obj{"data": many}}).json()),
		"metadata of a list":   string(but(obj{"metadata": []any{1}}).json()),
		"a tenant of a list":   string(but(obj{"metadata": obj{"tenant_id": []any{1}}}).json()),
		"a tenant with a NUL":  string(but(obj{"metadata": obj{"tenant_id": "a\x00b"}}).json()),
		"a long tenant":        string(but(obj{"metadata": obj{"tenant_id": strings.Repeat("a", 501)}}).json()),
		"a price of a list":    string(but(obj{"items": obj{"data": []any{obj{"price": []any{}}}}}).json()),
		"no attributes before": string(good.with(obj{"data": obj{"object": object, "previous_attributes": "x"}}).json()),
	} {
		r.log.Reset()
		code, text := r.post([]byte(body))
		if code != http.StatusBadRequest || !strings.Contains(text, "problem") && !strings.Contains(text, `"detail":"the event cannot be read: `) {
			t.Errorf("%s: %d %s", name, code, text)
		}
		if lines := strings.Count(r.log.String(), "\n"); lines > 1 || strings.Contains(r.log.String(), "sub_1") {
			t.Errorf("%s: the log says %s", name, r.log)
		}
		r.untouched(name)
		r.advance(time.Minute)
	}
}

func TestWhatIsMissingButNotWrongIsTaken(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	object := obj{"id": "sub_1", "customer": obj{"id": "cus_1", "email": "ada@example.com"}, "status": "active", "items": nil, "plan": nil, "metadata": r.signed("acme", "cus_1")}
	if got := r.deliver(event("evt_1", "customer.subscription.created", start, object, nil)); got != "processed" {
		t.Fatal(got)
	}
	if row := r.only("acme"); str(row.Status) != "active" || row.CurrentPeriodEnd != nil || row.PlanTier != nil || str(row.CreatedAt) != "2026-06-01T12:00:00" {
		t.Errorf("row %s", describe(row))
	}
}

// A name is for people: no cancellation is lost because of one.
func TestAPricesNameKeepsNoEventOut(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	for i, nickname := range []string{"two\nlines\x00", strings.Repeat("é", 4000), "\u0007"} {
		id := fmt.Sprint("sub_", i)
		object := obj{
			"id": id, "customer": "cus_1", "status": "active", "metadata": r.signed("acme", "cus_1"),
			"items": obj{"data": []any{obj{"price": obj{"id": "price_1", "nickname": nickname}}}},
		}
		if got := r.deliver(event("evt_"+id, "customer.subscription.created", start, object, nil)); got != "processed" {
			t.Errorf("%.20q: %s", nickname, got)
		}
	}
}

func TestOtherAccountsAndModesAreRefused(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{mode: ledger.ModeLive})
	e := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil)
	if code, text := r.post(e.with(obj{"account": "acct_other"}).json()); code != http.StatusBadRequest || !strings.Contains(text, "account") {
		t.Errorf("a connected account's: %d %s", code, text)
	}
	r.untouched("a connected account's")
	for _, kind := range []string{"customer.subscription.created", "charge.succeeded"} {
		if code, text := r.post(e.with(obj{"type": kind}).json()); code != http.StatusBadRequest || !strings.Contains(text, "mode") {
			t.Errorf("%s of test mode on a live key: %d %s", kind, code, text)
		}
	}
	r.untouched("of test mode")
	if code, text := r.post(e.with(obj{"livemode": true, "account": nil}).json()); code != http.StatusOK {
		t.Errorf("of live mode: %d %s", code, text)
	}
	test := openRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{mode: ledger.ModeTest})
	if code, _ := test.post(e.with(obj{"livemode": true}).json()); code != http.StatusBadRequest {
		t.Errorf("of live mode on a test key: %d", code)
	}
}

// Without a key the mode is what was there: an installation goes from test to live, never back.
func TestWithoutAKeyTestEventsEndWithTheFirstLiveOne(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		e := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil)
		if code, _ := r.post(e.json()); code != http.StatusOK {
			t.Errorf("of test mode, at first: %d", code)
		}
		if code, _ := r.post(e.with(obj{"id": "evt_2", "livemode": true}).json()); code != http.StatusOK {
			t.Errorf("of live mode: %d", code)
		}
		for _, replica := range []*rig{r, openRig(t, url, rigConfig{})} {
			if code, _ := replica.post(e.with(obj{"id": "evt_3"}).json()); code != http.StatusBadRequest {
				t.Errorf("of test mode, later: %d", code)
			}
		}
	})
}

func TestLargeBodiesAndOtherTypesAreRefusedUnread(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	large := bytes.Repeat([]byte(" "), MaxBody+1)
	if code, _ := r.post(large); code != http.StatusRequestEntityTooLarge {
		t.Errorf("with its length: %d", code)
	}
	server := httptest.NewServer(r.h)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.MultiReader(bytes.NewReader(large)))
	r.must(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", sign(testSecret, start, large))
	res, err := server.Client().Do(req)
	r.must(err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("in pieces: %d", res.StatusCode)
	}
	exact := append(bytes.Repeat([]byte(" "), MaxBody-2), '{', '}')
	if code, _ := r.post(exact); code != http.StatusBadRequest {
		t.Errorf("exactly 1 MiB: %d, want to have it read", code)
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json2", "a;b;c"} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", untouchable{t})
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		w := httptest.NewRecorder()
		r.h.ServeHTTP(w, req)
		if w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", kind, w.Code)
		}
	}
	// Without a signature that could be good nothing of the body is read either.
	req = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", untouchable{t})
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", "t=1,v1=00")
	w := httptest.NewRecorder()
	if r.h.ServeHTTP(w, req); w.Code != http.StatusBadRequest {
		t.Errorf("an old signature: %d", w.Code)
	}
}

type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// A sender that drips its body is let go after ten seconds: the deadline is the connection's, so it is seen here by a
// connection that records it.
func TestABodyHasADeadline(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	deadlines := make(chan time.Duration, 16)
	server := &http.Server{Handler: r.h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(recording{listener, deadlines}) }()
	t.Cleanup(func() { _ = server.Close() })
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	r.must(err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nStripe-Signature: %s\r\nContent-Length: 5\r\n\r\n{", sign(testSecret, start, nil))
	for left := range deadlines {
		if left < 30*time.Second && left > 5*time.Second {
			return
		}
	}
}

type recording struct {
	net.Listener
	deadlines chan time.Duration // how far off they are when they are set
}

func (l recording) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return recordingConn{c, l.deadlines}, err
}

type recordingConn struct {
	net.Conn
	deadlines chan time.Duration // how far off they are when they are set
}

func (c recordingConn) SetReadDeadline(d time.Time) error {
	select {
	case c.deadlines <- time.Until(d):
	default:
	}
	return c.Conn.SetReadDeadline(d)
}

func TestBadSignaturesFillNeitherLogNorDatabase(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	body := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil).json()
	for range 5000 {
		if code, _ := r.postWith(body, sign("whsec_guess", start, body)); code != http.StatusBadRequest {
			t.Fatal(code)
		}
	}
	if lines := strings.Count(r.log.String(), "\n"); lines == 0 || lines > linesPerMinute {
		t.Errorf("%d lines of 5000", lines)
	}
	r.untouched("bad signatures")
	r.log.Reset()
	r.advance(time.Minute)
	r.postWith(body, "")
	if !strings.Contains(r.log.String(), fmt.Sprintf("unlogged_before=%d", 5000-linesPerMinute)) {
		t.Errorf("what was not logged is not told: %s", r.log)
	}
}

// What anybody may write in Stripe, or in a payment link, names no tenant.
func TestAnotherTenantsNameChangesNothingForIt(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		// The victim pays, and its metadata with the signature may be known to the attacker.
		victim := r.acme("active")
		r.deliver(event("evt_v", "customer.subscription.created", start, victim.object(currentShape), nil))
		before := describe(r.only("acme"))
		copied := r.signed("acme", "cus_1")
		for i, metadata := range []obj{
			{"tenant_id": "acme"},
			{"tenant_id": "acme", "tenant_sig": strings.Repeat("A", 43)},
			copied,
			{"tenant_id": "acme", "tenant_sig": r.signer.Sign("globex", "cus_evil")},
			{"tenant_id": "acme", "tenant_sig": copied["tenant_sig"], "plan_tier": "pro"},
		} {
			id := fmt.Sprintf("sub_e%d", i)
			evil := sub{id: id, customer: "cus_evil", status: "canceled", price: "price_pro_m", created: at(5), end: at(9), metadata: metadata}
			if got := r.deliver(event("evt_"+id, "customer.subscription.deleted", at(60+i), evil.object(currentShape), nil)); got != "kept" {
				t.Errorf("metadata %d: %q", i, got)
			}
			session := obj{"id": "cs_" + id, "mode": "subscription", "status": "complete", "payment_status": "paid", "customer": "cus_evil", "subscription": id, "client_reference_id": "acme", "created": at(1).Unix(), "metadata": metadata}
			if got := r.deliver(event("evt_s"+id, "checkout.session.completed", at(70+i), session, nil)); got != "kept" {
				t.Errorf("session %d: %q", i, got)
			}
			pays := session.with(obj{"id": "cs_p" + id, "mode": "payment", "subscription": nil, "amount_total": 1})
			if got := r.deliver(event("evt_p"+id, "checkout.session.completed", at(80+i), pays, nil)); got != "kept" {
				t.Errorf("payment %d: %q", i, got)
			}
			if got := r.deliver(event("evt_i"+id, "invoice.paid", at(90+i), invoice(currentShape, "in_9", evil), nil)); got != "kept" {
				t.Errorf("invoice %d: %q", i, got)
			}
		}
		r.must(r.ledger.Sweep(t.Context()))
		if got := describe(r.only("acme")); got != before || r.tier("acme") != "basic" {
			t.Errorf("the victim's row is\n%s, was\n%s; plan %s", got, before, r.tier("acme"))
		}
	})
}

func TestTrustedMetadataAndReferencesNameATenant(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{trust: true})
		s := r.acme("active").but(func(s *sub) { s.price, s.metadata = "price_unknown", obj{"tenant_id": "acme", "plan_tier": "gold"} })
		if got := r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil)); got != "processed" || str(r.only("acme").PlanTier) != "gold" {
			t.Errorf("unsigned metadata: %q", got)
		}
		session := obj{"id": "cs_2", "mode": "payment", "status": "complete", "payment_status": "paid", "customer": nil, "client_reference_id": "globex", "created": at(1).Unix(), "amount_total": 5}
		if got := r.deliver(event("evt_2", "checkout.session.completed", at(70), session, nil)); got != "processed" || len(r.rows("globex")) != 1 {
			t.Errorf("client_reference_id: %q", got)
		}
		// A signature still counts before what anybody could write.
		both := s.but(func(s *sub) {
			s.id, s.metadata = "sub_2", obj{"tenant_id": "globex", "tenant_sig": r.signer.Sign("globex", "cus_1")}
		})
		if got := r.deliver(event("evt_3", "customer.subscription.created", at(80), both.object(currentShape), nil)); got != "processed" || len(r.rows("globex")) != 2 {
			t.Errorf("signed: %q", got)
		}
	})
}
