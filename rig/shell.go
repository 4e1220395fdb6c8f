package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// shellFlags are the flags of `rig shell`.
type shellFlags struct {
	runFlags
	until int
	nodes int
	join  string
}

// shellFile is the script that a shell without a scenario plays, in the run's folder.
const shellFile = "shell.txtar"

func newShellCommand() *cobra.Command {
	var f shellFlags
	cmd := &cobra.Command{
		Use:   "shell [SCENARIO]",
		Short: "Open a prompt on a fresh pair of machines, or on a scenario",
		Long: `Shell brings up a pair, or plays a scenario to its end, and asks for lines of the
scenario language: each is run on the machines as they are then. It stands still
earlier where a step fails, at a ` + "`break`" + `, in front of the line that -until names,
and where Ctrl-C interrupts it. At the prompt Ctrl-C ends the line that runs, and
nothing else; ` + "`help`" + ` lists the commands, ` + "`save FILE`" + ` writes what was done as a
scenario, ` + "`quit`" + ` or Ctrl-D takes the machines down.

With -run it is the prompt of a scenario that another terminal has started and that
stands still. A stdin that is no terminal is read line by line; the first line that
fails is the last.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return classify(cmd.Context(), shell(cmd, f, args))
		},
	}
	f.machineFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.runs, "runs", "", "`FOLDER` for the records (default: runs in the project's folder)")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show each step of the scenario as it runs")
	flags.BoolVar(&f.cold, "cold", false, "boot every machine from its kernel, in place of cloning a saved one")
	flags.IntVar(&f.until, "until", 0, "stand still in front of the first command at or behind that `LINE` of the scenario")
	flags.IntVar(&f.nodes, "nodes", 2, "how many nodes to bring up, without a scenario")
	flags.StringVar(&f.join, "run", "", "join the `RUN` of another terminal, which stands still")
	return cmd
}

func shell(cmd *cobra.Command, f shellFlags, args []string) error {
	given := cmd.Flags().Changed
	switch {
	case f.join != "" && (len(args) > 0 || given("until") || given("nodes") || given("cold")):
		return usage("-run %s joins a run as it is; leave everything else out", f.join)
	case given("until") && (f.until < 1 || len(args) == 0):
		return usage("-until %d: name a line of a scenario, as in rig shell roundtrip/basic -until 3", f.until)
	case given("nodes") && (f.nodes < 2 || f.nodes > scenario.MaxNodes || len(args) > 0):
		return usage("-nodes %d: there can be 2 to %d, and a scenario says itself which it has", f.nodes, scenario.MaxNodes)
	}
	attendant, err := newAttendant(cmd.Context(), cmd.OutOrStdout(), suite.DefaultPatience, true)
	if err != nil {
		return err
	}
	attendant.bare = f.join == "" && len(args) == 0
	if f.join != "" {
		return joinRun(cmd, f.join, attendant)
	}
	if err := f.machineFlags.check(); err != nil {
		return err
	}
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	f.jobs, f.repeat = 1, 1
	p := playing{
		name:  "shell",
		stops: scenario.Stops{OnFailure: true, AtBreak: true, AtEnd: true, Before: f.until}, attendant: attendant,
		prepare: func(run *record.Run) ([]suite.Item, error) { return shellItem(run, f.nodes) },
	}
	if len(args) > 0 {
		items, err := suite.Find(dir, args)
		if err != nil {
			return usage("%w", err)
		}
		if len(items) != 1 {
			return usage("%q are %d scenarios; name one", args[0], len(items))
		}
		if lines, last := items[0].Script.Extent(); f.until > last {
			return usage("-until %d: %s has %d lines, and its last command is in line %d; without -until it stands still behind that",
				f.until, items[0].File, lines, last)
		}
		p.name = f.runName(args, items)
		p.prepare = func(*record.Run) ([]suite.Item, error) { return items, nil }
	}
	onInterrupt(cmd.Context(), attendant.interrupt)
	err = playRecorded(cmd, f.runFlags, dir, p)
	if failed := attendant.wait(); failed != nil {
		return &exitError{record.ExitFailed, failed}
	}
	// Whoever types knows that a person stepped in, and who ended it.
	if cmd.Context().Err() == nil && slices.Contains([]record.Result{record.Repaired, record.Interrupted}, attendant.result) {
		return nil
	}
	return err
}

// shellItem makes the scenario of a shell without one.
func shellItem(run *record.Run, nodes int) ([]suite.Item, error) {
	var b strings.Builder
	b.WriteString("# Machines to try things on.\n")
	for i := 2; i < nodes; i++ {
		fmt.Fprintf(&b, "node %c\n", 'A'+i)
	}
	b.WriteString("up\n")
	file := filepath.Join(run.Dir(), shellFile)
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		return nil, err
	}
	shown := suite.Shown(file)
	script, err := scenario.Load(shown, nil)
	if err != nil {
		return nil, err
	}
	return []suite.Item{{Name: "shell", File: shown, Script: script}}, nil
}

// joinRun is the prompt of a scenario that somebody else started, wherever it stands still. Ctrl-D leaves it standing.
func joinRun(cmd *cobra.Command, pattern string, a *attendant) error {
	ctx := cmd.Context()
	client, _, err := findLive(ctx, cmd, pattern)
	if err != nil {
		return err
	}
	a.joined = client
	gone := make(chan error, 1)
	go func() { gone <- client.Follow(ctx, a.event) }()
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if status.Held == "" {
		return &exitError{record.ExitFailed, fmt.Errorf("%s is running, and has no prompt; `rig do -run %[1]s interrupt` has it stand still", status.Scenario)}
	}
	a.event(record.Event{Kind: record.KindHeld, Name: status.Held, Scenario: status.Scenario})
	select {
	case err = <-gone:
	case <-a.left:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if failed := a.wait(); failed != nil {
		return &exitError{record.ExitFailed, failed}
	}
	return err
}
