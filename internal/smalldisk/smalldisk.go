//go:build linux

// Package smalldisk gives tests a file system that is really full, or really read-only.
//
// It is a small tmpfs of the test's own, gone when the test is. Mounting needs root, or namespaces of its own (Able), which
// some kernels forbid to ordinary users; without either the test fails and says so, for nothing is ever skipped.
package smalldisk

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Disk is a file system of few bytes. It is for one goroutine.
type Disk struct {
	// Dir is where it is mounted. Everybody may write to it.
	Dir string
}

const filler = "filler"

// remedy is what to do where this process may not mount.
const remedy = "run the tests as root, in a container if need be, or let users have namespaces " +
	"(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"

// New mounts a disk of that many bytes, rounded up to pages.
func New(t testing.TB, bytes int) *Disk {
	t.Helper()
	dir, err := os.MkdirTemp("", "tgdisk") // not below the test's own: a database server's user must get there
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777,size="+strconv.Itoa(bytes)); err != nil {
		_ = os.Remove(dir)
		t.Fatalf("smalldisk: mount a tmpfs: %v: %s", err, remedy)
	}
	t.Cleanup(func() {
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		if err = errors.Join(err, os.Remove(dir)); err != nil {
			t.Errorf("smalldisk: %v", err)
		}
	})
	return &Disk{Dir: dir}
}

// Fill writes until there is no room left.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Dir, filler), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("smalldisk: fill: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Free takes away what Fill wrote.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.Dir, filler)); err != nil {
		t.Fatal(err)
	}
}

// ReadOnly makes the file system take no writes, or take them again. No file on it may be open for writing.
func (d *Disk) ReadOnly(t testing.TB, yes bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if yes {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", flags, ""); err != nil {
		t.Fatalf("smalldisk: remount: %v", err)
	}
}
