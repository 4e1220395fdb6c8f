package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"dsoftbus-rig/rig/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with -update)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// hostile is what a machine may print to do harm: erase the screen, set the title, ring, go back, turn the writing direction, break UTF-8,
// end a CDATA section.
const hostile = "\x1b[2J\x1b]0;owned\x07\r\b\x00 \u202eevil\u202c \xff\xfe ]]> \u009b31m <b>&amp;"

var started = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)

// script is a run with every kind of event and verdict. Its summary is what record makes of it.
func script() ([]record.Event, record.Summary) {
	var events []record.Event
	add := func(scenario string, t float64, e record.Event) {
		e.Scenario, e.T = scenario, t
		events = append(events, e)
	}
	const a, b, c, d, e, f = "roundtrip/basic", "errors/enoent", "faults/loss", "host/kvm", "errors/boot", "errors/stop"
	enoent := &record.Failure{
		Reason: record.MarkerTimeout, Step: 2, File: "scenarios/errors/enoent.txtar", Line: 7, Text: "marker B 'dsoftbusd: remote packagefs served'",
		Node: "B", Message: "no such line of B within 10s\nlast match was line 12", Awaited: "dsoftbusd: remote packagefs served",
		Tail: map[string][]string{
			"A": {"dsoftbusd: ready", hostile, strings.Repeat("long ", 200)},
			"B": {"0 too old", "1 too old", "2", "3", "4", "5", "6", "7", "8", "9", "10", "dsoftbusd: ready\r"},
			"C": nil,
		},
	}
	boot := &record.Failure{Reason: record.NodeExited, Node: "A", Message: "QEMU ended: exit status 1", Next: "Install qemu-system-x86."}
	stop := &record.Failure{Reason: record.Stopped, File: "scenarios/errors/stop.txtar", Message: strings.Repeat("many lines\n", 25)}

	add("", 0, record.Event{Kind: record.KindRunStart, Name: "suite", Total: 6, Host: &record.Host{
		QEMU: "7.2.15", Kernel: "6.1.0-28-cloud-amd64", Accel: "tcg", Why: "no vmx in /proc/cpuinfo", Slowdown: 2.5,
		Line: "QEMU 7.2.15, kernel 6.1.0-28-cloud-amd64, tcg (no vmx in /proc/cpuinfo), deadlines x2.5",
	}})
	add("", 0, record.Event{Kind: record.KindWarning, Text: "the disk is nearly full"})

	add(a, 0, record.Event{Kind: record.KindScenarioStart, File: "scenarios/roundtrip/basic.txtar"})
	add(a, 0.001, record.Event{Kind: record.KindSection, Line: 1, Text: "Node A reads a package file that node B serves."})
	add(a, 0.002, record.Event{Kind: record.KindStepStart, Step: 1, Line: 2, Text: "up"})
	add(a, 0.003, record.Event{Kind: record.KindNode, Node: "A", State: record.StateStarting})
	add(a, 4.5, record.Event{Kind: record.KindNode, Node: "A", State: record.StateReady, Text: "agent answers"})
	add(a, 4.6, record.Event{Kind: record.KindPhase, Name: "boot", Seconds: 4.597})
	add(a, 5, record.Event{Kind: record.KindStepEnd, Step: 1, Seconds: 4.998})
	add(a, 5.1, record.Event{Kind: record.KindStepStart, Step: 2, Line: 3, Text: "exec A selftest-client"})
	add(a, 5.2, record.Event{Kind: record.KindOutput, Step: 2, Stream: "stdout", Text: "one\ntwo " + hostile + "\n"})
	add(a, 5.3, record.Event{Kind: record.KindStepEnd, Step: 2, Seconds: 0.2})
	add(a, 5.3, record.Event{Kind: record.KindStepStart, Step: 3, Line: 4, Text: "marker B served"})
	add(a, 5.4, record.Event{Kind: record.KindMarker, Step: 3, Node: "B", Unit: "dsoftbusd", Guest: 3.25, Text: "dsoftbusd: remote packagefs served"})
	add(a, 5.4, record.Event{Kind: record.KindStepEnd, Step: 3, Seconds: 0.1})
	add(a, 5.45, record.Event{Kind: record.KindOutput, Stream: "stderr", Text: "of no step"})
	add(a, 5.5, record.Event{Kind: record.KindStepStart, Step: 4, Line: 5, Text: "! exec A false"})
	add(a, 5.6, record.Event{Kind: record.KindStepEnd, Step: 4, Seconds: 0.1, Error: "exit status 1", Ignored: true})
	add(a, 5.7, record.Event{Kind: record.KindBudget, Name: "quick", Seconds: 0.7, Limit: 3})
	add(a, 6.2, record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 6.2})

	add(b, 0, record.Event{Kind: record.KindScenarioStart, File: "scenarios/errors/enoent.txtar"})
	add(b, 1, record.Event{Kind: record.KindStepStart, Step: 1, Line: 7, Text: enoent.Text})
	add(b, 1, record.Event{Kind: record.KindWarning, Text: "slow " + hostile})
	add(b, 11, record.Event{Kind: record.KindStepEnd, Step: 1, Seconds: 10, Error: "no such line of B within 10s"})
	add(b, 72.4, record.Event{Kind: record.KindScenarioEnd, Result: record.Failed, Seconds: 72.4, Failure: enoent})

	add(c, 0, record.Event{Kind: record.KindScenarioStart})
	add(c, 3, record.Event{Kind: record.KindScenarioEnd, Result: record.Unproven, Seconds: 3, Text: "link A loss=5% touched no frame"})
	add(d, 0, record.Event{Kind: record.KindScenarioStart})
	add(d, 0, record.Event{Kind: record.KindScenarioEnd, Result: record.Skipped, Text: "needs KVM"})
	add(e, 0, record.Event{Kind: record.KindScenarioStart})
	add(e, 0.5, record.Event{Kind: record.KindNode, Node: "A", State: record.StateExited, Text: hostile})
	add(e, 1, record.Event{Kind: record.KindScenarioEnd, Result: record.Broken, Seconds: 1, Failure: boot})
	add(f, 0, record.Event{Kind: record.KindScenarioStart})
	add(f, 2, record.Event{Kind: record.KindScenarioEnd, Result: record.Interrupted, Seconds: 2, Failure: stop})

	sum := func(name string, r record.Result, seconds float64, f *record.Failure, message string) record.ScenarioSummary {
		return record.ScenarioSummary{Name: name, Result: r, Seconds: seconds, Failure: f, Message: message, Started: started, Dir: name}
	}
	return events, record.Summary{
		Name: "suite", Result: record.Interrupted, Exit: 130, Started: started, Seconds: 85.2, Planned: 6, Host: *events[0].Host,
		Scenarios: []record.ScenarioSummary{
			sum(a, record.Passed, 6.2, nil, ""), sum(b, record.Failed, 72.4, enoent, ""),
			sum(c, record.Unproven, 3, nil, "link A loss=5% touched no frame"), sum(d, record.Skipped, 0, nil, "needs KVM"),
			sum(e, record.Broken, 1, boot, ""), sum(f, record.Interrupted, 2, stop, ""),
		},
	}
}

