// Package browsertest drives a real headless Chromium from tests, through chromedp.
//
// Every test gets a browser process of its own with a fresh profile; both end with the test, whatever became of it. A
// machine without Chromium fails the test and says which package brings it: a browser test that did not run proves
// nothing. The browser reaches loopback only in so far as the pages it is given do; what it would do by itself in the
// background is switched off.
//
// The functions take the test and end it on failure, with the page's address and text, so that a log alone shows what
// went wrong. They are for the goroutine that runs the test. Each step ends after StepTimeout, the browser after
// BrowserTimeout.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Bounds on a browser and on one step in it.
const (
	BrowserTimeout = 10 * time.Minute
	StepTimeout    = 2 * time.Minute
	closeTimeout   = time.Minute
)

// ScreenshotsEnv names the directory that Screenshot writes to; unset: nothing is written.
const ScreenshotsEnv = "TENANTGATE_SCREENSHOTS"

type complaintsKey struct{}

// complaints collects what a page's scripts, styles and policies did wrong.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) < 100 {
		c.list = append(c.list, fmt.Sprintf(format, args...))
	}
}

// Path returns the Chromium or Chrome that is installed, and fails the test if there is none.
func Path(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("browser tests need Chromium: install the Debian package chromium (apt-get install chromium)")
	return ""
}

// Flag is one more switch of the browser: host-resolver-rules, for instance.
type Flag struct {
	Name  string
	Value any // a string, or true
}

// Tab opens one more tab in the browser of ctx, with the same cookies. It is closed when the test has ended.
func Tab(t testing.TB, ctx context.Context) context.Context {
	t.Helper()
	found, ok := ctx.Value(complaintsKey{}).(*complaints)
	if !ok {
		t.Fatal("the context is not from browsertest.New")
	}
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The tab lives as long as the context of its first step, which must not be one with a deadline.
	if err := chromedp.Listen(tab, func(ev any) { listen(found, ev) }); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	Desktop(t, tab)
	return tab
}

// New starts a browser and returns the context of its one tab, 1280 by 800. Browser and profile are gone when the test
// has ended.
func New(t testing.TB, flags ...Flag) context.Context {
	t.Helper()
	path := Path(t)
	profile := filepath.Join(t.TempDir(), "profile")
	// The test's own context ends before its cleanups run, which would kill the browser instead of closing it.
	base, cancelBase := context.WithTimeout(context.Background(), BrowserTimeout)
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Env("HOME="+profile, "XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-breakpad", true),
		chromedp.Flag("disable-crash-reporter", true),
		chromedp.Flag("disable-client-side-phishing-detection", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider"),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("password-store", "basic"),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.WindowSize(1280, 800),
		chromedp.WSURLReadTimeout(StepTimeout),
	}
	for _, f := range flags {
		options = append(options, chromedp.Flag(f.Name, f.Value))
	}
	allocator, stop := chromedp.NewExecAllocator(base, options...)
	found := new(complaints)
	tab, cancelTab := chromedp.NewContext(context.WithValue(allocator, complaintsKey{}, found),
		chromedp.WithLogf(t.Logf), chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() {
		closing, done := context.WithTimeout(tab, closeTimeout)
		if err := chromedp.Cancel(closing); err != nil && base.Err() == nil {
			t.Logf("close browser: %v", err)
		}
		done()
		cancelTab()
		stop() // waits for the process
		cancelBase()
		removeProfile(t, profile)
	})
	if err := chromedp.Listen(tab, func(ev any) { listen(found, ev) }); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	Desktop(t, tab)
	return tab
}

func listen(found *complaints, ev any) {
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		found.add("script: %s", ev.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		// A page with status 402 is an error to the browser's network log; here it is what the test asked for.
		if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork {
			found.add("%s: %s", ev.Entry.Source, ev.Entry.Text)
		}
	}
}

// removeProfile ends the browser's helper processes, which may outlive it for a moment and still write, and removes the
// profile, so that removing the test's directory does not race with them.
func removeProfile(t testing.TB, profile string) {
	t.Helper()
	deadline := time.Now().Add(closeTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := helpers(profile)
		for _, process := range left {
			_ = process.Kill()
		}
		err := os.RemoveAll(profile)
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the browser does not end: %d processes, profile: %v", len(left), err)
			return
		}
		<-tick.C
	}
}

// helpers finds the processes that were started for profile, a path that no other browser has. It finds none where
// there is no /proc.
func helpers(profile string) []*os.Process {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	var out []*os.Process
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !slices.Contains(strings.Split(string(line), "\x00"), "--user-data-dir="+profile) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if process, err := os.FindProcess(pid); err == nil {
			out = append(out, process)
		}
	}
	return out
}

// Do runs steps, each bounded by StepTimeout together, and ends the test on an error.
func Do(t testing.TB, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	step, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	if err := chromedp.Do(step, steps...); err != nil {
		t.Fatalf("browser: %v%s", err, where(ctx))
	}
}

