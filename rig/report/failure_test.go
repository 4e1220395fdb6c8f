package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"dsoftbus-rig/rig/record"
)

// failedRun records a run with one scenario that failed, and returns its events, its summary, and what a terminal and TestJSON show of it.
func failedRun(t *testing.T, f *record.Failure) (s record.Summary, terminal, tests string) {
	t.Helper()
	var out, lines bytes.Buffer
	progress, testJSON := NewProgress(&out, Options{}), NewTestJSON(&lines, "suite")
	run, err := record.Create(t.TempDir(), "suite", func(e record.Event) { progress.Event(e); testJSON.Event(e) })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []record.Event{
		{Kind: record.KindRunStart, Total: 1},
		{Kind: record.KindScenarioStart, Scenario: "a/b", File: "a/b.txtar", Dir: "its/own-folder"},
		{Kind: record.KindHeld, Scenario: "a/b", Name: "failed", Line: 3, Failure: f},
		{Kind: record.KindReleased, Scenario: "a/b", Name: "quit"},
		{Kind: record.KindScenarioEnd, Scenario: "a/b", Result: record.Failed, Failure: f},
	} {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = run.Finish(nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(progress.Finish(s), testJSON.Finish(s)); err != nil {
		t.Fatal(err)
	}
	return s, out.String(), lines.String()
}

func TestAFailureHasOneFirstLineEverywhere(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    record.Failure
		want string
	}{
		{"said by its maker", record.Failure{Reason: record.SessionNoSyn, Said: "B's cable was down, so A had no session"}, "B's cable was down, so A had no session"},
		{"by the step that failed", record.Failure{Reason: record.MarkerTimeout, Node: "B", Message: "none of 3 lines"}, "none of 3 lines"},
		{"by its class", record.Failure{Reason: record.NodeExited, Node: "B", Message: "machine B: QEMU exited"}, "node B: a QEMU process ended by itself"},
		{"an error", *record.NewFailure(record.Internal, multierror.Append(nil, errors.New("open x: gone"))), "the rig itself went wrong: open x: gone"},
		{"several errors", *record.NewFailure(record.Internal, fmt.Errorf("end: %w", multierror.Append(nil, errors.New("one"), errors.New("two")))), "the rig itself went wrong: end: one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.File, tt.f.Line, tt.f.Evidence = "a/b.txtar", 3, []string{"in force: link B down"}
			s, terminal, tests := failedRun(t, &tt.f)
			if got := "\n  | " + tt.want + "\n"; strings.Count(terminal, got) != 1 {
				t.Errorf("the terminal has not %q once:\n%s", got, terminal)
			}
			if !strings.Contains(terminal, "\nFAIL a/b 0.0s (shown above)\n") || strings.Count(terminal, "its/own-folder") != 1 {
				t.Errorf("the block is not shown once:\n%s", terminal)
			}
			if !strings.Contains(tests, tt.want) {
				t.Errorf("test events:\n%s", tests)
			}
			var xmlText, markdownText, annotations bytes.Buffer
			if err := errors.Join(JUnit(&xmlText, s), Markdown(&markdownText, s, nil), Annotations(&annotations, s)); err != nil {
				t.Fatal(err)
			}
			var back junit.Testsuites
			if err := xml.Unmarshal(xmlText.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if got := back.Suites[0].Testcases[0].Failure.Message; got != tt.want {
				t.Errorf("junit.xml: %q", got)
			}
			for _, want := range []string{"| " + tt.want + " |\n", "**a/b**: " + tt.want + "\n", "* evidence: in force: link B down\n"} {
				if !strings.Contains(markdownText.String(), want) {
					t.Errorf("%q is not in:\n%s", want, markdownText.String())
				}
			}
			if !strings.Contains(annotations.String(), "::"+tt.want) {
				t.Errorf("annotations: %s", annotations.String())
			}
			for _, out := range []string{terminal, tests, xmlText.String(), markdownText.String(), annotations.String()} {
				if strings.Contains(out, "occurred:") {
					t.Errorf("a count of errors is shown:\n%s", out)
				}
			}
		})
	}
}

// What never began is in no report green.
func TestEveryVerdictIsCounted(t *testing.T) {
	s := everyVerdict()
	var xmlText, markdownText, lines bytes.Buffer
	tests := NewTestJSON(&lines, "suite")
	if err := errors.Join(JUnit(&xmlText, s), Markdown(&markdownText, s, nil), tests.Finish(s)); err != nil {
		t.Fatal(err)
	}
	const count = "1 passed, 1 failed, 1 flaky, 1 repaired, 1 unproven, 1 skipped, 1 broken, 1 interrupted, 2 not played"
	for name, out := range map[string]string{"GitHub": markdownText.String(), "test events": lines.String()} {
		if !strings.Contains(out, count) {
			t.Errorf("%s:\n%s", name, out)
		}
	}
	if !strings.Contains(lines.String(), `"Action":"fail","Package":"suite"`) {
		t.Errorf("the run's package has not failed:\n%s", lines.String())
	}
	var back junit.Testsuites
	if err := xml.Unmarshal(xmlText.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Failures != 4 || back.Errors != 3 || back.Skipped != 1 { // one error is what never began
		t.Errorf("%d failures, %d errors, %d skipped", back.Failures, back.Errors, back.Skipped)
	}
	for _, want := range []string{`name="flaky" value="1"`, `name="interrupted" value="1"`, "2 of 10 planned scenarios never began"} {
		if !strings.Contains(xmlText.String(), want) {
			t.Errorf("%q is not in:\n%s", want, xmlText.String())
		}
	}
}

// Two scenarios are two tests, also where an area is called as the run is.
func TestNoTwoScenariosAreOneTest(t *testing.T) {
	s := record.Summary{Name: "suite", Result: record.Failed, Scenarios: []record.ScenarioSummary{
		{Name: "x", Result: record.Failed}, {Name: "suite/x", Result: record.Passed}, {Name: "a/x", Result: record.Passed},
	}}
	var xmlText, lines bytes.Buffer
	tests := NewTestJSON(&lines, "suite")
	for _, c := range s.Scenarios {
		tests.Event(record.Event{Kind: record.KindScenarioStart, Scenario: c.Name})
		tests.Event(record.Event{Kind: record.KindScenarioEnd, Scenario: c.Name, Result: c.Result})
	}
	if err := errors.Join(JUnit(&xmlText, s), tests.Finish(s)); err != nil {
		t.Fatal(err)
	}
	var back junit.Testsuites
	if err := xml.Unmarshal(xmlText.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, suite := range back.Suites {
		for _, c := range suite.Testcases {
			seen[c.Classname+" "+c.Name] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("junit.xml has %v", seen)
	}
	for _, want := range []string{`"Action":"fail","Package":"suite","Test":"x"`, `"Action":"pass","Package":"suite","Test":"suite/x"`, `"Action":"pass","Package":"a","Test":"x"`} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("%s is not in:\n%s", want, lines.String())
		}
	}
}
