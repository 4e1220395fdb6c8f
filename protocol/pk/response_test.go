package pk

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestParseResponseRejects(t *testing.T) {
	tests := []struct {
		name  string
		frame string
		want  error
	}{
		{"empty", "", ErrTruncated},
		{"four bytes", "PK\x01\x81", ErrTruncated},
		{"magic", "XK\x01\x81\x05", ErrMagic},
		{"version", "PK\x02\x81\x05", ErrMagic},
		{"a request", "PK\x01\x04\x00\x00\x00\x00", ErrOp},
		{"unknown status", "PK\x01\x81\x0a", ErrStatus},
		{"unknown op, OK", "PK\x01\x85\x00", ErrOp},
		{"unknown op, long", "PK\x01\x85\x01\x00", ErrOp},
		{"stat OK of five bytes", "PK\x01\x81\x00", ErrLength},
		{"stat short", "PK\x01\x81\x00" + strings.Repeat("\x00", 9), ErrLength},
		{"stat long", "PK\x01\x81\x00" + strings.Repeat("\x00", 11), ErrLength},
		{"open OK of five bytes", "PK\x01\x82\x00", ErrLength},
		{"open long", "PK\x01\x82\x00\x01\x00\x00\x00\x00", ErrLength},
		{"read OK of five bytes", "PK\x01\x83\x00", ErrLength},
		{"read without all of n", "PK\x01\x83\x00\x01", ErrLength},
		{"read with less than n", "PK\x01\x83\x00\x02\x00a", ErrLength},
		{"read with more than n", "PK\x01\x83\x00\x01\x00ab", ErrLength},
		{"read failed with data", "PK\x01\x83\x06\x01\x00a", ErrLength},
		{"close long", "PK\x01\x84\x00\x00", ErrLength},
	}
	for _, tt := range tests {
		if r, err := ParseResponse([]byte(tt.frame)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %+v, %v; want %v", tt.name, r, err, tt.want)
		}
	}
}

func TestParseResponseTakesBothFormsOfFailure(t *testing.T) {
	full := map[Op][]byte{
		Stat:  AppendStatResponse(nil, NotFound, 7, 7),
		Open:  AppendOpenResponse(nil, NotFound, 7),
		Read:  AppendReadResponse(nil, NotFound, []byte("x")),
		Close: AppendCloseResponse(nil, NotFound),
	}
	for op, frame := range full {
		for _, f := range [][]byte{frame, AppendReject(nil, []byte{'P', 'K', 1, byte(op)}, NotFound)} {
			r, err := ParseResponse(f)
			if err != nil || r.Op != op || r.Status != NotFound || r.Size != 0 || r.Kind != 0 || r.Handle != 0 || r.Data != nil {
				t.Errorf("%x: got %+v, %v", f, r, err)
			}
		}
	}
}

func TestFailureIsSentWithoutFields(t *testing.T) {
	for want, got := range map[string][]byte{
		"PK\x01\x81\x05" + strings.Repeat("\x00", 10): AppendStatResponse(nil, NotFound, 7, 7),
		"PK\x01\x82\x08" + strings.Repeat("\x00", 4):  AppendOpenResponse(nil, Limit, 7),
		"PK\x01\x83\x09\x00\x00":                      AppendReadResponse(nil, IO, []byte("x")),
		"PK\x01\x84\x06":                              AppendCloseResponse(nil, BadF),
	} {
		if string(got) != want {
			t.Errorf("got %x, want %x", got, want)
		}
	}
}

// A failure's fields are zero when sent; whatever a peer puts there must not be taken for an answer.
func TestFailureHasNoFields(t *testing.T) {
	for _, frame := range []string{
		"PK\x01\x81\x05\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a",
		"PK\x01\x82\x08\x01\x02\x03\x04",
	} {
		r, err := ParseResponse([]byte(frame))
		if err != nil || r.Size != 0 || r.Kind != 0 || r.Handle != 0 {
			t.Errorf("%x: got %+v, %v", frame, r, err)
		}
	}
}

func TestAppendReject(t *testing.T) {
	tests := []struct{ frame, want string }{
		{"", "PK\x01\x81\x01"},
		{"PK\x01", "PK\x01\x81\x01"},
		{"PK\x01\x03", "PK\x01\x83\x01"},
		{"XX\x09\x2a...", "PK\x01\xaa\x01"},
		{"PK\x01\xff", "PK\x01\xff\x01"},
	}
	for _, tt := range tests {
		got := AppendReject(nil, []byte(tt.frame), BadRequest)
		if string(got) != tt.want {
			t.Errorf("reject of %q is %x, want %x", tt.frame, got, tt.want)
		}
		if !IsResponse(got, EchoOp([]byte(tt.frame))) {
			t.Errorf("%x is not seen as the response to %q", got, tt.frame)
		}
	}
}

