package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/internal/dbfault"
)

// triggerVersion is raised when what triggers do is changed. A program never puts an older form in the place of a newer
// one: of replicas of two versions the newer decides.
const triggerVersion = 1

// auditTable is fh-saas's log; chainTable is what ours chains it with.
const (
	auditTable = "sys_audit_logs"
	chainTable = "sys_audit_chain"
)

// kept are the tables that only grow, but for their owner.
func kept() []watched {
	return []watched{{name: auditTable, unique: []string{"id"}}, {name: chainTable, own: true, unique: []string{"seq"}}}
}

// watched is a table whose changes are announced.
type watched struct {
	name string
	own  bool // it stands in our schema on PostgreSQL
	kind ChangeKind
	// The columns that become row_id, user_id, tenant_id and subject; "" is NULL.
	keys [4]string
	// unique are the sets of columns in which no two rows are equal; of them INSERT OR REPLACE goes by.
	unique []string
}

// watchedTables are contract section 7's, in the order in which they get their triggers.
func watchedTables() []watched {
	return []watched{
		{"core_users", false, ChangedUser, [4]string{"id", "id", "", "oauth_id"}, []string{"id", "oauth_id"}},
		{"core_memberships", false, ChangedMembership, [4]string{"id", "user_id", "tenant_id", ""}, []string{"id"}},
		{"core_tenants", false, ChangedTenant, [4]string{"id", "", "id", ""}, []string{"id"}},
		{"core_subscriptions", false, ChangedSubscription, [4]string{"id", "", "tenant_id", ""}, []string{"id"}},
		{"core_pricing_plans", false, ChangedPlan, [4]string{"id", "", "", ""}, []string{"id"}},
		{"core_tenant_domains", true, ChangedDomain, [4]string{"host", "", "tenant_id", ""}, []string{"host"}},
		{"sys_sessions", true, ChangedSession, [4]string{"id", "user_id", "tenant_id", ""}, []string{"id"}},
		{"sys_api_tokens", true, ChangedToken, [4]string{"id", "user_id", "tenant_id", ""}, []string{"id"}},
		{"sys_user_blocks", true, ChangedBlock, [4]string{"user_id", "user_id", "", ""}, []string{"user_id"}},
		{"sys_past_due", true, ChangedSubscription, [4]string{"stripe_sub_id", "", "tenant_id", ""}, []string{"stripe_sub_id"}},
		{"sys_tenant_locks", true, ChangedLock, [4]string{"tenant_id", "", "tenant_id", ""}, []string{"tenant_id,holder"}},
	}
}

// unannounced are columns whose change alone is none: when a user, a session or a token was last seen.
func unannounced(column string) bool {
	return column == "last_login" || column == "last_seen" || column == "last_used"
}

// counted are those of a table's columns whose change is announced. One that another program has added to the eight
// tables is none of them: no answer is read from it, its type may have no equality, and it can be dropped again only
// while no trigger names it.
func (w watched) counted(columns []string) []string {
	known := columns
	for _, t := range hostTables() {
		if t.name == w.name {
			known = t.columns
		}
	}
	return slices.DeleteFunc(slices.Clone(columns), func(c string) bool {
		return unannounced(c) || !slices.Contains(known, c)
	})
}

// triggerPlan is what one table's triggers lack.
type triggerPlan struct {
	table      string // with its schema, fit for a statement
	changes    []string
	functions  []string // statements that lock no table
	statements []string // statements under one SHARE ROW EXCLUSIVE lock, or in SQLite's one transaction
}

// triggerState is what stands in a database.
type triggerState struct {
	columns   map[string][]string     // table → its columns, sorted; of both schemas
	triggers  map[string]foundTrigger // by name
	functions map[string]string       // PostgreSQL: name → body; "" where it is not SECURITY DEFINER as ours are
	home      string
}

type foundTrigger struct {
	event    int64
	function string
	always   bool
	text     string // SQLite
}

