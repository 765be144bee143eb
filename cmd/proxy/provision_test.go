package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// provisionKills is how often provisioning is killed on each engine.
var provisionKills = flag.Int("provision-kills", 3, "how often provisioning is killed, on each engine")

// provisioning is a command line with a server for tenants' databases.
type provisioning struct {
	*cli
	host   *catalog.HostDatabase
	keys   seal.Keyset
	server tenantdb.Server
}

// provisioners runs a test with a host database and a tenants' server of each engine, each of the test's own.
func provisioners(t *testing.T, test func(t *testing.T, p *provisioning)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, newProvisioning(t, sqliteURL(t), "sqlite:"+filepath.Join(t.TempDir(), "tenants")))
	})
	t.Run("postgresql", func(t *testing.T) {
		server := pgtest.NewServer(t)
		test(t, newProvisioning(t, server.URL(t), server.URL(t)))
	})
}

func newProvisioning(t *testing.T, hostURL, admin string) *provisioning {
	t.Helper()
	p := &provisioning{cli: newCLI(t, hostURL), keys: keysOf(t, masterSecret)}
	migrations := t.TempDir()
	text := "-- +goose Up\nCREATE TABLE notes (id int PRIMARY KEY);\n"
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(migrations, fmt.Sprintf("%05d_t.sql", i+1)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		text = fmt.Sprintf("-- +goose Up\nINSERT INTO notes VALUES (%d);\n", i)
	}
	engine, _, _ := strings.Cut(admin, ":")
	p.environ = append(p.environ, "TENANTGATE_SECRET_KEY="+masterSecret, "TENANTGATE_PROVISIONING_ENGINE="+engine,
		"TENANTGATE_PROVISIONING_ADMIN_URL="+admin, "TENANTGATE_PROVISIONING_MIGRATIONS_DIR="+migrations)
	var err error
	if p.host, err = catalog.Open(t.Context(), hostURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.host.Close() })
	id, err := p.host.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.server, err = tenantdb.New(tenantdb.Config{URL: catalog.NewDBURI(admin), Installation: id}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProvisionTellsEachStepAndPrintsTheTenant(t *testing.T) {
	provisioners(t, func(t *testing.T, p *provisioning) {
		p.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
		p.ok("plan", "create", "--id", "pro", "--trial-days", "14")
		args := []string{"tenant", "provision", "--id", "Ac-me", "--name", "Acme", "--plan-tier", "pro", "--owner", "ada@example.com", "--output", "json"}
		r := p.run(args...)
		var want strings.Builder
		for _, s := range provision.Steps() {
			fmt.Fprintf(&want, "provision: %s: %s\n", s, stepText(s))
		}
		if r.code != 0 || r.err != want.String() {
			t.Fatalf("exit %d, stderr %q", r.code, r.err)
		}
		row := decode(t, r.out)
		if row["id"] != "Ac-me" || row["is_active"] != true || row["plan_tier"] != "pro" || row["db_url"] != "enc:***" {
			t.Errorf("tenant %v", row)
		}
		if again := p.run(args...); again.code != 0 || again.out != r.out {
			t.Errorf("run again: %+v", again)
		}
		if sub := items(t, p.object("subscription", "list")); len(sub) != 1 || sub[0]["status"] != "trialing" {
			t.Errorf("trial %v", sub)
		}
		for _, event := range items(t, p.object("audit", "list", "--limit", "500")) {
			if actor := fmt.Sprint(event["actor_user_id"]); !strings.HasPrefix(actor, "cli:") && event["event_type"] != "key.created" {
				t.Errorf("%v was done by %s", event["event_type"], actor)
			}
		}
		made := p.run("tenant", "provision", "--output", "json")
		if id := decode(t, made.out)["id"].(string); len(id) != 32 {
			t.Errorf("made up: %+v", made)
		}
		p.fails(1, "user nobody", "tenant", "provision", "--id", "b", "--owner", "nobody")
		if r := p.run("tenant", "provision", "--id", "Ac-me", "--name", "Other"); r.code != 1 || !strings.Contains(r.err, "another name") {
			t.Errorf("another name: %+v", r)
		}
	})
}

func TestProvisionWithoutAServerSaysWhatToSet(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.fails(2, "secret_key", "tenant", "provision", "--id", "a")
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
	c.fails(2, "provisioning.admin_url is not set", "tenant", "provision", "--id", "a")
	c.environ = append(c.environ, "TENANTGATE_PROVISIONING_ADMIN_URL=postgresql://admin:"+canary+"@127.0.0.1:1/x")
	r := c.run("tenant", "provision", "--id", "a")
	if r.code != 1 || !strings.Contains(r.err, "connection refused") || strings.Contains(r.err, canary) {
		t.Errorf("no server: %+v", r)
	}
}

// SHOW-3. Killed at random moments and run again, provisioning leaves one database, one role and a working tenant.
func TestProvisionSurvivesKill(t *testing.T) {
	rounds := *provisionKills
	provisioners(t, func(t *testing.T, p *provisioning) {
		p.ok("user", "create", "--id", "u1")
		p.ok("plan", "create", "--id", "pro", "--trial-days", "14")
		args := func(tenant string) []string {
			return []string{"tenant", "provision", "--id", tenant, "--name", "T", "--plan-tier", "pro", "--owner", "u1"}
		}
		began := time.Now()
		if r := p.run(args("whole")...); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		whole := time.Since(began)
		reached := map[provision.Step]int{}
		for i := range rounds {
			tenant := fmt.Sprintf("t%d", i)
			for range 1 + i%2 { // some twice
				p.killed(rand.N(whole+whole/2), args(tenant)...)
			}
			if record, err := p.host.TenantDatabases.Get(t.Context(), catalog.TenantID(tenant)); err == nil {
				reached[provision.Step(record.Step)]++
			}
			if r := p.run(args(tenant)...); r.code != 0 {
				t.Fatalf("after a kill: %+v", r)
			}
			p.whole(catalog.TenantID(tenant))
			p.ok("tenant", "doctor")
		}
		t.Logf("%d rounds; when killed: %v", rounds, reached)
		p.nothingElse(rounds + 1)
	})
}

// killed runs the program as a process of its own and kills it after that time, at the latest.
func (p *provisioning) killed(after time.Duration, args ...string) {
	t := p.t
	t.Helper()
	cmd, _, _ := process(t, t.TempDir(), p.environ, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or done sooner
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(after):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// whole fails unless the tenant is as a run that nobody disturbed leaves it.
func (p *provisioning) whole(tenant catalog.TenantID) {
	t := p.t
	t.Helper()
	ctx := t.Context()
	row, err := p.host.Tenants.Get(ctx, tenant)
	if err != nil || row.IsActive == nil || !*row.IsActive {
		t.Fatalf("%s: %+v, %v", tenant, row, err)
	}
	uri, err := sealing.Unseal(p.keys, tenant, row.DBURL)
	if err != nil {
		t.Fatal(err)
	}
	m, err := tenantdb.LoadMigrations(p.environ[len(p.environ)-1][len("TENANTGATE_PROVISIONING_MIGRATIONS_DIR="):])
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.Version(ctx, uri); err != nil || v != 5 {
		t.Errorf("%s: version %d: %v", tenant, v, err)
	}
	filter := catalog.Page{Filter: map[string]string{"tenant_id": string(tenant)}}
	members, _, errM := p.host.Memberships.List(ctx, filter)
	subs, _, errS := p.host.Subscriptions.List(ctx, filter)
	if errM != nil || errS != nil || len(members) != 1 || len(subs) != 1 {
		t.Errorf("%s: %d members, %d subscriptions: %v, %v", tenant, len(members), len(subs), errM, errS)
	}
	if n := p.count("SELECT count(*) FROM sys_jobs WHERE payload LIKE '%" + string(subs[0].ID) + "%'"); n != 1 {
		t.Errorf("%s: %d jobs end its trial", tenant, n)
	}
	if n := p.count("SELECT count(*) FROM sys_audit_logs WHERE event_type = 'tenant.provisioned' AND target_id = '" + string(tenant) + "'"); n != 1 {
		t.Errorf("%s: provisioned %d times", tenant, n)
	}
}

// nothingElse fails unless exactly the recorded databases are on the server, each with its role and nobody else's rights.
func (p *provisioning) nothingElse(tenants int) {
	t := p.t
	t.Helper()
	found, err := p.server.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := p.host.TenantDatabases.List(t.Context(), catalog.Page{Limit: 1000})
	if err != nil || len(records) != tenants || len(found) != tenants {
		t.Fatalf("%d records and %d databases for %d tenants: %v", len(records), len(found), tenants, err)
	}
	for _, o := range found {
		if !slices.ContainsFunc(records, func(d catalog.TenantDatabase) bool {
			return d.DatabaseName == o.Database && d.RoleName == o.Role && d.RoleName == o.Owner
		}) || len(o.PublicRights)+len(o.RoleRights) > 0 || !o.AllowConnections {
			t.Errorf("left over: %+v", o)
		}
	}
	if dir, ok := strings.CutPrefix(p.environ[len(p.environ)-2], "TENANTGATE_PROVISIONING_ADMIN_URL=sqlite:"); ok {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != tenants {
			t.Errorf("%d files for %d tenants: %v", len(entries), tenants, err)
		}
	}
}
