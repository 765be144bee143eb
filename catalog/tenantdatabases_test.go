package catalog

import (
	"regexp"
	"testing"
)

func TestATenantsDatabaseIsRecordedBeforeItIsMade(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		row := &TenantDatabase{
			TenantID: "acme", Engine: EnginePostgreSQL, Server: "7301", DatabaseName: "tg_acme_x", RoleName: "tg_acme_x", Mark: "m1", Step: "recorded",
		}
		exercise(t, &h.TenantDatabases, row,
			func(d *TenantDatabase) { d.Step, d.Problem = "role", new("no answer") },
			func(d *TenantDatabase) bool { return d.Step == "role" && *d.Problem == "no answer" })
		must(t, h.TenantDatabases.Insert(ctx, row))
		for what, change := range map[string]func(*TenantDatabase){
			"another database": func(d *TenantDatabase) { d.DatabaseName = "customers" },
			"another role":     func(d *TenantDatabase) { d.RoleName = "postgres" },
			"another server":   func(d *TenantDatabase) { d.Server = "1" },
			"another mark":     func(d *TenantDatabase) { d.Mark = "m2" },
		} {
			if _, err := h.TenantDatabases.Change(ctx, "acme", func(d *TenantDatabase) error { change(d); return nil }); err == nil {
				t.Errorf("a record was made to name %s", what)
			}
		}
		if err := h.TenantDatabases.Insert(ctx, &TenantDatabase{
			TenantID: "other", Engine: EnginePostgreSQL, Server: "7301", DatabaseName: "tg_acme_x", Mark: "m3", Step: "recorded",
		}); err == nil {
			t.Error("two tenants share one database")
		}
	})
}

func TestAnInstallationHasOneNameAndAPlace(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		id, err := h.Installation(t.Context())
		must(t, err)
		again, err := h.Installation(t.Context())
		must(t, err)
		if id != again || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("installation %q, then %q", id, again)
		}
		server, database, err := h.HostPlace(t.Context())
		must(t, err)
		if on := h.Engine() == EnginePostgreSQL; on != (server != "") || on != (database != "") {
			t.Errorf("the host database lies in %q on %q", database, server)
		}
	})
}
