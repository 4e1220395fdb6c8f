// Package packagefsd is the program that serves the package files of this machine
// to the other programs on it, over a unix socket. See package dsoftbus-rig/nodes/packagefsd.
//
// It prints "packagefsd: ready" on standard output once it answers; diagnostics
// go to standard error. SIGTERM and SIGINT end it with status 0; status 1 is a
// failure, 2 wrong usage.
package packagefsd

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"

	"dsoftbus-rig/nodes/packagefsd"
)

// Main is the whole program but for signals, which end ctx. It returns the exit
// status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("packagefsd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", packagefsd.DefaultRoot, "`directory` of the package store")
	socket := flags.String("socket", packagefsd.DefaultSocket, "unix socket to serve on")
	switch err := flags.Parse(args); {
	case err == flag.ErrHelp:
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "packagefsd: unexpected argument %q; it takes only flags\n", flags.Arg(0))
		return 2
	}
	err := packagefsd.Run(ctx, packagefsd.Config{
		Root:   *root,
		Socket: *socket,
		Ready:  func() { fmt.Fprintln(stdout, "packagefsd: ready") },
		Log:    log.New(stderr, "packagefsd: ", 0),
	})
	if err != nil {
		fmt.Fprintln(stderr, "packagefsd:", err)
		return 1
	}
	return 0
}
