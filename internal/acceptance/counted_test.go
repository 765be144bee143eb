package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/smalldisk"
)

// onBothEngines runs a test on a new host database of each kind.
func onBothEngines(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	t.Run("postgresql", func(t *testing.T) { t.Parallel(); test(t, pgtest.New(t)) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, sqliteURL(t)) })
}

// counted are the log's rows about denials as "actor|target|code|network": count, summed over minutes.
func counted(t *testing.T, dsn string) map[string]int64 {
	t.Helper()
	db := openSQL(t, dsn)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT actor_user_id, coalesce(target_id, ''), details, coalesce(ip_address, '')
		FROM sys_audit_logs WHERE event_type = 'request.denied'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	sums := map[string]int64{}
	for rows.Next() {
		var actor, target, details, network string
		var d struct {
			Code, Minute string
			Count        int64
		}
		if err := rows.Scan(&actor, &target, &details, &network); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(details), &d); err != nil || d.Count == 0 || len(d.Minute) != len("2026-06-01T12:00:00") {
			t.Errorf("details %s: %v", details, err)
		}
		sums[actor+"|"+target+"|"+d.Code+"|"+network] += d.Count
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return sums
}

// Contract, section 10: denials and refused credentials are counted per known user, known tenant, code and minute;
// nobody signed in: per /24 or /64. What a stranger types is no part of it.
func TestDenialsAreCountedInTheAuditLog(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, dsn string) {
		seed(t, dsn)
		w, err := gatetest.Start(t.Context(), gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
			cfg.TrustedProxies = []string{"127.0.0.1/32"}
			cfg.Admin.PublicURL = "http://localhost:9901"
			cfg.Billing.Stripe.WebhookSecret = secret.New(webhookSecret)
		}})
		if err != nil {
			t.Fatal(err)
		}
		plain := stays(client(t, w))
		from := func(ip string, pairs ...string) map[string]string {
			return with(map[string]string{"X-Forwarded-For": ip}, pairs...)
		}
		ask := func(n, status int, path string, header map[string]string) {
			t.Helper()
			for range n {
				if res, body := fetch(t, plain, "GET", w.URL+path, header); res.StatusCode != status {
					t.Errorf("%s: %s %s", path, res.Status, body)
				}
			}
		}
		dan, lou := bearer(t, w, "dan")["Authorization"], bearer(t, w, "lou")["Authorization"]
		ask(2, 200, "/t/acme/app", from("203.0.113.7", "Authorization", dan))
		ask(3, 403, "/t/globex/app", from("203.0.113.7", "Authorization", dan))
		ask(1, 403, "/t/typed-by-dan/app", from("203.0.113.7", "Authorization", dan))
		ask(2, 402, "/t/lapsed/app", from("203.0.113.7", "Authorization", lou))
		ask(1, 403, "/t/umbrella/app", from("198.51.100.1", "Authorization", lou))
		ask(2, 401, "/t/acme/app", from("203.0.113.8"))
		ask(1, 401, "/t/typed-by-nobody/app", from("203.0.113.9"))
		ask(1, 401, "/t/acme/app", from("::ffff:203.0.113.9"))
		ask(1, 401, "/t/acme/app", from("2001:db8:1:2::9", "Authorization", "Bearer nonsense"))
		ask(1, 401, "/t/acme/app", from("2001:db8:1:2:ffff::9", "Authorization", "Bearer tg_nonsense"))
		ask(1, 400, "/t/acme/..%2f", from("203.0.113.8"))
		ask(1, 400, "/_gate/callback/dev?state=x&code=y", from("203.0.113.8"))
		ask(1, 403, "/t/acme/app", from("203.0.113.8", "Authorization", bearer(t, w, "stranger")["Authorization"]))
		eve := signedIn(t, w, "eve")
		cookie := cookieHeader(eve, w.URL)
		execSQL(t, dsn, `INSERT INTO `+own(dsn)+`sys_user_blocks (user_id) VALUES ('id-eve')`)
		blocked := 0
		eventually(t, patience, "eve is blocked", func() bool {
			res, _ := fetch(t, plain, "GET", w.URL+"/t/acme/app", from("203.0.113.8", "Cookie", cookie))
			if res.StatusCode == http.StatusForbidden {
				blocked++
			}
			return res.StatusCode == http.StatusForbidden
		})
		for _, signature := range []string{"", "t=1,v1=00", fmt.Sprintf("t=%d,v1=%064x", time.Now().Unix(), 7)} {
			res, body, err := do(plain, "POST", w.URL+"/_gate/webhooks/stripe",
				from("203.0.114.7", "Content-Type", "application/json", "Stripe-Signature", signature), strings.NewReader(`{"typed":1}`))
			if err != nil || res.StatusCode != http.StatusBadRequest {
				t.Errorf("a delivery that is not signed: %v %s", err, body)
			}
		}
		metrics := httptest.NewRecorder()
		w.Gate.AdminHandler().ServeHTTP(metrics, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:9901/metrics", nil))
		if !strings.Contains(metrics.Body.String(), `tenantgate_stripe_events_total{outcome="refused_signature"} 3`) {
			t.Error("refused signatures are not in the metrics")
		}
		admin := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:9901/api/v1/whoami", nil)
		admin.RemoteAddr = "192.0.2.200:4711"
		admin.Header.Set("X-Forwarded-For", "203.0.113.200") // nobody is believed there
		w.Gate.AdminHandler().ServeHTTP(httptest.NewRecorder(), admin)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		want := map[string]int64{
			"id-dan||no_access|": 4, "id-lou|lapsed|subscription_required|": 2, "id-lou|umbrella|tenant_inactive|": 1,
			"203.0.113.0/24||unauthenticated|203.0.113.0/24": 4, "2001:db8:1:2::/64||invalid_token|2001:db8:1:2::/64": 2,
			"203.0.113.0/24||bad_path|203.0.113.0/24": 1, "203.0.113.0/24||bad_request|203.0.113.0/24": 1,
			"203.0.113.0/24||unknown_user|203.0.113.0/24": 1, "id-eve||unknown_user|": int64(blocked),
			"192.0.2.0/24||unauthenticated|192.0.2.0/24": 1, "203.0.114.0/24||invalid_token|203.0.114.0/24": 3,
		}
		got := counted(t, dsn)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got\n%v, want\n%v", got, want)
		}
		for k := range got {
			if strings.Contains(k, "typed") {
				t.Errorf("what a stranger typed is in the log: %s", k)
			}
		}
	})
}

