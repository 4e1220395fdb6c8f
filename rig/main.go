// Command rig runs integration tests on QEMU machines that talk to each other
// over a tap bridge. See README.md, or `rig help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/suite"
	"dsoftbus-rig/rig/tty"
	"dsoftbus-rig/rig/warm"
	"dsoftbus-rig/rig/worker"

	"github.com/spf13/cobra"
)

func main() {
	// A worker is this program again; it is no command for people.
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{
			suite.ScenarioJob: suite.Work,
			host.ProbeJob:     host.Probe,
			host.NetworkJob:   host.Network,
			host.FaultsJob:    host.TryFaults,
			warm.SaveJob:      warm.Make,
		}))
	}
	if len(os.Args) == 2 && os.Args[1] == tty.Command {
		os.Exit(tty.Main())
	}
	tty.Program = "/proc/self/exe"
	os.Exit(run(os.Args[1:]))
}

// run runs one command line and returns its exit status (see exitError).
func run(args []string) int {
	ctx, stop := interruptible()
	defer stop()
	root := newRoot()
	var err error
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		err = complete(ctx, root, args)
	} else {
		root.SetArgs(longFlags(root, args))
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return record.ExitGreen
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		// What cobra finds wrong itself: commands, arguments and flags.
		fmt.Fprintf(os.Stderr, "rig: %v\n", err)
		return record.ExitInvalid
	}
	if exit.err != nil {
		// What is wrong with scenarios begins with file and line, by which editors find
		// the place.
		var problems scenario.Problems
		located := errors.As(exit.err, &problems)
		// A machine may have said a part of it.
		for i, line := range strings.Split(record.ErrorText(exit.err), "\n") {
			if i == 0 && !located {
				line = "rig: " + line
			}
			fmt.Fprintln(os.Stderr, console.Clean(line))
		}
	}
	return exit.status
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// ends. The second one kills this process, and the kernel everything it
// started. A SIGINT that a command has another use for (onInterrupt) is none of
// them.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	i := &interrupts{}
	ctx = context.WithValue(ctx, interruptsKey{}, i)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // which nohup(1) asks for
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGINT && i.used() {
				continue
			}
			signal.Stop(signals)
			cancel(errInterrupted)
			return
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// interrupts is what else a SIGINT is good for.
type interrupts struct {
	mu  sync.Mutex
	use func() bool
}

type interruptsKey struct{}

func (i *interrupts) used() bool {
	i.mu.Lock()
	use := i.use
	i.mu.Unlock()
	return use != nil && use()
}

// onInterrupt has use called for each SIGINT from now on; where it returns true that was all, else the command ends.
func onInterrupt(ctx context.Context, use func() bool) {
	if i, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.use = use
	}
}

// An exitError is an error that has been classified; err is nil when all has been
// said already.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// classify gives an error its exit status.
func classify(ctx context.Context, err error) error {
	var (
		exit        *exitError
		problems    scenario.Problems
		unsupported *host.UnsupportedError
		said        *live.Error
		unfound     *live.FindError
	)
	switch {
	case err == nil || errors.As(err, &exit):
		return err
	case ctx.Err() != nil:
		return &exitError{record.ExitInterrupted, context.Cause(ctx)}
	case errors.Is(err, errInterrupted):
		return &exitError{record.ExitInterrupted, err}
	case errors.As(err, &problems):
		return &exitError{record.ExitInvalid, err}
	case errors.As(err, &unsupported):
		return &exitError{record.ExitUnsupported, err}
	case errors.As(err, &said):
		return &exitError{statusOf(said), err}
	case errors.As(err, &unfound) && unfound.Several:
		return &exitError{record.ExitInvalid, err}
	case errors.As(err, &unfound):
		return &exitError{record.ExitFailed, err}
	}
	return &exitError{record.ExitBroken, err}
}

