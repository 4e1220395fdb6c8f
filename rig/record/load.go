package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A Record is a run read back from its folder.
type Record struct {
	Dir     string
	Summary Summary
	Events  []Event

	// Complete is false when the folder has no summary.json: the run is still going on, or was killed. Summary is then what the events
	// amount to, and of a run that was killed it is never green.
	Complete bool

	// Warnings say what could not be read, each naming the file.
	Warnings []string
}

// Load reads the run in the folder dir (also through the link "latest"). An incomplete last line of a killed run is left out with a
// warning; a record of another schema is refused with a *SchemaError.
func Load(dir string) (*Record, error) {
	r := &Record{Dir: dir}
	path := filepath.Join(dir, SummaryFile)
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		// The schema is looked at alone first: the rest of a foreign one may not even parse.
		var head struct {
			Schema int `json:"schema"`
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return nil, fmt.Errorf("load %s: not a summary: %w", path, err)
		}
		if head.Schema != Schema {
			return nil, fmt.Errorf("load %s: %w", path, &SchemaError{Found: head.Schema})
		}
		if err := json.Unmarshal(data, &r.Summary); err != nil {
			return nil, fmt.Errorf("load %s: not a summary: %w", path, err)
		}
		for i := range r.Summary.Scenarios { // which may come from anybody
			c := &r.Summary.Scenarios[i]
			if c.Dir == "." || !fs.ValidPath(c.Dir) {
				r.Warnings = append(r.Warnings, fmt.Sprintf("%s: scenario %s is said to be in %q, which is no folder in the run's", path, c.Name, c.Dir))
				c.Dir = ScenarioDir(c.Name)
			}
			// All other paths follow from the folder, so they are not taken from the file.
			c.in(c.Dir)
			for n := range c.Nodes {
				c.Nodes[n] = nodeFiles(c.Dir, c.Nodes[n].Name)
			}
		}
		r.Complete = true
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("load run: %w", err)
	}

	b, ended := newBuilder(filepath.Base(dir)), false
	warning, err := ReadEvents(filepath.Join(dir, EventsFile), func(e Event) error {
		b.add(e)
		ended = ended || e.Kind == KindRunEnd
		r.Events = append(r.Events, e)
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		if r.Complete {
			warning, err = fmt.Sprintf("%s is missing", filepath.Join(dir, EventsFile)), nil
		} else {
			return nil, fmt.Errorf("load %s: not the folder of a run: neither %s nor %s is in it", dir, SummaryFile, EventsFile)
		}
	}
	if err != nil {
		return nil, err
	}
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
	}
	if !r.Complete {
		if alive, err := Alive(dir); !ended && (err != nil || !alive) {
			b.fail(&Failure{Reason: Stopped, Message: fmt.Sprintf("the run of %s has no end: it was killed, or its record was copied before", dir)})
		}
		r.Summary = b.summary()
	}
	return r, nil
}

// ReadEvents calls each for the events of one events.jsonl in order, and stops at its first error. An incomplete last line, as a
// killed writer leaves it, is left out and reported in warning.
func ReadEvents(path string, each func(Event) error) (warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	r := NewReader(f)
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return "", nil
		case errors.Is(err, ErrTruncated):
			return fmt.Sprintf("%s: %v and was left out: the run was killed, or still writes", path, err), nil
		case err != nil:
			return "", fmt.Errorf("read %s: %w", path, err)
		}
		if err := each(e); err != nil {
			return "", err
		}
	}
}
