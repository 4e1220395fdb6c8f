package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/report"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		PreRunE: func(cmd *cobra.Command, _ []string) error { return f.check(cmd) },

		Use:   "run [PATTERN...]",
		Short: "Run scenarios, each on fresh machines",
		Long: `Run plays the scenarios that the patterns select, or all of them, each on fresh
machines, and records what happened in a folder of its own (runs/latest is a link
to the newest). A pattern is a scenario's name ("roundtrip/basic"), a folder
("reject"), a glob ("reject/*"), or the path of a .txtar file or of a folder with
such files. Files of the same name are told apart by their folders' names.

Several scenarios are played side by side (-j), the longest first, by what they took
the last time. They are shown in the order of their names all the same: what has
ended early waits for its place, but a failure is shown at once. Deadlines are
scaled by how many machines share a core.

With -repeat and -until-fail, further playings of a scenario are called
roundtrip/basic@2, @3 and so on; with -both the one on booted machines is called
roundtrip/basic@cold. Ctrl-C ends a run: what it cuts off is recorded as
interrupted.

With -retries a scenario that failed is played again, on fresh machines, as
roundtrip/basic@retry1 and so on. One that then passes is flaky, which is not
passed.

With -debug (or -pause-on-fail) nothing is torn down where a step fails: the prompt
opens there, and ` + "`retry`, `continue`, `step` and `quit`" + ` say how it goes on.
Without a terminal the scenario waits for another one (see rig shell -run, rig do),
as long as -debug-wait says. What a person had a hand in is at best repaired.

With -record each machine is recorded, instruction for instruction, so that rig replay
can play any of them again, alone, from what the run's folder keeps. Machines then boot,
under software emulation. With -record=fail nothing is recorded but what failed: such a
scenario is played again, recorded, until it fails again (roundtrip/basic@recorded1 and
so on).

With -cover the machines' programs count which of their statements run. The run's
folder gets coverage.out and coverage.html, and figures per package are printed last;
with -cover-host both tell what only machines reach from what the host's tests do.`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			return classify(cmd.Context(), runScenarios(cmd, f, patterns))
		},
	}
	f.add(cmd)
	return cmd
}

func runScenarios(cmd *cobra.Command, f runFlags, patterns []string) error {
	if f.timeout > 0 {
		ctx, cancel := suite.WithTimeout(cmd.Context(), f.timeout)
		defer cancel()
		cmd.SetContext(ctx)
	}
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	items, err := suite.Find(dir, patterns)
	if err != nil {
		return usage("%w", err)
	}
	shared := filepath.Join(dir, suite.Dir, suite.DurationsFile)
	runName := f.runName(patterns, items)
	items, shard, sharded, err := f.pick(items, shared)
	if err != nil {
		return err
	}
	p := playing{
		name:    runName,
		prepare: func(*record.Run) ([]suite.Item, error) { return items, nil },
		note:    sharded,
		shard:   shard,
	}
	if f.debug {
		if p.attendant, err = newAttendant(cmd.Context(), cmd.OutOrStdout(), f.patience, false); err != nil {
			return err
		}
		p.stops = scenario.Stops{OnFailure: true, AtBreak: true}
	}
	err = playRecorded(cmd, f, dir, p)
	if p.attendant != nil {
		_ = p.attendant.wait() // no lines of stdin, so none that failed
	}
	return err
}

// A playing is what a run plays, and what else is done with its record.
type playing struct {
	name    string
	prepare func(*record.Run) ([]suite.Item, error) // what is played; it may be made in the run's folder
	note    string                                  // said first; empty: nothing
	shard   *record.Shard                           // which part of the selected scenarios it is; nil: all
	watch   func(record.Event)                      // gets every event; nil: nobody

	stops     scenario.Stops // where scenarios stand still
	attendant *attendant     // who is asked there; nil: nobody

	past *past // what is known of earlier runs; set by playRecorded
}

// A display shows a run while it goes on: a report.Progress, or for programs a report.TestJSON.
type display interface {
	Folder(dir string)
	Event(record.Event)
	Print(text string)
	Finish(record.Summary) error
}

