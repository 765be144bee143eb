package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// Check names what a Finding is about; scripts may go by it.
type Check string

// The checks.
const (
	CheckURI        Check = "uri"        // db_url is missing, does not open, or does not connect
	CheckDatabase   Check = "database"   // a row whose database is not there
	CheckOrphan     Check = "orphan"     // a database, a role or a record without a tenant
	CheckOwner      Check = "owner"      // a database is not its tenant's role's
	CheckPublic     Check = "public"     // everybody may connect
	CheckRole       Check = "role"       // a tenant's role may too much
	CheckSchema     Check = "schema"     // a schema is behind
	CheckUnfinished Check = "unfinished" // provisioning or removal has begun and not ended
	CheckLock       Check = "lock"       // a lock that is left over
	CheckServer     Check = "server"     // the server cannot be looked at
	CheckElsewhere  Check = "elsewhere"  // db_url does not lead to the database that was made for the tenant
)

// Finding is something that does not fit together.
type Finding struct {
	Tenant catalog.TenantID // "": of no tenant
	Check  Check
	Text   string // what is wrong; no secret
	Mend   string // a command, or a statement for the server's administrator
}

// DoctorConfig says how the doctor looks.
type DoctorConfig struct {
	// Parallel is how many tenants are looked at at once. 0: 8.
	Parallel int
	// Timeout bounds the look at one tenant. 0: 20 s.
	Timeout time.Duration
	// NoURI: tenants need no db_url (forward.db_uri: off).
	NoURI bool
}

// Report is what the doctor saw.
type Report struct {
	Tenants, Databases int
	Findings           []Finding
	// Skipped says what could not be looked at, and what it lacks.
	Skipped []string
	// Notes are no faults: what can be made tighter where nobody else needs it, and how.
	Notes []string
}

// Doctor says what does not fit together. It changes nothing.
type Doctor struct {
	cfg  DoctorConfig
	deps Deps
}

// NewDoctor makes a Doctor; nothing is read yet.
func NewDoctor(cfg DoctorConfig, deps Deps) *Doctor {
	cfg.Parallel = cmp.Or(cfg.Parallel, 2*DefaultParallel)
	cfg.Timeout = cmp.Or(cfg.Timeout, lookTimeout)
	return &Doctor{cfg: cfg, deps: deps.filled()}
}

// visit is one look at everything.
type visit struct {
	*Doctor
	rows     []tenantRow
	byID     map[catalog.TenantID]*tenantRow
	records  map[catalog.TenantID]*catalog.TenantDatabase
	identity string // of the server; "" without one
	objects  []tenantdb.Object
	granted  []tenantdb.Grant
	host     string // the host database's name, where it lies on that server

	mu     sync.Mutex
	report Report
	onHost map[string]catalog.TenantID // databases of the server that tenants' URIs lead to, and one such tenant
}

func (v *visit) found(tenant catalog.TenantID, check Check, mend, text string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Findings = append(v.report.Findings, Finding{Tenant: tenant, Check: check, Text: fmt.Sprintf(text, args...), Mend: mend})
}

// Examine looks at the named tenants alone, or at all of them, at what is left over, and at the server. The error is
// about the look itself.
func (d *Doctor) Examine(ctx context.Context, named []catalog.TenantID) (Report, error) {
	v := &visit{Doctor: d, byID: map[catalog.TenantID]*tenantRow{}, onHost: map[string]catalog.TenantID{}}
	var err error
	if v.rows, err = d.deps.rows(ctx, named); err != nil {
		return v.report, err
	}
	if v.records, err = d.deps.records(ctx); err != nil {
		return v.report, err
	}
	for i := range v.rows {
		v.byID[v.rows[i].ID] = &v.rows[i]
	}
	v.report.Tenants = len(v.rows)
	v.lookAtServer(ctx)
	if err := v.lookAtTenants(ctx); err != nil {
		return v.report, err
	}
	v.judgeRecords(len(named) > 0)
	v.judgeGrants()
	if len(named) == 0 {
		v.judgeOrphans()
		v.judgePublic(ctx)
		if err := v.judgeLocks(ctx); err != nil {
			return v.report, err
		}
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Text, b.Text))
	})
	return v.report, ctx.Err()
}

