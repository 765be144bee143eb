package catalog

import (
	"syscall"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// A server that recovers from a crash by itself keeps the time of its start, but what was seen of it may be gone, and the
// ids of transactions may be used again: nothing that was remembered counts.
func TestFeedForgetsWhenTheServerHasCrashed(t *testing.T) {
	server := pgtest.NewServer(t)
	url := server.URL(t)
	h := openTest(t, url)
	f, heard := watch(t, h, WatchConfig{Heartbeat: 200 * time.Millisecond})
	execURL(t, url, "INSERT INTO core_tenants (id) VALUES ('before')")
	heard.untilHeard(t, "tenant/before//before/")
	started := func() (at string) {
		t.Helper()
		poll(t, f, "reachable", func() bool {
			return rawDB(t, url).QueryRowContext(t.Context(), "SELECT pg_postmaster_start_time()::text").Scan(&at) == nil
		})
		return at
	}
	was := started()
	_, resets := heard.count()
	var pid int
	must(t, rawDB(t, url).QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	heard.untilReset(t, resets+1)
	if now := started(); now != was {
		t.Errorf("started %s, was %s: no crash but a restart", now, was)
	}
	execURL(t, url, "INSERT INTO core_tenants (id) VALUES ('after')")
	heard.untilHeard(t, "tenant/after//after/")
	untilCurrent(t, f)
}
