package locate

import (
	"fmt"
	"slices"
	"strings"

	"dsoftbus-rig/rig/record"
)

// sentence says in one sentence why a node had no session: by the faults that kept it from having one, or, where there was none of them, by what was missing.
func (p *pair) sentence(reason record.Reason, faults []*fault) string {
	var causes []string
	switch reason {
	case record.SessionReset, record.SessionDenied: // the other one has said so itself, whatever else there was
	default:
		for _, f := range faults {
			if cause := p.cause(f, reason); cause != "" {
				causes = append(causes, cause)
			}
		}
	}
	if len(causes) == 0 {
		causes = []string{p.missing(reason)}
	}
	return fmt.Sprintf("%s, so %s had no session with %s", strings.Join(causes, " and "), p.wanting, p.peer)
}

// cause says of a fault in force that it kept two nodes from having a session; "" when it is none that does.
func (p *pair) cause(f *fault, reason record.Reason) string {
	ours := f.node == p.dialler || f.node == p.acceptor
	switch {
	case f.name == "partition":
		return "the network was partitioned"
	case f.name == "link" && f.text == "down" && ours:
		return f.node + "'s cable was down"
	case f.name == "link" && ours:
		return fmt.Sprintf("what %s sends was impaired (%s)", f.node, f.text)
	case f.name == "pause" && ours:
		return f.node + " was paused"
	case f.name == "crash" && ours:
		return f.node + "'s power was cut"
	case f.name == "reset" && ours:
		return f.node + " was being reset"
	case f.name == "block":
		words := strings.Fields(f.text) // FROM TO [PROTO PORT]
		if len(words) < 2 || !slices.Contains([]string{p.dialler, p.acceptor}, words[0]) || !slices.Contains([]string{p.dialler, p.acceptor}, words[1]) {
			return ""
		}
		what := "every frame"
		if len(words) >= 4 {
			// Announces go by UDP, sessions by TCP.
			if (words[2] == "udp") != (reason == record.DiscoveryNoAnnounce) {
				return ""
			}
			what = fmt.Sprintf("%s port %s", strings.ToUpper(words[2]), words[3])
		}
		return fmt.Sprintf("%s from %s to %s was blocked", what, words[0], words[1])
	}
	return ""
}

// missing says what did not happen.
func (p *pair) missing(reason record.Reason) string {
	d, a := p.dialler, p.acceptor
	switch reason {
	case record.SessionDenied:
		return fmt.Sprintf("%s and %s did not accept each other's keys", d, a)
	case record.SessionReset:
		return fmt.Sprintf("%s refused or cut the connections of %s", a, d)
	case record.HandshakeStalled:
		return fmt.Sprintf("the handshake of %s and %s did not come to its end", d, a)
	case record.SessionNoSynAck:
		return fmt.Sprintf("%s got no answer from %s when it connected", d, a)
	case record.DiscoveryNoAnnounce:
		if p.announced[a] > 0 {
			return fmt.Sprintf("announces of %s did not reach %s", a, d)
		}
		return fmt.Sprintf("%s announced nothing", a)
	}
	if p.asked > 0 {
		return fmt.Sprintf("%s did not learn the address of %s", d, a)
	}
	return fmt.Sprintf("%s, which dials, did not connect to %s", d, a)
}