// Open goes to target and returns the status of the page that all redirects ended at.
func Open(t testing.TB, ctx context.Context, target string) int {
	t.Helper()
	return status(t, ctx, chromedp.Navigate(target))
}

// Click clicks the first element that the CSS selector names, which must lead to another page, and returns that page's
// status once all redirects ended.
func Click(t testing.TB, ctx context.Context, selector string) int {
	t.Helper()
	return status(t, ctx, chromedp.Click(chromedp.CSS(selector)))
}

func status(t testing.TB, ctx context.Context, act chromedp.Action[chromedp.Void]) int {
	t.Helper()
	step, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	res, err := chromedp.RunResponse(step, act)
	if err != nil {
		t.Fatalf("browser: %v%s", err, where(ctx))
	}
	return int(res.Status)
}

// Text is the page's visible text.
func Text(t testing.TB, ctx context.Context) string {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''"))
}

// Location is the address of the page.
func Location(t testing.TB, ctx context.Context) string {
	t.Helper()
	return get(t, ctx, chromedp.Location())
}

// Count is the number of elements that the CSS selector names.
func Count(t testing.TB, ctx context.Context, selector string) int {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
}

func get[T any](t testing.TB, ctx context.Context, read chromedp.Action[T]) T {
	t.Helper()
	step, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	v, err := chromedp.Run(step, read)
	if err != nil {
		t.Fatalf("browser: %v%s", err, where(ctx))
	}
	return v
}

// WaitText waits until the page's visible text contains want.
func WaitText(t testing.TB, ctx context.Context, want string) {
	t.Helper()
	WaitFor(t, ctx, fmt.Sprintf("!!document.body && document.body.innerText.includes(%q)", want))
}

// WaitFor waits until a JavaScript expression is true, across the navigations that happen meanwhile.
func WaitFor(t testing.TB, ctx context.Context, expression string) {
	t.Helper()
	step, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// An error is a page that is being replaced, or the end of step.
		if held, err := chromedp.Run(step, chromedp.Evaluate[bool](expression)); err == nil && held {
			return
		}
		select {
		case <-tick.C:
		case <-step.Done():
			t.Fatalf("never true in the page: %s%s", expression, where(ctx))
		}
	}
}

// where describes the page for a failure; best effort.
func where(ctx context.Context) string {
	step, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	address, err := chromedp.Run(step, chromedp.Location())
	if err != nil {
		return ""
	}
	text, _ := chromedp.Run(step, chromedp.Evaluate[string]("document.body ? document.body.innerText.slice(0, 2000) : ''"))
	return "\nat " + address + "\n" + text
}

// Desktop sets a window of 1280 by 800.
func Desktop(t testing.TB, ctx context.Context) {
	t.Helper()
	Do(t, ctx, chromedp.EmulateViewport(1280, 800))
}

// Phone sets a touch screen of 390 by 844 at twice the pixels, as a phone in portrait has it.
func Phone(t testing.TB, ctx context.Context) {
	t.Helper()
	Do(t, ctx, chromedp.EmulateViewport(390, 844,
		chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait, chromedp.EmulateScale(2)))
}

// Dark sets whether the reader prefers dark pages; a new browser prefers light ones.
func Dark(t testing.TB, ctx context.Context, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	Do(t, ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// FitsWidth fails the test if the page is wider than its window, so that one would have to scroll sideways.
func FitsWidth(t testing.TB, ctx context.Context) {
	t.Helper()
	if over := get(t, ctx, chromedp.Evaluate[float64]("document.documentElement.scrollWidth - document.documentElement.clientWidth")); over > 0 {
		t.Errorf("the page is %v px wider than its window%s", over, where(ctx))
	}
}

// NoComplaints fails the test if a script threw or the browser refused something since the browser started: a style or
// a form that the content security policy forbids, for instance.
func NoComplaints(t testing.TB, ctx context.Context) {
	t.Helper()
	found, ok := ctx.Value(complaintsKey{}).(*complaints)
	if !ok {
		t.Fatal("the context is not from browsertest.New")
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	if len(found.list) > 0 {
		t.Errorf("the browser complains:\n%s", strings.Join(found.list, "\n"))
	}
}

// Screenshot writes the whole page as NAME.png into the directory that TENANTGATE_SCREENSHOTS names. Without it the
// picture is taken and dropped, so that taking it is tested either way.
func Screenshot(t testing.TB, ctx context.Context, name string) {
	t.Helper()
	if name == "" || strings.ContainsAny(name, `/\`) {
		t.Fatalf("screenshot name %q must be a plain file name", name)
	}
	// A transition under way (a switch to dark starts some) would be caught half done.
	get(t, ctx, chromedp.Evaluate[int](`document.getAnimations().filter((a) => { try { a.finish(); return false } catch { return true } }).length`))
	picture := get(t, ctx, chromedp.FullScreenshot(100))
	dir := os.Getenv(ScreenshotsEnv)
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
