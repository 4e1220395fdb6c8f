package scenario

import (
	"context"
	"strconv"
	"time"

	"dsoftbus-rig/rig/record"
)

// linkWord is one of the words behind `link NODE`. What they mean together the
// command looks at.
var linkWord = &kind{
	check: func(_ *scope, s string) *fault {
		_, f := parseLink([]string{s})
		if f != nil && (s == "" || !isImpairment(s)) {
			return f
		}
		return nil
	},
	words: func(*scope) []string { return linkWords },
}

// isImpairment reports whether a word may make sense with others only.
func isImpairment(s string) bool {
	l, f := parseLink([]string{"delay=1h", s})
	return f == nil && l.Impairment != Impairment{}
}

// step is a duration with its sign written out.
var clockStep = &kind{check: func(_ *scope, s string) *fault {
	if d, err := time.ParseDuration(s); err != nil || (s[0] != '+' && s[0] != '-') || d == 0 {
		return faultf("write +1h, -24h, …", "bad step %q", s)
	}
	return nil
}}

var portNumber = &kind{check: func(_ *scope, s string) *fault {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return faultf("write a number between 1 and 65535", "bad port %q", s)
	}
	return nil
}}

func faultCommands() []command {
	maybe := flag{name: "maybe", summary: "it need not touch anything"}
	from := argument{name: "FROM", kind: declaredNode}
	to := argument{name: "TO", kind: declaredNode}
	proto := argument{name: "tcp|udp", kind: oneOf("tcp", "udp")}
	port := argument{name: "PORT", kind: portNumber}
	first := flag{name: "n", value: "K", kind: count, summary: "only the first K matching frames"}
	return []command{
		{
			name:    "link",
			acts:    true,
			summary: "the cable of a node: pulled and plugged in again, or what happens to all it sends",
			detail: "WHAT is `down`, `up` or `clear`, or some of `delay=D` `jitter=D` `loss=P%` `dup=P%` `reorder=P%` `corrupt=P%` `rate=N` (`500kbit`, `10mbit`), which " +
				"together take the place of what was there before. `clear` ends all faults of this cable. The host's kernel does it, or, where that lacks netem, the node's own; the record says which. " +
				"A fault that has not touched anything when it ends makes the scenario unproven.",
			forms: []form{{flags: []flag{within, maybe}, args: []argument{
				{name: "NODE", kind: declaredNodes}, {name: "WHAT", kind: linkWord, repeat: true},
			}}},
			prefixes: "!?", deadline: waitDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				var words []string
				for _, w := range b.all("WHAT") {
					text, known := k.scope.value(w)
					if !known || linkWord.check(k.scope, text) != nil {
						return // or has been reported already
					}
					words = append(words, text)
				}
				_, f := parseLink(words)
				k.problem(st, f)
			},
			run: func(ctx context.Context, c *call) error {
				l, f := parseLink(c.all("WHAT"))
				if f != nil {
					return invalid(f)
				}
				l.Maybe = c.has("maybe")
				return c.each(func(node string) error {
					return c.faulted(ctx, node, "link "+node+" "+l.String(), c.engine.cfg.World.Link(ctx, node, l))
				})
			},
		},
		{
			name:    "block",
			acts:    true,
			summary: "drops frames that go from one node to another, one way",
			detail:  "With `tcp` or `udp` only those from or to PORT: what clients send to a service, or what a service answers. Without, every frame, ARP too.",
			forms: []form{
				{flags: []flag{within, first, maybe}, args: []argument{from, to}},
				{flags: []flag{within, first, maybe}, args: []argument{from, to, proto, port}},
			},
			prefixes: "!?", deadline: waitDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				one, known := k.scope.value(b.args[0].word)
				if other, alsoKnown := k.scope.value(b.args[1].word); known && alsoKnown && one == other {
					k.problem(st, faultf("name another node", "no frame goes from node %s to itself", one))
				}
			},
			run: func(ctx context.Context, c *call) error {
				b := c.block()
				return c.faulted(ctx, "", "block "+b.String(), c.engine.cfg.World.Block(ctx, b))
			},
		},
		{
			name:    "unblock",
			acts:    true,
			summary: "ends a block, or all of them",
			forms: []form{
				{flags: []flag{within}},
				{flags: []flag{within}, args: []argument{from, to}},
				{flags: []flag{within}, args: []argument{from, to, proto, port}},
			},
			prefixes: "!?", deadline: waitDeadline,
			run: func(ctx context.Context, c *call) error {
				var which *Block
				doing := "unblock"
				if c.form > 0 {
					b := c.block()
					which, doing = &b, "unblock "+b.String()
				}
				return c.faulted(ctx, "", doing, c.engine.cfg.World.Unblock(ctx, which))
			},
		},
		{
			name:     "partition",
			acts:     true,
			summary:  "no frame crosses, until `heal`; the rig is cut off, too",
			forms:    []form{{flags: []flag{within, maybe}}},
			prefixes: "!?", deadline: waitDeadline,
			run: func(ctx context.Context, c *call) error {
				return c.faulted(ctx, "", "partition", c.engine.cfg.World.Partition(ctx, c.has("maybe")))
			},
		},
		{
			name:     "heal",
			acts:     true,
			summary:  "ends all faults of the network",
			forms:    []form{{flags: []flag{within}}},
			prefixes: "?", deadline: waitDeadline,
			run: func(ctx context.Context, c *call) error {
				return c.faulted(ctx, "", "heal", c.engine.cfg.World.Heal(ctx))
			},
		},
		{
			name:     "clock",
			acts:     true,
			summary:  "steps a node's wall clock",
			detail:   "Clocks that count from the node's boot, and timers on them, go on as they did.",
			forms:    []form{{flags: []flag{within}, args: []argument{{name: "NODE", kind: nodeList}, {name: "+D|-D", kind: clockStep}}}},
			prefixes: "!?", deadline: waitDeadline,
			run: func(ctx context.Context, c *call) error {
				by, err := time.ParseDuration(c.arg("+D|-D"))
				if err != nil {
					return failed(record.Invalid, "clock: %w", err)
				}
				return c.each(func(node string) error {
					return c.faulted(ctx, node, "clock "+node, c.engine.cfg.World.Clock(ctx, node, by))
				})
			},
		},
	}
}

// block is what the arguments of `block` and `unblock` say.
func (c *call) block() Block {
	b := Block{From: c.arg("FROM"), To: c.arg("TO"), Proto: c.arg("tcp|udp"), First: uint32(c.number("n")), Maybe: c.has("maybe")}
	port, _ := strconv.ParseUint(c.arg("PORT"), 10, 16)
	b.Port = uint16(port)
	return b
}

// faulted gives an error of what a fault's verb did its class.
func (c *call) faulted(ctx context.Context, node, doing string, err error) error {
	if err != nil {
		return c.explain(ctx, node, doing, err)
	}
	return nil
}
