package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// DurationsFile is the name of the file of durations in Dir, which `rig run
// -save-durations` writes.
const DurationsFile = "durations.json"

// Durations are how long scenarios took when they passed last, in seconds, by name.
// A file of them is a JSON object; those of booted machines are under names of their own
// (ColdKey), and in no file.
type Durations map[string]float64

// maxSeconds is more than any scenario takes: a week.
const maxSeconds = 7 * 24 * 3600

// median is the middle one of what is known of some scenarios; 1 where nothing is,
// which then weigh all the same.
func (d Durations) median(items []Item) float64 {
	var known []float64
	for _, item := range items {
		if seconds, ok := d[item.Name]; ok {
			known = append(known, seconds)
		}
	}
	if len(known) == 0 {
		return 1
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// LoadDurations reads a file of durations; there are none when there is no file.
func LoadDurations(file string) (Durations, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read durations: %w", err)
	}
	var d Durations
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read durations: %s: not an object of scenarios and seconds: %w", file, err)
	}
	for name, seconds := range d {
		if !(seconds >= 0 && seconds <= maxSeconds) {
			return nil, fmt.Errorf("read durations: %s: %q cannot have taken %v seconds", file, name, seconds)
		}
	}
	return d, nil
}

// Save writes durations to a file, rounded to a tenth of a second and sorted, so that
// its changes can be read. What the file has of other scenarios stays as long as
// exists says that there is such a scenario.
func (d Durations) Save(file string, exists func(name string) bool) error {
	saved := Durations{}
	old, err := LoadDurations(file)
	if err != nil {
		return fmt.Errorf("save durations: %w; remove the file to have it written anew", err)
	}
	maps.Copy(saved, old)
	for name, seconds := range d {
		saved[name] = math.Round(seconds*10) / 10
	}
	maps.DeleteFunc(saved, func(name string, _ float64) bool { return !exists(name) })
	if err := saved.write(file); err != nil {
		return fmt.Errorf("save durations: %w", err)
	}
	return nil
}

func (d Durations) write(file string) error {
	data, err := json.MarshalIndent(d, "", "  ") // sorts by name
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(data, '\n'), 0o644, renameio.WithTempDir(filepath.Dir(file)))
}
