package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/report"
	"dsoftbus-rig/rig/worker"
)

// names are the scenarios of a summary with their results.
func names(s record.Summary) (out []string) {
	for _, c := range s.Scenarios {
		out = append(out, c.Name+" "+string(c.Result))
	}
	return out
}

// held makes a scenario that waits until release is called.
func held(t *testing.T, name string) (item Item, release func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "held")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that neither side waits for the other to open it.
	pipe, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	return Item{Name: name, File: file}, func() {
		if _, err := pipe.Write([]byte{1}); err != nil {
			t.Errorf("release %s: %v", name, err)
		}
	}
}

// A worker that crashes takes nothing along: those that run beside it pass.
func TestACrashTouchesNobodyElse(t *testing.T) {
	dies, die := held(t, "bad/dies")
	cfg := Config{Rounds: 1, Jobs: 4, Items: []Item{dies}}
	var others []func()
	for _, name := range []string{"good/a", "good/b", "good/c"} {
		item, release := held(t, name)
		cfg.Items, others = append(cfg.Items, item), append(others, release)
	}
	started := 0
	summary, _ := playConfig(t, t.Context(), cfg, func(e record.Event) {
		if e.Kind == record.KindScenarioStart {
			if started++; started == 4 { // all of them run
				die()
			}
		}
		if e.Scenario == dies.Name && e.Kind == record.KindScenarioEnd {
			for _, release := range others {
				release()
			}
		}
	})
	want := []string{"bad/dies broken", "good/a passed", "good/b passed", "good/c passed"}
	if diff := cmp.Diff(want, names(summary)); diff != "" {
		t.Error(diff)
	}
}

var (
	figures = regexp.MustCompile(`(?m) ( *\d+\.\d+s|\d+m\d+s|\(shown above\))$|  +\d+\.\d+s `)
	ahead   = regexp.MustCompile(`(?m)^ahead of its turn: .*\n`)
	box     = regexp.MustCompile(`(?m)^  \| .*\n`)
)

// However many are played side by side, the same comes out, in the same order.
func TestTheSameComesOutHoweverManyRunAtOnce(t *testing.T) {
	type result struct {
		lines     string   // without boxes
		boxes     []string // their lines, sorted
		scenarios []record.ScenarioSummary
	}
	play := func(jobs int) result {
		var shown bytes.Buffer
		progress := report.NewProgress(&shown, report.Options{Verbose: true})
		expected := Durations{"good/z": 9, "good/a": 1, "bad/torn": 5}
		summary, _ := playConfig(t, t.Context(), Config{Rounds: 2, Jobs: jobs, Expected: expected}, progress.Event,
			"bad/dies", "bad/fails", "bad/silent", "bad/torn", "good/a", "good/m", "good/z")
		if err := progress.Finish(summary); err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(shown.String(), "\n") // the two lines about the host say how many
		_, text, _ = strings.Cut(text, "\n")
		r := result{scenarios: summary.Scenarios, boxes: box.FindAllString(text, -1)}
		slices.Sort(r.boxes)
		text = ahead.ReplaceAllString(box.ReplaceAllString(text, ""), "")
		r.lines = figures.ReplaceAllString(figures.ReplaceAllString(text, ""), "") // "1.0s (shown above)" has two
		for i := range r.scenarios {
			s := &r.scenarios[i]
			s.Started, s.Seconds = time.Time{}, 0
			if s.Failure != nil {
				// A dead worker's last words have addresses in them.
				s.Failure.Message, _, _ = strings.Cut(s.Failure.Message, "\n")
			}
		}
		return r
	}
	one, four := play(1), play(4)
	if diff := cmp.Diff(strings.Split(one.lines, "\n"), strings.Split(four.lines, "\n")); diff != "" {
		t.Errorf("output with -j 1 and -j 4:\n%s", diff)
	}
	if diff := cmp.Diff(one.scenarios, four.scenarios); diff != "" {
		t.Errorf("summary with -j 1 and -j 4:\n%s", diff)
	}
	if len(one.boxes) == 0 || len(one.boxes) != len(four.boxes) {
		t.Errorf("%d and %d lines of failures", len(one.boxes), len(four.boxes))
	}
}

