package acceptance

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/sealing"
)

// worldKeys are the master secrets of every World.
func worldKeys(t testing.TB) seal.Keyset {
	t.Helper()
	keys, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func sealFor(t testing.TB, keys seal.Keyset, tenant catalog.TenantID, uri string) string {
	t.Helper()
	s, err := sealing.Seal(keys, tenant, catalog.NewDBURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	return s.Reveal()
}

// logLines is what a gate wrote to its log.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// clockwork is the real time and what a test adds to it.
type clockwork struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clockwork) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clockwork) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// SHOW-7. Each way in which a sealed value or a reference can be wrong is a tenant of its own, beside tenants whose are
// right: those that are wrong are misconfigured, all others go on.
func TestWhatDoesNotOpenIsMisconfiguredAndAllOthersGoOn(t *testing.T) {
	for name, dsn := range map[string]func(*testing.T) string{
		"postgresql": func(t *testing.T) string { return pgtest.New(t) }, "sqlite": func(t *testing.T) string { return sqliteURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			misconfigured(t, dsn(t))
		})
	}
}

func misconfigured(t *testing.T, dsn string) {
	seed(t, dsn)
	base := t.TempDir()
	dir := filepath.Join(base, "refs")
	const uri = "postgresql://u:referred@db.internal/d"
	for path, text := range map[string]string{
		"refs/good": uri + "\n", "outside": uri, "refs/words": "no URI at all", "refs/large": "postgresql://h/" + strings.Repeat("x", 5000),
		"refs/changing": "postgresql://u:first@db.internal/d",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(base, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../outside", "in": "good"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, strange := worldKeys(t), func() seal.Keyset {
		k, err := seal.ParseKeyset(seal.GenerateSecret())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}()
	good := sealFor(t, keys, "sealed", "postgresql://u:s%40aled@db.internal/d")
	tenants := map[string][2]string{ // db_url, and what the app is given; "" is tenant_misconfigured
		"sealed": {good, "postgresql://u:s%40aled@db.internal/d"}, "file": {"ref:file:good", uri}, "linked": {"ref:file:in", uri},
		"absolute": {"ref:file:" + dir + "/good", uri}, "changing": {"ref:file:changing", "postgresql://u:first@db.internal/d"},
		"moved": {good, ""}, "strange": {sealFor(t, strange, "strange", uri), ""}, "tampered": {good[:len(good)-4] + "AAAA", ""}, "cut": {good[:40], ""},
		"made-up": {"enc:v1:", ""}, "traversal": {"ref:file:../outside", ""}, "outside": {"ref:file:" + base + "/outside", ""}, "symlink": {"ref:file:out", ""},
		"large": {"ref:file:large", ""}, "words": {"ref:file:words", ""}, "missing": {"ref:file:nothing", ""}, "directory": {"ref:file:.", ""},
		"fifo": {"ref:file:fifo", ""}, "unset": {"ref:env:NOWHERE", ""}, "unprefixed": {"ref:env:PATH", ""}, "kind": {"ref:vault:x", ""},
	}
	log, clock := &logLines{}, &clockwork{}
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: echo, People: people, LogWriter: log, Clock: clock.now,
		Configure: func(c *config.Config) { c.HostDatabase.Refs = catalog.Refs{EnvPrefix: "NOWHERE", Dir: dir} },
	})
	ctx := t.Context()
	err := w.Gate.Host().InTx(ctx, func(tx *catalog.Tx) error {
		for id, c := range tenants {
			for _, err := range []error{
				tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(id), DBURL: catalog.NewDBURI(c[0])}),
				tx.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: catalog.TenantID(id), Status: new("active"), PaymentType: new("subscription")}),
				tx.Memberships.Insert(ctx, &catalog.Membership{UserID: "id-max", TenantID: catalog.TenantID(id)}),
			} {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c, max, ada := client(t, w), bearer(t, w, "max"), bearer(t, w, "ada")
	ask := func(id, want string) {
		t.Helper()
		res, body := fetch(t, c, "GET", w.URL+"/t/"+id+"/x", max)
		if want == "" {
			if res.StatusCode != 503 || codeOf(body) != "tenant_misconfigured" || res.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %s %s", id, res.Status, body)
			}
			return
		}
		given(t, id, res, body, want)
	}
	for range 3 {
		for id, c := range tenants {
			ask(id, c[1])
		}
		if res, body := fetch(t, c, "GET", w.URL+"/t/acme/x", ada); res.StatusCode != 200 {
			t.Errorf("a tenant with a plain db_url: %s %s", res.Status, body)
		}
	}
	if n := strings.Count(log.String(), `"msg":"db_url of a tenant is not usable"`); n != 16 {
		t.Errorf("%d lines say that a db_url is not usable; want one for each of 16 tenants", n)
	}
	for _, secret := range []string{"referred", "s%40aled", "s@aled", good[30:60], "../outside", "NOWHERE", base} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}

	// A reference that changes is in force within a minute, and one that breaks is broken.
	for i, step := range []string{"postgresql://u:second@db.internal/d", "broken", "postgresql://u:third@db.internal/d"} {
		if err := os.WriteFile(filepath.Join(dir, "changing"), []byte(step), 0o600); err != nil {
			t.Fatal(err)
		}
		clock.move(59 * time.Second)
		max = bearer(t, w, "max")
		want := step
		if i == 1 {
			want = ""
		}
		ask("changing", want)
		ask("file", uri)
	}
	t.Run("whoami", func(t *testing.T) { listed(t, c, w, max, tenants) })
}

// given checks that the app received the URI, and an assertion over it.
func given(t *testing.T, id string, res *http.Response, body, want string) {
	t.Helper()
	var got echoed
	if res.StatusCode != 200 || json.Unmarshal([]byte(body), &got) != nil {
		t.Errorf("%s: %s %s", id, res.Status, body)
		return
	}
	if v := got.Header["X-Tenant-Db-Uri"]; len(v) != 1 || v[0] != want {
		t.Errorf("%s: the app received %q; want %q", id, v, want)
	}
	if hash := claimsOf(t, got.Header.Get("X-Gate-Assertion"))["db_uri_sha256"]; hash != hashOf(want) {
		t.Errorf("%s: the assertion is over %v; want %v", id, hash, hashOf(want))
	}
}

// listed checks that the list of tenants says of each what entering it would give.
func listed(t *testing.T, c *http.Client, w *gatetest.World, as map[string]string, tenants map[string][2]string) {
	seen := 0
	for _, tenant := range askWhoami(t, c, w, as).Tenants {
		want := "ok"
		if tenants[tenant.ID][1] == "" {
			want = "tenant_misconfigured"
		}
		if tenant.Access != want {
			t.Errorf("%s: %s, want %s", tenant.ID, tenant.Access, want)
		}
		seen++
	}
	if seen != len(tenants) {
		t.Errorf("%d tenants are listed", seen)
	}
}

// claimsOf reads what an assertion says; whether it verifies is tested elsewhere.
func claimsOf(t *testing.T, assertion string) map[string]any {
	t.Helper()
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		t.Fatalf("no assertion: %d parts", len(parts))
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func hashOf(uri string) string {
	sum := sha256.Sum256([]byte(uri))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