// show returns what a run looks like with these options.
func show(t *testing.T, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	p := NewProgress(&b, o)
	p.Folder("runs/20250102-030405-suite")
	events, summary := script()
	for _, e := range events {
		p.Event(e)
	}
	p.Print("the rig says\n" + hostile + "\n")
	if err := p.Finish(summary); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPlain(t *testing.T)   { golden(t, "plain.golden", show(t, Options{})) }
func TestVerbose(t *testing.T) { golden(t, "verbose.golden", show(t, Options{Verbose: true})) }
func TestColor(t *testing.T)   { golden(t, "color.golden", show(t, Options{Color: true, Verbose: true})) }

func TestHostileTextIsHarmless(t *testing.T) {
	for _, o := range []Options{{}, {Verbose: true}} {
		out := show(t, o)
		if !utf8.Valid(out) {
			t.Error("the output is not UTF-8")
		}
		for _, r := range string(out) {
			if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u202c') {
				t.Errorf("the output has the character %U", r)
			}
		}
		if !strings.Contains(string(out), `\x1b[2J`) {
			t.Error("the hostile text is not shown at all")
		}
	}
}

// everyVerdict is a run with one scenario of each verdict, and two that never began.
func everyVerdict() record.Summary {
	s := record.Summary{Name: "suite", Planned: 10, NotPlayed: 2, Result: record.Interrupted}
	for i, r := range []record.Result{
		record.Passed, record.Failed, record.Flaky, record.Repaired, record.Unproven, record.Skipped, record.Broken, record.Interrupted,
	} {
		s.Scenarios = append(s.Scenarios, record.ScenarioSummary{Name: fmt.Sprint("a/", i), Result: r})
	}
	return s
}