func TestTheLongestBeginFirst(t *testing.T) {
	expected := Durations{"good/a": 1, "good/b": 2, "good/c": 30, "good/d": 4, "good/f": 50}
	all := []string{"good/a", "good/b", "good/c", "good/d", "good/e", "good/f"}
	// One goes on whenever all places are taken, so that it is known who is next.
	play := func(jobs int) (planned, begun []string) {
		cfg := Config{Rounds: 1, Jobs: jobs, Expected: expected}
		release := map[string]func(){}
		for _, name := range all {
			var item Item
			item, release[name] = held(t, name)
			cfg.Items = append(cfg.Items, item)
		}
		released := 0
		playConfig(t, t.Context(), cfg, func(e record.Event) {
			switch e.Kind {
			case record.KindPlan:
				planned = e.Plan
			case record.KindScenarioStart:
				begun = append(begun, e.Scenario)
				for released < len(begun) && (len(begun)-released >= jobs || len(begun) == len(all)) {
					release[begun[released]]()
					released++
				}
			}
		})
		return planned, begun
	}
	planned, begun := play(2)
	if !slices.Equal(planned, all) {
		t.Errorf("planned %v", planned)
	}
	// The first two begin at once, so they may be told in either order. The median is
	// 4: good/e, which nobody knows, takes as long as good/d.
	slices.Sort(begun[:2])
	if want := []string{"good/c", "good/f", "good/d", "good/e", "good/b", "good/a"}; !slices.Equal(begun, want) {
		t.Errorf("they began as %v, want %v", begun, want)
	}
	if _, begun := play(1); !slices.Equal(begun, all) {
		t.Errorf("one at a time they began as %v", begun)
	}
}

func TestRepeatedScenariosHaveNamesOfTheirOwn(t *testing.T) {
	summary, out := playConfig(t, t.Context(), Config{Rounds: 3, Jobs: 2, Saved: machine.Saved{RAM: "ram"}}, nil, "bad/third", "good/a")
	want := []string{"bad/third passed", "good/a passed", "bad/third@2 passed", "good/a@2 passed", "bad/third@3 failed", "good/a@3 passed"}
	if diff := cmp.Diff(want, names(summary)); diff != "" {
		t.Error(diff)
	}
	for _, s := range summary.Scenarios {
		base, _, further := strings.Cut(s.Name, "@")
		if further != (s.Of == base) || !further && s.Of != "" {
			t.Errorf("%s is of %q", s.Name, s.Of)
		}
	}
	if summary.Planned != 6 || summary.NotPlayed != 0 || out.Why != nil {
		t.Errorf("planned %d, not played %d, %v", summary.Planned, summary.NotPlayed, out.Why)
	}
	if diff := cmp.Diff(Durations{"bad/third": 1, "good/a": 1}, out.Passed); diff != "" {
		t.Error(diff)
	}
}

func TestUntilFail(t *testing.T) {
	summary, out := playConfig(t, t.Context(), Config{FailFast: true}, nil, "bad/third", "good/a")
	want := []string{"bad/third passed", "good/a passed", "bad/third@2 passed", "good/a@2 passed", "bad/third@3 failed"}
	if diff := cmp.Diff(want, names(summary)); diff != "" {
		t.Error(diff)
	}
	if summary.NotPlayed != 0 || out.Why != nil || summary.Exit != record.ExitFailed {
		t.Errorf("not played %d, %v, exit %d", summary.NotPlayed, out.Why, summary.Exit)
	}
	// A run without an end was ended by somebody: nothing was lost by it.
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	summary, out = playConfig(t, ctx, Config{FailFast: true}, func(e record.Event) {
		if e.Scenario == "good/a@4" && e.Kind == record.KindScenarioEnd {
			cancel(errors.New("enough"))
		}
	}, "good/a")
	if len(summary.Scenarios) != 4 || out.Why != nil || summary.Exit != record.ExitGreen {
		t.Errorf("%d scenarios, %v, exit %d", len(summary.Scenarios), out.Why, summary.Exit)
	}
	// Here something was.
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	summary, out = playConfig(t, ctx, Config{FailFast: true, Jobs: 2}, func(e record.Event) {
		if e.Scenario == "bad/waits" && e.Kind == record.KindScenarioStart {
			cancel(errors.New("enough"))
		}
	}, "bad/waits")
	if out.Why == nil || out.Why.Reason != record.Stopped || summary.Exit != record.ExitInterrupted {
		t.Errorf("%v, exit %d", out.Why, summary.Exit)
	}
}

