package session

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// repeated is the wire of one record, to be decrypted again and again.
type repeated struct{ record, rest []byte }

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		r.rest = r.record
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func BenchmarkSend(b *testing.B) {
	for _, size := range []int{14, 32775} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dialler, _, _, _ := tapped(b)
			dialler.rw.(*tap).out = io.Discard
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := dialler.Send(ChannelPackageFS, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSendBatch sends four records at a time.
func BenchmarkSendBatch(b *testing.B) {
	for _, size := range []int{14, 32775} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dialler, _, _, _ := tapped(b)
			dialler.rw.(*tap).out = io.Discard
			payload := make([]byte, size)
			var batch Batch
			b.SetBytes(4 * int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for range 4 {
					if err := batch.Add(ChannelPackageFS, payload); err != nil {
						b.Fatal(err)
					}
				}
				if err := dialler.SendBatch(&batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecv(b *testing.B) {
	for _, size := range []int{14, 32775} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dialler, listener, sent, wire := tapped(b)
			if err := dialler.Send(ChannelPackageFS, make([]byte, size)); err != nil {
				b.Fatal(err)
			}
			wire.in = &repeated{record: bytes.Clone(sent.Bytes())}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				listener.recv.n = 0 // it is the first record every time
				if _, _, err := listener.Recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		x, y := pair(b)
		x.Close()
		y.Close()
	}
}
