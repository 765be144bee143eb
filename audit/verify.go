package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
)

// Kinds of findings.
const (
	RowChanged     = "row_changed"     // a row is not what was chained
	RowRemoved     = "row_removed"     // a row that was chained is gone
	RowInserted    = "row_inserted"    // a row is in no entry and does not wait to be chained: it was put in past the trigger
	RowReturned    = "row_returned"    // a row that was archived, or gone, is there
	EntryRewritten = "entry_rewritten" // an entry does not follow from the one before it
	EntryMissing   = "entry_missing"   // entries are gone from between
	ChainCut       = "chain_cut"       // the chain ends before a checkpoint
	ChainRewritten = "chain_rewritten" // the chain is not the one that a checkpoint was made of
	ArchiveForged  = "archive_forged"  // what is marked as archived is not what a record of this host database says
)

// Finding is something that was tampered with.
type Finding struct {
	Kind string `json:"kind"`
	Seq  int64  `json:"seq,omitempty"` // of the entry, 0 for none
	ID   string `json:"id,omitempty"`  // of the audit row
	What string `json:"what"`
}

// maxFindings bounds the findings that are listed; all are counted.
const maxFindings = 1000

// Report is what Verify saw.
type Report struct {
	Entries  int64 // of the chain
	Rows     int64 // of the log
	Tail     int64 // rows that are not chained yet
	Archived int64 // entries whose rows were archived
	// Backfilled: the rows that were there before the chain are all in it. Until then they count as tail.
	Backfilled bool
	// Unsigned is how many archives' signatures were not looked at, for want of the keys.
	Unsigned int
	Head     catalog.ChainHead
	Count    int // of findings
	Findings []Finding
}

func (r *Report) add(kind string, seq int64, id, format string, args ...any) {
	r.Count++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{kind, seq, short(id), fmt.Sprintf(format, args...)})
	}
}

// maxID bounds an id in a finding, in bytes: SQLite takes one of any length.
const maxID = 500

func short(id string) string {
	if len(id) <= maxID {
		return id
	}
	return strings.ToValidUTF8(id[:maxID], "") + "…"
}

// Verify reads log and chain as they stand at one moment and reports what does not fit. keys may be nil: then what is
// signed is not looked at, and checkpoints must be none. It holds one row at a time, however large,
// and of rows without an id, which SQLite allows, a hash each. The error says that it
// could not be done, not what it found.
func Verify(ctx context.Context, host *catalog.HostDatabase, keys *Keys, checkpoints []Checkpoint, progress func(entries int64)) (Report, error) {
	var r Report
	err := host.ReadAudit(ctx, func(s *catalog.AuditSnapshot) error {
		v := newVerifier(keys, checkpoints)
		v.progress = progress
		err := v.all(ctx, s)
		r = v.report
		return err
	})
	return r, err
}

// verifier goes through the chain entry by entry.
type verifier struct {
	hash        hasher
	keys        *Keys
	checkpoints map[int64][]Checkpoint
	report      Report
	progress    func(int64)
	// kept sees each entry whose row is there, has an id and is what was chained; nil: nobody wants them.
	kept func(e *catalog.ChainEntry, previous string, row *catalog.AuditRow) error

	at       entryState
	stored   string         // the hash of the entry before, as stored
	derived  string         // and as it follows from what it holds
	linked   bool           // there is no gap before
	rows     int64          // rows that entries have
	nameless map[string]int // rows without an id, by their hash
	archives map[string]*archiveState
}

// entryState is the entry at hand, with what was seen of its rows.
type entryState struct {
	catalog.ChainEntry
	rows    int
	fits    bool
	other   string            // the hash of a row that does not fit
	fitting *catalog.AuditRow // where somebody wants it
	record  *record           // the row is the record of an archive
}

// archiveState is what is marked as one record's, and that record once it was seen.
type archiveState struct {
	count, first, last int64
	digest             hash.Hash
	record             *record
}

func newVerifier(keys *Keys, checkpoints []Checkpoint) *verifier {
	v := &verifier{
		keys: keys, linked: true, checkpoints: map[int64][]Checkpoint{}, nameless: map[string]int{},
		archives: map[string]*archiveState{},
	}
	for _, c := range checkpoints {
		v.checkpoints[c.Seq] = append(v.checkpoints[c.Seq], c)
	}
	return v
}

// progressEvery is how many entries go by between two calls of progress.
const progressEvery = 100_000

