// Package locate says why two nodes had no session when a step needed one: which of announce, SYN, SYN-ACK, handshake and admission was missing, and between whom.
// It is derived from what the nodes printed and what crossed between them together, since neither alone says it.
//
// It owns nothing: it reads events, lines and packets, and makes a step's failure a more precise one. A failure that is about something else it leaves alone.
package locate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// A Locator takes in a scenario's events. Its methods may be called concurrently.
type Locator struct {
	mu     sync.Mutex
	steps  map[int]time.Time    // when each began
	faults []*fault             // all there were, as they began
	ups    map[string]time.Time // when each node was last ready
}

// A fault is one of the scenario's.
type fault struct {
	name, node, text string
	begin, end       time.Time
	over             bool // it has ended, at end
}

// String returns the fault as it was asked for: "link B down".
func (f *fault) String() string {
	return strings.TrimSpace(f.name + " " + strings.TrimSpace(f.node+" "+f.text))
}

// New returns a Locator.
func New() *Locator { return &Locator{steps: map[int]time.Time{}, ups: map[string]time.Time{}} }

// Event takes in an event.
func (l *Locator) Event(e record.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Kind == record.KindStepStart:
		l.steps[e.Step] = e.Time
	case e.Kind == record.KindNode && e.State == record.StateReady:
		l.ups[e.Node] = e.Time
	case e.Kind == record.KindFault:
		l.fault(e)
	}
}

// fault notes the begin and the end of a fault. A clock that was set is never in force, and a machine that was reset is over with being
// that when it is seen to be ready again.
func (l *Locator) fault(e record.Event) {
	f := &fault{name: e.Name, node: e.Node, text: e.Text, begin: e.Time}
	i := slices.IndexFunc(l.faults, func(other *fault) bool { return !other.over && other.String() == f.String() })
	switch {
	case e.Name == "clock":
	case e.State == record.FaultInjected && i < 0:
		l.faults = append(l.faults, f)
	case i >= 0 && (e.State == record.FaultHealed || e.State == record.FaultObserved && e.Name == "reset"):
		l.faults[i].end, l.faults[i].over = e.Time, true
	}
}

// inForce returns the faults that had begun at a time and not ended, in the order in which they began. A zero time is now.
func (l *Locator) inForce(at time.Time) []*fault {
	var in []*fault
	for _, f := range l.faults {
		if at.IsZero() && !f.over || !at.IsZero() && !f.begin.After(at) && (!f.over || f.end.After(at)) {
			in = append(in, f)
		}
	}
	return in
}

// changed returns when something between two nodes was last mended: a fault ended, or one of them came up.
func (l *Locator) changed(at time.Time, nodes ...string) (last time.Time) {
	for _, f := range l.faults {
		if f.over && !f.end.After(at) && f.end.After(last) {
			last = f.end
		}
	}
	for _, node := range nodes {
		if up := l.ups[node]; !up.After(at) && up.After(last) {
			last = up
		}
	}
	return last
}

// A Scene is what there is to look at.
type Scene struct {
	Nodes   []string                         // names: "A", "B", in the order of their addresses
	Lines   func(node string) []console.Line // what a node has printed, oldest first
	Packets func() []decode.Packet           // what nodes have sent, nil without a capture. Asked for only when a session was missing: a capture can be long
	End     time.Time                        // when the step failed; zero: none did
}

// least is how long before a failure is looked at, at least: a dialler asks, and announces come, about every second.
const least = 4 * time.Second

// Forms of what says that a session was wanted. The device's id is the first group.
var (
	noSession     = regexp.MustCompile(`no session with (node-[a-z0-9]+)`)
	wantsSession  = regexp.MustCompile(`session ok (node-[a-z0-9]+)`)
	wantsAnnounce = regexp.MustCompile(`peer learned (node-[a-z0-9]+)`)
)

// Explain returns a failure with its true class, a sentence that says what it means, and the evidence for it: the faults in force when it happened, whatever it is, and
// what was missing first where a session was wanted. It does not change what it is given.
func (l *Locator) Explain(f *record.Failure, s Scene) *record.Failure {
	if f == nil {
		return nil
	}
	out := *f
	l.mu.Lock()
	defer l.mu.Unlock()
	faults := l.inForce(s.End)
	if peer := missed(f, s.Nodes); peer != "" && !s.End.IsZero() {
		c := newCase(f.Node, peer, l.since(f, peer, s), s)
		if reason, evidence := c.judge(); reason != "" {
			out.Reason, out.Next, out.Evidence = reason, "", slices.Concat(evidence, f.Evidence)
			out.Said = c.sentence(reason, faults)
		}
	}
	if line, _, _ := strings.Cut(f.Message, "\n"); out.Said == "" && f.Reason.Reported() && line != "" {
		out.Said = line
	}
	for _, fault := range faults {
		out.Evidence = append(slices.Clip(out.Evidence), "in force: "+fault.String())
	}
	return &out
}

