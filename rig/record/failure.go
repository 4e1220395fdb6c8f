package record

import (
	"regexp"
	"strings"
)

// A Failure says what went wrong, where, and what to do next. Node output in it (Message, Awaited, Tail) is kept as it came and is
// not safe to print on a terminal without escaping.
type Failure struct {
	Reason  Reason `json:"reason"`
	Step    int    `json:"step,omitempty"`    // number of the failing step, from 1; 0 outside of any step
	File    string `json:"file,omitempty"`    // the scenario's file
	Line    int    `json:"line,omitempty"`    // line in File, from 1
	Text    string `json:"text,omitempty"`    // that line
	Node    string `json:"node,omitempty"`    // the node concerned, "" when none or all
	Message string `json:"message,omitempty"` // what happened, one or more lines
	Awaited string `json:"awaited,omitempty"` // what was waited for

	// Tail has the last lines of each node, oldest first, by node name.
	Tail map[string][]string `json:"tail,omitempty"`

	// Evidence is what Reason was derived from, beside the message: what nodes said and what crossed between them, a sentence each.
	Evidence []string `json:"evidence,omitempty"`

	Next string `json:"next,omitempty"` // what to do next; empty: what Reason says

	// Said is the failure in one sentence, where its maker knows a better one than Headline makes of the other fields.
	Said string `json:"said,omitempty"`
}

// NewFailure returns the failure that an error is, for a reason whose meaning alone says little.
func NewFailure(reason Reason, err error) *Failure {
	text := ErrorText(err)
	return &Failure{Reason: reason, Message: text, Said: reason.Info().Meaning + ": " + firstLine(text)}
}

// counts are how go-multierror begins the text of joined errors, points how it begins each but the first, gaps how it ends.
var (
	counts = regexp.MustCompile(`\d+ errors? occurred:\n\t+\* `)
	points = regexp.MustCompile(`\n+\t+\* `)
	gaps   = regexp.MustCompile(`\n{2,}`)
)

// ErrorText returns an error for people. Its first line says what happened, also where several errors were joined: each is on lines of its
// own.
func ErrorText(err error) string { return plainText(err.Error()) }

// plainText is ErrorText of an error's text.
func plainText(text string) string {
	if counts.MatchString(text) {
		text = points.ReplaceAllString(counts.ReplaceAllString(text, ""), "\n")
		text = gaps.ReplaceAllString(text, "\n")
	}
	return strings.TrimSpace(text)
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// Brief returns the failure's headline, and behind it the first line of its message where that says more: for places that have no more
// than one line.
func (f *Failure) Brief() string {
	head, more := f.Headline(), firstLine(f.Message)
	if more == "" || strings.Contains(head, more) {
		return head
	}
	return head + ": " + more
}

// Headline returns the failure in one sentence for people: what its maker has Said; else what the step of a scenario that failed says of
// itself, such as "node A: exec pkgfs: exit status 1: …"; else its class's meaning. It is the first thing that every report shows:
// terminal, prompt, junit.xml, GitHub and page. Like the rest of a failure it may hold node output.
func (f *Failure) Headline() string {
	if f.Said != "" {
		return f.Said
	}
	info := f.Reason.Info()
	if own := strings.TrimSuffix(firstLine(f.Message), ":"); own != "" && info.Result == Failed {
		return own
	}
	if f.Node == "" {
		return info.Meaning
	}
	return "node " + f.Node + ": " + info.Meaning
}

// Error returns the failure in one line: "file:line: text: message (reason)", without the parts that are empty.
func (f *Failure) Error() string {
	var parts []string
	if f.File != "" {
		parts = append(parts, position(f.File, f.Line))
	}
	if f.Text != "" {
		parts = append(parts, f.Text)
	}
	if f.Message != "" {
		parts = append(parts, f.Message)
	}
	text := strings.Join(parts, ": ")
	if text == "" {
		text = f.Reason.Info().Meaning
	}
	return text + " (" + string(f.Reason) + ")"
}

// NextStep returns what to do next: the failure's own advice, else that of its reason.
func (f *Failure) NextStep() string {
	if f.Next != "" {
		return f.Next
	}
	return f.Reason.Info().Next
}

// Position returns "file:line", the file alone when the line is unknown, "" when the file is.
func (f *Failure) Position() string {
	return position(f.File, f.Line)
}
