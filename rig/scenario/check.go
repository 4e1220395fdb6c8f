package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Check looks for everything in a script that would keep it from running as it is
// written, in statements behind unmet conditions too. The error is Problems, those
// that Parse found among them.
func Check(s *Script) error {
	problems := slices.Clone(s.problems)
	if s.refused {
		return problems
	}
	k := &checker{commands: Commands(), scope: newScope(workStandIn), digests: map[string]int{}, report: func(p Problem) { problems = append(problems, p) }}
	k.scope.programs = s.programs
	k.script(s)
	return problems.err()
}

// A checker goes through statements in order, reports what is wrong with each, and
// notes in its scope what it changes for those behind it.
type checker struct {
	commands *Registry
	scope    *scope
	report   func(Problem)
	unclear  bool           // a statement was not understood, so what it would have used is not known
	ended    *Statement     // it ends every run of the script; nil: none does
	begun    string         // a budget that has begun in the statement before; empty: none
	digests  map[string]int // variables that sha256 has set and nothing has used, by line
}

func (k *checker) script(s *Script) {
	nodes := s.Nodes()
	for _, fx := range s.Fixtures {
		k.scope.fixture(fx)
		folder, path, nested := strings.Cut(fx.Name, "/")
		if nested && slices.Contains(nodes, folder) {
			if f := checkOnNode(path); f != nil {
				k.report(Problem{File: s.File, Line: fx.Line, Reason: fmt.Sprintf("fixture %q: %s", fx.Name, f.reason), Next: f.next})
			}
		}
		if nested && ValidNode(folder) && !slices.Contains(nodes, folder) {
			k.report(Problem{File: s.File, Line: fx.Line,
				Reason: fmt.Sprintf("fixture %q is for a node %s that is not declared", fx.Name, folder),
				Next:   fmt.Sprintf("declare it with `node %s` before `up`, or rename the folder", folder)})
		}
	}
	for _, sec := range s.Sections {
		for _, st := range sec.Statements {
			k.statement(st)
		}
	}
	k.whole(s)
}

func (k *checker) problem(st *Statement, f *fault) {
	if f != nil && !st.broken {
		k.report(Problem{File: st.File, Line: st.Line, Reason: f.reason, Next: f.next})
	}
}

// statement checks one statement and takes over what it changes.
func (k *checker) statement(st *Statement) {
	k.behind(st)
	k.conditions(st)
	k.unclear = k.unclear || st.broken
	if st.name == "" {
		return
	}
	cmd := k.commands.commands[st.name]
	if cmd == nil {
		k.problem(st, k.commands.unknown(st.name))
		k.variables(st)
		k.assume(st, Nearest(st.name, k.commands.Names()))
		return
	}
	k.around(st, cmd)
	k.variables(st)
	b, f := cmd.bind(st.args)
	if f != nil {
		k.problem(st, f)
		k.assume(st, cmd.name)
		return
	}
	for _, fl := range cmd.forms[b.form].flags {
		if w, there := b.flags[fl.name]; there && fl.kind != nil {
			k.word(st, fl.kind, w, "-"+fl.name+": ")
		}
	}
	for _, a := range b.args {
		k.word(st, a.argument.kind, a.word, "")
	}
	if cmd.check != nil {
		cmd.check(k, st, b)
	}
	k.effects(st, cmd, b)
}

// around checks what stands in front of a command and behind it.
func (k *checker) around(st *Statement, cmd *command) {
	for _, p := range []struct {
		sign  string
		there bool
	}{{"!", st.not}, {"?", st.may}, {"*", st.retry}} {
		if !p.there || strings.Contains(cmd.prefixes, p.sign) {
			continue
		}
		next := "leave it out"
		if p.sign == "*" && cmd.deadline != noDeadline {
			next = "leave it out: the command waits by itself, as long as -within says"
		}
		k.problem(st, faultf(next, "prefix '%s' makes no sense for %s", p.sign, cmd.name))
	}
	if st.background && !cmd.background {
		k.problem(st, faultf("leave '&' out, or quote it if it is an argument", "%s cannot run in the background", cmd.name))
	}
}

