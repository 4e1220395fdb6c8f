package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/report"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// mergeFlags are the flags of `rig merge`.
type mergeFlags struct {
	runs, name string
	expect     int
}

func (f *mergeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.runs, "runs", "", "`FOLDER` for the joined record (default: runs in the project's folder)")
	flags.StringVar(&f.name, "name", "merged", "`NAME` of the joined run, in its folder's name")
	flags.IntVar(&f.expect, "expect", 0, "how many records there must be (default: any number)")
}

func newMergeCommand() *cobra.Command {
	var f mergeFlags
	cmd := &cobra.Command{
		Use:   "merge DIR...",
		Short: "Join the records of shards into one",
		Long: `Merge joins records of runs that have ended into one: all events in time, one
summary.json and junit.xml, and copies of the scenarios' folders. A DIR is the folder
of a run, or one with such folders in it, as a build server has them.

A scenario that is in two of them is refused: merge is for runs of different
scenarios (rig run -shard). A run without an end was killed, which is a failure of the
joined one. So is a shard that is missing: each record says which of how many it is;
with -expect, so is another number of records. A reason that this rig does not know is
one, too.

The exit status is that of a run with these verdicts.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("merge: name the folders of the records, as in rig merge shard-1 shard-2")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, dirs []string) error {
			return classify(cmd.Context(), mergeRecords(cmd, f, dirs))
		},
	}
	f.add(cmd)
	return cmd
}

func mergeRecords(cmd *cobra.Command, f mergeFlags, dirs []string) error {
	if f.expect < 0 {
		return usage("-expect %d: say how many records there must be, as in -expect 2", f.expect)
	}
	root := f.runs
	if root == "" {
		dir, err := project(cmd)
		if err != nil {
			return usage("%w", err)
		}
		root = filepath.Join(dir, "runs")
	}
	records, err := loadRecords(dirs)
	if err != nil {
		return usage("%w", err)
	}
	progress := report.NewProgress(os.Stdout, report.Detect(os.Stdout, os.Getenv))
	dir, summary, recErr := record.Merge(root, f.name, records, f.expect, func(e record.Event) {
		switch e.Kind { // what scenarios did step by step was shown when they did it
		case record.KindRunStart, record.KindPlan, record.KindWarning, record.KindScenarioStart, record.KindScenarioEnd, record.KindVerdict, record.KindRecorded:
			progress.Event(e)
		}
	})
	var collision *record.CollisionError
	if errors.As(recErr, &collision) {
		return usage("%w", recErr)
	}
	if dir == "" {
		return recErr
	}
	progress.Folder(suite.Shown(dir))
	junit := filepath.Join(dir, record.JUnitFile)
	recErr = errors.Join(recErr, writeFile(junit, func(w io.Writer) error { return report.JUnit(w, summary) }))
	notes, err := mergeNotes(dir, records)
	recErr = errors.Join(recErr, err, mergeImages(dir, records, progress.Print), progress.Finish(summary))
	tellGitHub(summary, notes, nil) // the parts have said where
	recErr = errors.Join(recErr, unknownReasons(summary))
	if recErr != nil {
		return &exitError{record.ExitBroken, recErr}
	}
	if summary.Exit != record.ExitGreen {
		return &exitError{status: summary.Exit}
	}
	return nil
}

// mergeNotes gives a record that was joined from others what they noted, and returns it.
func mergeNotes(dir string, records []*record.Record) (all []history.Note, err error) {
	for _, rec := range records {
		notes, err := history.ReadNotes(rec.Dir)
		if err != nil {
			return nil, err
		}
		all = append(all, notes...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, writeFile(filepath.Join(dir, history.NotesFile), func(w io.Writer) error { return history.WriteNotes(w, all) })
}

// mergeImages gives a record that was joined from others what their recordings need to be replayed, as far as all need the same.
func mergeImages(dir string, records []*record.Record, tell func(string)) error {
	for _, name := range []string{recording.KernelFile, recording.InitrdFile, recording.DebugFile} {
		have := ""
		for _, rec := range records {
			from, err := record.Inside(rec.Dir, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				from, err = filepath.EvalSymlinks(from) // a hard link would be one of the link
			}
			if err != nil {
				return err
			}
			sum, err := recording.Digest(from)
			if err != nil {
				return err
			}
			switch have {
			case "":
				if err := keep(from, filepath.Join(dir, name)); err != nil {
					return err
				}
				have = sum
			case sum:
			default:
				tell(fmt.Sprintf("warning: %s is not that of other parts: what was recorded there is replayed from its own folder, %s", from, rec.Dir))
			}
		}
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// unknownReasons says which scenarios failed for a reason that is in no table: nobody could say what it means, and what to do.
func unknownReasons(s record.Summary) error {
	var errs []error
	for _, c := range s.Scenarios {
		if c.Failure != nil && !c.Failure.Reason.Known() {
			errs = append(errs, fmt.Errorf("scenario %s failed for the reason %q, which this rig does not know: it needs an entry in rig/record's table, or is of a later rig", c.Name, c.Failure.Reason))
		}
	}
	return errors.Join(errs...)
}

// loadRecords reads the records in some folders: each is one, or has some in it.
func loadRecords(dirs []string) (records []*record.Record, err error) {
	var folders []string
	for _, dir := range dirs {
		if isRecord(dir) {
			folders = append(folders, dir)
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("look for records: %w", err)
		}
		n := len(folders)
		for _, e := range entries {
			// Where a link cannot be kept, a copy has its name.
			if path := filepath.Join(dir, e.Name()); e.IsDir() && e.Name() != record.LatestLink && !strings.HasPrefix(e.Name(), ".") && isRecord(path) {
				folders = append(folders, path)
			}
		}
		if len(folders) == n {
			return nil, fmt.Errorf("%s is no record of a run, and none is in it", dir)
		}
	}
	for i, dir := range folders {
		if folders[i], err = filepath.EvalSymlinks(dir); err != nil {
			return nil, fmt.Errorf("look for records: %w", err)
		}
		if folders[i], err = filepath.Abs(folders[i]); err != nil {
			return nil, fmt.Errorf("look for records: %w", err)
		}
	}
	slices.Sort(folders)
	for _, dir := range slices.Compact(folders) {
		if alive, err := record.Alive(dir); err == nil && alive {
			return nil, fmt.Errorf("the run of %s goes on: wait for its end", dir)
		}
		rec, err := record.Load(dir)
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return records, nil
}

// isRecord says whether a folder looks like a run's; record.Load says whether it is one.
func isRecord(dir string) bool {
	for _, name := range []string{record.EventsFile, record.SummaryFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}
