package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/tty"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// debugFlags are the flags of `rig dlv` and `rig gdb`.
type debugFlags struct {
	freeze bool
	listen bool
	port   uint16
}

func (f *debugFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.freeze, "freeze-peer", true, "the other machines stand still whenever this one does, so that no timeout fires while a person reads")
	flags.BoolVar(&f.listen, "listen", false, "only say how to connect, also on a terminal")
	flags.Uint16Var(&f.port, "port", 0, portUsage)
}

// portUsage is the help of -port.
const portUsage = "listen on this TCP `PORT` of 127.0.0.1, for editors; 0 is any free one (default: a unix socket of your own)"

// listen listens for clients of a debugger: on a unix socket, or, where -port is given, on TCP.
func listen(cmd *cobra.Command, port uint16, p ownport.Protocol, one bool, refused func(why string)) (*ownport.Listener, error) {
	l, err := ownport.Listen(ownport.Options{TCP: cmd.Flags().Changed("port"), Port: port, Protocol: p, One: one, Refused: refused})
	if err != nil {
		return nil, fmt.Errorf("listen for a debugger: %w", err)
	}
	return l, nil
}

// opens says whether the debugger's own prompt is opened here.
func (f *debugFlags) opens() bool {
	return !f.listen && term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}

func newDlvCommand() *cobra.Command {
	var f debugFlags
	var fresh bool
	cmd := asks(&cobra.Command{
		Use:   "dlv NODE PROGRAM",
		Short: "Debug a program on a node with Delve",
		Long: `Dlv has a Delve run in the machine, attached to a running program of ours, and
passes a unix socket of this host on to it: for Delve's prompt, which is opened here
on a terminal, and for others. While the program stands at a breakpoint its machine and
the others stand still, so that no timeout fires, however long one looks.

The socket is in a folder that only your user may enter. For editors that need TCP,
-port listens on a port of 127.0.0.1 instead. Whoever reaches Delve runs any code in
the machine, so there only connections of your own user are served, by the kernel's
socket tables, and requests of web pages are refused.

With -fresh the program is started anew, compiled without optimizations, and stands
before its main function until a client lets it go on.

It ends when the last client has gone, and Delve has let the program go; with the
scenario; or by Ctrl-C. Delve and debug information are built when they are needed
for the first time.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("dlv: name a node and a program, as in rig dlv B dsoftbusd")
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		return dlv(cmd, c, f, fresh, args[0], args[1])
	})
	f.add(cmd)
	cmd.Flags().BoolVar(&fresh, "fresh", false, "start the program anew, without optimizations")
	return cmd
}

func dlv(cmd *cobra.Command, c *live.Client, f debugFlags, fresh bool, name, program string) error {
	if err := node(cmd, c, name); err != nil {
		return err
	}
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	files, err := images.DebuggerFor(cmd.Context(), images.Config{SourceDir: dir, Log: func(step string) { fmt.Fprintln(cmd.ErrOrStderr(), step) }}, fresh)
	if err != nil {
		return err
	}
	return debug(cmd, c, f, live.DebugOptions{
		Node: name, Program: program, Fresh: fresh, Freeze: f.freeze,
		Delve: files.Dlv, Binary: files.Node, BinaryPath: files.NodePath, Unoptimized: files.Unoptimized,
	}, ownport.Delve, func(at net.Addr) client {
		address := at.String()
		if at.Network() == "unix" {
			address = "unix:" + address
		}
		sources := "config substitute-path dsoftbus-rig " + dir
		return client{
			how:  []string{"dlv connect " + address, "(dlv) " + sources},
			argv: []string{files.Dlv, "connect", address, "--init", givenPath},
			init: sources + "\n",
		}
	})
}

// A client is a debugger's own program, for an address.
type client struct {
	how  []string // lines that say how to start it
	argv []string // nil: there is none on this host
	init string   // what it finds at givenPath
}

// givenPath is the first file beyond the standard ones that a program was started with, as a path: so it is in no folder, and left in none.
const givenPath = "/dev/fd/3"

func newGDBCommand() *cobra.Command {
	var f debugFlags
	var symbols string
	cmd := asks(&cobra.Command{
		Use:   "gdb NODE",
		Short: "Debug the kernel of a node's machine with gdb",
		Long: `Gdb passes a unix socket of this host on to QEMU's gdbstub, and opens gdb there, or
says how. The machine stands still from then on until gdb lets it go on, and the others
stand still whenever it does. When gdb hangs up everything goes on.

The socket is in a folder that only your user may enter. For editors that need TCP,
-port listens on a port of 127.0.0.1 instead. QEMU's stub gives its client QEMU's
monitor, and by that programs of this host: so there only connections of your own
user are served, by the kernel's socket tables, one at a time, and requests of web
pages are refused.

The distribution's cloud kernel has no symbols here. Those of its package
linux-image-…-dbg, or of a kernel of one's own, are handed on by -symbols.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("gdb: name a node, as in rig gdb B")
			}
			if symbols != "" {
				if _, err := os.Stat(symbols); err != nil {
					return usage("gdb: -symbols: %w", err)
				}
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		if err := node(cmd, c, args[0]); err != nil {
			return err
		}
		return debug(cmd, c, f, live.DebugOptions{Node: args[0], Freeze: f.freeze}, ownport.GDB, func(at net.Addr) client {
			argv := []string{"gdb", "-q", "-ex", "target remote " + at.String()}
			shown := "gdb -ex 'target remote " + at.String() + "'"
			if symbols != "" {
				abs, err := filepath.Abs(symbols)
				if err == nil {
					symbols = abs
				}
				argv = append(argv, symbols)
				shown += " " + symbols
			}
			if _, err := exec.LookPath("gdb"); err != nil {
				argv = nil
			}
			return client{how: []string{shown}, argv: argv}
		})
	})
	f.add(cmd)
	cmd.Flags().StringVar(&symbols, "symbols", "", "`FILE` with the kernel's symbols, a vmlinux")
	return cmd
}

