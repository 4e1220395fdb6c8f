package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

func TestMarkdown(t *testing.T) {
	_, s := script()
	s.NotPlayed = 2
	var b bytes.Buffer
	if err := Markdown(&b, s, []string{"errors/enoent: fails for the first time", "roundtrip/basic: slower than usual: took *80s*"}); err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.golden.md", b.Bytes())
	_, s = flakyRun(t)
	b.Reset()
	if err := Markdown(&b, s, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### suite: failed\n\n0 passed, 1 failed, 1 flaky in ",
		"\n| a/flaky | flaky, failed 1 of 2 times | 1.0s | exec-status | scenarios/a/flaky.txtar:3 | exit status 1 |\n",
		"\n**a/flaky**: exit status 1\n\n* line: scenarios/a/flaky.txtar:3: exec A false\n* message: exit status 1\n* message: and more\n* evidence: A saw nothing of B\n* next: ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "retry1") {
		t.Errorf("a try has a row:\n%s", b.String())
	}
	if err := Markdown(&failing{}, s, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

// What a machine says gives a table neither cells nor links nor marks.
func TestMarkdownIsHarmless(t *testing.T) {
	s := record.Summary{Name: "n", Result: record.Failed, Scenarios: []record.ScenarioSummary{{
		Name: "a/b", Result: record.Failed, Failure: &record.Failure{Reason: record.ExecStatus, Message: "a|b `c` <img src=x> [l](u) *e* _f_ @all \\| &lt; " + hostile + "\nmore"},
	}}}
	var b bytes.Buffer
	if err := Markdown(&b, s, nil); err != nil {
		t.Fatal(err)
	}
	row := ""
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "| a/b") {
			row = line
		}
	}
	if strings.Count(row, "|") != 7 || strings.ContainsAny(row, "`<>*_[]@\\\x1b") || !strings.HasSuffix(row, " |\n") {
		t.Errorf("row %q", row)
	}
}

func TestMarkdownHasAnEnd(t *testing.T) {
	s := record.Summary{Name: "n"}
	for i := range 5000 {
		s.Scenarios = append(s.Scenarios, record.ScenarioSummary{Name: fmt.Sprint("a/", i), Result: record.Failed, Failure: &record.Failure{Message: strings.Repeat("|", 5000)}})
	}
	var b bytes.Buffer
	if err := Markdown(&b, s, nil); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 1<<20 || !strings.Contains(b.String(), "and 4800 more") { // GitHub takes 1 MiB
		t.Errorf("%d bytes", b.Len())
	}
	b.Reset()
	if err := Annotations(&b, s); err != nil || strings.Count(b.String(), "\n") != mostAnnotations {
		t.Errorf("%d annotations, %v", strings.Count(b.String(), "\n"), err)
	}
}

func TestAnnotations(t *testing.T) {
	_, s := script()
	s.Failure = &record.Failure{Reason: record.ImageFailed, Message: "no compiler"}
	var b bytes.Buffer
	if err := Annotations(&b, s); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	want := []string{
		"::error title=interrupted (image-failed)::the kernel or the userland image could not be built%0Amessage: no compiler",
		"::error file=scenarios/errors/enoent.txtar,line=7,title=errors/enoent%3A failed (marker-timeout)::no such line of B within 10s%0Amessage: no such line of B within 10s%0Amessage: last match was line 12",
		"::error title=faults/loss%3A unproven::link A loss=5%25 touched no frame",
		"::error title=errors/boot%3A broken (node-exited)::node A: a QEMU process ended by itself%0Amessage: QEMU ended: exit status 1",
		"::error file=scenarios/errors/stop.txtar,title=errors/stop%3A interrupted (interrupted)::the run was stopped before the scenario ended" + strings.Repeat("%0Amessage: many lines", 8) + "%0Amessage: (17 more lines)",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	_, s = flakyRun(t)
	b.Reset()
	if err := Annotations(&b, s); err != nil || !strings.Contains(b.String(), "::error file=scenarios/a/flaky.txtar,line=3,title=a/flaky%3A flaky (exec-status)::exit status 1%0Amessage: exit status 1%0Amessage: and more%0Afailed 1 of 2 times\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if strings.Contains(b.String(), "retry1") {
		t.Errorf("a try is annotated:\n%s", b.String())
	}
}

// What a machine says begins no workflow command and ends none.
func TestAnnotationsAreHarmless(t *testing.T) {
	s := record.Summary{Scenarios: []record.ScenarioSummary{{Name: "a,b:c\n::warning::x", Result: record.Failed,
		Failure: &record.Failure{Message: "\r\n::set-env name=PATH::/tmp\n", File: "f,line=9\n::x"}}}}
	s.Scenarios[0].Failure.Message = strings.TrimSpace(s.Scenarios[0].Failure.Message) + "%0A"
	var b bytes.Buffer
	if err := Annotations(&b, s); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	head, _, _ := strings.Cut(strings.TrimPrefix(out, "::error "), "::")
	if strings.Count(out, "\n") != 1 || strings.Count(head, ",") != 1 || strings.Contains(out, "%0A::") || strings.Contains(out, "%250A%0A") {
		t.Errorf("%q", out)
	}
}
