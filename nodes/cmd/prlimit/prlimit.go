package prlimit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/process"
)

// A request is a checked command line.
type request struct {
	program string
	change  func(limit *unix.Rlimit, open []int) // open are the numbers of open descriptors, rising

	start []string // the command line of a program to start, in place of changing a running one
	limit uint64   // start's
}

// Main is the whole program. It returns the exit status.
func Main(_ context.Context, args []string, stdout, stderr io.Writer) int {
	r, err := parse(args, stderr)
	switch {
	case err != nil:
	case r.start != nil:
		err = r.become()
	default:
		err = r.do(stdout)
	}
	return cli.Status("prlimit", err, stderr)
}

// parse checks a command line whole, so that a wrong one does nothing.
func parse(args []string, stderr io.Writer) (*request, error) {
	r := &request{change: func(*unix.Rlimit, []int) {}}
	flags := flag.NewFlagSet("prlimit", flag.ContinueOnError)
	flags.SetOutput(stderr)
	nofile := flags.String("nofile", "", "descriptors below `N` only; max is as many as it may ever have")
	spare := flags.Int("spare", -1, "`N` descriptors more than it has")
	start := flags.Bool("start", false, "with -nofile N: start PROGRAM under this limit, which it cannot raise")
	help := func() {
		fmt.Fprintln(stderr, "usage:\n  prlimit [-nofile N|max | -spare N] PROGRAM\n  prlimit -start -nofile N PROGRAM [ARG...]")
		flags.PrintDefaults()
	}
	if err := cli.ParseFlags(flags, args, help); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *start {
		n, err := strconv.ParseUint(*nofile, 10, 31)
		if err != nil || given["spare"] || flags.NArg() == 0 {
			return nil, cli.Usagef("-start takes -nofile N and a program, as in prlimit -start -nofile 8 packagefsd")
		}
		r.start, r.limit = flags.Args(), n
		return r, nil
	}
	if flags.NArg() != 1 {
		return nil, cli.Usagef("%d programs; name one, as in prlimit -spare 2 dsoftbusd", flags.NArg())
	}
	r.program = flags.Arg(0)
	switch {
	case given["nofile"] && given["spare"]:
		return nil, cli.Usagef("-nofile with -spare: say one of them")
	case *nofile == "max":
		r.change = func(l *unix.Rlimit, _ []int) { l.Cur = l.Max }
	case given["nofile"]:
		n, err := strconv.ParseUint(*nofile, 10, 31)
		if err != nil {
			return nil, cli.Usagef("-nofile %s: say a number, or max", *nofile)
		}
		r.change = func(l *unix.Rlimit, _ []int) { l.Cur = n }
	case given["spare"] && *spare < 0:
		return nil, cli.Usagef("-spare %d: say 0 or more", *spare)
	case given["spare"]:
		r.change = func(l *unix.Rlimit, open []int) { l.Cur = limitFor(open, *spare) }
	}
	return r, nil
}

// become puts the program in this one's place.
func (r *request) become() error {
	file, err := exec.LookPath(r.start[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", r.start[0], err)
	}
	// Of a lower limit alone a program of Go makes the highest that it may have
	// when it starts. Syscall's function, since syscall.Exec gives back what
	// this program's own start has raised, unless it knows better.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: r.limit, Max: r.limit}); err != nil {
		return fmt.Errorf("limit %s to %d descriptors: %w", r.start[0], r.limit, err)
	}
	return fmt.Errorf("start %s: %w", file, syscall.Exec(file, r.start, os.Environ()))
}

func (r *request) do(stdout io.Writer) error {
	pid, err := process.One(process.Proc, r.program)
	if err != nil {
		return err
	}
	open, err := process.Descriptors(process.Proc, pid)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it has ended meanwhile")
	}
	if err != nil {
		return fmt.Errorf("%s, pid %d: %w", r.program, pid, err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return fmt.Errorf("the limit of %s, pid %d: %w", r.program, pid, err)
	}
	before := limit
	r.change(&limit, open)
	if limit.Cur > limit.Max {
		return fmt.Errorf("%s, pid %d, may never have more than %d descriptors", r.program, pid, limit.Max)
	}
	if limit != before {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			return fmt.Errorf("limit %s, pid %d, to %d: %w", r.program, pid, limit.Cur, err)
		}
	}
	_, err = fmt.Fprintf(stdout, "%s pid=%d fds=%d nofile=%d spare=%d\n", r.program, pid, len(open), limit.Cur, spareOf(open, limit.Cur))
	return err
}

// limitFor is the limit that leaves room for n descriptors beside those that are open. A new descriptor gets the lowest number that is free.
func limitFor(open []int, n int) uint64 {
	limit := 0
	for free := 0; free < n; limit++ {
		if len(open) > 0 && open[0] == limit {
			open = open[1:]
		} else {
			free++
		}
	}
	return uint64(limit)
}

// spareOf is how many numbers below a limit are free.
func spareOf(open []int, limit uint64) uint64 {
	spare := limit
	for _, fd := range open {
		if uint64(fd) < limit {
			spare--
		}
	}
	return spare
}
