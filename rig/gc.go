package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/retain"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// tidyWait is how long the end of a run is held up at most by removing old records: the next one goes on with it.
const tidyWait = 2 * time.Second

func newGCCommand() *cobra.Command {
	var (
		runs   string
		dry    bool
		policy = retain.Default
	)
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove old records of runs",
		Long: `Gc removes records from the project's runs folder, or the one that -runs names, and
says which and why. Those of green runs go first; of others, also of those that were
killed, more are kept, and for longer. The newest record always stays, and so does
that of a run that goes on. What is no record is not touched.

rig run does the same at its end, with these defaults, in the project's own runs
folder; -keep-runs keeps it from that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if policy.Green.Count < 0 || policy.Other.Count < 0 {
				return usage("say how many records to keep, as in -keep 10; 0 keeps none but the newest")
			}
			if runs == "" {
				dir, err := project(cmd)
				if err != nil {
					return usage("%w", err)
				}
				runs = filepath.Join(dir, "runs")
			}
			runs, err := filepath.Abs(runs)
			if err != nil {
				return usage("%w", err)
			}
			return classify(cmd.Context(), collect(cmd, runs, policy, dry))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&runs, "runs", "", "`FOLDER` of the records (default: runs in the project's folder)")
	flags.BoolVarP(&dry, "dry-run", "n", false, "remove nothing, and say what would be removed")
	flags.IntVar(&policy.Green.Count, "keep", policy.Green.Count, "how many records of green runs to keep")
	flags.IntVar(&policy.Other.Count, "keep-failed", policy.Other.Count, "how many records of other runs to keep")
	flags.Var((*retain.Age)(&policy.Green.Age), "age", "how long to keep records of green runs")
	flags.Var((*retain.Age)(&policy.Other.Age), "age-failed", "how long to keep records of other runs")
	flags.Var((*retain.Size)(&policy.Bytes), "size", "how much all records may take")
	return cmd
}

// collect removes what goes by the policy and says so.
func collect(cmd *cobra.Command, root string, policy retain.Policy, dry bool) error {
	out := cmd.OutOrStdout()
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	var errs []error
	tidied, err := tidy(cmd.Context(), root, "", policy, dry, func(r retain.Removal, err error) {
		switch {
		case errors.Is(err, retain.ErrAlive):
			fmt.Fprintf(out, "kept %s: its run goes on\n", console.Clean(suite.Shown(r.Path)))
		case err != nil:
			errs = append(errs, err)
		default:
			fmt.Fprintf(out, "%s %s, %s: %s\n", verb, console.Clean(suite.Shown(r.Path)), retain.Size(r.Bytes), r.Why)
		}
	})
	fmt.Fprintf(out, "%s %d of %d records, %s of %s\n", verb, tidied.gone, tidied.all, retain.Size(tidied.goneBytes), retain.Size(tidied.allBytes))
	return errors.Join(append(errs, err)...)
}

// tidied is what tidy has done.
type tidied struct {
	gone, all           int
	goneBytes, allBytes int64
}

// tidy removes what goes by a policy, but never the folder current, and tells each what became of it. Its error is of what could not be looked at, or why it ended early.
func tidy(ctx context.Context, root, current string, policy retain.Policy, dry bool, tell func(retain.Removal, error)) (done tidied, err error) {
	folders, problems, err := retain.Scan(ctx, root)
	if err != nil {
		return done, err
	}
	for _, f := range folders {
		done.all++
		done.allBytes += f.Bytes
	}
	chosen := policy.Choose(folders, time.Now())
	if len(chosen) > 0 {
		// A rig of before runs held a lock is found by its scenarios alone.
		playing, err := live.List(ctx)
		if err != nil {
			return done, err
		}
		alive := func(path string) bool {
			if path == current {
				return true
			}
			for _, a := range playing {
				if filepath.Clean(a.Status.Run) == path {
					return true
				}
			}
			return false
		}
		for _, r := range chosen {
			if ctx.Err() != nil {
				return done, context.Cause(ctx)
			}
			err := r.Ended(time.Now(), alive)
			if err == nil && !dry {
				err = r.Remove()
			}
			if err == nil {
				done.gone++
				done.goneBytes += r.Bytes
			}
			tell(r, err)
		}
	}
	if !dry {
		problems = append(problems, retain.Sweep(root))
	}
	return done, errors.Join(problems...)
}

// tidyUp removes old records at the end of a run. It says what it did, and nothing of what it could not do: rig gc says that.
func tidyUp(ctx context.Context, root, current string, print func(string)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWait)
	defer cancel()
	done, _ := tidy(ctx, root, current, retain.Default, false, func(retain.Removal, error) {})
	if done.gone > 0 {
		print(fmt.Sprintf("removed %d old records, %s; rig gc -h says which stay", done.gone, retain.Size(done.goneBytes)))
	}
}
