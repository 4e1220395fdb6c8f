package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary is also the process that is killed, and the one with a small disk of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("RECORD_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "append":
		childAppend(os.Getenv("RECORD_TEST_DIR"))
	case "full":
		childFullDisk(os.Getenv("RECORD_TEST_DIR"))
	}
}

func child(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "RECORD_TEST_CHILD="+what, "RECORD_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func mustCreate(t *testing.T, root, name string, sink func(Event)) *Run {
	t.Helper()
	r, err := Create(root, name, sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestCreateNamesTheFolder(t *testing.T) {
	root := filepath.Join(t.TempDir(), "made", "runs")
	synctest.Test(t, func(t *testing.T) { // the clock stands still: all three are of the same second
		stamp := time.Now().Format("20060102-150405")
		for _, want := range []string{stamp + "-a-b", stamp + "-a-b-2", stamp + "-a-b-3"} {
			r := mustCreate(t, root, "a/b", nil)
			if got := filepath.Base(r.Dir()); got != want {
				t.Errorf("folder %s, want %s", got, want)
			}
			link, err := os.Readlink(filepath.Join(root, LatestLink))
			if err != nil || link != want {
				t.Errorf("latest -> %s (%v), want %s", link, err, want)
			}
		}
		entries, err := os.ReadDir(root)
		if err != nil || len(entries) != 4 {
			t.Errorf("%d entries beside the runs (%v), want 4", len(entries), err)
		}
	})
}

func TestCreateAtOnce(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	dirs := make([]string, 8)
	for i := range dirs {
		wg.Go(func() {
			r, err := Create(root, "x", nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			dirs[i] = r.Dir()
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, d := range dirs {
		if seen[d] {
			t.Errorf("two runs in %s", d)
		}
		seen[d] = true
	}
	if _, err := Load(filepath.Join(root, LatestLink)); err != nil && !strings.Contains(err.Error(), "not the folder") {
		t.Error(err)
	}
}

func TestCreateWithoutAPlace(t *testing.T) {
	t.Run("root is a file", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "runs")
		if err := os.WriteFile(root, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(root, "x", nil); err == nil || !strings.Contains(err.Error(), root) {
			t.Errorf("error %v does not name %s", err, root)
		}
	})
	t.Run("latest is a folder", func(t *testing.T) {
		root := t.TempDir()
		latest := filepath.Join(root, LatestLink)
		if err := os.Mkdir(latest, 0o755); err != nil {
			t.Fatal(err)
		}
		old := mustCreate(t, root, "old", nil)
		run := mustCreate(t, root, "x", nil)
		warnings := run.Summary().Warnings
		if len(warnings) != 1 || !strings.Contains(warnings[0], "mv "+latest) || !strings.Contains(warnings[0], run.Dir()) {
			t.Errorf("warnings %q", warnings)
		}
		if dir, err := Latest(root); err != nil || dir != run.Dir() {
			t.Errorf("the newest is %s, %v, beside %s", dir, err, old.Dir())
		}
	})
}

func TestSanitize(t *testing.T) {
	tests := []struct{ in, want string }{
		{"smoke", "smoke"},
		{"", "run"},
		{"..", "run"},
		{"/etc/passwd", "etc-passwd"},
		{"../../x", "x"},
		{".hidden", "hidden"},
		{"a b\x1b[2J\u00e9", "a-b--2J"},
		{"-rf", "rf"},
		{strings.Repeat("n", 100), strings.Repeat("n", 64)},
		{"v1.2_x-Y", "v1.2_x-Y"},
		{"basic@2", "basic@2"},
		{"basic@cold", "basic@cold"},
		{strings.Repeat("n", 100) + "@cold12", strings.Repeat("n", 57) + "@cold12"},
		{"@" + strings.Repeat("n", 100), "@" + strings.Repeat("n", 63)},
	}
	for _, tt := range tests {
		if got := sanitize(tt.in); got != tt.want {
			t.Errorf("sanitize(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	for _, tt := range []struct{ in, want string }{{"a/b", "a/b"}, {"../b", "run/b"}, {"/a//b", "run/a/run/b"}} {
		if got := ScenarioDir(tt.in); got != tt.want {
			t.Errorf("ScenarioDir(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// play records a run of two scenarios the way parent and worker do.
func play(t *testing.T, root string, sink func(Event)) (*Run, Summary) {
	t.Helper()
	run := mustCreate(t, root, "smoke", sink)
	add := func(e Event) {
		t.Helper()
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	add(Event{Kind: KindRunStart, Total: 3, Host: &Host{QEMU: "7.2", Accel: "tcg", Line: "QEMU 7.2, tcg"}})

	first, err := CreateScenario(run.Dir(), "roundtrip/basic", "roundtrip/basic", add)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	events := []Event{
		{Kind: KindScenarioStart, File: "scenarios/roundtrip/basic.txtar"},
		{Kind: KindSection, Line: 1, Text: "A reads what B serves."},
		{Kind: KindStepStart, Step: 1, Line: 2, Text: "up"},
		{Kind: KindNode, Node: "A", State: StateStarting},
		{Kind: KindNode, Node: "B", State: StateStarting},
		{Kind: KindNode, Node: "A", State: StateReady},
		{Kind: KindPhase, Name: "boot", Seconds: 4},
		{Kind: KindStepEnd, Step: 1, Seconds: 5},
		{Kind: KindPhase, Name: "script", Seconds: 1},
		{Kind: KindPhase, Name: "boot", Seconds: 0.5},
		{Kind: KindStepStart, Step: 2, Line: 3, Text: "! exec A false"},
		{Kind: KindStepEnd, Step: 2, Seconds: 0.1, Error: "exit status 1", Ignored: true},
		{Kind: KindBudget, Name: "quick", Seconds: 2, Limit: 3},
		{Kind: KindWarning, Text: "slow"},
		{Kind: KindScenarioEnd, Result: Passed, Seconds: 6},
	}
	for _, e := range events {
		if err := first.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	second, err := CreateScenario(run.Dir(), "errors/enoent", "errors/enoent", add)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, e := range []Event{
		{Kind: KindScenarioStart, File: "scenarios/errors/enoent.txtar"},
		{Kind: KindStepStart, Step: 1, Line: 2, Text: "up"},
	} {
		if err := second.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	add(Event{Kind: KindWarning, Text: "of the run"})
	return run, run.Summary()
}

func TestSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		run, _ := play(t, t.TempDir(), nil)
		time.Sleep(7 * time.Second) // the bubble's clock
		got, err := run.Finish(nil)
		if err != nil {
			t.Fatal(err)
		}
		want := Summary{
			Schema: 1, Name: "smoke", Result: Interrupted, Exit: 130, Started: start, Seconds: 7, Planned: 3, NotPlayed: 1,
			Counts: map[Result]int{Passed: 1, Interrupted: 1}, Host: Host{QEMU: "7.2", Accel: "tcg", Line: "QEMU 7.2, tcg"},
			Warnings: []string{"of the run"},
			Scenarios: []ScenarioSummary{
				{
					Name: "roundtrip/basic", File: "scenarios/roundtrip/basic.txtar", Result: Passed, Started: start, Seconds: 6,
					Phases: []Phase{{"boot", 4.5}, {"script", 1}},
					Steps: []Step{
						{Step: 1, Line: 2, Section: "A reads what B serves.", Text: "up", Seconds: 5, Ended: true},
						{Step: 2, Line: 3, Section: "A reads what B serves.", Text: "! exec A false", Seconds: 0.1, Ended: true, Error: "exit status 1", Ignored: true},
					},
					Budgets: []Budget{{"quick", 2, 3}}, Warnings: []string{"slow"},
					Dir: "roundtrip/basic", Events: "roundtrip/basic/events.jsonl", Work: "roundtrip/basic/work",
					Nodes: []NodeFiles{
						{"A", "roundtrip/basic/A/console.log", "roundtrip/basic/A/journal.jsonl", "roundtrip/basic/A/qemu.log", "roundtrip/basic/A/qemu.cmd"},
						{"B", "roundtrip/basic/B/console.log", "roundtrip/basic/B/journal.jsonl", "roundtrip/basic/B/qemu.log", "roundtrip/basic/B/qemu.cmd"},
					},
				},
				{
					Name: "errors/enoent", File: "scenarios/errors/enoent.txtar", Result: Interrupted, Started: start,
					Failure: &Failure{Reason: Stopped, Step: 1, File: "scenarios/errors/enoent.txtar", Line: 2, Text: "up", Message: "the run ended before this scenario did"},
					Steps:   []Step{{Step: 1, Line: 2, Text: "up"}},
					Dir:     "errors/enoent", Events: "errors/enoent/events.jsonl", Work: "errors/enoent/work",
				},
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("summary (-want +got):\n%s", diff)
		}

		back, err := Load(run.Dir())
		if err != nil {
			t.Fatal(err)
		}
		if !back.Complete || len(back.Warnings) != 0 {
			t.Errorf("complete %v, warnings %q", back.Complete, back.Warnings)
		}
		if diff := cmp.Diff(got, back.Summary); diff != "" {
			t.Errorf("summary read back (-written +read):\n%s", diff)
		}
		for i, e := range back.Events {
			if e.Seq != int64(i) {
				t.Errorf("event %d has number %d", i, e.Seq)
			}
		}
		if last := back.Events[len(back.Events)-1]; last.Kind != KindRunEnd || last.T != 7 || last.Result != Interrupted {
			t.Errorf("last event %+v", last)
		}

		// The same run without its summary is what a killed run leaves.
		if err := os.Remove(filepath.Join(run.Dir(), SummaryFile)); err != nil {
			t.Fatal(err)
		}
		back, err = Load(run.Dir())
		if err != nil {
			t.Fatal(err)
		}
		if back.Complete {
			t.Error("complete without a summary")
		}
		back.Summary.Name = "smoke" // the folder's name stands in for it
		if diff := cmp.Diff(got, back.Summary); diff != "" {
			t.Errorf("summary made of the events (-written +made):\n%s", diff)
		}
	})
}

// However scenarios overtake each other, they are listed as they were planned.
func TestScenariosAreListedInThePlannedOrder(t *testing.T) {
	seed := uint64(7)
	run := mustCreate(t, t.TempDir(), "x", nil)
	for _, e := range []Event{
		{Kind: KindRunStart, Total: 3, Seed: &seed},
		{Kind: KindPlan, Plan: []string{"a/b", "a/c", "a/d"}},
		{Kind: KindScenarioStart, Scenario: "un/planned"},
		{Kind: KindScenarioStart, Scenario: "a/d"},
		{Kind: KindPlan, Plan: []string{"a/b@2", "a/d"}},
		{Kind: KindScenarioStart, Scenario: "a/b@2", Of: "a/b"},
		{Kind: KindScenarioStart, Scenario: "a/b"},
	} {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := run.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range s.Scenarios {
		got = append(got, c.Name+" "+c.Of)
	}
	if want := []string{"a/b ", "a/d ", "a/b@2 a/b", "un/planned "}; !slices.Equal(got, want) {
		t.Errorf("listed as %q, want %q", got, want)
	}
	// More than planned: a run that goes on and on.
	if s.Planned != 4 || s.NotPlayed != 0 || s.Seed == nil || *s.Seed != seed {
		t.Errorf("planned %d, not played %d, seed %v", s.Planned, s.NotPlayed, s.Seed)
	}
}

func TestFinishWithAFailureOfTheRun(t *testing.T) {
	run := mustCreate(t, t.TempDir(), "x", nil)
	s, err := run.Finish(&Failure{Reason: HostUnsupported, Message: "no QEMU"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Result != Broken || s.Exit != ExitUnsupported || s.Failure.Message != "no QEMU" {
		t.Errorf("%+v", s)
	}
	if err := run.Append(Event{Kind: KindWarning}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after the end: %v", err)
	}
	if err := run.Close(); err != nil {
		t.Errorf("close after the end: %v", err)
	}
}

func TestScenarioEventsKeepTheirTimeInTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var relayed []Event
		run := mustCreate(t, t.TempDir(), "x", func(e Event) { relayed = append(relayed, e) })
		if err := run.Append(Event{Kind: KindRunStart}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s, err := CreateScenario(run.Dir(), "a/b", "a/b", func(e Event) {
			if err := run.Append(e); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Append(Event{Kind: KindScenarioStart}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		if err := s.Append(Event{Kind: KindSection, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		if got := []float64{relayed[0].T, relayed[1].T, relayed[2].T}; got[0] != 0 || got[1] != 0 || got[2] != 1.5 {
			t.Errorf("seconds %v, want 0, 0, 1.5", got)
		}
		if relayed[2].Scenario != "a/b" || relayed[2].Seq != 2 || relayed[1].Schema != 0 {
			t.Errorf("passed on as %+v, %+v", relayed[1], relayed[2])
		}
		var own []Event
		if _, err := ReadEvents(filepath.Join(s.Dir(), EventsFile), func(e Event) error { own = append(own, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(own) != 2 || own[0].Schema != Schema || own[1].Seq != 1 || !own[1].Time.Equal(relayed[2].Time) {
			t.Errorf("in the scenario's file: %+v", own)
		}
	})
}

func TestScenarioFolder(t *testing.T) {
	run := t.TempDir()
	s, err := CreateScenario(run, "a/b", "a/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if fi, err := os.Stat(s.Work()); err != nil || !fi.IsDir() {
		t.Errorf("work folder: %v", err)
	}
	n, err := s.Node("A")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.Console, nil, 0o644); err != nil {
		t.Error(err)
	}
	if want := filepath.Join(run, "a", "b", "A", "qemu.cmd"); n.QEMUCmd != want {
		t.Errorf("%s, want %s", n.QEMUCmd, want)
	}
	for _, name := range []string{"work", "events.jsonl", "", "..", "a/b", ".x"} {
		if _, err := s.Node(name); err == nil {
			t.Errorf("node %q accepted", name)
		}
	}
	if _, err := CreateScenario(run, "a/b", "a/b", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same scenario again: %v", err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	const writers, each = 8, 200
	var seen int64 // the sink is called by one goroutine at a time: the race detector watches this
	run := mustCreate(t, t.TempDir(), "x", func(e Event) {
		if e.Seq != seen {
			t.Errorf("event %d after %d", e.Seq, seen)
		}
		seen++
	})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := run.Append(Event{Kind: KindOutput, Scenario: "a/" + strconv.Itoa(w), Step: i, Text: strings.Repeat("x", i*20)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	back, err := Load(run.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Events) != writers*each || len(back.Warnings) != 0 {
		t.Errorf("%d events, want %d; warnings %q", len(back.Events), writers*each, back.Warnings)
	}
	next := make(map[string]int)
	for _, e := range back.Events {
		if e.Step != next[e.Scenario] {
			t.Fatalf("%s: event %d, want %d", e.Scenario, e.Step, next[e.Scenario])
		}
		next[e.Scenario]++
	}
}

// childAppend appends events for ever and says after each that it is in.
func childAppend(dir string) {
	s, err := CreateScenario(dir, "a/b", "a/b", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		if err := s.Append(Event{Kind: KindOutput, Step: i, Text: strings.Repeat("x", i%5000)}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "append", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatalf("the child said %q", lines.Text())
		}
		if said == 300 {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the child was not killed: %v", err)
	}
	n := -1
	if _, err := ReadEvents(filepath.Join(dir, "a", "b", EventsFile), func(e Event) error {
		n++
		if e.Step != n {
			return fmt.Errorf("event %d in place of %d", e.Step, n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if said < 300 || n < said {
		t.Errorf("the child said %d, the file ends with %d", said, n)
	}
}

func TestKilledRunIsRead(t *testing.T) {
	run, summary := play(t, t.TempDir(), nil)
	f, err := os.OpenFile(filepath.Join(run.Dir(), EventsFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":99,"kind":"scenario-e`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	back, err := Load(run.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if back.Complete || len(back.Warnings) != 1 || !strings.Contains(back.Warnings[0], EventsFile) {
		t.Errorf("complete %v, warnings %q", back.Complete, back.Warnings)
	}
	if diff := cmp.Diff(summary.Scenarios, back.Summary.Scenarios); diff != "" {
		t.Error(diff)
	}
}

func TestLoadErrors(t *testing.T) {
	first := `{"schema":1,"seq":0,"kind":"run-start"}` + "\n"
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"empty folder", nil, "not the folder of a run"},
		{"foreign summary", map[string]string{SummaryFile: `{"schema":2,"scenarios":"of another type"}`, EventsFile: first}, "summary.json: schema 2, but this program reads schema 1"},
		{"no schema", map[string]string{SummaryFile: `{"name":"package.json"}`}, "names no schema"},
		{"no JSON", map[string]string{SummaryFile: "hello"}, "summary.json: not a summary"},
		{"summary of another shape", map[string]string{SummaryFile: `{"schema":1,"scenarios":7}`}, "summary.json: not a summary"},
		{"foreign events", map[string]string{EventsFile: `{"schema":3}` + "\n"}, "events.jsonl: line 1: schema 3"},
		{"damaged events", map[string]string{EventsFile: first + "\x00\x00\n"}, "events.jsonl: line 2: not an event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want one with %q and the path", err, tt.want)
			}
		})
	}
	t.Run("events are gone", func(t *testing.T) {
		run, _ := play(t, t.TempDir(), nil)
		if _, err := run.Finish(nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(run.Dir(), EventsFile)); err != nil {
			t.Fatal(err)
		}
		back, err := Load(run.Dir())
		if err != nil || len(back.Warnings) != 1 || len(back.Summary.Scenarios) != 2 {
			t.Errorf("%+v, %v", back, err)
		}
	})
	t.Run("each stops", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), EventsFile)
		if err := os.WriteFile(path, []byte(first), 0o644); err != nil {
			t.Fatal(err)
		}
		stop := errors.New("stop")
		if _, err := ReadEvents(path, func(Event) error { return stop }); err != stop {
			t.Errorf("%v", err)
		}
	})
}

func TestWriteFileIsWholeOrNotThere(t *testing.T) {
	run := mustCreate(t, t.TempDir(), "x", nil)
	broken := errors.New("half way")
	err := run.WriteFile(JUnitFile, func(w io.Writer) error {
		if _, err := io.WriteString(w, "<testsuites>"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), JUnitFile) {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(run.Dir())
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v (%v), want only the events", entries, err)
	}
	if err := run.WriteFile(JUnitFile, func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(run.Dir(), JUnitFile)); err != nil || fi.Mode().Perm()&0o400 == 0 || fi.Size() != 1 {
		t.Errorf("%v, %v", fi, err)
	}
}

// TestWriteFails uses a device that is always full: nothing, not even the taking back of a part of a line, works there.
func TestWriteFails(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no device that is always full: %v", err)
	}
	passed := 0
	l := newEventLog(f, "runs/x/events.jsonl", "a/b", func(Event) { passed++ })
	first := l.append(Event{Kind: KindSection})
	if !errors.Is(first, syscall.ENOSPC) || !strings.Contains(first.Error(), "runs/x/events.jsonl") || !strings.Contains(first.Error(), "free some space") {
		t.Errorf("first error: %v", first)
	}
	if err := l.append(Event{Kind: KindSection}); err != nil {
		t.Errorf("reported again: %v", err)
	}
	if err := l.lost(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("whoever asks is told %v", err)
	}
	if err := l.close(); err != nil {
		t.Errorf("reported again at the end: %v", err)
	}
	if passed != 2 {
		t.Errorf("%d of 2 events passed on", passed)
	}
}

// TestFullDisk runs a child in a user and mount namespace of its own, where it may mount a disk as small as it likes.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "full", dir)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("this host does not let the test make namespaces: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	var got struct {
		Written  int
		Errors   []string
		Events   int
		Warnings []string
		Finish   string
		Left     []string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got.Written < 3 || got.Events != got.Written || len(got.Warnings) != 0 {
		t.Errorf("%d events were taken, %d read back, warnings %q", got.Written, got.Events, got.Warnings)
	}
	if len(got.Errors) != 1 || !strings.Contains(got.Errors[0], "events.jsonl") || !strings.Contains(got.Errors[0], "free some space") {
		t.Errorf("errors %q, want one that names the file and the next step", got.Errors)
	}
	if !strings.Contains(got.Finish, "summary.json") {
		t.Errorf("the end: %s", got.Finish)
	}
	if len(got.Left) != 1 {
		t.Errorf("left in the folder: %q", got.Left)
	}
}

func childFullDisk(dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		fmt.Fprintln(os.Stderr, "mount:", err)
		os.Exit(1)
	}
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	run, err := Create(dir, "x", nil)
	if err != nil {
		fail(err)
	}
	var out struct {
		Written  int
		Errors   []string
		Events   int
		Warnings []string
		Finish   string
		Left     []string
	}
	for range 60 {
		err := run.Append(Event{Kind: KindWarning, Text: strings.Repeat("x", 3000)})
		switch {
		case err != nil:
			out.Errors = append(out.Errors, err.Error())
		case len(out.Errors) == 0:
			out.Written++
		}
	}
	if warning, err := ReadEvents(filepath.Join(run.Dir(), EventsFile), func(Event) error { out.Events++; return nil }); err != nil {
		fail(err)
	} else if warning != "" {
		out.Warnings = append(out.Warnings, warning)
	}
	// The rest of the disk goes too, so that the summary has no room at all.
	if f, err := os.Create(filepath.Join(dir, "ballast")); err != nil {
		fail(err)
	} else if _, err := f.Write(make([]byte, 1<<20)); err == nil {
		fail(errors.New("the disk is larger than it was made"))
	}
	_, err = run.Finish(nil)
	out.Finish = fmt.Sprint(err)
	entries, err := os.ReadDir(run.Dir())
	if err != nil {
		fail(err)
	}
	for _, e := range entries {
		out.Left = append(out.Left, e.Name())
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fail(err)
	}
}
