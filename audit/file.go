package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile has write fill a new file, mode 0600, that stands under its name whole and on disk, or not at all. What a
// run that was killed left behind (PATH.partial) is written over. fs.ErrExist if there is a file of that name.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	partial := path + ".partial"
	f, err := openPartial(partial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	defer func() { err = errors.Join(err, os.Remove(partial)) }() // the name; the file stays where it was linked
	if err := errors.Join(f.Truncate(0), f.Chmod(0o600)); err != nil {
		return err
	}
	buffer := bufio.NewWriterSize(f, 1<<18)
	if err := write(buffer); err != nil {
		return err
	}
	if err := errors.Join(buffer.Flush(), f.Sync()); err != nil {
		return err
	}
	if err := os.Link(partial, path); err != nil { // refuses what is there
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openPartial opens the file under its first name, locked. What stands there is written over only if it has no other
// name: a run that was killed, or one that ends right now, may have given it its last one already.
func openPartial(partial string) (*os.File, error) {
	for {
		f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: another run is writing it", partial), f.Close())
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		there, err := os.Lstat(partial)
		same := err == nil && os.SameFile(info, there)
		if stat, ok := info.Sys().(*syscall.Stat_t); same && ok && stat.Nlink == 1 {
			return f, nil
		}
		if same {
			err = os.Remove(partial)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
