package sealing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

const good = "postgresql://u:p%40ss@db:5432/acme?sslmode=require"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// line makes a master secret.
func line() string { return seal.GenerateSecret().Reveal() }

func keyset(t testing.TB, lines ...string) seal.Keyset {
	t.Helper()
	keys, err := seal.ParseKeyset(secret.New(strings.Join(lines, "\n")))
	must(t, err)
	return keys
}

func opener(t testing.TB, cfg Config) *Opener {
	t.Helper()
	o := New(cfg)
	t.Cleanup(o.Close)
	return o
}

// open returns what a stored db_url of tenant acme stands for.
func open(o *Opener, stored string) (string, error) {
	uri, err := o.Open(context.Background(), "acme", catalog.NewDBURI(stored))
	return uri.Reveal(), err
}

func sealed(t testing.TB, keys seal.Keyset, tenant catalog.TenantID, uri string) string {
	t.Helper()
	s, err := Seal(keys, tenant, catalog.NewDBURI(uri))
	must(t, err)
	return s.Reveal()
}

func TestSealedURIOpensForItsTenantAlone(t *testing.T) { // CRYPT-1
	one, two := line(), line()
	keys := keyset(t, one)
	stored := sealed(t, keys, "acme", good)
	if !strings.HasPrefix(stored, "enc:v1:") || strings.Contains(stored, "acme") || strings.Count(stored, ":") != 3 {
		t.Fatalf("stored as %s", stored)
	}
	both := opener(t, Config{Keys: keyset(t, two, one)})
	if got, err := open(both, stored); err != nil || got != good {
		t.Errorf("under an older secret: %q, %v", got, err)
	}
	for name, c := range map[string]struct {
		keys   seal.Keyset
		stored string
		want   error
	}{
		"wrong secret":  {keyset(t, two), stored, seal.ErrOtherSecret},
		"no secret":     {seal.Keyset{}, stored, seal.ErrOtherSecret},
		"moved":         {keys, sealed(t, keys, "globex", good), seal.ErrBroken},
		"moved, prefix": {keys, sealed(t, keys, "acme/", good), seal.ErrBroken},
		"cut":           {keys, stored[:len(stored)-3], seal.ErrBroken},
		"empty":         {keys, "enc:", seal.ErrBroken},
		"no version":    {keys, "enc:" + strings.TrimPrefix(stored, "enc:v1:"), seal.ErrBroken},
		"version 2":     {keys, strings.Replace(stored, "v1", "v2", 1), seal.ErrBroken},
		"doubled":       {keys, "enc:" + stored, seal.ErrBroken},
		"newline":       {keys, stored + "\n", seal.ErrBroken},
		"other purpose": {keys, func() string { s, _ := keys.Seal("acme", []byte(good)); return "enc:" + s }(), seal.ErrBroken},
	} {
		got, err := open(opener(t, Config{Keys: c.keys}), c.stored)
		if !errors.Is(err, c.want) || got != "" {
			t.Errorf("%s: %q, %v; want %v", name, got, err, c.want)
		}
	}
	for i := len("enc:v1:"); i < len(stored); i++ {
		if stored[i] == ':' {
			continue
		}
		bad := []byte(stored)
		bad[i] ^= 1
		if got, err := open(opener(t, Config{Keys: keys}), string(bad)); err == nil || got != "" {
			t.Errorf("changed at %d: opened", i)
		}
	}
}

func TestOnlyPlainURIsAreSealed(t *testing.T) {
	keys := keyset(t, line())
	for _, s := range []string{"", "enc:x", "ref:env:X", sealed(t, keys, "acme", good)} {
		if _, err := Seal(keys, "acme", catalog.NewDBURI(s)); err == nil {
			t.Errorf("%q was sealed", s)
		}
	}
	if _, err := Seal(seal.Keyset{}, "acme", catalog.NewDBURI(good)); err == nil {
		t.Error("sealed under nothing")
	}
}

func TestPlainURIsPassAsTheyAre(t *testing.T) {
	o := opener(t, Config{})
	for _, s := range []string{"", good, "ENC:v1:x", "encrypted://x", " enc:x", "reference"} {
		if got, err := open(o, s); err != nil || got != s {
			t.Errorf("%q became %q, %v", s, got, err)
		}
	}
}

