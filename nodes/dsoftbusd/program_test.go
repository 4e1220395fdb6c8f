package dsoftbusd

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// listPeers asks a daemon on the fake LAN for its peers.
func listPeers(t *testing.T, n *node, host *fakeHost) []localapi.Peer {
	t.Helper()
	conn := localapi.NewConn(n.connect(t, host))
	defer conn.Close()
	if err := conn.SendControl(localapi.Request{Peers: true}); err != nil {
		t.Fatal(err)
	}
	var list []localapi.Peer
	for {
		reply, err := conn.RecvReply()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, reply.Peers...)
		if !reply.More {
			return list
		}
	}
}

// ask connects a program to a daemon on the fake LAN and asks for a peer.
func ask(t *testing.T, n *node, host *fakeHost, peer string, wait time.Duration) *localapi.Conn {
	t.Helper()
	conn := localapi.NewConn(n.connect(t, host))
	if err := conn.SendControl(localapi.Request{Open: &localapi.Open{Peer: peer, WaitMS: wait.Milliseconds()}}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestProgramThatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, host := startOn(t, newFakeLAN(), 1, "node-a")
		begin := time.Now()
		conn := localapi.NewConn(n.connect(t, host))
		if _, _, err := conn.Recv(); err != io.EOF || time.Since(begin) != firstMessageTime {
			t.Errorf("ended after %s with %v", time.Since(begin), err)
		}
	})
}

func TestProgramWaitsForASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		begin := time.Now()
		for _, wait := range []time.Duration{0, 1500 * time.Millisecond} {
			conn := ask(t, a, host, "node-b", wait)
			if _, err := conn.RecvReply(); !isCode(err, localapi.CodeNoSession) {
				t.Errorf("wait %s: %v", wait, err)
			}
		}
		if took := time.Since(begin); took != 1500*time.Millisecond {
			t.Errorf("waited %s", took)
		}
		conn := ask(t, a, host, "node-b", time.Minute)
		time.Sleep(10 * time.Second)
		begin = time.Now()
		startOn(t, lan, 2, "node-b", "node-a")
		if reply, err := conn.RecvReply(); err != nil || !reply.OK || time.Since(begin) != 0 {
			t.Errorf("%+v, %v after %s", reply, err, time.Since(begin))
		}
	})
}

// Programs that gave up waiting free their places at once.
func TestProgramThatGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, host := startOn(t, newFakeLAN(), 1, "node-a", "node-b")
		begin := time.Now()
		for range 3 * DefaultLimits().Programs {
			conn := ask(t, n, host, "node-b", time.Hour)
			synctest.Wait()
			conn.Close()
		}
		if got := listPeers(t, n, host); len(got) != 1 || time.Since(begin) != 0 {
			t.Errorf("%+v after %s", got, time.Since(begin))
		}
	})
}

// More programs than may be connected wait their turn.
func TestProgramsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, host := startOn(t, newFakeLAN(), 1, "node-a", "node-b")
		for range DefaultLimits().Programs {
			ask(t, n, host, "node-b", 10*time.Second)
		}
		synctest.Wait()
		begin := time.Now()
		listPeers(t, n, host)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("one more was served after %s", took)
		}
	})
}

func TestFrameBeforeTheAnswerToOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, host := startOn(t, newFakeLAN(), 1, "node-a", "node-b")
		conn := ask(t, n, host, "node-b", time.Hour)
		conn.Send(localapi.KindFrame, pk.AppendStat(nil, "pkg:/a/b"))
		if _, err := conn.RecvReply(); !isCode(err, localapi.CodeBadRequest) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBadFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, host := startOn(t, newFakeLAN(), 1, "node-a", "node-b")
		for kind, body := range map[localapi.Kind]string{localapi.KindFrame: "PK", localapi.KindControl: "{}"} {
			conn := localapi.NewConn(n.connect(t, host))
			conn.Send(kind, []byte(body))
			if _, err := conn.RecvReply(); !isCode(err, localapi.CodeBadRequest) {
				t.Errorf("%s %q: %v", kind, body, err)
			}
		}
	})
}

// asServer runs a test with a daemon node-a, its program, and a raw server node-b.
func asServer(t *testing.T, f func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer)) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, host := startOn(t, lan, 1, "node-a", "node-b")
		synctest.Wait()
		peer := lan.host(2)
		t.Cleanup(func() { peer.Close() })
		host.deliver(peer.addr, announceOf(t, "node-b", peer.port))
		raw, err := peer.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		conn, err := session.Respond(raw, session.Config{Static: deviceOf(t, "node-b").Key}, func([32]byte, string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		// Until the peer's first record nothing says that it has let this device in.
		synctest.Wait()
		if _, err := ask(t, a, host, "node-b", 0).RecvReply(); !isCode(err, localapi.CodeNoSession) {
			t.Fatalf("before the first record: %v", err)
		}
		conn.Send(session.ChannelControl, session.AppendPong(nil))
		synctest.Wait()
		program := ask(t, a, host, "node-b", 0)
		if reply, err := program.RecvReply(); err != nil || !reply.OK {
			t.Fatalf("%+v, %v", reply, err)
		}
		f(t, a, program, &rawPeer{conn, raw.(*fakeConn)})
	})
}

