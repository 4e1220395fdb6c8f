package record

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A CollisionError says that runs which are to be joined have a scenario of the same name.
type CollisionError struct {
	Scenario string
	Dirs     [2]string // of both runs
}

func (e *CollisionError) Error() string {
	return fmt.Sprintf("scenario %s is in %s and in %s: only runs of different scenarios, such as shards, can be joined to one", e.Scenario, e.Dirs[0], e.Dirs[1])
}

// Merge joins runs that have ended, the shards of one say, to a run of its own under root, with a folder that Create makes. It has all events in time, numbered
// anew, one summary, and copies of the scenarios' folders. A scenario that is in two of them is a *CollisionError, and then nothing is made. A run that has no
// end was killed: the joined one has that as its failure. So it has a missing part: where some records are parts of a suite (Shard), all parts must be there,
// each once, and unless expect is 0 that many records.
//
// sink gets every event, as in Create. The summary is returned also with an error of writing; dir is empty when nothing was made.
func Merge(root, name string, records []*Record, expect int, sink func(Event)) (dir string, s Summary, err error) {
	of := make(map[string]*Record)
	for _, rec := range records {
		for _, c := range rec.Summary.Scenarios {
			if other := of[c.Name]; other != nil && other != rec {
				return "", s, &CollisionError{c.Name, [2]string{other.Dir, rec.Dir}}
			}
			of[c.Name] = rec
		}
	}
	run, err := Create(root, name, sink)
	if err != nil {
		return "", s, err
	}
	dir = run.Dir()
	var errs []error
	keep := func(e Event) { errs = append(errs, run.Append(e)) }

	start, end := span(records)
	total, plan := 0, []string(nil)
	for _, rec := range records {
		total += rec.Summary.Planned
		for _, c := range rec.Summary.Scenarios {
			if c.RetryOf == "" {
				plan = append(plan, c.Name)
			}
		}
	}
	slices.Sort(plan)
	for _, name := range plan {
		run.Folder(name)
	}
	first := Event{Kind: KindRunStart, Time: start, Total: total, Name: run.name}
	if len(records) > 0 {
		first.Host = new(records[0].Summary.Host)
	}
	keep(first)
	keep(Event{Kind: KindPlan, Time: start, Plan: plan})
	warn := func(rec *Record, at time.Time, text string) {
		keep(Event{Kind: KindWarning, Time: at, T: Seconds(at.Sub(start)), Text: filepath.Base(rec.Dir) + ": " + text})
	}
	why, missing := failures(records), missingParts(records, expect)
	switch {
	case why == nil || missing != nil && worse(missing.Reason.Info().Result, why.Reason.Info().Result):
		why = missing
	case missing != nil:
		keep(Event{Kind: KindWarning, Time: start, Text: missing.Error()})
	}
	for _, rec := range records {
		if h := rec.Summary.Host; h.Line != records[0].Summary.Host.Line {
			warn(rec, start, "another host: "+cmp.Or(h.Line, "unknown"))
		}
		for _, w := range rec.Warnings {
			warn(rec, start, w)
		}
		if f := rec.Summary.Failure; f != nil && f != why {
			warn(rec, start, f.Error())
		}
	}
	for _, e := range inTime(records) {
		switch {
		case e.Scenario != "":
			if e.Kind == KindScenarioStart {
				e.Dir = run.Folder(e.Scenario)
			}
			keep(e.Event)
		case e.Kind == KindWarning:
			warn(e.of, e.Time, e.Text)
		}
	}
	errs = append(errs, copyFolders(run, records))
	s, err = run.finish(why, end.Sub(start))
	return dir, s, errors.Join(append(errs, err)...)
}

// copyFolders copies the scenarios' folders of all records.
func copyFolders(run *Run, records []*Record) error {
	to, err := os.OpenRoot(run.Dir())
	if err != nil {
		return fmt.Errorf("copy the scenarios' folders: %w", explain(err))
	}
	defer to.Close()
	var errs []error
	for _, rec := range records {
		from, err := os.OpenRoot(rec.Dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("copy the scenarios' folders: %w", err))
			continue
		}
		for _, c := range rec.Summary.Scenarios {
			errs = append(errs, copyFolder(to, run.Folder(c.Name), from, c.Dir))
		}
		errs = append(errs, from.Close())
	}
	return errors.Join(errs...)
}