// dirs makes a directory of references with everything that an operator, or somebody who got that far, may put there.
func dirs(t *testing.T) (inside, outside string) {
	t.Helper()
	base := t.TempDir()
	inside, outside = filepath.Join(base, "refs"), filepath.Join(base, "outside")
	for _, d := range []string{filepath.Join(inside, "sub", "deep"), outside, filepath.Join(base, "refs-beside")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	write := func(path, text string) { must(t, os.WriteFile(path, []byte(text), 0o600)) }
	link := func(to, path string) { must(t, os.Symlink(to, path)) }
	write(filepath.Join(outside, "secret"), good)
	write(filepath.Join(base, "refs-beside", "secret"), good)
	for name, text := range map[string]string{
		"good": good, "newline": good + "\n", "crlf": good + "\r\n", "two newlines": good + "\n\n", "leading": "\n" + good, "sub/good": good,
		"empty": "", "words": "this is no URI", "key": "-----BEGIN PRIVATE KEY-----", "nul": "postgresql://h/d\x00", "space": "postgresql://h/d d",
		"utf8": "postgresql://u:ü@h/d", "web": "https://example.com/", "nested": "ref:file:good", "sealed": "enc:v1:0123456789abcdef:AAAA",
		"escape": "postgresql://u:%zz@h/d", "bare": "postgresql:", "slashes": "postgresql://", "sqlite": "sqlite:/data/x.db", "upper": "PostgreSQL+psycopg://h/d",
		"hosts": "postgresql://u:p@h1:5432,h2:5432/d", "large": "postgresql://h/" + strings.Repeat("x", 4096), "full": fits(4096), "full newline": fits(4096) + "\n",
		"full crlf": fits(4096) + "\r\n", "over": fits(4097),
	} {
		write(filepath.Join(inside, name), text)
	}
	link("good", filepath.Join(inside, "link"))
	link(filepath.Join(inside, "good"), filepath.Join(inside, "absolute link inside"))
	link("../good", filepath.Join(inside, "sub", "up"))
	link(filepath.Join(outside, "secret"), filepath.Join(inside, "link out"))
	link("../outside/secret", filepath.Join(inside, "relative link out"))
	link(outside, filepath.Join(inside, "dir out"))
	link("/proc/self/environ", filepath.Join(inside, "environ"))
	link("loop", filepath.Join(inside, "loop"))
	link("nothing", filepath.Join(inside, "dangling"))
	link("sub/deep", filepath.Join(inside, "deeper"))
	link(filepath.Join(inside, "good"), filepath.Join(outside, "link in"))
	must(t, syscall.Mkfifo(filepath.Join(inside, "fifo"), 0o600))
	link("/dev/zero", filepath.Join(inside, "device"))
	return inside, outside
}

func fits(n int) string { return "postgresql://h/" + strings.Repeat("x", n-len("postgresql://h/")) }

func TestFileReferencesLeadInsideTheirDirectoryAlone(t *testing.T) { // SHOW-7
	inside, outside := dirs(t)
	o := opener(t, Config{Refs: catalog.Refs{Dir: inside}})
	for path, want := range map[string]string{
		"good": good, "newline": good, "crlf": good, "sub/good": good, "link": good, "absolute link inside": good, "sub/up": good,
		inside + "/good": good, "./sub/../good": good, "deeper/../good": good, inside + "/sub/../good": good, "sqlite": "sqlite:/data/x.db",
		"upper": "PostgreSQL+psycopg://h/d", "hosts": "postgresql://u:p@h1:5432,h2:5432/d", "full": fits(4096), "full newline": fits(4096), "full crlf": fits(4096),
		outside + "/link in": good, // resolved, it lies inside
		"../refs/good":       good,
	} {
		if got, err := open(o, "ref:file:"+path); err != nil || got != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for path, want := range map[string]error{
		"": ErrReference, "nothing": ErrUnset, "dangling": ErrUnset, "loop": ErrUnset, "good/x": ErrUnset, "sub/deep/../../../outside/secret": ErrForbidden,
		"../outside/secret": ErrForbidden, "../refs-beside/secret": ErrForbidden, outside + "/secret": ErrForbidden, inside + "/../outside/secret": ErrForbidden,
		inside + "-beside/secret": ErrForbidden, "/etc/passwd": ErrForbidden, "link out": ErrForbidden, "relative link out": ErrForbidden,
		"dir out/secret": ErrForbidden, "environ": ErrForbidden, "device": ErrForbidden, "fifo": ErrNotRegular, ".": ErrNotRegular, "sub": ErrNotRegular,
		inside: ErrNotRegular, "..": ErrForbidden, "/": ErrForbidden, "large": ErrTooLarge, "over": ErrTooLarge, "empty": ErrNotURI, "words": ErrNotURI,
		"key": ErrNotURI, "nul": ErrNotURI, "space": ErrNotURI, "utf8": ErrNotURI, "web": ErrNotURI, "nested": ErrNotURI, "sealed": ErrNotURI,
		"escape": ErrNotURI, "bare": ErrNotURI, "slashes": ErrNotURI, "two newlines": ErrNotURI, "leading": ErrNotURI, "go\x00od": ErrReference,
		"go\nod": ErrReference, strings.Repeat("x", 5000): ErrReference, strings.Repeat("x", 300): ErrUnset, "file:good": ErrUnset,
	} {
		if got, err := open(o, "ref:file:"+path); !errors.Is(err, want) || got != "" {
			t.Errorf("%q: %q, %v; want %v", path, got, err, want)
		}
	}
}

func TestReferencesLeadNowhereByDefault(t *testing.T) {
	inside, _ := dirs(t)
	t.Setenv("TENANT_URL", good)
	o := opener(t, Config{})
	for _, s := range []string{"ref:file:" + inside + "/good", "ref:file:good", "ref:env:TENANT_URL", "ref:file:/etc/passwd"} {
		if got, err := open(o, s); !errors.Is(err, ErrForbidden) || got != "" {
			t.Errorf("%s: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"ref:", "ref:env:", "ref:file:", "ref:ENV:A", "ref:http://x", "ref:x", "ref:env:A=B", "ref:vault:x"} {
		if _, err := open(o, s); !errors.Is(err, ErrReference) {
			t.Errorf("%s: %v", s, err)
		}
	}
	missing := opener(t, Config{Refs: catalog.Refs{Dir: inside + "/nothing"}})
	if _, err := open(missing, "ref:file:good"); !errors.Is(err, ErrUnset) {
		t.Errorf("directory is not there: %v", err)
	}
}

func TestVariableReferencesBeginWithThePrefix(t *testing.T) {
	env := map[string]string{
		"TENANT_A": good, "TENANT_EMPTY": "", "TENANT_WORDS": "words", "OTHER": good, "TENANT_BIG": fits(4097), "TENANT_LINE": good + "\n",
		"TENANTGATE_HOST_DATABASE_URL": good, "tenantgate_host_database_url": good, "TENANT_": good,
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	o := opener(t, Config{Refs: catalog.Refs{EnvPrefix: "TENANT_"}, Lookup: lookup})
	for _, name := range []string{"TENANT_A", "TENANT_"} {
		if got, err := open(o, "ref:env:"+name); err != nil || got != good {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{
		"OTHER": ErrForbidden, "tenant_A": ErrForbidden, "XTENANT_A": ErrForbidden, "TENANT_UNSET": ErrUnset, "TENANT_EMPTY": ErrNotURI,
		"TENANT_WORDS": ErrNotURI, "TENANT_BIG": ErrTooLarge, "TENANT_LINE": ErrNotURI, "TENANT_\x00": ErrReference, "": ErrReference,
	} {
		if got, err := open(o, "ref:env:"+name); !errors.Is(err, want) || got != "" {
			t.Errorf("%q: %q, %v; want %v", name, got, err, want)
		}
	}
	wide := opener(t, Config{Refs: catalog.Refs{EnvPrefix: "T"}, Lookup: lookup})
	if _, err := open(wide, "ref:env:TENANTGATE_HOST_DATABASE_URL"); !errors.Is(err, ErrForbidden) {
		t.Errorf("our own variable: %v", err)
	}
	small := opener(t, Config{Refs: catalog.Refs{EnvPrefix: "t"}, Lookup: lookup})
	if _, err := open(small, "ref:env:tenantgate_host_database_url"); !errors.Is(err, ErrForbidden) {
		t.Errorf("our own variable in lower case: %v", err)
	}
}

// A link that leads inside while it is looked at and outside when it is opened.
func TestLinkSwappedWhileItIsReadLeadsNowhere(t *testing.T) {
	inside, outside := dirs(t)
	const forbidden = "postgresql://stolen@outside/d"
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte(forbidden), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "good"), []byte(forbidden), 0o600))
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swap := func(name string, targets ...string) {
		swaps.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				next := filepath.Join(inside, fmt.Sprint(name, ".next"))
				_ = os.Remove(next)
				if os.Symlink(targets[i%len(targets)], next) == nil {
					_ = os.Rename(next, filepath.Join(inside, name))
				}
			}
		})
	}
	swap("swapped", "good", filepath.Join(outside, "secret"))
	swap("swappeddir", "sub", outside)
	seen := map[string]int{}
	for range 3000 {
		for _, name := range []string{"swapped", "swappeddir/good"} {
			text, err := readWithin(inside, name)
			if text == forbidden {
				t.Fatalf("%s led out", name)
			}
			if err == nil {
				seen["read"]++
			} else {
				seen[err.Error()]++
			}
		}
	}
	close(stop)
	swaps.Wait()
	if seen["read"] == 0 || seen[ErrForbidden.Error()] == 0 {
		t.Errorf("nothing was raced: %v", seen)
	}
}

// A file system that hangs holds up the request that needs it for half a second, and nobody else.
func TestHangingFileHoldsUpNobodyElse(t *testing.T) {
	release := make(chan struct{})
	var reads atomic.Int64
	o := New(Config{Refs: catalog.Refs{Dir: "/x"}})
	o.references.readFile = func(_, path string) (string, error) {
		if path == "quick" {
			return good, nil
		}
		reads.Add(1)
		<-release
		return good, nil
	}
	began := time.Now()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := open(o, "ref:file:slow"); !errors.Is(err, ErrSlow) {
				t.Errorf("hanging: %v", err)
			}
		})
		group.Go(func() {
			if got, err := open(o, "ref:file:quick"); err != nil || got != good {
				t.Errorf("another's: %v", err)
			}
		})
	}
	group.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d reads hang for one file", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Open(ctx, "acme", catalog.NewDBURI("ref:file:other")); !errors.Is(err, ErrInterrupted) {
		t.Errorf("a request that ended: %v", err)
	}
	o.Close() // does not wait for a file system for ever
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
	if _, err := open(o, "ref:file:quick"); !errors.Is(err, ErrInterrupted) {
		t.Errorf("after Close: %v", err)
	}
	close(release)
}

