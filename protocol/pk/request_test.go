package pk

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	limits := Limits{MaxPath: 16, MaxRead: 128, MaxHandles: 8}
	tests := []struct {
		name   string
		frame  string
		status Status
		want   Request
	}{
		{"stat", "PK\x01\x01\x07\x00pkg:/ab", OK, Request{Op: Stat, Path: "pkg:/ab", Name: Name{Bundle: "ab"}}},
		{"open at the path limit", "PK\x01\x02\x10\x00pkg:/sys/build.p", OK,
			Request{Op: Open, Path: "pkg:/sys/build.p", Name: Name{Bundle: "sys", Path: "build.p"}}},
		{"read at the limit", "PK\x01\x03\x01\x02\x03\x04\x05\x06\x07\x08\x80\x00", OK,
			Request{Op: Read, Handle: 0x04030201, Offset: 0x08070605, Length: 128}},
		{"read one byte", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00", OK, Request{Op: Read, Handle: 1, Length: 1}},
		{"close", "PK\x01\x04\x01\x00\x00\x00", OK, Request{Op: Close, Handle: 1}},

		{"empty", "", BadRequest, Request{}},
		{"three bytes", "PK\x01", BadRequest, Request{}},
		{"magic", "XK\x01\x01\x07\x00pkg:/ab", BadRequest, Request{}},
		{"magic, second byte", "PX\x01\x01\x07\x00pkg:/ab", BadRequest, Request{}},
		{"version", "PK\x02\x01\x07\x00pkg:/ab", BadRequest, Request{}},
		{"opcode 0", "PK\x01\x00", BadRequest, Request{}},
		{"opcode 5", "PK\x01\x05", BadRequest, Request{}},
		{"a response", "PK\x01\x84\x00", BadRequest, Request{}},

		{"stat without length", "PK\x01\x01\x07", BadRequest, Request{}},
		{"stat, path length 0", "PK\x01\x01\x00\x00", Oversized, Request{}},
		{"stat, path length 0 with a path", "PK\x01\x01\x00\x00pkg:/ab", Oversized, Request{}},
		{"stat, path over the limit", "PK\x01\x01\x11\x00pkg:/sys/build.pr", Oversized, Request{}},
		{"stat, length over the limit, frame short", "PK\x01\x01\xff\xffpkg", Oversized, Request{}},
		{"stat, frame short", "PK\x01\x01\x07\x00pkg:/a", BadRequest, Request{}},
		{"stat, frame long", "PK\x01\x01\x07\x00pkg:/abc", BadRequest, Request{}},
		{"stat, wrong length and scheme", "PK\x01\x01\x07\x00file:/", BadRequest, Request{}},
		{"stat, UTF-8", "PK\x01\x01\x07\x00pkg:/\xff\xff", BadRequest, Request{}},
		{"stat, UTF-8 and scheme", "PK\x01\x01\x04\x00a:/\xff", BadRequest, Request{}},
		{"stat, scheme", "PK\x01\x01\x06\x00file:/", NonPackageFSScheme, Request{}},
		{"stat, scheme and traversal", "PK\x01\x01\x08\x00file:/..", NonPackageFSScheme, Request{}},
		{"stat, nothing after the prefix", "PK\x01\x01\x05\x00pkg:/", Oversized, Request{}},
		{"open, traversal", "PK\x01\x02\x07\x00pkg:/..", PathTraversal, Request{}},

		{"read short", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x01", BadRequest, Request{}},
		{"read long", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00", BadRequest, Request{}},
		{"read of 0", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", Oversized, Request{}},
		{"read one over the limit", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x81\x00", Oversized, Request{}},
		{"read long and of 0", "PK\x01\x03\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", BadRequest, Request{}},
		{"close short", "PK\x01\x04\x01\x00\x00", BadRequest, Request{}},
		{"close long", "PK\x01\x04\x01\x00\x00\x00\x00", BadRequest, Request{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, status := ParseRequest([]byte(tt.frame), true, limits)
			if status != tt.status || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %s; want %+v, %s", got, status, tt.want, tt.status)
			}
			if got, status := ParseRequest([]byte(tt.frame), false, limits); status != Unauthenticated || got != (Request{}) {
				t.Errorf("unauthenticated: got %+v, %s; want UNAUTHENTICATED before any other check", got, status)
			}
		})
	}
}

func TestAppendRequestExtends(t *testing.T) {
	dst := []byte("head")
	for _, got := range [][]byte{
		AppendStat(dst, "pkg:/a"), AppendOpen(dst, "pkg:/a"), AppendRead(dst, 1, 2, 3), AppendClose(dst, 1),
	} {
		frame, ok := strings.CutPrefix(string(got), "head")
		if !ok {
			t.Errorf("%x lost what was there before", got)
		}
		if _, status := ParseRequest([]byte(frame), true, DefaultLimits()); status != OK {
			t.Errorf("%x: %s", frame, status)
		}
	}
}

func TestAppendPathTooLongForItsLength(t *testing.T) {
	frame := AppendOpen(nil, "pkg:/a"+strings.Repeat("a", 1<<16))
	if len(frame) > 65515 {
		t.Errorf("frame of %d bytes fits no record", len(frame))
	}
	if _, status := ParseRequest(frame, true, DefaultLimits()); status != Oversized {
		t.Errorf("status %s, want OVERSIZED", status)
	}
}

func TestLimits(t *testing.T) {
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	if got := DefaultLimits().String(); got != "path=192 read=32768 handles=8" {
		t.Errorf("defaults print as %q", got)
	}
	for _, l := range []Limits{{0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {65510, 1, 1}, {1, 65509, 1}, {-1, 1, 1}} {
		if l.Validate() == nil {
			t.Errorf("%s is taken as valid", l)
		}
	}
	if err := (Limits{65509, 65508, 1 << 20}).Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.frame(f))
	}
	f.Add([]byte("PK\x01\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		limits := DefaultLimits()
		r, status := ParseRequest(frame, true, limits)
		if status != OK {
			if r != (Request{}) {
				t.Errorf("status %s with %+v", status, r)
			}
			if _, err := ParseResponse(AppendReject(nil, frame, status)); err != nil {
				t.Errorf("the answer to %x: %v", frame, err)
			}
			return
		}
		if len(r.Path) > limits.MaxPath || int(r.Length) > limits.MaxRead {
			t.Errorf("beyond the limits: %+v", r)
		}
		if again := encode(r); string(again) != string(frame) {
			t.Errorf("%x became %x", frame, again)
		}
	})
}

func BenchmarkParseRead(b *testing.B) {
	frame := AppendRead(nil, 1, 2, 64)
	limits := DefaultLimits()
	b.ReportAllocs()
	for b.Loop() {
		if _, status := ParseRequest(frame, true, limits); status != OK {
			b.Fatal(status)
		}
	}
}

func BenchmarkParseOpen(b *testing.B) {
	frame := AppendOpen(nil, "pkg:/system@1.0.0/etc/build.prop")
	limits := DefaultLimits()
	b.ReportAllocs()
	for b.Loop() {
		if _, status := ParseRequest(frame, true, limits); status != OK {
			b.Fatal(status)
		}
	}
}

func BenchmarkAppendRead(b *testing.B) {
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendRead(buf[:0], 1, 2, 64)
	}
}