func send(t *testing.T, program *localapi.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if err := program.Send(localapi.KindFrame, f); err != nil {
			t.Fatal(err)
		}
	}
}

// Requests and answers pass byte for byte, even when nothing about them is right.
func TestFramesPassAsTheyAre(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		for request, answer := range map[string]string{
			"":                   "PK\x01\x81\x01 with something behind it",
			"xyz":                "PK\x01\x81\xff",
			"PK\x01\x42":         "PK\x01\xc2\x00",
			"PK\x01\x04short":    "PK\x01\x84\x00",
			"PK\x01\x02\x00\x00": "PK\x01\x82\x00\x00",
		} {
			send(t, program, []byte(request))
			if got := server.frame(t); got != request {
				t.Errorf("the peer received %q, want %q", got, request)
			}
			server.Send(session.ChannelPackageFS, []byte(answer))
			if kind, body, err := program.Recv(); err != nil || kind != localapi.KindFrame || string(body) != answer {
				t.Errorf("the program received %q, %v; want %q", body, err, answer)
			}
		}
	})
}

// A frame whose operation lacks the response bit is a request, also while answers are awaited.
func TestRequestsAndAnswersAreToldApart(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		send(t, program, pk.AppendStat(nil, "pkg:/x/y"), pk.AppendClose(nil, 5))
		server.frame(t)
		server.frame(t)
		for _, frame := range []string{"PK\x02\x81\x05", "KP\x01\x81\x05", "PK\x01", "PK\x01\x7f\x00", ""} {
			if got, want := server.call(t, []byte(frame)), string(pk.AppendReject(nil, []byte(frame), pk.BadRequest)); got != want {
				t.Errorf("%q was answered %q, want %q", frame, got, want)
			}
		}
		if got := server.call(t, pk.AppendStat(nil, "pkg:/system/build.prop")); got != string(pk.AppendStatResponse(nil, pk.OK, 19, 0)) {
			t.Errorf("a request in between: %q", got)
		}
		for _, frame := range []string{"PK\x01\x81\x05", "PK\x01\x84\x06"} {
			server.Send(session.ChannelPackageFS, []byte(frame))
			if _, body, err := program.Recv(); err != nil || string(body) != frame {
				t.Errorf("the program received %q, %v; want %q", body, err, frame)
			}
		}
	})
}

// A response that answers nothing ends the session, and is not answered: two peers would otherwise answer each other for ever.
func TestResponseThatNobodyAskedFor(t *testing.T) {
	for name, frame := range map[string]string{
		"of no request":                          "PK\x01\x83\x00\x00\x00",
		"of an unknown operation":                "PK\x01\xff\x01",
		"out of order":                           "PK\x01\x84\x00",
		"no more than its header":                "PK\x01\x81",
		"to an operation that is itself the bit": "PK\x01\x80\x00",
	} {
		t.Run(name, func(t *testing.T) {
			asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
				if name == "out of order" {
					send(t, program, pk.AppendStat(nil, "pkg:/x/y"), pk.AppendClose(nil, 5))
					server.frame(t)
					server.frame(t)
				}
				server.Send(session.ChannelPackageFS, []byte(frame))
				got, err := server.collect()
				if err != io.EOF {
					t.Errorf("ended with %v, want %v", err, io.EOF)
				}
				var reasons []string
				for _, r := range got {
					if r.payload != ping && r.payload != pong {
						reasons = append(reasons, r.payload)
					}
				}
				if want := []string{"\x03" + errUnasked.Error()}; !reflect.DeepEqual(reasons, want) {
					t.Errorf("received %q, want %q", reasons, want)
				}
			})
		})
	}
}

// A program's frame that is a response costs that program its connection, and nobody the session.
func TestProgramThatSendsAResponse(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		send(t, program, pk.AppendClose(nil, 5), []byte("PK\x01\x83\x00"))
		if got, want := server.frame(t), string(pk.AppendClose(nil, 5)); got != want {
			t.Errorf("the peer received %q, want %q", got, want)
		}
		_, err := program.RecvReply()
		if want := (&localapi.Error{Code: localapi.CodeBadRequest}); !errors.Is(err, want) {
			t.Errorf("the program received %v, want %v", err, want)
		}
		a.markers.never(t, "dsoftbusd: session lost")
	})
}

// What a program sends together goes on together, as far as the window allows, and then the rest.
func TestRequestsGoTogether(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		before := server.raw.in.written()
		for range 40 {
			program.Queue(localapi.KindFrame, pk.AppendClose(nil, 7))
		}
		if err := program.Flush(); err != nil {
			t.Fatal(err)
		}
		for range 32 {
			server.frame(t)
		}
		if n := server.raw.in.written() - before; n != 1 {
			t.Errorf("32 requests were %d writes", n)
		}
		go func() {
			for range 40 {
				program.Recv()
			}
		}()
		for range 32 {
			server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.BadF))
		}
		for range 8 {
			server.frame(t)
		}
		for range 8 {
			server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.BadF))
		}
	})
}

