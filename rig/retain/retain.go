// Package retain decides which records of runs are old enough to go, and removes them.
//
// It touches nothing but folders that are a run's by their name and by what is in them, and none of a run that goes on.
package retain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/rig/record"
)

// A Limit is how many records are kept, and how old they get. The newest are kept.
type Limit struct {
	Count int
	Age   time.Duration
}

// A Policy says which records are kept. A green run is one whose result is; all others, also those that were killed, are looked at again later.
type Policy struct {
	Green, Other Limit
	Bytes        int64 // of all records: when they take more, the oldest go, green ones first
}

const day = 24 * time.Hour

// Default is what suits a developer's machine: some days of work, failures until they have been looked into, and a disk that does not fill up.
var Default = Policy{Green: Limit{30, 14 * day}, Other: Limit{100, 60 * day}, Bytes: 4 << 30}

// tooYoung is the age below which no record goes: its run may be about to begin.
const tooYoung = time.Minute

// A Folder is the record of a run.
type Folder struct {
	Path    string
	Started time.Time
	Green   bool
	Bytes   int64 // on disk
}

// A Removal is a folder that goes, and why.
type Removal struct {
	Folder
	Why string
}

var runName = regexp.MustCompile(`^(\d{8}-\d{6})-.`)

// aside begins the name of a folder that is being removed. It is no run's any more, whatever is left of it.
const aside = ".removing-"

// Scan returns the records in the folder root, oldest first; there are none when there is no such folder. What cannot be read is left out, and in problems.
func Scan(ctx context.Context, root string) (folders []Folder, problems []error, err error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look for records: %w", err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		m := runName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() { // a link is no folder
			continue
		}
		started, err := time.ParseInLocation("20060102-150405", m[1], time.Local)
		if err != nil {
			continue
		}
		f := Folder{Path: filepath.Join(root, e.Name()), Started: started}
		ok, err := f.read()
		switch {
		case err != nil:
			problems = append(problems, err)
		case ok:
			folders = append(folders, f)
		}
	}
	slices.SortStableFunc(folders, func(a, b Folder) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Path, b.Path)) })
	return folders, problems, nil
}

// read completes a folder, and reports whether it is a run's.
func (f *Folder) read() (bool, error) {
	events, err := os.Open(filepath.Join(f.Path, record.EventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at a record: %w", err)
	}
	defer events.Close()
	var foreign *record.SchemaError
	switch _, err := record.NewReader(events).Next(); {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, record.ErrTruncated): // a run may be killed before its first event is whole
	case errors.As(err, &foreign) && foreign.Found != 0: // that of another version is a run, too
	default:
		return false, nil
	}
	var summary struct {
		Result record.Result `json:"result"`
	}
	if data, err := os.ReadFile(filepath.Join(f.Path, record.SummaryFile)); err == nil && json.Unmarshal(data, &summary) == nil {
		f.Green = summary.Result.Green()
	}
	err = filepath.WalkDir(f.Path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			f.Bytes += stat.Blocks * 512 // memory that was dumped has holes
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look at a record: %w", err)
	}
	return true, nil
}

// Choose returns what goes of some folders, oldest first. The newest of all always stays.
func (p Policy) Choose(folders []Folder, now time.Time) []Removal {
	why := make([]string, len(folders))
	var count = map[bool]int{}
	var total int64
	for i, f := range slices.Backward(folders) {
		limit, kind := p.Other, "that are not green"
		if f.Green {
			limit, kind = p.Green, "that are green"
		}
		count[f.Green]++
		switch {
		case i == len(folders)-1:
		case count[f.Green] > limit.Count:
			why[i] = fmt.Sprintf("there are more than %d newer ones %s", limit.Count, kind)
			if limit.Count == 0 {
				why[i] = "none " + kind + " are kept"
			}
		case now.Sub(f.Started) > limit.Age:
			why[i] = fmt.Sprintf("it is older than %s", Age(limit.Age))
		}
		if why[i] == "" {
			total += f.Bytes
		}
	}
	for _, green := range []bool{true, false} {
		for i, f := range folders {
			if total > p.Bytes && f.Green == green && why[i] == "" && i < len(folders)-1 {
				why[i] = fmt.Sprintf("all of them take more than %s", Size(p.Bytes))
				total -= f.Bytes
			}
		}
	}
	var out []Removal
	for i, f := range folders {
		if why[i] != "" {
			out = append(out, Removal{f, why[i]})
		}
	}
	return out
}

// ErrAlive says that a record stays, since its run goes on.
var ErrAlive = errors.New("the run goes on")

// Ended returns nil when a folder's run has ended. It has not, and the error is ErrAlive, by the lock that a run holds, by alive, which is asked for the
// folder's path, and when it has only just begun.
func (f Folder) Ended(now time.Time, alive func(path string) bool) error {
	held, err := record.Alive(f.Path)
	if err != nil {
		return err
	}
	if held || alive(f.Path) || now.Sub(f.Started) < tooYoung {
		return fmt.Errorf("%s: %w", f.Path, ErrAlive)
	}
	return nil
}

// Remove removes a folder. Whoever calls it has asked Ended.
func (f Folder) Remove() error {
	// In one step, so that nobody finds half of a record, also when this process is killed.
	gone := filepath.Join(filepath.Dir(f.Path), aside+filepath.Base(f.Path))
	if err := os.Rename(f.Path, gone); err != nil {
		return fmt.Errorf("remove a record: %w", err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove what was %s: %w", f.Path, err)
	}
	return nil
}

// Sweep removes what an earlier Remove that was killed has left in the folder root.
func Sweep(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for records: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), aside); ok && e.IsDir() && runName.MatchString(name) {
			errs = append(errs, os.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	return errors.Join(errs...)
}
