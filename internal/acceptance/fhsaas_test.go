package acceptance

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// fhSaaS is where the databases that fh-saas made lie, one copy for all packages.
const fhSaaS = "../../catalog/testdata/fh_saas_host_"

// reference is the moment at which fh-saas gave its answers.
var reference = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// copies are host databases that fh-saas made, each a copy of the test's own.
var copies = []struct {
	engine string
	make   func(testing.TB) string
}{
	{"postgresql", func(t testing.TB) string {
		t.Helper()
		dsn := pgtest.New(t)
		pgtest.LoadSQL(t, dsn, fhSaaS+"postgres_schema.sql")
		pgtest.LoadSQL(t, dsn, fhSaaS+"postgres_data.sql")
		return dsn
	}},
	{"sqlite", func(t testing.TB) string {
		t.Helper()
		text, err := os.ReadFile(fhSaaS + "sqlite.sql")
		if err != nil {
			t.Fatal(err)
		}
		dsn := sqliteURL(t)
		execSQL(t, dsn, string(text))
		return dsn
	}},
}

var eightTables = []string{
	"core_users", "core_memberships", "core_tenants", "core_subscriptions", "core_pricing_plans", "core_stripe_webhook_events",
	"sys_audit_logs", "sys_jobs",
}

// row is one row as text, "∅" for NULL.
type row map[string]string

const null = "∅"

func (r row) yes(column string) bool { return r[column] == "true" || r[column] == "1" }

// text is the column's value, "" for NULL.
func (r row) text(column string) string {
	if r[column] == null {
		return ""
	}
	return r[column]
}

// whole is the row with all its columns, but for those left out.
func (r row) whole(without ...string) string {
	columns := slices.Sorted(maps.Keys(r))
	var b strings.Builder
	for _, c := range columns {
		if !slices.Contains(without, c) {
			fmt.Fprintf(&b, "%s=%q ", c, r[c])
		}
	}
	return b.String()
}

