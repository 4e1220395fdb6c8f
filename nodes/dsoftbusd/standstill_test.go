package dsoftbusd

import (
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// A stoodStill is a connection whose deadline has passed whenever somebody says that this side stood still meanwhile: what came is looked at later.
type stoodStill struct {
	net.Conn
	mu    sync.Mutex
	stood bool
}

func (c *stoodStill) Read(b []byte) (int, error) {
	c.mu.Lock()
	stood := c.stood
	c.stood = false
	c.mu.Unlock()
	if stood {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Read(b)
}

// stand has the read that waits end as it does after a standstill.
func (c *stoodStill) stand() {
	c.mu.Lock()
	c.stood = true
	c.mu.Unlock()
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

type stoodStillListener struct {
	net.Listener
	accepted chan *stoodStill
}

func (l stoodStillListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &stoodStill{Conn: c}
	l.accepted <- s
	return s, nil
}

// A device that stood still for longer than a session lives does not take that for its peer's silence, and still notices a peer that is.
func TestOwnStandstillIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		host := lan.host(2)
		network := host.network()
		accepted := make(chan *stoodStill, 1)
		network.Sessions = stoodStillListener{network.Sessions, accepted}
		cfg := Config{Device: deviceOf(t, "node-b"), Pairings: pairedWith(t, "node-a"), Limits: DefaultLimits()}
		b := start(t, cfg, network, newStore(map[string][]byte{"system/build.prop": []byte("x")}))
		synctest.Wait()
		peer, err := dialAs(t, "node-a", lan.host(1), host)
		if err != nil {
			t.Fatal(err)
		}
		raw := <-accepted
		peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop"))
		for range 10 {
			raw.stand()
			synctest.Wait()
			if err := peer.Send(session.ChannelControl, session.AppendPing(nil)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if got := peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop")); got != string(pk.AppendStatResponse(nil, pk.OK, 1, pk.KindFile)) {
			t.Errorf("afterwards: %q", got)
		}
		if n := b.markers.count("dsoftbusd: session lost node-a"); n != 0 {
			t.Errorf("the session was lost %d times", n)
		}
		// A peer that is silent is dead in time all the same.
		quiet := time.Now()
		if _, err := peer.collect(); err == nil {
			t.Error("a silent peer was not given up")
		}
		if took := time.Since(quiet); took != DefaultLimits().DeadAfter {
			t.Errorf("it was given up after %s", took)
		}
	})
}