// tick is a clock that tests move.
type tick struct{ ns atomic.Int64 }

func (c *tick) now() time.Time        { return time.Unix(0, c.ns.Load()) }
func (c *tick) move(d time.Duration)  { c.ns.Add(int64(d)) }
func newTick() *tick                  { c := &tick{}; c.ns.Store(1e18); return c }
func put(t *testing.T, p, s string)   { t.Helper(); must(t, os.WriteFile(p, []byte(s), 0o600)) }
func drop(t *testing.T, paths string) { t.Helper(); must(t, os.Remove(paths)) }

func TestChangedReferenceIsInForceWithinAMinute(t *testing.T) {
	dir, clock := t.TempDir(), newTick()
	path := filepath.Join(dir, "a")
	put(t, path, good)
	o := opener(t, Config{Refs: catalog.Refs{Dir: dir}, Clock: clock.now})
	for i, step := range []struct {
		change func()
		want   string
		err    error
	}{
		{func() {}, good, nil},
		{func() { put(t, path, "postgresql://new/d") }, "postgresql://new/d", nil},
		{func() { put(t, path, "broken") }, "", ErrNotURI},
		{func() { drop(t, path) }, "", ErrUnset},
		{func() { put(t, path, good) }, good, nil},
	} {
		step.change()
		clock.move(30 * time.Second) // half of what is promised
		if got, err := open(o, "ref:file:a"); got != step.want || !errors.Is(err, step.err) {
			t.Errorf("step %d: %q, %v; want %q, %v", i, got, err, step.want, step.err)
		}
	}
	reads := 0
	o.references.readFile = func(string, string) (string, error) { reads++; return good, nil }
	clock.move(time.Minute)
	for range 1000 {
		if _, err := open(o, "ref:file:a"); err != nil {
			t.Fatal(err)
		}
	}
	if reads != 1 {
		t.Errorf("%d reads for 1000 requests at one moment", reads)
	}
}

