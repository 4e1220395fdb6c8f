package scenario

import (
	"regexp"
	"strings"
)

// A Statement is one line of a script that does something.
type Statement struct {
	File string
	Line int    // from 1
	Text string // the line, without space around it

	conditions []guard
	not        bool // prefix '!': must fail
	may        bool // prefix '?': may fail
	retry      bool // prefix '*': tried again until it succeeds
	name       string
	args       []word
	background bool
	job        string // the name in '&name&'
	broken     bool   // could not be read; what there is of it is not reported on again
}

// A guard is a condition in front of a command.
type guard struct {
	tag  string // without brackets and '!'
	want bool
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// parseStatement reads one line. It returns nil for a line without a command. With
// a fault it returns as much of the statement as was understood, marked broken.
func parseStatement(file string, number int, line string) (*Statement, *fault) {
	words, f := lex(line)
	st := &Statement{File: file, Line: number, Text: strings.TrimSpace(line), broken: f != nil}
	i := 0
	for ; i < len(words) && st.name == ""; i++ {
		w := words[i]
		text, bare := w.bare()
		if !bare {
			if f == nil {
				f = faultf("a command's name is written out, without quotes or variables",
					"the command must not be quoted or a variable: %s", line[w.start:w.end])
			}
			st.broken = true
			return st, f
		}
		if pf, taken := st.prefix(text); pf != nil && f == nil {
			f = pf
			st.broken = true
		} else if !taken {
			st.name = text
		}
	}
	if st.name == "" {
		if f == nil && len(words) > 0 {
			f = faultf("put a command behind it", "missing command")
			st.broken = true
		}
		if f == nil {
			return nil, nil
		}
		return st, f
	}
	st.args = words[i:]
	if bf := st.ampersand(); bf != nil && f == nil {
		f = bf
		st.broken = true
	}
	return st, f
}

// prefix takes a word in front of the command, and reports whether it was one.
func (st *Statement) prefix(text string) (f *fault, taken bool) {
	twice := func(set *bool) (*fault, bool) {
		if *set {
			return faultf("keep one of them", "prefix %q is there twice", text), true
		}
		*set = true
		if st.not && st.may {
			return faultf("keep one of them", "prefixes '!' (must fail) and '?' (may fail) exclude each other"), true
		}
		return nil, true
	}
	switch text {
	case "!":
		return twice(&st.not)
	case "?":
		return twice(&st.may)
	case "*":
		return twice(&st.retry)
	}
	if !strings.HasPrefix(text, "[") {
		return nil, false
	}
	tag, closed := strings.CutSuffix(text[1:], "]")
	if !closed {
		return faultf("write [cond] or [!cond], without space inside", "condition %q has no closing bracket", text), true
	}
	tag, negated := strings.CutPrefix(tag, "!")
	if tag == "" {
		return faultf("write [cond] or [!cond]", "empty condition %q", text), true
	}
	st.conditions = append(st.conditions, guard{tag: tag, want: !negated})
	return nil, true
}

// ampersand takes a trailing '&' or '&name&' off the arguments.
func (st *Statement) ampersand() *fault {
	if len(st.args) == 0 {
		return nil
	}
	text, bare := st.args[len(st.args)-1].bare()
	if !bare || !strings.HasPrefix(text, "&") {
		return nil
	}
	if text != "&" {
		name, closed := strings.CutSuffix(text[1:], "&")
		if !closed || !jobName.MatchString(name) {
			return faultf("write '&' or '&name&' at the end, or quote the word if it is an argument",
				"%q is no name for a background job", text)
		}
		st.job = name
	}
	st.background = true
	st.args = st.args[:len(st.args)-1]
	return nil
}
