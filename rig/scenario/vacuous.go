package scenario

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// The checks in this file find scripts, or lines of them, that would be green
// although nothing of what they say has happened.

// proves reports whether a statement can fail when the nodes do not do what they
// should.
func (st *Statement) proves(cmd *command) bool {
	if st.name == "skip" {
		return len(st.conditions) == 0 // it does not pass
	}
	return !cmd.idle && !st.may && !(st.name == "stop" && len(st.args) < 2) && !(st.name == "budget" && len(st.args) == 2 && !st.isFlag(0))
}

// isFlag reports whether an argument is written as a flag.
func (st *Statement) isFlag(i int) bool {
	_, _, is := flagName(st.args[i])
	return is
}

// possibleHosts are all that conditions can tell apart.
func possibleHosts() []Host {
	var hosts []Host
	for _, accel := range []string{"kvm", "tcg"} {
		for _, root := range []bool{false, true} {
			for _, c := range conditions {
				for _, arch := range c.suffixes {
					hosts = append(hosts, Host{Accel: accel, Root: root, Arch: arch})
				}
			}
		}
	}
	return hosts
}

// holds reports whether all conditions of a statement hold on a host.
func (st *Statement) holds(h Host) bool {
	for _, g := range st.conditions {
		if c, suffix, f := findCondition(g.tag); f != nil || c.holds(h, suffix) != g.want {
			return false
		}
	}
	return true
}

// conditions reports conditions of a statement of which nobody's host meets all.
func (k *checker) conditions(st *Statement) {
	for _, g := range st.conditions {
		if _, _, f := findCondition(g.tag); f != nil {
			k.problem(st, f)
			return
		}
	}
	if len(st.conditions) > 0 && !slices.ContainsFunc(possibleHosts(), st.holds) {
		k.problem(st, faultf("leave one of them out", "the line never runs: its conditions exclude each other"))
	}
}

// behind reports the first statement behind one that always ends the script.
func (k *checker) behind(st *Statement) {
	if k.ended != nil {
		k.problem(st, faultf("put a condition in front of that one, or remove this line and what is behind it",
			"this line never runs: `%s` in line %d ends the script", k.ended.Text, k.ended.Line))
		k.ended = nil
	}
}

// whole checks a script as a whole, once all of its statements have been.
func (k *checker) whole(s *Script) {
	at := func(line int, next, format string, args ...any) {
		k.report(Problem{File: s.File, Line: line, Reason: fmt.Sprintf(format, args...), Next: next})
	}
	statements, proofs := 0, 0
	var text strings.Builder
	for _, sec := range s.Sections {
		for _, st := range sec.Statements {
			statements++
			text.WriteString(st.Text + "\n")
			cmd := k.commands.commands[st.name]
			if cmd == nil || st.proves(cmd) {
				proofs++
			}
		}
	}
	switch {
	case statements == 0:
		at(0, "write commands in front of the first fixture, one a line, beginning with `up`", "the scenario has no command")
		return
	case proofs == 0:
		at(0, "say what must hold: with `up`, `exec`, `marker`, `stdout`, `cmp`, …", "no line of the scenario can fail")
	}
	for name, line := range k.scope.budgets {
		at(line, "end it with `budget -end "+name+"`", "budget %q never ends", name)
	}
	if k.unclear {
		return
	}
	for name, line := range k.digests {
		at(line, "compare it, as in `stdout $"+name+"` or `exec NODE selftest-client … -sha256 $"+name+"`", "digest $%s is never used", name)
	}
	for _, fx := range s.Fixtures {
		node, _, onNode := strings.Cut(fx.Name, "/")
		onNode = onNode && slices.Contains(k.scope.nodes, node)
		if strings.Contains(text.String(), path.Base(fx.Name)) || onNode && k.scope.everUp[node] || ValidNode(node) && !slices.Contains(k.scope.nodes, node) {
			continue
		}
		if onNode {
			at(fx.Line, "bring the node up, or remove the fixture", "fixture %q is never placed: no line brings node %s up", fx.Name, node)
			continue
		}
		at(fx.Line, "compare something with it, `push` it, or remove it", "fixture %q is never used", fx.Name)
	}
}

// sameFile reports whether two words name the same file or stream.
func (sc *scope) sameFile(a, b word) bool {
	one, known := sc.value(a)
	other, alsoKnown := sc.value(b)
	if !known || !alsoKnown {
		return false
	}
	oneRel, f := sc.relative(one)
	otherRel, g := sc.relative(other)
	return f == nil && g == nil && oneRel == otherRel
}
