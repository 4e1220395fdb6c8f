package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

const (
	// silence is after how much time without an answer to a ping, before
	// scaling, an agent counts as lost, and pingEvery how often it is asked.
	silence   = 15 * time.Second
	pingEvery = 2 * time.Second
	// maxWhole bounds a line that is put together from the pieces it came in. A
	// longer one is kept, and searched, in parts, which its log says.
	maxWhole = 16 << 20
	// streamEnd is how long after the end of one of its streams a machine may
	// take to be gone, before scaling.
	streamEnd = 5 * time.Second
)

// fallen are the classes after which a kernel is of no use any more, so that its
// memory is worth keeping.
var fallen = []record.Reason{record.KernelPanic, record.KernelOops, record.KernelBug}

// add puts a line into the node's log and, when it is a fatal one, ends the
// scenario once what follows it has been read too.
func (n *Node) add(l console.Line) {
	l = n.log.Append(l)
	if reason, quiet := fatal(l); reason != "" {
		n.report(l, reason, quiet)
	}
}

// report ends the scenario with a line in which something broken was reported, once
// its unit has been quiet for a while.
func (n *Node) report(l console.Line, reason record.Reason, quiet time.Duration) {
	done := func() {}
	if n.world.begins != nil {
		done = n.world.begins()
	}
	tell := func() {
		n.world.failed(&scenario.NodeError{Node: n.name, Reason: reason, Text: l.Text})
		done()
	}
	if quiet == 0 {
		tell()
		return
	}
	n.mu.Lock()
	current := n.life
	if current != nil && slices.Contains(fallen, reason) {
		current.fallen = true
	}
	n.mu.Unlock()
	if current == nil {
		tell()
		return
	}
	current.readers.Go(func() {
		n.settle(l, quiet)
		tell()
	})
}

// settle waits until a unit has printed nothing for quiet.
func (n *Node) settle(first console.Line, quiet time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), panicLongest)
	defer cancel()
	for from := first.Seq + 1; ctx.Err() == nil; {
		step, stop := context.WithTimeout(ctx, quiet)
		next, err := n.log.Wait(step, from, func(l console.Line) bool { return l.Unit == first.Unit })
		stop()
		if err != nil {
			return
		}
		from = next.Seq + 1
	}
}

// readConsole reads the kernel's console to its end.
func (n *Node) readConsole(l *life, r io.Reader, file *os.File) {
	source := io.TeeReader(r, n.recorder(file))
	lines := n.assembler()
	err := journal.Split(source, func(text []byte, more bool) {
		lines.take(console.Line{Time: time.Now(), Unit: unitKernel, Stream: "console"}, text, more)
	})
	lines.end()
	n.streamEnded(l, "console", err)
}

// readJournal reads the journal port to its end. file gets each entry with the
// host's time in front.
func (n *Node) readJournal(l *life, r io.Reader, file *os.File) {
	out := json.NewEncoder(n.recorder(file))
	lines := n.assembler()
	entries := entries{lost: n.incomplete}
	boot := n.countBoot()
	err := journal.SplitAt(r, journal.MaxEntry, func(text []byte, _ bool) {
		last := entries.last
		e, ok := entries.next(text)
		if !ok {
			return
		}
		if e.Seq <= last { // numbered anew: the machine was reset
			boot = n.countBoot()
		}
		now := time.Now()
		_ = out.Encode(struct {
			Time time.Time `json:"time"`
			journal.Entry
		}{now.UTC(), e})
		lines.take(console.Line{Time: now, Guest: e.Mono, Boot: boot, Unit: e.Unit, Stream: e.Stream}, []byte(e.Line()), e.More)
		l.journal.advance(e.Seq)
	})
	lines.end()
	l.journal.end(fmt.Errorf("the journal of node %s has ended", n.name))
	n.streamEnded(l, "journal", err)
}

// countBoot returns the number of the boot whose first journal entry comes next.
func (n *Node) countBoot() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.boots++
	return n.boots
}

// entries decodes a journal's entries and sees that none is missing.
type entries struct {
	lost func(what string)
	last uint64 // number of the last entry
	bad  error  // of the last line, which was no entry
}

// next decodes a line; ok is false when it is no entry. A last line that is cut off
// is no loss: the machine was switched off while it wrote it. Neither is one in whose
// middle the first entry of a new boot begins.
func (s *entries) next(line []byte) (e journal.Entry, ok bool) {
	if s.bad != nil {
		s.lost(s.bad.Error())
		s.bad = nil
	}
	e, err := journal.Decode(line)
	if err != nil {
		if i := bytes.LastIndex(line, []byte(`{"seq":1,`)); i > 0 {
			e, err = journal.Decode(line[i:])
		}
	}
	if err != nil {
		s.bad = err
		return e, false
	}
	if e.Seq != s.last+1 && s.last != 0 && e.Seq != 1 {
		s.lost(fmt.Sprintf("journal entries %d to %d never arrived", s.last+1, e.Seq-1))
	}
	s.last = e.Seq
	return e, true
}

// incomplete ends the scenario: a line that must not come may have been among those
// that were lost.
func (n *Node) incomplete(what string) {
	n.log.Lose(what)
	n.world.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: what})
	n.world.failed(&scenario.NodeError{Node: n.name, Reason: record.LogIncomplete, Err: errors.New(what)})
}

