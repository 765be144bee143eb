package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// address is where to listen, and the key or flag that says so.
type address struct{ key, text string }

// bound is an address that is ours until Close.
type bound struct {
	net.Listener
	address
	unix bool
}

// bindAll binds every address, or none: then it says which key or flag to change.
func bindAll(ctx context.Context, addresses ...address) (all []*bound, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
			all = nil
		}
	}()
	for _, a := range addresses {
		b, err := bind(ctx, a)
		if err != nil {
			return all, err
		}
		all = append(all, b)
	}
	return all, nil
}

func closeAll(all []*bound) {
	for _, b := range all {
		_ = b.Close()
	}
}

func bind(ctx context.Context, a address) (*bound, error) {
	var lc net.ListenConfig
	if path, ok := strings.CutPrefix(a.text, "unix:"); ok {
		l, err := bindUnix(ctx, lc, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.key, err)
		}
		return &bound{Listener: l, address: a, unix: true}, nil
	}
	l, err := lc.Listen(ctx, "tcp", a.text)
	switch {
	case err == nil:
		return &bound{Listener: l, address: a}, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is taken by another program: end that or give another address with %s", a.key, a.text, a.key)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: no permission to listen on %s: take a port above 1023, or grant CAP_NET_BIND_SERVICE", a.key, a.text)
	}
	return nil, fmt.Errorf("%s: cannot listen on %s: %w", a.key, a.text, err)
}

// socketMode lets the owner and the group connect.
const socketMode = 0o660

// probeTimeout bounds the question whether somebody answers on a socket that is there already.
const probeTimeout = time.Second

// socket is a listener on a path. Closing removes the path, if it still leads to this socket.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
	once sync.Once
	err  error
}

// bindUnix makes the socket under another name and then renames it, so that whoever finds it at path finds it with its
// mode set. A socket there already is replaced if nobody answers on it; anything else there stays.
func bindUnix(ctx context.Context, lc net.ListenConfig, path string) (net.Listener, error) {
	if err := freeSocket(ctx, path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".tg")
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket beside %s: %w", path, pathless(err))
	}
	defer func() { _ = os.RemoveAll(dir) }()
	first := filepath.Join(dir, "s")
	l, err := lc.Listen(ctx, "unix", first)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ul, path: path}
	if err := errors.Join(os.Chmod(first, socketMode), os.Rename(first, path)); err != nil {
		_ = ul.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", path, pathless(err))
	}
	if s.made, err = os.Lstat(path); err != nil {
		_ = ul.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", path, pathless(err))
	}
	return s, nil
}

// Close stops listening and removes the socket.
func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
			_ = os.Remove(s.path)
		}
		s.err = s.UnixListener.Close()
	})
	return s.err
}

// freeSocket reports why path cannot be listened on, or nil.
func freeSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", path, pathless(err))
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: remove it or give another path", path)
	}
	d := net.Dialer{Timeout: probeTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s is taken by another program: end that or give another path", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and whether anybody answers on it cannot be told: %w", path, err)
	}
	return nil
}

// pathless takes the path out of an error that is wrapped with a better one.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
