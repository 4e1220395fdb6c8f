// Package report shows a record to people and to programs: the progress and the verdicts of a run on a terminal or in a log (Progress),
// the same as `go test -json` has it (TestJSON), junit.xml (JUnit), and what GitHub shows of a job (Markdown, Annotations).
//
// It only reads events and summaries of package record. It never decides a verdict, and no text of a machine, a program or a file reaches
// the terminal before console.Clean has made it harmless.
package report

import (
	"fmt"
	"strings"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// words are how a result is called in front of a scenario's name.
var words = map[record.Result]string{
	record.Passed:      "ok",
	record.Failed:      "FAIL",
	record.Flaky:       "FLAKY",
	record.Repaired:    "REPAIRED",
	record.Unproven:    "UNPROVEN",
	record.Skipped:     "skip",
	record.Broken:      "BROKEN",
	record.Interrupted: "INTERRUPTED",
}

// word returns how a result is called; one of a later version by its own name.
func word(r record.Result) string {
	if w, ok := words[r]; ok {
		return w
	}
	return strings.ToUpper(clean(string(r)))
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
	return text + ", the first time for " + string(f.Reason) + ": " + firstLine(f)
}

// firstLine is the first line of what happened.
func firstLine(f *record.Failure) string {
	first, _, _ := strings.Cut(f.Message, "\n")
	if first == "" {
		first = f.Reason.Info().Meaning
	}
	return first
}

// count says how many scenarios passed, and how many did not.
func count(s record.Summary) string {
	var passed, failed, skipped int
	for _, c := range s.Scenarios {
		switch {
		case c.RetryOf != "":
		case c.Result == record.Passed:
			passed++
		case c.Result == record.Skipped:
			skipped++
		default:
			failed++
		}
	}
	text := fmt.Sprintf("%d passed, %d failed", passed, failed)
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	if s.NotPlayed > 0 {
		text += fmt.Sprintf(", %d not played", s.NotPlayed)
	}
	return text
}

// Lengths of a failure as it is shown; all of it is in the record.
const (
	tailLines    = 10  // per node
	messageLines = 20  // of a message
	lineCells    = 400 // of one line that came from a machine or a program
)

// failure returns a failure as lines without their ends: labels in a column, then each node's last lines. artifacts is where the rest can be
// read; "" leaves it out.
func failure(f *record.Failure, artifacts string) []string {
	var lines []string
	add := func(label, text string) {
		text = strings.TrimRight(text, "\n")
		if text == "" {
			return
		}
		parts := strings.Split(text, "\n")
		more := len(parts) - messageLines
		if more > 0 {
			parts = parts[:messageLines]
		}
		for i, part := range parts {
			if i > 0 {
				label = ""
			}
			lines = append(lines, fmt.Sprintf("%-9s %s", label, shorten(clean(part), lineCells)))
		}
		if more > 0 {
			lines = append(lines, fmt.Sprintf("%-9s (%d more lines)", "", more))
		}
	}
	where := clean(f.Position())
	if text := shorten(clean(f.Text), lineCells); text != "" {
		where = strings.TrimPrefix(where+": "+text, ": ")
	}
	if where != "" {
		lines = append(lines, where)
	}
	add("node", f.Node)
	add("reason", string(f.Reason)+": "+f.Reason.Info().Meaning)
	add("message", f.Message)
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

// clean makes text harmless and gives every character a place of its own: a tab would jump.
func clean(s string) string {
	return console.Clean(strings.ReplaceAll(s, "\t", " "))
}

// cells returns how many columns clean text takes at most. Outside of ASCII a character counts as two columns, which the widest ones take: a
// line that is held too long is shortened early, one that is held too short would wrap.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += width(r)
	}
	return n
}

func width(r rune) int {
	if r < 0x80 {
		return 1
	}
	return 2
}

// shorten returns clean text in at most n columns, with "..." where something is left out.
func shorten(s string, n int) string {
	if cells(s) <= n {
		return s
	}
	const dots = "..."
	if n <= len(dots) {
		return dots[:max(n, 0)]
	}
	left := n - len(dots)
	for i, r := range s {
		if left -= width(r); left < 0 {
			return s[:i] + dots
		}
	}
	return s
}

// duration returns seconds for people: "6.2s", "1m12s".
func duration(seconds float64) string {
	if seconds < 59.95 {
		return fmt.Sprintf("%.1fs", seconds)
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
