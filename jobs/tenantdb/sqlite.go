package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

const (
	sqliteSuffix    = ".db"
	migratingSuffix = ".migrating" // of the lock beside a file whose schema changes; a killed run leaves it
	installationTag = 8            // characters of the installation's id in a file's name
	filePoll        = 20 * time.Millisecond
)

// directory is a place of files, one for each tenant: mode 0600, in a directory that nobody else may write to. Whoever
// may write there could put a file in a tenant's place.
type directory struct {
	dir          string
	installation string
}

func newSQLite(cfg Config) (*directory, error) {
	dir, err := sqliteDirectory(cfg.URL)
	if err != nil {
		return nil, err
	}
	return &directory{dir: dir, installation: cfg.Installation}, nil
}

func (*directory) Engine() string { return catalog.EngineSQLite }

func (*directory) Close() error { return nil }

// Identity is the directory, symbolic links followed; it is made if it is not there.
func (s *directory) Identity(context.Context) (string, error) {
	if err := s.ready(); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(s.dir)
	return dir, safe("look at the directory of tenants' databases", err)
}

func (s *directory) ready() error {
	const op = "make the directory of tenants' databases"
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return safe(op, err)
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return safe(op, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: provisioning.admin_url names a file", op)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("directory of tenants' databases: %w: others may write to it: run: chmod go-w DIRECTORY", ErrDenied)
	}
	return nil
}

func (s *directory) NewPlace(tenant catalog.TenantID) Place {
	mark := catalog.GenID()
	return Place{Tenant: tenant, Database: nameOf(s.installation, tenant, mark) + s.suffix(), Mark: mark}
}

// suffix ends the names of our installation's files: List tells them from another's by it.
func (s *directory) suffix() string {
	return "." + s.installation[:min(installationTag, len(s.installation))] + sqliteSuffix
}

func (s *directory) path(p Place) string { return filepath.Join(s.dir, p.Database) }

// URI is sqlite:////absolute/path, as SQLAlchemy has it. There is no password.
func (s *directory) URI(p Place, _ secret.Text) catalog.DBURI {
	return catalog.NewDBURI("sqlite:///" + s.path(p))
}

func (s *directory) List(context.Context) ([]Object, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, safe("list the directory of tenants' databases", err)
	}
	var found []Object
	for _, e := range entries {
		if named(e.Name()) && strings.HasSuffix(e.Name(), s.suffix()) {
			found = append(found, object(e.Name(), e.Info))
		}
	}
	return found, nil
}

// object is a file, with what is wrong about it where a PostgreSQL database would have rights.
func object(name string, info func() (fs.FileInfo, error)) Object {
	o := Object{Database: name}
	fi, err := info()
	switch {
	case err != nil:
	case !fi.Mode().IsRegular():
		o.PublicRights = []string{"is no regular file"}
	default:
		o.AllowConnections = true
		if fi.Mode().Perm()&0o077 != 0 {
			o.PublicRights = []string{fmt.Sprintf("mode %04o", fi.Mode().Perm())}
		}
	}
	return o
}

func (s *directory) Look(_ context.Context, databases []string) (map[string]Object, error) {
	found := map[string]Object{}
	for _, name := range databases {
		fi, err := os.Lstat(filepath.Join(s.dir, filepath.Base(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, safe("look at a tenant's file", err)
		}
		found[name] = object(name, func() (fs.FileInfo, error) { return fi, nil })
	}
	return found, nil
}

// Granted is empty: files have no roles.
func (*directory) Granted(context.Context) ([]Grant, error) { return nil, nil }

// OpenToPublic is empty: a file that others may read is told of by its Object.
func (*directory) OpenToPublic(context.Context) ([]string, error) { return nil, nil }

// Hold locks a file of the tenant's own in the directory, which is gone again after Close.
func (s *directory) Hold(ctx context.Context, tenant catalog.TenantID) (Hold, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	name := fmt.Sprintf(".tenant-%016x.lock", uint64(lockKey("tenant/"+s.installation+"/"+string(tenant))))
	lock, err := lockFile(ctx, filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	return &sqliteHold{server: s, lock: lock}, nil
}

type sqliteHold struct {
	server *directory
	lock   *os.File
}

func (h *sqliteHold) Close() error {
	if h.lock == nil {
		return nil
	}
	lock := h.lock
	h.lock = nil
	return unlockFile(lock)
}

// CloseToPublic has nothing to do: what nobody else may read is closed by the file's mode.
func (*sqliteHold) CloseToPublic(context.Context, []string) ([]string, map[string]error, error) {
	return nil, nil, nil
}

// EnsureRole has nothing to do: a file has no roles.
func (*sqliteHold) EnsureRole(context.Context, Place, secret.Text) error { return nil }

// EnsureDatabase makes an empty file by exclusive creation, which follows no link. A file that is there before the record
// has it as made is ours only as long as it is empty.
func (h *sqliteHold) EnsureDatabase(_ context.Context, p Place) error {
	op := "create the tenant's file " + p.Database
	info, err := os.Lstat(h.server.path(p))
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Made:
		return fmt.Errorf("file %s %w: restore it from a backup", p.Database, ErrGone)
	case errors.Is(err, fs.ErrNotExist):
		f, err := os.OpenFile(h.server.path(p), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return safe(op, err)
		}
		return safe(op, errors.Join(f.Sync(), f.Close(), syncDirectory(h.server.dir)))
	case err != nil:
		return safe(op, err)
	case !info.Mode().IsRegular() || !p.Made && info.Size() > 0:
		return fmt.Errorf("file %s is there and %w: it is no empty file; move it away", p.Database, ErrForeign)
	case info.Mode().Perm()&0o077 != 0:
		return safe(op, os.Chmod(h.server.path(p), 0o600))
	}
	return nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Drop removes the file and what SQLite and migrations keep beside it.
func (h *sqliteHold) Drop(_ context.Context, p Place) error {
	if filepath.Base(p.Database) != p.Database || !named(p.Database) || !strings.HasSuffix(p.Database, sqliteSuffix) {
		return fmt.Errorf("file of tenant %w: its name is none that we give; it stays", ErrForeign)
	}
	info, err := os.Lstat(h.server.path(p))
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("file %s %w: it is no regular file; it stays", p.Database, ErrForeign)
	}
	for _, beside := range []string{"-journal", "-wal", "-shm", migratingSuffix, ""} { // the file last: until then it can be dropped again
		if err := os.Remove(h.server.path(p) + beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return safe("remove the tenant's file "+p.Database, err)
		}
	}
	return safe("remove the tenant's file "+p.Database, syncDirectory(h.server.dir))
}

// lockFile takes the lock of a file that it makes, for this process alone; a process that ends, however, gives it back.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	const op = "take a tenant's lock"
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, safe(op, err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && stillThere(f, path) {
			return f, nil
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, safe(op, err)
		}
		timer := time.NewTimer(filePoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, safe("wait for another run that has the tenant", ctx.Err())
		}
	}
}

// stillThere reports whether the locked file is the one that others would find: its holder before may have removed it.
func stillThere(f *os.File, path string) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := os.Lstat(path)
	return err == nil && os.SameFile(is, found)
}

func unlockFile(f *os.File) error {
	return safe("give a tenant's lock back", errors.Join(os.Remove(f.Name()), f.Close()))
}

// sqliteParams open a file for changes of its schema.
func sqliteParams() url.Values {
	return url.Values{"_pragma": {"busy_timeout(5000)"}, "_txlock": {"immediate"}}
}
