package main

import (
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
	p.keep("/runs/1", record.Summary{Host: record.Host{Accel: "tcg", Slowdown: 4, Jobs: 1}, Scenarios: scenarios}, false, print)
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
	if want := "a/c: fails for the first time in 10 playings\na/b: slower than usual: took 5.00s, usually median 2.00s ± 0.00s (median absolute deviation) of 9\n"; printed != want {
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
	if !strings.HasPrefix(printed, "warning: ") || !strings.Contains(printed, "remove it to begin anew") || len(known) != 0 {
		t.Errorf("printed %q, known %v", printed, known)
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