// since returns the time from which on it counts what crossed between two nodes without a session: since the step began, or since
// they lost the session that they had. What is missing first then keeps the rest from happening: a peer that cannot be reached is forgotten in the end, and
// is not even dialled any more. Times before something was mended tell of what is over.
func (l *Locator) since(f *record.Failure, peer string, s Scene) time.Time {
	begin := l.steps[f.Step]
	if begin.IsZero() || s.End.Sub(begin) < least {
		begin = s.End.Add(-least)
	}
	lost := lostAt(s, f.Node, peer)
	if lost.IsZero() {
		lost = lostAt(s, peer, f.Node)
	}
	if lost.IsZero() {
		return begin
	}
	if changed := l.changed(s.End, f.Node, peer); lost.Before(changed) {
		lost = changed
	}
	if lost.Before(begin) {
		begin = lost
	}
	return begin
}

// lostAt returns when a node said that it lost its session with another one; zero when it has one, or never had.
func lostAt(s Scene, node, peer string) (at time.Time) {
	id := scenario.DeviceID(peer)
	for _, line := range s.Lines(node) {
		switch line.Text {
		case "dsoftbusd: session lost " + id:
			if at.IsZero() {
				at = line.Time
			}
		case "dsoftbusd: cross-vm session ok " + id:
			at = time.Time{}
		}
	}
	return at
}

// missed returns the node with which the failure's node had no session, "" if none was missing.
func missed(f *record.Failure, nodes []string) string {
	peer := ""
	switch f.Reason {
	case record.MarkerTimeout:
		for _, form := range []*regexp.Regexp{wantsSession, wantsAnnounce} {
			if m := form.FindStringSubmatch(f.Awaited); m != nil {
				peer = nodeOf(nodes, m[1])
			}
		}
	case record.ExecStatus, record.ExecTimeout, record.MarkerFail: // of a self-test
		if m := noSession.FindStringSubmatch(f.Message); m != nil {
			peer = nodeOf(nodes, m[1])
		}
	}
	if f.Node == "" || peer == f.Node {
		return ""
	}
	return peer
}

// nodeOf returns the node with that device id, "" when there is none.
func nodeOf(nodes []string, id string) string {
	for _, name := range nodes {
		if scenario.DeviceID(name) == id {
			return name
		}
	}
	return ""
}

// A pair is two nodes that have no session, in a stretch of time.
type pair struct {
	wanting, peer     string // the one whose step failed, and the other
	dialler, acceptor string // by the contract, the one with the smaller id dials
	begin, end        time.Time
	scene             Scene
	captured          bool // there is a capture

	syn, synAck, rst int // of both, in all
	asked, told      int // ARP: the dialler's questions for the acceptor's address, and its answers
	last             attempt
	announced        map[string]int
}

// An attempt is one of the dialler's to connect, the last one.
type attempt struct {
	again, answered, cut      bool // SYN sent more than once; SYN-ACK; RST
	fromDialler, fromAcceptor int  // messages of the handshake
}

func newCase(one, other string, begin time.Time, s Scene) *pair {
	p := &pair{wanting: one, peer: other, dialler: one, acceptor: other, begin: begin, end: s.End, scene: s, announced: map[string]int{}}
	if scenario.DeviceID(other) < scenario.DeviceID(one) {
		p.dialler, p.acceptor = other, one
	}
	question := fmt.Sprintf("who has %s?", scenario.NodeAddress(slices.Index(s.Nodes, p.acceptor)))
	packets := s.Packets()
	p.captured = packets != nil
	for _, packet := range packets {
		if packet.Time.Before(begin) || packet.Time.After(s.End) {
			continue
		}
		between := packet.From == p.dialler && packet.To == p.acceptor || packet.From == p.acceptor && packet.To == p.dialler
		switch {
		case packet.Kind == decode.Announce && (packet.To == decode.All || between):
			p.announced[packet.From]++
		case packet.Kind == decode.ARP && packet.From == p.dialler && strings.HasPrefix(packet.Text, question):
			p.asked++
		case !between:
		case packet.Kind == decode.ARP && packet.From == p.acceptor:
			p.told++
		case packet.Kind == decode.SYN && packet.From == p.dialler && strings.HasSuffix(packet.Text, ", again"):
			p.syn++
			p.last.again = true
		case packet.Kind == decode.SYN && packet.From == p.dialler:
			p.syn++
			p.last = attempt{}
		case packet.Kind == decode.SYNACK && packet.From == p.acceptor:
			p.synAck++
			p.last.answered = true
		case packet.Kind == decode.RST:
			p.rst++
			p.last.cut = true
		case packet.Kind == decode.Handshake && packet.From == p.dialler:
			p.last.fromDialler++
		case packet.Kind == decode.Handshake:
			p.last.fromAcceptor++
		}
	}
	return p
}

