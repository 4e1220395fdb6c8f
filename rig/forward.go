package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/record"

	"github.com/spf13/cobra"
)

func newForwardCommand() *cobra.Command {
	var anyUser bool
	cmd := asks(&cobra.Command{
		Use:   "forward NODE PORT [LOCALPORT]",
		Short: "Pass connections on to a port of a node",
		Long: `Forward listens on a port of this host's 127.0.0.1, any free one without LOCALPORT
or with 0, prints the address, and passes connections on to a TCP port of the
machine's own loopback address, until the scenario ends or Ctrl-C. Nothing of it is
on the network between the nodes.

Only connections of your own user are passed on: the kernel's socket tables say whose
each is. With -any-user those of every user of this host are. Either way a web page
in a browser of yours can send requests there, as to any port of 127.0.0.1.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 3 {
				return usage("forward: name a node and a port, as in rig forward A 8080")
			}
			if _, err := port(args[1], 1); err != nil {
				return err
			}
			if len(args) == 3 {
				_, err := port(args[2], 0)
				return err
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error { return forward(cmd, c, anyUser, args) })
	cmd.Flags().BoolVar(&anyUser, "any-user", false, "pass on connections of other users of this host, too")
	return cmd
}

// port reads a port's number.
func port(text string, least uint64) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < least {
		return 0, usage("port %q: say a number from %d to 65535", text, least)
	}
	return uint16(n), nil
}

// errOver is the cause of a context that the scenario's end has ended.
var errOver = errors.New("the scenario has ended")

func forward(cmd *cobra.Command, c *live.Client, anyUser bool, args []string) error {
	to, err := port(args[1], 1)
	if err != nil {
		return err
	}
	var local uint16
	if len(args) == 3 {
		if local, err = port(args[2], 0); err != nil {
			return err
		}
	}
	if err := node(cmd, c, args[0]); err != nil {
		return err
	}
	l, err := ownport.Listen(ownport.Options{TCP: true, Port: local, AnyUser: anyUser, Protocol: ownport.Any, Refused: refused(cmd)})
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	fmt.Fprintln(cmd.OutOrStdout(), l.Addr())
	return passOn(cmd.Context(), cmd, l,
		func(ctx context.Context) error { return c.Follow(ctx, func(record.Event) {}) },
		func(ctx context.Context) (*live.Conn, error) { return c.Dial(ctx, args[0], to) })
}

// passOn passes connections on to what connect connects to, until over returns, ctx ends, or Ctrl-C. It closes l.
func passOn(ctx context.Context, cmd *cobra.Command, l net.Listener, over func(context.Context) error, connect func(context.Context) (*live.Conn, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	running.Go(func() {
		err := over(ctx)
		if err == nil {
			err = errOver
		}
		cancel(err)
	})
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			if cause := context.Cause(ctx); !errors.Is(cause, errOver) {
				return unlessInterrupted(cmd, cause)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("take connections on %s: %w", l.Addr(), err)
		}
		running.Go(func() {
			defer conn.Close()
			machine, err := connect(ctx)
			if err != nil {
				if ctx.Err() == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "rig: connection from %s: %s\n", conn.RemoteAddr(), console.Clean(err.Error()))
				}
				return
			}
			_ = live.Splice(ctx, conn, machine) // both ends see how it ends
		})
	}
}

// refused returns how a command tells that a connection was refused.
func refused(cmd *cobra.Command) func(why string) {
	return func(why string) { fmt.Fprintln(cmd.ErrOrStderr(), "rig: "+refusal(why)) }
}

func refusal(why string) string {
	return "refused a connection: " + why + " (further ones for this reason are not shown)"
}
