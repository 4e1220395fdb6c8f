package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"
)

// recorded makes the record of a run with some events, which ends, or is killed.
func recorded(t *testing.T, ends bool, events ...Event) *Record {
	t.Helper()
	run := mustCreate(t, t.TempDir(), "run", nil)
	for _, e := range events {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	err := run.Close
	if ends {
		err = func() error { _, err := run.Finish(nil); return err }
	}
	if err := err(); err != nil {
		t.Fatal(err)
	}
	return load(t, run.Dir())
}

func load(t *testing.T, dir string) *Record {
	t.Helper()
	rec, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func passedIn(name string) []Event {
	return []Event{{Kind: KindScenarioStart, Scenario: name}, {Kind: KindScenarioEnd, Scenario: name, Result: Passed}}
}

// A run is green for what it has played to its end, and for nothing else.
func TestGreenIsEarned(t *testing.T) {
	start := Event{Kind: KindRunStart, Total: 2}
	one, both := passedIn("a/x"), append(passedIn("a/x"), passedIn("a/y")...)
	for _, tt := range []struct {
		name   string
		ends   bool
		events []Event
		want   Result
	}{
		{"all was played", true, append([]Event{start}, both...), Passed},
		{"one never began", true, append([]Event{start}, one...), Interrupted},
		{"nothing was planned", true, nil, Interrupted},
		{"killed before it began", false, nil, Interrupted},
		{"killed between two", false, append([]Event{start}, one...), Interrupted},
		{"killed behind the last", false, append([]Event{start}, both...), Interrupted},
		{"killed behind its end", false, append(append([]Event{start}, both...), Event{Kind: KindRunEnd}), Passed},
	} {
		if s := recorded(t, tt.ends, tt.events...).Summary; s.Result != tt.want || (s.Exit == 0) != s.Result.Green() {
			t.Errorf("%s: %s, exit status %d", tt.name, s.Result, s.Exit)
		}
	}
}

// However an event log is cut off, what is left of it is not green; whole, it is.
func TestACutOffLogIsNotGreen(t *testing.T) {
	rec := recorded(t, true, append([]Event{{Kind: KindRunStart, Total: 2}}, append(passedIn("a/x"), passedIn("a/y")...)...)...)
	data, err := os.ReadFile(filepath.Join(rec.Dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	end := strings.LastIndex(strings.TrimSuffix(string(data), "\n"), "\n") + 1 // where the last line begins
	for n := range end + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, EventsFile), data[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if s := load(t, dir).Summary; s.Result.Green() {
			t.Fatalf("the first %d of %d bytes are %s", n, len(data), s.Result)
		}
		// Beside the summary of the whole it is joined to no green run either.
		if n < end && (n == 0 || data[n-1] == '\n') {
			cut := *rec
			cut.Events = load(t, dir).Events
			if len(cut.Events) == len(rec.Events)-1 { // only the run's end is missing
				continue
			}
			_, s, err := Merge(t.TempDir(), "all", []*Record{&cut}, 0, nil)
			if err != nil || s.Result.Green() {
				t.Fatalf("joined from the first %d bytes: %s, %v", n, s.Result, err)
			}
		}
	}
}

// part makes the record of one part of a run.
func part(t *testing.T, shard Shard, names ...string) *Record {
	t.Helper()
	events := []Event{{Kind: KindRunStart, Total: len(names), Shard: &shard}}
	for _, name := range names {
		events = append(events, passedIn(name)...)
	}
	return recorded(t, true, events...)
}

func TestMergeMissesNoPart(t *testing.T) {
	one, two := part(t, Shard{1, 2, "s"}, "a/x"), part(t, Shard{2, 2, "s"}, "a/y")
	other, third := part(t, Shard{1, 1, "t"}, "b/x"), part(t, Shard{2, 3, "s"}, "a/z")
	again := part(t, Shard{1, 2, "s"}, "a/w")
	plain := recorded(t, true, append([]Event{{Kind: KindRunStart, Total: 1}}, passedIn("c/x")...)...)
	for _, tt := range []struct {
		name    string
		records []*Record
		expect  int
		says    string // empty: all is there
	}{
		{"all", []*Record{one, two}, 0, ""},
		{"all, and others", []*Record{one, two, other, plain}, 4, ""},
		{"no part", []*Record{plain}, 0, ""},
		{"the second is missing", []*Record{one}, 0, "part 2 of 2"},
		{"the first is missing", []*Record{two, other}, 0, "part 1 of 2"},
		{"of another division", []*Record{one, third}, 0, "is part 2 of 3"},
		{"twice", []*Record{one, again}, 0, "both part 1 of 2"},
		{"fewer than there should be", []*Record{one, two}, 3, "there are 2 records, and there should be 3"},
		{"more than there should be", []*Record{one, two}, 1, "there are 2 records, and there should be 1"},
	} {
		dir, s, err := Merge(t.TempDir(), "all", tt.records, tt.expect, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.says == "" {
			if s.Result != Passed || s.Failure != nil {
				t.Errorf("%s: %s, %+v", tt.name, s.Result, s.Failure)
			}
			continue
		}
		back := load(t, dir).Summary // a page of it is no more green than its exit status
		if s.Exit != ExitBroken || s.Failure.Reason != PartMissing || !strings.Contains(s.Failure.Message, tt.says) || back.Result != Broken {
			t.Errorf("%s: %s, %+v", tt.name, s.Result, s.Failure)
		}
	}
	// What else went wrong goes before.
	killed := recorded(t, false, Event{Kind: KindRunStart, Total: 1, Shard: &Shard{1, 2, "s"}})
	_, s, err := Merge(t.TempDir(), "all", []*Record{killed}, 0, nil)
	if err != nil || s.Result != Interrupted || !strings.Contains(strings.Join(s.Warnings, "\n"), "part 2 of 2") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestErrorText(t *testing.T) {
	many := multierror.Append(nil, errors.New("one\nand more"), multierror.Append(nil, errors.New("two"), errors.New("three")))
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{multierror.Append(nil, errors.New("one")), "one"},
		{fmt.Errorf("end faults: %w", multierror.Append(nil, errors.New("one"))), "end faults: one"},
		{fmt.Errorf("end faults: %w", many), "end faults: one\nand more\ntwo\nthree"},
		{errors.Join(multierror.Append(nil, errors.New("one")), errors.New("two")), "one\ntwo"},
	} {
		if got := ErrorText(tt.err); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		// Also where a failure was made of the error's text.
		var e Event
		run := mustCreate(t, t.TempDir(), "x", func(got Event) { e = got })
		if err := run.Append(Event{Kind: KindScenarioEnd, Scenario: "a", Result: Broken, Failure: &Failure{Reason: Internal, Message: tt.err.Error()}}); err != nil {
			t.Fatal(err)
		}
		if s, err := run.Finish(&Failure{Reason: Internal, Message: tt.err.Error()}); err != nil || s.Failure.Message != tt.want || s.Scenarios[0].Failure.Message != tt.want {
			t.Errorf("recorded %+v, %v", e.Failure, err)
		}
	}
}
