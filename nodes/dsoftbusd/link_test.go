package dsoftbusd

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// asPeer runs a test with a daemon node-b and a raw peer node-a connected to it.
func asPeer(t *testing.T, f func(t *testing.T, b *node, peer *rawPeer)) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b, host := startOn(t, lan, 2, "node-b", "node-a")
		synctest.Wait()
		peer, err := dialAs(t, "node-a", lan.host(1), host)
		if err != nil {
			t.Fatal(err)
		}
		f(t, b, peer)
	})
}

var (
	ping = string(session.AppendPing(nil))
	pong = string(session.AppendPong(nil))
)

func TestSilentPeer(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		begin := time.Now()
		peer.Send(session.ChannelControl, session.AppendPong(nil)) // the first record
		if got := peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop")); got != "PK\x01\x82\x00\x01\x00\x00\x00" {
			t.Fatalf("open: %q", got)
		}
		if n, _ := b.store.opened(); n != 1 {
			t.Fatalf("%d files are open", n)
		}
		got, err := peer.collect()
		if err != io.EOF {
			t.Errorf("ended with %v", err)
		}
		var times []int64
		var payloads []string
		for _, r := range got {
			times = append(times, r.at.Sub(begin).Milliseconds())
			payloads = append(payloads, r.payload)
		}
		// Two pings go out at an instant when something else does too, and may come on either side of it or not at all: the
		// one at the beginning, and the one that is due when the session dies.
		for i := len(times) - 1; i >= 0; i-- {
			if (times[i] == 0 || times[i] == 3000) && payloads[i] == ping {
				times, payloads = slices.Delete(times, i, i+1), slices.Delete(payloads, i, i+1)
			}
		}
		if !reflect.DeepEqual(times, []int64{1000, 2000, 3000}) || !reflect.DeepEqual(payloads, []string{ping, ping, "\x03peer is silent"}) {
			t.Errorf("received %q at %d ms", payloads, times)
		}
		if at := b.markers.want(t.Context(), t, "dsoftbusd: session lost node-a"); at.Sub(begin) != 3*time.Second {
			t.Errorf("lost after %s", at.Sub(begin))
		}
		if n, _ := b.store.opened(); n != 0 {
			t.Errorf("%d files are open after the session", n)
		}
	})
}

// A session without traffic lives as long as both sides answer.
func TestIdleSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, _ := startOn(t, lan, 1, "node-a", "node-b")
		b, _ := startOn(t, lan, 2, "node-b", "node-a")
		time.Sleep(time.Hour)
		for _, n := range []*node{a, b} {
			n.markers.never(t, "dsoftbusd: session lost")
		}
		if got := len(lan.attempts()); got != 1 {
			t.Errorf("dialled %d times", got)
		}
	})
}

// The marker says that the peer's first record was decrypted; a handshake alone does not tell that.
func TestSessionIsUpWithTheFirstRecord(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		go peer.collect()
		time.Sleep(2 * time.Second)
		b.markers.never(t, "dsoftbusd: cross-vm session ok")
		peer.Send(session.ChannelControl, session.AppendPing(nil))
		synctest.Wait()
		if b.markers.count("dsoftbusd: cross-vm session ok node-a") != 1 {
			t.Errorf("printed %q", b.markers.texts())
		}
	})
}

func TestSessionWithoutRecordIsNeitherOkNorLost(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.raw.Close()
		synctest.Wait()
		b.markers.never(t, "dsoftbusd: cross-vm session ok")
		b.markers.never(t, "dsoftbusd: session lost")
	})
}

func TestPingIsAnswered(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.Send(session.ChannelControl, session.AppendPing(nil))
		for want, left := pong, 5; ; left-- {
			_, payload, err := peer.Recv()
			if err != nil || left == 0 {
				t.Fatalf("no pong: %v", err)
			}
			if string(payload) == want {
				return
			}
		}
	})
}