// planTriggers compares what stands with what should. Tables that are not there yet are taken to be made first.
func (h *HostDatabase) planTriggers(s triggerState) []triggerPlan {
	var plans []triggerPlan
	for _, w := range watchedTables() {
		if h.engine == EnginePostgreSQL {
			plans = append(plans, h.planAnnouncing(s, w))
		} else {
			plans = append(plans, h.planOnSQLite(s, w.name, h.announcingOnSQLite(w, w.counted(s.columns[w.name]))))
		}
	}
	for _, w := range kept() {
		if h.engine == EnginePostgreSQL {
			plans = append(plans, h.planKeeping(s, w))
		} else {
			plans = append(plans, h.planOnSQLite(s, w.name, h.keepingOnSQLite(w)))
		}
	}
	return slices.DeleteFunc(plans, func(p triggerPlan) bool { return len(p.changes) == 0 })
}

// Bits of pg_trigger.tgtype (PostgreSQL's catalog/pg_trigger.h).
const (
	triggerRow, triggerBefore                                     = 1, 2
	triggerInsert, triggerDelete, triggerUpdate, triggerTruncated = 4, 8, 16, 32
)

// wantedTrigger is one trigger on PostgreSQL: the query that makes it, and what pg_trigger says once it stands.
type wantedTrigger struct {
	suffix, query, function string
	event                   int64
}

func (h *HostDatabase) planAnnouncing(s triggerState, w watched) triggerPlan {
	schema := s.home
	if w.own {
		schema = ownSchema
	}
	table := pgx.Identifier{schema, w.name}.Sanitize()
	fill := h.filler(w, table, w.counted(s.columns[w.name]))
	function := "announce_" + w.name
	p := triggerPlan{table: table}
	h.planFunction(s, &p, function, fill("postgresql_announce"), fill("postgresql_function_close"))
	h.planEvents(s, &p, w.name, fill, []wantedTrigger{
		{"insert", "postgresql_trigger_insert", function, triggerInsert},
		{"update", "postgresql_trigger_update", function, triggerUpdate},
		{"delete", "postgresql_trigger_delete", function, triggerDelete},
		{"truncate", "postgresql_trigger_truncate", function, triggerTruncated},
	})
	return p
}

// planKeeping has the rows of a table stay, and those of the log chained.
func (h *HostDatabase) planKeeping(s triggerState, w watched) triggerPlan {
	schema, owner := s.home, "may_change_audit"
	if w.own {
		schema, owner = ownSchema, "may_change_"+w.name
	}
	table := pgx.Identifier{schema, w.name}.Sanitize()
	inner := h.filler(w, table, nil)
	fill := func(name string) string { return strings.ReplaceAll(inner(name), "{owner_function}", owner) }
	p := triggerPlan{table: table}
	h.planFunction(s, &p, owner, fill("postgresql_audit_owner"))
	h.planFunction(s, &p, "keep_"+w.name, fill("postgresql_audit_refuse"))
	wanted := []wantedTrigger{
		{"keep", "postgresql_trigger_keep", "keep_" + w.name, triggerRow | triggerBefore | triggerUpdate | triggerDelete},
		{"keep_all", "postgresql_trigger_keep_all", "keep_" + w.name, triggerBefore | triggerTruncated},
	}
	if w.name == auditTable {
		h.planFunction(s, &p, "enqueue_"+w.name, fill("postgresql_audit_enqueue"), fill("postgresql_enqueue_close"))
		wanted = append(wanted, wantedTrigger{"enqueue", "postgresql_trigger_enqueue", "enqueue_" + w.name, triggerInsert})
	}
	h.planEvents(s, &p, w.name, fill, wanted)
	return p
}

