package scenario

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A scope is what a statement can refer to at its place in the script: what the
// statements in front of it declared, set and made.
type scope struct {
	work    string                // the folder $WORK
	exists  func(rel string) bool // looks into that folder; nil when nothing runs
	nodes   []string
	up      map[string]bool
	everUp  map[string]bool
	paused  map[string]bool
	upLine  int               // of the first `up`, 0 without
	vars    map[string]bool   // set, whatever the value
	known   map[string]string // values that are known without running anything
	files   map[string]bool   // in $WORK, by relative name
	anyFile bool              // a file was made whose name only the run knows
	jobs    []jobReference    // started and not awaited
	budgets map[string]int    // begun and not ended, by line
	output  bool              // something has left stdout and stderr

	// printing is the last background job that was started behind the command that has
	// left stdout and stderr, nil for none.
	printing *Statement

	programs   []string        // of a node's image, by their paths; empty when they are not known
	mentioned  []string        // what has been put on nodes, or may have put something there: names, paths, texts
	anyProgram bool            // programs may have come to be, or run, of which only the run knows
	started    map[string]bool // names of services that a statement before has started
}

// A jobReference is a background job as the checker sees it.
type jobReference struct {
	name string // empty without a name
	line int
}

// workStandIn is $WORK while nothing runs and there is no folder.
const workStandIn = "/WORK"

func newScope(work string) *scope {
	sc := &scope{
		work:    work,
		up:      map[string]bool{},
		everUp:  map[string]bool{},
		paused:  map[string]bool{},
		vars:    map[string]bool{},
		known:   map[string]string{},
		files:   map[string]bool{},
		budgets: map[string]int{},
		started: map[string]bool{},
	}
	sc.constant("WORK", work)
	for _, name := range standardNodes {
		sc.addNode(name)
	}
	return sc
}

// constant gives a variable a value that no statement can change.
func (sc *scope) constant(name, value string) {
	sc.vars[name] = true
	sc.known[name] = value
}

func (sc *scope) addNode(name string) {
	sc.constant(name+"_IP", NodeAddress(len(sc.nodes)).String())
	sc.constant(name+"_ID", DeviceID(name))
	sc.nodes = append(sc.nodes, name)
}

// bringUp notes that a node is up from now on.
func (sc *scope) bringUp(name string) {
	sc.up[name], sc.everUp[name] = true, true
	delete(sc.paused, name)
}

// value returns what a word stands for, if that is known.
func (sc *scope) value(w word) (string, bool) {
	for _, p := range w.parts {
		if p.variable {
			if _, ok := sc.known[p.text]; !ok {
				return "", false
			}
		}
	}
	return w.expand(func(name string) string { return sc.known[name] }, func(s string) string { return s }), true
}

// variables returns the names of all set variables, sorted.
func (sc *scope) variables() []string {
	return slices.Sorted(maps.Keys(sc.vars))
}

// relative returns the name of a file below $WORK.
func (sc *scope) relative(name string) (string, *fault) {
	if name == "" {
		return "", faultf("name a file of the scenario", "empty file name")
	}
	if part := longPart(name); part != "" || len(name) > maxFixtureName {
		return "", faultf("shorten it", "file name of %d bytes, the limits are %d and %d between two slashes", len(name), maxFixtureName, maxNamePart)
	}
	inside := name
	if strings.HasPrefix(name, "/") {
		rest, ok := strings.CutPrefix(path.Clean(name), sc.work+"/")
		if !ok {
			return "", faultf("use a file below $WORK; files on a node are reached with push, pull and exec",
				"file %q is not in the scenario's folder", name)
		}
		inside = rest
	}
	inside = path.Clean(inside)
	if inside == ".." || strings.HasPrefix(inside, "../") {
		return "", faultf("use a file below $WORK", "file %q is not in the scenario's folder", name)
	}
	return inside, nil
}

// file checks that a file can be read where it is named.
func (sc *scope) file(name string) *fault {
	rel, f := sc.relative(name)
	if f != nil {
		return f
	}
	if sc.files[rel] || sc.anyFile || (sc.exists != nil && sc.exists(rel)) {
		return nil
	}
	for known := range sc.files {
		if rel == "." || strings.HasPrefix(known, rel+"/") {
			return faultf("name a file in it", "%q is a folder", name)
		}
	}
	next := didYouMean(rel, slices.Collect(maps.Keys(sc.files)))
	if next == "" {
		next = fmt.Sprintf("add it at the end of the scenario behind a line '-- %s --'", rel)
	}
	return faultf(next, "there is no fixture %q, and no command before makes it", rel)
}

// fixture notes a fixture, which is in $WORK, and on its node if it has one.
func (sc *scope) fixture(fx Fixture) {
	sc.files[fx.Name] = true
	sc.mention(string(fx.Data))
}

// node checks that a node is declared and up.
func (sc *scope) node(name string) *fault {
	if f := sc.declared(name); f != nil {
		return f
	}
	if !sc.up[name] {
		if sc.upLine == 0 {
			return faultf("put `up` in front", "node %s is not up here", name)
		}
		return faultf("put `up "+name+"` in front", "node %s is not up here", name)
	}
	return nil
}

func (sc *scope) declared(name string) *fault {
	if slices.Contains(sc.nodes, name) {
		return nil
	}
	next := didYouMean(name, sc.nodes)
	if ValidNode(name) {
		next = fmt.Sprintf("declare it with `node %s` before `up`", name)
	} else if next == "" {
		next = "the nodes are " + strings.Join(sc.nodes, ", ")
	}
	return faultf(next, "unknown node %q", name)
}

// endpoint reads NODE:PORT or IP:PORT. The node is up.
func (sc *scope) endpoint(s string) (netip.AddrPort, *fault) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.AddrPort{}, faultf("write NODE:PORT, as in B:34567", "bad address %q", s)
	}
	return sc.address(s[:i], s[i+1:], sc.node)
}

// source reads the sender of a datagram: NODE or IP, with or without a port. The
// node need not be up.
func (sc *scope) source(s string) (netip.AddrPort, *fault) {
	host, port, ok := strings.Cut(s, ":")
	if !ok {
		port = "0"
	}
	return sc.address(host, port, sc.declared)
}

func (sc *scope) address(host, port string, check func(node string) *fault) (netip.AddrPort, *fault) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, faultf("use a number from 1 to 65535", "bad port %q", port)
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		if f := check(host); f != nil {
			return netip.AddrPort{}, f
		}
		addr = NodeAddress(slices.Index(sc.nodes, host))
	}
	if !addr.Is4() {
		return netip.AddrPort{}, faultf("the nodes' network has IPv4 alone", "bad address %q", host)
	}
	return netip.AddrPortFrom(addr, uint16(number)), nil
}

// clone returns a scope that can be changed without changing sc.
func (sc *scope) clone() *scope {
	c := *sc
	c.nodes = slices.Clone(sc.nodes)
	c.jobs = slices.Clone(sc.jobs)
	c.up = maps.Clone(sc.up)
	c.everUp = maps.Clone(sc.everUp)
	c.paused = maps.Clone(sc.paused)
	c.vars = maps.Clone(sc.vars)
	c.known = maps.Clone(sc.known)
	c.files = maps.Clone(sc.files)
	c.budgets = maps.Clone(sc.budgets)
	c.mentioned = slices.Clone(sc.mentioned)
	c.started = maps.Clone(sc.started)
	return &c
}
