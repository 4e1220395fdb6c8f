package dsoftbusd

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"dsoftbus-rig/protocol/session"
)

// rawPeer is a peer played by a test: a session without any of the rules that a daemon follows.
type rawPeer struct {
	*session.Conn
	raw *fakeConn
}

// dialAs connects to node-b as a device would.
func dialAs(t *testing.T, id string, from, to *fakeHost) (*rawPeer, error) {
	t.Helper()
	return dialWith(t, deviceOf(t, id).Key, id, from, to)
}

// dialWith connects to node-b with any key and any id.
func dialWith(t *testing.T, key session.KeyPair, id string, from, to *fakeHost) (*rawPeer, error) {
	t.Helper()
	raw, err := from.dial(context.Background(), netip.AddrPortFrom(to.addr, to.port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	target := deviceOf(t, "node-b")
	conn, err := session.Initiate(raw, session.Config{Static: key, DeviceID: id}, target.Key.Public)
	return &rawPeer{conn, raw.(*fakeConn)}, err
}

// record is what a rawPeer received, and when.
type record struct {
	at      time.Time
	channel uint32
	payload string
}

// collect receives until the session ends, and gives what came and why it ended.
func (p *rawPeer) collect() ([]record, error) {
	var all []record
	for {
		channel, payload, err := p.Recv()
		if err != nil {
			return all, err
		}
		all = append(all, record{time.Now(), channel, string(payload)})
	}
}

// call sends a PK frame and gives the answer's, past control records.
func (p *rawPeer) call(t *testing.T, frame []byte) string {
	t.Helper()
	if err := p.Send(session.ChannelPackageFS, frame); err != nil {
		t.Fatal(err)
	}
	return p.frame(t)
}

// frame gives the next PK frame.
func (p *rawPeer) frame(t *testing.T) string {
	t.Helper()
	for {
		channel, payload, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if channel == session.ChannelPackageFS {
			return string(payload)
		}
	}
}
