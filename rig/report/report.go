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
