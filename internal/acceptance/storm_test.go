package acceptance

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// replicaEnv makes this test binary a replica instead: a process of its own, to be killed.
const replicaEnv = "TENANTGATE_TEST_REPLICA"

// replicaSpec is what a replica is told.
type replicaSpec struct {
	HostURL, PublicURL, Issuer, ClientSecret string
	AdminURL, MigrationsDir                  string // of tenants; "": it makes none
}

func (s replicaSpec) identity() auth.Config {
	return auth.Config{
		SignUp: "create_user", InsecureOpenSignUp: true, SignUpLimit: 1_000_000,
		Providers: []auth.Provider{{Name: "dev", Issuer: s.Issuer, ClientID: gatetest.ClientID, ClientSecret: secret.New(s.ClientSecret)}},
	}
}

// runReplica serves until standard input ends, and says where on standard output.
func runReplica(spec string) error {
	var s replicaSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	gate, err := tenantgate.OpenWith(context.Background(), &config.Config{
		PublicURL: s.PublicURL, SecretKey: secret.New(gatetest.MasterSecret), HostDatabase: catalog.Config{URL: catalog.NewDBURI(s.HostURL)},
		Identity: s.identity(), Tenants: router.TenantsConfig{PathPrefix: "/t/"},
		Upstreams:    map[string]router.UpstreamConfig{"app": {URLs: []string{"http://127.0.0.1:1"}}},
		Routes:       []router.RouteConfig{{Path: "/", Upstream: "app"}},
		Provisioning: config.Provisioning{AdminURL: secret.New(s.AdminURL), MigrationsDir: s.MigrationsDir},
	}, tenantgate.Options{LogWriter: io.Discard})
	if err != nil {
		return err
	}
	l, err := gatetest.NewListener()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: gate.Handler(), ReadHeaderTimeout: patience}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	fmt.Println(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return gate.Close()
}

// startReplica starts one and returns its address and what kills it.
func startReplica(t *testing.T, s replicaSpec) (addr string, kill func()) {
	t.Helper()
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), replicaEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // ends with this process
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = in.Close()
		})
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the replica does not come up: %v", err)
	}
	return strings.TrimSpace(line), kill
}

// storm is many people who sign in at once.
type storm struct {
	public, issuer string
	replicas       [2]string // addresses
	transports     [2]*http.Transport
	tries          atomic.Int32
}

var errTryAgain = errors.New("begin again, as a person would")

// step sends one request to a replica, or to the provider (-1), and returns where it leads.
func (s *storm) step(c *http.Client, replica int, method, target, form string) (*url.URL, error) {
	if replica >= 0 {
		c.Transport = s.transports[replica]
	} else {
		c.Transport = s.transports[0]
	}
	var body io.Reader
	if form != "" {
		body = strings.NewReader(form)
	}
	res, _, err := do(c, method, target, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTryAgain, err)
	}
	if res.StatusCode/100 != 3 {
		return nil, fmt.Errorf("%w: %s", errTryAgain, res.Status)
	}
	return res.Location()
}

// signIn goes through the flow at two replicas and returns the browser.
func (s *storm) signIn(subject string, begin, end int) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	authorize, err := s.step(c, begin, "GET", s.public+"/_gate/login?return_to=/_gate/ping", "")
	if err != nil {
		return nil, err
	}
	page, err := s.step(c, -1, "GET", authorize.String(), "")
	if err != nil {
		return nil, err
	}
	back, err := s.step(c, -1, "POST", page.String(), url.Values{"id": page.Query()["id"], "subject": {subject}}.Encode())
	if err != nil {
		return nil, err
	}
	for back.Path == "/authorize/callback" || strings.HasPrefix(back.String(), s.issuer) {
		if back, err = s.step(c, -1, "GET", back.String(), ""); err != nil {
			return nil, err
		}
	}
	last, err := s.step(c, end, "GET", back.String(), "")
	if err == nil && last.Path != "/_gate/ping" {
		err = fmt.Errorf("%w: sent to %s", errTryAgain, last.Path)
	}
	return c, err
}

