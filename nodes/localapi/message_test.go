package localapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// message is the contract's layout, spelt out apart from the code under test.
func message(kind Kind, body string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + string([]byte{byte(kind)}) + body
}

func TestReader(t *testing.T) {
	full := strings.Repeat("x", MaxBody)
	for _, c := range []struct {
		name   string
		stream string
		bodies []string
		err    error
	}{
		{"nothing", "", nil, io.EOF},
		{"one", message(KindFrame, "PK"), []string{"PK"}, io.EOF},
		{"empty body", message(KindFrame, ""), []string{""}, io.EOF},
		{"three", message(KindControl, "{}") + message(KindFrame, full) + message(KindFrame, "z"), []string{"{}", full, "z"}, io.EOF},
		{"cut in the length", "\x00", nil, io.ErrUnexpectedEOF},
		{"cut before the kind", "\x00\x01", nil, io.ErrUnexpectedEOF},
		{"cut before the body", "\x00\x01\x00", nil, io.ErrUnexpectedEOF},
		{"cut in the body", message(KindFrame, "a") + message(KindFrame, full)[:MaxBody], []string{"a"}, io.ErrUnexpectedEOF},
		{"unknown kind", message(KindFrame, "a") + message(4, "b"), []string{"a"}, ErrKind},
		{"unknown kind, cut", "\x00\x09\xff", nil, ErrKind},
	} {
		for _, reader := range []struct {
			name string
			wrap func(io.Reader) io.Reader
		}{
			{"whole", func(r io.Reader) io.Reader { return r }},
			{"byte by byte", iotest.OneByteReader},
		} {
			t.Run(c.name+"/"+reader.name, func(t *testing.T) {
				r := NewReader(reader.wrap(strings.NewReader(c.stream)))
				for i, want := range c.bodies {
					_, body, err := r.Next()
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					if string(body) != want {
						t.Fatalf("message %d has %d bytes, want %d", i, len(body), len(want))
					}
				}
				if _, _, err := r.Next(); !errors.Is(err, c.err) {
					t.Errorf("error is %v, want %v", err, c.err)
				}
			})
		}
	}
}

// TestReaderReady: a part of a message is not what Next waits for.
func TestReaderReady(t *testing.T) {
	one, two, release := message(KindFrame, "a"), message(KindFrame, "bc"), message(kindRelease, "xx")
	for rest, want := range map[string]bool{
		"": false, two[:1]: false, two[:3]: false, two[:4]: false, two: true, two + one[:2]: true,
		// Recv takes a release itself and waits on.
		release: false, release + release + two[:4]: false, release + two: true,
	} {
		r := NewReader(strings.NewReader(one + rest))
		if r.Ready() {
			t.Error("ready before anything was read")
		}
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got := r.Ready(); got != want {
			t.Errorf("with %q to come ready is %v", rest, got)
		}
	}
}

// TestReaderBodyIsBounded: appending to a body must not run into the next
// message, which lies behind it in the buffer.
func TestReaderBodyIsBounded(t *testing.T) {
	r := NewReader(strings.NewReader(message(KindFrame, "a") + message(KindFrame, "b")))
	_, body, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	_ = append(body, "xxxx"...)
	if _, body, err = r.Next(); err != nil || string(body) != "b" {
		t.Errorf("next message is %q, %v; want b", body, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(message(KindControl, `{"peers":true}`) + message(KindFrame, "PK\x01\x01")))
	f.Add([]byte("\xff\xff\x00short"))
	f.Add([]byte("\x00\x00\x04"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		rest := stream
		for {
			kind, body, err := r.Next()
			if err != nil {
				// The stream ended, or what is left is no message.
				if errors.Is(err, io.EOF) && len(rest) != 0 {
					t.Fatalf("clean end with %d bytes left", len(rest))
				}
				return
			}
			want := message(kind, string(body))
			if !bytes.HasPrefix(rest, []byte(want)) {
				t.Fatalf("message %q is not what the stream holds", want)
			}
			rest = rest[len(want):]
		}
	})
}

func BenchmarkReader(b *testing.B) {
	stream := []byte(message(KindFrame, strings.Repeat("x", 32768+7)))
	src := bytes.NewReader(stream)
	r := NewReader(readerFunc(func(p []byte) (int, error) {
		if src.Len() == 0 {
			src.Reset(stream)
		}
		return src.Read(p)
	}))
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
