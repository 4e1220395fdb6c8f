package dsoftbusd

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// A peer that vanishes is noticed, its handles are freed, and it is back as soon as it is.
func TestPeerThatVanishes(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.PingAfter, cfg.Limits.DeadAfter = 50*time.Millisecond, 200*time.Millisecond
	b := lan.start(t, cfg, newStore(map[string][]byte{"system/build.prop": []byte(buildProp)}))
	b.markers.want(ctx, t, "dsoftbusd: ready")
	silent, err := handshakeAs(t, b, deviceOf(t, "node-a").Key, "node-a")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := silent.Send(session.ChannelPackageFS, pk.AppendOpen(nil, "pkg:/system/build.prop")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.waitOpen(ctx, 3); err != nil {
		t.Fatal(err)
	}
	b.markers.want(ctx, t, "dsoftbusd: session lost node-a")
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open when the session is reported lost", n)
	}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	if got, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil || got.Size() != 19 {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestServerThatStops(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	b.halt(t)
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	var told *localapi.Error
	if _, err := io.ReadAll(f); !errors.As(err, &told) || told.Code != localapi.CodeSessionLost {
		t.Errorf("the program was told: %v", err)
	}
	a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	if _, err := remotefs.Dial(ctx, a.socket, "node-b", remotefs.Options{Wait: -1}); !isCode(err, localapi.CodeNoSession) {
		t.Errorf("without the server: %v", err)
	}
}

func isCode(err error, code localapi.Code) bool {
	var e *localapi.Error
	return errors.As(err, &e) && e.Code == code
}

func TestRestartedServerIsFoundAgain(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	files := map[string][]byte{"system/build.prop": []byte(buildProp)}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	for range 3 {
		b := lan.start(t, config(t, "node-b", "node-a"), newStore(files)) // on other ports each time
		if _, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil {
			t.Error(err)
		}
		b.halt(t)
		a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	}
}

// smallBuffers makes the connections of a listener hold little that was not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// lazyPeer gives a node-b that is in the middle of sending to a peer which has stopped reading.
func lazyPeer(t *testing.T, deadAfter time.Duration) (context.Context, *machine, *session.Conn) {
	t.Helper()
	ctx := deadline(t)
	dir := socketFolder(t)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.PingAfter, cfg.Limits.DeadAfter = 50*time.Millisecond, deadAfter
	cfg.Limits.HandshakeTimeout = time.Hour // none of its deadlines may be what ends the session
	network := new(loopback).network(t, dir)
	network.Sessions = smallBuffers{network.Sessions}
	b := &machine{start(t, cfg, network, newStore(map[string][]byte{"big/data": noise(1<<20, 1)})), dir}
	b.markers.want(ctx, t, "dsoftbusd: ready")
	// Before connecting: afterwards the window that was promised at first stays.
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }); err != nil {
			return err
		}
		return set
	}}
	raw, err := dialer.DialContext(ctx, "tcp4", b.network.Sessions.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	lazy, err := session.Initiate(raw, session.Config{Static: deviceOf(t, "node-a").Key, DeviceID: "node-a"}, deviceOf(t, "node-b").Key.Public)
	if err != nil {
		t.Fatal(err)
	}
	lazy.Send(session.ChannelPackageFS, pk.AppendOpen(nil, "pkg:/big/data"))
	for range 1000 {
		lazy.Send(session.ChannelPackageFS, read(1, 0, 32768))
	}
	// Once a part of the first answer is here, the daemon is writing the rest, for which there is no room.
	if _, err := io.CopyN(io.Discard, raw, 1000); err != nil {
		t.Fatal(err)
	}
	return ctx, b, lazy
}

// A peer that reads nothing cannot hold up the end of the daemon.
func TestShutdownWithAPeerThatReadsNothing(t *testing.T) {
	_, b, _ := lazyPeer(t, time.Hour) // so that nothing else ends the waiting
	b.halt(t)
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}

// A peer that reads nothing is given up, however much it says.
func TestPeerThatReadsNothing(t *testing.T) {
	ctx, b, lazy := lazyPeer(t, time.Second)
	for lazy.Send(session.ChannelControl, session.AppendPing(nil)) == nil {
	}
	b.markers.want(ctx, t, "dsoftbusd: session lost node-a")
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}