func TestWhatEndsASession(t *testing.T) {
	garbage := append([]byte{0, 40}, make([]byte, 40)...)
	tests := []struct {
		name string
		do   func(p *rawPeer)
		told string // the close record, if any
	}{
		{"unknown channel", func(p *rawPeer) { p.Send(5, []byte("x")) }, "\x03unknown channel 5"},
		{"unknown control message", func(p *rawPeer) { p.Send(session.ChannelControl, []byte{9}) }, "\x03session: malformed control message: kind 9"},
		{"empty control message", func(p *rawPeer) { p.Send(session.ChannelControl, nil) }, "\x03session: malformed control message: empty"},
		{"close", func(p *rawPeer) { p.Send(session.ChannelControl, session.AppendClose(nil, "bye")) }, ""},
		{"end of the stream", func(p *rawPeer) { p.raw.Close() }, ""},
		{"undecryptable record", func(p *rawPeer) { p.raw.Write(garbage) }, ""},
		{"record too short", func(p *rawPeer) { p.raw.Write([]byte{0, 19}) }, "\x03session: record too short: 19 bytes"},
		{"record of 65,535 bytes of garbage", func(p *rawPeer) { p.raw.Write(append([]byte{0xff, 0xff}, make([]byte, 65535)...)) }, ""},
		{"record cut short", func(p *rawPeer) { p.raw.Write(garbage[:20]); p.raw.Close() }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
				begin := time.Now()
				for i := range 3 {
					if got := peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop")); got != string(pk.AppendOpenResponse(nil, pk.OK, uint32(i+1))) {
						t.Fatalf("open: %q", got)
					}
				}
				tt.do(peer)
				if at := b.markers.want(t.Context(), t, "dsoftbusd: session lost node-a"); at != begin {
					t.Errorf("lost after %s", at.Sub(begin))
				}
				if n, _ := b.store.opened(); n != 0 {
					t.Errorf("%d files are open after the session", n)
				}
				got, _ := peer.collect()
				told := ""
				for _, r := range got {
					if r.channel == session.ChannelControl && strings.HasPrefix(r.payload, "\x03") {
						told += r.payload
					}
				}
				if told != tt.told {
					t.Errorf("peer was told %q, want %q", told, tt.told)
				}
			})
		})
	}
}

// A peer that trickles the bytes of one record is silent: only whole records count.
func TestTricklingPeerIsSilent(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		begin := time.Now()
		peer.Send(session.ChannelControl, session.AppendPong(nil))
		var trickle sync.WaitGroup
		defer trickle.Wait()
		trickle.Go(func() {
			for range 100 {
				if _, err := peer.raw.Write([]byte{0x10}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		if at := b.markers.want(t.Context(), t, "dsoftbusd: session lost node-a"); at.Sub(begin) != 3*time.Second {
			t.Errorf("lost after %s", at.Sub(begin))
		}
	})
}

// A newer session of the same device takes the old one's place, and the old one's handles are freed first.
func TestNewerSessionReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b, host := startOn(t, lan, 2, "node-b", "node-a")
		synctest.Wait()
		from := lan.host(1)
		var peers []*rawPeer
		for range 3 {
			peer, err := dialAs(t, "node-a", from, host)
			if err != nil {
				t.Fatal(err)
			}
			// Handles begin anew with each session.
			if got := peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop")); got != string(pk.AppendOpenResponse(nil, pk.OK, 1)) {
				t.Fatalf("open: %q", got)
			}
			peers = append(peers, peer)
		}
		if n, _ := b.store.opened(); n != 1 {
			t.Errorf("%d files are open, want the newest session's", n)
		}
		want := []string{
			"dsoftbusd: ready",
			"dsoftbusd: cross-vm session ok node-a",
			"dsoftbusd: remote packagefs served",
			"dsoftbusd: session lost node-a",
			"dsoftbusd: cross-vm session ok node-a",
			"dsoftbusd: session lost node-a",
			"dsoftbusd: cross-vm session ok node-a",
		}
		if got := b.markers.texts(); !reflect.DeepEqual(got, want) {
			t.Errorf("printed %q", got)
		}
		for _, old := range peers[:2] {
			got, err := old.collect()
			if err != io.EOF || !slices.ContainsFunc(got, func(r record) bool { return r.payload == "\x03replaced by a newer session" }) {
				t.Errorf("the old session got %+v, %v", got, err)
			}
		}
	})
}

