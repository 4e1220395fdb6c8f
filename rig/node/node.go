package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/session"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

const (
	// inlineBytes is how much of a node's fixtures goes along with its identity, in
	// place of being pushed: beyond that a transfer is the quicker way.
	inlineBytes = 128 << 10
	// entropyBytes is what each machine's random generator is seeded with: twice
	// its key.
	entropyBytes = 64
	// stopWait is how long a service may take to end after SIGTERM, before
	// scaling: a second by contract, and as much again for the machine's noise.
	stopWait = 2 * time.Second
)

// services are the standard services, in the order in which they are started,
// with the marker that says each is ready (contract, section 4).
var services = []struct{ program, ready string }{
	{"packagefsd", "packagefsd: ready"},
	{"dsoftbusd", "dsoftbusd: ready"},
}

// A Node is one node of a scenario, up or not. It implements scenario.Node.
type Node struct {
	world *World
	name  string
	index int // of the scenario's nodes
	addr  netip.Addr
	mac   net.HardwareAddr
	key   session.KeyPair
	port  *lan.Port
	wire  *lan.Port // to the agent of a recorded machine; nil for others
	files record.NodeFiles
	log   *console.Log

	mu    sync.Mutex
	life  *life // nil when it is not up
	keyed bool  // its dsoftbusd was started with a key log, in this life or another
	boots int   // how many boots the journal has lines of

	crashed bool // its power was cut, and it has none yet
}

// A life is one machine of a node, from its start to its end.
type life struct {
	machine  *machine.Machine
	control  net.Conn  // of a recorded machine nil until its agent listens
	recorded *recorded // nil: it is not
	clone    bool
	from     int // of the node's log, where this life's lines begin
	resumed  time.Time
	agent    *guest.Client // nil until the machine has an identity, or at least an agent that answers
	journal  progress
	readers  sync.WaitGroup
	closers  []io.Closer
	wanted   bool          // its end is wanted, so it is no news
	begun    bool          // its processor was let run
	paused   bool          // by the scenario
	frozen   bool          // by a debugger, see World.Freeze
	halted   bool          // by gdb
	stood    bool          // it was one of these since somebody has looked
	stops    int           // STOP events to come that we asked for
	debugged bool          // a gdb is connected, or was until a moment ago
	fallen   bool          // its kernel has panicked, or said that something in it is broken
	reloaded string        // digest of the binary that programs were last replaced from
	serving  bool          // the standard services were started
	reset    chan struct{} // closed at the machine's next reset; nil when nobody waits for one
}

// boot starts a machine: a clone of the saved one, which is left to become this
// node, unless cold; else it returns when the machine's agent answers.
func (n *Node) boot(ctx context.Context, cold bool, pairings []device.Pairing) error {
	// What a machine that ended by itself has left is put away first.
	n.down()
	n.world.emit(record.Event{Kind: record.KindNode, Node: n.name, State: record.StateStarting})
	var handover []byte
	if n.world.cfg.Hardware.Saved.RAM != "" && !cold {
		id, err := n.identity(pairings)
		if err == nil {
			handover, err = agentapi.Handover(id)
		}
		if err != nil {
			return fmt.Errorf("configure node %s: %w", n.name, err)
		}
	}
	l, err := n.start(ctx, handover)
	if err != nil {
		if errors.Is(err, machine.ErrExited) {
			return n.wrap(record.NodeExited, err)
		}
		return n.wrap(record.Internal, err)
	}
	n.endCrash()
	if l.clone {
		return nil
	}
	conn := l.control
	if l.recorded != nil {
		if conn, err = n.dial(ctx, l, l.from); err != nil {
			return n.unreached(err)
		}
	}
	agent, _, err := guest.Reach(ctx, l.machine, conn)
	if err != nil {
		return n.unreached(err)
	}
	n.lap("agent", time.Since(l.resumed))
	return n.reached(l, agent)
}

// unreached says that a machine runs, but nobody in it answers.
func (n *Node) unreached(err error) error {
	reason := record.BootTimeout
	if errors.Is(err, machine.ErrExited) {
		reason = record.NodeExited
	}
	return n.wrap(reason, fmt.Errorf("the machine started, but its agent does not answer: %w", err))
}