// dump reads the eight tables by plain SQL.
func dump(t testing.TB, dsn string) map[string][]row {
	t.Helper()
	db := openSQL(t, dsn)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := map[string][]row{}
	for _, table := range eightTables {
		rows, err := db.QueryContext(context.Background(), "SELECT * FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			r := row{}
			for i, v := range values {
				switch v := v.(type) {
				case nil:
					r[columns[i]] = null
				case []byte:
					r[columns[i]] = string(v)
				default:
					r[columns[i]] = fmt.Sprint(v)
				}
			}
			all[table] = append(all[table], r)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// answer is what a request to the app ends in.
type answer struct {
	status             int
	code               string
	user, tenant, role string
	dbURI, subStatus   string
}

// byHand works out the contract's section 6 from rows as they stand, without a line of the product.
type byHand struct{ rows map[string][]row }

// person is whom an oauth_id stands for: of several rows the smallest (created_at, id), NULL last.
func (h byHand) person(oauthID string) row {
	var list []row
	for _, u := range h.rows["core_users"] {
		if u["oauth_id"] == oauthID {
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b row) int {
		if (a["created_at"] == null) != (b["created_at"] == null) {
			return map[bool]int{true: 1, false: -1}[a["created_at"] == null]
		}
		return cmp.Or(strings.Compare(a["created_at"], b["created_at"]), strings.Compare(a["id"], b["id"]))
	})
	return list[0]
}

// membership is the state of a pair: "none", "inactive", or "active" with the lowest of its active roles.
func (h byHand) membership(user, tenant string) (state, role string) {
	state = "none"
	rank := map[string]int{"member": 1, "admin": 2, "owner": 3}
	for _, m := range h.rows["core_memberships"] {
		if m["user_id"] != user || m["tenant_id"] != tenant {
			continue
		}
		switch {
		case !m.yes("is_active") && state == "none":
			state = "inactive"
		case m.yes("is_active") && (state != "active" || rank[m.text("role")] < rank[role]):
			state, role = "active", m.text("role")
		}
	}
	return state, role
}

// subscription is the newest row that counts, nil without one.
func (h byHand) subscription(tenant string) row {
	var newest row
	for _, s := range h.rows["core_subscriptions"] {
		if s["tenant_id"] != tenant || s["payment_type"] != "subscription" {
			continue
		}
		if newest == nil || cmp.Or(strings.Compare(s.text("created_at"), newest.text("created_at")),
			strings.Compare(s.text("stripe_sub_id"), newest.text("stripe_sub_id")), strings.Compare(s["id"], newest["id"])) > 0 {
			newest = s
		}
	}
	return newest
}

func (h byHand) entitled(tenant string) bool {
	s := h.subscription(tenant)
	if s == nil {
		return false
	}
	switch s.text("status") {
	case "active", "trialing":
		return true
	case "past_due":
		// One that is needed and cannot be read entitles nobody; the data has one that is NULL.
		end, err := time.Parse("2006-01-02T15:04:05.999999", s.text("current_period_end"))
		return err == nil && reference.Before(end.Add(72*time.Hour))
	}
	return false
}

func (h byHand) answer(person, tenant row) answer {
	state, role := h.membership(person["id"], tenant["id"])
	switch {
	case state == "none":
		return answer{status: 403, code: "no_access"}
	case state == "inactive":
		return answer{status: 403, code: "membership_inactive"}
	case !tenant.yes("is_active"):
		return answer{status: 403, code: "tenant_inactive"}
	case !h.entitled(tenant["id"]):
		return answer{status: 402, code: "subscription_required"}
	}
	return answer{
		status: 200, user: person["id"], tenant: tenant["id"], role: role, dbURI: tenant["db_url"],
		subStatus: h.subscription(tenant["id"]).text("status"),
	}
}

// expected is what fh-saas answered itself.
type expected struct {
	Members       [][2]string `json:"verify_membership_true"`
	Pairs         int         `json:"verify_membership_pairs_asked"`
	Subscriptions map[string]struct {
		Active bool `json:"has_active_subscription"`
	} `json:"subscriptions"`
}

func readExpected(t testing.TB) expected {
	t.Helper()
	text, err := os.ReadFile(fhSaaS + "expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var e expected
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOnADatabaseOfFhSaaSExactlyThoseEnterWhomRowsAndContractLetIn(t *testing.T) {
	want := readExpected(t)
	for _, c := range copies {
		t.Run(c.engine, func(t *testing.T) {
			t.Parallel()
			dsn := c.make(t)
			before := dump(t, dsn)
			clock := func() time.Time { return reference }
			idp := newIssuer(t, clock)
			w := gatetest.New(t, gatetest.Options{
				HostURL: dsn, App: echo, People: people, Clock: clock,
				Configure: func(cfg *config.Config) {
					cfg.Identity.Providers = []auth.Provider{{
						Name: "idp", Issuer: idp.url, Bearer: auth.BearerConfig{Audiences: []string{gatetest.Audience}},
					}}
				},
			})
			p := pairs{byHand: byHand{before}, idp: idp, world: w, client: client(t, w)}
			p.agreeWithFhSaaS(t, want)
			p.askAll(t, want.Pairs, func(tenant string) (string, string) { return "/", tenant }) // nothing is remembered
			p.askAll(t, want.Pairs, func(tenant string) (string, string) { return "/t/" + tenant + "/", "" })
			unchanged(t, before, dump(t, dsn), nil)
		})
	}
}

// pairs asks a gate about every user in every tenant.
type pairs struct {
	byHand
	idp    *issuer
	world  *gatetest.World
	client *http.Client
}

// agreeWithFhSaaS holds what was worked out by hand against the library's own answers, as far as the contract does not
// differ: who is an active member, and who pays.
func (p pairs) agreeWithFhSaaS(t *testing.T, want expected) {
	var members [][2]string
	for _, u := range p.rows["core_users"] {
		for _, tenant := range p.rows["core_tenants"] {
			if state, _ := p.membership(u["id"], tenant["id"]); state == "active" {
				members = append(members, [2]string{u["id"], tenant["id"]})
			}
		}
	}
	compare := func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) }
	slices.SortFunc(members, compare)
	theirs := slices.SortedFunc(slices.Values(want.Members), compare)
	if len(theirs) == 0 || !slices.Equal(members, theirs) {
		t.Errorf("active members by hand: %d; fh-saas found %d", len(members), len(theirs))
	}
	if len(want.Subscriptions) != len(p.rows["core_tenants"]) {
		t.Errorf("fh-saas answered for %d tenants, there are %d", len(want.Subscriptions), len(p.rows["core_tenants"]))
	}
	for id, s := range want.Subscriptions {
		if got := p.entitled(id); got != s.Active {
			t.Errorf("tenant %s: entitled by hand %t; fh-saas says %t", id, got, s.Active)
		}
	}
}

// askAll sends a request for each pair and compares the answers. name says by which path and tenant header a tenant is
// named.
func (p pairs) askAll(t *testing.T, asked int, name func(tenant string) (path, header string)) {
	var mu sync.Mutex
	counts := map[string]int{}
	var group errgroup.Group
	group.SetLimit(4)
	for _, u := range p.rows["core_users"] {
		if u.text("oauth_id") == "" {
			t.Fatalf("user %s has no oauth_id: nobody can be them, and the data was thought to have none", u["id"])
		}
		token := p.idp.mint(t, jose.ES256, gatetest.Audience, u["oauth_id"], nil)
		person := p.person(u["oauth_id"])
		for _, tenant := range p.rows["core_tenants"] {
			group.Go(func() error {
				path, header := name(tenant["id"])
				got, err := p.ask(path, header, token)
				if err != nil {
					return err
				}
				if want := p.answer(person, tenant); got != want {
					t.Errorf("user %s in tenant %s:\n got %+v\nwant %+v", u["email"], tenant["id"], got, want)
				}
				mu.Lock()
				defer mu.Unlock()
				counts[cmp.Or(got.code, "forwarded")]++
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, code := range []string{"forwarded", "no_access", "membership_inactive", "tenant_inactive", "subscription_required"} {
		total += counts[code]
		if counts[code] == 0 {
			t.Errorf("no pair ended in %s: %v", code, counts)
		}
	}
	if total != asked || len(counts) != 5 {
		t.Errorf("%d pairs were answered, want %d: %v", total, asked, counts)
	}
}

func (p pairs) ask(path, header, token string) (answer, error) {
	headers := map[string]string{"Authorization": "Bearer " + token}
	if header != "" {
		headers["X-Tenant"] = header
	}
	res, body, err := do(p.client, "GET", p.world.URL+path, headers, nil)
	if err != nil {
		return answer{}, err
	}
	if res.StatusCode != http.StatusOK {
		return answer{status: res.StatusCode, code: codeOf(body)}, nil
	}
	var app echoed
	if err := json.Unmarshal([]byte(body), &app); err != nil {
		return answer{}, err
	}
	one := func(name string) string {
		if v := app.Header[name]; len(v) == 1 {
			return v[0]
		}
		return fmt.Sprintf("%q", app.Header[name])
	}
	return answer{
		status: res.StatusCode, user: one("X-User-Id"), tenant: one("X-Tenant-Id"), role: one("X-User-Role"),
		dbURI: one("X-Tenant-Db-Uri"), subStatus: one("X-Subscription-Status"),
	}, nil
}

// unchanged holds the eight tables against what they were: the same rows, but for the last_login of those who signed
// in, and for rows added to the audit log.
func unchanged(t *testing.T, before, after map[string][]row, signedIn map[string]bool) {
	t.Helper()
	for _, table := range eightTables {
		now := map[string]int{}
		for _, r := range after[table] {
			now[r.whole(loginOf(table, r, signedIn)...)]++
		}
		for _, r := range before[table] {
			was := r.whole(loginOf(table, r, signedIn)...)
			if now[was]--; now[was] < 0 {
				t.Errorf("%s: this row is not there any more: %s", table, was)
			}
		}
		if added := len(after[table]) - len(before[table]); table != "sys_audit_logs" && added != 0 {
			t.Errorf("%s: %d rows were added", table, added)
		}
		if len(before[table]) == 0 {
			t.Errorf("%s was empty: nothing was shown", table)
		}
	}
}

func loginOf(table string, r row, signedIn map[string]bool) []string {
	if table == "core_users" && signedIn[r["id"]] {
		return []string{"last_login"}
	}
	return nil
}

func TestSignInOnADatabaseOfFhSaaSWritesTheirLastLoginAndNoOtherRow(t *testing.T) {
	for _, c := range copies {
		t.Run(c.engine, func(t *testing.T) {
			t.Parallel()
			dsn := c.make(t)
			before := dump(t, dsn)
			// Two rows have this oauth_id; the older one is who signs in.
			const shared = "183427622570430230069"
			first := byHand{before}.person(shared)
			w := gatetest.New(t, gatetest.Options{
				HostURL: dsn, App: echo, People: []devidp.Person{{Subject: shared, Email: "somebody@example.com", EmailVerified: true}},
			})
			browser := signedIn(t, w, shared)
			var who struct{ User struct{ ID string } }
			if res, body := fetch(t, browser, "GET", w.URL+"/_gate/whoami", nil); res.StatusCode != 200 || json.Unmarshal([]byte(body), &who) != nil || who.User.ID != first["id"] {
				t.Fatalf("signed in as %s %s; want user %s", res.Status, body, first["id"])
			}
			after := dump(t, dsn)
			unchanged(t, before, after, map[string]bool{first["id"]: true})
			for _, u := range after["core_users"] {
				if u["id"] == first["id"] && u["last_login"] <= first["last_login"] {
					t.Errorf("last_login of who signed in is still %s", u["last_login"])
				}
			}
			if len(after["sys_audit_logs"]) == len(before["sys_audit_logs"]) {
				t.Error("the sign-in is not in the audit log")
			}
		})
	}
}
