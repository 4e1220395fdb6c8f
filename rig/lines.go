package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"

	"github.com/spf13/cobra"
)

// followTail is how many lines that are there already are shown to who follows, as tail has it.
const followTail = 10

func newConsoleCommand() *cobra.Command {
	return newLinesCommand(live.SourceConsole, &cobra.Command{
		Use:   "console NODE",
		Short: "Print what a node's kernel has printed",
		Long: `Console prints the lines of a node's kernel, which begin with its own time. With
-f it goes on with those that come, also when the machine ends and is started
again, until the scenario ends or Ctrl-C.`,
	})
}

func newJournalCommand() *cobra.Command {
	return newLinesCommand(live.SourceJournal, &cobra.Command{
		Use:   "journal NODE",
		Short: "Print what a node's programs have printed",
		Long: `Journal prints the lines of a node's programs: seconds since the machine's
start, which program, and the line. With -f it goes on with those that come, also
when the machine ends and is started again, until the scenario ends or Ctrl-C.`,
	})
}

func newLinesCommand(source string, cmd *cobra.Command) *cobra.Command {
	q := live.LogQuery{Source: source}
	cmd.Args = cobra.ExactArgs(1)
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with the lines that come")
	cmd.Flags().IntVarP(&q.Last, "lines", "n", -1, fmt.Sprintf("only the last `N` of those that are there (default: all; with -f %d)", followTail))
	if source == live.SourceJournal {
		cmd.Flags().StringVar(&q.Unit, "unit", "", "only lines of that `PROGRAM`")
	}
	return asks(cmd, func(cmd *cobra.Command, c *live.Client, args []string) error {
		q.Node = args[0]
		switch given := cmd.Flags().Changed("lines"); {
		case given && q.Last < 0:
			return usage("-n %d: say how many lines, 0 or more", q.Last)
		case !given && q.Follow:
			q.Last = followTail
		}
		none, err := silence(cmd.Context(), c, q)
		if err != nil {
			return err
		}
		if none != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "rig: "+none)
		}
		out := cmd.OutOrStdout()
		err = c.Log(cmd.Context(), q, func(l console.Line) { fmt.Fprintln(out, logLine(l)) })
		if q.Follow {
			return unlessInterrupted(cmd, err)
		}
		return err
	})
}

// silence says why there are no lines yet that a query asks for; "" when there
// are.
func silence(ctx context.Context, c *live.Client, q live.LogQuery) (why string, err error) {
	if q.Last == 0 {
		return "", nil // none was asked for
	}
	q.Follow, q.Last = false, 1
	some := false
	if err := c.Log(ctx, q, func(console.Line) { some = true }); err != nil || some {
		return "", err
	}
	if q.Source == live.SourceConsole {
		return fmt.Sprintf("the kernel of %s has printed nothing: a clone has booted before it was one "+
			"(`up -cold`, or `rig run -cold`, boots machines from their kernel)", q.Node), nil
	}
	unit := q.Unit
	q.Unit, q.Last = "", -1
	var units []string
	err = c.Log(ctx, q, func(l console.Line) {
		if !slices.Contains(units, l.Unit) {
			units = append(units, l.Unit)
		}
	})
	if len(units) == 0 {
		return fmt.Sprintf("no program of %s has printed anything yet", q.Node), err
	}
	slices.Sort(units)
	return fmt.Sprintf("no program %q of %s has printed anything yet; those that have: %s", unit, q.Node, strings.Join(units, ", ")), err
}

// logLine is a line as it is shown. The kernel has its time in the line itself.
func logLine(l console.Line) string {
	text := console.Clean(l.Text)
	if l.Guest == 0 {
		return text
	}
	return fmt.Sprintf("%9.3f [%s] %s", l.Guest.Seconds(), console.Clean(l.Unit), text)
}
