package main

import (
	"fmt"

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
		out := cmd.OutOrStdout()
		err := c.Log(cmd.Context(), q, func(l console.Line) { fmt.Fprintln(out, logLine(l)) })
		if q.Follow {
			return unlessInterrupted(cmd, err)
		}
		return err
	})
}

// logLine is a line as it is shown. The kernel has its time in the line itself.
func logLine(l console.Line) string {
	text := console.Clean(l.Text)
	if l.Guest == 0 {
		return text
	}
	return fmt.Sprintf("%9.3f [%s] %s", l.Guest.Seconds(), console.Clean(l.Unit), text)
}