// reached notes that a machine's agent is there, and watches it from now on.
func (n *Node) reached(l *life, agent *guest.Client) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.wanted {
		return errors.Join(fmt.Errorf("node %s was taken down while it booted", n.name), agent.Close())
	}
	l.agent = agent
	l.readers.Go(func() { n.watchAgent(l, agent) })
	return nil
}

// start starts the machine's process, with all its streams read from the first
// byte on. With a handover it is a clone.
func (n *Node) start(ctx context.Context, handover []byte) (_ *life, err error) {
	spec := machine.Spec{Hardware: n.world.cfg.Hardware, Name: n.name, MAC: n.mac.String()}
	saved := spec.Saved
	l := &life{clone: handover != nil}
	if l.clone {
		spec.RAM, spec.Incoming, spec.Handover = saved.RAM, true, true
	}
	defer func() {
		if err != nil {
			l.end()
		}
	}()
	if n.wire != nil {
		if l.recorded, err = n.record(&spec); err != nil {
			return nil, err
		}
		l.closers = append(l.closers, l.recorded.console, l.recorded.journal)
	}
	if err := os.WriteFile(n.files.QEMUCmd, []byte(spec.CommandLine()), 0o644); err != nil {
		return nil, err
	}
	open := func(name string) (*os.File, error) {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err == nil {
			l.closers = append(l.closers, f)
		}
		return f, err
	}
	stderr, err := open(n.files.QEMULog)
	if err != nil {
		return nil, err
	}
	consoleLog, err := open(n.files.Console)
	if err != nil {
		return nil, err
	}
	journalLog, err := open(n.files.Journal)
	if err != nil {
		return nil, err
	}
	tap, err := n.port.Open()
	if err != nil {
		return nil, err
	}
	defer tap.Close()
	given := machine.Files{Tap: tap}
	if l.recorded != nil {
		if given.Control, err = n.wire.Open(); err != nil {
			return nil, err
		}
		defer given.Control.Close()
	}
	if l.clone {
		if given.Handover, err = machine.Memory("handover", handover); err != nil {
			return nil, err
		}
		defer given.Handover.Close()
	}
	// The process outlives the step that starts it; teardown ends it.
	since := time.Now()
	l.machine, err = machine.Start(context.WithoutCancel(ctx), spec, given, stderr)
	if err != nil {
		return nil, err
	}
	n.lap("qemu", time.Since(since))
	n.log.Resume()
	l.from = n.log.Len()
	var consoleStream, journalStream io.Reader
	if l.recorded != nil {
		consoleStream, journalStream = l.recorded.console, l.recorded.journal
		l.readers.Go(func() { n.follow(l) })
	} else {
		consoleConn, journalConn := l.machine.Stream("console"), l.machine.Stream("journal")
		l.control = l.machine.Stream("control")
		l.closers = append(l.closers, consoleConn, journalConn, l.control)
		consoleStream, journalStream = consoleConn, journalConn
	}
	l.readers.Go(func() { n.readConsole(l, consoleStream, consoleLog) })
	l.readers.Go(func() { n.readJournal(l, journalStream, journalLog) })
	if l.clone {
		since := time.Now()
		state, err := os.Open(saved.State)
		if err != nil {
			return nil, err
		}
		defer state.Close()
		if err := l.machine.Restore(ctx, state); err != nil {
			return nil, err
		}
		n.lap("restore", time.Since(since))
	}
	n.mu.Lock()
	n.life = l
	n.mu.Unlock()
	l.readers.Go(func() { n.watchMachine(l) })
	if err := n.world.freezer.turnOf(ctx, n.name); err != nil {
		return nil, err
	}
	defer n.world.freezer.turn.Unlock()
	n.world.cfg.BeforeRun()
	l.resumed = time.Now()
	err = l.machine.Resume(ctx)
	n.mu.Lock()
	l.begun = true
	n.mu.Unlock()
	return l, err
}

