package freshness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the command line changes is in force on every replica, like what any other program does.
func TestWhatTheCommandLineChangesIsInForceOnEveryReplica(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tenantgate")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "../../cmd/proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released, and as .ci/run has compiled it already
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := map[string][2]string{
		"membership":   {"member update --user u1 --tenant t1 --is-active=true", "member update --user u1 --tenant t1 --is-active=false"},
		"role":         {"member update --user u1 --tenant t1 --role member", "member update --user u1 --tenant t1 --role admin"},
		"tenant":       {"tenant resume t1", "tenant suspend t1"},
		"db_url":       {"tenant update t1 --db-url postgresql://old@db/t1", "tenant update t1 --db-url postgresql://new@db/t1"},
		"domain":       {"domain delete slug-of-t1", "domain create slug-of-t1 --tenant t1"},
		"subscription": {"subscription update s1 --status active", "subscription update s1 --status canceled"},
		"plan":         {`plan update plan1 --features ["old"]`, `plan update plan1 --features ["new"]`},
		"user":         {"user update u1 --email p1@example.com", "user update u1 --email changed@example.com"},
		"lock":         {"tenant unpause t1", "tenant pause t1 --for 10m"},
	}
	engines(t, func(tb testing.TB, hostURL string) {
		b := newBed(tb, hostURL, 2, nil)
		seen := 0
		for _, k := range kinds() {
			line, ok := lines[k.name]
			if !ok {
				continue
			}
			seen++
			w := b.watch(tb, k.path, b.credentials(tb, &k, ""), 5*time.Millisecond)
			w.settled(tb, k.shows[0])
			for _, state := range []int{1, 0} {
				w.forget()
				cmd := exec.CommandContext(tb.Context(), program, strings.Fields(line[state])...)
				cmd.Env = []string{"TENANTGATE_HOST_DATABASE_URL=" + hostURL}
				cmd.Dir = tb.TempDir()
				if out, err := cmd.CombinedOutput(); err != nil {
					tb.Fatalf("%s: %v: %s", line[state], err, out)
				}
				w.lag(tb, time.Now(), k.shows[1-state], k.shows[state])
				w.forget()
				w.settled(tb, k.shows[state])
			}
			w.close()
		}
		if seen != len(lines) {
			tb.Errorf("%d kinds were changed, want %d", seen, len(lines))
		}
	})
}
