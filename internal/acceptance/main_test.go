package acceptance

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // other programs' writes, by plain SQL

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(replicaEnv); spec != "" {
		if err := runReplica(spec); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

// freshness is how old anything remembered may be: what another program commits is in force after it.
const freshness = time.Minute

// patience bounds waits that have no bound of the contract's own.
const patience = 2 * time.Minute

// people can sign in at the development provider; those of them whom seed knows are users.
var people = []devidp.Person{
	{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"},
	{Subject: "bob", Email: "bob@example.com", EmailVerified: true, Name: "Bob"},
	{Subject: "cyd", Email: "cyd@example.com", EmailVerified: true, Name: "Cyd"},
	{Subject: "dan", Email: "dan@example.com", EmailVerified: true, Name: "Dan"},
	{Subject: "eve", Email: "eve@example.com", EmailVerified: true, Name: "Eve"},
	{Subject: "lou", Email: "lou@example.com", EmailVerified: true, Name: "Lou"},
	{Subject: "max", Email: "max@example.com", EmailVerified: true, Name: "Max"},
	{Subject: "new", Email: "new@example.com", EmailVerified: true, Name: "New"},
	{Subject: "stranger", Email: "stranger@example.com", EmailVerified: true, Name: "Stranger"},
}

// sqliteURL is a new SQLite host database.
func sqliteURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "host.db")
}

// seed fills a host database with:
//
//	acme      on plan pro (level 2, exports): ada owner, bob, dan and eve members, cyd a member no more
//	globex    on plan basic (level 1): ada member, eve admin
//	umbrella  suspended, lapsed without a good subscription, paused locked, broken with an unusable db_url: lou owner
//
// max is a user without any tenant; dan is a member of acme alone.
func seed(t testing.TB, dsn string) {
	t.Helper()
	ctx := context.Background()
	host, err := catalog.Open(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	err = host.InTx(ctx, func(tx *catalog.Tx) error {
		var errs []error
		for _, u := range []string{"ada", "bob", "cyd", "dan", "eve", "lou", "max"} {
			errs = append(errs, tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{
				ID: catalog.UserID("id-" + u), Email: new(u + "@example.com"), OAuthID: &u,
			}))
		}
		errs = append(errs,
			tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "basic", Name: new("Basic"), TierLevel: new(int64(1)), Features: new(`[]`)}),
			tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", Name: new("Pro"), TierLevel: new(int64(2)), Features: new(`["exports"]`)}))
		for _, id := range []string{"acme", "globex", "umbrella", "lapsed", "paused", "broken"} {
			errs = append(errs, seedTenant(ctx, tx, id))
		}
		for _, m := range [][3]string{
			{"ada", "acme", "owner"},
			{"ada", "globex", "member"},
			{"bob", "acme", "member"},
			{"dan", "acme", "member"},
			{"eve", "acme", "member"},
			{"eve", "globex", "admin"},
			{"cyd", "acme", "member"},
			{"lou", "umbrella", "owner"},
			{"lou", "lapsed", "owner"},
			{"lou", "paused", "owner"},
			{"lou", "broken", "owner"},
		} {
			errs = append(errs, tx.Memberships.Insert(ctx, &catalog.Membership{
				UserID: catalog.UserID("id-" + m[0]), TenantID: catalog.TenantID(m[1]), Role: &m[2],
				ProfileID: new("profile-" + m[0]), IsActive: new(m[0] != "cyd"),
			}))
		}
		return errors.Join(errs...)
	})
	if err := errors.Join(err, host.Close()); err != nil {
		t.Fatal(err)
	}
	execSQL(t, dsn, `INSERT INTO `+own(dsn)+`sys_tenant_locks (tenant_id) VALUES ('paused')`)
}