// playRecorded plays scenarios and leaves a record of it in a folder of its own. Its error has its exit status.
func playRecorded(cmd *cobra.Command, f runFlags, dir string, p playing) error {
	root := f.runs
	if root == "" {
		root = filepath.Join(dir, "runs")
	}
	var progress display
	if f.json {
		progress = report.NewTestJSON(os.Stdout, p.name)
	} else {
		options := report.Detect(os.Stdout, os.Getenv)
		options.Verbose, options.Shell = f.verbose, p.stops.AtEnd
		terminal := report.NewProgress(os.Stdout, options)
		if p.attendant != nil {
			p.attendant.progress = terminal
		}
		progress = terminal
	}
	run, err := record.Create(root, p.name, func(e record.Event) {
		progress.Event(e)
		if p.watch != nil {
			p.watch(e)
		}
		if p.attendant != nil {
			p.attendant.event(e)
		}
	})
	if err != nil {
		return err
	}
	progress.Folder(suite.Shown(run.Dir()))
	if p.attendant != nil {
		p.attendant.runName = filepath.Base(run.Dir())
	}
	if p.note != "" {
		progress.Print(p.note)
	}
	if f.seed != nil {
		progress.Print(fmt.Sprintf("shuffled; -shuffle %d plays in this order again", *f.seed))
	}
	items, err := p.prepare(run)
	if err != nil {
		return errors.Join(err, run.Close())
	}
	p.past = recall(cmd.Context(), dir, progress.Print)
	out, recErr := playAll(cmd, f, run, items, p, progress)
	if f.saveDurations {
		shared := filepath.Join(dir, suite.Dir, suite.DurationsFile)
		recErr = errors.Join(recErr, saveDurations(dir, shared, out.Passed))
	}
	summary, err := run.Finish(out.Why)
	recErr = errors.Join(recErr, err, run.WriteFile(record.JUnitFile, func(w io.Writer) error { return report.JUnit(w, summary) }))
	var notes []history.Note
	if !f.counting && f.record != recordAll { // which says nothing of how long scenarios mostly take
		if notes = p.past.keep(run.Dir(), summary, out, progress.Print); len(notes) > 0 {
			recErr = errors.Join(recErr, run.WriteFile(history.NotesFile, func(w io.Writer) error { return history.WriteNotes(w, notes) }))
		}
	}
	if f.runs == "" && !f.keepRuns {
		tidyUp(cmd.Context(), root, run.Dir(), progress.Print)
	}
	if err := progress.Finish(summary); err != nil {
		recErr = errors.Join(recErr, fmt.Errorf("show the progress: %w", err))
	}
	if f.json {
		tellGitHub(summary, notes, nil) // stdout is a program's
	} else {
		tellGitHub(summary, notes, os.Stdout)
	}
	if f.counting {
		shown := os.Stdout
		if f.json { // which has stdout for programs
			shown = os.Stderr
		}
		recErr = errors.Join(recErr, f.writeCoverage(context.WithoutCancel(cmd.Context()), shown, run, dir))
	}
	if recErr != nil {
		return &exitError{record.ExitBroken, recErr}
	}
	if summary.Exit != record.ExitGreen {
		return &exitError{status: summary.Exit}
	}
	return nil
}

// saveDurations writes the durations of the project's own scenarios, on clones, to
// the file by which shards are made.
func saveDurations(dir, file string, passed suite.Durations) error {
	all, err := suite.Find(dir, nil)
	if err != nil {
		return fmt.Errorf("save durations: %w", err)
	}
	names := map[string]bool{}
	for _, item := range all {
		names[item.Name] = true
	}
	return passed.Save(file, func(name string) bool { return names[name] })
}

