package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const cut = "2026-01-01T00:00:000021" // before a000021

func (r *rig) archive(path string) (Archived, error) {
	return Archive(r.t.Context(), r.host, r.keys, cut, path, time.Now(), nil)
}

func (r *rig) count(text string) (n int) {
	r.t.Helper()
	if r.host.Engine() == catalog.EngineSQLite {
		text = strings.ReplaceAll(text, "tenantgate.", "")
	}
	must(r.t, r.raw.QueryRowContext(r.t.Context(), text).Scan(&n))
	return n
}

func TestArchiveMovesRowsOutAndVerifyStillFindsTampering(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 40)
		before := r.checkpoint()
		r.exec("INSERT INTO sys_audit_logs (id, created_at) VALUES ('tail', '2020-01-01')") // not chained: it stays
		path := filepath.Join(t.TempDir(), "old.jsonl")
		done, err := r.archive(path)
		if err != nil || done.Rows != 20 || done.Deleted != 20 || done.Resumed {
			t.Fatalf("%+v, %v", done, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if n := r.count("SELECT count(*) FROM sys_audit_logs WHERE id LIKE 'a0_____'"); n != 20 {
			t.Errorf("%d rows are left", n)
		}
		if report := r.verify(before); report.Count != 0 || report.Archived != 20 {
			t.Errorf("before the record is chained: %s", summary(report))
		}
		r.chain()
		if report := r.verify(before); report.Count != 0 || report.Archived != 20 {
			t.Errorf("after: %s", summary(report))
		}
		if rows, checkpoint, err := VerifyFile(path, r.keys); err != nil || rows != 20 || !strings.HasPrefix(checkpoint, checkpointForm) {
			t.Errorf("the file: %d, %s, %v", rows, checkpoint, err)
		}
		var record string
		must(t, r.raw.QueryRowContext(t.Context(), "SELECT id FROM sys_audit_logs WHERE event_type = 'audit.archived'").Scan(&record))
		r.exec("CREATE TABLE kept_rows AS SELECT * FROM sys_audit_logs; CREATE TABLE kept_entries AS SELECT * FROM tenantgate.sys_audit_chain")
		for name, do := range map[string]string{
			"one more marked":      "UPDATE tenantgate.sys_audit_chain SET archived_by = '" + record + "' WHERE seq = 30; DELETE FROM sys_audit_logs WHERE id = 'a000029'",
			"a mark taken away":    "UPDATE tenantgate.sys_audit_chain SET archived_by = NULL WHERE seq = 10",
			"an archived id":       "UPDATE tenantgate.sys_audit_chain SET audit_id = 'other' WHERE seq = 10",
			"the record changed":   "UPDATE sys_audit_logs SET details = replace(details, '\"rows\":20', '\"rows\":21') WHERE event_type = 'audit.archived'",
			"the record removed":   "DELETE FROM sys_audit_logs WHERE event_type = 'audit.archived'",
			"a row behind it":      "UPDATE sys_audit_logs SET details = 'x' WHERE id = 'a000030'",
			"an archived row back": "INSERT INTO sys_audit_logs (id) VALUES ('a000005')",
		} {
			r.unguarded(do)
			if report := r.verify(); report.Count == 0 {
				t.Errorf("%s: found nothing", name)
			}
			r.unguarded("DELETE FROM sys_audit_logs; DELETE FROM tenantgate.sys_audit_chain; INSERT INTO sys_audit_logs SELECT * FROM kept_rows; " +
				"INSERT INTO tenantgate.sys_audit_chain SELECT * FROM kept_entries; DELETE FROM tenantgate.sys_audit_queue")
		}
		// Somebody who is the owner, but has no key, writes a record of a deletion of his own.
		r.forgeArchive(30)
		if report := r.verify(); !strings.Contains(summary(report), "archive_forged 30") {
			t.Errorf("forged: %s", summary(report))
		}
	})
}

// forgeArchive deletes the row of an entry as an archive would, signed with another key, and chains everything anew.
func (r *rig) forgeArchive(seq int64) {
	r.t.Helper()
	other := &Keys{all: []signingKey{{r.keys.all[0].id, newRig(r.t, "sqlite:"+filepath.Join(r.t.TempDir(), "x.db")).keys.all[0].private}}}
	must(r.t, r.host.ReadAudit(r.t.Context(), func(s *catalog.AuditSnapshot) error {
		return s.Entries(r.t.Context(), seq-1, func(e *catalog.ChainEntry, _ *catalog.AuditRow) error {
			if e.Seq != seq {
				return nil
			}
			a := archiveState{digest: sha256.New(), first: e.Seq}
			a.add(e.Seq, e.Hash)
			rec := record{Before: cut, Rows: 1, FirstSeq: seq, LastSeq: seq, Digest: a.sum(), File: "f"}
			rec.Key, rec.Signature = other.sign(rec.body("forged"))
			text, err := json.Marshal(rec)
			must(r.t, err)
			defer r.unguarded(fmt.Sprintf("UPDATE tenantgate.sys_audit_chain SET archived_by = 'forged' WHERE seq = %d; DELETE FROM sys_audit_logs WHERE id = '%s'", seq, e.AuditID.Text))
			r.exec("INSERT INTO sys_audit_logs (id, event_type, details) VALUES ('forged', 'audit.archived', '" + string(text) + "')")
			return nil
		})
	}))
	r.chain()
}

