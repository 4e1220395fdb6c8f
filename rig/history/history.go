// Package history keeps the results of past runs, in a database file that all rigs of a user share, and says what they amount to: how often a
// scenario fails, how long it takes, and whether what just happened is new.
//
// It holds nothing that a run needs: when it cannot be read or written, what is missing is the comparison. It never decides a verdict.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	// In pure Go, so that the rig stays one binary without a C library.
	_ "modernc.org/sqlite"
	sqlite "modernc.org/sqlite/lib"

	"dsoftbus-rig/rig/record"
)

// File is the name of the database in the cache.
const File = "results.db"

// version is that of the database's form, its user_version.
const version = 1

// lockWait is how long a rig waits for another one that writes: that takes it a moment. What it would have added is then kept aside.
const lockWait = 10 * time.Second

// keepRuns is how many runs are kept: a year of some a day, in some MB.
const keepRuns = 2000

const form = `
CREATE TABLE run (
	id       INTEGER PRIMARY KEY,
	folder   TEXT NOT NULL,
	name     TEXT NOT NULL,
	started  INTEGER NOT NULL, -- ms since 1970
	seconds  REAL NOT NULL,
	revision TEXT NOT NULL,    -- of the project; empty: unknown
	dirty    INTEGER NOT NULL, -- the project had changes beyond that
	accel    TEXT NOT NULL,
	qemu     TEXT NOT NULL,
	kernel   TEXT NOT NULL,
	slowdown REAL NOT NULL,
	jobs     INTEGER NOT NULL,
	cores    INTEGER NOT NULL
);
CREATE TABLE playing (
	run      INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
	scenario TEXT NOT NULL,
	cold     INTEGER NOT NULL,
	result   TEXT NOT NULL,
	reason   TEXT NOT NULL,
	message  TEXT NOT NULL,    -- the failure in one line
	started  INTEGER NOT NULL, -- ms since 1970
	seconds  REAL NOT NULL,
	tested   TEXT NOT NULL DEFAULT ''  -- digest of programs and script; empty: unknown
);
CREATE INDEX playing_scenario ON playing (scenario, started);
CREATE INDEX playing_run ON playing (run);
PRAGMA user_version = 1;`

// DB is the database. Its methods may be called concurrently.
type DB struct {
	file string
	db   *sql.DB
}

// Open opens the database in a file, and makes both when there are none. Rigs that do so at once wait for each other. What was kept aside is taken in.
func Open(ctx context.Context, file string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("open the results of past runs: %w", err)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("open the results of past runs: %w", err)
	}
	query := url.Values{
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", lockWait.Milliseconds()), "foreign_keys(1)"},
		"_txlock": {"immediate"}, // who reads first and then writes would fail instead of waiting
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	db.SetMaxOpenConns(1)
	d := &DB{file: file, db: db}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the results of past runs: %w", explain(file, err)), db.Close())
	}
	if err := d.takeIn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("take in results that were kept aside: %w", explain(file, err)), db.Close())
	}
	return d, nil
}

// explain says what to do about an error of the database in a file.
func explain(file string, err error) error {
	code := 0
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		code = coded.Code() & 0xff // the rest says more exactly which
	}
	switch {
	case code == sqlite.SQLITE_BUSY || code == sqlite.SQLITE_LOCKED || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("another process holds %s locked, and has not let go of it in time (`fuser %[1]s` names it): %w", file, err)
	case code == sqlite.SQLITE_CORRUPT || code == sqlite.SQLITE_NOTADB:
		return fmt.Errorf("%s is damaged: %w; move it away to begin anew, as in mv %[1]s %[1]s.damaged", file, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// prepare makes the tables where there are none.
func (d *DB) prepare(ctx context.Context) error {
	return d.write(ctx, func(tx *sql.Tx) error {
		var found int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&found); err != nil {
			return err
		}
		switch {
		case found == 0:
			_, err := tx.ExecContext(ctx, form)
			return err
		case found != version:
			return fmt.Errorf("it has form %d, and this rig knows form %d: use a rig as new as the one that made it", found, version)
		}
		// A column with a default is nothing that earlier rigs stumble over.
		var has int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_info('playing') WHERE name = 'tested'").Scan(&has); err != nil || has > 0 {
			return err
		}
		_, err := tx.ExecContext(ctx, "ALTER TABLE playing ADD COLUMN tested TEXT NOT NULL DEFAULT ''")
		return err
	})
}

// write does something in a transaction.
func (d *DB) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Close closes the database.
func (d *DB) Close() error { return d.db.Close() }

// A Run is what is kept of a run beside its scenarios.
type Run struct {
	Folder   string // its record's
	Revision string // of the project; empty: unknown
	Dirty    bool   // the project had changes beyond that
	Cold     bool   // every machine booted from its kernel
}