func newRoot() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "rig COMMAND",
		Short: "Integration tests on QEMU machines that talk over a tap bridge",
		Long: `rig boots QEMU machines on a tap bridge, plays scenario files on them, and
records what happened.

Exit statuses: 0 green; 1 a scenario failed; 2 wrong usage or an invalid
scenario; 3 this host cannot run machines (with what to install or change);
4 the rig or a machine broke; 130 interrupted.

Flags may be written with one dash or two.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return unknownCommand(cmd, args[0])
			case version:
				return printVersion(cmd)
			}
			cmd.SetOut(cmd.ErrOrStderr())
			printHelp(cmd, nil)
			return &exitError{status: record.ExitInvalid}
		},
	}
	root.PersistentFlags().StringP("dir", "C", "", "project `FOLDER` (default: the nearest one above that has a go.mod of this project)")
	root.Flags().BoolVar(&version, "version", false, "the same as rig version")
	root.AddGroup(
		&cobra.Group{ID: groupPlay, Title: "Commands:"},
		&cobra.Group{ID: groupAlive, Title: "While a scenario runs, from another terminal:"},
	)
	root.SetHelpFunc(printHelp)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	help := newHelpCommand()
	root.SetHelpCommand(help)
	for _, cmd := range []*cobra.Command{
		newRunCommand(), newCheckCommand(), newListCommand(), newDoctorCommand(), newBuildCommand(), newBenchCommand(),
		newSoakCommand(), newShellCommand(), newHistoryCommand(), newGCCommand(), newMergeCommand(), newDecodeCommand(),
		newReportCommand(), newReplayCommand(), newPackCommand(), newUnpackCommand(), newVersionCommand(),
		newCompletionCommand(), help,
	} {
		cmd.GroupID = groupPlay
		root.AddCommand(cmd)
	}
	root.AddCommand(aliveCommands()...)
	for _, cmd := range root.Commands() {
		checksArguments(cmd)
	}
	addCompletions(root)
	return root
}

// takesLine is the annotation of a command that takes a line of the scenario language: what looks like a flag there is none of ours.
const takesLine = "line"

// longFlags lets long flags be written with one dash, as the scenario language
// and the Go tools have them: "-kernel FILE" for "--kernel FILE".
func longFlags(root *cobra.Command, args []string) []string {
	var command *cobra.Command
	value := false // the argument is that of the flag in front of it
	out := make([]string, 0, len(args))
	for i, arg := range args {
		flag := !value && len(arg) > 1 && arg[0] == '-'
		switch {
		case arg == "--":
			return append(out, args[i:]...)
		case flag || value:
		case command == nil:
			command, _, _ = root.Find([]string{arg}) // what is unknown is told when it is executed
		case command.Annotations[takesLine] != "":
			return append(out, args[i:]...)
		}
		name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if flag && !strings.HasPrefix(arg, "--") && len(name) > 1 && !cluster(root, command, arg[1:]) {
			arg = "-" + arg
		}
		value = flag && !given && wantsValue(root, command, name)
		out = append(out, arg)
	}
	return out
}

// cluster reports whether letters are flags of one letter each, the last of
// them perhaps with its value: "vn5". A name of a flag is none.
func cluster(root, command *cobra.Command, letters string) bool {
	name, _, _ := strings.Cut(letters, "=")
	if findFlag(root, command, name) != nil {
		return false
	}
	for i := range len(letters) {
		f := findFlag(root, command, letters[i:i+1])
		if f == nil {
			return false
		}
		if rest := letters[i+1:]; rest != "" && f.NoOptDefVal == "" {
			return f.Value.Type() == "string" || strings.ContainsAny(rest[:1], "=-0123456789")
		}
	}
	return true
}

// findFlag returns the flag with that name, long or short, of a command or of
// all; nil when there is none.
func findFlag(root, command *cobra.Command, name string) *flagOf {
	for _, c := range []*cobra.Command{command, root} {
		if c == nil {
			continue
		}
		for _, flags := range []*flagSet{c.Flags(), c.PersistentFlags()} {
			f := flags.Lookup(name)
			if f == nil && len(name) == 1 {
				f = flags.ShorthandLookup(name)
			}
			if f != nil {
				return f
			}
		}
	}
	return nil
}

// wantsValue reports whether the flag with that name, long or short, is
// followed by a value.
func wantsValue(root, command *cobra.Command, name string) bool {
	f := findFlag(root, command, name)
	return f != nil && f.NoOptDefVal == ""
}
