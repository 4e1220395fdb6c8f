package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/tty"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newAttachCommand() *cobra.Command {
	return asks(&cobra.Command{
		Use:   "attach NODE [-- PROGRAM [ARG...]]",
		Short: "Open a shell, or run a program, in a node's machine on this terminal",
		Long: `Attach runs the machine's shell, or a program, on a terminal of its own in a
node's machine, and connects it with this one: Ctrl-C and all other keys go there,
and so does a change of the terminal's size. "~." at the start of a line
disconnects, which hangs up what ran; "~~" there is one "~".

When its input is no terminal, what comes from there is typed. The exit status is
the program's, 128 + N when signal N ended it. A scenario that somebody has
attached to cannot pass any more, only be repaired.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 || dash == 0:
				return usage("attach: name a node, as in rig attach A")
			case len(args) > 1 && dash != 1:
				return usage("attach %s: put -- in front of the program, as in rig attach %s -- ps", args[0], args[0])
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		exit, err := attach(cmd.Context(), c, args[0], args[1:])
		if err == nil && exit.Status != 0 {
			return &exitError{status: exit.Status}
		}
		return err
	})
}

// endOfInput ends a terminal's input: Ctrl-D, twice, since behind a line that has no end the first only sends that line off.
const endOfInput = "\x04\x04"

// attach runs a program of a node on this process's terminal, or its pipes.
func attach(ctx context.Context, c *live.Client, node string, argv []string) (agentapi.Exit, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		// 24 rows of 80 columns are what programs take a terminal for that does not say.
		shell := agentapi.Shell{Argv: argv, Term: "dumb", Size: agentapi.Size{Rows: 24, Cols: 80}}
		return c.Shell(ctx, node, shell, io.MultiReader(os.Stdin, strings.NewReader(endOfInput)), os.Stdout, nil)
	}
	shell := agentapi.Shell{Argv: argv, Term: os.Getenv("TERM")}
	if shell.Term == "" {
		shell.Term = "dumb"
	}
	var exit agentapi.Exit
	err := inRawMode(ctx, os.Stdin, func(ctx context.Context, size agentapi.Size, sizes <-chan agentapi.Size) (err error) {
		shell.Size = size
		ctx, disconnect := context.WithCancelCause(ctx)
		defer disconnect(nil)
		keys := &escapes{r: os.Stdin, start: true, disconnect: func() { disconnect(errDisconnected) }}
		exit, err = c.Shell(ctx, node, shell, keys, os.Stdout, sizes)
		return err
	})
	if errors.Is(err, errDisconnected) {
		err = &exitError{record.ExitInterrupted, fmt.Errorf("disconnected from %s: what ran there has hung up", node)}
	}
	return exit, err
}

// errDisconnected is why a shell ends whose person has typed "~.".
var errDisconnected = errors.New("disconnected")

// inRawMode calls f with a terminal in raw mode, its size and its sizes to come, and leaves it as it was. Signals that would end the process end
// f's context, however many come, since nobody else knows how the terminal was.
func inRawMode(ctx context.Context, in *os.File, f func(ctx context.Context, size agentapi.Size, sizes <-chan agentapi.Size) error) error {
	fd := int(in.Fd())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	restore, err := tty.Keep(in)
	if err == nil {
		defer restore()
		_, err = term.MakeRaw(fd)
	}
	if err != nil {
		return fmt.Errorf("take the terminal over: %w", err)
	}
	size := func() (s agentapi.Size) {
		if cols, rows, err := term.GetSize(fd); err == nil {
			s = agentapi.Size{Rows: uint16(rows), Cols: uint16(cols)}
		}
		return s
	}
	first := size()
	sizes := make(chan agentapi.Size)
	done := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(done)
	watching.Go(func() {
		var (
			now agentapi.Size
			to  chan<- agentapi.Size // nil while nothing has changed
		)
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGWINCH {
					cancel(errInterrupted)
					continue
				}
				now, to = size(), sizes
			case to <- now:
				to = nil
			case <-done:
				return
			}
		}
	})
	return f(ctx, first, sizes)
}

// escapes passes on what is typed, but for "~." at the start of a line, which disconnects, and "~~" there, which is one "~". As with ssh, a "~" there
// is only passed on with the key that follows.
type escapes struct {
	r          io.Reader
	disconnect func()

	start   bool // the next key is the first of a line
	held    bool // a "~" was typed there
	over    bool
	pending []byte
}

func (e *escapes) Read(b []byte) (int, error) {
	for len(e.pending) == 0 {
		if e.over {
			return 0, io.EOF
		}
		n, err := e.r.Read(b)
		for _, key := range b[:n] {
			if e.take(key); e.over {
				break
			}
		}
		if err != nil && len(e.pending) == 0 {
			return 0, err
		}
	}
	n := copy(b, e.pending)
	e.pending = append(e.pending[:0], e.pending[n:]...)
	return n, nil
}

func (e *escapes) take(key byte) {
	switch {
	case e.held && key == '.':
		e.over = true
		e.disconnect()
		return
	case e.held && key != '~':
		e.pending = append(e.pending, '~')
	case !e.held && e.start && key == '~':
		e.held = true
		return
	}
	e.held = false
	e.pending = append(e.pending, key)
	e.start = key == '\r' || key == '\n'
}