// streamEnded notes that a stream of the machine has ended, which is so when the
// machine has, and only then: without its streams nothing that it says is heard.
func (n *Node) streamEnded(l *life, name string, err error) {
	if n.expected(l) {
		return
	}
	late := time.NewTimer(time.Duration(float64(streamEnd) * max(n.world.cfg.Slowdown, 1)))
	defer late.Stop()
	select {
	case <-l.machine.Done():
		return
	case <-late.C:
	}
	if n.expected(l) {
		return
	}
	what := fmt.Sprintf("the %s ended although the machine runs", name)
	if err != nil {
		what += ": " + err.Error()
	}
	n.incomplete(what)
}

// An assembler puts lines together that came in pieces, and passes them to the node.
// It belongs to one reader.
type assembler struct {
	node    *Node
	pending map[string]*pending // by unit and stream
	crashes map[string]*goCrash // by unit
}

// pending is the beginning of a line.
type pending struct {
	line console.Line
	text []byte
}

func (n *Node) assembler() *assembler {
	return &assembler{node: n, pending: map[string]*pending{}, crashes: map[string]*goCrash{}}
}

// take takes in a piece of a line; more says that another one follows.
func (a *assembler) take(l console.Line, text []byte, more bool) {
	key := l.Unit + " (" + l.Stream + ")"
	p := a.pending[key]
	if !more && p == nil {
		l.Text = string(text)
		a.pass(l)
		return
	}
	if p == nil {
		p = &pending{}
		a.pending[key] = p
		a.node.log.Begun(key, true)
	}
	p.line, p.text = l, append(p.text, text...)
	tooLong := len(p.text) > maxWhole
	if tooLong {
		const why = "a line of %s has more than %d MiB, and is searched in parts"
		a.node.log.Lose(fmt.Sprintf(why, l.Unit, maxWhole>>20))
	}
	if !more || tooLong {
		a.finish(key)
	}
}

// finish passes on a line of which no more comes, or no more is kept.
func (a *assembler) finish(key string) {
	p := a.pending[key]
	delete(a.pending, key)
	p.line.Text = string(p.text)
	a.pass(p.line)
	a.node.log.Begun(key, false)
}

// end passes on lines whose end has not come.
func (a *assembler) end() {
	for _, key := range slices.Sorted(maps.Keys(a.pending)) {
		a.finish(key)
	}
}

// pass passes a whole line to the node.
func (a *assembler) pass(l console.Line) {
	a.node.add(l)
	if l.Stream != "stderr" {
		return
	}
	crash := a.crashes[l.Unit]
	if crash == nil {
		crash = &goCrash{}
		a.crashes[l.Unit] = crash
	}
	if said := crash.next(l.Text); said != "" {
		told := l
		told.Seq, told.Text = a.node.log.Len()-1, said
		a.node.report(told, record.GoPanic, stackQuiet)
	}
}

// recorder writes to a file of the record. The first error, a full disk say, ends
// the scenario: what a node prints then is nowhere to be looked up, nor searched for
// secrets. The stream is drained all the same.
func (n *Node) recorder(file *os.File) io.Writer { return &recorder{node: n, file: file} }

type recorder struct {
	node *Node
	file *os.File
	dead bool
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.dead {
		return len(b), nil
	}
	if _, err := r.file.Write(b); err != nil {
		r.dead = true
		err = fmt.Errorf("nothing more is written to %s: %w", r.file.Name(), err)
		r.node.world.emit(record.Event{Kind: record.KindWarning, Node: r.node.name, Text: err.Error()})
		r.node.world.failed(r.node.classed(record.LogIncomplete, err))
	}
	return len(b), nil
}

// watchMachine tells when the machine ends by itself.
func (n *Node) watchMachine(l *life) {
	for e := range l.machine.Events() {
		switch e.Name {
		case "RESET":
			n.mu.Lock()
			if l.reset != nil {
				close(l.reset)
				l.reset = nil
			}
			n.mu.Unlock()
		case "STOP", "RESUME":
			n.switchedBy(l, e.Name)
		}
	}
	// The events end with QMP's connection, just before the process.
	<-l.machine.Done()
	if n.expected(l) {
		return
	}
	n.lost(record.NodeExited, l.machine.Err())
}

// watchAgent tells when the agent of a machine that still runs is gone, or
// silent.
func (n *Node) watchAgent(l *life, agent *guest.Client) {
	// A machine that was reset has another agent, or none yet.
	expected := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return l.wanted || l.agent != agent
	}
	err := agent.Watch(pingEvery, time.Duration(float64(silence)*max(n.world.cfg.Slowdown, 1)), func() bool { return n.excused(l) })
	if expected() {
		return
	}
	if classed := n.agentError(l, err); classed != nil && !expected() && l.machine.Err() == nil {
		n.lost(record.AgentLost, err)
	}
}

// lost ends every wait on the node, and the scenario.
func (n *Node) lost(reason record.Reason, err error) {
	cause := n.classed(reason, err)
	n.world.emit(record.Event{Kind: record.KindNode, Node: n.name, State: record.StateExited, Text: err.Error()})
	n.log.End(cause)
	n.world.failed(cause)
}

func (n *Node) expected(l *life) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return l.wanted
}

// progress is how far a journal has been read.
type progress struct {
	mu      sync.Mutex
	seq     uint64
	err     error
	changed chan struct{}
}

func (p *progress) advance(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = seq
	p.wake()
}

func (p *progress) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	p.wake()
}

func (p *progress) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// reach waits until the entry with that number has been read.
func (p *progress) reach(ctx context.Context, seq uint64) error {
	for {
		p.mu.Lock()
		if p.seq >= seq || p.err != nil {
			defer p.mu.Unlock()
			if p.seq >= seq {
				return nil
			}
			return p.err
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
