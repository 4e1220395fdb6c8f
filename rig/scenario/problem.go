package scenario

import (
	"fmt"
	"slices"
	"strings"

	"dsoftbus-rig/rig/console"
)

// A Problem is one thing that is wrong with a scenario, found before it runs.
type Problem struct {
	File   string // as given to Load or Parse
	Line   int    // from 1; 0 when the file as a whole is meant
	Reason string // what is wrong
	Next   string // what to do about it; may be empty
}

// String returns "file:line: reason; next", safe to show on a terminal.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	s += ": " + p.Reason
	if p.Next != "" {
		s += "; " + p.Next
	}
	return console.Clean(s)
}

// Problems is everything that is wrong with one scenario, in the order of its
// lines. As an error it has one line for each problem.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// err returns p in the order of its lines, or nil when it is empty.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return a.Line - b.Line })
	return p
}

// A fault is a Problem whose place its finder does not know.
type fault struct {
	reason, next string
}

func faultf(next, format string, args ...any) *fault {
	return &fault{reason: fmt.Sprintf(format, args...), next: next}
}

func (f *fault) Error() string {
	if f.next == "" {
		return f.reason
	}
	return f.reason + "; " + f.next
}