// end ends the machine, waits until its streams are read to their end, and
// closes the files.
func (l *life) end() {
	if l.machine != nil {
		l.machine.Kill()
	}
	if l.agent != nil {
		l.agent.Close()
	}
	l.readers.Wait()
	for _, c := range l.closers {
		// Files of the record: what could not be written was said when it was
		// written.
		_ = c.Close()
	}
	if l.recorded != nil && l.machine != nil {
		l.recorded.end()
	}
}

// down ends the node's machine, if it has one. It may be called at any time.
func (n *Node) down() {
	n.mu.Lock()
	l := n.life
	n.life = nil
	if l != nil {
		l.wanted = true
	}
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.end()
	n.log.End(fmt.Errorf("node %s is down", n.name))
	n.world.emit(record.Event{Kind: record.KindNode, Node: n.name, State: record.StateDown})
}

// ready returns nil when the node is up, else why it is not.
func (n *Node) ready() error {
	_, err := n.alive()
	return err
}

// alive returns the node's life with an agent that answers.
func (n *Node) alive() (*life, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.runningLocked()
	switch {
	case err != nil:
		return nil, err
	case l.agent == nil:
		return nil, fmt.Errorf("node %s is still booting", n.name)
	case l.paused:
		return nil, fmt.Errorf("node %s is paused; `resume %s` lets it go on", n.name, n.name)
	}
	return l, nil
}

// wrap gives an error of this node its class, unless it has one.
func (n *Node) wrap(reason record.Reason, err error) error {
	var classed *scenario.NodeError
	if err == nil || errors.As(err, &classed) {
		return err
	}
	return n.classed(reason, err)
}

// classed makes an error of this node of a class, or of that of what this host ran
// out of, when that is what err tells.
func (n *Node) classed(reason record.Reason, err error) *scenario.NodeError {
	if out, ok := exhausted(err); ok {
		reason, err = record.HostExhausted, fmt.Errorf("this host ran out of %s: %w", out, err)
	}
	return &scenario.NodeError{Node: n.name, Reason: reason, Err: err}
}

// exhausted says what this host ran out of, when err tells that: as an error of the
// rig's own calls, or as QEMU's last words, which are text.
func exhausted(err error) (what string, ok bool) {
	if what, ok := record.Exhausted(err); ok || !errors.Is(err, machine.ErrExited) {
		return what, ok
	}
	return record.ExhaustedText(err.Error())
}

// agentError gives an error of a call to the agent its class: a program that never
// ran, the machine's end, the loss of the agent, or none of them.
func (n *Node) agentError(l *life, err error) error {
	if none, ok := errors.AsType[guest.NotStartedError](err); ok {
		return &scenario.NodeError{Reason: record.NotStarted, Err: none} // the step names node and program
	}
	if !errors.Is(err, guest.ErrLost) {
		return err
	}
	// The connection ends before the process does; its end is the better cause.
	gone := time.NewTimer(500 * time.Millisecond)
	defer gone.Stop()
	select {
	case <-l.machine.Done():
		return n.wrap(record.NodeExited, l.machine.Err())
	case <-gone.C:
		return n.wrap(record.AgentLost, err)
	}
}

// lap records how long a part of this node's start took.
func (n *Node) lap(part string, took time.Duration) {
	n.world.emit(record.Event{Kind: record.KindPhase, Node: n.name, Name: part, Seconds: record.Seconds(took)})
}

// configure gives a machine that has booted its identity, or waits until a clone has
// taken the one it was handed, and places what fixtures are too large to go along.
func (n *Node) configure(ctx context.Context, pairings []device.Pairing) error {
	n.mu.Lock()
	l := n.life
	asleep := l != nil && l.clone && l.agent == nil
	n.mu.Unlock()
	if asleep {
		if err := n.awake(ctx, l); err != nil {
			return err
		}
	} else if err := n.identify(ctx, pairings); err != nil {
		return err
	}
	l, err := n.alive()
	if err != nil {
		return err
	}
	_, pushed, err := n.fixtures()
	if err != nil {
		return fmt.Errorf("configure node %s: %w", n.name, err)
	}
	for _, f := range pushed {
		if err := l.agent.Push(ctx, n.fixture(f.name), f.name); err != nil {
			return n.agentError(l, fmt.Errorf("place fixture on node %s: %w", n.name, err))
		}
	}
	return nil
}