// playAll builds the images, looks at the host and runs the scenarios.
func playAll(cmd *cobra.Command, f runFlags, run *record.Run, items []suite.Item, p playing, progress display) (suite.Outcome, error) {
	ctx := cmd.Context()
	cfg := suite.Config{
		Items: items, Run: run, Jobs: f.sideBySide(), Rounds: f.rounds(cmd), FailFast: f.failFast || f.untilFail, Both: f.both, Retries: f.retries,
		Shuffle: f.seed, Shard: p.shard, Expected: p.past.durations(), Stops: p.stops, Patience: f.patience,
		Capture:      suite.Keep(cmp.Or(f.capture, string(suite.KeepFail))), // soak and shell have no flag for it
		CaptureLimit: int64(f.captureSize) << 20, KeyLog: f.keyLog, RecordTries: f.triesToRecord(),
	}
	fail := func(reason record.Reason, err error) (suite.Outcome, error) {
		recErr := run.Append(cfg.Start())
		if ctx.Err() != nil {
			return suite.Outcome{Why: suite.Ended(context.Cause(ctx))}, recErr
		}
		if what, ok := record.Exhausted(err); ok {
			reason, err = record.HostExhausted, fmt.Errorf("this host ran out of %s: %w", what, err)
		}
		return suite.Outcome{Why: record.NewFailure(reason, err)}, recErr
	}
	failHost := func(or record.Reason, err error) (suite.Outcome, error) {
		var unsupported *host.UnsupportedError
		if errors.As(err, &unsupported) {
			return fail(record.HostUnsupported, err)
		}
		return fail(or, err)
	}
	if err := host.Preflight(ctx, host.Options{QEMU: f.qemu}); err != nil {
		return failHost(record.Internal, err)
	}
	set, err := f.build(cmd, progress.Print)
	if err != nil {
		return failHost(record.ImageFailed, err)
	}
	h, err := f.detect(cmd, set, progress.Print)
	if err != nil {
		return failHost(record.Internal, err)
	}
	var saved machine.Saved
	if !f.cold {
		saved, err = f.save(cmd, set, h, progress.Print)
		switch {
		case err != nil && (ctx.Err() != nil || f.both):
			return fail(record.Internal, fmt.Errorf("no saved machine, of which -both needs clones: %w", err))
		case err != nil:
			// Slower, and nothing else: every machine is as fresh.
			progress.Print(fmt.Sprintf("warning: no saved machine, so every one boots from its kernel: %v", err))
			saved = machine.Saved{}
		}
	}
	dir, err := project(cmd)
	if err != nil {
		return fail(record.Internal, err)
	}
	cfg.Host, cfg.Images, cfg.Saved, cfg.Source = h, set, saved, dir
	cfg.Recording = f.recordings(run.Dir(), dir, set, h, progress.Print)
	return suite.Run(ctx, cfg)
}

// runName is what a run is called in its folder's name.
func (f *runFlags) runName(patterns []string, items []suite.Item) string {
	switch {
	case f.name != "":
		return f.name
	case len(items) == 1:
		return strings.ReplaceAll(items[0].Name, "/", "-")
	case len(patterns) == 1:
		return strings.ReplaceAll(strings.Trim(patterns[0], "/*"), "/", "-")
	}
	return "suite"
}

func newBuildCommand() *cobra.Command {
	var f machineFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the machines' images, or what is missing of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			set, err := f.build(cmd, func(step string) { fmt.Fprintln(cmd.ErrOrStderr(), step) })
			if err != nil {
				return classify(cmd.Context(), err)
			}
			printImages(cmd.OutOrStdout(), set)
			return nil
		},
	}
	f.addKernel(cmd)
	return cmd
}

func printImages(w io.Writer, set *images.Set) {
	built := "nothing was built anew"
	if len(set.Built) > 0 {
		built = "built: " + strings.Join(set.Built, ", ")
	}
	fmt.Fprintf(w, "kernel   %s (%s)\n", set.KernelRelease, set.KernelSource)
	fmt.Fprintf(w, "files    %s\n         %s\nmanifest %s\n", set.Kernel, set.Initrd, set.ManifestPath)
	fmt.Fprintf(w, "id       %s\n%s in %.1fs\n", set.ID, built, set.Durations["total"].Seconds())
}
