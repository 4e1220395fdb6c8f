package history

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dsoftbus-rig/rig/record"
)

// Rigs are processes, and so are those of these tests: SQLite knows locks of its own process in another way.
const childFile = "HISTORY_TEST_FILE"

func TestMain(m *testing.M) {
	if file := os.Getenv(childFile); file != "" {
		if err := addMany(file, 10); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var began = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)

// summary is that of a run on a host of these tests.
func summary(scenarios ...record.ScenarioSummary) record.Summary {
	return record.Summary{Name: "suite", Started: began, Seconds: 9, Host: record.Host{Accel: "tcg", Slowdown: 4, Jobs: 2, Cores: 2}, Scenarios: scenarios}
}

func every(record.ScenarioSummary) (string, bool) { return "what is tested", true }

func addMany(file string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range n {
		db, err := Open(ctx, file)
		if err != nil {
			return err
		}
		s := summary(record.ScenarioSummary{Name: "a/b", Result: record.Passed, Started: began, Seconds: 1})
		r := Run{Folder: "f"}
		if err := db.Add(ctx, r, s, r.Playings(s, every)); err != nil {
			return err
		}
		if err := db.Close(); err != nil {
			return err
		}
	}
	return nil
}

func open(t *testing.T, file string) *DB {
	t.Helper()
	db, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestWhatIsKeptComesBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new folder", "what? 100%#.db")
	db := open(t, file)
	s := summary(
		record.ScenarioSummary{Name: "a/b", Result: record.Passed, Started: began, Seconds: 1.5},
		record.ScenarioSummary{Name: "a/b@cold", Of: "a/b", Result: record.Passed, Started: began.Add(time.Second), Seconds: 7},
		record.ScenarioSummary{Name: "a/b@2", Of: "a/b", Result: record.Flaky, Started: began.Add(2 * time.Second), Seconds: 2,
			Failure: &record.Failure{Reason: record.ExecStatus, Message: "first\nsecond"}},
		record.ScenarioSummary{Name: "a/b@2.retry1", Of: "a/b", RetryOf: "a/b@2", Result: record.Passed, Started: began.Add(3 * time.Second)},
		record.ScenarioSummary{Name: "elsewhere", Result: record.Passed},
	)
	r := Run{Folder: "/runs/1", Revision: "abc", Dirty: true}
	if err := db.Add(t.Context(), r, s, r.Playings(s, func(c record.ScenarioSummary) (string, bool) { return "digest of " + c.Name, c.Name != "elsewhere" })); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, file).Playings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := Playing{Scenario: "a/b", Result: record.Passed, Started: began, Seconds: 1.5, Run: "/runs/1", Revision: "abc", Dirty: true, Tested: "digest of a/b", Accel: "tcg", Slowdown: 4, Jobs: 2}
	cold, flaky := p, p
	cold.Cold, cold.Started, cold.Seconds, cold.Tested = true, began.Add(time.Second), 7, "digest of a/b@cold"
	flaky.Tested = "digest of a/b@2"
	flaky.Result, flaky.Started, flaky.Seconds, flaky.Reason, flaky.Message = record.Flaky, began.Add(2*time.Second), 2, record.ExecStatus, "first"
	if diff := cmp.Diff(map[string][]Playing{"a/b": {p, cold, flaky}}, got); diff != "" {
		t.Error(diff)
	}
	if took := LastPassed(got, false)["a/b"]; took != 1.5 {
		t.Errorf("on clones %v", took)
	}
	if took := LastPassed(got, true)["a/b"]; took != 7 {
		t.Errorf("on booted machines %v", took)
	}
}

// Rigs that write at once wait for each other and lose nothing, also when there is no file yet.
func TestRigsAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	var rigs []*exec.Cmd
	for range 6 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childFile+"="+file)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		rigs = append(rigs, cmd)
	}
	for _, cmd := range rigs {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	all, err := open(t, file).Playings(t.Context())
	if err != nil || len(all["a/b"]) != 60 {
		t.Errorf("%d of 60, %v", len(all["a/b"]), err)
	}
}

