package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/telemetry"
)

// auditList shows the log; nothing here writes it.
func auditList(p *program) *cobra.Command {
	type row = catalog.HostAuditLog
	k := &kind[catalog.AuditID, row]{
		name: "audit", plural: "audit rows",
		columns: []column[row]{
			idColumn("id", "id", func(r *row) *catalog.AuditID { return &r.ID }),
			textColumn("actor_user_id", "who", func(r *row) **string { return &r.ActorUserID }, nil),
			textColumn("event_type", "what", func(r *row) **string { return &r.EventType }, nil),
			textColumn("target_id", "to which row", func(r *row) **string { return &r.TargetID }, nil),
			textColumn("details", "JSON", func(r *row) **string { return &r.Details }, nil),
			textColumn("ip_address", "from where", func(r *row) **string { return &r.IPAddress }, nil),
			textColumn("created_at", "when", func(r *row) **string { return &r.CreatedAt }, nil),
		},
		table:    func(t *catalog.Tables) *catalog.Table[catalog.AuditID, row] { return &t.AuditLogs },
		id:       func(r *row) *catalog.AuditID { return &r.ID },
		newest:   true,
		filters:  []string{"event_type", "actor_user_id", "target_id"},
		examples: map[string]string{"list": "--target-id acme --since 2026-11-01 --limit 50"},
	}
	return k.list(p)
}

// jobs are shown: whoever inserted them owns them.
func jobs() *kind[catalog.JobID, catalog.SystemJob] {
	type row = catalog.SystemJob
	return &kind[catalog.JobID, row]{
		name: "job", plural: "jobs", naming: "ID",
		columns: []column[row]{
			idColumn("id", "id", func(r *row) *catalog.JobID { return &r.ID }),
			textColumn("job_type", "what is to be done; tenantgate's own begin with tenantgate.", func(r *row) **string { return &r.JobType }, nil),
			textColumn("status", "how far it is", func(r *row) **string { return &r.Status }, nil),
			foreignColumn("payload", "JSON", func(r *row) **string { return &r.Payload }),
			foreignColumn("error_log", "why it failed", func(r *row) **string { return &r.ErrorLog }),
			textColumn("created_at", "when", func(r *row) **string { return &r.CreatedAt }, nil),
			textColumn("completed_at", "when it ended", func(r *row) **string { return &r.CompletedAt }, nil),
		},
		table:   func(t *catalog.Tables) *catalog.Table[catalog.JobID, row] { return &t.Jobs },
		id:      func(r *row) *catalog.JobID { return &r.ID },
		newest:  true,
		filters: []string{"job_type", "status"},
		words:   map[string][]string{"status": {catalog.JobPending, catalog.JobRunning, catalog.JobCompleted, catalog.JobFailed}},
		more:    jobRuns, moreNames: jobRunNames(),
		examples: map[string]string{"list": "--status failed", "show": "9a1b2c3d4e5f60718293a4b5c6d7e8f9"},
	}
}

// foreignColumn holds another program's text, which may hold anything: what looks like a credential is redacted.
func foreignColumn[T any](name, usage string, at func(*T) **string) column[T] {
	c := textColumn(name, usage, at, nil)
	c.secret = true
	bind := c.bind
	c.bind = func(row *T) cell {
		v := bind(row)
		v.reveal = v.get
		v.get = func() any {
			if s, ok := v.reveal().(string); ok {
				return telemetry.NewRedactor().String(s)
			}
			return nil
		}
		return v
	}
	return c
}

// moments adds --since and --until to a list with the newest first.
func moments(cmd *cobra.Command, page *pageFlag) {
	for flag, to := range map[string]*string{"since": &page.Since, "until": &page.Until} {
		usage := map[string]string{"since": "only rows of this time or later, ISO 8601", "until": "only rows before this time, ISO 8601"}[flag]
		cmd.Flags().Var((*moment)(to), flag, usage)
	}
}

// moment is a flag's time.
type moment string

// String, Set and Type implement pflag.Value.
func (m *moment) String() string { return string(*m) }

func (m *moment) Set(s string) error {
	t, err := timestamp(s)
	if err != nil || s == "" {
		return errors.New("want a time in ISO 8601, such as 2026-11-23T07:31:00")
	}
	*m = moment(t)
	return nil
}

func (m *moment) Type() string { return "time" }
