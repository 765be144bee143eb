package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

var (
	largeRows = flag.Int("large-rows", 5, "how many large rows the memory test uses on each engine")
	largeMB   = flag.Int("large-mb", 7, "their size in MiB")
)

// heap measures what is held: the live heap when it is asked, at its highest.
type heap struct {
	base, high uint64
	written    int
}

func live() uint64 {
	runtime.GC()
	runtime.GC() // pools give what they hold up in two rounds
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h *heap) look() { h.high = max(h.high, live()) }

func (h *heap) held() int { return max(int(h.high)-int(h.base), 0) }

// Write measures every few megabytes.
func (h *heap) Write(p []byte) (int, error) {
	if h.written += len(p); h.written > *largeMB<<20/4 {
		h.written = 0
		h.look()
	}
	return len(p), nil
}

// insertLarge makes a row whose details are a text, n times.
func (r *rig) insertLarge(id, text string, n int) {
	r.t.Helper()
	details := "repeat('%s', %d)"
	if r.host.Engine() == catalog.EngineSQLite {
		details = "replace(printf('%%.*c', %[2]d, 'X'), 'X', '%[1]s')"
	}
	r.exec(fmt.Sprintf("INSERT INTO sys_audit_logs (id, details, created_at) VALUES ('"+id+"', "+details+", '2026-01-01')", text, n))
}

// oneAtATime fails if more than two rows were held, with room for what a driver reads one into: up to twice as much.
func oneAtATime(t *testing.T, what string, h *heap) {
	t.Helper()
	t.Logf("%s: held at most %d MiB of %d", what, h.held()>>20, *largeRows**largeMB)
	if limit := *largeMB << 20 * 4; h.held() > limit {
		t.Errorf("%s: held %d MiB, more than %d", what, h.held()>>20, limit>>20)
	}
}

// However large the rows are that wait, the chain holds them one at a time, and each transaction takes few.
func TestLargeRowsAreChainedOneAtATime(t *testing.T) {
	for _, engine := range engines() {
		t.Run(engine.name, func(t *testing.T) { // not beside others: memory is the process's
			r := newRig(t, engine.url(t))
			r.chain()
			for i := range *largeRows {
				r.insertLarge(fmt.Sprint("large", i), "0123456789abcdef", *largeMB<<20/16)
			}
			r.insert(1, 20)
			h := &heap{base: live()}
			var hash hasher
			steps, chained := 0, 0
			for more := true; more; steps++ {
				look, err := r.host.Chain(t.Context(), catalog.Chaining{
					Rows: chainRows, Bytes: chainBytes,
					HashOf: func(row *catalog.AuditRow) string {
						if len(row[4].Text) > 1<<20 {
							h.look()
						}
						return hash.row(row)
					},
					Link: func(head catalog.ChainHead, rows []catalog.UnchainedRow) []catalog.ChainEntry {
						return link(head, rows, "t")
					},
				})
				must(t, err)
				chained += look.Chained
				more = look.More
			}
			if chained != *largeRows+20 || steps < *largeRows {
				t.Errorf("%d rows in %d transactions", chained, steps)
			}
			oneAtATime(t, "chain", h)
			h = &heap{base: live()}
			must(t, errOf(Export(t.Context(), r.host, h, JSONLines)))
			oneAtATime(t, "export", h)
			h = &heap{base: live()}
			must(t, errOf(Export(t.Context(), r.host, h, CSV)))
			oneAtATime(t, "export as CSV", h)
			f, err := os.Create(filepath.Join(t.TempDir(), "old.jsonl"))
			must(t, err)
			defer f.Close()
			h = &heap{base: live()}
			must(t, errOf(writeArchive(t.Context(), r.host, r.keys, "9", time.Now(), io.MultiWriter(h, f))))
			oneAtATime(t, "archive", h)
			must(t, errOf(f.Seek(0, io.SeekStart)))
			h = &heap{base: live()}
			must(t, errOf(readLines(io.TeeReader(f, h), r.keys, nil)))
			oneAtATime(t, "read the archive", h)
		})
	}
}

