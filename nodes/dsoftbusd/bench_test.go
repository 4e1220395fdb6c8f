package dsoftbusd

import (
	"io"
	"testing"

	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// BenchmarkServe measures the serving path alone: a bare session on loopback that keeps 32 READs of 32 KiB on their way.
func BenchmarkServe(b *testing.B) {
	ctx := deadline(b)
	m := new(loopback).start(b, config(b, "node-b", "node-a"), newStore(map[string][]byte{"big/data": noise(1<<20, 1)}))
	m.markers.want(ctx, b, "dsoftbusd: ready")
	c, err := handshakeAs(b, m, deviceOf(b, "node-a").Key, "node-a")
	if err != nil {
		b.Fatal(err)
	}
	next := func() pk.Response {
		for {
			channel, payload, err := c.Recv()
			if err != nil {
				b.Fatal(err)
			}
			if channel == session.ChannelPackageFS {
				r, err := pk.ParseResponse(payload)
				if err != nil || r.Status != pk.OK {
					b.Fatal(r.Status, err)
				}
				return r
			}
		}
	}
	send := func(frame []byte) {
		if err := c.Send(session.ChannelPackageFS, frame); err != nil {
			b.Fatal(err)
		}
	}
	send(pk.AppendOpen(nil, "pkg:/big/data"))
	handle := next().Handle
	const size, ahead = 32768, 32
	var request []byte
	ask := func(n int) {
		request = pk.AppendRead(request[:0], handle, uint32(n%32)*size, size)
		send(request)
	}
	for n := range ahead {
		ask(n)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	n := ahead
	for b.Loop() {
		if r := next(); len(r.Data) != size {
			b.Fatal(len(r.Data))
		}
		ask(n)
		n++
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
