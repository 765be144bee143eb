package sealing

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// maxReferenced bounds what a reference points at, in bytes, a newline at its end aside.
	maxReferenced = 4 << 10
	// maxPending bounds the reads that the file system keeps waiting at once.
	maxPending = 256
	// closeWait bounds how long Close waits for the file system.
	closeWait = time.Second

	ownVariables = "TENANTGATE_"
)

// references reads what references point at, within refs.
type references struct {
	refs   catalog.Refs
	lookup func(name string) (string, bool)
	// readFile may hang for as long as a file system does.
	readFile func(dir, path string) (string, error)

	mu      sync.Mutex
	pending map[string]*reading
}

// reading is a file that is being read, for all who ask for it meanwhile. Its result is written before done is closed.
type reading struct {
	done chan struct{}
	text string
	err  error
}

// resolve returns the URI that a reference points at now. It takes no longer than ctx.
func (r *references) resolve(ctx context.Context, stored string) (catalog.DBURI, error) {
	kind, target, err := parseReference(stored)
	if err != nil {
		return catalog.DBURI{}, err
	}
	var text string
	if kind == envKind {
		text, err = r.variable(target)
	} else {
		text, err = r.file(ctx, target)
	}
	if err != nil {
		return catalog.DBURI{}, err
	}
	if len(text) > maxReferenced {
		return catalog.DBURI{}, ErrTooLarge
	}
	if err := CheckURI(text); err != nil {
		return catalog.DBURI{}, err
	}
	return catalog.NewDBURI(text), nil
}

// variable never reads our own variables, which hold our own secrets, whatever the prefix allows.
func (r *references) variable(name string) (string, error) {
	if r.refs.EnvPrefix == "" || !strings.HasPrefix(name, r.refs.EnvPrefix) || strings.HasPrefix(strings.ToUpper(name), ownVariables) {
		return "", ErrForbidden
	}
	text, ok := r.lookup(name)
	if !ok {
		return "", ErrUnset
	}
	return text, nil
}

// file waits for a read no longer than ctx. A read that hangs goes on in the background, at most one for each path: the
// file system cannot be told to give up.
func (r *references) file(ctx context.Context, path string) (string, error) {
	if r.refs.Dir == "" {
		return "", ErrForbidden
	}
	r.mu.Lock()
	now, running := r.pending[path]
	if !running {
		if len(r.pending) >= maxPending {
			r.mu.Unlock()
			return "", ErrSlow
		}
		now = &reading{done: make(chan struct{})}
		r.pending[path] = now
		go r.read(path, now)
	}
	r.mu.Unlock()
	select {
	case <-now.done:
		return now.text, now.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", ErrSlow
		}
		return "", ErrInterrupted
	}
}

func (r *references) read(path string, into *reading) {
	defer close(into.done)
	into.text, into.err = r.readFile(r.refs.Dir, path)
	r.mu.Lock()
	delete(r.pending, path)
	r.mu.Unlock()
}

// close waits for reads under way, no longer than closeWait: one that hangs in the file system ends with the process.
func (r *references) close() {
	r.mu.Lock()
	under := make([]*reading, 0, len(r.pending))
	for _, p := range r.pending {
		under = append(under, p)
	}
	r.mu.Unlock()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	for _, p := range under {
		select {
		case <-p.done:
		case <-timer.C:
			return
		}
	}
}

// readWithin reads a file whose path, resolved after symbolic links, lies inside dir. Where it lies is decided first;
// then it is opened below dir (openat), so that a link that is swapped meanwhile leads nowhere else.
func readWithin(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = dir + string(filepath.Separator) + path // not joined: ".." behind a link is meant as the system reads it
	}
	inside, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", ErrUnset
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", ErrUnset
	}
	if inside, err = filepath.Abs(inside); err != nil {
		return "", ErrUnset
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return "", ErrUnset
	}
	name, err := filepath.Rel(inside, resolved)
	if err != nil || !filepath.IsLocal(name) {
		return "", ErrForbidden
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		return "", ErrUnset
	}
	defer func() { _ = root.Close() }()
	return readRegular(root, name)
}

// readRegular opens nothing but regular files: opening a pipe may wait, and opening a device may do something.
func readRegular(root *os.Root, name string) (string, error) {
	info, err := root.Stat(name)
	if err != nil {
		return "", opening(err)
	}
	if !info.Mode().IsRegular() {
		return "", ErrNotRegular
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return "", opening(err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return "", ErrUnset
	}
	if !info.Mode().IsRegular() {
		return "", ErrNotRegular
	}
	const newline = 2
	text, err := io.ReadAll(io.LimitReader(f, maxReferenced+newline+1))
	if err != nil {
		return "", ErrUnset
	}
	s := string(text)
	if cut, ok := strings.CutSuffix(s, "\n"); ok {
		s = strings.TrimSuffix(cut, "\r")
	}
	if len(s) > maxReferenced {
		return "", ErrTooLarge
	}
	return s, nil
}

// opening tells a link that leads out of the directory, which os.Root refuses, from a file that is not there.
func opening(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return ErrUnset
	}
	return ErrForbidden
}
