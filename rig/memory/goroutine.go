package memory

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
)

// A goroutine is one of a program's.
type goroutine struct {
	id      uint64
	status  string // "chan receive", "running"
	locked  bool   // to a thread
	minutes int64  // for how long it has waited, as far as that was noted
	scanned bool   // the garbage collector looks at its stack

	stack    []stackFrame
	why      string // there is no stack, or no more of it
	creator  *stackFrame
	parent   uint64
	function string // that it was started with
}

// A stackFrame is that of one function, with those that were inlined into it.
type stackFrame struct {
	calls  []call // the innermost first
	offset uint64 // into the function's code; 0: at its begin
}

const (
	// minGoroutine is less than a goroutine takes, in bytes; by it the number of them is bounded.
	minGoroutine = 256
	// maxFrames bounds what is read of a stack. Of the largest that Go permits some 50 millions would fit.
	maxFrames = 100_000
	// shownFrames is how many are printed from either end, as Go does it.
	shownFrames = 50
)

// goroutines returns all that a panic would print: not those of the runtime's own. With an error they are those that could be read.
func (p *Program) goroutines() ([]goroutine, error) {
	b := p.binary
	list, err := p.number(b.symbols["allgs"], 8)
	if err != nil {
		return nil, err
	}
	// Not the slice's own length: it may just be appended to.
	count, err := p.number(b.symbols["allglen"], 8)
	if err != nil {
		return nil, err
	}
	if count > p.dump.size()/minGoroutine {
		return nil, fmt.Errorf("there are %d, more than the machine has memory for: its memory is corrupt", count)
	}
	scheduler, err := p.value("runtime.schedt", b.symbols["sched"])
	if err != nil {
		return nil, err
	}
	// What comes closest to the present time of what is noted somewhere.
	now := int64(scheduler.get("lastpoll"))
	if scheduler.err != nil {
		return nil, scheduler.err
	}
	var all []goroutine
	var first error
	failed := 0
	for i := range count {
		one, shown, err := p.goroutineAt(list+i*8, now)
		if err != nil {
			failed++
			first = cmp.Or(first, err)
		}
		if err == nil && shown {
			all = append(all, one)
		}
	}
	if failed > 0 {
		return all, fmt.Errorf("%d of %d cannot be read, among them: %w", failed, count, first)
	}
	return all, nil
}

// goroutineAt reads the one that an element of the runtime's list leads to.
func (p *Program) goroutineAt(element uint64, now int64) (one goroutine, shown bool, err error) {
	address, err := p.number(element, 8)
	if err != nil {
		return one, false, err
	}
	g, err := p.value("runtime.g", address)
	if err != nil {
		return one, false, err
	}
	one, shown = p.goroutine(g, address, now)
	return one, shown, g.err
}

// named returns an element of a table of strings.
func named(table []string, i uint64) string {
	if i < uint64(len(table)) {
		return table[i]
	}
	return "???"
}

// goroutine reads one; shown is false for what is none any more and what is the runtime's own.
func (p *Program) goroutine(g *value, address uint64, now int64) (one goroutine, shown bool) {
	b := p.binary
	raw, scan := g.get("atomicstatus"), uint64(b.constants["runtime._Gscan"])
	one = goroutine{id: g.get("goid"), status: named(b.status, raw&^scan), locked: g.get("lockedm") != 0, scanned: raw&scan != 0, parent: g.get("parentGoid")}
	state := one.status
	if state == "idle" || state == "dead" {
		return one, false
	}
	if reason := g.get("waitreason"); (state == "waiting" || state == "leaked") && reason != 0 {
		one.status = named(b.wait, reason)
	}
	if since := int64(g.get("waitsince")); (state == "waiting" || state == "syscall") && since > 0 && now > since {
		one.minutes = (now - since) / 60e9
	}
	own := g.stack()
	pc, sp, trap, inSyscall := g.get("sched", "pc"), g.get("sched", "sp"), false, false
	t := p.thread(g.get("m"))
	switch {
	case state == "syscall" || g.get("syscallsp") != 0:
		pc, sp, inSyscall = g.get("syscallpc"), g.get("syscallsp"), true
	case t != nil && t.current == address && t.vdsoSP != 0:
		pc, sp = t.vdsoPC, t.vdsoSP
	case state != "running":
	case t == nil || !t.known:
		one.why = "it runs, and its registers are somewhere in the kernel; stack unavailable"
	case own.has(t.registers.SP):
		pc, sp, trap = t.registers.IP, t.registers.SP, true
	case !t.system.has(t.registers.SP):
		one.why = "it runs, and its thread handles a signal; stack unavailable"
	default: // on the thread's own stack, and where it left the goroutine's is noted
	}
	if one.why == "" {
		one.stack, one.why = p.unwind(pc, sp, own, trap, inSyscall)
	}
	start, ok := b.functions.find(g.get("startpc"))
	if ok {
		one.function = b.functions.name(start)
	}
	if creator := g.get("gopc"); one.id != 1 {
		if f, ok := b.functions.find(creator); ok {
			c := call{name: b.functions.name(f), id: b.functions.idOf(f)}
			c.file, c.line = b.functions.where(f, before(f, creator))
			if b.shows(c, false, 0) {
				one.creator = &stackFrame{[]call{c}, creator - f.entry}
			}
		}
	}
	return one, !ok || !b.isSystem(b.functions.idOf(start), one)
}

