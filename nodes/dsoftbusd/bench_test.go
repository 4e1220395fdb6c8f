package dsoftbusd

import (
	"fmt"
	"io"
	"testing"

	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// pipeline is a bare session on loopback that keeps 32 READs on their way and makes no garbage itself: what it allocates,
// and most of the time it takes, is the server's.
type pipeline struct {
	tb      testing.TB
	conn    *session.Conn
	size    int
	handle  uint32
	next    int
	request []byte
}

func newPipeline(tb testing.TB, size int) *pipeline {
	ctx := deadline(tb)
	m := new(loopback).start(tb, config(tb, "node-b", "node-a"), newStore(map[string][]byte{"big/data": noise(1<<20, 1)}))
	m.markers.want(ctx, tb, "dsoftbusd: ready")
	c, err := handshakeAs(tb, m, deviceOf(tb, "node-a").Key, "node-a")
	if err != nil {
		tb.Fatal(err)
	}
	p := &pipeline{tb: tb, conn: c, size: size}
	p.send(pk.AppendOpen(nil, "pkg:/big/data"))
	p.handle = p.receive().Handle
	for range 32 {
		p.ask()
	}
	return p
}

// turn takes one answer and asks for another.
func (p *pipeline) turn() {
	if r := p.receive(); len(r.Data) != p.size {
		p.tb.Fatal(len(r.Data))
	}
	p.ask()
}

func (p *pipeline) ask() {
	p.request = pk.AppendRead(p.request[:0], p.handle, uint32(p.next%32*p.size), uint16(p.size))
	p.send(p.request)
	p.next++
}

func (p *pipeline) send(frame []byte) {
	if err := p.conn.Send(session.ChannelPackageFS, frame); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *pipeline) receive() pk.Response {
	for {
		channel, payload, err := p.conn.Recv()
		if err != nil {
			p.tb.Fatal(err)
		}
		if channel == session.ChannelPackageFS {
			r, err := pk.ParseResponse(payload)
			if err != nil || r.Status != pk.OK {
				p.tb.Fatal(r.Status, err)
			}
			return r
		}
	}
}

// BenchmarkServe measures the serving side, from the socket to the socket.
func BenchmarkServe(b *testing.B) {
	for _, size := range []int{128, 32768} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPipeline(b, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.turn()
			}
		})
	}
}

// BenchmarkServeOneByOne measures the round trip of one READ of 32 KiB.
func BenchmarkServeOneByOne(b *testing.B) {
	ctx, a, _ := twoMachines(b, map[string][]byte{"big/data": noise(1<<20, 1)})
	f, err := a.open(ctx, b, "node-b").Open(ctx, "pkg:/big/data")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 32768)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopyFile measures the whole way, two daemons and the client library: 8 MiB a time.
func BenchmarkCopyFile(b *testing.B) {
	const size = 8 << 20
	ctx, a, _ := twoMachines(b, map[string][]byte{"big/data": noise(size, 1)})
	c, err := remotefs.Dial(ctx, a.socket, "node-b", remotefs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	f, err := c.Open(ctx, "pkg:/big/data")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, f); n != size || err != nil {
			b.Fatal(n, err)
		}
	}
}
