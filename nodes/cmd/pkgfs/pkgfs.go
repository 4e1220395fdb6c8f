package pkgfs

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
)

// A request is a checked command line.
type request struct {
	socket string
	peer   string
	opts   remotefs.Options
	stdout io.Writer

	args  []string // of the command, as many as it takes
	lines []line   // pk's
	bench benchmark
}

// A command is one of the things pkgfs does.
type command struct {
	name     string
	usage    string // its arguments
	peerless bool   // it needs no -peer
	args     int    // how many it takes; -1: at least one
	retries  bool   // it takes -retry
	run      func(ctx context.Context, r *request) error
}

var commands = []command{
	{name: "stat", usage: "PATH", args: 1, retries: true, run: withReader(statFile)},
	{name: "cat", usage: "PATH", args: 1, retries: true, run: withReader(cat)},
	{name: "get", usage: "PATH FILE", args: 2, retries: true, run: withReader(get)},
	{name: "sum", usage: "PATH", args: 1, retries: true, run: withReader(sum)},
	{name: "bench", usage: "PATH [-chunk N] [-window N] [-bytes N] [-count N] [-sha256 HEX]", args: 1, run: withPeer(bench)},
	{name: "pk", usage: "LINE...", args: -1, run: withPeer(runLines)},
	{name: "peers", peerless: true, run: listPeers},
}

// Main is the whole program but for signals, which end ctx. It returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := func() error {
		cmd, r, err := parse(args, stderr)
		if err != nil {
			return err
		}
		r.stdout = stdout
		return cmd.run(ctx, r)
	}()
	return cli.Status("pkgfs", err, stderr)
}

// parse checks a command line whole, so that a wrong one does nothing.
func parse(args []string, stderr io.Writer) (*command, *request, error) {
	r := &request{}
	flags := newFlags("pkgfs", stderr)
	flags.StringVar(&r.peer, "peer", "", "device `id` of the peer")
	flags.StringVar(&r.socket, "socket", localapi.DefaultSocket, "unix socket of dsoftbusd")
	flags.DurationVar(&r.opts.Wait, "wait", 5*time.Second, "how long to wait for a session with the peer")
	flags.DurationVar(&r.opts.Timeout, "timeout", 10*time.Second, "how long to wait for any answer before the session is given up")
	retry := flags.Bool("retry", false, "go on over a new session, once, when the session is lost (stat, cat, get, sum)")
	help := func() {
		fmt.Fprintln(stderr, "usage:")
		for _, c := range commands {
			fmt.Fprintln(stderr, " ", c.line())
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
	if r.opts.Wait <= 0 {
		r.opts.Wait = -1 // zero would be the library's default
	}
	if !cmd.peerless && r.peer == "" {
		return nil, nil, cli.Usagef("%s needs -peer, before the command: %s", cmd.name, cmd.line())
	}
	if *retry && !cmd.retries {
		return nil, nil, cli.Usagef("-retry is not for %s, which is more than one may ask twice", cmd.name)
	}
	if *retry {
		r.opts.Retries = 1
	}
	r.args = flags.Args()[1:]
	if cmd.name == "bench" {
		if err := r.parseBench(stderr); err != nil {
			return nil, nil, err
		}
	}
	if len(r.args) != cmd.args && (cmd.args >= 0 || len(r.args) == 0) {
		return nil, nil, cli.Usagef("%s got %d arguments: %s", cmd.name, len(r.args), cmd.line())
	}
	if cmd.name == "pk" {
		r.lines, err = parseLines(r.args)
	}
	return cmd, r, err
}

func newFlags(name string, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	return flags
}

// line is how the command is called.
func (c *command) line() string {
	if c.peerless {
		return strings.TrimSpace("pkgfs " + c.name + " " + c.usage)
	}
	return "pkgfs -peer ID " + c.name + " " + c.usage
}

// withPeer makes a command of a function that needs one session with the peer.
func withPeer(f func(ctx context.Context, c *remotefs.Client, r *request) error) func(context.Context, *request) error {
	return dialled(remotefs.Dial, f)
}

// withReader makes a command of a function that goes on over another session where that was asked for.
func withReader(f func(ctx context.Context, c *remotefs.Reader, r *request) error) func(context.Context, *request) error {
	return dialled(remotefs.OpenReader, f)
}

func dialled[C io.Closer](dial func(ctx context.Context, socket, peer string, opts remotefs.Options) (C, error),
	f func(ctx context.Context, c C, r *request) error) func(context.Context, *request) error {
	return func(ctx context.Context, r *request) error {
		c, err := dial(ctx, r.socket, r.peer, r.opts)
		if err != nil {
			return err
		}
		defer c.Close()
		// The reading of files takes no context; closing the client ends it.
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if err := f(ctx, c, r); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted: %w", context.Cause(ctx))
			}
			return err
		}
		return nil
	}
}

func statFile(ctx context.Context, c *remotefs.Reader, r *request) error {
	info, err := c.Stat(ctx, r.args[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.stdout, "size=%d kind=%d\n", info.Size(), info.Kind())
	return err
}

func cat(ctx context.Context, c *remotefs.Reader, r *request) error {
	_, err := c.Copy(ctx, r.args[0], r.stdout)
	return err
}

func sum(ctx context.Context, c *remotefs.Reader, r *request) error {
	digest := sha256.New()
	if _, err := c.Copy(ctx, r.args[0], digest); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.stdout, "%x  %s\n", digest.Sum(nil), plain(r.args[0]))
	return err
}

func listPeers(ctx context.Context, r *request) error {
	// dsoftbusd answers from memory; this is for one that is stuck.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	peers, err := localapi.Peers(ctx, r.socket)
	if err != nil {
		return err
	}
	for _, p := range peers {
		age := "never"
		if p.AgeMS >= 0 {
			age = (time.Duration(p.AgeMS) * time.Millisecond).String()
		}
		if _, err := fmt.Fprintf(r.stdout, "%s paired=%t session=%t addresses=%s port=%d services=%s age=%s\n",
			plain(p.ID), p.Paired, p.Session, list(p.Addresses), p.Port, list(p.Services), age); err != nil {
			return err
		}
	}
	return nil
}

func list(items []string) string {
	if len(items) == 0 {
		return "-"
	}
	shown := make([]string, len(items))
	for i, item := range items {
		shown[i] = plain(item)
	}
	return strings.Join(shown, ",")
}

// plain shows a string that somebody else chose so that it stays one word of
// one line: anybody on the LAN can announce any id.
func plain(s string) string {
	odd := func(r rune) bool { return r == unicode.ReplacementChar || r == ' ' || r == ',' || !unicode.IsPrint(r) }
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}