func TestLastLines(t *testing.T) {
	tests := []struct {
		name string
		s    record.Summary
		want string
	}{
		{"nothing", record.Summary{}, "total 0.0s\n0 passed, 0 failed\n"},
		{"green", record.Summary{Seconds: 12.34, Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: record.Passed}}}, "total 12.3s\n1 passed, 0 failed\n"},
		{"the run failed", record.Summary{Seconds: 1, Failure: &record.Failure{Reason: record.ImageFailed, Message: "compile pkgfs: exit status 1"}},
			"BROKEN\n" +
				"  | the kernel or the userland image could not be built\n" +
				"  | reason    image-failed\n" +
				"  | message   compile pkgfs: exit status 1\n" +
				"  | next      Run `rig build` alone and fix what its last lines name.\n" +
				"total 1.0s\n0 passed, 0 failed\n"},
		{"unknown result", record.Summary{Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: "new\x1b"}}}, "new\\x1b: a/b\ntotal 0.0s\n0 passed, 0 failed, 1 new\\x1b\n"},
		{"every verdict", everyVerdict(), "broken: a/6\nfailed: a/1\nflaky: a/2\ninterrupted: a/7\nrepaired: a/3\nunproven: a/4\ntotal 0.0s\n" +
			"1 passed, 1 failed, 1 flaky, 1 repaired, 1 unproven, 1 skipped, 1 broken, 1 interrupted, 2 not played\n"},
		{"skipped beside passed", record.Summary{Result: record.Passed, Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: record.Passed}, {Name: "a/c", Result: record.Skipped}}},
			"total 0.0s\n1 passed, 0 failed, 1 skipped\n"},
		{"all skipped", record.Summary{Result: record.Skipped, Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: record.Skipped}}},
			"total 0.0s\nnothing was tested: all 1 scenarios were skipped\n0 passed, 0 failed, 1 skipped\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := NewProgress(&b, Options{}).Finish(tt.s); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHostLineIsFirst(t *testing.T) {
	out, _, _ := strings.Cut(string(show(t, Options{})), "\n")
	if !strings.HasPrefix(out, "QEMU 7.2.15, kernel 6.1.0-28-cloud-amd64, tcg") {
		t.Errorf("the first line is %q", out)
	}
}

type failing struct{ writes int }

func (w *failing) Write(p []byte) (int, error) {
	w.writes++
	return 0, os.ErrClosed
}

func TestWriterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w failing
		p := NewProgress(&w, Options{Live: true, Verbose: true})
		events, summary := script()
		for _, e := range events {
			p.Event(e)
			synctest.Wait()
		}
		if err := p.Finish(summary); !errors.Is(err, os.ErrClosed) {
			t.Errorf("error %v", err)
		}
		if w.writes != 1 {
			t.Errorf("%d writes after the first had failed", w.writes-1)
		}
		p.Event(events[0]) // after the end: nothing happens, nothing waits
		if err := p.Finish(summary); !errors.Is(err, os.ErrClosed) {
			t.Errorf("again: %v", err)
		}
	})
}

