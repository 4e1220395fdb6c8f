package record

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shard records a run of some scenarios with these results by name; "" is one that has not ended, and the run then has no end either.
func shard(t *testing.T, root string, planned int, why *Failure, results map[string]Result) *Record {
	t.Helper()
	run := mustCreate(t, root, "shard", nil)
	add := func(e Event) {
		t.Helper()
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	add(Event{Kind: KindRunStart, Total: planned, Host: &Host{Accel: "tcg", Line: "host of " + filepath.Base(root)}})
	add(Event{Kind: KindWarning, Text: "of " + filepath.Base(root)})
	killed := false
	for name, result := range results {
		s, err := CreateScenario(run.Dir(), run.Folder(name), name, add)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(Event{Kind: KindScenarioStart, File: name + ".txtar", Dir: run.Folder(name)}); err != nil {
			t.Fatal(err)
		}
		if result == "" {
			killed = true
			continue
		}
		end := Event{Kind: KindScenarioEnd, Result: result, Seconds: 1}
		if !result.Green() {
			end.Failure = &Failure{Reason: StepFailed}
		}
		if err := errors.Join(s.Append(end), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if killed {
		err = run.Close()
	} else {
		_, err = run.Finish(why)
	}
	if err != nil {
		t.Fatal(err)
	}
	rec, err := Load(run.Dir())
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestMerge(t *testing.T) {
	temp := t.TempDir()
	one := shard(t, filepath.Join(temp, "one"), 2, nil, map[string]Result{"a/x": Passed, "b": Failed})
	two := shard(t, filepath.Join(temp, "two"), 3, nil, map[string]Result{"a/y": Skipped, "b/inner": Passed})
	var seen []Event
	dir, s, err := Merge(filepath.Join(temp, "runs"), "all", []*Record{one, two}, 0, func(e Event) { seen = append(seen, e) })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range s.Scenarios {
		names = append(names, c.Name+" "+string(c.Result))
	}
	if diff := cmp.Diff([]string{"a/x passed", "a/y skipped", "b failed", "b/inner passed"}, names); diff != "" {
		t.Error(diff)
	}
	if s.Planned != 5 || s.NotPlayed != 1 || s.Result != Failed || s.Exit != ExitFailed || s.Name != "all" || s.Failure != nil {
		t.Errorf("%+v", s)
	}
	first, last := one.Summary.Started, two.Summary.Started.Add(duration(two.Summary.Seconds))
	if !s.Started.Equal(first) || s.Seconds != Seconds(last.Sub(first)) {
		t.Errorf("from %s, %v seconds", s.Started, s.Seconds)
	}
	for _, want := range []string{"of one", "of two", "another host: host of two"} {
		if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.HasSuffix(w, want) }) {
			t.Errorf("no warning %q: %q", want, s.Warnings)
		}
	}
	// It is a record like any other.
	back, err := Load(dir)
	if err != nil || !back.Complete {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back.Summary); diff != "" {
		t.Error(diff)
	}
	var before time.Time
	for i, e := range back.Events {
		if e.Seq != int64(i) || (e.Schema == Schema) != (i == 0) || e.Time.Before(before) && e.Kind != KindRunEnd {
			t.Errorf("event %d: %+v", i, e)
		}
		before = e.Time
	}
	if len(seen) != len(back.Events) {
		t.Errorf("%d events seen, %d recorded", len(seen), len(back.Events))
	}
	for _, c := range s.Scenarios {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(c.Events))); err != nil {
			t.Error(err)
		}
	}
}

func TestMergeOfRunsThatFailed(t *testing.T) {
	temp := t.TempDir()
	good := shard(t, filepath.Join(temp, "good"), 1, nil, map[string]Result{"a/x": Passed})
	killed := shard(t, filepath.Join(temp, "killed"), 1, nil, map[string]Result{"a/y": ""})
	image := shard(t, filepath.Join(temp, "image"), 1, &Failure{Reason: ImageFailed, Message: "no compiler"}, nil)
	for _, tt := range []struct {
		name    string
		records []*Record
		exit    int
		reason  Reason
	}{
		{"one was killed", []*Record{good, killed}, ExitInterrupted, Stopped},
		{"one has played nothing", []*Record{good, image}, ExitBroken, ImageFailed},
		{"both", []*Record{image, good, killed}, ExitInterrupted, Stopped},
	} {
		_, s, err := Merge(filepath.Join(temp, "runs"), "all", tt.records, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.Exit != tt.exit || s.Failure == nil || s.Failure.Reason != tt.reason {
			t.Errorf("%s: exit status %d, %+v", tt.name, s.Exit, s.Failure)
		}
		if len(tt.records) == 3 && !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "no compiler") }) {
			t.Errorf("%s: the other failure is lost: %q", tt.name, s.Warnings)
		}
	}
}

func TestMergeRefusesTheSameScenario(t *testing.T) {
	temp := t.TempDir()
	root := filepath.Join(temp, "runs")
	one := shard(t, filepath.Join(temp, "one"), 1, nil, map[string]Result{"a/x": Passed})
	two := shard(t, filepath.Join(temp, "two"), 1, nil, map[string]Result{"a/x": Passed})
	_, _, err := Merge(root, "all", []*Record{one, two}, 0, nil)
	var collision *CollisionError
	if !errors.As(err, &collision) || !strings.Contains(err.Error(), one.Dir) || !strings.Contains(err.Error(), two.Dir) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("something was made")
	}
}
