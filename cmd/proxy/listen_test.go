package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := bind(t.Context(), address{"listen", "unix:" + path})
	if err != nil {
		t.Fatalf("nobody answers on it: %v", err)
	}
	if _, err := bind(t.Context(), address{"listen", "unix:" + path}); err == nil || !strings.Contains(err.Error(), "taken") || !strings.HasPrefix(err.Error(), "listen: ") {
		t.Errorf("a live socket: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first one no longer answers: %v", err)
	}
	_ = conn.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
	if err := b.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestSuccessorsSocketIsNotRemoved(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	b, err := bind(t.Context(), address{"listen", "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next, err := bind(t.Context(), address{"listen", "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("the one that ended took its successor's socket along")
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	write(t, path, "precious")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link, dir} {
		if _, err := bind(t.Context(), address{"listen", "unix:" + p}); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", p, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("%q %v", text, err)
	}
	for _, bad := range []string{"unix:" + dir + "/none/s", "127.0.0.1:99999", "nowhere.invalid:1"} {
		if _, err := bind(t.Context(), address{"admin.listen", bad}); err == nil || !strings.HasPrefix(err.Error(), "admin.listen: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