// lookAtServer lists what is ours on the server of provisioning.admin_url.
func (v *visit) lookAtServer(ctx context.Context) {
	server := v.deps.Server
	if server == nil {
		if len(v.records) > 0 {
			v.report.Skipped = append(v.report.Skipped, "databases, roles and rights on the tenants' server: provisioning.admin_url is not set")
		}
		return
	}
	failed := func(err error) {
		v.found("", CheckServer, "look at provisioning.admin_url, and whether the server runs", "the tenants' server cannot be looked at: %v", err)
	}
	var err error
	if v.identity, err = server.Identity(ctx); err != nil {
		failed(err)
		return
	}
	if v.objects, err = server.List(ctx); err == nil {
		v.granted, err = server.Granted(ctx)
	}
	if err != nil {
		v.identity = ""
		failed(err)
		return
	}
	for _, o := range v.objects {
		if o.Database != "" {
			v.report.Databases++
		}
	}
	// On SQLite there is none, and a role without the right to ask does not know.
	if place, database, err := v.deps.Host.HostPlace(ctx); err == nil && place == v.identity {
		v.host = database
	}
}

// lookAtTenants connects by every tenant's URI.
func (v *visit) lookAtTenants(ctx context.Context) error {
	work := make(chan *tenantRow)
	var workers sync.WaitGroup
	for range min(v.cfg.Parallel, max(len(v.rows), 1)) {
		workers.Go(func() {
			for row := range work {
				one, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
				v.tenant(one, row)
				cancel()
			}
		})
	}
	for i := range v.rows {
		work <- &v.rows[i] // a worker is there until the channel is closed
	}
	close(work)
	workers.Wait()
	return ctx.Err()
}

func (v *visit) tenant(ctx context.Context, row *tenantRow) {
	id := string(row.ID)
	v.ending(row)
	if row.unfinished() {
		problem := ""
		if p := row.record.Problem; p != nil && *p != "" {
			problem = ": " + *p
		}
		v.found(row.ID, CheckUnfinished, "tenantgate tenant provision --id "+word(id), "provisioning has begun and not ended (it has done: %s)%s", row.record.Step, problem)
		return
	}
	if row.state.Deletion != nil && row.state.Deletion.PurgingAt != "" {
		return // its database may be gone already
	}
	if row.DBURL.IsZero() {
		if !v.cfg.NoURI {
			v.found(row.ID, CheckURI, "tenantgate tenant update "+word(id)+" --db-url-file -", "has no db_url")
		}
		return
	}
	uri, err := v.deps.Opener.Open(ctx, row.ID, row.DBURL)
	if errors.Is(err, sealing.ErrInterrupted) {
		return // the look as a whole has ended
	}
	if err != nil {
		mend := "put the older line back into secret_key_file, or give the URI anew: tenantgate tenant update " + word(id) + " --db-url-file -"
		if sealing.FormOf(row.DBURL) == sealing.Reference {
			mend = "put back what the reference names (host_database.refs), or: tenantgate tenant update " + word(id) + " --db-url-file -"
		}
		v.found(row.ID, CheckURI, mend, "db_url does not open: %s", sealing.Reason(err))
		return
	}
	v.connect(ctx, row, uri)
}

