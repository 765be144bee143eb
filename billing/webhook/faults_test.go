package webhook

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/faultwire"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// Twenty deliveries of one event at once, on two replicas: one effect, one row.
func TestTwentyDeliveriesAtOnceAreOne(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a := newRig(t, url, rigConfig{})
		b := openRig(t, url, rigConfig{})
		for round := range 3 {
			id := fmt.Sprintf("evt_%d", round)
			s := a.acme("active").but(func(s *sub) { s.end = s.end.AddDate(0, round, 0) })
			body := event(id, "customer.subscription.updated", at(round), s.object(currentShape), obj{}).json()
			var group sync.WaitGroup
			outcomes := make(chan string, 20)
			for i := range 20 {
				group.Go(func() {
					code, outcome := []*rig{a, b}[i%2].post(body)
					if code != http.StatusOK {
						outcome = fmt.Sprint(code, " ", outcome)
					}
					outcomes <- outcome
				})
			}
			group.Wait()
			close(outcomes)
			count := map[string]int{}
			for o := range outcomes {
				count[o]++
			}
			if count["processed"] != 1 || count["duplicate"] != 19 {
				t.Errorf("outcomes %v", count)
			}
			if got := a.webhookRows(id); len(got) != 1 {
				t.Errorf("%d rows of the event", len(got))
			}
		}
		if a.only("acme"); a.audits("subscription.created") != 1 || a.audits("subscription.updated") != 2 {
			t.Errorf("%d and %d effects", a.audits("subscription.created"), a.audits("subscription.updated"))
		}
	})
}

// A panic in the middle is a failure as any other: nothing is half written, the event is recorded as failed and succeeds when
// Stripe sends it again, and of what was sent nothing is told.
func TestAPanicWhileAnEventIsAppliedIsAFailure(t *testing.T) {
	const canary = "canary-4242 of ada@example.com"
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		var armed atomic.Bool
		rules, err := billing.New(billing.Config{})
		r.must(err)
		log := slog.New(slog.NewTextHandler(r.log, nil))
		r.h = New(Config{Secrets: secret.New(testSecret)}, Deps{Clock: r.clock, Log: log, Ledger: ledger.New(ledger.Config{Rules: rules}, ledger.Deps{
			Host: r.host, Signer: r.signer, Log: log, Clock: func() time.Time {
				if armed.Swap(false) { // first asked within the transaction
					panic(fmt.Errorf("%s", canary))
				}
				return r.clock()
			},
		})})
		e := event("evt_1", "customer.subscription.created", start, r.acme("active").but(func(s *sub) { s.more = obj{"description": canary} }).object(currentShape), nil)
		armed.Store(true)
		if code, body := r.post(e.json()); code != http.StatusInternalServerError || strings.Contains(body, "canary") || !strings.Contains(body, "internal_error") {
			t.Errorf("%d %s", code, body)
		}
		if armed.Load() || len(r.rows("acme")) != 0 || r.tier("acme") != "free" || r.audits("subscription.created") != 0 {
			t.Errorf("armed still %v; %d rows, plan %q are half written", armed.Load(), len(r.rows("acme")), r.tier("acme"))
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"failed"}) {
			t.Errorf("rows of the event: %q", got)
		}
		if text := r.log.String(); !strings.Contains(text, "panic") || !strings.Contains(text, "evt_1") || strings.Contains(text, "canary") || strings.Contains(text, "ada@") {
			t.Errorf("the log: %s", text)
		}
		if got := r.deliver(e); got != "processed" || str(r.only("acme").Status) != "active" || !slices.Equal(r.webhookRows("evt_1"), []string{"processed"}) {
			t.Errorf("sent again: %q, rows of the event %q", got, r.webhookRows("evt_1"))
		}
	})
}

// Many events of many subscriptions of two tenants at once: none is in another's way for good.
func TestManyEventsAtOnceDoNotDeadlock(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		var group sync.WaitGroup
		for n := range 12 {
			group.Go(func() {
				tenant := []string{"acme", "globex"}[n%2]
				s := r.acme("active").but(func(s *sub) { s.id, s.customer = fmt.Sprintf("sub_%d", n/2), "cus_x" })
				s.metadata = r.signed(tenant, "cus_x") // each subscription moves between the two
				for i := range 4 {
					body := event(fmt.Sprintf("evt_%d_%d", n, i), "customer.subscription.updated", at(10*i+n%2), s.object(currentShape), obj{}).json()
					if code, text := r.post(body); code != http.StatusOK {
						t.Errorf("%d %s", code, text)
					}
				}
			})
		}
		group.Wait()
	})
}

func TestWithoutItsDatabaseNothingIsTakenAndNothingLost(t *testing.T) {
	wire, url := faultwire.URL(t, pgtest.New(t))
	r := newRig(t, url, rigConfig{})
	body := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil).json()
	wire.Cut()
	if code, text := r.post(body); code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", code, text)
	}
	if strings.Contains(r.log.String(), "sub_1") {
		t.Errorf("the log: %s", r.log)
	}
	wire.Heal()
	if code, outcome := r.post(body); code != http.StatusOK || outcome != "processed" {
		t.Errorf("sent again: %d %s", code, outcome)
	}
	r.only("acme")
}

