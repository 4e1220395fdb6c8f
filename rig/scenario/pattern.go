package scenario

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// A pattern that every line matches makes a command green although nothing of what
// it is about has happened, and so does one that no line can match behind '!'. Both
// are found by walking through all that a line can be, as far as the regular
// expression tells characters apart.

// extent says what a regular expression matches.
type extent struct {
	always bool // every text matches
	never  bool // no text matches
}

// maxWalk bounds the walk through an expression, in instructions: some tens of milliseconds. One
// that takes more is taken for one that some texts match and others do not; it is
// none that is written by mistake.
const maxWalk = 4 << 20

// extentOf finds out what an expression matches of all lines, or, with whole, of all
// texts, which may have several.
func extentOf(pattern string, whole bool) (extent, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return extent{}, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return extent{}, err
	}
	w := walker{prog: prog, runes: tellingRunes(prog, whole)}
	found := extent{always: true, never: true}
	first := place{before: -1}
	todo := []place{first}
	seen := map[string]bool{first.key(): true}
	for len(todo) > 0 && (found.always || found.never) {
		p := todo[0]
		todo = todo[1:]
		if _, matched := w.closure(p, -1); matched {
			found.never = false
		} else {
			found.always = false // the text that ends here
		}
		for _, r := range w.runes {
			if w.walked > maxWalk {
				return extent{}, nil
			}
			insts, matched := w.closure(p, r)
			if matched {
				found.never = false // nor can what follows take the match back
				continue
			}
			next := w.step(insts, r)
			if key := next.key(); !seen[key] {
				seen[key] = true
				todo = append(todo, next)
			}
		}
	}
	return found, nil
}

// A place is how far a text has got through an expression: the instructions that may
// come next, sorted, and the rune that was last, -1 at the beginning.
type place struct {
	pcs    []uint32
	before rune
}

func (p place) key() string {
	var b strings.Builder
	for _, pc := range p.pcs {
		b.WriteRune(rune(pc))
	}
	b.WriteString("|")
	b.WriteString(string(rune('0' + syntax.EmptyOpContext(p.before, 'a'))))
	return b.String()
}

type walker struct {
	prog  *syntax.Prog
	runes []rune // one of each kind that the expression tells apart

	walked int // instructions
}

// closure returns the instructions that take a rune where p is, when next is the rune
// that follows, -1 for none; matched says that the text has matched by then.
func (w *walker) closure(p place, next rune) (insts []uint32, matched bool) {
	holds := syntax.EmptyOpContext(p.before, next)
	seen := make([]bool, len(w.prog.Inst))
	w.walked += len(seen) // which is cleared each time
	var add func(pc uint32)
	add = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch in := &w.prog.Inst[pc]; in.Op {
		case syntax.InstMatch:
			matched = true
		case syntax.InstAlt, syntax.InstAltMatch:
			add(in.Out)
			add(in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			add(in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^holds == 0 {
				add(in.Out)
			}
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			insts = append(insts, pc)
		}
	}
	for _, pc := range p.pcs {
		add(pc)
	}
	add(uint32(w.prog.Start)) // a match can begin anywhere
	return insts, matched
}

// step returns the place behind the rune r.
func (w *walker) step(insts []uint32, r rune) place {
	next := place{before: r}
	for _, pc := range insts {
		if in := &w.prog.Inst[pc]; in.MatchRune(r) {
			next.pcs = append(next.pcs, in.Out)
		}
	}
	slices.Sort(next.pcs)
	next.pcs = slices.Compact(next.pcs)
	return next
}

// tellingRunes returns runes of which each that a line can have is treated like one.
func tellingRunes(prog *syntax.Prog, newline bool) []rune {
	// Where ranges begin: those of \b, and those that are written out.
	begins := []rune{0, '\n', '\n' + 1, '0', '9' + 1, 'A', 'Z' + 1, '_', '_' + 1, 'a', 'z' + 1}
	for i := range prog.Inst {
		in := &prog.Inst[i]
		switch in.Op {
		case syntax.InstRune, syntax.InstRune1:
			folded := syntax.Flags(in.Arg)&syntax.FoldCase != 0
			for j := 0; j < len(in.Rune); j += 2 {
				low, high := in.Rune[j], in.Rune[min(j+1, len(in.Rune)-1)]
				begins = append(begins, low, high+1)
				if folded {
					for r := unicode.SimpleFold(low); r != low; r = unicode.SimpleFold(r) {
						begins = append(begins, r, r+1)
					}
				}
			}
		}
	}
	slices.Sort(begins)
	begins = slices.Compact(begins)
	return slices.DeleteFunc(begins, func(r rune) bool { return r > unicode.MaxRune || r == '\n' && !newline })
}

// checkExtent reports a regular expression whose match says nothing.
func checkExtent(s string, whole bool) *fault {
	what, each := "line", "every line matches it"
	if whole {
		what, each = "output", "every output matches it"
	}
	found, err := extentOf(s, whole)
	switch {
	case err != nil:
		return nil // regexp.Compile has found that, too
	case s == "":
		return faultf("write what the "+what+" must have", "empty regexp: %s", each)
	case found.always:
		return faultf("write what the "+what+" must have", "regexp %q says nothing: %s", s, each)
	case found.never && !whole && strings.Contains(s, "\n") || found.never && !whole && strings.Contains(s, `\n`):
		return faultf("write one for each line, or match an output as one text with `stdout -whole`", "regexp %q can match no line: a line has no line break in it", s)
	case found.never:
		return faultf("correct what is in front of `^` or behind `$`", "regexp %q can match no %s", s, what)
	}
	return nil
}

// matchingLines returns the lines of a text that match. The last line needs no line
// break, and an empty text has no line.
func matchingLines(re *regexp.Regexp, data []byte) []string {
	var found []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSuffix(line, "\n"); re.MatchString(line) {
			found = append(found, line)
		}
	}
	return found
}
