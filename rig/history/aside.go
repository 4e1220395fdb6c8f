package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"dsoftbus-rig/rig/record"
)

// asideSchema is the version of a file of results that are kept aside. A reader leaves others alone.
const asideSchema = 1

// keepAside is how many runs are kept aside at most, the newest: a database that is damaged may stay so for long.
const keepAside = 200

// aside is a run whose results could not be added to the database.
type aside struct {
	Schema   int            `json:"schema"`
	Run      Run            `json:"run"`
	Summary  record.Summary `json:"summary"` // without its scenarios
	Playings []Playing      `json:"playings"`
}

// folder is where results are kept aside, beside the database in a file.
func folder(file string) string { return file + ".aside" }

// KeepAside keeps a run with its playings beside the database in a file, for the next rig that can open that.
func KeepAside(file string, r Run, s record.Summary, playings []Playing) error {
	s.Scenarios = nil
	data, err := json.Marshal(aside{asideSchema, r, s, playings})
	if err != nil {
		return fmt.Errorf("keep the results aside: %w", err)
	}
	dir := folder(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the results aside: %w", err)
	}
	name := fmt.Sprintf("%s-%d.json", s.Started.UTC().Format("20060102-150405.000000000"), os.Getpid())
	if err := renameio.WriteFile(filepath.Join(dir, name), data, 0o644, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("keep the results aside: %w", err)
	}
	names, err := asides(file)
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-keepAside)] {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the results aside: %w", err)
		}
	}
	return nil
}

// asides returns the files of results that are kept aside, oldest first.
func asides(file string) (names []string, err error) {
	entries, err := os.ReadDir(folder(file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for results that were kept aside: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(folder(file), e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

// takeIn adds what was kept aside. Another rig may do the same at the same time: a run is added once.
func (d *DB) takeIn(ctx context.Context) error {
	names, err := asides(d.file)
	if err != nil || len(names) == 0 {
		return err
	}
	var taken []string
	err = d.write(ctx, func(tx *sql.Tx) error {
		for _, name := range names {
			data, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			var a aside
			if json.Unmarshal(data, &a) != nil || a.Schema != asideSchema {
				continue // of a later rig, which will read it
			}
			var there int
			err = tx.QueryRowContext(ctx, "SELECT count(*) FROM run WHERE folder = ? AND started = ?", a.Run.Folder, a.Summary.Started.UnixMilli()).Scan(&there)
			if err == nil && there == 0 {
				err = add(ctx, tx, a.Run, a.Summary, a.Playings)
			}
			if err != nil {
				return err
			}
			taken = append(taken, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range taken {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
