// Package replay replays a machine that was recorded: alone, from nothing but its recording, instruction for instruction as it ran. It compares what the
// machine prints with what it printed, line by line as it comes; goes to a point of the past and back; and finds the first instruction at which something holds.
//
// It owns a machine that replays: its process, its temporary folder, its snapshots. It records nothing, and never decides what is looked for.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// A Scenario is one of a run whose machines were recorded.
type Scenario struct {
	Name    string
	Run     string // the run's folder
	Failed  bool
	Started time.Time
	Steps   []Step
	Nodes   []Node // by name
}

// A Step is one of the script's that was begun.
type Step struct {
	Number, Line int
	Text         string
	Time         time.Time // when it began
}

// A Node is one whose machine was recorded, once or more often.
type Node struct {
	Name  string
	Lives []*recording.Life
}

// Node returns the node of that name.
func (s *Scenario) Node(name string) (Node, error) {
	var names []string
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return Node{}, fmt.Errorf("scenario %s has no recording of a node %s; there are those of %s", s.Name, name, strings.Join(names, ", "))
}

// StepAt returns the step that ran at a time, and whether there was one.
func (s *Scenario) StepAt(t time.Time) (step Step, ok bool) {
	for _, each := range s.Steps {
		if each.Time.After(t) {
			break
		}
		step, ok = each, true
	}
	return step, ok
}

// Scenarios returns the scenarios of a run, by its folder, that have recordings.
func Scenarios(run string) ([]*Scenario, error) {
	run, err := filepath.Abs(run)
	if err != nil {
		return nil, err
	}
	rec, err := record.Load(run)
	if err != nil {
		return nil, err
	}
	var all []*Scenario
	for _, c := range rec.Summary.Scenarios {
		s := &Scenario{Name: c.Name, Run: run, Failed: c.Result == record.Failed, Started: c.Started}
		dir, err := record.Inside(run, c.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			lives, err := recording.Lives(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			for _, life := range lives {
				if err := noLinksOut(run, life.Dir); err != nil {
					return nil, err
				}
			}
			if len(lives) > 0 {
				s.Nodes = append(s.Nodes, Node{Name: e.Name(), Lives: lives})
			}
		}
		if len(s.Nodes) == 0 {
			continue
		}
		for _, e := range rec.Events {
			if e.Scenario == c.Name && e.Kind == record.KindStepStart && !e.Typed {
				s.Steps = append(s.Steps, Step{Number: e.Step, Line: e.Line, Text: e.Text, Time: e.Time})
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// noLinksOut refuses a recording in the folder dir of which a file, or one that
// all recordings of the run share, is a symbolic link out of the run's folder:
// QEMU would read it.
func noLinksOut(run, dir string) error {
	rel, err := filepath.Rel(run, dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	names := []string{recording.KernelFile, recording.InitrdFile, recording.DebugFile}
	for _, e := range entries {
		names = append(names, path.Join(filepath.ToSlash(rel), e.Name()))
	}
	for _, name := range names {
		if _, err := record.Inside(run, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at the recording %s: %w", dir, err)
		}
	}
	return nil
}

// Choose returns the scenario of that name; without a name the only one, or the only one that failed.
func Choose(all []*Scenario, name string) (*Scenario, error) {
	var names []string
	var failed []*Scenario
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
		if s.Failed {
			failed = append(failed, s)
		}
		names = append(names, s.Name)
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("no machine of this run was recorded; `rig run -record` records them")
	case name != "":
		return nil, fmt.Errorf("there is no recording of a scenario %s; there are those of %s", name, strings.Join(names, ", "))
	case len(all) == 1:
		return all[0], nil
	case len(failed) == 1:
		return failed[0], nil
	}
	return nil, fmt.Errorf("several scenarios were recorded: %s; name one with -scenario", strings.Join(names, ", "))
}

// A RefusedError says why a recording cannot be replayed here, before anything was tried.
type RefusedError struct {
	Life *recording.Life
	Err  error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("replay node %s, life %d: %v", e.Life.Node, e.Life.Number, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Check finds out whether a recording can be replayed with an emulator and the images in the run's folder. The error is a *RefusedError.
func Check(ctx context.Context, life *recording.Life, qemu, run string) error {
	if err := check(ctx, life, qemu, run); err != nil {
		return &RefusedError{life, err}
	}
	return nil
}

func check(ctx context.Context, life *recording.Life, qemu, run string) error {
	if !life.Ended {
		return errors.New("the recording has no end: QEMU writes the head of its log last, and the rig or QEMU was killed before; record the scenario again")
	}
	version, err := host.QEMUVersion(ctx, qemu)
	if err != nil {
		return err
	}
	version, _, _ = strings.Cut(version, " ") // its path follows
	if version != life.QEMUVersion {
		return fmt.Errorf("it was recorded by QEMU %s, and %s is %s: the form of the log and the devices are those of a version; name the emulator with -qemu", life.QEMUVersion, qemu, version)
	}
	for name, want := range map[string]string{recording.KernelFile: life.Kernel, recording.InitrdFile: life.Initrd} {
		got, err := recording.Digest(filepath.Join(run, name))
		if err != nil {
			return fmt.Errorf("what the machine booted: %w", err)
		}
		if got != want {
			return fmt.Errorf("%s is not what the machine booted: its SHA-256 is %.12s…, and was %.12s…; put the file back that the run left there", filepath.Join(run, name), got, want)
		}
	}
	return nil
}

// Where a machine was at a time: the last position that was noted before it, or its beginning. ok is false when it had not begun.
func positionAt(life *recording.Life, t time.Time) (at int64, ok bool, err error) {
	if t.Before(life.Started) {
		return 0, false, nil
	}
	positions, err := life.Positions()
	if err != nil {
		return 0, false, err
	}
	for _, p := range positions {
		if p.Time.After(t) {
			break
		}
		at = p.Instructions + beside
	}
	return at, true, nil
}

// TimeAt returns when a machine had executed that many instructions, as near as it was noted.
func TimeAt(life *recording.Life, instructions int64) (time.Time, error) {
	positions, err := life.Positions()
	if err != nil {
		return time.Time{}, err
	}
	// Between two that were noted time goes evenly, as far as anybody knows.
	from := recording.Position{Time: life.Started}
	for _, to := range positions {
		if to.Instructions >= instructions && to.Instructions > from.Instructions {
			part := float64(instructions-from.Instructions) / float64(to.Instructions-from.Instructions)
			return from.Time.Add(time.Duration(part * float64(to.Time.Sub(from.Time)))), nil
		}
		from = to
	}
	return from.Time, nil
}