// isSystem reports whether a goroutine is one of the runtime's own.
func (b *Binary) isSystem(start int64, g goroutine) bool {
	is := func(name string) bool { return start == b.constants["internal/abi.FuncID_"+name] }
	switch {
	case is("runtime_main") || is("corostart") || is("handleAsyncEvent"):
		return false
	case is("runFinalizers") || is("runCleanups"):
		// They are not while they call a program's function.
		for _, f := range g.stack {
			for _, c := range f.calls {
				if !strings.HasPrefix(c.name, "runtime.") {
					return false
				}
			}
		}
		return true
	}
	return strings.HasPrefix(g.function, "runtime.")
}

func (p *Program) thread(m uint64) *thread {
	for i := range p.threads {
		if m != 0 && p.threads[i].address == m {
			return &p.threads[i]
		}
	}
	return nil
}

// before is an address in the instruction that calls, for the address that it returns to.
func before(f function, pc uint64) uint64 {
	if pc > f.entry {
		return pc - 1
	}
	return pc
}

// unwind follows a stack from where it is to its end, or to where it cannot be followed, and says why. With trap the first address is of what is
// executed next, not of what is returned to. It does what the runtime does (traceback.go).
func (p *Program) unwind(pc, sp uint64, own stack, trap, inSyscall bool) (frames []stackFrame, why string) {
	t, constants := p.binary.functions, p.binary.constants
	if pc == 0 { // a call of no function
		next, err := p.number(sp, 8)
		if err != nil {
			return nil, fmt.Sprintf("its stack cannot be read: %v", err)
		}
		pc, sp = next, sp+8
	}
	for innermost := true; ; innermost = false {
		f, ok := t.find(pc)
		if !ok {
			return frames, fmt.Sprintf("address %#x is in no function of the program", pc)
		}
		if len(frames) == maxFrames {
			return frames, fmt.Sprintf("it has more than %d frames; so many were read", maxFrames)
		}
		at := pc
		if !trap {
			at = before(f, pc)
		}
		frames = append(frames, stackFrame{t.calls(f, at), pc - f.entry})
		id, flags := t.idOf(f), int64(f.get(t.flags))
		trap = id == constants["internal/abi.FuncID_sigpanic"] || id == constants["internal/abi.FuncID_asyncPreempt"] || id == constants["internal/abi.FuncID_debugCallV2"]
		if flags&constants["internal/abi.FuncFlagTopFrame"] != 0 {
			return frames, ""
		}
		writes := flags&constants["internal/abi.FuncFlagSPWrite"] != 0 && id != constants["internal/abi.FuncID_cgocallback"]
		if writes && (!innermost || !inSyscall) {
			return frames, "" // nobody knows which stack it is on
		}
		size, ok := t.frameSize(f, pc)
		if !ok {
			return frames, ""
		}
		end := sp + size
		if !own.has(end) {
			return frames, fmt.Sprintf("the frame at %#x is not on its stack, which is from %#x to %#x: its memory is corrupt", sp, own.from, own.to)
		}
		next, err := p.number(end, 8)
		if err != nil {
			return frames, fmt.Sprintf("its stack cannot be read: %v", err)
		}
		if next == 0 {
			return frames, ""
		}
		pc, sp = next, end+8
	}
}

