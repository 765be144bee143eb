package acceptance

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/browsertest"
	"github.com/tenantgate/tenantgate/internal/demoapp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/jobs/provision/signup"
)

// ownRows is an app that shows the rows of whichever tenant's database it is given.
var ownRows = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	db, err := sql.Open("pgx", r.Header.Get("X-Tenant-Db-Uri"))
	if err == nil {
		defer db.Close()
		var database, role, body string
		err = db.QueryRowContext(r.Context(), "SELECT current_database(), current_user, body FROM notes").Scan(&database, &role, &body)
		fmt.Fprintf(w, "<!DOCTYPE html><title>app</title><h1>%s</h1><p>%s %s as %s of %s", html.EscapeString(body),
			html.EscapeString(database), r.Header.Get("X-User-Email"), html.EscapeString(r.Header.Get("X-User-Role")), role)
	}
	if err != nil {
		http.Error(w, "the tenant's database cannot be read", http.StatusInternalServerError)
	}
})

// setUpWorld is an installation in which people make tenants of their own.
func setUpWorld(t *testing.T, host, admin, migrations string) *gatetest.World {
	t.Helper()
	return setUpWorldOf(t, host, admin, migrations, ownRows)
}

func setUpWorldOf(t *testing.T, host, admin, migrations string, app http.Handler) *gatetest.World {
	t.Helper()
	o := gatetest.Options{HostURL: host, App: app, People: people, Configure: func(cfg *config.Config) {
		cfg.Identity.SignUp, cfg.Identity.InsecureOpenSignUp = "create_tenant", true
		cfg.Provisioning.AdminURL, cfg.Provisioning.MigrationsDir = secret.New(admin), migrations
		if strings.HasPrefix(admin, "sqlite:") {
			cfg.Provisioning.Engine = "sqlite"
		}
	}}
	return gatetest.New(t, o)
}