// A peer that reads nothing while it asks for much is cut off, not waited for. The fake network takes everything that is
// written, so it is the count of requests that shows: the queue is bounded, and what is beyond it stays on the wire.
func TestReadAheadIsBounded(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		b.store.set(func() { b.store.stuck = true })
		for range 100 {
			if err := peer.Send(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		// What the daemon has not taken in lies in its receive buffer, which it reads ahead as bytes; so look from the other
		// side: a ping behind the requests is answered only when all but the read-ahead of them are.
		peer.Send(session.ChannelControl, session.AppendPing(nil))
		answers := 0
		for {
			channel, payload, err := peer.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if channel == session.ChannelPackageFS {
				answers++
				if answers == 3 {
					b.store.set(func() { b.store.stuck = false })
				}
			}
			if string(payload) == pong {
				break
			}
		}
		if want := 100 - 1 - DefaultLimits().ReadAhead; answers < want {
			t.Errorf("the ping behind 100 requests was taken in after %d answers, want at least %d", answers, want)
		}
	})
}

// Requests that come together are answered together.
func TestAnswersGoTogether(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop"))
		// While the package service hangs, which is over when there is nothing else left to do, all others come to wait.
		b.store.set(func() { b.store.stuck = true })
		var requests session.Batch
		requests.Add(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
		for range 10 {
			requests.Add(session.ChannelPackageFS, pk.AppendRead(nil, 1, 0, 5))
		}
		if err := peer.SendBatch(&requests); err != nil {
			t.Fatal(err)
		}
		// A sign of life, so that no ping is among what is counted.
		time.Sleep(DefaultLimits().ResolveTimeout - DefaultLimits().PingAfter/2)
		if err := peer.Send(session.ChannelControl, session.AppendPong(nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := peer.raw.in.written()
		peer.frame(t)
		for range 10 {
			if got := peer.frame(t); got != "PK\x01\x83\x00\x05\x00ro.ne" {
				t.Errorf("answered %q", got)
			}
		}
		if n := peer.raw.in.written() - before; n != 1 {
			t.Errorf("eleven answers were %d writes", n)
		}
	})
}

// An answer does not wait for those behind it that take long, nor for requests that are still to come.
func TestAnswersDoNotWait(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.call(t, pk.AppendOpen(nil, "pkg:/system/build.prop"))
		b.store.set(func() { b.store.stuck = true })
		begin := time.Now()
		var requests session.Batch
		requests.Add(session.ChannelPackageFS, pk.AppendRead(nil, 1, 0, 5))
		requests.Add(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
		requests.Add(session.ChannelPackageFS, pk.AppendRead(nil, 1, 0, 5))
		if err := peer.SendBatch(&requests); err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{0, DefaultLimits().ResolveTimeout, DefaultLimits().ResolveTimeout} {
			peer.frame(t)
			if took := time.Since(begin); took != want {
				t.Errorf("answer %d came after %s, want %s", i, took, want)
			}
		}
	})
}

// While the package service hangs, the answer is IO before the session would be taken for dead, and others are served.
func TestStuckPackageService(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		b.store.set(func() { b.store.stuck = true })
		begin := time.Now()
		for range 3 {
			if got := peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop")); got != string(pk.AppendStatResponse(nil, pk.IO, 0, 0)) {
				t.Errorf("answered %q", got)
			}
		}
		if took := time.Since(begin); took != 3*DefaultLimits().ResolveTimeout {
			t.Errorf("three answers took %s", took)
		}
		b.store.set(func() { b.store.stuck = false })
		if got := peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop")); got != string(pk.AppendStatResponse(nil, pk.OK, 19, 0)) {
			t.Errorf("when it is back: %q", got)
		}
		b.markers.never(t, "dsoftbusd: session lost")
		if got := b.log.texts(); len(got) != 2 {
			t.Errorf("logged %q", got)
		}
		b.store.set(func() { b.store.away = true })
		peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop"))
		if got := b.log.texts(); len(got) != 3 {
			t.Errorf("away once more, and logged %q", got)
		}
	})
}