// A writer that never ends is waited for no longer than the context says. What could not be added is there when it has ended.
func TestAWriterThatNeverEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	held := open(t, file)
	tx, err := held.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	db, err := Open(ctx, file)
	if err == nil {
		db.Close()
		t.Fatal("it was opened all the same")
	}
	if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "locked") || strings.Contains(err.Error(), "move it") || strings.Contains(err.Error(), "remove") {
		t.Errorf("error %v", err)
	}
	s := summary(record.ScenarioSummary{Name: "a/b", Result: record.Passed, Started: began, Seconds: 1})
	for _, folder := range []string{"one", "two"} {
		s.Started = s.Started.Add(time.Second)
		r := Run{Folder: folder}
		for range 2 { // once more, as another rig that has not seen it taken in
			if err := KeepAside(file, r, s, r.Playings(s, every)); err != nil {
				t.Fatal(err)
			}
		}
	}
	foreign := filepath.Join(folder(file), "1-foreign.json")
	if err := os.WriteFile(foreign, []byte(`{"schema": 99}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		all, err := open(t, file).Playings(t.Context())
		if err != nil || len(all["a/b"]) != 2 || all["a/b"][0].Run != "one" || all["a/b"][0].Accel != "tcg" || all["a/b"][0].Tested == "" {
			t.Errorf("%+v, %v", all, err)
		}
	}
	if left, err := asides(file); err != nil || len(left) != 1 || left[0] != foreign {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNoMoreIsKeptAsideThanSome(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	s := summary()
	for range keepAside + 3 {
		s.Started = s.Started.Add(time.Second)
		if err := KeepAside(file, Run{Folder: s.Started.String()}, s, nil); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := asides(file); err != nil || len(left) != keepAside || strings.Contains(left[0], "030406") {
		t.Errorf("%d are left, the first is %s, %v", len(left), left[0], err)
	}
}

func TestFilesThatAreNoHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	if err := os.WriteFile(file, []byte(strings.Repeat("This is no database. ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), file+" is damaged") || !strings.Contains(err.Error(), "mv "+file) {
		t.Errorf("error %v", err)
	}
	newer := filepath.Join(t.TempDir(), File)
	db := open(t, newer)
	if _, err := db.db.Exec("PRAGMA user_version = 7"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), newer); err == nil || !strings.Contains(err.Error(), "form 7") || strings.Contains(err.Error(), "mv ") {
		t.Errorf("error %v", err)
	}
}

// A database that an earlier rig made is gone on with, and that rig can still add to it.
func TestADatabaseOfAnEarlierRig(t *testing.T) {
	file := filepath.Join(t.TempDir(), File)
	db := open(t, file)
	for _, statement := range []string{
		"ALTER TABLE playing DROP COLUMN tested",
		"INSERT INTO run (id, folder, name, started, seconds, revision, dirty, accel, qemu, kernel, slowdown, jobs, cores) VALUES (1, 'f', 'n', 0, 1, '', 0, 'tcg', '', '', 1, 1, 1)",
	} {
		if _, err := db.db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	old := "INSERT INTO playing (run, scenario, cold, result, reason, message, started, seconds) VALUES (1, 'a/b', 0, 'passed', '', '', 0, 1)"
	for range 2 {
		if _, err := db.db.Exec(old); err != nil {
			t.Fatal(err)
		}
		all, err := open(t, file).Playings(t.Context())
		if err != nil || len(all["a/b"]) == 0 || all["a/b"][0].Tested != "" {
			t.Errorf("%+v, %v", all, err)
		}
	}
}

// The oldest runs go when there are too many, and their playings with them.
func TestTheOldestGo(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), File))
	s := summary(record.ScenarioSummary{Name: "a/b", Result: record.Passed, Started: began})
	r := Run{}
	add := func(folder string) {
		t.Helper()
		r.Folder = folder
		if err := db.Add(t.Context(), r, s, r.Playings(s, every)); err != nil {
			t.Fatal(err)
		}
	}
	add("old")
	if err := db.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO run SELECT ?, 'late', name, started, seconds, revision, dirty, accel, qemu, kernel, slowdown, jobs, cores FROM run", keepRuns)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	add("new")
	all, err := db.Playings(t.Context())
	if err != nil || len(all["a/b"]) != 1 || all["a/b"][0].Run != "new" {
		t.Errorf("%+v, %v", all, err)
	}
	var rows int
	if err := db.db.QueryRow("SELECT count(*) FROM playing").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
