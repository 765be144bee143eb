// Command tenantgate is the whole product behind one command line: the proxy, its demo, and the administration of the
// host database.
//
// Purpose: flags, signals and exit codes. No decision about a request is made here; every command hands over to the
// package that knows.
//
// Concurrency: one command runs in a process. Only serve and demo have goroutines, which end before the command does.
//
// Failure mode: exit 1 for what failed, was not found or was refused, 2 for wrong usage and for missing or invalid
// configuration, with one line for each fault on standard error that says what to do. No line holds a secret.
package main

import (
	"context"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tenantgate/tenantgate/telemetry"
)

// program is what a command may touch of the world around it.
type program struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	clock    func() time.Time
	// open wires a gate together; serve, demo and explain use it.
	open opener
	// lookupTXT reads the TXT records of a name; domain verify uses it.
	lookupTXT func(ctx context.Context, name string) ([]string, error)

	configFile string // --config
}

func main() {
	// The first signal asks for an orderly end, the second ends the process as if nobody listened.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	log.SetOutput(telemetry.UnquotedWriter(os.Stderr)) // net/http's client prints what an app sends after its answer
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), clock: time.Now, open: openGate, lookupTXT: net.DefaultResolver.LookupTXT}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// run executes one command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(joinBools(args))
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	return p.report(root.ExecuteContext(ctx))
}