// variables checks that every variable of a statement is set.
func (k *checker) variables(st *Statement) {
	var seen []string
	for _, w := range st.args {
		for _, p := range w.parts {
			if p.variable {
				delete(k.digests, p.text)
			}
			if !p.variable || k.scope.vars[p.text] || slices.Contains(seen, p.text) {
				continue
			}
			seen = append(seen, p.text)
			k.problem(st, unsetVariable(k.scope, p.text))
		}
	}
}

func unsetVariable(sc *scope, name string) *fault {
	next := didYouMean(name, sc.variables())
	if next == "" {
		next = fmt.Sprintf("set it with `env %s=VALUE` or `sha256 %s FILE` before, or quote the word", name, name)
	}
	return faultf(next, "variable $%s is not set", name)
}

// word checks one word against its kind. What is not known before the run is left
// to the run.
func (k *checker) word(st *Statement, kd *kind, w word, what string) {
	if _, ok := w.constant(); kd.literal && !ok {
		k.problem(st, faultf("write it out", "%s: a name cannot come from a variable here", st.name))
		return
	}
	if kd.check == nil {
		return
	}
	text, known := k.scope.value(w)
	var f *fault
	switch _, constant := w.constant(); {
	case kd.regexp && !constant:
		// Any value is quoted when it gets into a regular expression, so a letter in its
		// place shows whether the rest is one.
		f = checkRegexp(w.expand(func(string) string { return "x" }, regexp.QuoteMeta))
	case known:
		f = kd.check(k.scope, text)
	}
	if f != nil {
		k.problem(st, faultf(f.next, "%s: %s%s", st.name, what, f.reason))
	}
}

// effects notes what every command of its kind changes.
func (k *checker) effects(st *Statement, cmd *command, b *binding) {
	for _, a := range b.args {
		text, known := k.scope.value(a.word)
		switch a.argument.kind {
		case variable:
			if name, ok := a.word.constant(); ok && checkVariable(k.scope, name) == nil {
				k.scope.vars[name] = true
				if k.digests != nil {
					k.digests[name] = st.Line
				}
			}
		case newFile:
			rel, f := k.scope.relative(text)
			if known && f == nil {
				k.scope.files[rel] = true
			} else if !known {
				k.scope.anyFile = true
			}
		}
	}
	if cmd.name != "budget" {
		k.begun = ""
	}
	if st.background {
		k.job(st)
		return
	}
	if cmd.output {
		k.scope.output, k.scope.printing = true, nil
	}
}

// job notes a background job.
func (k *checker) job(st *Statement) {
	for _, j := range k.scope.jobs {
		if st.job != "" && j.name == st.job {
			k.problem(st, faultf("give it another name, or `wait` for the first one before",
				"background job %q is running already, since line %d", st.job, j.line))
		}
	}
	k.scope.jobs = append(k.scope.jobs, jobReference{name: st.job, line: st.Line})
	if cmd := k.commands.commands[st.name]; cmd != nil && cmd.output {
		k.scope.printing = st
	}
}

// assume notes what a statement that was not understood may have changed, so that
// one mistake is not reported as several. likely is the command that it probably
// is, "" when there is no telling.
func (k *checker) assume(st *Statement, likely string) {
	sc := k.scope
	k.unclear = true
	if st.background {
		k.job(st)
	}
	if cmd := k.commands.commands[likely]; likely == "" || cmd.output {
		sc.output = true
	}
	if likely == "" || likely == "up" {
		k.allUp(st)
	}
	k.scope.anyProgram = k.scope.anyProgram || likely == "" || slices.Contains([]string{"up", "start", "exec", "push"}, likely)
	for i, w := range st.args {
		name := textOf(w)
		if rel, f := sc.relative(name); f == nil {
			sc.files[rel] = true
		}
		name, _, _ = strings.Cut(name, "=")
		if i == 0 && checkVariable(sc, name) == nil {
			sc.vars[name] = true
		}
		if likely == "node" && ValidNode(name) && !slices.Contains(sc.nodes, name) {
			sc.addNode(name)
		}
	}
}

// allUp notes that every node is up from this statement on.
func (k *checker) allUp(st *Statement) {
	for _, name := range k.scope.nodes {
		k.scope.bringUp(name)
	}
	if k.scope.upLine == 0 {
		k.scope.upLine = st.Line
	}
}

// textOf returns the word's text up to its first variable.
func textOf(w word) string {
	var b strings.Builder
	for _, p := range w.parts {
		if p.variable {
			break
		}
		b.WriteString(p.text)
	}
	return b.String()
}
