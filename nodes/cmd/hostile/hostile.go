package hostile

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/packagefsd"
)

const (
	sessionPort  = 34567
	announcePort = 37020
	// maxCount bounds every load.
	maxCount = 100_000
	maxRate  = 10_000
	// maxTime bounds every attack.
	maxTime = 5 * time.Minute
)

// The contract's times (section 2).
const (
	handshakeTime = 5 * time.Second
	deadAfter     = 3 * time.Second
	// atOnce is what a machine that is emulated may take for what has nothing to wait for. It is less than deadAfter, so that
	// an end by silence does not pass for one at once.
	atOnce = 2 * time.Second
	// slack is added to the contract's times.
	slack = 2 * time.Second
)

// A request is a checked command line.
type request struct {
	peer     netip.AddrPort
	udp      netip.AddrPort // where the victim hears announces
	self     device.Device
	victim   device.Pairing
	pairings []device.Pairing

	as      string
	count   int
	rate    int
	devices int
	limit   int
	path    string
	listen  string
	to      string // checked
	record  int
	from    string
	time    time.Duration
	program string
	most    int
	at      int
	root    string
	id      string
	socket  string

	stdout io.Writer
}

// A command is one attack. run gives the facts of its line.
type command struct {
	name     string
	peerless bool
	count    int // default of -count; 0: it has none
	flags    func(r *request, flags *flag.FlagSet)
	run      func(ctx context.Context, r *request) (facts string, err error)
}

var commands = []command{
	{name: "full", run: full, count: 16},
	{name: "slow", run: slow},
	{name: "garbage", run: garbage, count: 20},
	{name: "unpaired", run: unpaired},
	{name: "impostor", run: impostor, count: 50, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.as, "as", "", "paired `id` to announce (default: this device's)")
	}},
	{name: "announces", run: announces, count: 5000, flags: func(r *request, flags *flag.FlagSet) {
		r.rateFlag(flags, 2000)
		flags.IntVar(&r.devices, "devices", maxCount, "of how many devices, in turn")
	}},
	{name: "lies", run: lies, count: 200, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.as, "as", "", "paired `id` to announce")
		r.rateFlag(flags, 20)
	}},
	{name: "everywhere", run: everywhere, count: 10_000, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.as, "as", "", "paired `id` to announce")
		r.rateFlag(flags, 1000)
	}},
	{name: "listens", run: listens, count: 7},
	{name: "datagrams", run: datagrams, count: 500},
	{name: "replay", run: replay},
	{name: "pk", run: malformed, flags: (*request).pathFlag},
	{name: "reads", run: reads, count: 2000, flags: (*request).pathFlag},
	{name: "handles", run: handles, flags: func(r *request, flags *flag.FlagSet) {
		r.pathFlag(flags)
		flags.IntVar(&r.limit, "limit", 8, "handles that the victim gives out")
	}},
	{name: "pipeline", run: pipeline, count: 10_000, flags: (*request).pathFlag},
	{name: "deaf", run: deaf, count: 10_000, flags: (*request).pathFlag},
	{name: "ahead", run: ahead, count: 200, flags: (*request).pathFlag},
	{name: "channel", run: channel},
	{name: "silence", run: silence},
	{name: "unasked", run: unasked},
	{name: "undecryptable", run: undecryptable},
	{name: "lengths", run: lengths},
	{name: "turnover", run: turnover, count: 100, flags: (*request).pathFlag},
	{name: "mute", run: mute},
	{name: "serve", run: serve, flags: func(r *request, flags *flag.FlagSet) { r.timeFlag(flags, "serve") }},
	{name: "relay", run: relay, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.listen, "listen", ":34600", "TCP `address` to listen on")
		flags.StringVar(&r.to, "to", "", "`IP` of the device that shall dial")
		flags.IntVar(&r.record, "record", 8, "the record of which a bit is changed, from 1")
		flags.StringVar(&r.from, "from", "victim", "whose record it is: victim or dialler")
		r.timeFlag(flags, "relay")
	}},
	{name: "short", run: short, flags: func(r *request, flags *flag.FlagSet) {
		flags.IntVar(&r.at, "at", 100_000, "the first byte of a file that is kept back")
		r.dialledFlags(flags)
	}},
	{name: "stuck", run: stuck, flags: (*request).dialledFlags},
	{name: "again", run: again, peerless: true, count: 5, flags: func(r *request, flags *flag.FlagSet) {
		r.pathFlag(flags)
		flags.StringVar(&r.id, "id", "", "device `id` of the peer")
		flags.StringVar(&r.socket, "socket", localapi.DefaultSocket, "unix socket of dsoftbusd")
	}},
	{name: "memory", run: memory, peerless: true, flags: func(r *request, flags *flag.FlagSet) {
		flags.StringVar(&r.program, "program", "dsoftbusd", "its `name`")
		flags.IntVar(&r.most, "most", 64, "memory it may ever have had, in MiB")
	}},
}

