package report

import (
	"fmt"
	"slices"
	"strings"

	"dsoftbus-rig/rig/record"
)

// verdicts are all results in the order in which they are counted.
var verdicts = []record.Result{
	record.Passed, record.Failed, record.Flaky, record.Repaired, record.Unproven, record.Skipped, record.Broken, record.Interrupted,
}

// A verdictCount is how many scenarios came to a verdict.
type verdictCount struct {
	name string
	n    int
}

// tally counts scenarios by verdict, and those that never began. Passed and failed are always there, others when there are any.
func tally(s record.Summary) (all []verdictCount) {
	count := make(map[record.Result]int)
	for _, c := range s.Scenarios {
		if c.RetryOf == "" { // its scenario has the verdict
			count[c.Result]++
		}
	}
	names := verdicts
	for _, r := range sortedKeys(count) { // of a later version
		if !slices.Contains(names, r) {
			names = append(slices.Clip(names), r)
		}
	}
	for _, r := range names {
		if count[r] > 0 || r == record.Passed || r == record.Failed {
			all = append(all, verdictCount{clean(string(r)), count[r]})
		}
	}
	if s.NotPlayed > 0 {
		all = append(all, verdictCount{"not played", s.NotPlayed})
	}
	return all
}

// Count returns how many scenarios came to each verdict, and how many never began: "12 passed, 1 failed, 1 flaky, 6 not played".
func Count(s record.Summary) string {
	var parts []string
	for _, c := range tally(s) {
		parts = append(parts, fmt.Sprintf("%d %s", c.n, c.name))
	}
	return strings.Join(parts, ", ")
}

// nothingTested returns what there is to say of a green run in which no scenario was played to its end, else "".
func nothingTested(s record.Summary) string {
	if n := len(s.Scenarios); s.Result == record.Skipped && n > 0 {
		return fmt.Sprintf("nothing was tested: all %d scenarios were skipped", n)
	}
	return ""
}

// Headline returns the first line of a failure, which is the same in every report, as clean text.
func Headline(f *record.Failure) string { return oneLine(f.Headline()) }

// oneLine returns the first line of a text, clean and not too long.
func oneLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return shorten(clean(first), lineCells)
}

// tries says what became of a scenario that was tried again, and why it was: f is the first failure, nil when nothing is known of it.
func tries(failed, played int, f *record.Failure) string {
	text := fmt.Sprintf("failed %d of %d times", failed, played)
	if failed == played {
		text = fmt.Sprintf("failed all %d times", played)
	}
	if f == nil {
		return text
	}
	return text + ", the first time for " + clean(string(f.Reason)) + ": " + Headline(f)
}

// Lengths of a failure as it is shown; all of it is in the record.
const (
	tailLines    = 10  // per node
	messageLines = 20  // of a message
	lineCells    = 400 // of one line that came from a machine or a program
)

// bounded returns the lines of a text, clean and not too long, with a last one that says how many were left out.
func bounded(text string, most int) (lines []string) {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	parts := strings.Split(text, "\n")
	for _, part := range parts[:min(len(parts), most)] {
		lines = append(lines, shorten(clean(part), lineCells))
	}
	if more := len(parts) - most; more > 0 {
		lines = append(lines, fmt.Sprintf("(%d more lines)", more))
	}
	return lines
}

// Block returns a failure as clean lines without their ends: its headline, the place, labels in a column, then each node's last lines.
// artifacts is where the rest can be read; "" leaves it out.
func Block(f *record.Failure, artifacts string) []string {
	headline := Headline(f)
	lines := []string{headline}
	add := func(label, text string) {
		for _, line := range bounded(text, messageLines) {
			lines = append(lines, fmt.Sprintf("%-9s %s", label, line))
			label = ""
		}
	}
	if where := scriptLine(f); where != "" {
		lines = append(lines, where)
	}
	add("node", f.Node)
	reason := string(f.Reason)
	if meaning := f.Reason.Info().Meaning; !strings.Contains(headline, meaning) {
		reason += ": " + meaning
	}
	add("reason", reason)
	add("message", message(f))
	add("awaited", f.Awaited)
	add("evidence", strings.Join(f.Evidence, "\n"))
	for _, node := range sortedKeys(f.Tail) {
		tail := f.Tail[node]
		if len(tail) == 0 {
			lines = append(lines, clean(node)+" printed nothing")
			continue
		}
		tail = tail[max(0, len(tail)-tailLines):]
		lines = append(lines, fmt.Sprintf("%s, last lines:", clean(node)))
		for _, line := range tail {
			lines = append(lines, "  "+shorten(clean(strings.TrimRight(line, "\r\n")), lineCells))
		}
	}
	add("next", f.NextStep())
	add("artifacts", artifacts)
	return lines
}

// message returns what happened, where the headline has not said all of it.
func message(f *record.Failure) string {
	if strings.HasSuffix(Headline(f), clean(f.Message)) {
		return ""
	}
	return f.Message
}

// scriptLine returns where in the script a failure is: "file:line: text".
func scriptLine(f *record.Failure) string {
	where := clean(f.Position())
	if text := shorten(clean(f.Text), lineCells); text != "" {
		where = strings.TrimPrefix(where+": "+text, ": ")
	}
	return where
}