// debug has a debugger begin, passes clients on to it, and runs its client here, or says how to connect.
func debug(cmd *cobra.Command, c *live.Client, f debugFlags, o live.DebugOptions, p ownport.Protocol, clientFor func(net.Addr) client) error {
	l, err := listen(cmd, f.port, p, o.Program == "", refused(cmd))
	if err != nil {
		return err
	}
	session, err := c.Debug(cmd.Context(), o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	ctx, leave := context.WithCancelCause(cmd.Context())
	defer leave(nil)
	client := clientFor(l.Addr())
	if f.opens() && client.argv != nil {
		// Ctrl-C is the client's.
		onInterrupt(cmd.Context(), func() bool { return true })
		defer onInterrupt(cmd.Context(), nil)
		wait, err := client.start(ctx)
		if err != nil {
			return errors.Join(err, l.Close(), session.Close(context.WithoutCancel(ctx)))
		}
		defer wait()
		defer leave(nil)
		go func() {
			wait()
			leave(errOver)
		}()
	} else {
		fmt.Fprintln(cmd.OutOrStdout(), strings.Join(client.how, "\n"))
	}
	err = passOn(ctx, cmd, l, session.Wait, session.Connect)
	// Not for ever: the worker bounds how long a debugger may take.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), letGoLimit)
	defer cancel()
	if closed := session.Close(closing); err == nil {
		err = closed
	}
	return err
}

// letGoLimit is more than a debugger takes to let go, also where everything is slow.
const letGoLimit = time.Minute

// start starts the client on this process's terminal. wait, which may be called
// more than once, returns when it has ended and the terminal is as it was: a
// client that ctx has killed leaves it in its own mode.
func (c *client) start(ctx context.Context) (wait func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	_, err = w.WriteString(c.init) // less than a pipe holds
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{r}
	restore, err := tty.Keep(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("remember the terminal's settings: %w", err)
	}
	if err := child.Start(); err != nil {
		restore()
		return nil, err
	}
	return sync.OnceFunc(func() {
		_ = child.Wait()
		restore()
	}), nil
}