// A run that was killed after the file stood, or between two deletions, is finished by the same call.
func TestArchiveFinishesWhatWasBegun(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 40)
		path := filepath.Join(t.TempDir(), "old.jsonl")
		must(t, os.WriteFile(path+".partial", []byte("of a run that was killed"), 0o600))
		must(t, WriteFile(path, func(w io.Writer) error {
			_, err := writeArchive(t.Context(), r.host, r.keys, cut, time.Now(), w)
			return err
		}))
		sealed, err := readArchive(path, r.keys, nil)
		must(t, err)
		var some []catalog.ArchivedEntry
		must(t, errOf(readArchive(path, r.keys, func(e *catalog.ChainEntry, _ int) error {
			if len(some) < 7 {
				some = append(some, catalog.ArchivedEntry{Seq: e.Seq, ID: catalog.AuditID(e.AuditID.Text), RowHash: e.RowHash, Hash: e.Hash})
			}
			return nil
		})))
		must(t, errOf(deleteArchived(t.Context(), r.host, r.keys, sealed, some)))
		if report := r.verify(); report.Count != 0 {
			t.Errorf("half way: %s", summary(report))
		}
		if _, err := Archive(t.Context(), r.host, r.keys, "2026-02", path, time.Now(), nil); err == nil {
			t.Error("another time, the same file: done")
		}
		done, err := r.archive(path)
		if err != nil || !done.Resumed || done.Rows != 20 || done.Deleted != 13 {
			t.Fatalf("%+v, %v", done, err)
		}
		again, err := r.archive(path)
		if err != nil || again.Deleted != 0 {
			t.Fatalf("once more: %+v, %v", again, err)
		}
		r.chain()
		if report := r.verify(); report.Count != 0 || report.Archived != 20 {
			t.Errorf("after: %s", summary(report))
		}
	})
}

func errOf[T any](_ T, err error) error { return err }

func TestArchiveDeletesNothingThatIsNotSafe(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 40)
		dir := t.TempDir()
		rows := func() int { return r.count("SELECT count(*) FROM sys_audit_logs") }
		was := rows()
		must(t, os.WriteFile(filepath.Join(dir, "theirs"), []byte("a file of somebody"), 0o600))
		if _, err := r.archive(filepath.Join(dir, "theirs")); err == nil {
			t.Error("over another file: done")
		}
		if _, err := r.archive(filepath.Join(dir, "none", "x")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no directory: %v", err)
		}
		path := filepath.Join(dir, "cut")
		must(t, WriteFile(path, func(w io.Writer) error {
			_, err := writeArchive(t.Context(), r.host, r.keys, cut, time.Now(), w)
			return err
		}))
		text, err := os.ReadFile(path)
		must(t, err)
		for name, bad := range map[string][]byte{
			"cut off": text[:len(text)/2], "without its end": text[:bytes.LastIndex(text[:len(text)-1], []byte("\n"))+1],
			"a bit": bytes.Replace(text, []byte("u1"), []byte("u2"), 1), "a line gone": text[bytes.IndexByte(text, '\n')+1:],
			"more behind": append(bytes.Clone(text), text...), "a lesser seal": bytes.Replace(text, []byte(`"rows":20`), []byte(`"rows":19`), 1),
			"another time": bytes.Replace(text, []byte(`{"archive":{"before":"2026`), []byte(`{"archive":{"before":"2027`), 1),
		} {
			if _, err := readLines(bytes.NewReader(bad), r.keys, nil); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		must(t, os.Remove(path))
		r.unguarded("UPDATE sys_audit_logs SET details = 'forged' WHERE id = 'a000030'")
		if _, err := r.archive(path); !errors.Is(err, ErrTampered) {
			t.Errorf("tampered with: %v", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file: %v", err)
		}
		if n := rows(); n != was {
			t.Errorf("%d rows of %d", n, was)
		}
	})
}

func TestExportHoldsEveryRowAsItIs(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 5)
		r.exec("INSERT INTO sys_audit_logs (id, details, event_type) VALUES ('odd', '=1+1;\"<é>\u2028', '')")
		r.chain()
		r.exec("INSERT INTO sys_audit_logs (id) VALUES ('tail')")
		var out bytes.Buffer
		done, err := Export(t.Context(), r.host, &out, JSONLines)
		if err != nil || done.Rows != 8 || done.Tail != 1 || done.Missing != 0 {
			t.Fatalf("%+v, %v", done, err)
		}
		var h hasher
		seq := int64(0)
		in := newLineReader(&out, sha256.New())
		for range 8 {
			l, err := in.line()
			must(t, err)
			if l.row[0].Text == "tail" {
				continue
			}
			err = l.check(&h)
			if seq++; err != nil || l.entry.Seq != seq {
				t.Errorf("%v: %v", l.entry, err)
			}
		}
		if seq != 7 {
			t.Errorf("%d chained", seq)
		}
		out.Reset()
		must(t, errOf(Export(t.Context(), r.host, &out, CSV)))
		all, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(all) != 9 || all[0][0] != "id" || all[7][4] != "=1+1;\"<é>\u2028" || all[8][7] != "" {
			t.Errorf("%q, %v", all, err)
		}
	})
}
