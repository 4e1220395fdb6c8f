package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// Lines that end a run at once, unless the scenario allows them.
var (
	kernelFatal  = regexp.MustCompile(`Kernel panic - not syncing|^(\[[ .0-9]+\] )?(BUG: |Oops: |general protection fault|kernel BUG at )`)
	markerFatal  = regexp.MustCompile(`^SELFTEST: .* FAIL\b`)
	programFatal = regexp.MustCompile(`^(panic: |fatal error: |SIGSEGV: )`)
)

const (
	// panicQuiet is how long the console must be quiet after a kernel panic's
	// first line before it counts as told, and panicLongest when that never
	// happens: the useful part comes after the first line.
	panicQuiet   = 150 * time.Millisecond
	panicLongest = 2 * time.Second
	// stackQuiet is the same for a program's panic, whose stack follows.
	stackQuiet = 50 * time.Millisecond
	// silence is after how much time without an answer to a ping, before
	// scaling, an agent counts as lost, and pingEvery how often it is asked.
	silence   = 15 * time.Second
	pingEvery = 2 * time.Second
)

// fatal returns the class of a line that ends a run, "" for any other.
func fatal(l console.Line) (record.Reason, time.Duration) {
	switch {
	case l.Unit == unitKernel:
		if kernelFatal.MatchString(l.Text) {
			return record.KernelPanic, panicQuiet
		}
	case markerFatal.MatchString(l.Text):
		return record.MarkerFail, 0
	case l.Stream == "stderr" && programFatal.MatchString(l.Text):
		return record.GoPanic, stackQuiet
	}
	return "", 0
}

// unitKernel is the unit of the lines of the kernel's own console.
const unitKernel = "kernel"

// add puts a line into the node's log and, when it is a fatal one, ends the
// scenario once what follows it has been read too.
func (n *Node) add(l console.Line) {
	l = n.log.Append(l)
	reason, quiet := fatal(l)
	if reason == "" {
		return
	}
	tell := func() { n.world.failed(&scenario.NodeError{Node: n.name, Reason: reason, Text: l.Text}) }
	if quiet == 0 {
		tell()
		return
	}
	n.mu.Lock()
	current := n.life
	if current != nil && reason == record.KernelPanic {
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
func (n *Node) readConsole(r io.Reader, file *os.File) {
	source := io.TeeReader(r, n.recorder(file))
	// An error of the socket is the machine's end, which is told by itself.
	_ = journal.Split(source, func(text []byte, _ bool) {
		n.add(console.Line{Time: time.Now(), Unit: unitKernel, Stream: "console", Text: string(text)})
	})
}

// readJournal reads the journal port to its end. file gets each entry with the
// host's time in front.
func (n *Node) readJournal(l *life, r io.Reader, file *os.File) {
	out := json.NewEncoder(n.recorder(file))
	var last uint64
	boot := n.countBoot()
	_ = journal.SplitAt(r, journal.MaxEntry, func(text []byte, _ bool) {
		e, err := journal.Decode(text)
		if err != nil {
			n.world.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: err.Error()})
			return
		}
		if e.Seq != last+1 && last != 0 && e.Seq != 1 {
			n.world.emit(record.Event{Kind: record.KindWarning, Node: n.name,
				Text: fmt.Sprintf("journal entries %d to %d never arrived", last+1, e.Seq-1)})
		}
		if e.Seq <= last { // numbered anew: the machine was reset
			boot = n.countBoot()
		}
		last = e.Seq
		now := time.Now()
		_ = out.Encode(struct {
			Time time.Time `json:"time"`
			journal.Entry
		}{now.UTC(), e})
		n.add(console.Line{Time: now, Guest: e.Mono, Boot: boot, Unit: e.Unit, Stream: e.Stream, Text: e.Line()})
		l.journal.advance(e.Seq)
	})
	l.journal.end(fmt.Errorf("the journal of node %s has ended", n.name))
}

// countBoot returns the number of the boot whose first journal entry comes next.
func (n *Node) countBoot() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.boots++
	return n.boots
}

// recorder writes to a file of the record. The first error, a full disk say, is
// told once; the stream is drained all the same.
func (n *Node) recorder(file *os.File) io.Writer { return &recorder{node: n, file: file} }

type recorder struct {
	node *Node
	file *os.File
	dead bool
}

func (r *recorder) Write(b []byte) (int, error) {
	if !r.dead {
		if _, err := r.file.Write(b); err != nil {
			r.dead = true
			r.node.world.emit(record.Event{Kind: record.KindWarning, Node: r.node.name,
				Text: fmt.Sprintf("nothing more is written to %s: %v", r.file.Name(), err)})
		}
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
	cause := &scenario.NodeError{Node: n.name, Reason: reason, Err: err}
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