// identify gives a machine its identity through its agent.
func (n *Node) identify(ctx context.Context, pairings []device.Pairing) error {
	since := time.Now()
	id, err := n.identity(pairings)
	if err != nil {
		return fmt.Errorf("configure node %s: %w", n.name, err)
	}
	data, err := id.MarshalBinary()
	if err != nil {
		return fmt.Errorf("configure node %s: %w", n.name, err)
	}
	if err := n.call(ctx, agentapi.MethodConfigure, data); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	n.lap("configure", time.Since(since))
	return nil
}

// awake waits until a clone says that it is this node.
func (n *Node) awake(ctx context.Context, l *life) error {
	line, err := n.log.Wait(ctx, l.from, func(line console.Line) bool {
		return line.Unit == agentapi.AgentUnit &&
			(strings.HasPrefix(line.Text, agentapi.ConfiguredLine) || strings.HasPrefix(line.Text, agentapi.RefusedLine))
	})
	if err != nil {
		return n.unreached(err)
	}
	took, ok := strings.CutPrefix(line.Text, agentapi.ConfiguredLine)
	if !ok {
		return fmt.Errorf("configure node %s: %s", n.name, strings.TrimPrefix(line.Text, agentapi.RefusedLine))
	}
	inside, err := time.ParseDuration(strings.ReplaceAll(took, " ", ""))
	if err != nil {
		return fmt.Errorf("configure node %s: its agent says %q", n.name, line.Text)
	}
	n.lap("agent", line.Time.Sub(l.resumed)-inside)
	n.lap("configure", inside)
	return n.reached(l, guest.New(l.control))
}

// fixture is where a fixture of this node lies on the host: a script may have
// changed it since it was extracted.
func (n *Node) fixture(name string) string {
	return filepath.Join(n.world.cfg.Work, n.name, filepath.FromSlash(name))
}

// identity is what makes a machine this node, with the fixtures that go along.
func (n *Node) identity(pairings []device.Pairing) (id agentapi.Identity, err error) {
	id = agentapi.Identity{
		Hostname: scenario.DeviceID(n.name), MAC: n.mac, Address: n.world.prefix(n.addr), Clock: time.Now(), Entropy: make([]byte, entropyBytes),
	}
	rand.Read(id.Entropy)
	own, err := device.Encode(device.Device{ID: id.Hostname, Key: n.key}, pairings)
	if err != nil {
		return id, err
	}
	for _, f := range own {
		id.Files = append(id.Files, agentapi.File{Path: path.Join(device.DefaultDir, f.Name), Mode: device.Mode, Content: f.Content})
	}
	along, _, err := n.fixtures()
	if err != nil {
		return id, err
	}
	for _, f := range along {
		content, err := os.ReadFile(n.fixture(f.name))
		if err != nil {
			return id, err
		}
		id.Files = append(id.Files, agentapi.File{Path: f.name, Mode: f.mode, Content: content})
	}
	return id, nil
}

// A placed fixture is one of this node's.
type placed struct {
	name string // its path on the node
	mode os.FileMode
}

// fixtures tells the node's fixtures that go along with its identity from those that
// are too much for that, and are pushed.
func (n *Node) fixtures() (along, pushed []placed, err error) {
	room := int64(inlineBytes)
	for _, f := range n.world.cfg.Script.NodeFixtures(n.name) {
		info, err := os.Stat(n.fixture(f.Name))
		if err != nil {
			return nil, nil, err
		}
		p := placed{f.Name, info.Mode().Perm()}
		if info.Size() > room {
			pushed = append(pushed, p)
			continue
		}
		room -= info.Size()
		along = append(along, p)
	}
	return along, pushed, nil
}