func TestShorten(t *testing.T) {
	tests := []struct {
		in   string
		n    int
		want string
	}{
		{"", 5, ""},
		{"hello", 5, "hello"},
		{"hello!", 5, "he..."},
		{"hello!", 3, "..."},
		{"hello!", 2, ".."},
		{"hello!", 0, ""},
		{"hello!", -1, ""},
		{"\u4e16\u754c\u4e16\u754c", 8, "\u4e16\u754c\u4e16\u754c"},
		{"\u4e16\u754c\u4e16\u754c", 7, "\u4e16\u754c..."},
		{"\u4e16\u754c\u4e16\u754c", 6, "\u4e16..."},
	}
	for _, tt := range tests {
		got := shorten(tt.in, tt.n)
		if got != tt.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", tt.in, tt.n, got, tt.want)
		}
		if cells(got) > max(tt.n, 0) {
			t.Errorf("shorten(%q, %d) takes %d columns", tt.in, tt.n, cells(got))
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[float64]string{0: "0.0s", 6.24: "6.2s", 59.94: "59.9s", 59.96: "1m0s", 72.4: "1m12s", 3700: "1h1m40s"} {
		if got := duration(in); got != want {
			t.Errorf("duration(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestEveryResultHasAWord(t *testing.T) {
	for _, info := range record.Reasons() {
		if words[info.Result] == "" {
			t.Errorf("no word for %s", info.Result)
		}
	}
	if len(words) != 8 {
		t.Errorf("%d words", len(words))
	}
}

func TestJUnit(t *testing.T) {
	_, s := script()
	s.Failure = &record.Failure{Reason: record.HostUnsupported, Message: "no QEMU " + hostile}
	var b bytes.Buffer
	if err := JUnit(&b, s); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.golden.xml", b.Bytes())

	var back junit.Testsuites
	if err := xml.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	if back.Tests != 7 || back.Failures != 2 || back.Errors != 3 || back.Skipped != 1 || len(back.Suites) != 5 {
		t.Errorf("%d tests, %d failures, %d errors, %d skipped in %d suites", back.Tests, back.Failures, back.Errors, back.Skipped, len(back.Suites))
	}
	for _, suite := range back.Suites {
		for _, c := range suite.Testcases {
			if c.Name == "enoent" && !strings.Contains(c.Failure.Data, `]]>`) {
				t.Error("the node's last lines did not survive")
			}
		}
	}
	if err := JUnit(&failing{}, s); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestTabsDoNotJump(t *testing.T) {
	if got := clean("a\tb"); got != "a b" {
		t.Errorf("%q", got)
	}
}

// Where a scenario stands still, the status line makes room for a prompt, and what is typed there is shown by the prompt.
func TestHeld(t *testing.T) {
	for _, live := range []bool{false, true} {
		var out buffer
		p := NewProgress(&out, Options{Live: live, Verbose: true})
		p.Folder("runs/x")
		for _, e := range []record.Event{
			{Kind: record.KindRunStart, Total: 1},
			{Kind: record.KindScenarioStart, Scenario: "fault/a", File: "a.txtar"},
			{Kind: record.KindStepStart, Scenario: "fault/a", Step: 1, Line: 3, Text: "exec A false"},
			{Kind: record.KindHeld, Scenario: "fault/a", Name: "failed", File: "a.txtar", Line: 3, Text: "exec A false", Step: 1,
				Failure: &record.Failure{Reason: record.ExecStatus, File: "a.txtar", Line: 3, Text: "exec A false", Message: "exit status 1"}},
		} {
			p.Event(e)
		}
		p.Flush()
		shown := out.take()
		for _, want := range []string{"HELD fault/a, failed\n", "| a.txtar:3: exec A false\n", "| reason    exec-status", "| artifacts runs/x/fault/a"} {
			if !strings.Contains(shown, want) {
				t.Errorf("live %v: %q is not shown in %q", live, want, shown)
			}
		}
		if strings.Count(shown, "[1/1]") != 0 && strings.LastIndex(shown, "[1/1]") > strings.LastIndex(shown, clearLine) {
			t.Errorf("there is a status line behind %q", shown)
		}
		p.Event(record.Event{Kind: record.KindStepStart, Scenario: "fault/a", Step: 2, Line: 1, Text: "start B dsoftbusd", Typed: true})
		p.Event(record.Event{Kind: record.KindReleased, Scenario: "fault/a", Name: "retry"})
		p.Event(record.Event{Kind: record.KindScenarioEnd, Scenario: "fault/a", Result: record.Repaired, Text: "retry of line 3"})
		if err := p.Finish(record.Summary{Scenarios: []record.ScenarioSummary{{Name: "fault/a", Result: record.Repaired}}}); err != nil {
			t.Fatal(err)
		}
		shown = out.take()
		if got := strings.Contains(shown, "typed: start B dsoftbusd"); got == live {
			t.Errorf("live %v: what was typed is shown: %v", live, got)
		}
		for _, want := range []string{"goes on: retry", "REPAIRED fault/a", "repaired: fault/a", "0 passed, 0 failed, 1 repaired"} {
			if !strings.Contains(shown, want) {
				t.Errorf("live %v: %q is not shown in %q", live, want, shown)
			}
		}
		p.Flush() // of one that has ended
	}
}
