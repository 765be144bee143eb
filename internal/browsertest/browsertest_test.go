package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func site(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<!doctype html><meta name=viewport content="width=device-width"><style>@media (prefers-color-scheme:dark){#dark{display:block!important}}</style>
<p>first page, <a id=go href=/moved>go</a><p id=dark style="display:none">it is dark</p>`)
	})
	mux.Handle("/moved", http.RedirectHandler("/second", http.StatusFound))
	mux.HandleFunc("/second", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusPaymentRequired)
		fmt.Fprint(w, "<!doctype html>second page")
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		fmt.Fprint(w, `<!doctype html><script>1</script>`)
	})
	mux.HandleFunc("/wide", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<!doctype html><div style="width:3000px">wide`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestBrowserFollowsLinksAndReportsStatus(t *testing.T) {
	base := site(t)
	ctx := New(t)
	if got := Open(t, ctx, base+"/"); got != 200 {
		t.Fatalf("status %d", got)
	}
	if got := Click(t, ctx, "#go"); got != 402 {
		t.Fatalf("status %d", got)
	}
	if got := Location(t, ctx); got != base+"/second" {
		t.Fatalf("at %s", got)
	}
	WaitText(t, ctx, "second page")
	NoComplaints(t, ctx)
}

func TestViewportsAndSchemeAreWhatThePageSees(t *testing.T) {
	t.Setenv(ScreenshotsEnv, filepath.Join(t.TempDir(), "new"))
	base := site(t)
	ctx := New(t)
	Open(t, ctx, base+"/")
	if strings.Contains(Text(t, ctx), "it is dark") {
		t.Error("dark from the start")
	}
	Dark(t, ctx, true)
	WaitText(t, ctx, "it is dark")
	Phone(t, ctx)
	FitsWidth(t, ctx)
	if n := Count(t, ctx, "p"); n != 2 {
		t.Errorf("%d paragraphs", n)
	}
	Screenshot(t, ctx, "phone")
	picture, err := os.ReadFile(filepath.Join(os.Getenv(ScreenshotsEnv), "phone.png"))
	if err != nil || !strings.HasPrefix(string(picture), "\x89PNG") {
		t.Errorf("no picture: %v", err)
	}
}

func TestComplaintsAndOverflowFailTheTest(t *testing.T) {
	base := site(t)
	ctx := New(t)
	Open(t, ctx, base+"/bad")
	probe := &recorder{TB: t}
	NoComplaints(probe, ctx)
	Open(t, ctx, base+"/wide")
	FitsWidth(probe, ctx)
	if len(probe.errors) != 2 || !strings.Contains(probe.errors[0], "security") {
		t.Errorf("reported %q", probe.errors)
	}
}

func TestBrowserAndProfileAreGoneAfterTheTest(t *testing.T) {
	var profile string
	t.Run("inner", func(t *testing.T) {
		ctx := New(t)
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", chromedp.FromContext(ctx).Browser.Process().Pid))
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Split(string(line), "\x00")
		for _, want := range []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"} {
			if !slices.Contains(args, want) {
				t.Errorf("the browser runs without %s", want)
			}
		}
		for _, arg := range args {
			if dir, ok := strings.CutPrefix(arg, "--user-data-dir="); ok {
				profile = dir
			}
		}
		if _, err := os.Stat(profile); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(profile); !os.IsNotExist(err) {
		t.Errorf("the profile is still there: %v", err)
	}
	if left := helpers(profile); len(left) > 0 {
		t.Errorf("%d processes of the browser are still there", len(left))
	}
}

// recorder is a test whose failures are looked at instead of counted.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestTabsShareTheirCookies(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("seen"); err == nil {
			fmt.Fprint(w, "<p>seen "+c.Value)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "before"})
		fmt.Fprint(w, "<p>first")
	}))
	defer s.Close()
	first := New(t, Flag{"host-resolver-rules", "MAP *.test 127.0.0.1"})
	second := Tab(t, first)
	at := strings.Replace(s.URL, "127.0.0.1", "tabs.test", 1)
	if status := Open(t, first, at); status != 200 {
		t.Fatal(status)
	}
	Open(t, second, at)
	WaitText(t, second, "seen before")
	WaitText(t, first, "first")
}