// startServices starts the standard services and waits until each is ready.
func (n *Node) startServices(ctx context.Context) error {
	n.mu.Lock()
	if n.life != nil {
		n.life.serving = true
	}
	n.mu.Unlock()
	from := n.log.Len()
	for _, s := range services {
		if err := n.Start(ctx, s.program, nil); err != nil {
			return err
		}
	}
	for _, s := range services {
		line, err := n.log.Wait(ctx, from, func(l console.Line) bool {
			return l.Unit == s.program && l.Text == s.ready || ended(l, s.program)
		})
		if err != nil {
			return fmt.Errorf("node %s: wait for %q: %w", n.name, s.ready, err)
		}
		if ended(line, s.program) {
			return fmt.Errorf("node %s: %s before it was ready%s", n.name, line.Text, n.lastWords(s.program, from))
		}
	}
	return nil
}

// ended reports whether the agent says in this line that a service has ended.
func ended(l console.Line, program string) bool {
	return l.Unit == agentapi.AgentUnit && strings.HasPrefix(l.Text, program+agentapi.EndedText)
}

// lastWords returns what a program printed last, for an error text.
func (n *Node) lastWords(program string, from int) string {
	last := ""
	for _, l := range n.log.Lines(from, n.log.Len()) {
		if l.Unit == program && strings.TrimSpace(l.Text) != "" {
			last = ": " + l.Text
		}
	}
	return last
}

// Start starts a supervised service.
func (n *Node) Start(ctx context.Context, program string, args []string) error {
	args = n.withKeyLog(program, args)
	return n.call(ctx, agentapi.MethodStart, agentapi.Start{Program: program, Args: args})
}

// StartStopped does what Start does, and leaves the program stopped before its
// first instruction until SIGCONT: for a debugger.
func (n *Node) StartStopped(ctx context.Context, program string, args []string) error {
	args = n.withKeyLog(program, args)
	return n.call(ctx, agentapi.MethodStart, agentapi.Start{Program: program, Args: args, Stopped: true})
}

// StartTool starts a program that helps a person, a debugger: a service like any
// other, but when it ends with a failure the scenario goes on.
func (n *Node) StartTool(ctx context.Context, program string, args []string) error {
	return n.call(ctx, agentapi.MethodStart, agentapi.Start{Program: program, Args: args, Tool: true})
}

// Stop ends a service and returns when it has ended.
func (n *Node) Stop(ctx context.Context, program string) error {
	within := time.Duration(float64(stopWait) * n.world.cfg.Slowdown)
	return n.call(ctx, agentapi.MethodStop, agentapi.Stop{Program: program, Within: within})
}

// Kill sends a signal to a service.
func (n *Node) Kill(ctx context.Context, program, signal string) error {
	return n.call(ctx, agentapi.MethodKill, agentapi.Kill{Program: program, Signal: signal})
}

func (n *Node) call(ctx context.Context, method string, request any) error {
	l, err := n.alive()
	if err != nil {
		return err
	}
	if err := l.agent.Call(ctx, method, request, nil); err != nil {
		return n.agentError(l, fmt.Errorf("node %s: %w", n.name, err))
	}
	return nil
}

// Exec runs a program to completion. When it returns, every line the program
// printed is in the node's log.
func (n *Node) Exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (int, error) {
	l, err := n.alive()
	if err != nil {
		return 0, err
	}
	result, err := l.agent.Exec(ctx, argv, stdout, stderr)
	if err != nil {
		return result.Status, n.agentError(l, fmt.Errorf("node %s: %w", n.name, err))
	}
	if err := l.journal.reach(ctx, result.JournalSeq); err != nil {
		return result.Status, fmt.Errorf("node %s: wait for the journal of %s: %w", n.name, argv[0], err)
	}
	return result.Status, nil
}

// Push copies a file of the host to the node.
func (n *Node) Push(ctx context.Context, src, dst string) error {
	l, err := n.alive()
	if err != nil {
		return err
	}
	return n.agentError(l, l.agent.Push(ctx, src, dst))
}

// Pull copies a file of the node to the host.
func (n *Node) Pull(ctx context.Context, src, dst string) error {
	l, err := n.alive()
	if err != nil {
		return err
	}
	return n.agentError(l, l.agent.Pull(ctx, src, dst))
}