func TestAHandlerThatFailsRollsBackAndIsRecorded(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		body := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil).json()
		r.breakRows(true)
		if code, _ := r.post(body); code != http.StatusInternalServerError {
			t.Errorf("status %d", code)
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"failed"}) || len(r.rows("acme")) != 0 {
			t.Errorf("rows of the event %q, %d subscription rows", got, len(r.rows("acme")))
		}
		r.breakRows(false)
		if code, outcome := r.post(body); code != http.StatusOK || outcome != "processed" {
			t.Errorf("tried again: %d %s", code, outcome)
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"processed"}) {
			t.Errorf("rows of the event %q", got)
		}
		r.only("acme")
	})
}

// breakRows makes every insert of a subscription fail in the engine, or ends that.
func (r *rig) breakRows(yes bool) {
	r.t.Helper()
	if r.host.Engine() == catalog.EngineSQLite {
		text := "CREATE TRIGGER broken BEFORE INSERT ON core_subscriptions BEGIN SELECT RAISE(ABORT, 'broken'); END"
		if !yes {
			text = "DROP TRIGGER broken"
		}
		r.must(execSQLite(r.t.Context(), r.host.URI(), text))
		return
	}
	text := "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END';" +
		"CREATE TRIGGER broken BEFORE INSERT ON core_subscriptions FOR EACH ROW EXECUTE FUNCTION broken()"
	if !yes {
		text = "DROP TRIGGER broken ON core_subscriptions"
	}
	pgtest.Exec(r.t.(*testing.T), r.host.URI(), text)
}

var kills = flag.Int("webhook.kills", 6, "how often a replica is killed in the midst of an event")

const childVariable = "TENANTGATE_WEBHOOK_CHILD"

// A replica that is killed in the midst: after Stripe's retry there is one effect.
func TestKilledInTheMidstTheRetryMakesOneEffect(t *testing.T) {
	if url := os.Getenv(childVariable); url != "" {
		serveUntilKilled(t, url)
		return
	}
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		for n := range *kills {
			id, tenant := fmt.Sprintf("evt_%d", n), catalog.TenantID(fmt.Sprintf("k%d", n))
			r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: tenant}))
			s := r.acme("active").but(func(s *sub) {
				s.id, s.customer = fmt.Sprintf("sub_%d", n), fmt.Sprintf("cus_%d", n)
				s.metadata = r.signed(string(tenant), s.customer)
			})
			e := event(id, "customer.subscription.created", start, s.object(currentShape), nil)
			killInTheMidst(t, url, e, time.Duration(rand.IntN(12000))*time.Microsecond)
			got := r.deliver(e) // Stripe had no reply, or did not hear it
			if rows := r.webhookRows(id); !slices.Equal(rows, []string{"processed"}) {
				t.Errorf("%q: rows of the event %q", got, rows)
			}
			if row := r.only(tenant); str(row.Status) != "active" || r.tier(tenant) != "basic" {
				t.Errorf("%q: row %s, plan %s", got, describe(row), r.tier(tenant))
			}
		}
		if n := r.audits("subscription.created"); n != *kills {
			t.Errorf("%d effects of %d events", n, *kills)
		}
	})
}

// killInTheMidst has another process take an event, and kills it that long after it began.
func killInTheMidst(t *testing.T, url string, e obj, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledInTheMidstTheRetryMakesOneEffect$")
	cmd.Env = append(os.Environ(), childVariable+"="+url)
	in, err := cmd.StdinPipe()
	if err == nil {
		var out io.Reader
		if out, err = cmd.StdoutPipe(); err == nil {
			if err = cmd.Start(); err == nil {
				_, err = bufio.NewReader(out).ReadString('\n') // it is ready
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(in, "%s\n", e.json())
	timer := time.NewTimer(after)
	<-timer.C
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
}

// serveUntilKilled takes the event that stands on standard input.
func serveUntilKilled(t *testing.T, url string) {
	r := openRig(t, url, rigConfig{})
	r.must(r.host.Ping(t.Context()))
	fmt.Println("ready")
	line, err := bufio.NewReader(os.Stdin).ReadBytes('\n')
	r.must(err)
	r.post(line[:len(line)-1])
	<-context.WithoutCancel(t.Context()).Done() // never: it is killed
	select {}
}

func BenchmarkWebhook(b *testing.B) {
	url, err := pgtest.ForExample()
	if err != nil {
		b.Fatal(err)
	}
	r := newRig(b, url, rigConfig{})
	const tenants = 1000
	for n := range tenants {
		r.must(r.host.Tenants.Insert(context.Background(), &catalog.TenantCatalog{ID: catalog.TenantID(fmt.Sprint("b", n))}))
	}
	var n int
	var mu sync.Mutex
	next := func() []byte {
		mu.Lock()
		n++
		i := n
		mu.Unlock()
		tenant, customer := fmt.Sprint("b", i%tenants), fmt.Sprint("cus_b", i%tenants)
		s := r.acme([]string{"active", "past_due"}[i/tenants%2]).but(func(s *sub) {
			s.id, s.customer, s.metadata = fmt.Sprint("sub_b", i%tenants), customer, r.signed(tenant, customer)
		})
		return event(fmt.Sprint("evt_b", i), "customer.subscription.updated", start.Add(time.Duration(i)*time.Second), s.object(currentShape), obj{"status": "active"}).json()
	}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if code, outcome := r.post(next()); code != http.StatusOK || outcome != "processed" {
				b.Error(code, outcome)
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "events/s")
}
