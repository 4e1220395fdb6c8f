package report

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"dsoftbus-rig/rig/record"
)

// flakyRun is a run of which one scenario failed once and another always.
func flakyRun(t *testing.T) ([]record.Event, record.Summary) {
	t.Helper()
	var events []record.Event
	run, err := record.Create(t.TempDir(), "suite", func(e record.Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	f := &record.Failure{Reason: record.ExecStatus, File: "scenarios/a/flaky.txtar", Line: 3, Text: "exec A false", Message: "exit status 1\nand more", Evidence: []string{"A saw nothing of B"}}
	for _, e := range []record.Event{
		{Kind: record.KindRunStart, Total: 2},
		{Kind: record.KindPlan, Plan: []string{"a/always", "a/flaky"}},
		{Kind: record.KindScenarioStart, Scenario: "a/flaky", File: f.File},
		{Kind: record.KindScenarioEnd, Scenario: "a/flaky", Result: record.Failed, Seconds: 1, Failure: f},
		{Kind: record.KindScenarioStart, Scenario: "a/flaky@retry1", File: f.File, Of: "a/flaky", RetryOf: "a/flaky"},
		{Kind: record.KindScenarioEnd, Scenario: "a/flaky@retry1", Result: record.Passed, Seconds: 2},
		{Kind: record.KindVerdict, Scenario: "a/flaky", Result: record.Flaky, Failure: f, Failed: 1, Played: 2},
		{Kind: record.KindScenarioStart, Scenario: "a/always", File: "scenarios/a/always.txtar"},
		{Kind: record.KindScenarioEnd, Scenario: "a/always", Result: record.Failed, Seconds: 1, Failure: &record.Failure{Reason: record.MarkerTimeout}},
		{Kind: record.KindScenarioStart, Scenario: "a/always@retry1", Of: "a/always", RetryOf: "a/always"},
		{Kind: record.KindScenarioEnd, Scenario: "a/always@retry1", Result: record.Failed, Seconds: 1, Failure: &record.Failure{Reason: record.ExecStatus}},
		{Kind: record.KindVerdict, Scenario: "a/always", Result: record.Failed, Failure: &record.Failure{Reason: record.MarkerTimeout}, Failed: 2, Played: 2},
	} {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := run.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	return events, s
}

func TestTriesAreShown(t *testing.T) {
	events, s := flakyRun(t)
	var b bytes.Buffer
	p := NewProgress(&b, Options{})
	for _, e := range events {
		p.Event(e)
	}
	if err := p.Finish(s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nok a/flaky@retry1 2.0s\n",
		"\nFLAKY a/flaky: failed 1 of 2 times, the first time for exec-status: exit status 1\n",
		"\nFAIL a/always: failed all 2 times, the first time for marker-timeout: an awaited line did not come before its deadline\n",
		"\nfailed: a/always\nflaky: a/flaky\n",
		"\n0 passed, 1 failed, 1 flaky\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not shown in:\n%s", want, b.String())
		}
	}
}

func TestTriesInJUnit(t *testing.T) {
	_, s := flakyRun(t)
	var b bytes.Buffer
	if err := JUnit(&b, s); err != nil {
		t.Fatal(err)
	}
	var back junit.Testsuites
	if err := xml.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Tests != 2 || back.Failures != 2 {
		t.Fatalf("%d tests, %d failures:\n%s", back.Tests, back.Failures, b.String())
	}
	c := back.Suites[0].Testcases[1]
	if c.Name != "flaky" || c.Status != "flaky" || c.Failure.Type != "exec-status" ||
		c.Failure.Message != "exit status 1 (failed 1 of 2 times)" ||
		!strings.Contains(c.Failure.Data, "flaky.txtar:3: exec A false") ||
		!strings.Contains(c.SystemOut.Data, "played again: a/flaky@retry1 passed in 2.0s, artifacts a/flaky@retry1") {
		t.Errorf("%+v\n%s", c, b.String())
	}
}

// The status line counts scenarios, not tries.
func TestTriesAreNotCounted(t *testing.T) {
	events, _ := flakyRun(t)
	p := &Progress{}
	for _, e := range events {
		p.event(e)
	}
	if p.started != 2 || p.bad != 2 || p.planned != 2 {
		t.Errorf("%d started of %d, %d not green", p.started, p.planned, p.bad)
	}
}