// planFunction replaces a function's body in one step: no moment is without one, and no table is locked.
func (h *HostDatabase) planFunction(s triggerState, p *triggerPlan, name string, statements ...string) {
	_, wanted, _ := strings.Cut(statements[0], "$body$")
	wanted = strings.TrimSuffix(wanted, "$body$")
	body, there := s.functions[name]
	switch {
	case body == wanted || versionOf(body) > triggerVersion:
		return
	case there:
		p.changes = append(p.changes, "replace function "+ownSchema+"."+name)
	default:
		p.changes = append(p.changes, "create function "+ownSchema+"."+name)
	}
	p.functions = append(p.functions, statements...)
}

func (h *HostDatabase) planEvents(s triggerState, p *triggerPlan, table string, fill func(string) string, wanted []wantedTrigger) {
	for _, w := range wanted {
		name := "tenantgate_" + table + "_" + w.suffix
		found, there := s.triggers[name]
		switch {
		case !there:
			p.changes = append(p.changes, "create trigger "+name+" on "+table)
		case found.function != w.function || found.event != w.event:
			p.changes = append(p.changes, "replace trigger "+name+" on "+table)
		case !found.always:
			p.changes = append(p.changes, "enable trigger "+name+" on "+table)
		default:
			continue
		}
		p.statements = append(p.statements, fill(w.query),
			strings.ReplaceAll(fill("postgresql_trigger_enable"), "{trigger}", name))
	}
	if len(p.statements) > 0 {
		p.statements = slices.Insert(p.statements, 0, fill("postgresql_trigger_lock"))
	}
}

