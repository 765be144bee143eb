package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// fileForm begins what is signed of a file.
	fileForm = "tenantgate-archive-file-1"
	// lastLineBegin begins the last line of a file, and no other.
	lastLineBegin = `{"archive":`
	// archiveRows and archiveBytes bound one transaction of an archive: SQLite's other writers wait no longer than it takes. A
	// row that is larger comes alone.
	archiveRows  = 1000
	archiveBytes = 8 << 20
)

// ErrTampered: the log is not what was chained, so nothing of it is archived.
var ErrTampered = errors.New("the log was tampered with: nothing is archived; run `tenantgate audit verify`")

// Archived is what Archive did.
type Archived struct {
	Rows    int64  // in the file
	Deleted int64  // by this run
	Resumed bool   // the file was there, from a run that did not end
	SHA256  string // of the lines of rows
}

// seals is the last line of an archive's file: what its lines are, and how far the chain was, signed.
type seals struct {
	Before     string `json:"before"`
	Rows       int64  `json:"rows"`
	SHA256     string `json:"sha256"` // of all lines before this one
	Checkpoint string `json:"checkpoint"`
	Key        string `json:"key"`
	PublicKey  string `json:"public_key"` // Ed25519, base64url: verify only with one that you know from elsewhere
	Signature  string `json:"signature"`
}

func (s *seals) body() string {
	return fmt.Sprintf("%s/%s/%d/%s/%s", fileForm, s.Before, s.Rows, s.SHA256, s.Checkpoint)
}

type lastLine struct {
	Archive *seals `json:"archive"`
}

// Archive moves rows out of the log: it writes those whose created_at is before that time (see catalog.Timestamp) and that
// are chained to a new file, reads the file again, and only then deletes them, in short transactions that each leave a
// signed record. Rows without an id or a created_at, and records, stay. Where anything in the log does not fit its chain
// nothing is done (ErrTampered). Killed at any moment, the same call finishes: it takes the file that is there if it is
// whole. It holds a row or two at a time, however large. ctx names the actor.
func Archive(ctx context.Context, host *catalog.HostDatabase, keys *Keys, before, path string, now time.Time, progress func(rows int)) (Archived, error) {
	done := Archived{}
	err := WriteFile(path, func(w io.Writer) error {
		n, err := writeArchive(ctx, host, keys, before, now, w)
		if err == nil && n == 0 {
			err = errNothing
		}
		return err
	})
	switch {
	case errors.Is(err, errNothing):
		return done, nil
	case errors.Is(err, fs.ErrExist):
		done.Resumed = true
	case err != nil:
		return done, err
	}
	sealed, err := readArchive(path, keys, nil)
	if err != nil {
		return done, fmt.Errorf("%s: %w; no row was deleted", path, err)
	}
	if sealed.Before != before {
		return done, fmt.Errorf("%s is an archive of what is before %s: name another file", path, sealed.Before)
	}
	done.Rows, done.SHA256 = sealed.Rows, sealed.SHA256
	batch, bytes := make([]catalog.ArchivedEntry, 0, archiveRows), 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		n, err := deleteArchived(ctx, host, keys, sealed, batch)
		done.Deleted += int64(n)
		batch, bytes = batch[:0], 0
		if err == nil && progress != nil {
			progress(n)
		}
		return err
	}
	_, err = readArchive(path, keys, func(e *catalog.ChainEntry, size int) error {
		if bytes+size > archiveBytes || len(batch) == archiveRows {
			if err := flush(); err != nil {
				return err
			}
		}
		bytes += size
		batch = append(batch, catalog.ArchivedEntry{Seq: e.Seq, ID: catalog.AuditID(e.AuditID.Text), RowHash: e.RowHash, Hash: e.Hash})
		return nil
	})
	if err == nil {
		err = flush()
	}
	return done, err
}

var errNothing = errors.New("nothing to archive")