func (r *request) pathFlag(flags *flag.FlagSet) {
	flags.StringVar(&r.path, "path", "pkg:/system/build.prop", "a file of the victim")
}

func (r *request) timeFlag(flags *flag.FlagSet, what string) {
	flags.DurationVar(&r.time, "for", 30*time.Second, "how long to "+what)
}

func (r *request) rateFlag(flags *flag.FlagSet, rate int) {
	flags.IntVar(&r.rate, "rate", rate, fmt.Sprintf("announces a second, at most %d", maxRate))
}

// dialledFlags are those of an attack that serves the victim, which dials it.
func (r *request) dialledFlags(flags *flag.FlagSet) {
	flags.StringVar(&r.listen, "listen", fmt.Sprintf(":%d", sessionPort), "TCP `address` to listen on")
	flags.StringVar(&r.root, "root", packagefsd.DefaultRoot, "`folder` of the packages that are served")
	r.timeFlag(flags, "serve")
}

// Main is the whole program but for signals, which end ctx. It returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := func() error {
		cmd, r, err := parse(args, stderr)
		if err != nil {
			return err
		}
		r.stdout = stdout
		ctx, cancel := context.WithTimeoutCause(ctx, maxTime, fmt.Errorf("not over after %s", maxTime))
		defer cancel()
		facts, err := cmd.run(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", cmd.name, err)
		}
		return r.ok(cmd.name, facts)
	}()
	return cli.Status("hostile", err, stderr)
}

// ok prints the result line.
func (r *request) ok(name, facts string) error {
	if facts == "" {
		return nil
	}
	_, err := fmt.Fprintf(r.stdout, "%s ok %s\n", name, facts)
	return err
}

// parse checks a command line whole, so that a wrong one does nothing.
func parse(args []string, stderr io.Writer) (*command, *request, error) {
	r := &request{}
	flags := flag.NewFlagSet("hostile", flag.ContinueOnError)
	flags.SetOutput(stderr)
	peer := flags.String("peer", "", "`address` of the victim: IP or IP:PORT")
	udp := flags.Uint("udp", announcePort, "UDP port at which it hears announces")
	victim := flags.String("victim", "", "its device `id` (default: the only one this device is paired with)")
	config := flags.String("config", device.DefaultDir, "`folder` of this device's identity")
	help := func() {
		fmt.Fprintln(stderr, "usage:")
		for i := range commands {
			fmt.Fprintln(stderr, " ", commands[i].line())
		}
		flags.PrintDefaults()
	}
	if err := cli.ParseFlags(flags, args, help); err != nil {
		return nil, nil, err
	}
	cmd, err := cli.Find(commands, func(c *command) string { return c.name }, flags.Arg(0))
	if err != nil {
		return nil, nil, err
	}
	own := flag.NewFlagSet("hostile "+cmd.name, flag.ContinueOnError)
	own.SetOutput(stderr)
	if cmd.count > 0 {
		own.IntVar(&r.count, "count", cmd.count, fmt.Sprintf("how many, at most %d", maxCount))
	}
	if cmd.flags != nil {
		cmd.flags(r, own)
	}
	if err := cli.ParseFlags(own, flags.Args()[1:], own.PrintDefaults); err != nil {
		return nil, nil, err
	}
	if own.NArg() > 0 {
		return nil, nil, cli.Usagef("unexpected argument %q: %s", own.Arg(0), cmd.line())
	}
	if cmd.peerless != (*peer == "") {
		return nil, nil, cli.Usagef("usage: %s", cmd.line())
	}
	if err := r.check(cmd); err != nil || cmd.peerless {
		return cmd, r, err
	}
	if r.peer, err = parsePeer(*peer); err != nil {
		return nil, nil, err
	}
	if *udp < 1 || *udp > 65535 {
		return nil, nil, cli.Usagef("-udp %d is outside 1..65535", *udp)
	}
	r.udp = netip.AddrPortFrom(r.peer.Addr(), uint16(*udp))
	return cmd, r, r.know(cmd, *config, *victim)
}

