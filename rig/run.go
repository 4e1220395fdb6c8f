package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/report"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// runFlags are the flags of `rig run`.
type runFlags struct {
	machineFlags
	runs    string
	name    string
	verbose bool
	cold    bool
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [PATTERN...]",
		Short: "Run scenarios, each on fresh machines",
		Long: `Run plays the scenarios that the patterns select, or all of them, each on fresh
machines, and records what happened in a folder of its own (runs/latest is a link
to the newest). A pattern is a scenario's name ("roundtrip/basic"), a folder
("reject"), a glob ("reject/*"), or the path of a .txtar file.`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			return classify(cmd.Context(), runScenarios(cmd, f, patterns))
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.runs, "runs", "", "folder for the records (default: runs in the project's folder)")
	cmd.Flags().StringVar(&f.name, "name", "", "what to call this run in its folder's name (default: the pattern)")
	cmd.Flags().BoolVar(&f.cold, "cold", false, "boot every machine from its kernel, in place of cloning a saved one")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show each step as it runs")
	return cmd
}

func runScenarios(cmd *cobra.Command, f runFlags, patterns []string) error {
	ctx := cmd.Context()
	if err := f.check(); err != nil {
		return err
	}
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	items, err := suite.Find(dir, patterns)
	if err != nil {
		return usage("%w", err)
	}
	root := f.runs
	if root == "" {
		root = filepath.Join(dir, "runs")
	}
	options := report.Detect(os.Stdout, os.Getenv)
	options.Verbose = f.verbose
	progress := report.NewProgress(os.Stdout, options)
	run, err := record.Create(root, f.runName(patterns, items), progress.Event)
	if err != nil {
		return err
	}
	progress.Folder(suite.Shown(run.Dir()))
	why, recErr := playAll(ctx, cmd, f, run, items, progress)
	summary, err := run.Finish(why)
	recErr = errors.Join(recErr, err, run.WriteFile(record.JUnitFile, func(w io.Writer) error { return report.JUnit(w, summary) }))
	if err := progress.Finish(summary); err != nil {
		recErr = errors.Join(recErr, fmt.Errorf("show the progress: %w", err))
	}
	if recErr != nil {
		return &exitError{record.ExitBroken, recErr}
	}
	if summary.Exit != record.ExitGreen {
		return &exitError{status: summary.Exit}
	}
	return nil
}

// playAll builds the images, looks at the host and runs the scenarios. why is
// what ended the run beside its scenarios.
func playAll(ctx context.Context, cmd *cobra.Command, f runFlags, run *record.Run, items []suite.Item, progress *report.Progress) (why *record.Failure, err error) {
	fail := func(reason record.Reason, err error) (*record.Failure, error) {
		if ctx.Err() != nil {
			return &record.Failure{Reason: record.Stopped, Message: "stopped by a signal"}, nil
		}
		return &record.Failure{Reason: reason, Message: err.Error()}, nil
	}
	failHost := func(err error) (*record.Failure, error) {
		var unsupported *host.UnsupportedError
		if errors.As(err, &unsupported) {
			return fail(record.HostUnsupported, err)
		}
		return fail(record.Internal, err)
	}
	if err := host.Preflight(ctx, host.Options{QEMU: f.qemu}); err != nil {
		return failHost(err)
	}
	set, err := f.build(cmd, progress.Print)
	if err != nil {
		return fail(record.ImageFailed, err)
	}
	h, err := f.detect(cmd, set, progress.Print)
	if err != nil {
		return failHost(err)
	}
	var saved machine.Saved
	if !f.cold {
		if saved, err = f.save(cmd, set, h, progress.Print); err != nil {
			if ctx.Err() != nil {
				return fail(record.Stopped, err)
			}
			// Slower, and nothing else: every machine is as fresh.
			progress.Print(fmt.Sprintf("warning: no saved machine, so every one boots from its kernel: %v", err))
			saved = machine.Saved{}
		}
	}
	err = suite.Run(ctx, suite.Config{Items: items, Host: h, Images: set, Saved: saved, Run: run})
	if ctx.Err() != nil {
		why, _ = fail(record.Stopped, context.Cause(ctx))
	}
	return why, err
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
