package main

import (
	"database/sql"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"
)

// A pastRig plays runs of a project of its own without playing them: what a run tells of its scenarios is made up, all else is real.
type pastRig struct {
	t     *testing.T
	dir   string
	began time.Time

	images string // what the machines booted
}

func newPastRig(t *testing.T) *pastRig {
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	return &pastRig{t: t, dir: t.TempDir(), began: time.Now().Add(-time.Hour)}
}

// run keeps a run and returns what was printed meanwhile, and the durations that it knew.
func (r *pastRig) run(scenarios ...record.ScenarioSummary) (printed string, known suite.Durations) {
	r.t.Helper()
	var out strings.Builder
	print := func(text string) { out.WriteString(text + "\n") }
	p := recall(r.t.Context(), r.dir, print)
	r.began = r.began.Add(time.Second)
	for i := range scenarios {
		scenarios[i].Started = r.began
		if scenarios[i].File == "" {
			scenarios[i].File = filepath.Join(r.dir, suite.Dir, scenarios[i].Name+".txtar")
		}
	}
	p.keep("/runs/1", record.Summary{Started: r.began, Host: record.Host{Accel: "tcg", Slowdown: 4, Jobs: 1}, Scenarios: scenarios}, suite.Outcome{Images: r.images}, print)
	return out.String(), p.durations()
}

func passed(name string, seconds float64) record.ScenarioSummary {
	return record.ScenarioSummary{Name: name, Result: record.Passed, Seconds: seconds}
}

func TestARunIsSeenAgainstThoseBefore(t *testing.T) {
	r := newPastRig(t)
	for range 9 {
		if printed, _ := r.run(passed("a/b", 2), passed("a/c", 1)); printed != "" {
			t.Fatalf("printed %q", printed)
		}
	}
	bad := record.ScenarioSummary{Name: "a/c", Result: record.Failed, Failure: &record.Failure{Reason: record.ExecStatus, Message: "exit status \x1b[2J1"}}
	elsewhere := record.ScenarioSummary{Name: "mine", Result: record.Failed, File: filepath.Join(t.TempDir(), "mine.txtar")}
	printed, known := r.run(passed("a/b", 5), bad, elsewhere)
	if want := "a/c: fails for the first time in 10 playings\nwarning: a/b: slower than usual: took 5.00s, 2 times as long as usually: median 2.00s ± 0.00s (median absolute deviation) of 9\n"; printed != want {
		t.Errorf("printed %q", printed)
	}
	if known["a/b"] != 2 || known["a/c"] != 1 {
		t.Errorf("known %v", known)
	}

	out, err := exec.CommandContext(t.Context(), rigBinary, "history", "-last", "3", "-C", "/").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"SCENARIO", "a/b       10      10", "±0.00s of 10  ...\n", "..F\n", history.Legend, "a/b: slower than usual: took 5.00s", `exec-status: exit status \x1b[2J1`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "mine") {
		t.Errorf("a scenario from elsewhere was kept:\n%s", out)
	}

	out, err = exec.CommandContext(t.Context(), rigBinary, "history", "-json", "a/c").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema    int
		Scenarios []history.Report
	}
	if err := json.Unmarshal(out, &got); err != nil || got.Schema != historySchema || len(got.Scenarios) != 1 || got.Scenarios[0].Row != ".........F" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), rigBinary, "history", "nothing").CombinedOutput(); err == nil || !strings.Contains(string(out), `matches "nothing"`) {
		t.Errorf("%v: %s", err, out)
	}
}

// The results of past runs are never a reason for a run to fail.
func TestAHistoryThatIsDamaged(t *testing.T) {
	r := newPastRig(t)
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, history.File), []byte(strings.Repeat("no database ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	printed, known := r.run(passed("a/b", 2))
	if !strings.HasPrefix(printed, "warning: ") || !strings.Contains(printed, "is damaged") || !strings.Contains(printed, "kept aside") || len(known) != 0 {
		t.Errorf("printed %q, known %v", printed, known)
	}
	// Moved away, as it says, it begins anew, with what was kept aside.
	file := filepath.Join(cache, history.File)
	if err := os.Rename(file, file+".damaged"); err != nil {
		t.Fatal(err)
	}
	r.run(passed("a/c", 1))
	if _, known := r.run(); known["a/b"] != 2 || known["a/c"] != 1 {
		t.Errorf("known %v", known)
	}
}

// A database that another process holds is waited for, and then the results are kept for the next run.
func TestAHistoryThatIsLocked(t *testing.T) {
	r := newPastRig(t)
	r.run(passed("a/b", 2))
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(cache, history.File)+"?_txlock=exclusive")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := record.ScenarioSummary{Name: "a/b", Result: record.Failed, Failure: &record.Failure{Reason: record.ExecStatus}}
	printed, _ := r.run(bad)
	if strings.Count(printed, "another process holds ") != 2 || !strings.Contains(printed, "kept aside until the next one") || strings.Contains(printed, "fails") || strings.Contains(printed, "remove") {
		t.Errorf("printed %q", printed)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if printed, known := r.run(bad); known["a/b"] != 2 || !strings.Contains(printed, "still failing: so did the last 1 before") {
		t.Errorf("printed %q, known %v", printed, known)
	}
}

// A fault that comes with a change is no flake, whatever the scenario did before.
func TestAChangeIsNoFlake(t *testing.T) {
	r := newPastRig(t)
	script := filepath.Join(r.dir, suite.Dir, "a", "b.txtar")
	if err := os.MkdirAll(filepath.Dir(script), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("up\n")
	bad := record.ScenarioSummary{Name: "a/b", Result: record.Failed, Failure: &record.Failure{Reason: record.ExecStatus}}
	r.images = "before"
	r.run(bad)
	r.run(passed("a/b", 1))
	for _, tt := range []struct {
		change func()
		want   string
	}{
		{func() {}, "a/b: known flaky: 1 of the last 2 failed\n"},
		{func() { r.images = "after" }, "a/b: still failing, after the programs or the script changed: so did the last 1 before"},
		{func() { write("up -only\n") }, "a/b: still failing, after the programs or the script changed"},
		{func() {
			r.images, r.began = "once more", r.began.Add(time.Second)
			r.run(passed("a/b", 1))
			r.images = "and more"
		}, "a/b: fails after the programs or the script changed; before that 4 of the last 6 failed"},
	} {
		tt.change()
		if printed, _ := r.run(bad); !strings.HasPrefix(printed, tt.want) {
			t.Errorf("printed %q, want %q", printed, tt.want)
		}
	}
}

func TestRevision(t *testing.T) {
	dir := t.TempDir()
	if rev, dirty := revision(t.Context(), dir); rev != "" || dirty {
		t.Errorf("no repository: %q, %v", rev, dirty)
	}
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m"}} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	rev, dirty := revision(t.Context(), dir)
	if len(rev) < 40 || dirty {
		t.Errorf("%q, %v", rev, dirty)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, dirty := revision(t.Context(), dir); !dirty {
		t.Error("changes are not seen")
	}
}

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, suite.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"a/b", "a/c", "d"}
	for _, tt := range []struct{ patterns, want string }{{"", "a/b a/c d"}, {"a", "a/b a/c"}, {"a/* a/b", "a/b a/c"}, {"d", "d"}, {"./a scenarios/d", "a/b a/c d"}} {
		t.Chdir(filepath.Join(dir, suite.Dir))
		got, err := choose(dir, names, strings.Fields(tt.patterns))
		if err != nil || !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q: %v, %v", tt.patterns, got, err)
		}
	}
}
