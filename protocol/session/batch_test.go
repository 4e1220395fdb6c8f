package session

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"testing"

	"github.com/flynn/noise"
)

// writes counts the writes to a connection.
type writes struct {
	bytes.Buffer
	n int
}

func (w *writes) Write(p []byte) (int, error) {
	w.n++
	return w.Buffer.Write(p)
}

// A batch is one write, and what arrives is what Send would have sent, in order.
func TestBatch(t *testing.T) {
	dialler, listener, _, wire := tapped(t)
	var out writes
	dialler.rw.(*tap).out = &out
	var b Batch
	if err := dialler.SendBatch(&b); err != nil || out.n != 0 {
		t.Fatalf("an empty batch: %v, %d writes", err, out.n)
	}
	var want []string
	for round := range 3 {
		for _, size := range []int{0, 1, 5, 32775, MaxPayload, 128} {
			payload := bytes.Repeat([]byte{byte(size + round)}, size)
			want = append(want, string(payload))
			var err error
			if size%2 == 0 {
				err = b.Add(ChannelPackageFS, payload)
			} else {
				err = b.End(ChannelPackageFS, append(b.Begin(), payload...))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		size := b.Len()
		before := out.Len()
		if err := dialler.SendBatch(&b); err != nil || out.n != round+1 || b.Len() != 0 {
			t.Fatalf("round %d: %v, %d writes, %d bytes are left", round, err, out.n, b.Len())
		}
		if got := out.Len() - before; got != size {
			t.Errorf("%d bytes were written, %d announced", got, size)
		}
	}
	wire.in = &out
	for i, w := range want {
		channel, payload, err := listener.Recv()
		if err != nil || channel != ChannelPackageFS || string(payload) != w {
			t.Fatalf("record %d: channel %d, %d bytes, want %d, %v", i, channel, len(payload), len(w), err)
		}
	}
}

// Too much is no record, and harms none of those before and after it.
func TestBatchTooLong(t *testing.T) {
	dialler, listener, sent, wire := tapped(t)
	var b Batch
	b.Add(ChannelPackageFS, []byte("one"))
	for _, err := range []error{
		b.Add(ChannelPackageFS, make([]byte, MaxPayload+1)),
		b.End(ChannelPackageFS, append(b.Begin(), make([]byte, MaxPayload+1)...)),
	} {
		if !errors.Is(err, ErrPayloadLength) {
			t.Errorf("got %v", err)
		}
	}
	b.Add(ChannelPackageFS, []byte("two"))
	if err := dialler.SendBatch(&b); err != nil {
		t.Fatal(err)
	}
	wire.in = sent
	for _, want := range []string{"one", "two"} {
		if _, got, err := listener.Recv(); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// After a failed write a batch is dropped unsent: part of the one before may be on its way.
func TestBatchAfterError(t *testing.T) {
	dialler, _, sent, _ := tapped(t)
	broken := errors.New("broken")
	dialler.rw.(*tap).out = failing{broken}
	dialler.Send(ChannelControl, AppendPing(nil))
	dialler.rw.(*tap).out = sent
	var b Batch
	b.Add(ChannelPackageFS, []byte("x"))
	if err := dialler.SendBatch(&b); !errors.Is(err, broken) || sent.Len() != 0 || b.Len() != 0 {
		t.Errorf("%v, %d bytes were written, %d kept", err, sent.Len(), b.Len())
	}
}

// Ready means that a record is there whole, however it came.
func TestReady(t *testing.T) {
	dialler, listener, sent, wire := tapped(t)
	for range 3 {
		if err := dialler.Send(ChannelPackageFS, []byte("payload")); err != nil {
			t.Fatal(err)
		}
	}
	record := sent.Len() / 3
	b := sent.Bytes()
	wire.in = &script{b[:2*record+1], b[2*record+1 : 3*record]}
	for i, want := range []bool{false, true, false, false} {
		if got := listener.Ready(); got != want {
			t.Errorf("before record %d: %v, want %v", i, got, want)
		}
		listener.Recv()
	}
	if !listener.Ready() {
		t.Error("not ready to say again that the stream has ended")
	}
}

// Records of every size come through whatever pieces the connection gives them in, while the memory is used over and over.
func TestInboxPieces(t *testing.T) {
	for _, piece := range []int{1000, 65537, 100_000, inboxSize} {
		dialler, listener, sent, wire := tapped(t)
		for i := range 40 {
			if err := dialler.Send(ChannelPackageFS, bytes.Repeat([]byte{byte(i)}, i*1670)); err != nil {
				t.Fatal(err)
			}
		}
		wire.in = &pieces{sent.Bytes(), piece}
		for i := range 40 {
			_, got, err := listener.Recv()
			if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, i*1670)) {
				t.Fatalf("pieces of %d: record %d has %d bytes, %v", piece, i, len(got), err)
			}
		}
	}
}

// pieces gives n bytes at a time at most.
type pieces struct {
	rest []byte
	n    int
}

func (s *pieces) Read(p []byte) (int, error) {
	n := copy(p, s.rest[:min(s.n, len(s.rest))])
	s.rest = s.rest[n:]
	return n, nil
}

// What came behind the last message of the handshake is the first of the records.
func TestRecordsBehindTheHandshake(t *testing.T) {
	near, far := net.Pipe()
	held := &holding{Conn: near}
	bob := keyPair(t, 2)
	done := respond(far, Config{Static: bob}, anyone)
	c, err := Initiate(held, Config{Static: keyPair(t, 1), DeviceID: "node-a"}, bob.Public)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(ChannelPackageFS, []byte("early")); err != nil {
		t.Fatal(err)
	}
	go held.release()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !r.conn.Ready() {
		t.Error("the record has gone")
	}
	if _, payload, err := r.conn.Recv(); err != nil || string(payload) != "early" {
		t.Errorf("got %q, %v", payload, err)
	}
}

// holding keeps back what is written after the first message, to write it at once.
type holding struct {
	net.Conn
	writes int
	kept   []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(p)
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

func (h *holding) release() { h.Conn.Write(h.kept) }

// The cipher is the library's, nonce by nonce.
func TestCipherIsTheLibrarys(t *testing.T) {
	key := [32]byte{7}
	for _, n := range []uint64{0, 1, 255, 256, 1 << 32, math.MaxUint64 - 1} {
		library := noise.UnsafeNewCipherState(suite, key, n)
		ours, err := takeOver(noise.UnsafeNewCipherState(suite, key, n))
		if err != nil {
			t.Fatal(err)
		}
		want, err := library.Encrypt(nil, nil, []byte("plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		got := append(make([]byte, 0, 64), "plaintext"...)
		if err := ours.seal(got); err != nil || !bytes.Equal(got[:len(got)+tagSize], want) {
			t.Errorf("nonce %d: %x, %v, want %x", n, got[:len(got)+tagSize], err, want)
		}
		ours.n = n
		if plain, err := ours.open(want); err != nil || string(plain) != "plaintext" {
			t.Errorf("nonce %d: opened as %q, %v", n, plain, err)
		}
	}
}

// The last nonce is not for records, and none is used twice.
func TestNoncesEnd(t *testing.T) {
	dialler, listener, sent, wire := tapped(t)
	dialler.send.n, listener.recv.n = maxNonce, maxNonce
	if err := dialler.Send(ChannelPackageFS, []byte("last")); err != nil {
		t.Fatal(err)
	}
	wire.in = bytes.NewReader(append(bytes.Clone(sent.Bytes()), sent.Bytes()...))
	if _, got, err := listener.Recv(); err != nil || string(got) != "last" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, _, err := listener.Recv(); !errors.Is(err, errNonces) {
		t.Errorf("received one more: %v", err)
	}
	size := sent.Len()
	for range 2 {
		if err := dialler.Send(ChannelPackageFS, nil); !errors.Is(err, errNonces) || sent.Len() != size {
			t.Errorf("sent one more: %v", err)
		}
	}
}

func TestRecordsAllocateNothing(t *testing.T) {
	for _, size := range []int{14, 32775} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dialler, listener, sent, wire := tapped(t)
			payload := make([]byte, size)
			if err := dialler.Send(ChannelPackageFS, payload); err != nil {
				t.Fatal(err)
			}
			wire.in = &repeated{record: bytes.Clone(sent.Bytes())}
			dialler.rw.(*tap).out = &discard{}
			var b Batch
			if n := testing.AllocsPerRun(100, func() {
				b.End(ChannelPackageFS, append(b.Begin(), payload...))
				b.Add(ChannelPackageFS, payload)
				listener.recv.n = 0
				_, _, err := listener.Recv()
				if err := errors.Join(dialler.Send(ChannelPackageFS, payload), dialler.SendBatch(&b), err); err != nil {
					t.Fatal(err)
				}
			}); n > 0 {
				t.Errorf("%.0f allocations", n)
			}
		})
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