func TestIsResponse(t *testing.T) {
	for _, frame := range []string{"", "PK\x01\x83", "PK\x01\x03\x00", "PK\x02\x83\x00", "XK\x01\x83\x00", "PX\x01\x83\x00", "PK\x01\x82\x00"} {
		if IsResponse([]byte(frame), 0x83) {
			t.Errorf("%q is taken for a response to READ", frame)
		}
	}
	if !IsResponse([]byte("PK\x01\x83\x09"), 0x83) {
		t.Error("a rejected READ is not seen as its response")
	}
}

func TestAppendReadResponseBounds(t *testing.T) {
	frame := AppendReadResponse(nil, OK, make([]byte, 70000))
	if len(frame) != 65515 {
		t.Errorf("frame of %d bytes, want the 65515 of a whole record", len(frame))
	}
	if r, err := ParseResponse(frame); err != nil || len(r.Data) != largestRead {
		t.Errorf("%d bytes of data, %v", len(r.Data), err)
	}
}

// The room is where AppendReadResponse would have put the data, in memory that the caller brought.
func TestAppendReadRoom(t *testing.T) {
	for _, n := range []int{0, 1, 128, 32768, largestRead} {
		want := AppendReadResponse([]byte("before"), OK, bytes.Repeat([]byte{7}, n))
		dst := append(make([]byte, 0, len(want)), "before"...)
		frame, data := AppendReadRoom(dst, n)
		for i := range data {
			data[i] = 7
		}
		if len(data) != n || !bytes.Equal(frame, want) || &frame[0] != &dst[0] {
			t.Errorf("room of %d bytes: %d in a frame of %d, want one of %d", n, len(data), len(frame), len(want))
		}
	}
	if frame, data := AppendReadRoom(nil, 3); len(data) != 3 || len(frame) != readDataOffset+3 {
		t.Errorf("without memory: %d, %d", len(data), len(frame))
	}
}

func TestStatusError(t *testing.T) {
	tests := []struct {
		err  error
		text string
		is   error
	}{
		{&StatusError{Stat, NotFound, "pkg:/system/x"}, "STAT pkg:/system/x: NOT_FOUND", fs.ErrNotExist},
		{&StatusError{Read, BadF, ""}, "READ: BADF", fs.ErrClosed},
		{&StatusError{Open, Unauthenticated, "pkg:/a\nb"}, `OPEN "pkg:/a\nb": UNAUTHENTICATED`, fs.ErrPermission},
		{&StatusError{Open, PathTraversal, "pkg:/\x1b[2J"}, `OPEN "pkg:/\x1b[2J": PATH_TRAVERSAL`, fs.ErrInvalid},
		{&StatusError{Op(9), Status(42), ""}, "OP(0x09): STATUS(42)", nil},
	}
	all := []error{fs.ErrNotExist, fs.ErrClosed, fs.ErrPermission, fs.ErrInvalid}
	for _, tt := range tests {
		if tt.err.Error() != tt.text {
			t.Errorf("reads %q, want %q", tt.err, tt.text)
		}
		for _, target := range all {
			if errors.Is(tt.err, target) != (target == tt.is) {
				t.Errorf("%q: errors.Is(%v) = %t", tt.err, target, errors.Is(tt.err, target))
			}
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.frame(f))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, err := ParseResponse(frame)
		if err != nil {
			return
		}
		if r.Status != OK && (r.Size != 0 || r.Kind != 0 || r.Handle != 0 || len(r.Data) != 0) {
			t.Errorf("%x failed with content: %+v", frame, r)
		}
		again, err := ParseResponse(encodeResponse(r, len(frame)))
		if err != nil || again.Op != r.Op || again.Status != r.Status || again.Size != r.Size || again.Kind != r.Kind ||
			again.Handle != r.Handle || string(again.Data) != string(r.Data) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

func BenchmarkReadResponse(b *testing.B) {
	data := make([]byte, 32768)
	buf := make([]byte, 0, 40000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendReadResponse(buf[:0], OK, data)
		if _, err := ParseResponse(buf); err != nil {
			b.Fatal(err)
		}
	}
}
