package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"time"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/soak"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// soakFile is the generated scenario in its run's folder.
const soakFile = "soak.txtar"

// soakFlags are the flags of `rig soak`.
type soakFlags struct {
	run    runFlags
	seed   uint64
	rounds int
	length time.Duration
}

func newSoakCommand() *cobra.Command {
	f := soakFlags{run: runFlags{repeat: 1, jobs: 1}}
	cmd := &cobra.Command{
		PreRunE: func(cmd *cobra.Command, _ []string) error { return f.check(cmd) },

		Use:   "soak",
		Short: "Read again and again, under faults drawn from a seed",
		Long: `Soak makes a scenario of many rounds of reads under faults that are drawn from a
seed, and plays it as rig run does. A read may fail while its fault is in force,
but what it delivers must be what the peer has; when the fault is over reads must
succeed. Every 20 rounds, and at the end, the services must hold no more than they
did at first.

The scenario is kept as ` + soakFile + ` in the run's folder, where rig run plays it again;
the same -seed and -rounds make the same one. With -for, one is played after the
other, with the seeds that follow, until that time is over or one is not green; the
last is played to its end.

The last line says how much it was: rounds, faults injected, reads and bytes
compared. Exit statuses are those of rig run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return classify(cmd.Context(), runSoak(cmd, f))
		},
	}
	f.run.machineFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.run.runs, "runs", "", "`FOLDER` for the records (default: runs in the project's folder)")
	flags.BoolVarP(&f.run.verbose, "verbose", "v", false, "show each step as it runs")
	flags.BoolVar(&f.run.cold, "cold", false, "boot every machine from its kernel, in place of cloning a saved one")
	flags.Uint64Var(&f.seed, "seed", 0, "what to draw from (default: drawn, and printed)")
	flags.IntVar(&f.rounds, "rounds", 100, "rounds of a scenario")
	flags.DurationVar(&f.length, "for", 0, "play further scenarios until that time is over (default: one)")
	return cmd
}

// check refuses what makes no sense before anything is started, and draws the seed.
func (f *soakFlags) check(cmd *cobra.Command) error {
	if err := f.run.check(cmd); err != nil {
		return err
	}
	switch given := cmd.Flags().Changed; {
	case f.rounds < 1 || f.rounds > soak.MaxRounds:
		return usage("-rounds %d: say 1 to %d; for more, -for as in -for 30m", f.rounds, soak.MaxRounds)
	case given("for") && f.length <= 0:
		return usage("-for %s: say how long to go on, as in -for 30m", f.length)
	case !given("seed"):
		f.seed = uint64(rand.Uint32()) // short enough to be typed again
	}
	return nil
}

func runSoak(cmd *cobra.Command, f soakFlags) error {
	dir, err := project(cmd)
	if err != nil {
		return usage("%w", err)
	}
	var all soak.Tally
	scenarios := 0
	err = until(cmd.Context(), f.length, func() error {
		seed := f.seed + uint64(scenarios)
		scenarios++
		tally, err := playSoak(cmd, f.run, dir, seed, f.rounds)
		all.Sum(tally)
		return err
	})
	if scenarios > 1 {
		fmt.Fprintf(cmd.OutOrStdout(), "soak: %d scenarios, seeds %d to %d: %s\n", scenarios, f.seed, f.seed+uint64(scenarios)-1, &all)
	}
	return err
}

// until calls play at least once, and then until its error, the context's end or the end of the time.
func until(ctx context.Context, length time.Duration, play func() error) error {
	for start := time.Now(); ; {
		if err := play(); err != nil {
			return err
		}
		if time.Since(start) >= length {
			return nil
		}
		if ctx.Err() != nil { // between two, so none of them says it
			return context.Cause(ctx)
		}
	}
}

// playSoak plays the scenario of one seed.
func playSoak(cmd *cobra.Command, f runFlags, dir string, seed uint64, rounds int) (soak.Tally, error) {
	var tally soak.Tally
	file := ""
	err := playRecorded(cmd, f, dir, playing{
		name:  fmt.Sprintf("soak-%d", seed),
		note:  fmt.Sprintf("rig soak -seed %d -rounds %d", seed, rounds),
		watch: tally.Add,
		prepare: func(run *record.Run) ([]suite.Item, error) {
			file = suite.Shown(filepath.Join(run.Dir(), soakFile))
			err := run.WriteFile(soakFile, func(w io.Writer) error {
				_, err := w.Write(soak.Generate(seed, rounds))
				return err
			})
			if err != nil {
				return nil, err
			}
			return suite.Find(dir, []string{file})
		},
	})
	if err == nil {
		if why := tally.Proves(rounds); why != nil {
			err = &exitError{record.ExitBroken, why}
		}
	}
	if file != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "soak: seed %d: %s; rig run %s plays it again\n", seed, &tally, file)
	}
	return tally, err
}