// copyFolder copies a folder, which may be missing, out of the folder of one run
// into that of another. No name and no symbolic link in it leads out of either.
// Files keep who may read them, less what the umask denies. A link becomes the
// file that it leads to; one that leads to none in the run's folder is an error.
func copyFolder(to *os.Root, toName string, from *os.Root, fromName string) error {
	if info, err := from.Lstat(fromName); errors.Is(err, fs.ErrNotExist) {
		return nil // some scenario of a killed run
	} else if err == nil && !info.IsDir() {
		return fmt.Errorf("copy %s of %s: it is not a folder", fromName, from.Name())
	}
	var errs []error
	err := fs.WalkDir(from.FS(), fromName, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := path.Join(toName, strings.TrimPrefix(name, fromName))
		if d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			return to.MkdirAll(target, info.Mode().Perm()|0o700)
		}
		if err := copyFile(to, target, from, name); err != nil {
			errs = append(errs, fmt.Errorf("copy %s of %s: %w", name, from.Name(), explain(err)))
		}
		return nil
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("copy %s of %s: %w", fromName, from.Name(), explain(err)))
	}
	return errors.Join(errs...)
}

func copyFile(to *os.Root, toName string, from *os.Root, fromName string) (err error) {
	info, err := from.Stat(fromName)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is neither a file nor a folder")
	}
	in, err := from.Open(fromName)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(toName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// span is from the start of the first run to the end of the last one.
func span(records []*Record) (start, end time.Time) {
	for _, rec := range records {
		s := rec.Summary.Started
		if start.IsZero() || s.Before(start) {
			start = s
		}
		if e := s.Add(duration(rec.Summary.Seconds)); e.After(end) {
			end = e
		}
	}
	return start, end
}

// failures returns the failure of a joined run: the worst of what ended its parts, the first of several that are as bad.
func failures(records []*Record) (worst *Failure) {
	for _, rec := range records {
		f := rec.Summary.Failure
		if f == nil {
			continue
		}
		if worst == nil || worse(f.Reason.Info().Result, worst.Reason.Info().Result) {
			worst = f
		}
	}
	return worst
}

// missingParts returns the failure of a joined run that not all parts have left a record for, nil when nothing is missing.
func missingParts(records []*Record, expect int) *Failure {
	var lacks []string
	if expect > 0 && len(records) != expect {
		lacks = append(lacks, fmt.Sprintf("there are %d records, and there should be %d", len(records), expect))
	}
	first := make(map[string]*Record)         // by what was selected
	found := make(map[string]map[int]*Record) // by part
	for _, rec := range records {
		s := rec.Summary.Shard
		if s == nil {
			continue
		}
		if first[s.Set] == nil {
			first[s.Set], found[s.Set] = rec, make(map[int]*Record)
		}
		one, twice := first[s.Set], found[s.Set][s.Index]
		switch {
		case s.Of != one.Summary.Shard.Of:
			lacks = append(lacks, fmt.Sprintf("%s is part %d of %d, and %s is part %d of %d", one.Dir, one.Summary.Shard.Index, one.Summary.Shard.Of, rec.Dir, s.Index, s.Of))
		case twice != nil:
			lacks = append(lacks, fmt.Sprintf("%s and %s are both part %d of %d", twice.Dir, rec.Dir, s.Index, s.Of))
		}
		found[s.Set][s.Index] = rec
	}
	for _, set := range slices.Sorted(maps.Keys(first)) {
		shard := first[set].Summary.Shard
		for i := 1; i <= shard.Of; i++ {
			if found[set][i] == nil {
				lacks = append(lacks, fmt.Sprintf("part %d of %d, of which %s is part %d, has left no record", i, shard.Of, first[set].Dir, shard.Index))
			}
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return NewFailure(PartMissing, errors.New(strings.Join(lacks, "\n")))
}

func worse(a, b Result) bool { return a != b && Worst(a, b) == a }

// sourced is an event with the record that it is of.
type sourced struct {
	Event
	of *Record
}

// inTime returns the events of all records, each's in its own order, by the clocks of their hosts.
func inTime(records []*Record) (all []sourced) {
	for _, rec := range records {
		for _, e := range rec.Events {
			all = append(all, sourced{e, rec})
		}
	}
	slices.SortStableFunc(all, func(a, b sourced) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.of.Dir, b.of.Dir)) })
	return all
}
