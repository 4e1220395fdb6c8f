package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type piece struct {
	text string
	more bool
}

func TestSplit(t *testing.T) {
	long := strings.Repeat("a", MaxLine)
	tests := []struct {
		name, in string
		want     []piece
	}{
		{"nothing", "", nil},
		{"lines", "a\nb\n", []piece{{"a", false}, {"b", false}}},
		{"serial line endings", "a\r\n\r\nb", []piece{{"a", false}, {"", false}, {"b", false}}},
		{"a carriage return inside stays", "a\rb\n", []piece{{"a\rb", false}}},
		{"no newline at the end", "a\nb", []piece{{"a", false}, {"b", false}}},
		{"bytes of any kind", "\x00\xff\x1b[2J\n", []piece{{"\x00\xff\x1b[2J", false}}},
		{"exactly the bound", long + "\nb\n", []piece{{long, false}, {"b", false}}},
		{"over the bound", long + long + "bc\nd\n", []piece{{long, true}, {long, true}, {"bc", false}, {"d", false}}},
		{"over the bound without an end", long + "b", []piece{{long, true}, {"b", false}}},
	}
	readers := map[string]func(io.Reader) io.Reader{
		"whole":      func(r io.Reader) io.Reader { return r },
		"half":       iotest.HalfReader,
		"with eof":   iotest.DataErrReader,
		"one by one": iotest.OneByteReader,
	}
	for _, tt := range tests {
		for how, wrap := range readers {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				var got []piece
				err := Split(wrap(strings.NewReader(tt.in)), func(b []byte, more bool) { got = append(got, piece{string(b), more}) })
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Fatalf("got %.200s\nwant %.200s", fmt.Sprint(got), fmt.Sprint(tt.want))
				}
			})
		}
	}
}

func TestSplitReportsAReadErrorAfterTheLastLine(t *testing.T) {
	broken := errors.New("broken")
	var got []string
	err := Split(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), func(b []byte, _ bool) { got = append(got, string(b)) })
	if !errors.Is(err, broken) || fmt.Sprint(got) != "[a b]" {
		t.Fatalf("%q, %v", got, err)
	}
}

// A reader in several pieces sees every byte of a stream exactly once.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\nb\r\n\x00"))
	f.Add(bytes.Repeat([]byte("x"), 3*MaxLine/2))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got []byte
		err := Split(iotest.HalfReader(bytes.NewReader(in)), func(b []byte, more bool) {
			if len(b) > MaxLine {
				t.Fatalf("a line of %d bytes", len(b))
			}
			got = append(got, b...)
			if !more {
				got = append(got, '\n')
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		strip := func(b []byte) string {
			return strings.ReplaceAll(strings.ReplaceAll(string(b), "\r", ""), "\n", "")
		}
		if strip(got) != strip(in) {
			t.Fatalf("in %q, out %q", in, got)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	in := bytes.Repeat([]byte("dsoftbusd: cross-vm session ok node-b\n"), 1000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		_ = Split(bytes.NewReader(in), func([]byte, bool) {})
	}
}