// After a failure nothing new begins, and what runs is finished.
func TestFailFast(t *testing.T) {
	runs, release := held(t, "good/runs")
	cfg := Config{
		Rounds: 1, Jobs: 2, FailFast: true, Items: []Item{runs},
		Expected: Durations{"good/runs": 9, "bad/fails": 8, "good/never": 1, "good/never-either": 1},
	}
	summary, out := playConfig(t, t.Context(), cfg, func(e record.Event) {
		// A worker that is still there is not yet one that failed: what follows the
		// verdict must not begin either.
		if e.Scenario == "bad/fails" && e.Kind == record.KindScenarioEnd {
			release()
		}
	}, "bad/fails", "good/never", "good/never-either")
	if diff := cmp.Diff([]string{"bad/fails failed", "good/runs passed"}, names(summary)); diff != "" {
		t.Error(diff)
	}
	if summary.Planned != 4 || summary.NotPlayed != 2 || out.Why != nil || summary.Exit != record.ExitFailed {
		t.Errorf("planned %d, not played %d, %v, exit %d", summary.Planned, summary.NotPlayed, out.Why, summary.Exit)
	}
}

func TestTimeout(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	running := map[string]bool{}
	summary, out := playConfig(t, ctx, Config{Rounds: 1, Jobs: 2}, func(e record.Event) {
		if e.Kind == record.KindScenarioStart {
			if running[e.Scenario] = true; running["bad/stubborn"] && running["bad/waits"] {
				cancel(&timeoutError{90 * time.Second})
			}
		}
	}, "bad/stubborn", "bad/waits", "good/never")
	if diff := cmp.Diff([]string{"bad/stubborn failed", "bad/waits failed"}, names(summary)); diff != "" {
		t.Fatal(diff)
	}
	for _, s := range summary.Scenarios {
		if s.Failure.Reason != record.RunTimeout {
			t.Errorf("%s: %v", s.Name, s.Failure)
		}
	}
	if out.Why == nil || out.Why.Reason != record.RunTimeout || !strings.Contains(out.Why.Message, "1m30s is over: 2 cut off, 1 never begun") {
		t.Errorf("%v", out.Why)
	}
	if summary.NotPlayed != 1 || summary.Exit != record.ExitFailed {
		t.Errorf("not played %d, exit %d", summary.NotPlayed, summary.Exit)
	}

	// Time that is over when all was played takes nothing away.
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	summary, out = playConfig(t, ctx, Config{Rounds: 1}, func(e record.Event) {
		if e.Kind == record.KindScenarioEnd {
			cancel(&timeoutError{time.Second})
		}
	}, "good/a")
	if out.Why != nil || summary.Exit != record.ExitGreen {
		t.Errorf("%v, exit %d", out.Why, summary.Exit)
	}
	limited, stop := WithTimeout(t.Context(), time.Nanosecond)
	defer stop()
	<-limited.Done()
	if f := Ended(context.Cause(limited)); f.Reason != record.RunTimeout || !errors.Is(context.Cause(limited), worker.ErrOutOfTime) {
		t.Errorf("%v", f)
	}
}

