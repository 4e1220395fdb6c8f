package netbench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"

	"dsoftbus-rig/nodes/cli"
)

// defaultPort is where serve listens.
const defaultPort = 7700

// A request is a checked command line.
type request struct {
	peer   netip.AddrPort
	listen string
	count  int   // echoes
	bytes  int64 // of a stream
	record int   // bytes that a record carries
	what   string
	plain  bool // the session goes over package net's own reads and writes
	stdout io.Writer
	stderr io.Writer
}

// A command is one of the things netbench does.
type command struct {
	name     string
	usage    string // its flags
	peerless bool   // it needs no -peer
	flags    func(r *request, flags *flag.FlagSet)
	run      func(ctx context.Context, r *request) error
}

var commands = []command{
	{name: "serve", usage: "[-listen ADDRESS]", peerless: true, run: serve, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.listen, "listen", fmt.Sprintf(":%d", defaultPort), "TCP `address` to listen on")
	}},
	{name: "ping", usage: "[-count N]", run: ping, flags: func(r *request, flags *flag.FlagSet) {
		flags.IntVar(&r.count, "count", 100, fmt.Sprintf("echoes, at most %d", maxCount))
	}},
	{name: "tcp", usage: "[-bytes N]", run: measureTCP, flags: (*request).streamFlags},
	{name: "noise", usage: "[-bytes N] [-record N] [-plain]", run: measureNoise, flags: func(r *request, flags *flag.FlagSet) {
		r.streamFlags(flags)
		flags.IntVar(&r.record, "record", writeSize, fmt.Sprintf("bytes that a record carries behind the header of a READ's answer, at most %d", maxRecord))
		flags.BoolVar(&r.plain, "plain", false, "read and write sockets as any Go program does, and not as dsoftbusd does")
	}},
	{name: "draw", usage: "-what random|sequence|ephemeral", peerless: true, run: draw, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.what, "what", "", "`thing` that no two machines draw alike: random bytes, a TCP connection's first sequence number, a handshake's ephemeral key")
	}},
}

func (r *request) streamFlags(flags *flag.FlagSet) {
	flags.Int64Var(&r.bytes, "bytes", 16<<20, fmt.Sprintf("bytes to receive, at most %d", maxBytes))
}

// Main is the whole program but for signals, which end ctx. It returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := func() error {
		cmd, r, err := parse(args, stderr)
		if err != nil {
			return err
		}
		r.stdout, r.stderr = stdout, stderr
		return cmd.run(ctx, r)
	}()
	return cli.Status("netbench", err, stderr)
}

// parse checks a command line whole, so that a wrong one does nothing.
func parse(args []string, stderr io.Writer) (*command, *request, error) {
	r := &request{}
	flags := flag.NewFlagSet("netbench", flag.ContinueOnError)
	peer := flags.String("peer", "", "`address` of the machine to measure the link to: IP or IP:PORT")
	if err := cli.ParseFlags(flags, args, func() { help(stderr, flags) }); err != nil {
		return nil, nil, err
	}
	cmd, err := cli.Find(commands, func(c *command) string { return c.name }, flags.Arg(0))
	if err != nil {
		return nil, nil, err
	}
	own := flag.NewFlagSet("netbench "+cmd.name, flag.ContinueOnError)
	cmd.flags(r, own)
	if err := cli.ParseFlags(own, flags.Args()[1:], func() { help(stderr, flags) }); err != nil {
		return nil, nil, err
	}
	if own.NArg() > 0 {
		return nil, nil, cli.Usagef("unexpected argument %q: %s", own.Arg(0), cmd.line())
	}
	if cmd.peerless != (*peer == "") {
		return nil, nil, cli.Usagef("usage: %s", cmd.line())
	}
	if !cmd.peerless {
		if r.peer, err = parsePeer(*peer); err != nil {
			return nil, nil, err
		}
	}
	return cmd, r, r.check(own)
}

// check refuses what the peer would.
func (r *request) check(given *flag.FlagSet) error {
	for _, c := range []struct {
		name  string
		value int64
		most  int64
	}{{"count", int64(r.count), maxCount}, {"bytes", r.bytes, maxBytes}, {"record", int64(r.record), maxRecord}} {
		if given.Lookup(c.name) != nil && (c.value < 1 || c.value > c.most) {
			return cli.Usagef("-%s %d is outside 1..%d", c.name, c.value, c.most)
		}
	}
	return nil
}

func help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintln(w, "usage:")
	for i := range commands {
		fmt.Fprintln(w, " ", commands[i].line())
	}
	all := flag.NewFlagSet("", flag.ContinueOnError)
	all.SetOutput(w)
	add := func(f *flag.Flag) {
		if all.Lookup(f.Name) == nil {
			all.Var(f.Value, f.Name, f.Usage)
		}
	}
	flags.VisitAll(add)
	for i := range commands {
		own := flag.NewFlagSet("", flag.ContinueOnError)
		commands[i].flags(&request{}, own)
		own.VisitAll(add)
	}
	all.PrintDefaults()
	fmt.Fprintf(w, "Each measurement begins with a warm-up that is not in its figures: %d writes or records (fewer if -bytes is less),\n"+
		"%d echoes. A stream's time is from the moment it is asked for to its last byte; MB are 10^6 bytes.\n", warmUpPieces, warmUpEchoes)
}

// line is how the command is called.
func (c *command) line() string {
	if c.peerless {
		return "netbench " + c.name + " " + c.usage
	}
	return "netbench -peer IP[:PORT] " + c.name + " " + c.usage
}

// parsePeer takes an address with or without a port. There are no names: a machine has nobody to ask.
func parsePeer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, defaultPort), nil
	}
	peer, err := netip.ParseAddrPort(s)
	if err != nil || peer.Port() == 0 {
		return netip.AddrPort{}, cli.Usagef("-peer %q is neither IP nor IP:PORT", s)
	}
	return peer, nil
}