// Shutting down takes less than a second whatever hangs, and tells the peer.
func TestShutdown(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		b.store.set(func() { b.store.stuck = true })
		peer.Send(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
		synctest.Wait()
		begin := time.Now()
		b.stop()
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
		got, err := peer.collect()
		if err != io.EOF || !slices.ContainsFunc(got, func(r record) bool { return r.payload == "\x03shutting down" }) {
			t.Errorf("the peer got %+v, %v", got, err)
		}
		if b.markers.count("dsoftbusd: session lost node-a") != 1 {
			t.Errorf("printed %q", b.markers.texts())
		}
	})
}

// The peer's reason is the peer's text: it must not become lines of its own.
func TestReasonIsQuoted(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.Send(session.ChannelControl, session.AppendClose(nil, "bye\nSELFTEST: forged \x1b[2J"))
		b.markers.want(t.Context(), t, "dsoftbusd: session lost node-a")
		synctest.Wait()
		for _, text := range b.log.texts() {
			if strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("logged %q", text)
			}
		}
	})
}

func TestServedOnceAfterTheFirstOK(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		peer.call(t, pk.AppendStat(nil, "pkg:/missing/x"))
		peer.call(t, pk.AppendClose(nil, 1))
		peer.call(t, pk.AppendStat(nil, "file:/x"))
		b.markers.never(t, "dsoftbusd: remote packagefs served")
		peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop"))
		peer.call(t, pk.AppendStat(nil, "pkg:/system/build.prop"))
		synctest.Wait()
		if got := b.markers.count("dsoftbusd: remote packagefs served"); got != 1 {
			t.Errorf("served %d times", got)
		}
	})
}

// Answers come in the order of the requests, whatever they are.
func TestPipelinedAnswersAreInOrder(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		requests := [][]byte{
			pk.AppendOpen(nil, "pkg:/system/build.prop"), pk.AppendRead(nil, 1, 0, 5), {'x'}, pk.AppendRead(nil, 1, 5, 5), nil,
			pk.AppendStat(nil, "pkg:/../x"), pk.AppendClose(nil, 1), pk.AppendClose(nil, 1), {'P', 'K', 1, 0x42},
		}
		want := []string{
			"PK\x01\x82\x00\x01\x00\x00\x00", "PK\x01\x83\x00\x05\x00ro.ne", "PK\x01\x81\x01", "PK\x01\x83\x00\x05\x00xus.b", "PK\x01\x81\x01",
			"PK\x01\x81\x03", "PK\x01\x84\x00", "PK\x01\x84\x06", "PK\x01\xc2\x01",
		}
		for _, r := range requests {
			if err := peer.Send(session.ChannelPackageFS, r); err != nil {
				t.Fatal(err)
			}
		}
		for i := range want {
			if got := peer.frame(t); got != want[i] {
				t.Errorf("answer %d is %q, want %q", i, got, want[i])
			}
		}
	})
}

func TestStreamDoesNotWaitForAPeerThatReadsNothing(t *testing.T) {
	broken := errors.New("would wait")
	s := &stream{Conn: &deadlineConn{err: broken}}
	if _, err := s.Write(nil); err != nil {
		t.Errorf("without patience: %v", err)
	}
	s.patience = time.Second
	if _, err := s.Write(nil); err != broken {
		t.Errorf("with patience: %v", err)
	}
}

// deadlineConn fails its writes once a write deadline is set.
type deadlineConn struct {
	fakeConn
	err error
	set bool
}

func (c *deadlineConn) SetWriteDeadline(time.Time) error { c.set = true; return nil }

func (c *deadlineConn) Write(p []byte) (int, error) {
	if c.set {
		return 0, c.err
	}
	return len(p), nil
}

func TestEmptyFrameDoesNotEndTheSession(t *testing.T) {
	asPeer(t, func(t *testing.T, b *node, peer *rawPeer) {
		if got := peer.call(t, bytes.Repeat([]byte{'x'}, session.MaxPayload)); got != "PK\x01\xf8\x01" {
			t.Errorf("the largest frame: %q", got)
		}
		if got := peer.call(t, nil); got != "PK\x01\x81\x01" {
			t.Errorf("the empty frame: %q", got)
		}
	})
}