// said returns the last line of a node in that time that has a text.
func (p *pair) said(node, text string) string {
	last := ""
	for _, l := range p.scene.Lines(node) {
		if !l.Time.Before(p.begin) && strings.Contains(l.Text, text) {
			last = l.Text
		}
	}
	return last
}

// judge returns what was missing first, on the way from an announce to a session; "" when nothing says so.
func (p *pair) judge() (record.Reason, []string) {
	d, a := p.dialler, p.acceptor
	var evidence []string
	say := func(format string, args ...any) { evidence = append(evidence, fmt.Sprintf(format, args...)) }
	took := p.end.Sub(p.begin).Round(100 * time.Millisecond)
	for _, node := range []string{d, a} {
		for _, text := range []string{"dsoftbusd: identity mismatch peer=" + scenario.DeviceID(other(node, d, a)), "dsoftbusd: session denied "} {
			if line := p.said(node, text); line != "" {
				say("%s said: %s", node, line)
				return record.SessionDenied, append(evidence, p.crossed(took))
			}
		}
	}
	if !p.captured {
		return "", nil
	}
	evidence = append(evidence, p.crossed(took))
	last := p.last
	switch messages := last.fromDialler + last.fromAcceptor; {
	case messages > 0 && last.cut:
		say("the last connection was cut (RST) in the middle of its handshake")
		return record.SessionReset, evidence
	case messages > 0:
		say("the last connection was made, and its handshake did not come to its end: %d messages from %s, %d from %s", last.fromDialler, d, last.fromAcceptor, a)
		return record.HandshakeStalled, evidence
	case p.syn > 0 && last.cut && !last.answered:
		say("%s refused (RST): nobody listens there", a)
		return record.SessionReset, evidence
	case p.syn > 0 && last.answered && (last.again || p.syn > 1):
		say("%s has answered with SYN-ACK, and %s asked again: the answers did not arrive", a, d)
		return record.SessionNoSynAck, evidence
	case p.syn > 0 && !last.answered:
		say("%s has not answered: the SYNs did not arrive, or it stands still", a)
		return record.SessionNoSynAck, evidence
	case p.syn > 0:
		return "", nil // it came about
	case p.asked > 0 && p.told == 0:
		say("%s asked for the address of %s (ARP, %d times), and %s has not answered: the questions did not arrive, or it stands still", d, a, p.asked, a)
		return record.SessionNoSyn, evidence
	case p.asked > 0:
		say("%s asked for the address of %s (ARP, %d times), and sent no SYN although %s has answered: the answers did not arrive", d, a, p.asked, a)
		return record.SessionNoSyn, evidence
	}
	// A peer that is heard of is dialled within a second, for as long as it is.
	switch {
	case p.announced[a] == 0:
		say("%s has announced nothing", a)
		return record.DiscoveryNoAnnounce, evidence
	case p.announced[d] > 0:
		say("%s has announced itself, and %s, which would dial it then, has not tried: the announces did not arrive, or were ignored", a, d)
		return record.DiscoveryNoAnnounce, evidence
	}
	say("%s, which is the one to dial, has not tried, and announces nothing itself: does its dsoftbusd run?", d)
	return record.SessionNoSyn, evidence
}

func other(node, one, two string) string {
	if node == one {
		return two
	}
	return one
}

// crossed says what the two have sent.
func (p *pair) crossed(took time.Duration) string {
	if !p.captured {
		return "no capture was made of what crossed"
	}
	return fmt.Sprintf("in the %s before: announces %s %d, %s %d; %s -> %s %d SYN; %s -> %s %d SYN-ACK, %d RST",
		took, p.dialler, p.announced[p.dialler], p.acceptor, p.announced[p.acceptor], p.dialler, p.acceptor, p.syn, p.acceptor, p.dialler, p.synAck, p.rst)
}