func notesMigrations(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "00001_notes.sql"), []byte("-- +goose Up\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const goodNotes = "CREATE TABLE notes (body text);\nINSERT INTO notes VALUES ('Welcome to your books');"

func seedPlans(t *testing.T, dsn string) {
	t.Helper()
	host, err := catalog.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []catalog.PricingPlan{
		{ID: "pro", Name: new("Pro"), TrialDays: new(int64(14)), SortOrder: new(int64(2)), Features: new(`[]`)},
		{ID: "starter", Name: new("Starter"), TrialDays: new(int64(14)), SortOrder: new(int64(1)), Features: new(`[]`)},
		{ID: "free", Name: new("Free"), TrialDays: new(int64(0)), SortOrder: new(int64(0)), Features: new(`[]`)},
	} {
		if err := host.PricingPlans.Insert(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
}

// demoBooks is the schema of the demo app, with the rows of a tenant that is new.
const demoBooks = `
CREATE TABLE company (name TEXT NOT NULL, city TEXT NOT NULL, currency TEXT NOT NULL);
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, contact TEXT NOT NULL, since TEXT NOT NULL);
CREATE TABLE invoices (
	id INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE, customer_id INTEGER NOT NULL REFERENCES customers (id),
	issued_on TEXT NOT NULL, due_on TEXT NOT NULL, amount_cents BIGINT NOT NULL, status TEXT NOT NULL);
INSERT INTO company SELECT 'Welcome to your books', current_database(), 'EUR';
INSERT INTO customers VALUES (1, 'First <b>customer</b>', 'Kiel', 'Jette Petersen', '2026-01-02');
INSERT INTO invoices VALUES (1, 'W-0001', 1, '2026-01-02', '2026-02-01', 123456, 'open');`

// lateApp is an app that is made once the gate's address is known.
type lateApp struct{ atomic.Pointer[demoapp.App] }

func (l *lateApp) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.Load().ServeHTTP(w, r) }

// Issue 8, Shows 1: from nothing to a first page of the demo app, with the new tenant's own rows, in a browser, on PostgreSQL.
func TestSignUpMakesATenantInABrowser(t *testing.T) {
	dsn := pgtest.New(t)
	seedPlans(t, dsn)
	var app lateApp
	w := setUpWorldOf(t, dsn, pgtest.New(t), notesMigrations(t, demoBooks+"\nSELECT pg_sleep(3);"), &app)
	demo, err := demoapp.New(demoapp.Config{JWKSURL: w.URL + "/_gate/jwks.json", Issuer: w.URL, Audience: "app"})
	if err != nil {
		t.Fatal(err)
	}
	app.Store(demo)
	ctx := browsertest.New(t)
	browsertest.Open(t, ctx, w.URL+"/")
	browsertest.Click(t, ctx, `button[value="new"]`)
	isAt(t, ctx, w.URL+"/_gate/setup")
	setupLooks(t, ctx, "form")
	browsertest.Click(t, ctx, `form.asks button`)
	isAt(t, ctx, w.URL+"/_gate/setup")
	setupLooks(t, ctx, "steps")
	browsertest.WaitText(t, ctx, "Welcome to your books")
	isAt(t, ctx, w.URL+"/t/")
	text := browsertest.Text(t, ctx)
	for _, own := range []string{"new@example.com", "W-0001", "First <b>customer</b>"} {
		if !strings.Contains(text, own) {
			t.Errorf("the app does not show %q: %s", own, text)
		}
	}
	browsertest.Open(t, ctx, w.URL+"/_gate/setup") // the way back makes no second one
	browsertest.WaitText(t, ctx, "Welcome to your books")
	setupLooks(t, ctx, "app")
	browsertest.Open(t, ctx, w.URL+"/_gate/tenants")
	browsertest.WaitText(t, ctx, "new's workspace")
	browsertest.NoComplaints(t, ctx)
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM core_tenants WHERE plan_tier = 'starter' AND is_active`); n != 1 {
		t.Errorf("%d tenants", n)
	}
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM sys_audit_logs WHERE event_type IN ('tenant.signed_up', 'tenant.created', 'membership.created', 'subscription.created')`); n != 4 {
		t.Errorf("%d rows in the audit log", n)
	}
}

func setupLooks(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	for _, look := range []struct {
		suffix      string
		phone, dark bool
	}{{"-phone-dark", true, true}, {"-desktop", false, false}} {
		if look.phone {
			browsertest.Phone(t, ctx)
		} else {
			browsertest.Desktop(t, ctx)
		}
		browsertest.Dark(t, ctx, look.dark)
		browsertest.FitsWidth(t, ctx)
		browsertest.Screenshot(t, ctx, "setup-"+name+look.suffix)
	}
}

// post sends the form of the setup page.
func post(t *testing.T, w *gatetest.World, c *http.Client, name string, header map[string]string) (*http.Response, string) {
	t.Helper()
	res, body, err := do(stays(c), "POST", w.URL+"/_gate/setup", with(header, "Content-Type", "application/x-www-form-urlencoded"),
		strings.NewReader(url.Values{"name": {name}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// One tenant, however often, in whatever tab, on whichever replica.
func TestSignUpMakesOneTenant(t *testing.T) {
	t.Run("postgresql", func(t *testing.T) { t.Parallel(); oneTenant(t, pgtest.New(t), pgtest.New(t)) })
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		oneTenant(t, sqliteURL(t), "sqlite:"+filepath.Join(t.TempDir(), "tenants"))
	})
}

func oneTenant(t *testing.T, dsn, admin string) {
	seedPlans(t, dsn)
	dir := notesMigrations(t, goodNotes)
	w := setUpWorld(t, dsn, admin, dir)
	c := client(t, w)
	if res, _ := signingInWith(t, w, c, "new")(t); res.Request.URL.Path != "/_gate/setup" || res.StatusCode != 200 {
		t.Fatalf("a new person comes to %s: %s", res.Request.URL, res.Status)
	}
	if res, body := post(t, w, c, "x", map[string]string{"Sec-Fetch-Site": "cross-site"}); res.StatusCode != 403 || codeOf(body) != "cross_origin" {
		t.Errorf("another site's form: %s %s", res.Status, body)
	}
	for _, name := range []string{"", "  ", strings.Repeat("ü", 81), "a\nb", "\xff"} {
		if res, _ := post(t, w, c, name, nil); res.StatusCode != 400 {
			t.Errorf("name %q: %s", name, res.Status)
		}
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if res, body := post(t, w, c, fmt.Sprint("Tab ", i), nil); res.StatusCode != 303 {
				t.Errorf("%s %s", res.Status, body)
			}
		})
	}
	wg.Wait()
	eventually(t, patience, "the tenant is ready", func() bool {
		res, _ := fetch(t, stays(c), "GET", w.URL+"/_gate/setup", navigates)
		return res.StatusCode == 303 && strings.HasPrefix(res.Header.Get("Location"), "/t/")
	})
	post(t, w, c, "Another", nil)
	for query, want := range map[string]int{
		`SELECT count(*) FROM core_tenants`: 1, `SELECT count(*) FROM sys_jobs WHERE job_type = 'tenantgate.provision'`: 1,
		`SELECT count(*) FROM ` + own(dsn) + `sys_tenant_sign_ups`: 1, `SELECT count(*) FROM core_memberships WHERE role = 'owner'`: 1,
		`SELECT count(*) FROM core_subscriptions WHERE status = 'trialing' AND plan_tier = 'starter'`: 1,
	} {
		if n := sqlNumber(t, dsn, query); n != want {
			t.Errorf("%s: %d", query, n)
		}
	}
	// Who belongs to a tenant gets none by signing up; nobody signs up by a token, or unknown.
	var tenant string
	db := openSQL(t, dsn)
	if err := db.QueryRowContext(t.Context(), `SELECT id FROM core_tenants`).Scan(&tenant); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	execSQL(t, dsn, `INSERT INTO core_users (id, oauth_id, email) VALUES ('id-bob', 'bob', 'bob@example.com');
		INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) VALUES ('m', 'id-bob', '`+tenant+`', 'member', true)`)
	bob := client(t, w)
	signingInWith(t, w, bob, "bob")(t)
	if res, _ := fetch(t, stays(bob), "GET", w.URL+"/_gate/setup", navigates); res.StatusCode != 303 || res.Header.Get("Location") != "/_gate/tenants" {
		t.Errorf("a member: %s to %s", res.Status, res.Header.Get("Location"))
	}
	if res, _ := post(t, w, bob, "Mine", nil); res.Header.Get("Location") != "/_gate/tenants" {
		t.Errorf("a member's form: %s to %s", res.Status, res.Header.Get("Location"))
	}
	if res, body := post(t, w, client(t, w), "Mine", bearer(t, w, "bob")); res.StatusCode != 401 {
		t.Errorf("a token's form: %s %s", res.Status, body)
	}
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM `+own(dsn)+`sys_tenant_sign_ups`); n != 1 {
		t.Errorf("%d sign-ups", n)
	}
}

// signingInWith is the whole way of a sign-in in a browser that is there, to the start.
func signingInWith(t *testing.T, w *gatetest.World, c *http.Client, subject string) func(*testing.T) (*http.Response, string) {
	t.Helper()
	finish := signingInAt(t, w, c, "/_gate/login?return_to=/", subject)
	return func(t *testing.T) (*http.Response, string) {
		res, body := finish(t)
		if res.StatusCode == 403 || res.StatusCode == 302 { // no navigation: then as a browser asks
			return fetch(t, c, "GET", w.URL+"/", navigates)
		}
		return res, body
	}
}

// A step that does not work is said in plain words, and tried again from the page.
func TestFailedSignUpIsTriedAgainFromThePage(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	dir := notesMigrations(t, "CREATE TABLE no.such_schema (body text);")
	w := setUpWorld(t, dsn, pgtest.New(t), dir)
	c := client(t, w)
	signingInWith(t, w, c, "new")(t)
	post(t, w, c, "Books", nil)
	eventually(t, patience, "the page says that it failed", func() bool {
		res, body := fetch(t, c, "GET", w.URL+"/_gate/setup", navigates)
		if strings.Contains(body, "postgres") || strings.Contains(body, "no.such") || strings.Contains(body, "SQLSTATE") {
			t.Fatalf("the page shows a server's text: %s", body)
		}
		return strings.Contains(body, "could not be created") && strings.Contains(body, "Try again") &&
			strings.Count(body, `<div class="item off failed"><span class="sign" aria-hidden="true">!</span>`) == 1 && strings.Count(body, `>failed<`) == 1 && res.Header.Get("Refresh") == ""
	})
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM core_tenants WHERE is_active`); n != 0 {
		t.Errorf("%d active tenants", n)
	}
	if err := os.WriteFile(filepath.Join(dir, "00001_notes.sql"), []byte("-- +goose Up\n"+goodNotes+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, body := post(t, w, c, "", nil); res.StatusCode != 303 {
		t.Errorf("trying again: %s %s", res.Status, body)
	}
	entered := func() bool {
		res, _ := fetch(t, stays(c), "GET", w.URL+"/_gate/setup", navigates)
		return res.StatusCode == 303 && strings.HasPrefix(res.Header.Get("Location"), "/t/")
	}
	eventually(t, patience, "the tenant is ready", entered)
	if n := sqlNumber(t, dsn, `SELECT count(*) FROM core_tenants WHERE is_active AND name = 'Books'`); n != 1 {
		t.Errorf("%d active tenants", n)
	}
}

// kill -9 of the replica that makes the tenant: another one finishes it. That the dead one's lease ends, after 30 s, is
// said by SQL.
func TestKilledReplicasSignUpIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	dsn, admin := pgtest.New(t), pgtest.New(t)
	seedPlans(t, dsn)
	dir := notesMigrations(t, goodNotes+"\nSELECT pg_sleep(2);")
	execSQL(t, dsn, `INSERT INTO core_users (id, oauth_id, email) VALUES ('id-new', 'new', 'new@example.com')`)
	_, kill := startReplica(t, replicaSpec{
		HostURL: dsn, PublicURL: "http://localhost:1", Issuer: "http://127.0.0.1:1", ClientSecret: "s", AdminURL: admin, MigrationsDir: dir,
	})
	host, err := catalog.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	begun := signup.New(signup.Config{FreePlan: "free"}, signup.Deps{Host: host}).Begin(t.Context(), "id-new", "Books")
	if err := errors.Join(begun, host.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the replica has made the database", func() bool {
		return sqlNumber(t, dsn, `SELECT count(*) FROM tenantgate.sys_tenant_databases WHERE step = 'database'`) == 1
	})
	kill()
	execSQL(t, dsn, `UPDATE tenantgate.sys_job_runs SET due_at = '2000-01-01T00:00:00' WHERE job_type = 'tenantgate.provision'`)
	w := setUpWorld(t, dsn, admin, dir)
	c := client(t, w)
	signingInWith(t, w, c, "new")(t)
	eventually(t, patience, "another replica has finished it", func() bool {
		res, body := fetch(t, c, "GET", w.URL+"/_gate/setup", navigates)
		return res.StatusCode == 200 && strings.Contains(body, "Welcome to your books")
	})
	for query, want := range map[string]int{
		`SELECT count(*) FROM core_tenants WHERE is_active AND name = 'Books'`:         1,
		`SELECT count(*) FROM tenantgate.sys_tenant_databases WHERE step = 'ready'`:    1,
		`SELECT count(*) FROM core_subscriptions WHERE status = 'trialing'`:            1,
		`SELECT count(*) FROM core_memberships WHERE user_id = 'id-new' AND is_active`: 1,
		`SELECT count(*) FROM sys_jobs WHERE job_type = 'tenantgate.provision'`:        1,
	} {
		if n := sqlNumber(t, dsn, query); n != want {
			t.Errorf("%s: %d", query, n)
		}
	}
}

// Only where sign_up says so.
func TestNobodySetsUpWhereThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, func(cfg *config.Config) { cfg.Identity.SignUp, cfg.Identity.InsecureOpenSignUp = "create_user", true })
	c := signedIn(t, w, "dan")
	for _, method := range []string{"GET", "POST"} {
		if res, body := fetch(t, c, method, w.URL+"/_gate/setup", nil); res.StatusCode != 404 || codeOf(body) != "not_found" {
			t.Errorf("%s: %s %s", method, res.Status, body)
		}
	}
}
