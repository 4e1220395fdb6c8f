package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
)

// tap is a connection whose reading and writing a test takes over once the handshake is done.
type tap struct {
	net.Conn
	in  io.Reader
	out io.Writer
}

func (t *tap) Read(p []byte) (int, error) {
	if t.in != nil {
		return t.in.Read(p)
	}
	return t.Conn.Read(p)
}

func (t *tap) Write(p []byte) (int, error) {
	if t.out != nil {
		return t.out.Write(p)
	}
	return t.Conn.Write(p)
}

// tapped gives the two ends of a session whose dialler writes to sent, and whose listener reads whatever the test puts
// into the returned tap.
func tapped(tb testing.TB) (dialler, listener *Conn, sent *bytes.Buffer, wire *tap) {
	near, far := net.Pipe()
	a, b := &tap{Conn: near}, &tap{Conn: far}
	dialler, listener = pairOver(tb, a, b)
	sent = new(bytes.Buffer)
	a.out = sent
	b.out = io.Discard
	return dialler, listener, sent, b
}

// script is a reader that gives each element, bytes or an error, to one Read; at its end there is io.EOF.
type script []any

func (s *script) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	next := (*s)[0]
	*s = (*s)[1:]
	if err, ok := next.(error); ok {
		return 0, err
	}
	return copy(p, next.([]byte)), nil
}

func TestRecvGoesOnAfterDeadline(t *testing.T) {
	dialler, listener, sent, wire := tapped(t)
	if err := errors.Join(dialler.Send(ChannelPackageFS, []byte("one")), dialler.Send(ChannelControl, []byte("two"))); err != nil {
		t.Fatal(err)
	}
	late := os.ErrDeadlineExceeded
	b := sent.Bytes()
	wire.in = &script{late, b[:1], late, b[1:9], late, b[9:27], late, b[27:], late}
	var got []string
	deadlines := 0
	for {
		_, payload, err := listener.Recv()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			deadlines++
			continue
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(payload))
	}
	if deadlines != 5 || len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("%d deadlines, received %q", deadlines, got)
	}
}

func TestBadRecordsEndReceiving(t *testing.T) {
	good := func(t *testing.T, dialler *Conn, sent *bytes.Buffer) []byte {
		if err := dialler.Send(ChannelPackageFS, []byte("payload")); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(sent.Bytes())
	}
	flip := func(b []byte, i int) []byte { b[i] ^= 1; return b }
	tests := []struct {
		name string
		wire func(record []byte) []byte
		want error
	}{
		{"end between records", func(r []byte) []byte { return nil }, io.EOF},
		{"end within the length", func(r []byte) []byte { return r[:1] }, io.ErrUnexpectedEOF},
		{"end after the length", func(r []byte) []byte { return r[:2] }, io.ErrUnexpectedEOF},
		{"end within the record", func(r []byte) []byte { return r[:len(r)-1] }, io.ErrUnexpectedEOF},
		{"length 0", func(r []byte) []byte { return []byte{0, 0, 1} }, ErrRecordLength},
		{"length 19", func(r []byte) []byte { return append([]byte{0, 19}, make([]byte, 19)...) }, ErrRecordLength},
		{"length 20 of zeros", func(r []byte) []byte { return append([]byte{0, 20}, make([]byte, 20)...) }, ErrDecrypt},
		{"first byte flipped", func(r []byte) []byte { return flip(r, 2) }, ErrDecrypt},
		{"tag flipped", func(r []byte) []byte { return flip(r, len(r)-1) }, ErrDecrypt},
		{"one byte shorter", func(r []byte) []byte { r[1]--; return r }, ErrDecrypt},
		{"played twice", func(r []byte) []byte { return append(r, r...) }, ErrDecrypt},
		{"65,535 bytes of garbage", func(r []byte) []byte { return append([]byte{0xff, 0xff}, make([]byte, 65535)...) }, ErrDecrypt},
		{"65,535 bytes promised", func(r []byte) []byte { return append([]byte{0xff, 0xff}, make([]byte, 65534)...) }, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialler, listener, sent, wire := tapped(t)
			wire.in = bytes.NewReader(tt.wire(good(t, dialler, sent)))
			var err error
			for err == nil {
				_, _, err = listener.Recv()
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			// What ended it stays: a good record afterwards is not looked at.
			wire.in = bytes.NewReader(good(t, dialler, sent))
			if _, _, again := listener.Recv(); again != err {
				t.Errorf("asked again: %v, want %v", again, err)
			}
		})
	}
}

// A sealed record too short for a channel cannot be made with Send; a peer that follows its own rules may send one.
func TestSealedRecordsOfAnySize(t *testing.T) {
	for size := range 8 {
		dialler, listener, _, wire := tapped(t)
		wire.in = bytes.NewReader(seal(t, dialler, make([]byte, size)))
		_, payload, err := listener.Recv()
		if size < channelSize {
			if !errors.Is(err, ErrRecordLength) {
				t.Errorf("plaintext of %d bytes: %v", size, err)
			}
		} else if err != nil || len(payload) != size-channelSize {
			t.Errorf("plaintext of %d bytes: %d, %v", size, len(payload), err)
		}
	}
}

// seal makes a record of any plaintext.
func seal(tb testing.TB, c *Conn, plaintext []byte) []byte {
	b := append(make([]byte, lengthSize, lengthSize+len(plaintext)+tagSize), plaintext...)
	if err := c.send.seal(b[lengthSize:]); err != nil {
		tb.Fatal(err)
	}
	binary.BigEndian.PutUint16(b, uint16(len(plaintext)+tagSize))
	return b[:cap(b)]
}

func TestWriteErrorEndsSending(t *testing.T) {
	dialler, _, _, _ := tapped(t)
	broken := errors.New("broken")
	dialler.rw.(*tap).out = failing{broken}
	if err := dialler.Send(ChannelPackageFS, nil); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	var sent bytes.Buffer
	dialler.rw.(*tap).out = &sent
	if err := dialler.Send(ChannelPackageFS, nil); !errors.Is(err, broken) || sent.Len() != 0 {
		t.Errorf("asked again: %v, %d bytes were written", err, sent.Len())
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzRecv feeds an established session with whatever an attacker on the wire can put there.
func FuzzRecv(f *testing.F) {
	f.Add([]byte{0, 20})
	f.Add(append([]byte{0, 20}, make([]byte, 20)...))
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, listener, _, wire := tapped(t)
		wire.in = bytes.NewReader(data)
		if channel, payload, err := listener.Recv(); err == nil {
			t.Errorf("forged: channel %d, %x", channel, payload)
		}
	})
}

// FuzzSealedRecord feeds it with what only a paired peer can send: any plaintext, properly sealed.
func FuzzSealedRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 1})
	f.Add([]byte{4, 0, 0, 0, 'P', 'K'})
	f.Add([]byte{5, 0, 0, 0})
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		if len(plaintext) > maxRecord-tagSize {
			return
		}
		dialler, listener, _, wire := tapped(t)
		wire.in = bytes.NewReader(seal(t, dialler, plaintext))
		channel, payload, err := listener.Recv()
		if err != nil {
			if !errors.Is(err, ErrRecordLength) && !errors.Is(err, ErrChannel) {
				t.Errorf("%x: %v", plaintext, err)
			}
			return
		}
		if again := append(binary.LittleEndian.AppendUint32(nil, channel), payload...); !bytes.Equal(again, plaintext) {
			t.Errorf("%x became %x", plaintext, again)
		}
		if channel != ChannelControl && channel != ChannelPackageFS {
			t.Errorf("channel %d was let through", channel)
		}
	})
}