func (r *request) check(cmd *command) error {
	if cmd.count > 0 && (r.count < 1 || r.count > maxCount) {
		return cli.Usagef("-count %d is outside 1..%d", r.count, maxCount)
	}
	switch cmd.name {
	case "announces", "lies", "everywhere":
		if r.rate < 1 || r.rate > maxRate {
			return cli.Usagef("-rate %d is outside 1..%d", r.rate, maxRate)
		}
		if cmd.name == "announces" && (r.devices < 1 || r.devices > maxCount) {
			return cli.Usagef("-devices %d is outside 1..%d", r.devices, maxCount)
		}
	case "short":
		if r.at < 0 {
			return cli.Usagef("-at %d is below 0", r.at)
		}
		return r.checkTime()
	case "again":
		if r.id == "" {
			return cli.Usagef("again needs -id: the peer whose session is to be lost")
		}
	case "handles":
		if r.limit < 1 || r.limit > maxCount {
			return cli.Usagef("-limit %d is outside 1..%d", r.limit, maxCount)
		}
	case "memory":
		if r.most < 1 {
			return cli.Usagef("-most %d is below 1", r.most)
		}
	case "relay":
		if _, err := netip.ParseAddr(r.to); err != nil {
			return cli.Usagef("-to %q is no IP: the device that shall dial", r.to)
		}
		if r.from != "victim" && r.from != "dialler" {
			return cli.Usagef("-from %q is neither victim nor dialler", r.from)
		}
		if r.record < 1 || r.record > maxCount {
			return cli.Usagef("-record %d is outside 1..%d", r.record, maxCount)
		}
		return r.checkTime()
	case "serve", "stuck":
		return r.checkTime()
	}
	return nil
}

func (r *request) checkTime() error {
	if r.time <= 0 || r.time > maxTime {
		return cli.Usagef("-for %s is not above 0 and at most %s", r.time, maxTime)
	}
	return nil
}

// know loads who this device is and whom it attacks.
func (r *request) know(cmd *command, config, victim string) error {
	self, pairings, err := device.Load(config)
	if err != nil {
		return err
	}
	r.self, r.pairings = self, pairings
	if (cmd.name == "lies" || cmd.name == "everywhere") && !slices.ContainsFunc(pairings, func(p device.Pairing) bool { return p.ID == r.as }) {
		return cli.Usagef("-as %q is not in the pairing list, which its public key is from", r.as)
	}
	for _, p := range pairings {
		if p.ID == victim || victim == "" && len(pairings) == 1 {
			r.victim = p
			return nil
		}
	}
	if victim == "" {
		return cli.Usagef("this device is paired with %d: say which with -victim ID", len(pairings))
	}
	return cli.Usagef("-victim %q is not in the pairing list, which its public key is from", victim)
}

// line is how the command is called.
func (c *command) line() string {
	if c.peerless {
		return "hostile " + c.name + " [FLAGS]"
	}
	return "hostile -peer IP[:PORT] [-victim ID] " + c.name + " [FLAGS]"
}

// parsePeer takes an address with or without a port. There are no names: a machine has nobody to ask.
func parsePeer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, sessionPort), nil
	}
	peer, err := netip.ParseAddrPort(s)
	if err != nil || peer.Port() == 0 {
		return netip.AddrPort{}, cli.Usagef("-peer %q is neither IP nor IP:PORT", s)
	}
	return peer, nil
}
