package freshness

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", for what other programs do
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds waits for which the contract has no bound.
const patience = 2 * time.Minute

// The people and tenants of a bed. Person i, subject p<i>, has the id u<i>; tenant i is t<i>.
const (
	people  = 20
	tenants = 10
)

// bed is a host database with several replicas in front of one app.
type bed struct {
	hostURL  string
	postgres bool
	db       *sql.DB // another program's
	foreign  *sql.DB // PostgreSQL: a role with rights on the eight tables alone and no search_path
	provider *gatetest.Provider
	replicas []*gatetest.World
	cookies  []string // of person i, good on every replica
}

func engines(tb testing.TB, f func(tb testing.TB, hostURL string)) {
	run := func(name string, open func(testing.TB) string) {
		switch t := tb.(type) {
		case *testing.T:
			t.Run(name, func(t *testing.T) { f(t, open(t)) })
		case *testing.B:
			t.Run(name, func(b *testing.B) { f(b, open(b)) })
		}
	}
	run("postgresql", pgtest.New)
	run("sqlite", func(tb testing.TB) string { return "sqlite:" + filepath.Join(tb.TempDir(), "host.db") })
}

// app answers with what it was told, and keeps streams open.
func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		_, _ = fmt.Fprintf(w, "tenant=%s uri=%s role=%s email=%s features=%s plan=%s", h.Get("X-Tenant-Id"), h.Get("X-Tenant-Db-Uri"),
			h.Get("X-User-Role"), h.Get("X-User-Email"), h.Get("X-Tenant-Features"), h.Get("X-Tenant-Plan"))
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: open\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/ws", echoFrames)
	return mux
}

func newBed(tb testing.TB, hostURL string, replicas int, configure func(*config.Config)) *bed {
	tb.Helper()
	b := &bed{hostURL: hostURL, postgres: strings.HasPrefix(hostURL, "postgres")}
	seed(tb, hostURL)
	driver, dsn := "pgx", hostURL
	if !b.postgres {
		driver, dsn = "sqlite", "file:"+strings.TrimPrefix(hostURL, "sqlite:")+"?_pragma=busy_timeout(10000)&_txlock=immediate"
	}
	b.db = openSQL(tb, driver, dsn)
	var list []devidp.Person
	for i := range people {
		s := fmt.Sprint("p", i)
		list = append(list, devidp.Person{Subject: s, Email: s + "@example.com", EmailVerified: true, Name: s})
	}
	var urls []string
	options := make([]gatetest.Options, replicas)
	for i := range options {
		l, err := gatetest.NewListener()
		if err != nil {
			tb.Fatal(err)
		}
		options[i] = gatetest.Options{HostURL: hostURL, App: app(), Listener: l, Configure: configure}
		urls = append(urls, gatetest.PublicURL(l))
	}
	var err error
	if b.provider, err = gatetest.StartProvider(list, urls...); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.provider.Close() })
	for _, o := range options {
		o.Provider = b.provider
		b.replicas = append(b.replicas, gatetest.New(tb, o))
	}
	for i := range people {
		b.cookies = append(b.cookies, b.signIn(tb, i))
	}
	return b
}

func openSQL(tb testing.TB, driver, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// signIn signs a person in at the first replica; names of the cookies do not go by port, so it is good at each.
func (b *bed) signIn(tb testing.TB, person int) string {
	tb.Helper()
	w := b.replicas[0]
	c := w.Client()
	defer c.CloseIdleConnections()
	if err := w.SignIn(tb.Context(), c, fmt.Sprint("p", person)); err != nil {
		tb.Fatal(err)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, k := range c.Jar.Cookies(u) {
		all = append(all, k.Name+"="+k.Value)
	}
	return strings.Join(all, "; ")
}

// own is a table of ours as SQL names it.
func (b *bed) own(table string) string {
	if b.postgres {
		return "tenantgate." + table
	}
	return table
}

// asForeign is a role that fh-saas's app could have, on PostgreSQL.
func (b *bed) asForeign(tb testing.TB) *sql.DB {
	tb.Helper()
	if b.foreign != nil || !b.postgres {
		return b.foreign
	}
	name := "guest_" + catalog.GenID()
	b.exec(tb, b.db, "CREATE ROLE "+name+" LOGIN PASSWORD 'x'")
	for _, table := range []string{"core_users", "core_tenants", "core_memberships", "core_subscriptions", "core_pricing_plans"} {
		b.exec(tb, b.db, "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public."+table+" TO "+name)
	}
	u, err := url.Parse(b.hostURL)
	if err != nil {
		tb.Fatal(err)
	}
	u.User = url.UserPassword(name, "x")
	q := u.Query()
	q.Set("search_path", "")
	u.RawQuery = q.Encode()
	b.foreign = openSQL(tb, "pgx", u.String())
	tb.Cleanup(func() {
		_ = b.foreign.Close()
		_, _ = b.db.ExecContext(context.WithoutCancel(tb.Context()), "DROP OWNED BY "+name+"; DROP ROLE "+name)
	})
	return b.foreign
}

func (b *bed) exec(tb testing.TB, db *sql.DB, text string, args ...any) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if _, err := db.ExecContext(ctx, text, args...); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
}

// seed makes tenants t0…, each on a plan of its own and paid for, and people u0…, each a member of every tenant.
func seed(tb testing.TB, hostURL string) {
	tb.Helper()
	ctx := tb.Context()
	host, err := catalog.Open(ctx, hostURL)
	if err != nil {
		tb.Fatal(err)
	}
	defer host.Close()
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(host.InTx(ctx, func(tx *catalog.Tx) error {
		for i := range people {
			s := fmt.Sprint("p", i)
			must(tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: catalog.UserID(fmt.Sprint("u", i)), Email: new(s + "@example.com"), OAuthID: &s}))
		}
		for i := range tenants {
			id, plan := catalog.TenantID(fmt.Sprint("t", i)), fmt.Sprint("plan", i)
			must(tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: catalog.PlanID(plan), Features: new(`["old"]`)}))
			must(tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, PlanTier: new("free"), DBURL: catalog.NewDBURI("postgresql://old@db/" + string(id))}))
			must(tx.Subscriptions.Insert(ctx, &catalog.Subscription{
				ID: catalog.SubscriptionID(fmt.Sprint("s", i)), TenantID: id, Status: new("active"), PaymentType: new("subscription"), PlanTier: &plan,
			}))
			for j := range people {
				must(tx.Memberships.Insert(ctx, &catalog.Membership{
					ID: catalog.MembershipID(fmt.Sprintf("m%d-%d", j, i)), UserID: catalog.UserID(fmt.Sprint("u", j)), TenantID: id, Role: new("member"),
				}))
			}
		}
		return nil
	}))
}