// ending judges a deletion.
func (v *visit) ending(row *tenantRow) {
	d := row.state.Deletion
	if d == nil {
		return
	}
	id := word(string(row.ID))
	end, err := catalog.ParseTimestamp(d.RetainUntil)
	switch over := err == nil && v.deps.Clock().After(end); {
	case d.PurgingAt != "":
		v.found(row.ID, CheckUnfinished, "tenantgate tenant delete "+id+" --retain 0 --yes", "its removal began at %s and has not ended", d.PurgingAt)
	case d.Backup.Pending():
		v.found(row.ID, CheckUnfinished, "tenantgate tenant delete "+id+" --backup DIR --yes", "is deleted, and the backup into %s that was asked for was not made: it is not removed before", d.Backup.Dir)
	case row.IsActive != nil && *row.IsActive:
		v.found(row.ID, CheckUnfinished, "tenantgate tenant restore "+id+", or: tenantgate tenant suspend "+id, "is deleted and active all the same: another program changed it")
	case over && v.deps.Clock().Sub(end) > purgeLate:
		v.found(row.ID, CheckUnfinished, "tenantgate tenant delete "+id+" --retain 0 --yes", "was to be removed at %s; look at `tenantgate job list` for why it was not", d.RetainUntil)
	}
}

// purgeLate is how long after its time a removal is late.
const purgeLate = 24 * time.Hour

// connect uses a tenant's URI as the app would.
func (v *visit) connect(ctx context.Context, row *tenantRow, uri catalog.DBURI) {
	id := word(string(row.ID))
	engine := tenantdb.EngineOf(uri)
	if engine == "" {
		v.skip("databases that are neither PostgreSQL nor SQLite: no look was taken whether they connect")
		return
	}
	if row.record != nil {
		if there, err := leadsTo(ctx, uri, row.record); err == nil && !there {
			v.elsewhere(row)
		}
	}
	err := tenantdb.Ping(ctx, uri)
	switch {
	case errors.Is(err, tenantdb.ErrGone):
		v.found(row.ID, CheckDatabase, "restore it from a backup (docs/tenants-life.md), or: tenantgate tenant delete "+id, "its database is gone: %v", err)
		return
	case err != nil:
		v.found(row.ID, CheckURI, "look at the server, or: tenantgate tenant update "+id+" --db-url-file -", "%v", err)
		return
	}
	v.place(ctx, row.ID, uri)
	v.schema(ctx, row, uri)
}

func (v *visit) elsewhere(row *tenantRow) {
	v.found(row.ID, CheckElsewhere, "if that is meant, drop "+row.record.DatabaseName+" by hand; else: tenantgate tenant update "+word(string(row.ID))+" --db-url-file -",
		"db_url does not lead to %s, which provisioning made for it", row.record.DatabaseName)
}

// place notes the databases of our own server that tenants live in, whoever made them.
func (v *visit) place(ctx context.Context, tenant catalog.TenantID, uri catalog.DBURI) {
	name := tenantdb.Database(uri)
	if name == "" || v.identity == "" || v.deps.Server.Engine() != catalog.EnginePostgreSQL {
		return
	}
	if where, err := tenantdb.IdentityOf(ctx, uri); err == nil && where == v.identity {
		v.mu.Lock()
		v.onHost[name] = tenant
		v.mu.Unlock()
	}
}

func (v *visit) skip(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.report.Skipped, what) {
		v.report.Skipped = append(v.report.Skipped, what)
	}
}

// schema says who is behind: only tenants whose databases provisioning made, or that a migration has met.
func (v *visit) schema(ctx context.Context, row *tenantRow, uri catalog.DBURI) {
	if v.deps.Migrations.Target() == 0 || row.state.Deletion != nil {
		return
	}
	version, err := v.deps.Migrations.Version(ctx, uri)
	if err == nil && version == 0 && !row.ours(uri) {
		return
	}
	pending := false
	if err == nil {
		pending, err = v.deps.Migrations.Pending(ctx, uri)
	}
	mend := "tenantgate tenant migrate " + word(string(row.ID))
	switch {
	case err != nil:
		v.found(row.ID, CheckSchema, mend, "the version of its schema cannot be read: %v", err)
	case pending:
		v.found(row.ID, CheckSchema, mend, "its schema is behind: version %d, and migrations lead to %d", version, v.deps.Migrations.Target())
	case version > v.deps.Migrations.Target():
		v.found(row.ID, CheckSchema, "set provisioning.migrations_dir to the newer files", "its schema is at version %d, and migrations lead to %d", version, v.deps.Migrations.Target())
	}
}

// word quotes what a shell would take apart.
func word(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@", r)
	}
	if s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
