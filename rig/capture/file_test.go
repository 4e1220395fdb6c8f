package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/record"

	"github.com/gopacket/gopacket/pcapgo"
)

// A packet is one of a file as it is read back.
type packet struct {
	from     string
	at       time.Time
	data     []byte
	comments []string
}

// packets reads a file with the library's reader.
func packets(t *testing.T, path string) []packet {
	t.Helper()
	all, err := packetsUntil(t, path)
	if !errors.Is(err, io.EOF) {
		t.Fatalf("packet %d: %v", len(all)+1, err)
	}
	return all
}

// packetsUntil returns the packets of a file that may still be written, and
// what has ended the reading.
func packetsUntil(t *testing.T, path string) ([]packet, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var all []packet
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if err != nil {
			return all, err
		}
		from, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, packet{from.Name, info.Timestamp, data, options.Comments})
	}
}

func newFile(t *testing.T, limit int64) (*file, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), record.CaptureFile)
	w, err := create(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	return w, path
}

func TestReadBack(t *testing.T) {
	w, path := newFile(t, DefaultLimit)
	began := time.Unix(1_700_000_000, 123_456_789)
	var waiting notes
	waiting.add("one")
	waiting.add("two")
	for i, from := range []string{"A", "B", RigInterface, "A"} {
		data := bytes.Repeat([]byte{byte(i)}, 60+i)
		w.frame(from, began.Add(time.Duration(i)*time.Second), data, len(data), &waiting)
	}
	waiting.add("last")
	if err := w.close(began, w.stats, &waiting); err != nil {
		t.Fatal(err)
	}
	got := packets(t, path)
	if len(got) != 5 {
		t.Fatalf("%d packets, want 4 and the one of the last comment", len(got))
	}
	for i, from := range []string{"A", "B", RigInterface, "A"} {
		p := got[i]
		if p.from != from || !p.at.Equal(began.Add(time.Duration(i)*time.Second)) || !bytes.Equal(p.data, bytes.Repeat([]byte{byte(i)}, 60+i)) {
			t.Errorf("packet %d is %+v", i, p)
		}
	}
	if !slices.Equal(got[0].comments, []string{"one", "two"}) || got[1].comments != nil {
		t.Errorf("comments %q, %q", got[0].comments, got[1].comments)
	}
	if end := got[4]; len(end.data) != 0 || !slices.Equal(end.comments, []string{"last"}) {
		t.Errorf("the end is %+v", end)
	}
}

// What is beyond the limit is counted, the file is whole, and says so itself.
func TestLimit(t *testing.T) {
	const limit = 16 << 10
	w, path := newFile(t, limit)
	var waiting notes
	data := make([]byte, 1000)
	for i := range 30 {
		waiting.add(fmt.Sprintf("comment %d", i))
		w.frame("A", time.Unix(1, 0), data, 1500, &waiting)
	}
	stats := w.stats
	stats.Limit = limit
	if stats.Frames == 0 || stats.Frames+stats.Unwritten != 30 || stats.UnwrittenBytes != 1500*stats.Unwritten {
		t.Fatalf("stats %+v", stats)
	}
	if err := w.close(time.Unix(0, 0), stats, &waiting); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > limit || info.Size() < limit/2 {
		t.Errorf("the file has %d bytes, its limit is %d", info.Size(), limit)
	}
	got := packets(t, path)
	end := got[len(got)-1]
	if uint64(len(got)-1) != stats.Frames || len(end.comments) == 0 || !strings.Contains(end.comments[0], fmt.Sprintf("%d more", stats.Unwritten)) {
		t.Errorf("%d packets, the last one %+v", len(got), end)
	}
	// The limit also holds where the comments alone reach it.
	w, path = newFile(t, limit)
	for range maxNotes + 10 {
		waiting.add(strings.Repeat("x", maxComment))
	}
	w.frame("A", time.Unix(1, 0), data, 1000, &waiting)
	if err := w.close(time.Unix(0, 0), w.stats, &waiting); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > limit {
		t.Errorf("%v, %v", info.Size(), err)
	}
	packets(t, path)
}

// A disk that is full costs the capture and nothing else.
func TestFullDisk(t *testing.T) {
	w, _ := newFile(t, DefaultLimit)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	w.out.Reset(full)
	var waiting notes
	for range 400 {
		w.frame("A", time.Unix(1, 0), make([]byte, 1500), 1500, &waiting)
	}
	if w.stats.Unwritten == 0 || w.stats.Frames+w.stats.Unwritten < 399 {
		t.Errorf("stats %+v", w.stats)
	}
	if err := w.close(time.Unix(0, 0), w.stats, &waiting); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("closed with %v", err)
	}
}

func TestWarnings(t *testing.T) {
	if got := (Stats{Frames: 7}).Warnings(); got != nil {
		t.Errorf("nothing is missing, but %q", got)
	}
	got := Stats{Frames: 7, Unwritten: 2, UnwrittenBytes: 3000, Lost: 5, Limit: 1 << 20}.Warnings()
	want := []string{
		"capture.pcapng has the first 7 frames: 2 more, 3000 bytes, were not written at its limit of 1 MiB (-capture-size)",
		"capture.pcapng lacks 5 frames that came faster than they could be read; the network itself has lost none of them",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestComments(t *testing.T) {
	for _, c := range []struct {
		e    record.Event
		want string
	}{
		{record.Event{Kind: record.KindStepStart, T: 1.5, Line: 3, Text: "up A"}, "1.500 s, line 3: up A"},
		{record.Event{Kind: record.KindStepEnd, T: 1.5, Step: 3}, ""},
		{record.Event{Kind: record.KindStepEnd, T: 1.5, Step: 3, Error: "no"}, "1.500 s, step 3 failed: no"},
		{record.Event{Kind: record.KindMarker, Node: "A", Text: "x\xff"}, "0.000 s, marker A: x�"},
		{record.Event{Kind: record.KindFault, Name: "link", State: "injected", Text: "link B down"}, "0.000 s, fault link injected: link B down"},
		{record.Event{Kind: record.KindFault, Name: "pause", Node: "B", State: "healed"}, "0.000 s, fault pause B healed"},
		{record.Event{Kind: record.KindScenarioEnd, Seconds: 9, Result: record.Failed, Failure: &record.Failure{Message: "why"}}, "9.000 s, end: failed: why"},
		{record.Event{Kind: record.KindOutput, Text: "secret"}, ""},
	} {
		if got := comment(c.e); got != c.want {
			t.Errorf("%+v: %q, want %q", c.e, got, c.want)
		}
	}
	long := comment(record.Event{Kind: record.KindStepStart, Text: strings.Repeat("é", maxComment)})
	if len(long) > maxComment+3 || !strings.HasSuffix(long, "é…") {
		t.Errorf("long: %d bytes, %q", len(long), long)
	}
}

// A capture that there is none of takes everything.
func TestNone(t *testing.T) {
	var c *Capture
	c.Event(record.Event{Kind: record.KindStepStart})
	c.Start(1, nil)
	c.Await()
	c.Drop()
	if _, err := c.Stop(true); err != nil {
		t.Error(err)
	}
	if _, err := New(filepath.Join(t.TempDir(), "x"), 0).Stop(true); err != nil { // never started
		t.Error(err)
	}
}
