package dsoftbusd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// What a paired peer can do that has gone bad, beside what a session ends for.

// hangingFile is one on a device that does not answer.
type hangingFile struct{ wake chan struct{} }

func (f hangingFile) ReadAt(p []byte, _ int64) (int, error) { <-f.wake; return len(p), nil }
func (f hangingFile) Size() int64                           { return 10 }
func (f hangingFile) Close() error                          { return nil }

type fileStore struct{ packagefsd.File }

func (s fileStore) Resolve(context.Context, pk.Name) (packagefsd.File, error) { return s.File, nil }

// However many sessions a peer makes while one of its own does not end, one waits and no more, and not for long.
func TestOneSessionWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		host := lan.host(2)
		file := hangingFile{make(chan struct{})}
		cfg := Config{Device: deviceOf(t, "node-b"), Pairings: pairedWith(t, "node-a"), Limits: DefaultLimits(),
			Packages: fileStore{file}, Markers: newLines(), Log: newLines()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		network := host.network()
		go func() { done <- Run(ctx, cfg, network) }()
		synctest.Wait()
		from := lan.host(1)
		first, err := dialAs(t, "node-a", from, host)
		if err != nil {
			t.Fatal(err)
		}
		first.call(t, pk.AppendOpen(nil, "pkg:/a/f"))
		first.Send(session.ChannelPackageFS, pk.AppendRead(nil, 1, 0, 1))
		synctest.Wait()
		begin := time.Now()
		var more []*rawPeer
		for range 40 {
			peer, err := dialAs(t, "node-a", from, host)
			if err != nil {
				t.Fatal(err)
			}
			more = append(more, peer)
			synctest.Wait() // else a later one may be let in before it
		}
		for i, peer := range more[:39] {
			if got, err := peer.collect(); len(got) != 0 || err != io.EOF || time.Since(begin) != 0 {
				t.Errorf("session %d of 40 got %v, %v, after %s", i+1, got, err, time.Since(begin))
			}
		}
		if got, err := more[39].collect(); len(got) != 0 || err != io.EOF || time.Since(begin) != DefaultLimits().HandshakeTimeout {
			t.Errorf("the last one got %v, %v, after %s", got, err, time.Since(begin))
		}
		close(file.wake)
		synctest.Wait()
		peer, err := dialAs(t, "node-a", from, host)
		if err != nil {
			t.Fatal(err)
		}
		if got := peer.call(t, pk.AppendOpen(nil, "pkg:/a/f")); got != string(pk.AppendOpenResponse(nil, pk.OK, 1)) {
			t.Errorf("afterwards: %q", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The lines that a peer causes by sessions that come and go are bounded, and each end has its beginning.
func TestSessionsThatComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b, host := startOn(t, lan, 2, "node-b", "node-a")
		synctest.Wait()
		from := lan.host(1)
		const seconds = 4
		for range seconds * 100 {
			peer, err := dialAs(t, "node-a", from, host)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := peer.Recv(); err != nil { // its ping: the session is there
				t.Fatal(err)
			}
			peer.Send(session.ChannelControl, session.AppendPing(nil))
			synctest.Wait()
			peer.raw.Close()
			time.Sleep(time.Second / 100)
		}
		synctest.Wait()
		ok, lost := b.markers.count("dsoftbusd: cross-vm session ok node-a"), b.markers.count("dsoftbusd: session lost node-a")
		if ok != lost || ok < row || ok > row+seconds {
			t.Errorf("%d sessions were reported to begin and %d to end, of %d", ok, lost, seconds*100)
		}
		if n := len(b.log.texts()); n > row+seconds+1 {
			t.Errorf("%d lines were logged", n)
		}
		// Those that never sent a record are reported to the log alone, and share the bound.
		before := len(b.log.texts())
		for range 100 {
			peer, err := dialAs(t, "node-a", from, host)
			if err != nil {
				t.Fatal(err)
			}
			peer.raw.Close()
			synctest.Wait()
		}
		if n := len(b.log.texts()) - before; n > 1 {
			t.Errorf("%d further lines were logged", n)
		}
	})
}

// A peer that makes the package service fail and work in turns does not fill the log.
func TestComplaintsAreBounded(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		b.store.set(func() { b.store.sizes = map[string]int64{"system/build.prop": 1000} })
		peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop"))
		for range 200 {
			if got := peer.call(t, pk.AppendRead(nil, 1, 500, 10)); got != string(pk.AppendReadResponse(nil, pk.IO, nil)) {
				t.Fatalf("read behind the end of a file that became shorter: %q", got)
			}
			peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop"))
		}
		n := 0
		for _, line := range b.log.texts() {
			if strings.Contains(line, "answering IO") {
				n++
			}
		}
		if n < 1 || n > row {
			t.Errorf("complained %d times", n)
		}
	})
}

// A stranger who announces a peer at ever new addresses does not fill the log of the one who dials.
func TestLiesDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		synctest.Wait()
		for i := range 600 {
			host.deliver(lan.host(byte(100+i%100)).addr, announceOf(t, "node-b", uint16(1000+i)))
			time.Sleep(50 * time.Millisecond)
		}
		if n := len(a.log.texts()); n > row+30+1 {
			t.Errorf("%d lines in 30 s", n)
		}
	})
}

// Within two seconds of the network's return the pair has a session again, whenever that is: the dialler's wait is then at its
// longest, an attempt may be going on that is too late, or the peer was forgotten.
func TestReturnOfTheNetwork(t *testing.T) {
	var longest time.Duration
	for _, who := range []string{"node-a", "node-b"} {
		for away := 3100 * time.Millisecond; away < 12*time.Second; away += 130 * time.Millisecond {
			t.Run(fmt.Sprintf("%s away %s", who, away), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lan := newFakeLAN()
					a, hostA := startOn(t, lan, 1, "node-a", "node-b")
					b, hostB := startOn(t, lan, 2, "node-b", "node-a")
					goes := map[string]*fakeHost{"node-a": hostA, "node-b": hostB}[who]
					a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b")
					b.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-a")
					time.Sleep(1700 * time.Millisecond)
					goes.pull()
					time.Sleep(away)
					goes.plug()
					begin := time.Now()
					a.markers.want(t.Context(), t, "dsoftbusd: session lost node-b")
					b.markers.want(t.Context(), t, "dsoftbusd: session lost node-a")
					took := a.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-b").Sub(begin)
					took = max(took, b.markers.want(t.Context(), t, "dsoftbusd: cross-vm session ok node-a").Sub(begin))
					if took > 2*time.Second {
						t.Errorf("a pair again after %s", took)
					}
					longest = max(longest, took)
				})
			})
		}
	}
	t.Logf("at most %s", longest)
}

// A session that has ended, though not all it held is free, is not given to a program.
func TestEndingSessionIsNotGivenAway(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	l := &link{peer: &pairedPeer{Pairing: pairedWith(t, "node-a")[0]}, ctx: ctx, end: end}
	s := newLinks()
	s.adopt(l)
	s.comeUp(l)
	if got, _ := s.get("node-a"); got != l {
		t.Fatal("the session is not there")
	}
	l.end(errSilent)
	if got, _ := s.get("node-a"); got != nil {
		t.Error("a program would get a session that has ended")
	}
}