// Stacks returns the goroutines as text, in the form in which Go prints them, but without arguments of functions. With an error it is as much as can
// be read.
func (p *Program) Stacks() ([]byte, error) {
	all, err := p.goroutines()
	if err != nil {
		err = fmt.Errorf("goroutines of %s, process %d: %w", p.Name(), p.PID, err)
	}
	var out bytes.Buffer
	for i, g := range all {
		if i > 0 {
			out.WriteByte('\n')
		}
		g.print(&out, p.binary)
	}
	return out.Bytes(), err
}

func (g goroutine) print(out *bytes.Buffer, b *Binary) {
	fmt.Fprintf(out, "goroutine %d [%s", g.id, g.status)
	if g.scanned {
		out.WriteString(" (scan)")
	}
	if g.minutes >= 1 {
		fmt.Fprintf(out, ", %d minutes", g.minutes)
	}
	if g.locked {
		out.WriteString(", locked to thread")
	}
	out.WriteString("]:\n")
	lines := g.lines(b, false)
	if len(lines) == 0 {
		lines = g.lines(b, true)
	}
	if more := len(lines) - 2*shownFrames; more > 0 {
		rest := lines[shownFrames+more:]
		lines = append(append(lines[:shownFrames:shownFrames], fmt.Sprintf("...%d frames elided...\n", more)), rest...)
	}
	for _, line := range lines {
		out.WriteString(line)
	}
	if g.why != "" {
		fmt.Fprintf(out, "\t(%s)\n", g.why)
	}
	if c := g.creator; c != nil {
		fmt.Fprintf(out, "created by %s", printed(c.calls[0].name))
		if g.parent != 0 {
			fmt.Fprintf(out, " in goroutine %d", g.parent)
		}
		fmt.Fprintf(out, "\n\t%s:%d%s\n", c.calls[0].file, c.calls[0].line, offset(c.offset))
	}
}

// lines are a goroutine's calls; those of the runtime are left out, where somebody else's are shown.
func (g goroutine) lines(b *Binary, all bool) []string {
	var lines []string
	callee := int64(0)
	for _, f := range g.stack {
		for _, c := range f.calls {
			shown := all || b.shows(c, len(lines) == 0, callee)
			callee = c.id
			if !shown {
				continue
			}
			line := fmt.Sprintf("%s(...)\n\t%s:%d", printed(c.name), c.file, c.line)
			if !c.inlined {
				line += offset(f.offset)
			}
			lines = append(lines, line+"\n")
		}
	}
	return lines
}

func offset(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" +%#x", n)
}

// printed is a function's name as the runtime prints it.
func printed(name string) string {
	if name == "runtime.gopanic" {
		return "panic"
	}
	from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if from < 0 || to <= from {
		return name
	}
	return name[:from] + "[...]" + name[to+1:]
}

// shows reports whether the runtime would print a call (showfuncinfo). callee is what was called by it.
func (b *Binary) shows(c call, first bool, callee int64) bool {
	is := func(id int64, name string) bool { return id == b.constants["internal/abi."+name] }
	if is(c.id, "FuncIDWrapper") && !is(callee, "FuncID_gopanic") && !is(callee, "FuncID_sigpanic") && !is(callee, "FuncID_panicwrap") {
		return false
	}
	if is(c.id, "FuncID_runFinalizers") || is(c.id, "FuncID_runCleanups") || c.name == "runtime.gopanic" && !first {
		return true
	}
	name, ours := strings.CutPrefix(c.name, "runtime.")
	if !ours {
		return strings.Contains(c.name, ".")
	}
	// Of the runtime those that a program can name.
	receiver := ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		receiver, name = name[:i], name[i+1:]
		if inner, ok := strings.CutPrefix(receiver, "(*"); ok {
			receiver = strings.TrimSuffix(inner, ")")
		}
	}
	exported := func(s string) bool { return s != "" && s[0] >= 'A' && s[0] <= 'Z' }
	return exported(name) && (receiver == "" || exported(receiver))
}
