// Command node is all programs of a machine in one binary. It is the one whose
// name it is run by, which in a machine is a link to it, or the one that its
// first argument names:
//
//	pkgfs -peer node-b stat pkg:/system/build.prop
//	node pkgfs -peer node-b stat pkg:/system/build.prop
//
// Exit status: that of the program; 2, with the names there are, for one that
// there is not.
//
// An emulator translates code when it first runs, by the page of memory it lies
// in. Programs of one file have their pages in common, so that each starts with
// what those before it had translated, of the Go runtime above all.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/cmd/agent"
	"dsoftbus-rig/nodes/cmd/dsoftbusd"
	"dsoftbus-rig/nodes/cmd/hostile"
	"dsoftbus-rig/nodes/cmd/netbench"
	"dsoftbus-rig/nodes/cmd/packagefsd"
	"dsoftbus-rig/nodes/cmd/pkgfs"
	"dsoftbus-rig/nodes/cmd/prlimit"
	selftestclient "dsoftbus-rig/nodes/cmd/selftest-client"
	"dsoftbus-rig/nodes/cmd/vitals"
	"dsoftbus-rig/nodes/coverage"
	"dsoftbus-rig/nodes/stacks"
)

// A program is one of those in the binary, named as the folder of its package.
type program struct {
	name    string
	main    func(ctx context.Context, args []string, stdout, stderr io.Writer) int
	orderly bool // SIGTERM and SIGINT end its context, not the process, and SIGUSR1 has it tell its goroutines
}

var programs = []program{
	{name: "agent", main: agent.Main},
	{name: "dsoftbusd", main: dsoftbusd.Main, orderly: true},
	{name: "hostile", main: hostile.Main, orderly: true},
	{name: "netbench", main: netbench.Main, orderly: true},
	{name: "packagefsd", main: packagefsd.Main, orderly: true},
	{name: "pkgfs", main: pkgfs.Main, orderly: true},
	{name: "prlimit", main: prlimit.Main},
	{name: "selftest-client", main: selftestclient.Main, orderly: true},
	{name: "vitals", main: vitals.Main},
}

const (
	ownName  = "node"
	initName = "uinit" // what u-root's init calls the first program it starts
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

func run(argv []string, stdout, stderr io.Writer) int {
	p, args, err := find(argv)
	if err != nil {
		return cli.Status(ownName, err, stderr)
	}
	ctx := context.Background()
	if p.orderly {
		var stop context.CancelFunc
		ctx, stop = handleSignals(ctx, stderr)
		defer stop()
	}
	return p.main(ctx, args, stdout, stderr)
}

// stacksDir is where goroutines are told: stacks.Dir. Tests set it when they link, for
// which it has to be written out.
var stacksDir = "/run/stacks"

// handleSignals returns a context that SIGTERM and SIGINT end, the cause being which of
// them it was; and has stacks.Signal answered until stop is called. It is
// signal.NotifyContext with that signal added, by the one goroutine that this has too:
// so no program starts more slowly for being asked one day. A program that takes long
// to end can be asked what for.
func handleSignals(parent context.Context, stderr io.Writer) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	// Apart, since a question that waits must not take an end's place.
	ends, asked, stopped := make(chan os.Signal, 1), make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(asked, stacks.Signal)
	go func() {
		for {
			select {
			case sig := <-ends:
				cancel(ending{sig})
			case <-asked:
				if coverage.On { // before the answer, by which whoever asks knows that it is written
					if err := coverage.Write(); err != nil {
						fmt.Fprintln(stderr, err)
					}
				}
				if err := stacks.Write(stacksDir); err != nil {
					fmt.Fprintln(stderr, err)
				}
			case <-stopped:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ends)
		signal.Stop(asked)
		close(stopped)
		cancel(nil)
	}
}

// ending is the cause of a context that a signal has ended.
type ending struct{ os.Signal }

func (e ending) Error() string { return e.String() + " signal received" }

func (ending) Is(target error) bool { return target == context.Canceled }

// find returns the program that a command line means, and the arguments for it.
func find(argv []string) (*program, []string, error) {
	name, args := filepath.Base(argv[0]), argv[1:]
	if name == ownName {
		name = ""
		if len(args) > 0 {
			name, args = args[0], args[1:]
		}
	}
	if name == initName {
		name = "agent"
	}
	p, err := cli.Find(programs, func(p *program) string { return p.name }, name)
	return p, args, err
}