func TestTroubleIsToldOnceAndWithoutTheText(t *testing.T) { // LEAK-3
	var log strings.Builder
	clock := newTick()
	o := opener(t, Config{
		Clock: clock.now, Log: slog.New(slog.NewTextHandler(&log, nil)), Refs: catalog.Refs{EnvPrefix: "C"},
		Lookup: func(string) (string, bool) { return "c4nary content", true },
	})
	for range 100 {
		for _, s := range []string{"enc:v1:c4nary", "ref:env:C4NARY", "ref:file:c4nary"} {
			_, err := o.Open(t.Context(), catalog.TenantID("of "+s[:7]), catalog.NewDBURI(s))
			if err == nil || strings.Contains(strings.ToLower(err.Error()), "c4nary") {
				t.Fatal(err)
			}
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || strings.Contains(strings.ToLower(log.String()), "c4nary") {
		t.Errorf("%d lines: %s", n, log.String())
	}
	clock.move(tellEvery)
	for i := range 5000 {
		_, _ = o.Open(t.Context(), catalog.TenantID(fmt.Sprint(i)), catalog.NewDBURI("enc:"))
	}
	if n := strings.Count(log.String(), "\n"); n != 3+linesAMinute {
		t.Errorf("%d lines for 5000 tenants", n)
	}
	clock.move(time.Minute)
	_, _ = o.Open(t.Context(), "late", catalog.NewDBURI("enc:"))
	if !strings.Contains(log.String(), "lines_left_out=4900") {
		t.Error("nobody says that lines were left out")
	}
}

func TestWarmReferenceAllocatesNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), good)
	o := opener(t, Config{Refs: catalog.Refs{Dir: dir}})
	stored := catalog.NewDBURI("ref:file:a")
	if n := testing.AllocsPerRun(100, func() { _, _ = o.Open(context.Background(), "acme", stored) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStoredForms(f *testing.F) {
	dir := f.TempDir()
	must(f, os.WriteFile(filepath.Join(dir, "a"), []byte(good), 0o600))
	keys := keyset(f, line())
	o := New(Config{Keys: keys, Refs: catalog.Refs{Dir: dir, EnvPrefix: "TENANT_"}, Lookup: func(string) (string, bool) { return good, true }})
	f.Cleanup(o.Close)
	for _, s := range []string{
		"", good, "enc:v1:0123456789abcdef:AAAA", sealed(f, keys, "acme", good), "ref:file:a", "ref:file:../a", "ref:env:TENANT_A", "ref:env:A", "ref:", "enc:",
		"ref:file:/etc/passwd", "ref:file:a\x00", "sqlite:x", "enc:v1::",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := open(o, s)
		switch form := FormOf(catalog.NewDBURI(s)); {
		case form == Plain || form == Absent:
			if err != nil || got != s {
				t.Errorf("%q became %q, %v", s, got, err)
			}
		case err == nil && got != good:
			t.Errorf("%q opened %q", s, got)
		case err != nil && (got != "" || Reason(err) != err.Error()):
			t.Errorf("%q: %q, %v", s, got, err)
		}
		if CheckURI(s) == nil && (FormOf(catalog.NewDBURI(s)) != Plain || strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7E })) {
			t.Errorf("%q counts as a URI", s)
		}
	})
}
