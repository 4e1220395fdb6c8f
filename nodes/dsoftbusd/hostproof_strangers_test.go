package dsoftbusd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// What strangers do at the session port: no answer byte, and nothing of it reaches a session.
func TestStrangersAtTheSessionPort(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	works := func(after string) {
		t.Helper()
		if _, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	for name, sent := range map[string]string{
		"garbage":                        string(noise(1000, 9)),
		"a PK frame without a handshake": string(pk.AppendStat(nil, "pkg:/system/build.prop")),
		"a forged first message":         "\x00\x30" + string(noise(48, 9)),
	} {
		s := visit(t, b)
		s.Write([]byte(sent))
		if !closedWithoutAnswer(s) {
			t.Errorf("%s was answered", name)
		}
		works(name)
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake failed")

	half := visit(t, b)
	half.Write([]byte("\x00\x30half"))
	half.(interface{ CloseWrite() error }).CloseWrite()
	if !closedWithoutAnswer(half) {
		t.Error("a truncated handshake was answered")
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake cut short")
	works("a truncated handshake")

	denied := func(name string, key session.KeyPair, id, marker string) {
		t.Helper()
		s, err := handshakeAs(t, b, key, id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Send(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
		if channel, payload, err := s.Recv(); err == nil {
			t.Errorf("%s was answered %q on channel %d", name, payload, channel)
		}
		b.markers.want(ctx, t, marker)
		works(name)
	}
	denied("an unpaired device", deviceOf(t, "node-x").Key, "node-x", "dsoftbusd: session denied not paired")
	denied("a wrong key", deviceOf(t, "node-x").Key, "node-a", "dsoftbusd: session denied wrong key")

	for name, m := range map[string]*machine{"node-a": a, "node-b": b} {
		m.markers.never(t, "dsoftbusd: session lost")
		if n := m.markers.count("dsoftbusd: cross-vm session ok node-a") + m.markers.count("dsoftbusd: cross-vm session ok node-b"); n != 1 {
			t.Errorf("%s: %d sessions", name, n)
		}
	}
}

func TestHandshakesThatNeverEnd(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.HandshakeTimeout = 300 * time.Millisecond
	b := lan.start(t, cfg, newStore(map[string][]byte{"system/build.prop": []byte(buildProp)}))
	b.markers.want(ctx, t, "dsoftbusd: ready")
	// A listener accepts in the order of the connections, so it is the last one that finds no place.
	for range 16 {
		visit(t, b)
	}
	seventeenth := visit(t, b)
	if !closedWithoutAnswer(seventeenth) {
		t.Error("the seventeenth was answered")
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied too many handshakes")
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake timeout")
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	if _, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Lies about a paired device over UDP cost nothing that can be seen.
func TestForgedAnnounces(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	tell(t, a.node, []byte("NXSB\x02"))
	a.markers.want(ctx, t, "dsoftbusd: announce ignored (malformed)")
	tell(t, a.node, announceOf(t, "node-b", 1, func(n *nxsb.Announce) { n.Key[0]++ }))
	a.markers.want(ctx, t, "dsoftbusd: identity mismatch peer=node-b")
	tell(t, a.node, announceOf(t, "node-b", 1)) // the right key, a wrong port
	if _, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil {
		t.Error(err)
	}
	a.markers.never(t, "dsoftbusd: session lost")
	b.markers.never(t, "dsoftbusd: session lost")
}

// Nothing that a daemon prints, and nothing that prints a daemon's configuration, holds the private key.
func TestNothingShowsThePrivateKey(t *testing.T) {
	ctx, a, b := twoMachines(t, nil)
	tell(t, a.node, announceOf(t, "node-b", 1, func(n *nxsb.Announce) { n.Key[0]++ }))
	a.markers.want(ctx, t, "dsoftbusd: identity mismatch peer=node-b")
	b.halt(t)
	a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	cfg := config(t, "node-a", "node-b")
	d, err := newDaemon(cfg, a.network)
	if err != nil {
		t.Fatal(err)
	}
	private := deviceOf(t, "node-a").Key.Private
	texts := append(a.markers.texts(), a.log.texts()...)
	for _, v := range []any{cfg, &cfg, cfg.Device, d} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	for _, form := range []string{
		fmt.Sprintf("%x", private[:]), fmt.Sprintf("%X", private[:]), fmt.Sprint([32]byte(private)), fmt.Sprintf("%#v", [32]byte(private)), string(private[:]),
	} {
		form = strings.Trim(form, "[]")
		for _, text := range texts {
			if strings.Contains(text, form) {
				t.Errorf("shown in %q", text)
			}
		}
	}
}