// persist signs in again and again, at the replica that is left, as people do.
func (s *storm) persist(subject string, n int) (*http.Client, error) {
	c, err := s.signIn(subject, n%2, n/2%2)
	for range 20 {
		if !errors.Is(err, errTryAgain) {
			break
		}
		s.tries.Add(1)
		c, err = s.signIn(subject, 0, 0)
	}
	return c, err
}

func TestAThousandSignInsAtOnceWhileAReplicaIsKilled(t *testing.T) {
	const signIns, persons = 1000, 200
	var crowd []devidp.Person
	for i := range persons {
		crowd = append(crowd, devidp.Person{Subject: fmt.Sprintf("p%d", i), Email: fmt.Sprintf("p%d@example.com", i), EmailVerified: true})
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProviderWithKey(key, crowd, gatetest.PublicURL(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	spec := replicaSpec{HostURL: pgtest.New(t), Issuer: provider.Issuer()}
	a := gatetest.New(t, gatetest.Options{HostURL: spec.HostURL, App: echo, Provider: provider, Listener: l, Configure: func(cfg *config.Config) {
		spec.PublicURL, spec.ClientSecret = cfg.PublicURL, cfg.Identity.Providers[0].ClientSecret.Reveal()
		cfg.Identity = spec.identity()
	}})
	b, kill := startReplica(t, spec)
	s := &storm{public: a.URL, issuer: provider.Issuer(), replicas: [2]string{a.Addr, b}}
	for i, addr := range s.replicas {
		s.transports[i] = &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			if strings.HasPrefix(to, "localhost:") {
				to = addr
			}
			return (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, network, to)
		}}
		t.Cleanup(s.transports[i].CloseIdleConnections)
	}
	browsers := make([]*http.Client, signIns)
	var done atomic.Int32
	var all sync.WaitGroup
	for i := range signIns {
		all.Go(func() {
			c, err := s.persist(fmt.Sprintf("p%d", i%persons), i)
			if err != nil {
				t.Errorf("sign-in %d: locked out: %v", i, err)
				return
			}
			browsers[i] = c
			if done.Add(1) == signIns/3 {
				kill()
			}
		})
	}
	all.Wait()
	t.Logf("%d sign-ins began again", s.tries.Load())
	if s.tries.Load() == 0 {
		t.Error("nobody noticed that a replica was killed")
	}
	owned(t, spec.HostURL, persons, signIns)
	for i := 0; i < signIns; i += 37 {
		if browsers[i] == nil {
			continue
		}
		browsers[i].Transport = s.transports[0]
		res, body := fetch(t, browsers[i], "GET", a.URL+"/_gate/whoami", nil)
		if res.StatusCode != 200 || !strings.Contains(body, fmt.Sprintf(`"p%d@example.com"`, i%persons)) {
			t.Errorf("sign-in %d opens %s %s", i, res.Status, body)
		}
	}
}

// owned checks what is left in the host database: each person one user, each session a user's, each with its audit row.
func owned(t *testing.T, dsn string, persons, signIns int) {
	t.Helper()
	db := openSQL(t, dsn)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for query, want := range map[string]func(n int) bool{
		"SELECT count(*) FROM core_users":                 func(n int) bool { return n == persons },
		"SELECT count(DISTINCT oauth_id) FROM core_users": func(n int) bool { return n == persons },
		"SELECT count(*) FROM tenantgate.sys_sessions":    func(n int) bool { return n >= signIns },
		"SELECT count(DISTINCT id) FROM core_users WHERE EXISTS (SELECT 1 FROM tenantgate.sys_sessions s WHERE s.user_id = core_users.id)": func(n int) bool { return n == persons },
		"SELECT count(*) FROM tenantgate.sys_sessions s WHERE NOT EXISTS (SELECT 1 FROM core_users u WHERE u.id = s.user_id)":              func(n int) bool { return n == 0 },
		`SELECT count(*) FROM tenantgate.sys_sessions s WHERE NOT EXISTS (SELECT 1 FROM sys_audit_logs l
			WHERE l.event_type = 'sign_in' AND l.target_id = s.user_id AND l.details LIKE '%' || s.id || '%')`: func(n int) bool { return n == 0 },
	} {
		var n int
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil || !want(n) {
			t.Errorf("%s: %d, %v", query, n, err)
		}
	}
}