// versionOf reads the version that a function or a trigger says it is; 0 if it says none.
func versionOf(text string) int {
	m := regexp.MustCompile(`/\* tenantgate ([0-9]{1,9}) \*/`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// filler puts a table's words into the named statements.
func (h *HostDatabase) filler(w watched, table string, columns []string) func(string) string {
	counted := make([]string, 0, len(columns))
	for _, c := range columns {
		counted = append(counted, quoted(c))
	}
	words := strings.NewReplacer(
		"{table}", table, "{table_text}", sqlText(table), "{name}", w.name, "{kind}", string(w.kind),
		"{keys}", w.keyList("r."), "{columns}", strings.Join(counted, ", "), "{version}", strconv.Itoa(triggerVersion),
	)
	rows := func(source string) string {
		return strings.ReplaceAll(h.queries["postgresql_announce_rows"], "{rows}", source)
	}
	whole := strings.NewReplacer(
		"{announce_added}", rows("added"), "{announce_removed}", rows("removed"),
		"{announce_difference}", rows(h.queries["postgresql_difference"]),
	)
	return func(name string) string { return words.Replace(whole.Replace(h.queries[name])) }
}

// keyList is the list of a row's keys, from the row that prefix names.
func (w watched) keyList(prefix string) string {
	list := make([]string, len(w.keys))
	for i, k := range w.keys {
		list[i] = "NULL"
		if k != "" {
			list[i] = prefix + quoted(k)
		}
	}
	return strings.Join(list, ", ")
}

// quoted is a column's name as an identifier, on both engines.
func quoted(column string) string { return `"` + strings.ReplaceAll(column, `"`, `""`) + `"` }

func sqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// inspectTriggers reads what stands. On PostgreSQL home is the schema of the eight tables.
func (h *HostDatabase) inspectTriggers(ctx context.Context, home string) (triggerState, error) {
	s := triggerState{columns: map[string][]string{}, triggers: map[string]foundTrigger{}, functions: map[string]string{}, home: home}
	names := map[string]bool{}
	var err error
	if h.engine == EngineSQLite {
		err = h.names(ctx, "sqlite_columns", nil, names)
		if err == nil {
			err = h.query(ctx, "look at the triggers", readDeadline, "sqlite_triggers", nil, s.collectSQLite)
		}
	} else {
		for _, schema := range []string{ownSchema, home} {
			theirs := map[string]bool{}
			if err == nil {
				err = h.names(ctx, "postgresql_columns", []any{schema}, theirs)
			}
			if err == nil {
				err = h.query(ctx, "look at the triggers", readDeadline, "postgresql_triggers", []any{schema}, s.collectTriggers)
			}
			maps.DeleteFunc(theirs, func(name string, _ bool) bool { return isOwn(name) != (schema == ownSchema) })
			maps.Copy(names, theirs)
		}
		if err == nil {
			err = h.query(ctx, "look at the functions", readDeadline, "postgresql_functions", nil, s.collectFunctions)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		table, column, _ := strings.Cut(name, ".")
		s.columns[table] = append(s.columns[table], column)
	}
	return s, err
}

// isOwn says whether a table.column is of our own tables among those watched.
func isOwn(name string) bool {
	table, _, _ := strings.Cut(name, ".")
	return slices.ContainsFunc(watchedTables(), func(w watched) bool { return w.own && w.name == table })
}

func (s triggerState) collectTriggers(rows *sql.Rows) error {
	for rows.Next() {
		var table, name string
		var f foundTrigger
		if err := rows.Scan(&table, &name, &f.event, &f.function, &f.always); err != nil {
			return err
		}
		s.triggers[name] = f
	}
	return rows.Err()
}

func (s triggerState) collectFunctions(rows *sql.Rows) error {
	for rows.Next() {
		var name, body string
		var guarded sql.NullBool
		if err := rows.Scan(&name, &body, &guarded); err != nil {
			return err
		}
		if !guarded.Bool {
			body = ""
		}
		s.functions[name] = body
	}
	return rows.Err()
}

// makeTriggers makes what lacks, table by table, beside everybody else's work: it asks for the lock again and again, only
// while nobody has held one for long, and never stands in a queue for longer than a fraction of a second.
func (h *HostDatabase) makeTriggers(ctx context.Context, conn *sql.Conn, home string) (done []string, err error) {
	s, err := h.inspectTriggers(ctx, home)
	if err != nil {
		return nil, err
	}
	for _, p := range h.planTriggers(s) {
		for {
			err := h.makeTriggersOf(ctx, conn, p)
			if err == nil {
				break
			}
			if !errors.Is(err, errBusy) && !dbfault.Of(err).GaveWay() {
				return done, safe("migrate: create triggers on "+p.table, err)
			}
			if err := pause(ctx); err != nil {
				return done, safe("migrate: wait for open transactions before creating triggers on "+p.table, err)
			}
		}
		done = append(done, p.changes...)
	}
	return done, nil
}

// errBusy: somebody holds a lock on the table; asking for ours would make others wait behind us.
var errBusy = errors.New("the table is busy")

func (h *HostDatabase) makeTriggersOf(ctx context.Context, conn *sql.Conn, p triggerPlan) error {
	statements := slices.Clone(p.functions)
	if len(p.statements) > 0 {
		var busy bool
		if err := conn.QueryRowContext(ctx, h.queries["postgresql_trigger_busy"], p.table).Scan(&busy); err != nil {
			return err
		}
		if busy {
			return errBusy
		}
		statements = append(append(statements, h.queries["postgresql_trigger_timeout"]), p.statements...)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing; before, the reason is on its way already
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// unheard returns ErrSchema if triggers that announce changes lack, or do not fire. A function that is not as this
// version would write it is no reason: another version's are as good.
func (h *HostDatabase) unheard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*hotDeadline)
	defer cancel()
	home := ""
	if h.engine == EnginePostgreSQL {
		var err error
		if home, err = h.homeSchema(ctx); err != nil {
			return err
		}
	}
	s, err := h.inspectTriggers(ctx, home)
	if err != nil {
		return err
	}
	var lacking []string
	for _, p := range h.planTriggers(s) {
		for _, c := range p.changes {
			verb, _, _ := strings.Cut(c, " ")
			if strings.Contains(c, " trigger ") && !strings.HasSuffix(c, " on "+auditTable) && !strings.HasSuffix(c, " on "+chainTable) && (verb != "replace" || h.engine == EnginePostgreSQL) {
				lacking = append(lacking, c)
			}
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return fmt.Errorf("%w: run `tenantgate migrate`, which would: %s", ErrSchema, joinSome(lacking))
}
