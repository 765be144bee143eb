package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenantgate/tenantgate/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a demo under test, with a browser-like client that keeps cookies.
type running struct {
	facts
	t      *testing.T
	client *http.Client
	log    *logBuffer
	cancel context.CancelFunc
	ended  chan error
	stop   func()
}

// logBuffer collects what the demo logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs the demo on free ports, unless opts say otherwise, and waits until it says where it is.
func start(t *testing.T, opts Options) *running {
	t.Helper()
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	out, in := io.Pipe()
	r := &running{t: t, log: new(logBuffer), ended: make(chan error, 1)}
	opts.Output, opts.Stdout, opts.Log = "json", in, r.log
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		err := Run(ctx, opts)
		_ = in.CloseWithError(errors.Join(io.EOF, err))
		r.ended <- err
	}()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.client = &http.Client{Transport: &http.Transport{}, Jar: jar, Timeout: time.Minute}
	r.stop = sync.OnceFunc(func() {
		r.client.CloseIdleConnections()
		cancel()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("the demo ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the demo does not end")
		}
	})
	t.Cleanup(r.stop)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the demo did not start: %v", err)
	}
	if err := json.Unmarshal(line, &r.facts); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return r
}

func (r *running) do(req *http.Request) (int, string) {
	r.t.Helper()
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (r *running) get(target string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", target, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	return r.do(req)
}

// signIn opens a page, picks the person and returns what the page then answers.
func (r *running) signIn(subject, target string) (int, string) {
	r.t.Helper()
	_, body := r.get(target)
	found := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(body)
	if found == nil {
		r.t.Fatalf("no page to pick a person at %s: %s", target, body)
	}
	form := url.Values{"id": {found[1]}, "subject": {subject}}.Encode()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.ProviderURL+"/login", strings.NewReader(form))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	return r.do(req)
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spent is the processor time that this process has used.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestDemoAnswersWithinTwoSecondsAndLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	began := spent(t)
	r := start(t, Options{})
	for _, target := range []string{
		r.ProxyURL + "/_gate/ping", r.ProviderURL + "/.well-known/openid-configuration", r.AdminURL + "/healthz", r.AdminURL + "/readyz",
		r.ProxyURL + "/healthz",
	} {
		if status, body := r.get(target); status != http.StatusOK {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	// What counts is this process's own work: how long the machine let it wait says nothing of the demo.
	if took := spent(t) - began; took > slower*2*time.Second {
		t.Errorf("the first answers took %s", took)
	}
	r.stop()
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, target := range []string{r.ProxyURL, r.ProviderURL, r.AppURL, r.AdminURL, r.StripeURL} {
		listener, err := net.Listen("tcp", strings.TrimPrefix(target, "http://"))
		if err != nil {
			t.Errorf("%s is still taken: %v", target, err)
			continue
		}
		_ = listener.Close()
	}
}

// argv is what a shell makes of a curl line.
func argv(t *testing.T, line string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `curl() { printf '%s\n' "$@"; }; `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func (r *running) curl(line string) (int, string) {
	r.t.Helper()
	args := argv(r.t, line)
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", args[len(args)-1], nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i, arg := range args {
		if arg == "-H" {
			name, value, _ := strings.Cut(args[i+1], ": ")
			req.Header.Set(name, value)
		}
	}
	if req.Header.Get("Authorization") == "" {
		r.t.Fatalf("no token in %q", args)
	}
	return r.do(req)
}

func TestPrintedCurlLineWorksAsItStands(t *testing.T) {
	r := start(t, Options{})
	status, body := r.curl(r.Curl)
	var rows struct {
		Tenant, User, Role, Company string
		Invoices                    []struct{ Number string }
	}
	if err := json.Unmarshal([]byte(body), &rows); status != http.StatusOK || err != nil {
		t.Fatalf("%d %v %s", status, err, body)
	}
	if rows.User != "olivia@acme.example" || rows.Role != "owner" || rows.Company != "Acme GmbH" || len(rows.Invoices) == 0 {
		t.Errorf("%+v", rows)
	}
	for tenant, want := range map[string]int{"globex": 403, "umbrella": 403, "nothing": 403} {
		if status, body := r.curl(strings.Replace(r.Curl, "/acme/", "/"+tenant+"/", 1)); status != want || strings.Contains(body, "invoices") {
			t.Errorf("%s: %d %s", tenant, status, body)
		}
	}
}

func TestEveryPersonMeetsWhatTheirNoteSays(t *testing.T) {
	r := start(t, Options{})
	for subject, want := range map[string]struct {
		path   string
		status int
		shows  string
	}{
		"olivia": {"/", 200, "Nordlicht Bäckerei"},
		"mara":   {"/t/globex/", 200, "Cascade Outfitters"},
		"noor":   {"/reports/", 403, "feature_required"},
		"luis":   {"/", 402, "Ask one of its owners or admins"},
		"petra":  {"/", 402, "Plans and payment"},
		"sofia":  {"/", 403, "tenant_inactive"},
		"kim":    {"/", 403, "no_access"},
		"sam":    {"/", 403, "unknown_user"},
	} {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.client.Jar = jar
		status, body := r.signIn(subject, r.ProxyURL+want.path)
		if status != want.status || !strings.Contains(body, want.shows) {
			t.Errorf("%s: %d, wanted %d with %q: %s", subject, status, want.status, want.shows, body)
		}
	}
	if len(r.People) != 8 {
		t.Errorf("%d people are printed", len(r.People))
	}
}

func TestTakenPortIsAnErrorThatNamesItsFlag(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.Addr().(*net.TCPAddr).Port
	for flag, opts := range map[string]Options{
		"--listen":        {Listen: fmt.Sprintf("127.0.0.1:%d", taken)},
		"--provider-port": {Listen: "127.0.0.1:0", ProviderPort: taken},
		"--app-port":      {Listen: "127.0.0.1:0", AppPort: taken},
		"--admin-port":    {Listen: "127.0.0.1:0", AdminPort: taken},
		"--stripe-port":   {Listen: "127.0.0.1:0", StripePort: taken},
	} {
		var out bytes.Buffer
		opts.Stdout = &out
		err := Run(t.Context(), opts)
		if err == nil || !strings.HasPrefix(err.Error(), flag+" ") || !strings.Contains(err.Error(), fmt.Sprintf("%d is taken: ", taken)) {
			t.Errorf("%s: %v", flag, err)
		}
		if errors.Is(err, ErrUsage) || out.Len() > 0 {
			t.Errorf("%s: usage %v, printed %q", flag, errors.Is(err, ErrUsage), out.String())
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWrongOptionsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for name, opts := range map[string]Options{
		"all interfaces":  {Listen: "0.0.0.0:0"},
		"no host":         {Listen: ":0"},
		"another machine": {Listen: "192.0.2.1:0"},
		"a name":          {Listen: "example.com:0"},
		"no port":         {Listen: "127.0.0.1"},
		"named port":      {Listen: "127.0.0.1:http"},
		"port too high":   {Listen: "127.0.0.1:0", AppPort: 70000},
		"negative port":   {Listen: "127.0.0.1:0", AdminPort: -1},
		"output":          {Listen: "127.0.0.1:0", Output: "yaml"},
		"data with space": {Listen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "my data")},
	} {
		if err := Run(t.Context(), opts); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataIsStartedFromAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, Options{DataDir: dir})
	if first.Data != dir {
		t.Errorf("data is said to be in %q", first.Data)
	}
	if status, body := first.signIn("olivia", first.ProxyURL+"/settings/"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	opts := Options{
		Listen: strings.TrimPrefix(first.ProxyURL, "http://"), ProviderPort: portOf(t, first.ProviderURL),
		AppPort: portOf(t, first.AppURL), AdminPort: portOf(t, first.AdminURL), DataDir: dir,
	}
	first.stop()
	onlyForOwner(t, dir)
	change(t, dir)

	second := start(t, opts)
	second.client.Jar = first.client.Jar
	if status, body := second.get(second.ProxyURL + "/settings/"); status != http.StatusOK || !strings.Contains(body, "Acme GmbH") {
		t.Errorf("the session did not outlive the restart: %d %s", status, body)
	}
	if status, body := second.curl(first.Curl); status != http.StatusOK {
		t.Errorf("the token did not outlive the restart: %d %s", status, body)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	second.client.Jar = jar
	if status, body := second.signIn("mara", second.ProxyURL+"/t/globex/"); status != http.StatusForbidden || !strings.Contains(body, "tenant_inactive") {
		t.Errorf("what was changed meanwhile was undone: %d %s", status, body)
	}
}

// change suspends globex, as somebody would with the CLI.
func change(t *testing.T, dir string) {
	t.Helper()
	host, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, "host.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	row, err := host.Tenants.Get(t.Context(), "globex")
	if err != nil {
		t.Fatal(err)
	}
	row.IsActive = new(false)
	if err := host.Tenants.Update(t.Context(), row); err != nil {
		t.Fatal(err)
	}
}

func onlyForOwner(t *testing.T, dir string) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !d.IsDir() {
			files = append(files, d.Name())
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || len(files) < 8 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestMovedDataKeepsItsTenants(t *testing.T) {
	base := t.TempDir()
	first := start(t, Options{DataDir: filepath.Join(base, "one")})
	first.stop()
	if err := os.Rename(filepath.Join(base, "one"), filepath.Join(base, "two")); err != nil {
		t.Fatal(err)
	}
	second := start(t, Options{DataDir: filepath.Join(base, "two")})
	if status, body := second.curl(second.Curl); status != http.StatusOK || !strings.Contains(body, "Nordlicht") {
		t.Errorf("%d %s", status, body)
	}
}

func TestBrokenKeyIsAnErrorThatNamesTheFile(t *testing.T) {
	for _, name := range []string{"provider.key", "master.key"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("canary"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Run(t.Context(), Options{Listen: "127.0.0.1:0", DataDir: dir, Log: io.Discard})
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndBeforeTheStartIsDoneIsNoError(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := Run(canceledBy(ctx), Options{Listen: "127.0.0.1:0", Log: io.Discard})
		cancel()
		if err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// canceledBy is a context that Ctrl-C ends, at the moment that the given one is done.
func canceledBy(done context.Context) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(done, cancel)
	return ctx
}

func TestOpenStreamDoesNotKeepTheDemoAlive(t *testing.T) {
	r := start(t, Options{})
	args := argv(t, strings.Replace(r.Curl, "/api/rows", "/events", 1))
	req, err := http.NewRequestWithContext(t.Context(), "GET", args[len(args)-1], nil)
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(args[2], ": ")
	req.Header.Set("Authorization", token)
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "id: ") {
		t.Fatalf("%d %q %v", res.StatusCode, line, err)
	}
	r.stop()
}

func TestSeedTwiceChangesNothing(t *testing.T) {
	dir := t.TempDir()
	host, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(dir, "host.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	count := func() (rows [5]int) {
		t.Helper()
		page := catalog.Page{Limit: 1000}
		for i, list := range []func() (int, error){
			func() (int, error) { l, _, err := host.Tenants.List(t.Context(), page); return len(l), err },
			func() (int, error) { l, _, err := host.GlobalUsers.List(t.Context(), page); return len(l), err },
			func() (int, error) { l, _, err := host.Memberships.List(t.Context(), page); return len(l), err },
			func() (int, error) { l, _, err := host.Subscriptions.List(t.Context(), page); return len(l), err },
			func() (int, error) { l, _, err := host.AuditLogs.List(t.Context(), page); return len(l), err },
		} {
			n, err := list()
			if err != nil {
				t.Fatal(err)
			}
			rows[i] = n
		}
		return rows
	}
	if err := Seed(t.Context(), host, dir); err != nil {
		t.Fatal(err)
	}
	once := count()
	if once[0] != 5 || once[1] != 7 || once[2] != 7 || once[3] != 5 || once[4] < 20 {
		t.Errorf("rows %v", once)
	}
	if err := Seed(t.Context(), host, dir); err != nil {
		t.Fatal(err)
	}
	if again := count(); again != once {
		t.Errorf("rows %v became %v", once, again)
	}
	if err := Seed(t.Context(), host, "relative"); !errors.Is(err, ErrUsage) {
		t.Errorf("relative: %v", err)
	}
}

func TestWhatAPersonReads(t *testing.T) {
	f := &facts{
		ProxyURL: "http://127.0.0.1:8080", Curl: "curl x", Data: "/somewhere",
		Tenants: []tenantFact{{Name: "Umbrella Ltd", Plan: "pro", Subscription: "active"}},
		People:  []personFact{{Name: "Olivia", Email: "o@x", Note: "owner"}},
	}
	var out strings.Builder
	if err := tellPerson(&out, f); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"open http://127.0.0.1:8080/", "\ncurl x\n", "/somewhere", "suspended", "Olivia", "Ctrl-C"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %s", want, out.String())
		}
	}
}