func TestShuffledRunsCanBeRepeated(t *testing.T) {
	var all []string
	for i := range 8 {
		all = append(all, fmt.Sprint("good/", i))
	}
	play := func(seed uint64) (planned, begun []string) {
		// Durations change nothing about an order that somebody asked for.
		cfg := Config{Rounds: 2, Jobs: 1, Shuffle: &seed, Expected: Durations{"good/7": 100}}
		summary, _ := playConfig(t, t.Context(), cfg, func(e record.Event) {
			switch e.Kind {
			case record.KindPlan:
				planned = append(planned, e.Plan...)
			case record.KindScenarioStart:
				begun = append(begun, e.Scenario)
			}
		}, all...)
		if summary.Seed == nil || *summary.Seed != seed {
			t.Errorf("the record has the seed %v, not %d", summary.Seed, seed)
		}
		return planned, begun
	}
	planned, begun := play(7)
	if !slices.Equal(planned, begun) || slices.IsSorted(begun[:8]) {
		t.Errorf("planned %v, begun %v", planned, begun)
	}
	if _, again := play(7); !slices.Equal(begun, again) {
		t.Errorf("%v, then %v", begun, again)
	}
	if _, other := play(8); slices.Equal(begun, other) {
		t.Errorf("two seeds give %v", begun)
	}
	p := planner{items: []Item{{Name: "a"}, {Name: "b"}, {Name: "c"}}, sideBySide: true, shuffle: newShuffle(3), expected: Durations{"c": 5}}
	for range 20 {
		shown, play, _ := p.next()
		if !slices.EqualFunc(shown, play, func(a, b task) bool { return a[0].name == b[0].name }) {
			t.Fatalf("shown as %v, played as %v", shown, play)
		}
	}
}

func TestBoth(t *testing.T) {
	cfg := Config{Rounds: 2, Jobs: 2, Both: true, Saved: machine.Saved{RAM: "ram", State: "state"}}
	summary, out := playConfig(t, t.Context(), cfg, nil, "both/chance", "both/clones-fail", "both/cold-fails", "both/marker", "good/a")
	want := []string{
		"both/chance passed", "both/chance@cold passed",
		"both/clones-fail failed", "both/clones-fail@cold broken",
		"both/cold-fails passed", "both/cold-fails@cold broken",
		"both/marker passed", "both/marker@cold broken",
		"good/a passed", "good/a@cold passed",
		"both/chance@2 passed", "both/chance@cold2 passed",
		"both/clones-fail@2 passed", "both/clones-fail@cold2 passed",
		"both/cold-fails@2 passed", "both/cold-fails@cold2 passed",
		"both/marker@2 passed", "both/marker@cold2 passed",
		"good/a@2 passed", "good/a@cold2 passed",
	}
	if diff := cmp.Diff(want, names(summary)); diff != "" {
		t.Fatal(diff)
	}
	messages := map[string][]string{
		"both/clones-fail@cold": {"failed (step-failed) on clones, passed on booted machines"},
		"both/cold-fails@cold":  {"passed on clones, failed (step-failed) on booted machines", "only when it boots"},
		"both/marker@cold":      {"marker 1 of node B", "step 4, unit: ready\n", "step 4, unit: ready at last"},
	}
	for _, s := range summary.Scenarios {
		if s.Result != record.Broken {
			continue
		}
		if s.Failure.Reason != record.ColdDiffers {
			t.Errorf("%s: %v", s.Name, s.Failure)
		}
		for _, text := range messages[s.Name] {
			if !strings.Contains(s.Failure.Message, text) {
				t.Errorf("%s: no %q in %q", s.Name, text, s.Failure.Message)
			}
		}
		if s.Name == "both/marker@cold" && (s.Failure.Node != "B" || s.Failure.Line != 7) {
			t.Errorf("%s: %+v", s.Name, s.Failure)
		}
	}
	// What is known of a cold one is kept apart.
	if out.Passed["good/a"] == 0 || out.Passed["good/a@cold"] == 0 || out.Passed["both/marker@cold"] == 0 {
		t.Errorf("%v", out.Passed)
	}
	if summary.Exit != record.ExitFailed { // for both/clones-fail, which outweighs the rest
		t.Errorf("exit %d", summary.Exit)
	}
	cfg.Rounds = 1
	if summary, _ := playConfig(t, t.Context(), cfg, nil, "both/marker"); summary.Exit != record.ExitBroken {
		t.Errorf("exit %d", summary.Exit)
	}
	// The second of a pair is one that does not begin any more.
	cfg.FailFast = true
	if summary, _ := playConfig(t, t.Context(), cfg, nil, "both/clones-fail"); len(summary.Scenarios) != 1 || summary.NotPlayed != 1 {
		t.Errorf("%v, not played %d", names(summary), summary.NotPlayed)
	}
}
