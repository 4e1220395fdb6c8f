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
