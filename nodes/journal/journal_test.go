package journal

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	var buf bytes.Buffer
	j := NewWriter(&buf, func() time.Duration { return 1500 * time.Millisecond })
	lines := []string{"dsoftbusd: ready", "", "\xff\x00binary", "tab\tquote\"<&>", "\x1b[2J"}
	for _, line := range lines {
		if err := j.Line("dsoftbusd", "stdout", []byte(line), false); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	err := SplitAt(iotest.OneByteReader(&buf), MaxEntry, func(line []byte, more bool) {
		e, err := Decode(line)
		if err != nil {
			t.Fatal(err)
		}
		if e.Line() != lines[n] || e.Seq != uint64(n+1) || e.Unit != "dsoftbusd" || e.Stream != "stdout" || e.Mono != 1500*time.Millisecond {
			t.Errorf("entry %d: %+v", n, e)
		}
		n++
	})
	if err != nil || n != len(lines) || j.Seq() != uint64(n) {
		t.Fatalf("%d of %d entries, seq %d, %v", n, len(lines), j.Seq(), err)
	}
}

// An entry of the longest line, in the form that grows most, still is one line
// for the reader on the other side.
func TestTheLongestLineFitsTheReader(t *testing.T) {
	var buf bytes.Buffer
	j := NewWriter(&buf, func() time.Duration { return 0 })
	if err := j.Line("u", "stdout", bytes.Repeat([]byte{0x1b}, MaxLine), false); err != nil {
		t.Fatal(err)
	}
	if buf.Len() > MaxEntry {
		t.Fatalf("an entry of %d bytes, MaxEntry is %d", buf.Len(), MaxEntry)
	}
}

func TestConcurrentWritersNeverMixLines(t *testing.T) {
	var buf bytes.Buffer
	j := NewWriter(&buf, func() time.Duration { return 0 })
	var wg sync.WaitGroup
	for _, unit := range []string{"a", "b", "c"} {
		wg.Go(func() {
			for range 100 {
				if err := j.Line(unit, "stdout", []byte(strings.Repeat(unit, 100)), false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var seq uint64
	_ = SplitAt(&buf, MaxEntry, func(line []byte, _ bool) {
		e, err := Decode(line)
		if err != nil || e.Text != strings.Repeat(e.Unit, 100) || e.Seq != seq+1 {
			t.Fatalf("entry after %d: %+v, %v", seq, e, err)
		}
		seq = e.Seq
	})
	if seq != 300 {
		t.Fatalf("%d entries", seq)
	}
}

func TestABrokenPortStaysBroken(t *testing.T) {
	gone := errors.New("gone")
	j := NewWriter(failing{gone}, func() time.Duration { return 0 })
	for range 2 {
		if err := j.Line("u", "stdout", []byte("x"), false); !errors.Is(err, gone) {
			t.Fatalf("got %v", err)
		}
	}
	if j.Seq() != 0 {
		t.Fatalf("seq %d after no entry was written", j.Seq())
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"seq":1,"mono_ns":2,"unit":"dsoftbusd","stream":"stdout","text":"dsoftbusd: ready"}`))
	f.Add([]byte(`{"seq":1,"unit":"u","raw":"/w=="}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := Decode(in)
		if err == nil && (e.Seq == 0 || e.Unit == "") {
			t.Fatalf("accepted %+v", e)
		}
	})
}