// A row of control characters is six times as long in JSON. It is archived, which reads it back, and verified all the same.
func TestARowOfControlCharactersIsArchived(t *testing.T) {
	r := newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	r.insertLarge("control", "\x01\x1f", 6<<20)
	r.exec("INSERT INTO sys_audit_logs (id, created_at) VALUES ('after', '2026-01-01')")
	r.chain()
	path := filepath.Join(t.TempDir(), "old.jsonl")
	done, err := Archive(t.Context(), r.host, r.keys, "2026-01-02", path, time.Now(), nil)
	if err != nil || done.Rows != 2 || done.Deleted != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	r.chain()
	if report := r.verify(); report.Count != 0 || report.Archived != 2 {
		t.Errorf("%s", summary(report))
	}
}

// The hash of a value does not depend on how it was cut into pieces; what was hashed before long values were is still that.
func TestHashOfALongRow(t *testing.T) {
	var h hasher
	for _, n := range []int{0, 1, maxBuffer - 60, maxBuffer - 1, maxBuffer, maxBuffer + 1, 3*maxBuffer + 7} {
		row := catalog.AuditRow{{Kind: catalog.AuditText, Text: strings.Repeat("x", n)}, {}, {Kind: catalog.AuditBytes, Text: "\x00\xff"}}
		plain := []byte(rowForm)
		for _, v := range row {
			plain = append(plain, byte(v.Kind))
			if v.Kind != catalog.AuditNull {
				plain = append(plain, 0, 0, 0, 0, 0, byte(len(v.Text)>>16), byte(len(v.Text)>>8), byte(len(v.Text)))
				plain = append(plain, v.Text...)
			}
		}
		want := sha256.Sum256(plain)
		if got := h.row(&row); got != hex.EncodeToString(want[:]) {
			t.Errorf("%d bytes: %s", n, got)
		}
	}
}

// A row that cannot be read, from a page that is damaged, is said and keeps no other from being chained; whole again, it
// follows.
func TestARowThatCannotBeReadKeepsNoOtherFromBeingChained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.db")
	r := newRig(t, "sqlite:"+path)
	r.chain()
	r.exec("INSERT INTO sys_audit_logs (id, details) VALUES ('damaged', replace(hex(zeroblob(100000)), '00', 'QQ'))")
	r.exec("INSERT INTO sys_audit_logs (id) VALUES ('after')")
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	mend := damage(t, path)
	now := time.Now()
	c := &Chain{rows: chainRows, deps: Deps{Host: r.host, Keys: r.keys, Clock: func() time.Time { return now }}}
	c.clear = now
	failed := 0
	for range 20 {
		if c.look(t.Context()) != nil {
			failed++
		}
	}
	if n := r.count("SELECT count(*) FROM sys_audit_chain WHERE audit_id = 'after'"); n != 1 || failed == 0 {
		t.Fatalf("chained %d, failed %d times", n, failed)
	}
	if now = now.Add(time.Second); c.Stats().Lag == 0 {
		t.Error("nothing tells that a row is not chained")
	}
	mend()
	now = now.Add(wholeEvery)
	must(t, c.look(t.Context()))
	if report := r.verify(); report.Count != 0 || report.Tail != 0 {
		t.Errorf("mended: %s, tail %d", summary(report), report.Tail)
	}
}

// damage makes the row that is full of Q unreadable, by a page of its that leads nowhere.
func damage(t *testing.T, path string) (mend func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	text, err := io.ReadAll(f)
	must(t, err)
	const page = 4096
	for at := 0; at+page <= len(text); at += page {
		if bytes.Count(text[at+4:at+page], []byte("Q")) == page-4 {
			must(t, errOf(f.WriteAt([]byte{0x7f, 0xff, 0xff, 0xff}, int64(at))))
			return func() { must(t, errOf(f.WriteAt(text[at:at+4], int64(at)))) }
		}
	}
	t.Fatal("no such page")
	return nil
}
