package main

import (
	"fmt"
	"io"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"

	"github.com/spf13/cobra"
)

func newDoCommand() *cobra.Command {
	var verbose bool
	cmd := asks(&cobra.Command{
		Use:   "do LINE...",
		Short: "Run one line of the scenario language in a running scenario",
		Long: `Do runs one line in a running scenario, as in

    rig do exec A pkgfs peers
    rig do '! marker -within 5s B panic'

and prints what it prints. One argument is the line as it is; of several, those
with spaces are quoted. Options of rig itself come before the line. A scenario that
runs goes on meanwhile, and cannot pass any more, only be repaired.

Exit status: 0 the line did what it should; 1 it failed; 2 it makes no sense; 130
Ctrl-C has ended it, and nothing else.`,
		Args:        cobra.MinimumNArgs(1),
		Annotations: map[string]string{takesLine: "yes"},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
		err := c.Do(cmd.Context(), lineOf(args), func(e record.Event) {
			switch {
			case e.Kind == record.KindOutput && e.Stream == "stdout":
				show(stdout, e.Text)
			case e.Kind == record.KindOutput && e.Stream == "stderr":
				show(stderr, e.Text)
			case verbose || e.Kind == record.KindWarning:
				showEvent(stderr, e)
			}
		})
		if err != nil && cmd.Context().Err() != nil {
			return &exitError{record.ExitInterrupted, err}
		}
		return err
	})
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print the line's events, too, to stderr")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// lineOf makes one line of arguments.
func lineOf(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = arg
		if arg == "" || strings.ContainsAny(arg, " \t\r'#") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", "''") + "'"
		}
	}
	return strings.Join(words, " ")
}

// showEvent prints an event in one line.
func showEvent(w io.Writer, e record.Event) {
	parts := []string{"#", string(e.Kind)}
	for _, part := range []string{e.Name, e.Node, e.Unit, e.State, e.Stream} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Seconds > 0 {
		parts = append(parts, fmt.Sprintf("%.3fs", e.Seconds))
	}
	line := strings.Join(parts, " ")
	for _, text := range []string{strings.TrimRight(e.Text, "\r\n"), e.Error} {
		if text != "" {
			line += ": " + text
		}
	}
	fmt.Fprintln(w, console.Clean(line))
}
