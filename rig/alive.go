package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Groups of commands, in the order in which help has them.
const (
	groupPlay  = "play"
	groupAlive = "alive"
)

// aliveCommands returns the commands that ask a scenario which runs, from another terminal.
func aliveCommands() []*cobra.Command {
	return []*cobra.Command{
		newPsCommand(), newAttachCommand(), newConsoleCommand(), newJournalCommand(), newDoCommand(), newCpCommand(),
		newForwardCommand(), newQMPCommand(), newStacksCommand(), newDumpCommand(), newDlvCommand(), newGDBCommand(),
	}
}

// asks makes a command one that asks the scenario which -run means.
func asks(cmd *cobra.Command, ask func(cmd *cobra.Command, c *live.Client, args []string) error) *cobra.Command {
	cmd.GroupID = groupAlive
	run := cmd.Flags().String("run", "", "the scenario that is meant, when several run: its `NAME`, its run's, RUN/NAME, or a part of these (default: the one of this project)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, found, err := findLive(cmd.Context(), cmd, *run)
		if err == nil && found.Others > 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), console.Clean(fmt.Sprintf(
				"rig: asking %s, a run of this project; -run names another (%d of other projects)", found.String(), found.Others)))
		}
		if err == nil {
			err = ask(cmd, c, args)
		}
		return classify(cmd.Context(), err)
	}
	return cmd
}

// findLive finds the running scenario that is meant, if need be one of the
// project that this command is given in.
func findLive(ctx context.Context, cmd *cobra.Command, pattern string) (*live.Client, live.Found, error) {
	dir, err := project(cmd)
	if err != nil {
		dir = "" // the command needs none
	}
	return live.Find(ctx, pattern, dir)
}

// statusOf is the exit status for what a scenario answers.
func statusOf(e *live.Error) int {
	switch e.Class {
	case live.Invalid:
		return record.ExitInvalid
	case live.Lost:
		return record.ExitBroken
	}
	return record.ExitFailed
}

// unlessInterrupted is the error of a command that Ctrl-C ends as a matter of course.
func unlessInterrupted(cmd *cobra.Command, err error) error {
	if err != nil && errors.Is(err, errInterrupted) && cmd.Context().Err() != nil {
		return nil
	}
	return err
}

// node returns nil when the scenario has a node of that name.
func node(cmd *cobra.Command, c *live.Client, name string) error {
	s, err := c.Status(cmd.Context())
	if err != nil {
		return err
	}
	var all []string
	for _, n := range s.Nodes {
		if n.Name == name {
			return nil
		}
		all = append(all, n.Name)
	}
	return usage("there is no node %q; there are %s", name, strings.Join(all, ", "))
}

// show prints text of a machine's: as it came where a program reads it, and so that it cannot do anything to a terminal.
func show(w io.Writer, text string) {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(w, text)
		return
	}
	for line := range strings.Lines(text) {
		whole, ended := strings.CutSuffix(line, "\n")
		fmt.Fprint(w, console.Clean(strings.TrimSuffix(whole, "\r")))
		if ended {
			fmt.Fprintln(w)
		}
	}
}

// remote splits NODE:PATH; ok is false for a path of the host's.
func remote(arg string) (node, path string, ok bool) {
	node, path, ok = strings.Cut(arg, ":")
	if !ok || !scenario.ValidNode(node) {
		return "", arg, false
	}
	return node, path, true
}
