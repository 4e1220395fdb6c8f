package report

import (
	"fmt"
	"strings"

	"dsoftbus-rig/rig/record"
)

// told returns what an event of a scenario says, as clean lines; none for what is told otherwise. line is that of the event's step in the scenario's
// file, 0 when there is none.
func told(e record.Event, line int, color func(c, text string) string) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	text := shorten(clean(strings.TrimRight(e.Text, "\r\n")), lineCells)
	step := ""
	if line != 0 {
		step = fmt.Sprintf("%d: ", line)
	}
	if e.Typed {
		step = "typed: "
	}
	switch e.Kind {
	case record.KindScenarioStart:
		say("start %s", clean(e.File))
	case record.KindPhase:
		who := ""
		if e.Node != "" {
			who = clean(e.Node) + ": "
		}
		say("%sphase %s took %.3fs", who, clean(e.Name), e.Seconds)
	case record.KindSection:
		say("# %s", text)
	case record.KindStepStart:
		say("%s%s", step, text)
	case record.KindOutput:
		for part := range strings.Lines(e.Text) {
			say("%s%s| %s", step, clean(e.Stream), shorten(clean(strings.TrimRight(part, "\r\n")), lineCells))
		}
	case record.KindStepEnd:
		switch {
		case e.Error == "":
			say("%s%s %.3fs", step, color(green, "ok"), e.Seconds)
		case e.Ignored:
			say("%s%s %.3fs, not counted: %s", step, color(green, "ok"), e.Seconds, shorten(clean(e.Error), lineCells))
		default:
			say("%s%s %.3fs: %s", step, color(red, "failed"), e.Seconds, shorten(clean(e.Error), lineCells))
		}
	case record.KindMarker:
		say("%sseen %s %s, guest %.3fs: %s", step, clean(e.Node), clean(e.Unit), e.Guest, text)
	case record.KindNode:
		if text != "" {
			text = ": " + text
		}
		say("node %s %s%s", clean(e.Node), clean(e.State), text)
	case record.KindReleased:
		say("goes on: %s", clean(e.Name))
	case record.KindBudget:
		say("budget %s took %.3fs of %.3fs", clean(e.Name), e.Seconds, e.Limit)
	}
	return lines
}