// cookieHeader is what the browser would send.
func cookieHeader(c *http.Client, target string) string {
	req, err := http.NewRequestWithContext(context.Background(), "GET", target, nil)
	if err != nil {
		panic(err)
	}
	var all []string
	for _, ck := range c.Jar.Cookies(req.URL) {
		all = append(all, ck.Name+"="+ck.Value)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// An audit log without room: in required mode nobody signs in, in best_effort mode people do; who is signed in goes on
// either way, and all is well once there is room, without a restart.
func TestFullAuditLogAndSignIns(t *testing.T) {
	t.Parallel()
	if !smalldisk.Able(t) {
		return
	}
	s := pgtest.NewServer(t)
	dsn := s.URL(t)
	seed(t, dsn)
	worlds := map[string]*gatetest.World{}
	for _, mode := range []string{"required", "best_effort"} {
		worlds[mode] = gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
			cfg.Audit.Mode = mode
		}})
	}
	dans := map[string]*http.Client{}
	for mode, w := range worlds {
		dans[mode] = signedIn(t, w, "dan")
	}
	disk := smalldisk.New(t, 1<<20)
	execSQL(t, dsn, "ALTER TABLE sys_audit_logs SET TABLESPACE "+s.Tablespace(t, disk.Dir))
	t.Cleanup(func() { execSQL(t, dsn, "ALTER TABLE sys_audit_logs SET TABLESPACE pg_default") })
	disk.Fill(t)
	// What room there is in the table's last page is used up by rows of another program, which is refused, too, in the end.
	db := openSQL(t, dsn)
	for i := 0; ; i++ {
		if _, err := db.ExecContext(t.Context(), `INSERT INTO sys_audit_logs (id, details) VALUES ($1, '')`, fmt.Sprint("filler", i)); err != nil {
			break
		}
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	for mode, w := range worlds {
		if res, body := fetch(t, dans[mode], "GET", w.URL+"/t/acme/app", nil); res.StatusCode != 200 {
			t.Errorf("%s: who is signed in: %s %s", mode, res.Status, body)
		}
		res, body := signingIn(t, w, "bob")(t)
		if mode == "required" && (res.StatusCode != 503 || codeOf(body) != "host_database_unavailable") {
			t.Errorf("required: a sign-in that cannot be recorded: %s %s", res.Status, body)
		}
		if mode == "best_effort" && res.StatusCode != 200 {
			t.Errorf("best_effort: a sign-in: %s %s", res.Status, body)
		}
		metrics := httptest.NewRecorder()
		w.Gate.AdminHandler().ServeHTTP(metrics, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:9901/metrics", nil))
		if missing := strings.Contains(metrics.Body.String(), "tenantgate_audit_unrecorded_total 0"); missing != (mode == "required") {
			t.Errorf("%s: the metric of what is missing:\n%s", mode, metrics.Body)
		}
	}
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM tenantgate.sys_sessions WHERE user_id = 'id-bob'`); n != 1 {
		t.Errorf("bob has %d sessions", n)
	}
	disk.Free(t)
	signedIn(t, worlds["required"], "bob")
}

// A host database that takes no writes: what is there is judged, nobody signs in, and all is well once it does.
func TestReadOnlyHostDatabase(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t)
	dsn := s.URL(t)
	seed(t, dsn)
	for _, mode := range []string{"required", "best_effort"} {
		w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
			cfg.Audit.Mode = mode
		}})
		dan := signedIn(t, w, "dan")
		s.ReadOnly(t, true)
		late := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people}) // a replica that starts meanwhile
		for _, path := range []string{"/t/acme/app", "/_gate/whoami"} {
			if res, body := fetch(t, dan, "GET", w.URL+path, nil); res.StatusCode != 200 {
				t.Errorf("%s: %s: %s %s", mode, path, res.Status, body)
			}
		}
		if res, body := fetch(t, client(t, late), "GET", late.URL+"/t/acme/app", bearer(t, late, "eve")); res.StatusCode != 200 {
			t.Errorf("%s: a replica that started meanwhile: %s %s", mode, res.Status, body)
		}
		if res, body := fetch(t, client(t, w), "GET", w.URL+"/t/globex/app", bearer(t, w, "dan")); res.StatusCode != 403 {
			t.Errorf("%s: a denial: %s %s", mode, res.Status, body)
		}
		if res, body := signingIn(t, w, "bob")(t); res.StatusCode != 503 || codeOf(body) != "host_database_unavailable" {
			t.Errorf("%s: a sign-in: %s %s", mode, res.Status, body)
		}
		s.ReadOnly(t, false)
		signedIn(t, w, "bob")
	}
}

// sqlNumber is what a query of one number says.
func sqlNumber(t *testing.T, dsn, query string) (n int) {
	t.Helper()
	db := openSQL(t, dsn)
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Errorf("%s: %v", query, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return n
}
