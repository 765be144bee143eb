//go:build linux

package smalldisk

import (
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// insideVariable tells a test process that it is the one in a namespace of its own.
const insideVariable = "SMALLDISK_INSIDE"

const capSysAdmin = 21 // linux/capability.h

// Able tells whether this process may mount, as root may. Where it may not, the test is run as a process of its own that
// may, in user and mount namespaces that it alone is in, and its verdict is this test's: who is told false returns.
//
//	if !smalldisk.Able(t) {
//		return
//	}
//
// It belongs at the beginning of a test that is no subtest. The process has the same user, who is not root there either:
// a database server that it starts works as it would outside.
func Able(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 || os.Getenv(insideVariable) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{capSysAdmin},
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("smalldisk: a user namespace of its own: %v: %s", err, remedy)
	}
	if err != nil {
		t.Fatalf("in a namespace of its own: %v\n%s", err, out)
	}
	return false
}
