// Package dsoftbusd is the program that connects this device with its paired peers: it announces itself on the LAN, keeps a
// session with each peer, serves them package files, and lets programs of this machine use the peers' files.
//
// Markers go to standard output, one line each; whatever else there is to say goes to standard error. SIGTERM and SIGINT end
// it with status 0; status 1 is a failure, 2 wrong usage.
package dsoftbusd

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/dsoftbusd"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/packagefsd"
)

// Main is the whole program but for signals, which end ctx. It returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Status("dsoftbusd", run(ctx, args, stdout, stderr), stderr)
}

// The defaults are the ports and the group of the wire contract (sections 1 and 2).
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	limits := dsoftbusd.DefaultLimits()
	flags := flag.NewFlagSet("dsoftbusd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	config := flags.String("config", device.DefaultDir, "`folder` of device.json and pairing.json")
	socket := flags.String("socket", localapi.DefaultSocket, "unix socket to make for local programs")
	packages := flags.String("packagefsd", packagefsd.DefaultSocket, "unix socket of the package service")
	listen := flags.String("listen", ":34567", "TCP `address` for sessions")
	announcePort := flags.Uint("announce-port", 37020, "UDP port of announces")
	group := flags.String("group", "239.42.0.1", "multicast group of announces")
	keyLog := flags.String("keylog", "", "`file` to append the keys of sessions to, for debugging: whoever has it can read all that they carry")
	iface := flags.String("interface", "eth0", "network interface of announces")
	flags.IntVar(&limits.PK.MaxPath, "pk-max-path", limits.PK.MaxPath, "longest path served, with its prefix, in bytes")
	flags.IntVar(&limits.PK.MaxRead, "pk-max-read", limits.PK.MaxRead, "longest read served, in bytes; existing peers accept 128")
	flags.IntVar(&limits.PK.MaxHandles, "pk-max-handles", limits.PK.MaxHandles, "files that one session may have open")
	if err := cli.ParseFlags(flags, args, flags.PrintDefaults); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return cli.Usagef("unexpected argument %q: see dsoftbusd -help", flags.Arg(0))
	}
	address, err := netip.ParseAddr(*group)
	if err != nil {
		return cli.Usagef("flag -group: %w", err)
	}
	if *announcePort < 1 || *announcePort > 65535 {
		return cli.Usagef("flag -announce-port: %d is outside 1..65535", *announcePort)
	}
	self, pairings, err := device.Load(*config)
	if err != nil {
		return err
	}
	var keys io.Writer
	if *keyLog != "" {
		f, err := os.OpenFile(*keyLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open the key log: %w", err)
		}
		defer f.Close()
		keys = f
	}
	network, err := dsoftbusd.LAN{
		Interface:    *iface,
		Group:        address,
		AnnouncePort: uint16(*announcePort),
		Listen:       *listen,
		Socket:       *socket,
	}.Open()
	if err != nil {
		return err
	}
	return dsoftbusd.Run(ctx, dsoftbusd.Config{
		Device:   self,
		Pairings: pairings,
		Packages: packagefsd.NewClient(*packages),
		Limits:   limits,
		Markers:  stdout,
		Log:      stderr,
		KeyLog:   keys,
	}, network)
}
