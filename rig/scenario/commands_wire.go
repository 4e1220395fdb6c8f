package scenario

import (
	"context"
	"encoding/hex"
	"strconv"

	"dsoftbus-rig/rig/record"
)

func wireCommands() []command {
	asHex := flag{name: "hex", summary: "the last argument is hex, even if there is a file of that name"}
	target := argument{name: "NODE:PORT", kind: endpoint}
	return []command{
		{
			name:    "tcp",
			summary: "the rig itself, as a third party on the LAN, connects, sends the bytes and leaves the answer in `stdout` (hex)",
			detail: "It ends when the other side has closed the connection. HEX may have spaces between bytes. Without `-hex` the last argument is a file of `$WORK` if there is one of that name. " +
				"A connection still open at the deadline is an error; what had come until then is in `stdout`.",
			forms:    []form{{flags: []flag{within, asHex}, args: []argument{target, {name: "FILE|HEX", kind: payload}}}},
			prefixes: "!?*", background: true, output: true, deadline: waitDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				_, forced := b.flags["hex"]
				what, known := k.scope.value(b.args[1].word)
				if !known || (!forced && k.scope.file(what) == nil) {
					return
				}
				if checkHex(k.scope, what) != nil {
					k.problem(st, faultf("write two hexadecimal digits for each byte, or name a fixture", "tcp: %q is neither hex nor a file", what))
				}
			},
			run: runTCP,
		},
		{
			name:    "udp",
			summary: "one datagram from the rig itself, or from whoever `-from` says",
			detail: "ADDR is NODE or IP, with or without :PORT, and need not be anybody's. HEX may have spaces between bytes; " +
				"it is hex with and without `-hex`.",
			forms: []form{{
				flags: []flag{within, asHex, {name: "from", value: "ADDR", kind: source, summary: "sender written into the packet"}},
				args:  []argument{target, {name: "HEX", kind: hexBytes}},
			}},
			prefixes: "!?*", deadline: waitDeadline,
			run: runUDP,
		},
	}
}

func runTCP(ctx context.Context, c *call) error {
	e := c.engine
	what := c.arg("FILE|HEX")
	var send []byte
	var err error
	if rel, f := e.scope.relative(what); !c.has("hex") && f == nil && e.scope.exists(rel) {
		send, err = e.read(what)
	} else if send, err = decodeHex(what); err != nil {
		err = failed(record.Invalid, "tcp: %q is neither hex nor a file", what)
	}
	if err != nil {
		return err
	}
	answer, err := e.cfg.World.LAN().TCP(ctx, c.to, send)
	if len(answer) > 0 {
		c.print(hex.EncodeToString(answer) + "\n")
	}
	if err != nil {
		doing := "tcp " + c.to.String() + ", " + strconv.Itoa(len(answer)) + " bytes of answer"
		return c.explain(ctx, "", doing, err)
	}
	return nil
}

func runUDP(ctx context.Context, c *call) error {
	payload, err := decodeHex(c.arg("HEX"))
	if err != nil {
		return failed(record.Invalid, "udp: %w", err)
	}
	if err := c.engine.cfg.World.LAN().UDP(ctx, c.from, c.to, payload); err != nil {
		return c.explain(ctx, "", "udp "+c.to.String(), err)
	}
	return nil
}
