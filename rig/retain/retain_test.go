package retain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dsoftbus-rig/rig/record"
)

var now = time.Date(2026, 6, 30, 12, 0, 0, 0, time.Local)

// made makes a record that is so many days old, by the rig's own means, and returns its folder's path.
func made(t *testing.T, root, name string, age int, result record.Result) string {
	t.Helper()
	run, err := record.Create(root, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []record.Event{
		{Kind: record.KindRunStart, Total: 1},
		{Kind: record.KindScenarioStart, Scenario: "a/b"},
		{Kind: record.KindScenarioEnd, Scenario: "a/b", Result: result},
	} {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if result == "" {
		err = run.Close() // killed
	} else {
		_, err = run.Finish(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dated(t, run.Dir(), name, age)
}

// dated gives a record another date.
func dated(t *testing.T, dir, name string, age int) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(dir), now.AddDate(0, 0, -age).Format("20060102-150405")+"-"+name)
	if err := os.Rename(dir, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func nobody(string) bool { return false }

func TestScanFindsRecordsAlone(t *testing.T) {
	root := t.TempDir()
	green := made(t, root, "green", 3, record.Passed)
	red := made(t, root, "red", 2, record.Flaky)
	killed := made(t, root, "killed", 1, "")
	foreign := filepath.Join(root, "20250101-000000-foreign")
	for path, text := range map[string]string{
		filepath.Join(foreign, record.EventsFile):                                `{"schema": 99}` + "\n",
		filepath.Join(root, "20250101-000000-photos", "cat.jpg"):                 "meow",
		filepath.Join(root, "20250101-000000-other", record.EventsFile):          "what is an event?\n",
		filepath.Join(root, "mine", record.EventsFile):                           `{"schema": 1}` + "\n",
		filepath.Join(root, "20259999-000000-no-date", record.EventsFile):        `{"schema": 1}` + "\n",
		filepath.Join(root, "20250101-000000-file"):                              "",
		filepath.Join(root, aside+"20250101-000000-left", record.SummaryFile):    "",
		filepath.Join(root, aside+"not-ours", "precious"):                        "",
		filepath.Join(root, "elsewhere", "20250101-000000-x", record.EventsFile): `{"schema": 1}` + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join("elsewhere", "20250101-000000-x"), filepath.Join(root, "20250102-000000-link")); err != nil {
		t.Fatal(err)
	}
	folders, problems, err := Scan(t.Context(), root)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	var got []string
	for _, f := range folders {
		got = append(got, fmt.Sprint(f.Path, " ", f.Green))
		if f.Bytes < 4096 || f.Bytes > 1<<20 {
			t.Errorf("%s has %d bytes", f.Path, f.Bytes)
		}
	}
	if diff := cmp.Diff([]string{foreign + " false", green + " true", red + " false", killed + " false"}, got); diff != "" {
		t.Error(diff)
	}

	if err := Sweep(root); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, aside+"20250101-000000-left")); err == nil {
		t.Error("what was left of a removal is still there")
	}
	if _, err := os.Stat(filepath.Join(root, aside+"not-ours", "precious")); err != nil {
		t.Error("what was no record is gone")
	}
	if folders, _, err := Scan(t.Context(), filepath.Join(root, "nothing")); err != nil || len(folders) > 0 {
		t.Errorf("%v, %v", folders, err)
	}
}

func TestChoose(t *testing.T) {
	// Letters are runs, oldest first, a day apart, of 1 MiB each; upper case: not green.
	tests := []struct {
		name, runs string
		policy     Policy
		gone, why  string
	}{
		{"all stay", "abCD", Policy{Limit{9, 9 * day}, Limit{9, 9 * day}, 1 << 30}, "", ""},
		{"each kind has its count", "abCdeF", Policy{Limit{2, 99 * day}, Limit{1, 99 * day}, 1 << 30}, "abC", "more than 2 newer ones that are green"},
		{"and its age", "abCDe", Policy{Limit{9, 2*day + 1}, Limit{9, 3*day + 1}, 1 << 30}, "ab", "older than "},
		{"green ones go first", "ABcDe", Policy{Limit{9, 99 * day}, Limit{9, 99 * day}, 3 << 20}, "Ac", "take more than 3 MiB"},
		{"the newest stays", "abc", Policy{Limit{0, 0}, Limit{0, 0}, 0}, "ab", "none that are green are kept"},
		{"nothing", "", Default, "", ""},
	}
	for _, tt := range tests {
		var folders []Folder
		for i, c := range tt.runs {
			folders = append(folders, Folder{Path: string(c), Green: c >= 'a', Bytes: 1 << 20, Started: now.AddDate(0, 0, i+1-len(tt.runs))})
		}
		gone := ""
		for i, r := range tt.policy.Choose(folders, now) {
			gone += r.Path
			if i == 0 && !strings.Contains(r.Why, tt.why) {
				t.Errorf("%s: %s goes because %s", tt.name, r.Path, r.Why)
			}
		}
		if gone != tt.gone {
			t.Errorf("%s: %q goes, want %q", tt.name, gone, tt.gone)
		}
	}
}

func TestRemove(t *testing.T) {
	root := t.TempDir()
	old := Folder{Path: made(t, root, "old", 9, record.Passed), Started: now.AddDate(0, 0, -9)}
	if err := old.Ended(now, func(path string) bool { return path == old.Path }); !errors.Is(err, ErrAlive) {
		t.Errorf("one whose scenarios are alive: %v", err)
	}
	if err := old.Ended(old.Started.Add(time.Second), nobody); !errors.Is(err, ErrAlive) {
		t.Errorf("one that has just begun: %v", err)
	}
	if err := old.Ended(now, nobody); err != nil {
		t.Fatal(err)
	}
	if err := old.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "[^l]*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	run, err := record.Create(root, "alive", nil)
	if err != nil {
		t.Fatal(err)
	}
	alive := Folder{Path: dated(t, run.Dir(), "alive", 9), Started: now.AddDate(0, 0, -9)}
	if err := alive.Ended(now, nobody); !errors.Is(err, ErrAlive) {
		t.Errorf("one that goes on: %v", err)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if err := alive.Ended(now, nobody); err != nil {
		t.Errorf("one that was given up: %v", err)
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]string{"14d": "14d", "36h": "36h0m0s", "48h": "2d", "0d": "0d"} {
		var a Age
		if err := a.Set(in); err != nil || a.String() != want {
			t.Errorf("age %q: %s, %v", in, a, err)
		}
	}
	for in, want := range map[string]string{"4G": "4 GiB", "1.5M": "1.5 MiB", "500 MiB": "500 MiB", "2048": "2 KiB", "7": "7 bytes", "3KB": "3 KiB"} {
		var s Size
		if err := s.Set(in); err != nil || s.String() != want {
			t.Errorf("size %q: %s, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "d", "-1d", "-1h", "soon", "-1", "1T", "NaN", "99999999999G"} {
		if err := new(Age).Set(in); err == nil {
			t.Errorf("age %q was read", in)
		}
		if err := new(Size).Set(in); err == nil {
			t.Errorf("size %q was read", in)
		}
	}
}
