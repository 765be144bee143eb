// Package backup copies a tenant's database into a directory, and proves that the copy holds what the database held.
//
// Purpose: `tenant delete --backup`. A PostgreSQL database becomes a pg_dump archive (custom format, for pg_restore), a
// SQLite file a compacted copy of itself. Both are read back and compared with the database, table by table, in the same
// snapshot that they were made in; a copy that differs, or that cannot be compared whole, is an error.
//
// Concurrency: Make may run any number of times at once; each works in a directory of its own, which gets its name once
// all is there. Nothing runs on when Make returns.
//
// Failure mode: closed. Whatever goes wrong leaves no directory under the final name. A killed process may leave one that
// ends in .partial; the next Make of that name removes it. Files are for their owner alone (0600). The password reaches
// the tools by their environment, never on a command line; errors name neither it nor any row's content.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// Config is what Make works with.
type Config struct {
	// Dir is where backups go; it must be there.
	Dir string
	// Name names the backup, any text: a tenant's id.
	Name string
	// ToolDirs are looked through for pg_dump and pg_restore, after PATH. Nil: where Debian puts them.
	ToolDirs []string
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Names of a backup's files.
const (
	DumpFile   = "database.dump"   // pg_dump's custom format
	SQLiteFile = "database.sqlite" // a SQLite file
)

// Copy is a backup that was made and found whole.
type Copy struct {
	Path   string  `json:"-"` // of the directory
	File   string  `json:"file"`
	SHA256 string  `json:"sha256"` // of the file, in hex
	Bytes  int64   `json:"bytes"`
	Engine string  `json:"engine"`
	Server string  `json:"server"` // version
	Tool   string  `json:"tool"`   // version of what wrote the file
	Tables []Table `json:"tables"`
	Rows   int64   `json:"rows"`
	MadeAt string  `json:"made_at"`
}

// Table is one table's part of the comparison.
type Table struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
	// SHA256 of its rows, as COPY writes them (PostgreSQL) or as they were read (SQLite).
	SHA256 string `json:"sha256"`
}

// Make copies the database at uri, which is plain, and compares. with adds files of the caller's beside the copy before
// the directory gets its name; nil: none.
func Make(ctx context.Context, cfg Config, uri catalog.DBURI, with func(dir string, made *Copy) error) (*Copy, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	info, err := os.Stat(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("backup directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("backup directory: %s is none", cfg.Dir)
	}
	now := cfg.Clock()
	stem := fileName(cfg.Name)
	removePartial(cfg.Dir, stem)
	work, lock, err := workDir(cfg.Dir, stem)
	if err != nil {
		return nil, err
	}
	defer func() { _ = errors.Join(os.RemoveAll(work), lock.Close()) }() // after the rename nothing is there
	made, err := copyInto(ctx, cfg, work, uri)
	if err != nil {
		return nil, err
	}
	made.MadeAt = catalog.Timestamp(now)
	if made.SHA256, made.Bytes, err = hashFile(filepath.Join(work, made.File)); err != nil {
		return nil, err
	}
	if with != nil {
		if err := with(work, made); err != nil {
			return nil, err
		}
	}
	made.Path, err = settle(cfg.Dir, work, stem, now)
	return made, err
}

func copyInto(ctx context.Context, cfg Config, work string, uri catalog.DBURI) (*Copy, error) {
	scheme, rest, _ := strings.Cut(uri.Reveal(), ":")
	switch dialect, _, _ := strings.Cut(strings.ToLower(scheme), "+"); dialect {
	case "postgresql", "postgres":
		return dumpPostgres(ctx, cfg, work, "postgresql:"+rest)
	case "sqlite":
		return copySQLite(ctx, work, rest)
	}
	return nil, errors.New("backup: db_url is neither postgresql:// nor sqlite: such a database has to be copied by hand")
}

// fileName makes a name that every file system takes, and that tells any two names apart.
func fileName(name string) string {
	const longest = 40
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
	if plain == name && len(name) <= longest && strings.ToLower(name) == name && name != "" && name[0] != '-' {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "t_" + plain[:min(len(plain), longest)] + "_" + hex.EncodeToString(sum[:4])
}

const (
	partial  = ".partial"
	lockFile = ".lock"
)

// workDir makes the directory that is worked in. While its lock is held, nobody takes it for a killed process's.
func workDir(dir, stem string) (string, *os.File, error) {
	work, err := os.MkdirTemp(dir, stem+".*"+partial) // mode 0700
	if err != nil {
		return "", nil, fmt.Errorf("backup directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(work, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err == nil {
			return work, lock, nil
		}
		_ = lock.Close()
	}
	return "", nil, errors.Join(fmt.Errorf("backup directory: %w", err), os.RemoveAll(work))
}

// removePartial removes what killed processes left of a name. What it cannot remove is only in nobody's way.
func removePartial(dir, stem string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		rest, named := strings.CutPrefix(e.Name(), stem+".")
		middle, unfinished := strings.CutSuffix(rest, partial)
		if !named || !unfinished || !e.IsDir() || strings.ContainsFunc(middle, notDigit) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR, 0)
		if err != nil {
			continue // just made, or removed
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// settle makes everything durable and gives the directory its name.
func settle(dir, work, stem string, now time.Time) (string, error) {
	entries, err := os.ReadDir(work)
	if err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			err = errors.Join(err, syncPath(filepath.Join(work, e.Name())))
		}
	}
	if err = errors.Join(err, os.Remove(filepath.Join(work, lockFile)), syncPath(work)); err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	for try := range 100 {
		path := filepath.Join(dir, stem+"-"+now.UTC().Format("20060102T150405"))
		if try > 0 {
			path += fmt.Sprintf("-%d", try)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Rename(work, path); errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
			continue
		} else if err != nil {
			return "", fmt.Errorf("backup: %w", err)
		}
		return path, syncPath(dir)
	}
	return "", errors.New("backup: there are a hundred of this name and second already")
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("backup: %w", err)
	}
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, fmt.Errorf("backup: read it back: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// WriteFile writes a file of a backup, for its owner alone.
func WriteFile(dir, name string, text []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// compare says in which table copy and database differ. Both must have the same tables with the same rows.
func compare(database, copied map[string]Table) ([]Table, error) {
	var all []Table
	for name, in := range database {
		out, ok := copied[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("backup: table %s is not in the copy", name)
		case in != out:
			return nil, fmt.Errorf("backup: the copy of table %s differs from the table: %d rows, %d in the copy", name, in.Rows, out.Rows)
		}
		all = append(all, in)
	}
	for name := range copied {
		if _, ok := database[name]; !ok {
			return nil, fmt.Errorf("backup: the copy has a table %s that the database has not", name)
		}
	}
	slices.SortFunc(all, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func sumRows(tables []Table) (n int64) {
	for _, t := range tables {
		n += t.Rows
	}
	return n
}
