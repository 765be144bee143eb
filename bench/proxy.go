package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// The variants, in the order in which they take turns.
const (
	variantDirect          = "direct"
	variantBare            = "bare ReverseProxy"
	variantCookie          = "cookie"
	variantCookieAssertion = "cookie+assertion"
	variantBearer          = "bearer"
	variantBearerAssertion = "bearer+assertion"
)

var variants = []string{
	variantDirect, variantBare, variantCookie, variantCookieAssertion, variantBearer, variantBearerAssertion,
}

// usage is what a proxy process has spent since its start.
type usage struct {
	CPU     time.Duration
	Mallocs uint64
	Bytes   uint64
}

// greeting is a proxy process's first line.
type greeting struct {
	Addr string
	Head string
}

// proxy is a child process. It answers each line on its standard input with its usage, and ends at end of file.
type proxy struct {
	target target
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

func startProxy(ctx context.Context, variant, app, profiles string) (*proxy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-role", variant, "-app", app}
	if profiles != "" {
		args = append(args, "-profile", filepath.Join(profiles, strings.NewReplacer(" ", "-", "+", "-").Replace(variant)+".pprof"))
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proxy{cmd: cmd, in: in, out: bufio.NewReader(out)}
	var g greeting
	if err := p.read(&g); err != nil {
		p.stop()
		return nil, fmt.Errorf("starting: %w", err)
	}
	p.target = target{addr: g.Addr, head: g.Head}
	return p, nil
}

func (p *proxy) read(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func (p *proxy) usage() (usage, error) {
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return usage{}, err
	}
	var u usage
	return u, p.read(&u)
}

func (p *proxy) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// serveVariant is the child process.
func serveVariant(ctx context.Context, variant, app, profile string) (err error) {
	g, end, err := openVariant(ctx, variant, app)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		defer func() { err = errors.Join(err, writeAllocs(profile+".allocs")) }()
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(g); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := out.Encode(spent()); err != nil {
			return err
		}
	}
	return in.Err()
}

// writeAllocs writes where memory was allocated since the start.
func writeAllocs(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

func spent() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		CPU:     time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		Mallocs: m.Mallocs, Bytes: m.TotalAlloc,
	}
}

func openVariant(ctx context.Context, variant, app string) (greeting, func() error, error) {
	if variant == variantBare {
		return openBare(app)
	}
	return openGate(ctx, variant, app)
}

// openBare is the rival: httputil.ReverseProxy with Rewrite, a buffer pool and the same tuned transport.
func openBare(app string) (greeting, func() error, error) {
	target := &url.URL{Scheme: "http", Host: app}
	rp := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.SetXForwarded()
			p.Out.Host = p.In.Host
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true, IdleConnTimeout: 90 * time.Second},
		BufferPool: &buffers{pool: sync.Pool{New: func() any { return new([32 << 10]byte) }}},
	}
	l, err := gatetest.NewListener()
	if err != nil {
		return greeting{}, nil, err
	}
	s := &http.Server{Handler: rp, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	return greeting{Addr: l.Addr().String(), Head: plainHead}, s.Close, nil
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().(*[32 << 10]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

// openGate is tenantgate whole: SQLite host database, a session or a bearer token, access lines written to
// the null device, metrics on.
func openGate(ctx context.Context, variant, app string) (g greeting, end func() error, err error) {
	dir, err := os.MkdirTemp("", "tenantgate-bench-")
	if err != nil {
		return greeting{}, nil, err
	}
	end = func() error { return os.RemoveAll(dir) }
	dsn := "sqlite:" + filepath.Join(dir, "host.db")
	if err := seed(ctx, dsn); err != nil {
		return greeting{}, nil, errors.Join(err, end())
	}
	assertions := strings.HasSuffix(variant, "+assertion")
	logs, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return greeting{}, nil, errors.Join(err, end())
	}
	w, err := gatetest.Start(ctx, gatetest.Options{
		HostURL: dsn, LogWriter: logs, People: []devidp.Person{{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"}},
		Configure: func(c *config.Config) {
			up := c.Upstreams["app"]
			up.URLs = []string{"http://" + app}
			c.Upstreams["app"] = up
			c.Forward.Assertion.Enabled = &assertions
		},
	})
	if err != nil {
		return greeting{}, nil, errors.Join(err, end())
	}
	end = func() error { return errors.Join(w.Close(), logs.Close(), os.RemoveAll(dir)) }
	credential, err := credentialFor(ctx, w, variant)
	if err != nil {
		return greeting{}, nil, errors.Join(err, end())
	}
	head := strings.Replace(plainHead, "GET /bench ", "GET /t/acme/bench ", 1)
	head = strings.Replace(head, "Host: localhost\r\n", "Host: "+strings.TrimPrefix(w.URL, "http://")+"\r\n"+credential, 1)
	return greeting{Addr: w.Addr, Head: head}, end, nil
}

func credentialFor(ctx context.Context, w *gatetest.World, variant string) (string, error) {
	if strings.HasPrefix(variant, variantBearer) {
		token, err := w.Bearer("ada", nil)
		return "Authorization: Bearer " + token + "\r\n", err
	}
	c := w.Client()
	defer c.CloseIdleConnections()
	if err := w.SignIn(ctx, c, "ada"); err != nil {
		return "", err
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return "", err
	}
	for _, cookie := range c.Jar.Cookies(u) {
		if cookie.Name == "tg_session" {
			return "Cookie: " + cookie.String() + "\r\n", nil
		}
	}
	return "", errors.New("signing in left no session cookie")
}

// seed makes a host database with one paying tenant and its member.
func seed(ctx context.Context, dsn string) (err error) {
	host, err := catalog.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	return host.InTx(ctx, func(tx *catalog.Tx) error {
		if err := tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "u1", Email: new("ada@example.com"), OAuthID: new("ada")}); err != nil {
			return err
		}
		if err := tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", Name: new("Pro"), TierLevel: new(int64(2)), Features: new(`["exports","api_access"]`)}); err != nil {
			return err
		}
		if err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "acme", Name: new("Acme"), PlanTier: new("pro"), DBURL: catalog.NewDBURI("postgresql://acme:secret@db.internal:5432/acme")}); err != nil {
			return err
		}
		if err := tx.Memberships.Insert(ctx, &catalog.Membership{UserID: "u1", TenantID: "acme", Role: new("owner"), ProfileID: new("p1")}); err != nil {
			return err
		}
		return tx.Subscriptions.Insert(ctx, &catalog.Subscription{
			TenantID: "acme", PlanTier: new("pro"), Status: new("active"), PaymentType: new("subscription"),
		})
	})
}
