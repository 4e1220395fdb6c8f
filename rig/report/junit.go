package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"dsoftbus-rig/rig/record"
)

// JUnit writes a run as JUnit XML: one suite per area, one case per scenario. Failed, flaky, repaired and unproven scenarios are failures,
// broken and interrupted ones are errors; the type of either is the reason's class. Scenarios that never began are one error of the run.
// The suite's properties count the verdicts by their names, which JUnit has not.
func JUnit(w io.Writer, s record.Summary) error {
	all := junit.Testsuites{Name: clean(s.Name), Time: junitTime(s.Seconds)}
	var areas []string
	byArea := make(map[string][]record.ScenarioSummary)
	for _, c := range s.Scenarios {
		if c.RetryOf != "" {
			continue // the case of its scenario tells it
		}
		area, _, found := strings.Cut(c.Name, "/")
		if !found {
			area = s.Name
		}
		if byArea[area] == nil {
			areas = append(areas, area)
		}
		byArea[area] = append(byArea[area], c)
	}
	for i, area := range areas {
		suite := junitSuite(i, area, s)
		var seconds float64
		for j, c := range byArea[area] {
			if j == 0 {
				suite.SetTimestamp(c.Started)
			}
			seconds += c.Seconds
			suite.AddTestcase(junitCase(area, c, s))
		}
		suite.Time = junitTime(seconds)
		for _, v := range tally(record.Summary{Scenarios: byArea[area]}) {
			suite.AddProperty(v.name, strconv.Itoa(v.n))
		}
		all.AddSuite(suite)
	}
	if s.Failure != nil || s.NotPlayed > 0 {
		suite := junitSuite(len(areas), "run", s)
		suite.SetTimestamp(s.Started)
		suite.Time = junitTime(s.Seconds)
		if s.Failure != nil {
			suite.AddTestcase(junit.Testcase{Name: clean(s.Name), Classname: "run", Time: junitTime(s.Seconds), Error: junitFailure(s.Failure, s.Failure.Reason, "")})
		}
		if s.NotPlayed > 0 {
			what := fmt.Sprintf("%d of %d planned scenarios never began", s.NotPlayed, s.Planned)
			suite.AddTestcase(junit.Testcase{Name: "not played", Classname: "run", Time: junitTime(0), Error: &junit.Result{Type: "not-played", Message: what}})
		}
		all.AddSuite(suite)
	}
	if err := all.WriteXML(w); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

func junitSuite(id int, name string, s record.Summary) junit.Testsuite {
	suite := junit.Testsuite{ID: id, Name: clean(name)}
	for _, p := range []struct{ name, value string }{
		{"qemu", s.Host.QEMU}, {"kernel", s.Host.Kernel}, {"accel", s.Host.Accel},
	} {
		if p.value != "" {
			suite.AddProperty(p.name, clean(p.value))
		}
	}
	if s.Host.Slowdown != 0 {
		suite.AddProperty("slowdown", fmt.Sprintf("%.2f", s.Host.Slowdown))
	}
	return suite
}

// junitCase is the case of scenario c of a run.
func junitCase(area string, c record.ScenarioSummary, run record.Summary) junit.Testcase {
	name := c.Name
	if area != run.Name { // which is the area of scenarios without one
		name = strings.TrimPrefix(name, area+"/")
	}
	tc := junit.Testcase{
		Name:      clean(name),
		Classname: clean(area),
		Time:      junitTime(c.Seconds),
		Status:    clean(string(c.Result)),
		SystemOut: &junit.Output{Data: "artifacts " + clean(c.Dir)},
	}
	switch c.Result {
	case record.Passed:
	case record.Skipped:
		tc.Skipped = &junit.Result{Message: clean(c.Message)}
	case record.Broken, record.Interrupted:
		tc.Error = junitFailure(c.Failure, record.Reason(c.Result), c.Message)
	default:
		tc.Failure = junitFailure(c.Failure, record.Reason(c.Result), c.Message)
	}
	if c.Played == 0 {
		return tc
	}
	for _, result := range []*junit.Result{tc.Failure, tc.Error} {
		if result != nil {
			result.Message += " (" + tries(c.Failed, c.Played, nil) + ")"
		}
	}
	for _, try := range run.Scenarios {
		if try.RetryOf == c.Name {
			tc.SystemOut.Data += fmt.Sprintf("\nplayed again: %s %s in %s, artifacts %s", clean(try.Name), clean(string(try.Result)), duration(try.Seconds), clean(try.Dir))
		}
	}
	return tc
}

// junitFailure tells a failure; when there is none, kind and message stand in for it.
func junitFailure(f *record.Failure, kind record.Reason, message string) *junit.Result {
	if f == nil {
		return &junit.Result{Type: clean(string(kind)), Message: clean(message)}
	}
	return &junit.Result{
		Type:    clean(string(f.Reason)),
		Message: Headline(f),
		Data:    strings.Join(Block(f, ""), "\n"),
	}
}

func junitTime(seconds float64) string {
	return fmt.Sprintf("%.3f", seconds)
}
