package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"

	"github.com/spf13/cobra"
)

func newPsCommand() *cobra.Command {
	var asJSON bool
	var run string
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List running scenarios, and the step of each",
		GroupID: groupAlive,
		Long: `Ps lists the running scenarios of this user: since when, the state of each node,
the step that runs, and whether the scenario runs or stands still for a person.
Nothing to list is no failure.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return classify(cmd.Context(), ps(cmd, run, asJSON)) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	cmd.Flags().StringVar(&run, "run", "", "only those with `NAME` in their name or their run's")
	return cmd
}

func ps(cmd *cobra.Command, pattern string, asJSON bool) error {
	all, err := live.List(cmd.Context())
	if err != nil {
		return err
	}
	var shown []live.Alive
	for _, a := range all {
		switch {
		case a.Err != nil:
			fmt.Fprintln(cmd.ErrOrStderr(), console.Clean(fmt.Sprintf("process %d does not say what it plays: %v", a.PID, a.Err)))
		case strings.Contains(a.String(), pattern):
			shown = append(shown, a)
		}
	}
	if asJSON {
		list := []any{}
		for _, a := range shown {
			list = append(list, struct {
				PID int `json:"pid"`
				live.Status
			}{a.PID, a.Status})
		}
		out := json.NewEncoder(cmd.OutOrStdout())
		out.SetIndent("", "  ")
		return out.Encode(list)
	}
	if len(shown) == 0 {
		none := "no scenario is running"
		if len(all) > 0 && pattern != "" {
			none = fmt.Sprintf("no running scenario matches %q", pattern)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), none)
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSCENARIO\tSINCE\tNODES\tSTATE\tSTEP")
	for _, a := range shown {
		fmt.Fprintln(w, psLine(&a, time.Now()))
	}
	return w.Flush()
}

// psLine is one scenario's line, its cells ended by tabulators.
func psLine(a *live.Alive, now time.Time) string {
	s := &a.Status
	var nodes []string
	for _, n := range s.Nodes {
		nodes = append(nodes, n.Name+" "+n.State)
	}
	state := "running"
	if s.Held != "" {
		state = "held: " + s.Held
	}
	step := "-"
	switch {
	case s.Step != nil && s.Step.Line == 0:
		step = "behind the last line of " + filepath.Base(s.Step.File)
	case s.Step != nil:
		step = fmt.Sprintf("%s:%d: %s", filepath.Base(s.Step.File), s.Step.Line, s.Step.Text)
	}
	cells := []string{a.Run(), s.Scenario, now.Sub(s.Started).Truncate(time.Second).String(), strings.Join(nodes, ", "), state, step}
	for i := range cells {
		cells[i] = strings.ReplaceAll(console.Clean(cells[i]), "\t", " ")
	}
	return strings.Join(cells, "\t")
}