func (v *verifier) all(ctx context.Context, s *catalog.AuditSnapshot) error {
	err := s.Nameless(ctx, func(_ int64, row *catalog.AuditRow) error {
		v.nameless[v.hash.row(row)]++
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.Entries(ctx, math.MinInt64, v.entry); err != nil {
		return err
	}
	if err := v.finish(); err != nil {
		return err
	}
	if err := v.unchained(ctx, s); err != nil {
		return err
	}
	v.archived()
	v.ends()
	return nil
}

// entry takes an entry with one of its rows.
func (v *verifier) entry(e *catalog.ChainEntry, row *catalog.AuditRow) error {
	if v.at.Seq != e.Seq || v.report.Entries == 0 {
		if err := v.finish(); err != nil {
			return err
		}
		v.report.Entries++
		v.at = entryState{ChainEntry: *e}
		if v.progress != nil && v.report.Entries%progressEvery == 0 {
			v.progress(v.report.Entries)
		}
	}
	if e.AuditID.Kind == catalog.AuditNull && v.nameless[e.RowHash] > 0 {
		v.nameless[e.RowHash]--
		v.at.rows++
		v.at.fits = true
	}
	if row == nil {
		return nil
	}
	v.at.rows++
	h := v.hash.row(row)
	if h != e.RowHash {
		v.at.other = h
		return nil
	}
	v.at.fits = true
	v.at.record = v.recordOf(row)
	if v.kept != nil {
		held := *row
		v.at.fitting = &held
	}
	return nil
}

// recordOf is what a row says as the record of an archive whose marks were seen; a record comes behind what it is about. nil
// for other rows.
func (v *verifier) recordOf(row *catalog.AuditRow) *record {
	if row[2].Text != archivedEvent || v.archives[row[0].Text] == nil {
		return nil
	}
	r, err := parseRecord(row[4].Text)
	if err != nil {
		r = record{} // says nothing that is right
	}
	return &r
}

// finish judges the entry at hand.
func (v *verifier) finish() error {
	if v.report.Entries == 0 {
		return nil
	}
	e := &v.at
	if e.Seq < 1 { // no entry of ours: it makes no row a chained one
		v.report.add(EntryRewritten, e.Seq, e.AuditID.Text, "entry %d was put in before the first", e.Seq)
		if e.rows > 0 {
			v.rows++
		}
		return nil
	}
	if want := v.report.Head.Seq + 1; e.Seq != want {
		v.report.add(EntryMissing, want, "", "entries %d to %d are gone", want, e.Seq-1)
		v.linked = false
	}
	previous, mistaken := v.link(e)
	if e.rows > 0 {
		v.rows++
	}
	v.judgeRow(e, mistaken)
	for _, c := range v.checkpoints[e.Seq] {
		if c.Hash != e.Hash {
			v.report.add(ChainRewritten, e.Seq, "", "the chain up to entry %d is not the one that the checkpoint of %s was made of", e.Seq, c.At)
		}
	}
	v.report.Head = catalog.ChainHead{Seq: e.Seq, Hash: e.Hash}
	if !e.fits || e.Archived.Kind != catalog.AuditNull {
		return nil
	}
	if e.record != nil {
		v.archives[e.AuditID.Text].record = e.record
	}
	if e.fitting != nil {
		return v.kept(&e.ChainEntry, previous, e.fitting)
	}
	return nil
}

// link judges whether an entry follows from the one before. Where its row's hash alone was rewritten, mistaken is true:
// the row is what was chained. previous is the hash that it follows.
func (v *verifier) link(e *entryState) (previous string, mistaken bool) {
	defer func() { v.stored, v.linked = e.Hash, true }()
	derived := v.hash.entry(v.stored, &e.ChainEntry)
	if !v.linked || derived == e.Hash {
		v.derived = e.Hash
		return v.stored, false
	}
	if v.derived != v.stored && v.hash.entry(v.derived, &e.ChainEntry) == e.Hash {
		previous = v.derived
		v.derived = e.Hash
		return previous, false
	}
	whole := e.ChainEntry
	whole.RowHash = e.other
	if e.other != "" && v.hash.entry(v.stored, &whole) == e.Hash {
		mistaken = true
	}
	v.report.add(EntryRewritten, e.Seq, e.AuditID.Text, "entry %d was rewritten", e.Seq)
	v.derived = derived
	return v.stored, mistaken
}

func (v *verifier) judgeRow(e *entryState, mistaken bool) {
	id := e.AuditID.Text
	if e.Archived.Kind != catalog.AuditNull {
		v.markArchived(e)
		if e.rows > 0 {
			v.report.add(RowReturned, e.Seq, id, "row %s was archived and is there again", name(e.AuditID))
		}
		return
	}
	switch {
	case e.RowHash == "" && e.rows > 0 && !e.fits:
		v.report.add(RowReturned, e.Seq, id, "row %s was gone before it was chained and is there again", name(e.AuditID))
	case e.RowHash == "":
		v.report.add(RowRemoved, e.Seq, id, "row %s was removed before it was chained", name(e.AuditID))
	case e.rows == 0:
		v.report.add(RowRemoved, e.Seq, id, "row %s was removed", name(e.AuditID))
	case !e.fits && !mistaken:
		v.report.add(RowChanged, e.Seq, id, "row %s was changed", name(e.AuditID))
	}
}

func name(id catalog.AuditValue) string {
	if id.Kind == catalog.AuditNull {
		return "without an id"
	}
	return fmt.Sprintf("%q", short(id.Text))
}

// markArchived adds an entry to what its mark says.
func (v *verifier) markArchived(e *entryState) {
	v.report.Archived++
	a := v.archives[e.Archived.Text]
	if a == nil {
		a = &archiveState{digest: sha256.New(), first: e.Seq}
		v.archives[e.Archived.Text] = a
	}
	a.add(e.Seq, e.Hash)
}

// add takes an entry into the digest: seq in eight bytes, big-endian, and its hash as text.
func (a *archiveState) add(seq int64, hash string) {
	a.count++
	a.last = seq
	_, _ = a.digest.Write(binary.BigEndian.AppendUint64(nil, uint64(seq))) // a hash never fails
	_, _ = a.digest.Write([]byte(hash))
}

func (a *archiveState) sum() string { return hex.EncodeToString(a.digest.Sum(nil)) }

// unchained counts the tail, and names what is in no entry and does not wait.
func (v *verifier) unchained(ctx context.Context, s *catalog.AuditSnapshot) (err error) {
	r := &v.report
	if r.Rows, err = s.Rows(ctx); err != nil {
		return err
	}
	if r.Backfilled, err = s.Backfilled(ctx); err != nil {
		return err
	}
	waiting, err := s.Waiting(ctx)
	if err != nil {
		return err
	}
	loose := r.Rows - v.rows
	r.Tail = loose
	missing := v.missingRecords()
	if (!r.Backfilled || loose == waiting) && !missing {
		return nil
	}
	if r.Backfilled {
		r.Tail = waiting
	}
	named := int64(0)
	err = s.Unchained(ctx, func(waits bool, row *catalog.AuditRow) error {
		if record := v.recordOf(row); record != nil {
			v.archives[row[0].Text].record = record
		}
		if r.Backfilled && !waits {
			named++
			r.add(RowInserted, 0, row[0].Text, "row %s is in no entry of the chain and does not wait for one: it was put in", name(row[0]))
		}
		return nil
	})
	if err != nil || !r.Backfilled {
		return err
	}
	switch more := loose - waiting - named; {
	case more > 0:
		r.add(RowInserted, 0, "", "%d rows without an id are in no entry of the chain: they were put in", more)
	case more < 0:
		r.add(RowInserted, 0, "", "%d entries are of rows that have an entry already", -more)
	}
	return nil
}

// missingRecords says whether there are marks of an archive whose record is in no entry yet.
func (v *verifier) missingRecords() bool {
	for _, a := range v.archives {
		if a.record == nil {
			return true
		}
	}
	return false
}

// archived compares what is marked with what the records say.
func (v *verifier) archived() {
	for id, a := range v.archives {
		record := a.record
		if record == nil {
			v.report.add(ArchiveForged, a.first, id, "%d rows from entry %d to %d are marked as archived, and there is no record of it", a.count, a.first, a.last)
			continue
		}
		if record.Rows != a.count || record.FirstSeq != a.first || record.LastSeq != a.last || record.Digest != a.sum() {
			v.report.add(ArchiveForged, a.first, id, "%d rows from entry %d to %d are marked as archived, and the record says otherwise", a.count, a.first, a.last)
			continue
		}
		switch {
		case v.keys == nil:
			v.report.Unsigned++
		case !v.keys.verify(record.Key, record.body(id), record.Signature):
			v.report.add(ArchiveForged, a.first, id, "the record of an archive, %q, is not signed by this host database's key", short(id))
		}
	}
}

// ends looks whether the chain reaches as far as the checkpoints.
func (v *verifier) ends() {
	head := v.report.Head
	for seq, all := range v.checkpoints {
		if seq > head.Seq {
			v.report.add(ChainCut, seq, "", "the chain ends with entry %d; entries %d to %d, of which there is a checkpoint of %s, were cut off", head.Seq, head.Seq+1, seq, all[0].At)
		}
	}
}