// writeArchive writes the rows of an archive and its last line.
func writeArchive(ctx context.Context, host *catalog.HostDatabase, keys *Keys, before string, now time.Time, w io.Writer) (n int64, err error) {
	sum := sha256.New()
	lines := newLineWriter(io.MultiWriter(w, sum))
	var head catalog.ChainHead
	err = host.ReadAudit(ctx, func(s *catalog.AuditSnapshot) error {
		v := newVerifier(keys, nil)
		v.kept = func(e *catalog.ChainEntry, previous string, row *catalog.AuditRow) error {
			if row[0].Kind != catalog.AuditText || row[6].Kind != catalog.AuditText || row[6].Text == "" || row[6].Text >= before ||
				row[2].Text == archivedEvent {
				return nil
			}
			n++
			return lines.write(&line{row, e, previous})
		}
		if err := v.all(ctx, s); err != nil {
			return err
		}
		if head = v.report.Head; v.report.Count > 0 {
			return fmt.Errorf("%w: %d findings, the first: %s", ErrTampered, v.report.Count, v.report.Findings[0].What)
		}
		return lines.flush()
	})
	if err != nil || n == 0 {
		return n, err
	}
	s := &seals{Before: before, Rows: n, SHA256: hex.EncodeToString(sum.Sum(nil)), Checkpoint: keys.Sign(newCheckpoint(head, now))}
	s.Key, s.Signature = keys.sign(s.body())
	s.PublicKey = keys.PublicKeys()[s.Key]
	return n, json.NewEncoder(w).Encode(lastLine{s})
}

// deleteArchived deletes the rows of some of a file's lines.
func deleteArchived(ctx context.Context, host *catalog.HostDatabase, keys *Keys, sealed *seals, entries []catalog.ArchivedEntry) (int, error) {
	var h hasher
	return host.ArchiveAudit(ctx, catalog.Archiving{
		Entries: entries, HashOf: h.row, Event: archivedEvent,
		Details: func(id string, entries []catalog.ArchivedEntry) (map[string]any, error) {
			a := archiveState{digest: sha256.New(), first: entries[0].Seq}
			for _, e := range entries {
				a.add(e.Seq, e.Hash)
			}
			r := record{Before: sealed.Before, Rows: a.count, FirstSeq: a.first, LastSeq: a.last, Digest: a.sum(), File: sealed.SHA256}
			r.Key, r.Signature = keys.sign(r.body(id))
			return map[string]any{
				"before": r.Before, "rows": r.Rows, "first_seq": r.FirstSeq, "last_seq": r.LastSeq, "digest": r.Digest,
				"file": r.File, "key": r.Key, "signature": r.Signature,
			}, nil
		},
	})
}

// readArchive reads a file to its end and checks each line by itself, what all of them are, and the signature. each sees
// the entries with the sizes of their rows, before it is known whether the file is whole: read twice.
func readArchive(path string, keys *Keys, each func(e *catalog.ChainEntry, size int) error) (*seals, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLines(f, keys, each)
}

// Errors of an archive's file.
var (
	errNotWhole     = errors.New("it is no archive, or not whole")
	errNotSigned    = errors.New("it is not signed by this host database's key")
	errBehindTheEnd = errors.New("there is more behind its last line")
)

func readLines(f io.Reader, keys *Keys, each func(e *catalog.ChainEntry, size int) error) (*seals, error) {
	var h hasher
	sum := sha256.New()
	in := newLineReader(f, sum)
	rows, seq := int64(0), int64(0)
	for {
		last, err := in.seals()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errNotWhole
		case err != nil:
			return nil, err
		case last != nil:
			return last, in.ends(last, rows, keys)
		}
		rows++
		l, err := in.line()
		if err == nil {
			err = l.check(&h)
		}
		if err == nil && l.entry.Seq <= seq {
			err = errors.New("out of order")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", rows, err)
		}
		if seq = l.entry.Seq; each == nil {
			continue
		}
		if err := each(l.entry, l.size()); err != nil {
			return nil, err
		}
	}
}

// ends says whether the last line is right about what was read, and the last.
func (r *lineReader) ends(s *seals, rows int64, keys *Keys) error {
	switch _, err := r.in.Peek(1); {
	case err == nil:
		return errBehindTheEnd
	case !errors.Is(err, io.EOF):
		return err
	case s.Rows != rows || s.SHA256 != hex.EncodeToString(r.sum.Sum(nil)):
		return errNotWhole
	case keys != nil && !keys.verify(s.Key, s.body(), s.Signature):
		return errNotSigned
	}
	return nil
}

// VerifyFile checks a file that Archive wrote, by itself: each row against its hashes, all lines against the signed last
// one. Without keys the signature is not looked at. It returns how many rows there are and the checkpoint of then.
func VerifyFile(path string, keys *Keys) (rows int64, checkpoint string, err error) {
	s, err := readArchive(path, keys, nil)
	if err != nil {
		return 0, "", fmt.Errorf("%s: %w", path, err)
	}
	return s.Rows, s.Checkpoint, nil
}