// No more requests are on their way than a server reads ahead.
func TestWindow(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		for range 40 {
			send(t, program, pk.AppendClose(nil, 7))
		}
		synctest.Wait()
		got := 0
		count := func() int {
			server.raw.SetReadDeadline(time.Now().Add(time.Millisecond))
			for {
				channel, _, err := server.Recv()
				if err != nil {
					return got
				}
				if channel == session.ChannelPackageFS {
					got++
				}
			}
		}
		if n := count(); n != 32 {
			t.Errorf("%d requests came, want 32", n)
		}
		for range 3 {
			server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.BadF))
		}
		synctest.Wait()
		if n := count(); n != 35 {
			t.Errorf("%d requests came after three answers, want 35", n)
		}
	})
}

// When the session is lost, a program gets the answers that came before, then the reason.
func TestAnswersBeforeTheLoss(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		send(t, program, pk.AppendClose(nil, 1), pk.AppendClose(nil, 2), pk.AppendClose(nil, 3))
		for range 3 {
			server.frame(t)
		}
		for range 2 {
			server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.BadF))
		}
		server.raw.Close()
		for range 2 {
			if kind, _, err := program.Recv(); err != nil || kind != localapi.KindFrame {
				t.Fatalf("an answer is missing: %v", err)
			}
		}
		_, err := program.RecvReply()
		if !isCode(err, localapi.CodeSessionLost) || err.Error() != "session lost node-b" {
			t.Errorf("told %v", err)
		}
		if _, _, err := program.Recv(); err != io.EOF {
			t.Errorf("afterwards %v", err)
		}
	})
}

// A handle that was opened for a program which has gone by then is closed, as
// are those that it had. On a machine that has no time for this daemon the
// link's end is long ago when the program is told of it.
func TestLossIsToldHoweverLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ctx, end := context.WithCancel(t.Context())
		l := &link{peer: &pairedPeer{Pairing: device.Pairing{ID: "node-b"}}, ctx: ctx, calls: newCalls(nil), received: make(chan struct{})}
		carried := make(chan struct{})
		go func() {
			l.carry(localapi.NewConn(ours), make(chan message))
			close(carried)
		}()
		end()
		time.Sleep(2 * lastMessageTime)
		close(l.received)
		if _, err := localapi.NewConn(theirs).RecvReply(); !isCode(err, localapi.CodeSessionLost) {
			t.Errorf("the program was told %v", err)
		}
		<-carried
	})
}

func TestHandlesOfAGoneProgramAreClosed(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		open := pk.AppendOpen(nil, "pkg:/x/y")
		send(t, program, open, open, pk.AppendClose(nil, 11), open)
		for range 4 {
			server.frame(t)
		}
		server.Send(session.ChannelPackageFS, pk.AppendOpenResponse(nil, pk.OK, 11))
		server.Send(session.ChannelPackageFS, pk.AppendOpenResponse(nil, pk.OK, 12))
		server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.OK)) // of 11
		synctest.Wait()
		program.Close()
		if got := server.frame(t); got != string(pk.AppendClose(nil, 12)) {
			t.Errorf("first %q", got)
		}
		server.Send(session.ChannelPackageFS, pk.AppendOpenResponse(nil, pk.OK, 13)) // to the last OPEN
		if got := server.frame(t); got != string(pk.AppendClose(nil, 13)) {
			t.Errorf("then %q", got)
		}
		for range 2 {
			server.Send(session.ChannelPackageFS, pk.AppendCloseResponse(nil, pk.OK))
		}
		synctest.Wait()
		a.markers.never(t, "dsoftbusd: session lost")
	})
}

// A peer that gives out handles without end is no server.
func TestTooManyHandles(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		for i := range maxOwned + 1 {
			send(t, program, pk.AppendOpen(nil, "pkg:/x/y"))
			server.frame(t)
			server.Send(session.ChannelPackageFS, pk.AppendOpenResponse(nil, pk.OK, uint32(i+1)))
			_, _, err := program.Recv()
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := program.Recv(); err != io.EOF {
			t.Errorf("then %v", err)
		}
		a.markers.want(t.Context(), t, "dsoftbusd: session lost node-b")
	})
}

func TestShutdownWithPrograms(t *testing.T) {
	asServer(t, func(t *testing.T, a *node, program *localapi.Conn, server *rawPeer) {
		host := server.raw.remote
		waiting := ask(t, a, host, "node-b", time.Hour)
		silent := localapi.NewConn(a.connect(t, host))
		synctest.Wait()
		begin := time.Now()
		a.halt(t)
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if _, err := program.RecvReply(); !isCode(err, localapi.CodeSessionLost) {
			t.Errorf("a program was told %v", err)
		}
		if _, _, err := silent.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("one that said nothing got %v", err)
		}
		waiting.Close()
	})
}