// A Playing is one scenario as it was played once, all tries of it included.
type Playing struct {
	Scenario string        `json:"scenario"` // "roundtrip/basic", also of a further playing
	Cold     bool          `json:"cold"`     // on booted machines
	Result   record.Result `json:"result"`
	Reason   record.Reason `json:"reason,omitempty"`
	Message  string        `json:"message,omitempty"` // the failure in one line
	Started  time.Time     `json:"started"`
	Seconds  float64       `json:"seconds"`
	Run      string        `json:"run"`                // the folder of its run's record
	Revision string        `json:"revision,omitempty"` // of the project; empty: unknown
	Dirty    bool          `json:"dirty,omitempty"`    // the project had changes beyond that
	Tested   string        `json:"tested,omitempty"`   // digest of the machines' programs and of the script; empty: unknown

	// What it was played on, as far as that decides how long it takes.
	Accel    string  `json:"accel"`
	Slowdown float64 `json:"slowdown"`
	Jobs     int     `json:"jobs"`
}

// Playings returns what a run's summary amounts to: the scenarios for which keep is true, without further tries of what failed, whose verdict is in
// that of their scenario. keep also returns the digest of what was tested, "" when it is not known.
func (r Run) Playings(s record.Summary, keep func(record.ScenarioSummary) (tested string, ok bool)) (all []Playing) {
	for _, c := range s.Scenarios {
		if c.RetryOf != "" {
			continue
		}
		tested, ok := keep(c)
		if !ok {
			continue
		}
		p := Playing{
			Scenario: c.Name, Cold: r.Cold, Result: c.Result, Started: c.Started, Seconds: c.Seconds, Run: r.Folder, Revision: r.Revision, Dirty: r.Dirty, Tested: tested,
			Accel: s.Host.Accel, Slowdown: s.Host.Slowdown, Jobs: s.Host.Jobs,
		}
		if c.Of != "" {
			p.Scenario = c.Of
			p.Cold = p.Cold || strings.HasPrefix(strings.TrimPrefix(c.Name, c.Of), "@cold")
		}
		if c.Failure != nil {
			p.Reason = c.Failure.Reason
			p.Message, _, _ = strings.Cut(c.Failure.Brief(), "\n")
		}
		all = append(all, p)
	}
	return all
}

// Add keeps a run with its playings, and lets the oldest runs go when there are too many.
func (d *DB) Add(ctx context.Context, r Run, s record.Summary, playings []Playing) error {
	err := d.write(ctx, func(tx *sql.Tx) error { return add(ctx, tx, r, s, playings) })
	if err != nil {
		return fmt.Errorf("keep the results: %w", explain(d.file, err))
	}
	return nil
}

// add adds a run in a transaction.
func add(ctx context.Context, tx *sql.Tx, r Run, s record.Summary, playings []Playing) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO run (folder, name, started, seconds, revision, dirty, accel, qemu, kernel, slowdown, jobs, cores)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.Folder, s.Name, s.Started.UnixMilli(), s.Seconds, r.Revision, r.Dirty, s.Host.Accel, s.Host.QEMU, s.Host.Kernel, s.Host.Slowdown, s.Host.Jobs, s.Host.Cores)
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	for _, p := range playings {
		_, err := tx.ExecContext(ctx, `INSERT INTO playing (run, scenario, cold, result, reason, message, started, seconds, tested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, p.Scenario, p.Cold, string(p.Result), string(p.Reason), p.Message, p.Started.UnixMilli(), p.Seconds, p.Tested)
		if err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM run WHERE id <= ?", id-keepRuns)
	return err
}

// Playings returns all that is known, oldest first, by scenario.
func (d *DB) Playings(ctx context.Context) (map[string][]Playing, error) {
	all, err := d.playings(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the results of past runs: %w", explain(d.file, err))
	}
	return all, nil
}

func (d *DB) playings(ctx context.Context) (map[string][]Playing, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT scenario, cold, result, reason, message, playing.started, playing.seconds, folder, revision, dirty, tested, accel, slowdown, jobs
		FROM playing JOIN run ON run.id = playing.run ORDER BY playing.started, playing.rowid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[string][]Playing)
	for rows.Next() {
		var p Playing
		var started int64
		err := rows.Scan(&p.Scenario, &p.Cold, &p.Result, &p.Reason, &p.Message, &started, &p.Seconds, &p.Run, &p.Revision, &p.Dirty, &p.Tested, &p.Accel, &p.Slowdown, &p.Jobs)
		if err != nil {
			return nil, err
		}
		p.Started = time.UnixMilli(started).UTC()
		all[p.Scenario] = append(all[p.Scenario], p)
	}
	return all, rows.Err()
}

// LastPassed returns how long scenarios took when they passed last, in seconds, on clones or on booted machines.
func LastPassed(all map[string][]Playing, cold bool) map[string]float64 {
	took := make(map[string]float64)
	for scenario, playings := range all {
		for _, p := range slices.Backward(playings) {
			if p.Result == record.Passed && p.Cold == cold {
				took[scenario] = p.Seconds
				break
			}
		}
	}
	return took
}
