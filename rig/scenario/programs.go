package scenario

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// programNames returns the names by which a node's programs are called.
func (sc *scope) programNames() []string {
	var names []string
	for _, p := range sc.programs {
		names = append(names, path.Base(p))
	}
	return names
}

// mention notes a text with which something may have been put on a node: a program
// whose name is in it may be there from now on.
func (sc *scope) mention(text string) { sc.mentioned = append(sc.mentioned, text) }

// mentions reports whether something may have put a file of that name on a node, or
// have done something to it.
func (sc *scope) mentions(name string) bool {
	return slices.ContainsFunc(sc.mentioned, func(text string) bool { return strings.Contains(text, name) })
}

// brought reports whether a fixture has that name.
func (sc *scope) brought(name string) bool {
	for fixture := range sc.files {
		if path.Base(fixture) == name {
			return true
		}
	}
	return false
}

// program reports a program that is certain not to be there: the image has none of
// that name, and no fixture and no statement before can have made one.
func (sc *scope) program(name string) *fault {
	if len(sc.programs) == 0 || sc.anyProgram {
		return nil
	}
	base := path.Base(name)
	path, isPath := path.Clean(name), strings.Contains(name, "/")
	if slices.Contains(sc.programs, path) || !isPath && slices.Contains(sc.programNames(), name) || sc.mentions(base) {
		return nil
	}
	if sc.brought(base) {
		if sc.mentions("chmod") {
			return nil
		}
		return faultf("put `exec NODE chmod 755 PATH` in front", "%q is a fixture, and nothing before makes it executable", name)
	}
	next := didYouMean(base, sc.programNames())
	if i := slices.Index(sc.programNames(), base); i >= 0 {
		next = fmt.Sprintf("write %s, or %s", base, sc.programs[i])
	}
	if next == "" {
		next = "use one of the image's, or bring it along as a fixture, or with `push`, and make it executable with `exec NODE chmod 755 PATH`"
	}
	return faultf(next, "no node has a program %q", name)
}

// service reports a service that no statement before can have started.
func (sc *scope) service(name string) *fault {
	if sc.anyProgram || sc.started[path.Base(name)] {
		return nil
	}
	known := slices.AppendSeq(slices.Clone(services), maps.Keys(sc.started))
	next := didYouMean(path.Base(name), known)
	if next == "" || slices.Contains(known, path.Base(name)) {
		next = "put `start NODE " + name + "` in front"
	}
	return faultf(next, "no line before starts a service %q", name)
}

// checkRun checks the program of `exec` or `start`, and notes what it may do.
func checkRun(k *checker, st *Statement, b *binding) {
	name, known := k.scope.value(b.all("PROGRAM")[0])
	if !known {
		k.scope.anyProgram = true
		return
	}
	if f := k.scope.program(name); f != nil {
		k.problem(st, faultf(f.next, "%s: %s", st.name, f.reason))
	} else {
		k.scope.mention(name)
	}
	k.mentionAll(b.all("ARG"))
	if st.name == "start" {
		k.scope.started[path.Base(name)] = true
	}
}

// checkService checks the service that a statement ends or signals.
func checkService(k *checker, st *Statement, b *binding) {
	name, known := k.scope.value(b.all("PROGRAM")[0])
	if !known {
		return
	}
	if f := k.scope.service(name); f != nil {
		k.problem(st, faultf(f.next, "%s: %s", st.name, f.reason))
	}
}

// mentionAll notes the words of a statement that may put something on a node.
func (k *checker) mentionAll(words []word) {
	for _, w := range words {
		text, known := k.scope.value(w)
		if !known {
			k.scope.anyProgram = true
		}
		k.scope.mention(text)
	}
}
