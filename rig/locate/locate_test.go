package locate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/record"
)

var zero = time.Date(2026, 11, 25, 2, 17, 0, 0, time.UTC)

func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

// sent makes packets that one sends to the other, one a second from a time on.
func sent(from, to string, kind decode.Kind, text string, begin float64, n int) (all []decode.Packet) {
	for i := range n {
		all = append(all, decode.Packet{Time: at(begin + float64(i)), From: from, To: to, Kind: kind, Text: text})
	}
	return all
}

// learned is what a node says of its peer when all is well until then.
func learned(peer string) []console.Line {
	return []console.Line{{Time: at(1), Unit: "dsoftbusd", Text: "dsoftbusd: ready"}, {Time: at(2), Unit: "dsoftbusd", Text: "dsoftbusd: discovery peer learned " + peer}}
}

func TestExplain(t *testing.T) {
	announces := slices.Concat(sent("A", decode.All, decode.Announce, "announce node-a", 0, 20), sent("B", decode.All, decode.Announce, "announce node-b", 0, 20))
	waits := &record.Failure{Reason: record.MarkerTimeout, Node: "A", Step: 4, Awaited: `a line of node A that matches "cross-vm session ok node-b"`}
	reads := &record.Failure{Reason: record.ExecStatus, Node: "B", Step: 4, Message: "node B: exec pkgfs: exit status 1: pkgfs: open node-a: no session with node-a within 1s"}
	lines := map[string][]console.Line{"A": learned("node-b"), "B": learned("node-a")}
	for _, c := range []struct {
		what     string
		failure  *record.Failure
		lines    map[string][]console.Line
		packets  []decode.Packet
		reason   record.Reason
		evidence string // in it
	}{
		{"no announce", waits, map[string][]console.Line{"A": nil}, sent("A", decode.All, decode.Announce, "announce node-a", 0, 20),
			record.DiscoveryNoAnnounce, "B has announced nothing"},
		{"announces that do not arrive", waits, map[string][]console.Line{"B": learned("node-a")}, announces, record.DiscoveryNoAnnounce, "did not arrive, or were ignored"},
		{"a self-test", &record.Failure{Reason: record.MarkerFail, Node: "A", Step: 4, Message: "SELFTEST: remote pkgfs session FAIL open node-b: no session with node-b within 5s"}, lines,
			slices.Concat(announces, sent("A", "B", decode.SYN, "SYN 1 -> 34567", 10, 8)), record.SessionNoSynAck, "B has not answered"},
		{"no SYN", reads, lines, sent("B", decode.All, decode.Announce, "announce node-b", 0, 20), record.SessionNoSyn, "does its dsoftbusd run?"},
		{"ARP without an answer", waits, lines, slices.Concat(announces, sent("A", decode.All, decode.ARP, "who has 10.42.0.11? tell 10.42.0.10", 15, 4)), record.SessionNoSyn, "B has not answered"},
		{"ARP whose answers are lost", waits, lines, slices.Concat(announces, sent("A", decode.All, decode.ARP, "who has 10.42.0.11? tell 10.42.0.10", 15, 4),
			sent("B", "A", decode.ARP, "10.42.0.11 is at 52:54:00:00:00:0b", 15, 4)), record.SessionNoSyn, "the answers did not arrive"},
		{"ARP for another", waits, map[string][]console.Line{"A": nil}, slices.Concat(announces, sent("A", decode.All, decode.ARP, "who has 10.42.0.1? tell 10.42.0.10", 15, 4)),
			record.DiscoveryNoAnnounce, "did not arrive, or were ignored"},
		{"SYNs without an answer", reads, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN 1 -> 34567", 10, 8)), record.SessionNoSynAck, "B has not answered"},
		{"SYN-ACKs that are lost", waits, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN 1 -> 34567, again", 10, 8), sent("B", "A", decode.SYNACK, "SYN-ACK", 10, 8)),
			record.SessionNoSynAck, "the answers did not arrive"},
		{"refused", waits, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN 1 -> 34567", 10, 8), sent("B", "A", decode.RST, "RST", 10, 8)), record.SessionReset, "nobody listens"},
		{"cut", waits, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN", 10, 1), sent("B", "A", decode.SYNACK, "SYN-ACK", 10, 1), sent("A", "B", decode.Handshake, "message 1", 11, 1),
			sent("B", "A", decode.RST, "RST", 12, 1)), record.SessionReset, "in the middle of its handshake"},
		{"stalled", waits, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN", 10, 1), sent("B", "A", decode.SYNACK, "SYN-ACK", 10, 1), sent("A", "B", decode.Handshake, "message 1", 11, 3)),
			record.HandshakeStalled, "3 messages from A, 0 from B"},
		{"denied", waits, map[string][]console.Line{"B": {{Time: at(15), Text: "dsoftbusd: session denied wrong key"}}}, nil, record.SessionDenied, "B said: dsoftbusd: session denied wrong key"},
		{"an impostor", waits, map[string][]console.Line{"A": {{Time: at(15), Text: "dsoftbusd: identity mismatch peer=node-b"}}}, announces, record.SessionDenied, "A said: dsoftbusd: identity mismatch"},
		{"denied long ago", waits, map[string][]console.Line{"A": slices.Concat(learned("node-b"), []console.Line{{Time: at(3), Text: "dsoftbusd: session denied wrong key"}})}, announces, record.DiscoveryNoAnnounce, ""},
		{"a session that came", waits, lines, slices.Concat(announces, sent("A", "B", decode.SYN, "SYN", 10, 1), sent("B", "A", decode.SYNACK, "SYN-ACK", 10, 1)), record.MarkerTimeout, ""},
		{"no capture", waits, lines, nil, record.MarkerTimeout, ""},
		{"another line", &record.Failure{Reason: record.MarkerTimeout, Node: "A", Step: 4, Awaited: "a line that matches \"remote packagefs served\""}, lines, announces, record.MarkerTimeout, ""},
		{"another device", &record.Failure{Reason: record.MarkerTimeout, Node: "A", Step: 4, Awaited: `"session ok node-z"`}, lines, announces, record.MarkerTimeout, ""},
		{"another failure", &record.Failure{Reason: record.ContentMismatch, Node: "A", Step: 4, Message: "no session with node-b"}, lines, announces, record.ContentMismatch, ""},
		{"no node", &record.Failure{Reason: record.MarkerTimeout, Step: 4, Awaited: `"session ok node-b"`}, lines, announces, record.MarkerTimeout, ""},
	} {
		l := New()
		l.Event(record.Event{Kind: record.KindStepStart, Step: 4, Time: at(10)})
		l.Event(record.Event{Kind: record.KindFault, Name: "block", Text: "B A tcp 34567", State: record.FaultInjected})
		l.Event(record.Event{Kind: record.KindFault, Name: "link", Node: "B", Text: "down", State: record.FaultInjected})
		l.Event(record.Event{Kind: record.KindFault, Name: "link", Node: "B", Text: "down", State: record.FaultHealed})
		before := *c.failure
		got := l.Explain(c.failure, Scene{Nodes: []string{"A", "B"}, Packets: func() []decode.Packet { return c.packets }, End: at(20), Lines: func(node string) []console.Line { return c.lines[node] }})
		evidence := strings.Join(got.Evidence, "\n")
		if got.Reason != c.reason || !strings.Contains(evidence, c.evidence) {
			t.Errorf("%s: %s, %q; want %s, %q", c.what, got.Reason, evidence, c.reason, c.evidence)
		}
		if !strings.Contains(evidence, "in force: block B A tcp 34567") || strings.Contains(evidence, "link B down") {
			t.Errorf("%s: faults in force: %q", c.what, evidence)
		}
		if c.failure.Reason != before.Reason || c.failure.Evidence != nil {
			t.Errorf("%s: the failure that was given was changed", c.what)
		}
	}
}

func TestNothingToExplain(t *testing.T) {
	f := &record.Failure{Reason: record.MarkerFail, Node: "A", Message: "no session with node-b within 5s"}
	if got := New().Explain(f, Scene{Nodes: []string{"A", "B"}, Packets: func() []decode.Packet { t.Error("the capture is read for nothing"); return nil }}); got.Reason != f.Reason || got.Evidence != nil {
		t.Errorf("no step failed, so nobody knows when; got %+v", got)
	}
	if got := New().Explain(nil, Scene{}); got != nil {
		t.Errorf("got %+v", got)
	}
}

// What kept two nodes from having a session first is named, not what followed from it: a peer that cannot be reached is forgotten in the end, and not dialled any more.
func TestTheFirstCauseIsNamed(t *testing.T) {
	lost := []console.Line{{Time: at(1), Text: "dsoftbusd: cross-vm session ok node-b"}, {Time: at(10), Text: "dsoftbusd: session lost node-b"}}
	both := func(to float64) []decode.Packet {
		return slices.Concat(sent("A", decode.All, decode.Announce, "announce node-a", 0, int(to)), sent("B", decode.All, decode.Announce, "announce node-b", 0, int(to)))
	}
	dialled := slices.Concat(both(40), sent("A", "B", decode.SYN, "SYN 1 -> 34567", 11, 5))
	reads := &record.Failure{Reason: record.ExecStatus, Node: "A", Step: 4, Message: "node A: exec pkgfs: exit status 1: pkgfs: open node-b: no session with node-b within 1s"}
	down := record.Event{Kind: record.KindFault, Name: "link", Node: "B", Text: "down", State: record.FaultInjected, Time: at(7)}
	for _, c := range []struct {
		what    string
		lines   []console.Line
		packets []decode.Packet
		events  []record.Event
		reason  record.Reason
		said    string
	}{
		{"forgotten long ago", lost, dialled, []record.Event{down}, record.SessionNoSynAck, "B's cable was down, so A had no session with B"},
		{"a session since then", append(slices.Clone(lost), console.Line{Time: at(20), Text: "dsoftbusd: cross-vm session ok node-b"}), dialled, []record.Event{down},
			record.DiscoveryNoAnnounce, "B's cable was down, so A had no session with B"},
		{"a session since then, and since it was up", append(slices.Clone(lost), console.Line{Time: at(20), Text: "dsoftbusd: cross-vm session ok node-b"}),
			append(slices.Clone(dialled), sent("B", "A", decode.SYNACK, "SYN-ACK", 16, 1)...), []record.Event{{Kind: record.KindNode, Node: "B", State: record.StateReady, Time: at(1)}, down},
			record.DiscoveryNoAnnounce, "B's cable was down, so A had no session with B"},
		{"mended, and broken otherwise", lost, dialled, []record.Event{down, {Kind: record.KindFault, Name: "link", Node: "B", Text: "down", State: record.FaultHealed, Time: at(20)},
			{Kind: record.KindFault, Name: "block", Text: "B A udp 37020", State: record.FaultInjected, Time: at(21)}},
			record.DiscoveryNoAnnounce, "UDP port 37020 from B to A was blocked, so A had no session with B"},
		{"came up anew", lost, dialled, []record.Event{{Kind: record.KindNode, Node: "B", State: record.StateReady, Time: at(22)}},
			record.DiscoveryNoAnnounce, "announces of B did not reach A, so A had no session with B"},
		{"no fault", lost, dialled, nil, record.SessionNoSynAck, "A got no answer from B when it connected, so A had no session with B"},
		{"a fault of the other kind", lost, dialled, []record.Event{{Kind: record.KindFault, Name: "block", Text: "B A udp 37020", State: record.FaultInjected, Time: at(7)}},
			record.SessionNoSynAck, "A got no answer from B when it connected, so A had no session with B"},
		{"a fault of others", lost, dialled, []record.Event{{Kind: record.KindFault, Name: "link", Node: "C", Text: "down", State: record.FaultInjected, Time: at(7)}},
			record.SessionNoSynAck, "A got no answer from B when it connected, so A had no session with B"},
		{"two faults", lost, dialled, []record.Event{down, {Kind: record.KindFault, Name: "pause", Node: "B", State: record.FaultInjected, Time: at(8)}},
			record.SessionNoSynAck, "B's cable was down and B was paused, so A had no session with B"},
		{"a fault that had no part in it", lost, slices.Concat(both(40), sent("A", "B", decode.SYN, "SYN", 30, 1), sent("B", "A", decode.RST, "RST", 31, 1)),
			[]record.Event{{Kind: record.KindFault, Name: "link", Node: "B", Text: "delay=10ms", State: record.FaultInjected, Time: at(7)}},
			record.SessionReset, "B refused or cut the connections of A, so A had no session with B"},
	} {
		l := New()
		l.Event(record.Event{Kind: record.KindStepStart, Step: 4, Time: at(34)})
		for _, e := range c.events {
			l.Event(e)
		}
		got := l.Explain(reads, Scene{Nodes: []string{"A", "B", "C"}, Packets: func() []decode.Packet { return c.packets }, End: at(35), Lines: func(node string) []console.Line {
			if node == "A" {
				return c.lines
			}
			return nil
		}})
		if got.Reason != c.reason || got.Headline() != c.said {
			t.Errorf("%s: %s, %q; want %s, %q (%q)", c.what, got.Reason, got.Headline(), c.reason, c.said, got.Evidence)
		}
	}
}

// Evidence has the faults that were in force when the step failed, whatever came before and afterwards.
func TestFaultsInForceWhenItFailed(t *testing.T) {
	for _, c := range []struct {
		what   string
		events []record.Event
		want   string
	}{
		{"a crash", []record.Event{{Name: "crash", Node: "B", State: record.FaultInjected, Time: at(1)}}, "crash B"},
		{"a crash, and up again", []record.Event{{Name: "crash", Node: "B", State: record.FaultInjected, Time: at(1)}, {Name: "crash", Node: "B", State: record.FaultHealed, Time: at(2)}}, ""},
		{"a reset", []record.Event{{Name: "reset", Node: "B", State: record.FaultInjected, Time: at(1)}}, "reset B"},
		{"a reset that is over", []record.Event{{Name: "reset", Node: "B", State: record.FaultInjected, Time: at(1)}, {Name: "reset", Node: "B", State: record.FaultObserved, Time: at(2)}}, ""},
		{"a clock", []record.Event{{Name: "clock", Node: "B", Text: "1h", State: record.FaultInjected, Time: at(1)}, {Name: "clock", Node: "B", Text: "1h", State: record.FaultObserved, Time: at(1)}}, ""},
		{"a pause that acts", []record.Event{{Name: "pause", Node: "B", State: record.FaultInjected, Time: at(1)}, {Name: "pause", Node: "B", State: record.FaultObserved, Time: at(1)}}, "pause B"},
		{"asked for in vain", []record.Event{{Name: "partition", State: record.FaultAsked, Time: at(1)}}, ""},
		{"mended by a person afterwards", []record.Event{{Name: "partition", State: record.FaultInjected, Time: at(1)}, {Name: "partition", State: record.FaultHealed, Time: at(9)}}, "partition"},
		{"broken by a person afterwards", []record.Event{{Name: "partition", State: record.FaultInjected, Time: at(9)}}, ""},
		{"twice", []record.Event{{Name: "partition", State: record.FaultInjected, Time: at(1)}, {Name: "partition", State: record.FaultHealed, Time: at(2)}, {Name: "partition", State: record.FaultInjected, Time: at(3)}}, "partition"},
		{"once more", []record.Event{{Name: "partition", State: record.FaultInjected, Time: at(1)}, {Name: "partition", State: record.FaultInjected, Time: at(2)}}, "partition"},
	} {
		l := New()
		for _, e := range c.events {
			e.Kind = record.KindFault
			l.Event(e)
		}
		got := l.Explain(&record.Failure{Reason: record.StepFailed, Step: 1}, Scene{End: at(5)})
		want := ""
		if c.want != "" {
			want = "in force: " + c.want
		}
		if evidence := strings.Join(got.Evidence, "\n"); evidence != want {
			t.Errorf("%s: %q, want %q", c.what, evidence, want)
		}
	}
}

func TestReportsAreToldByTheirLine(t *testing.T) {
	f := &record.Failure{Reason: record.KASAN, Node: "A", Message: "node A: the kernel used memory that is not its to use (KASAN): [ 1.0] BUG: KASAN: x"}
	if got := New().Explain(f, Scene{}).Headline(); got != f.Message {
		t.Errorf("got %q", got)
	}
}