func seedTenant(ctx context.Context, tx *catalog.Tx, id string) error {
	status, plan, uri := "active", "pro", "postgresql://"+id+":pw-of-"+id+"@db.internal/"+id
	switch id {
	case "lapsed":
		status = "canceled"
	case "globex":
		plan = "basic"
	case "broken":
		uri = "postgresql://db.internal/not one token"
	}
	return errors.Join(
		tx.Tenants.Insert(ctx, &catalog.TenantCatalog{
			ID: catalog.TenantID(id), Name: new(strings.ToUpper(id)), DBURL: catalog.NewDBURI(uri), IsActive: new(id != "umbrella"),
			PlanTier: new("free"),
		}),
		tx.Subscriptions.Insert(ctx, &catalog.Subscription{
			TenantID: catalog.TenantID(id), Status: &status, PaymentType: new("subscription"), PlanTier: &plan,
		}))
}

// own is the prefix of our own tables' names.
func own(dsn string) string {
	if strings.HasPrefix(dsn, "postgresql:") {
		return "tenantgate."
	}
	return ""
}

// execSQL writes as another program would, past tenantgate.
func execSQL(t testing.TB, dsn, text string) {
	t.Helper()
	db := openSQL(t, dsn)
	if _, err := db.ExecContext(context.Background(), text); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func openSQL(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	driver, name := "pgx", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, name = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// echoed is what the app behind the gate received.
type echoed struct {
	Method, Host, URI string
	Header            http.Header
}

// echo is an app that answers with the request that reached it.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(echoed{Method: r.Method, Host: r.Host, URI: r.RequestURI, Header: r.Header})
})

// do sends one request with those headers and reads the whole answer.
func do(c *http.Client, method, target string, header map[string]string, body io.Reader) (*http.Response, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, "", err
	}
	for k, v := range header {
		req.Header.Set(k, v)
		if k == "Host" {
			req.Header.Del("Host")
			req.Host = v
		}
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res, string(text), errors.Join(err, res.Body.Close())
}

// fetch is do without a body; a request that gets no answer fails the test.
func fetch(t testing.TB, c *http.Client, method, target string, header map[string]string) (*http.Response, string) {
	t.Helper()
	res, text, err := do(c, method, target, header, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res, text
}

// codeOf is the code of a problem+json body, "" for anything else.
func codeOf(body string) string {
	var p struct {
		Code string `json:"code"`
	}
	if json.Unmarshal([]byte(body), &p) != nil {
		return ""
	}
	return p.Code
}

// again comes again, as Retry-After asks, where the answer is that a check could not be made: a machine that is busy
// with other tests may miss the second within which the host database has to answer. It does so at most twice, and not
// where a request can be sent only once. Nothing that was let through or denied is ever asked again.
type again struct{ *http.Transport }

func (a again) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		res, err := a.Transport.RoundTrip(r)
		once := r.Body != nil && r.Body != http.NoBody || strings.HasPrefix(r.URL.Path, "/_gate/callback/")
		if err != nil || res.StatusCode != http.StatusServiceUnavailable || once || try == 2 {
			return res, err
		}
		body, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			return nil, err
		}
		if !bytes.Contains(body, []byte("host_database_unavailable")) {
			res.Body = io.NopCloser(bytes.NewReader(body))
			return res, nil
		}
	}
}

// client is a browser of w that ends with the test.
func client(t testing.TB, w *gatetest.World) *http.Client {
	t.Helper()
	c := w.Client()
	c.Transport = again{w.Transport()}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// signedIn is a browser of w in which the person has signed in; one whose sign-in could not be checked begins anew.
func signedIn(t testing.TB, w *gatetest.World, subject string) *http.Client {
	t.Helper()
	for try := 0; ; try++ {
		c := client(t, w)
		err := w.SignIn(t.Context(), c, subject)
		if err == nil {
			return c
		}
		if try == 2 || !strings.Contains(err.Error(), "503") {
			t.Fatal(err)
		}
	}
}

// bearer is the Authorization header of a person's access token.
func bearer(t testing.TB, w *gatetest.World, subject string) map[string]string {
	t.Helper()
	token, err := w.Bearer(subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"Authorization": "Bearer " + token}
}

// with copies headers and adds pairs.
func with(header map[string]string, pairs ...string) map[string]string {
	out := map[string]string{}
	for k, v := range header {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// eventually asks until ok, at most for the given time, and returns how long that took.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > within {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(start)
}
