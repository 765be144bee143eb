package main

import (
	"strings"
	"testing"
)

// What an operator changes in best_effort mode without a record is done, and said on standard error.
func TestChangesWithoutARecord(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "acme")
	c.exec("CREATE TRIGGER no_audit BEFORE INSERT ON sys_audit_logs BEGIN SELECT RAISE(ABORT, 'no room'); END")
	c.fails(1, "", "tenant", "suspend", "acme")
	if got := c.object("tenant", "show", "acme"); got["is_active"] != true {
		t.Errorf("suspended without a record: %v", got)
	}
	c.environ = append(c.environ, "TENANTGATE_AUDIT_MODE=best_effort")
	r := c.run("tenant", "suspend", "acme")
	if r.code != 0 || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "tenant.suspended is done and not in the audit log") &&
		!strings.Contains(r.err, "tenant.updated is done and not in the audit log") {
		t.Errorf("exit %d, stderr %q", r.code, r.err)
	}
	if got := c.object("tenant", "show", "acme"); got["is_active"] != false {
		t.Errorf("not suspended: %v", got)
	}
}
