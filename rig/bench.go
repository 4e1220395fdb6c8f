package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/bench"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// benchFlags are the flags of `rig bench`.
type benchFlags struct {
	machineFlags
	rounds int
	only   string
	json   string
	check  bool

	capture bool
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this host and the product",
		Long: `Bench measures how fast machines are there and gone, what a clone costs in memory,
how long scenarios take, and what the link between two nodes carries. It prints a
table, with a target where there is one. Figures of a host that does something
else at the same time are worth less: the first lines say how busy it was.

Groups, for -only:
  pair       two machines at once until both agents are configured: from the
             kernel, and as clones of the saved machine; and their teardown
  memory     what a further clone adds: the proportional set size (PSS) of QEMU
             processes, in which shared pages count by their share
  roundtrip  the whole of roundtrip/basic, and its phases
  suite      scenarios a minute, over those that do not wait on purpose; played
             once for each way, whatever -rounds says
  link       ping, TCP, Noise records, and reads of a package file

A target that is missed does not change the exit status, unless -check is given:
then it is 1. A group that cannot be measured leaves the others alone and makes
it 4. An interrupt ends it with 130, after what was measured until then.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return classify(cmd.Context(), runBench(cmd.Context(), cmd, f))
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.rounds, "rounds", 0, "rounds of each measurement (default: 20 pairs of clones, 3 of booted machines, 5 of the others)")
	cmd.Flags().StringVar(&f.only, "only", "", "`GROUPS` to measure, with commas between them (default: "+strings.Join(bench.Groups(), ",")+")")
	cmd.Flags().StringVar(&f.json, "json", "", "write the figures and all their samples to `FILE`; - is stdout, the table then goes to stderr")
	cmd.Flags().BoolVar(&f.check, "check", false, "exit with 1 when a target is missed")
	cmd.Flags().BoolVar(&f.capture, "capture", false, "capture frames meanwhile, as rig run does, to see what that costs; the group suite does it in any case")
	return cmd
}

// groups returns the groups that were asked for.
func (f *benchFlags) groups() ([]string, error) {
	if f.only == "" {
		return bench.Groups(), nil
	}
	var groups []string
	for name := range strings.SplitSeq(f.only, ",") {
		if !slices.Contains(bench.Groups(), name) {
			return nil, usage("unknown group %q: say -only with some of %s", name, strings.Join(bench.Groups(), ","))
		}
		groups = append(groups, name)
	}
	return groups, nil
}

// checkBench refuses what makes no sense before anything is started.
func (f *benchFlags) checkBench(cmd *cobra.Command) error {
	if err := f.machineFlags.check(); err != nil {
		return err
	}
	if cmd.Flags().Changed("rounds") && f.rounds < 1 {
		return usage("-rounds %d measures nothing: say 1 or more", f.rounds)
	}
	if f.json == "" || f.json == "-" {
		return nil
	}
	// Better now than after minutes.
	if info, err := os.Stat(filepath.Dir(f.json)); err != nil || !info.IsDir() {
		return usage("-json %s: there is no folder %s; make it first", f.json, filepath.Dir(f.json))
	}
	if info, err := os.Stat(f.json); err == nil && !info.Mode().IsRegular() {
		return usage("-json %s is no file: name one", f.json)
	}
	return nil
}

func runBench(ctx context.Context, cmd *cobra.Command, f benchFlags) error {
	groups, err := f.groups()
	if err != nil {
		return err
	}
	if err := f.checkBench(cmd); err != nil {
		return err
	}
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	items, err := suite.Find(dir, nil)
	if err != nil {
		return usage("%w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log := func(step string) { fmt.Fprintln(cmd.ErrOrStderr(), step) }
	if err := host.Preflight(ctx, host.Options{QEMU: f.qemu}); err != nil {
		return err
	}
	set, err := f.build(cmd, log)
	if err != nil {
		return err
	}
	h, err := f.detect(cmd, set, log)
	if err != nil {
		return err
	}
	saved, err := f.save(cmd, set, h, log)
	if err != nil {
		return fmt.Errorf("without a saved machine there are no clones to measure: %w", err)
	}
	cfg := bench.Config{
		Groups: groups, Rounds: f.rounds, Host: h, Images: set, Saved: saved, Items: items, Log: log,
		Run:     append([]string{self, "run", "-C", dir}, f.arguments()...),
		Capture: f.capture,
	}
	report, err := bench.Run(ctx, cfg)
	if report != nil {
		err = errors.Join(err, f.write(cmd, report))
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	if status := benchStatus(report, f.check); status != record.ExitGreen {
		return &exitError{status: status}
	}
	return nil
}

// benchStatus returns the exit status for a report. What could not be measured outweighs what was and missed its target.
func benchStatus(r *bench.Report, check bool) int {
	switch {
	case len(r.Errors) > 0:
		return record.ExitBroken
	case check && r.Missed() > 0:
		return record.ExitFailed
	}
	return record.ExitGreen
}

// write writes the report where it was asked for.
func (f *benchFlags) write(cmd *cobra.Command, r *bench.Report) error {
	table := cmd.OutOrStdout()
	var err error
	switch f.json {
	case "":
	case "-":
		table = cmd.ErrOrStderr()
		err = r.WriteJSON(cmd.OutOrStdout())
	default:
		err = writeReport(f.json, r.WriteJSON)
	}
	return errors.Join(err, r.WriteTable(table))
}

// writeReport gives a file its content whole or not at all.
func writeReport(name string, write func(io.Writer) error) error {
	var content bytes.Buffer
	err := write(&content)
	if err == nil {
		err = renameio.WriteFile(name, content.Bytes(), 0o644, renameio.WithTempDir(filepath.Dir(name)))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
