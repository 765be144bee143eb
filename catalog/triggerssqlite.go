package catalog

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// liteTrigger is one trigger of SQLite.
type liteTrigger struct{ name, text string }

// announcingOnSQLite are the triggers of a watched table. What they run is within SQLite 3.31.
func (h *HostDatabase) announcingOnSQLite(w watched, columns []string) []liteTrigger {
	fill := h.liteFiller(w, columns)
	var all []liteTrigger
	for _, event := range []string{"insert", "replace", "displace", "update", "delete"} {
		all = append(all, liteTrigger{"tenantgate_" + w.name + "_" + event, fill("sqlite_trigger_" + event)})
	}
	return all
}

// keepingOnSQLite are the triggers that have a table's rows stay, and those of the log chained. Whoever can write to the
// file can drop them.
func (h *HostDatabase) keepingOnSQLite(w watched) []liteTrigger {
	fill := h.liteFiller(w, nil)
	events := []string{"keep", "keep_deleted", "keep_replaced"}
	if w.name == auditTable {
		events = append(events, "enqueue")
	}
	var all []liteTrigger
	for _, event := range events {
		all = append(all, liteTrigger{"tenantgate_" + w.name + "_" + event, fill("sqlite_trigger_" + event)})
	}
	return all
}

func (h *HostDatabase) liteFiller(w watched, columns []string) func(string) string {
	var differ, moves, clashes, keysDiffer []string
	for _, c := range columns {
		differ = append(differ, "OLD."+quoted(c)+" IS NOT NEW."+quoted(c))
	}
	for _, k := range w.keys {
		if k != "" {
			keysDiffer = append(keysDiffer, "OLD."+quoted(k)+" IS NOT NEW."+quoted(k))
		}
	}
	for _, set := range w.unique {
		var equal, moved []string
		for c := range strings.SplitSeq(set, ",") {
			equal = append(equal, "r."+quoted(c)+" = NEW."+quoted(c))
			moved = append(moved, "OLD."+quoted(c)+" IS NOT NEW."+quoted(c))
		}
		if set == "oauth_id" {
			equal = append(equal, "r."+quoted(set)+" <> ''") // where that index is
		}
		clashes = append(clashes, "("+strings.Join(equal, " AND ")+")")
		moves = append(moves, moved...)
	}
	// NEW.rowid is -1 before an INSERT that names none.
	clashes = append(clashes, "(r.rowid = NEW.rowid AND NEW.rowid <> -1)")
	moves = append(moves, "OLD.rowid <> NEW.rowid")
	words := strings.NewReplacer(
		"{new_keys}", w.keyList("NEW."), "{old_keys}", w.keyList("OLD."), "{row_keys}", w.keyList("r."),
		"{keys_differ}", strings.Join(keysDiffer, " OR "), "{clashes}", strings.Join(clashes, " OR "),
		"{moves}", strings.Join(moves, " OR "), "{differs}", strings.Join(differ, " OR "),
		"{kind}", string(w.kind), "{version}", strconv.Itoa(triggerVersion), "{name}", w.name,
	)
	return func(name string) string { return words.Replace(h.queries[name]) }
}

// planOnSQLite compares by text: SQLite keeps a trigger as it was written.
func (h *HostDatabase) planOnSQLite(s triggerState, table string, wanted []liteTrigger) triggerPlan {
	p := triggerPlan{table: table}
	for _, w := range wanted {
		found, there := s.triggers[w.name]
		switch {
		case !there:
			p.changes = append(p.changes, "create trigger "+w.name+" on "+table)
		case found.text == w.text || versionOf(found.text) > triggerVersion:
			continue
		default:
			p.changes = append(p.changes, "replace trigger "+w.name+" on "+table)
		}
		p.statements = append(p.statements, "DROP TRIGGER IF EXISTS "+w.name, w.text)
	}
	return p
}

func (s triggerState) collectSQLite(rows *sql.Rows) error {
	for rows.Next() {
		var name string
		var f foundTrigger
		if err := rows.Scan(&name, &f.text); err != nil {
			return err
		}
		s.triggers[name] = f
	}
	return rows.Err()
}

// makeTriggersSQLite makes all that lacks in one transaction, so that at no moment a table has some of them.
func (h *HostDatabase) makeTriggersSQLite(ctx context.Context) (done []string, err error) {
	tx, err := h.write.BeginTx(ctx, nil) // as the writer: others have ended, or wait
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing; before, the reason is on its way already
	s, err := h.inspectTriggers(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, p := range h.planTriggers(s) {
		for _, statement := range p.statements {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return nil, err
			}
		}
		done = append(done, p.changes...)
	}
	return done, tx.Commit()
}
