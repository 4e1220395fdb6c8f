package capture

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"dsoftbus-rig/rig/record"
)

// maxComment bounds one comment, in bytes; the events have all of it.
const maxComment = 512

// comment says in one line what an event reports, with its time in the scenario, since the frame it goes to may come much later. It is empty
// for events that explain no frame.
func comment(e record.Event) string {
	var text string
	switch e.Kind {
	case record.KindStepStart:
		text = fmt.Sprintf("line %d: %s", e.Line, e.Text)
	case record.KindStepEnd:
		if e.Error == "" {
			return ""
		}
		text = fmt.Sprintf("step %d failed: %s", e.Step, e.Error)
	case record.KindMarker:
		text = fmt.Sprintf("marker %s: %s", e.Node, e.Text)
	case record.KindFault:
		text = strings.TrimSpace(fmt.Sprintf("fault %s %s %s: %s", e.Name, e.Node, e.State, e.Text))
		text = strings.ReplaceAll(strings.TrimSuffix(text, ":"), "  ", " ")
	case record.KindNode:
		text = strings.TrimSpace(fmt.Sprintf("node %s %s %s", e.Node, e.State, e.Text))
	case record.KindScenarioEnd:
		text = "end: " + string(e.Result)
		if e.Failure != nil {
			text += ": " + e.Failure.Message
		}
	default:
		return ""
	}
	at := e.T
	if e.Kind == record.KindScenarioEnd {
		at = e.Seconds // it has not been recorded yet
	}
	text = fmt.Sprintf("%.3f s, %s", at, strings.ToValidUTF8(text, "�"))
	if len(text) > maxComment {
		n := maxComment
		for !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	return text
}
