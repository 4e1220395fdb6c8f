package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// Nodes with machines are tested through the real program, in package rig.

func TestFatalLines(t *testing.T) {
	tests := []struct {
		unit, stream, text string
		want               record.Reason
	}{
		{"kernel", "console", "[    5.70] Kernel panic - not syncing: sysrq triggered crash", record.KernelPanic},
		{"kernel", "console", "[   12.345678] BUG: unable to handle page fault for address: 0", record.KernelOops},
		{"kernel", "console", "[    1.0] Oops: 0002 [#1] PREEMPT SMP", record.KernelOops},
		{"kernel", "console", "[    1.0] general protection fault, probably for non-canonical address", record.KernelOops},
		{"kernel", "console", "[    1.0] kernel BUG at mm/slub.c:300!", record.KernelBug},
		{"kernel", "console", "[    1.0] debug: no BUG: here", ""},
		{"dsoftbusd", "stdout", "the peer says Kernel panic - not syncing", ""},
		{"selftest-client", "stdout", "SELFTEST: remote pkgfs read FAIL digest differs", record.MarkerFail},
		{"selftest-client", "stderr", "SELFTEST: remote pkgfs read FAIL digest differs", record.MarkerFail},
		{"selftest-client", "stdout", "SELFTEST: remote pkgfs read ok", ""},
		{"selftest-client", "stdout", "SELFTEST: FAILURES 0", ""},
		{"pkgfs", "stdout", "quoted SELFTEST: x FAIL", ""},
		{"dsoftbusd", "stderr", "panic: runtime error: index out of range", record.GoPanic},
		{"dsoftbusd", "stderr", "fatal error: all goroutines are asleep - deadlock!", record.GoPanic},
		{"dsoftbusd", "stdout", "panic: a word in a file", ""},
		{"agent", "stderr", "dsoftbusd ended: exit status 1", record.ServiceEnded},
		{"agent", "stdout", "dsoftbusd ended: exit status 1", ""}, // it was asked to
		{"agent", "stderr", "dsoftbusd ended: signal: killed", ""},
		{"agent", "stdout", "dsoftbusd ended: exit status 0", ""},
		{"pkgfs", "stderr", "dsoftbusd ended: exit status 1", ""},
		{"dsoftbusd", "stderr", "do not panic: all is well", ""},
	}
	for _, tt := range tests {
		if got, _ := fatal(console.Line{Unit: tt.unit, Stream: tt.stream, Text: tt.text}); got != tt.want {
			t.Errorf("%s/%s %q: %q, want %q", tt.unit, tt.stream, tt.text, got, tt.want)
		}
	}
}

func TestProgressIsReachedByEvent(t *testing.T) {
	var p progress
	reached := make(chan error)
	go func() { reached <- p.reach(t.Context(), 3) }()
	p.advance(1)
	p.advance(2)
	select {
	case err := <-reached:
		t.Fatalf("reached too early: %v", err)
	default:
	}
	p.advance(3)
	if err := <-reached; err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	go func() { reached <- p.reach(t.Context(), 9) }()
	p.end(gone)
	if err := <-reached; !errors.Is(err, gone) {
		t.Fatalf("after the end: %v", err)
	}
	if err := p.reach(t.Context(), 2); err != nil {
		t.Fatalf("what had been read before the end: %v", err)
	}
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, late)
	defer cancel()
	if err := new(progress).reach(ctx, 1); !errors.Is(err, late) {
		t.Fatalf("deadline: %v", err)
	}
}

// TestBootsAreCounted reads the journal of a machine that is reset, and that of the
// machine behind it.
func TestBootsAreCounted(t *testing.T) {
	n := &Node{name: "A", log: console.NewLog(), world: &World{}}
	file, err := os.Create(filepath.Join(t.TempDir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	boot := func(w io.Writer, from uint64, lines ...string) {
		for i, text := range lines {
			_, err := fmt.Fprintf(w, `{"seq":%d,"mono_ns":%d,"unit":"test","stream":"stdout","text":%q}`+"\n", from+uint64(i), (i+1)*1000, text)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	var first, second bytes.Buffer
	boot(&first, 7, "clone", "clone") // its saved machine has printed before
	boot(&first, 1, "reset", "reset")
	boot(&second, 7, "crashed", "crashed")
	n.readJournal(&life{wanted: true}, &first, file)
	n.readJournal(&life{wanted: true}, &second, file)
	want := map[string]int{"clone": 1, "reset": 2, "crashed": 3}
	for _, l := range n.log.Lines(0, 6) {
		if l.Boot != want[l.Text] || l.Guest == 0 {
			t.Errorf("%q is of boot %d, want %d, at %s", l.Text, l.Boot, want[l.Text], l.Guest)
		}
	}
	if n.log.Len() != 6 {
		t.Errorf("%d lines", n.log.Len())
	}
}

// testNode is a node of a world without machines, and what it has told.
func testNode(t *testing.T) (n *Node, told *[]*scenario.NodeError) {
	t.Helper()
	told = &[]*scenario.NodeError{}
	rec, err := record.CreateScenario(t.TempDir(), "test", "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rec.Close() })
	w := &World{cfg: Config{Record: rec}}
	w.OnFailure(func(e *scenario.NodeError) { *told = append(*told, e) })
	return &Node{world: w, name: "A", log: console.NewLog()}, told
}

// journaled writes what programs print as a machine's agent does.
func journaled(t *testing.T, unit, stream, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	j := journal.NewWriter(&b, func() time.Duration { return time.Second })
	err := journal.Split(strings.NewReader(text), func(line []byte, more bool) {
		if err := j.Line(unit, stream, line, more); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func waitsInVain(t *testing.T, log *console.Log, text string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := log.Wait(ctx, 0, func(l console.Line) bool { return strings.Contains(l.Text, text) })
	if err == nil {
		t.Errorf("line %d has %q", l.Seq, text)
	}
	return err
}

// A line is searched as it was printed, wherever it was cut on its way.
func TestLongLinesAreSearchedWhole(t *testing.T) {
	const forbidden = "a forbidden word"
	for _, before := range []int{0, journal.MaxLine - 5, 2*journal.MaxLine - 1, 40 * journal.MaxLine} {
		text := strings.Repeat("x", before) + forbidden + strings.Repeat("y", journal.MaxLine) + "\nnext\n"
		n, _ := testNode(t)
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		l := &life{wanted: true}
		n.readJournal(l, bytes.NewReader(journaled(t, "prog", "stdout", text)), file)
		n.readConsole(l, strings.NewReader(text), file)
		file.Close()
		lines := n.log.Lines(0, n.log.Len())
		if len(lines) != 4 {
			t.Fatalf("%d before: %d lines", before, len(lines))
		}
		for _, i := range []int{0, 2} {
			if lines[i].Text+"\nnext\n" != text {
				t.Errorf("%d before: line %d has %d bytes", before, i, len(lines[i].Text))
			}
		}
	}
}

// A line that has not come to its end, or is too long to be kept whole, is no ground to say what is not in it.
func TestLinesThatCannotBeSearchedWholeAreSaid(t *testing.T) {
	n, _ := testNode(t)
	a := n.assembler()
	piece := bytes.Repeat([]byte("x"), journal.MaxLine)
	from := console.Line{Unit: "prog", Stream: "stdout"}
	a.take(from, piece, true)
	var lacking *console.IncompleteError
	if err := waitsInVain(t, n.log, "never"); !errors.As(err, &lacking) || !strings.Contains(lacking.Why, "a long line of prog (stdout) has not come to its end") {
		t.Errorf("in the middle of a line: %v", err)
	}
	a.take(from, []byte("end"), false)
	if err := waitsInVain(t, n.log, "never"); errors.As(err, &lacking) {
		t.Errorf("behind its end: %v", err)
	}
	for range maxWhole/len(piece) + 1 {
		a.take(from, piece, true)
	}
	a.take(from, []byte("end"), false)
	if err := waitsInVain(t, n.log, "never"); !errors.As(err, &lacking) || !strings.Contains(lacking.Why, "more than 16 MiB") {
		t.Errorf("behind an endless line: %v", err)
	}
}

func TestLostEntriesEndTheScenario(t *testing.T) {
	entry := func(seq int, text string) string {
		return fmt.Sprintf(`{"seq":%d,"mono_ns":1,"unit":"prog","stream":"stdout","text":%q}`, seq, text) + "\n"
	}
	for _, c := range []struct{ name, journal, lost string }{
		{"all are there", entry(1, "a") + entry(2, "b"), ""},
		{"a clone goes on counting", entry(7, "a") + entry(8, "b"), ""},
		{"a gap", entry(1, "a") + entry(5, "b"), "journal entries 2 to 4 never arrived"},
		{"garbled", entry(1, "a") + "{nothing}\n" + entry(2, "b"), "decode journal entry"},
		{"reset", entry(1, "a") + entry(2, "b") + entry(1, "again"), ""},
		{"reset in the middle of an entry", entry(1, "a") + entry(2, "b")[:20] + entry(1, "again") + entry(2, "b"), ""},
		{"switched off in the middle of an entry", entry(1, "a") + entry(2, "b")[:20], ""},
	} {
		n, told := testNode(t)
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		n.readJournal(&life{wanted: true}, strings.NewReader(c.journal), file)
		file.Close()
		switch {
		case c.lost == "" && len(*told) > 0:
			t.Errorf("%s: %v", c.name, (*told)[0])
		case c.lost != "" && (len(*told) == 0 || (*told)[0].Reason != record.LogIncomplete || !strings.Contains((*told)[0].Error(), c.lost)):
			t.Errorf("%s: told %v", c.name, *told)
		}
		var lacking *console.IncompleteError
		if err := waitsInVain(t, n.log, "never"); errors.As(err, &lacking) != (c.lost != "") {
			t.Errorf("%s: a wait ends with %v", c.name, err)
		}
	}
}

// A record that cannot be written is no ground for a pass, and has its own class when the disk is full.
func TestAFullDiskEndsTheScenario(t *testing.T) {
	n, told := testNode(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	n.readConsole(&life{wanted: true}, strings.NewReader("one\ntwo\n"), full)
	if len(*told) != 1 || (*told)[0].Reason != record.HostExhausted || !strings.Contains((*told)[0].Error(), "disk space") {
		t.Errorf("told %v", *told)
	}
	if n.log.Len() != 2 {
		t.Errorf("%d lines were read", n.log.Len())
	}
}

func TestExhausted(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("pipe: %w", syscall.EMFILE), "open files"},
		{fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}), "disk space"},
		{&os.PathError{Op: "fork/exec", Path: "qemu", Err: syscall.EAGAIN}, "processes"},
		{&os.PathError{Op: "read", Path: "x", Err: syscall.EAGAIN}, ""},
		{fmt.Errorf("machine A: %w (exit status 1): qemu: cannot set up guest memory 'ram': Cannot allocate memory", machine.ErrExited), "memory"},
		{fmt.Errorf("machine A: %w (exit status 1): qemu: Could not open '/x': Too many open files", machine.ErrExited), "open files"},
		{errors.New("node A: write /tmp/x: No space left on device"), ""}, // the machine's own
		{errors.New("anything else"), ""},
	} {
		if what, ok := exhausted(c.err); what != c.want || ok != (c.want != "") {
			t.Errorf("%v: %q, %t; want %q", c.err, what, ok, c.want)
		}
	}
}

// What ends with a machine is over in the record, too, and judged by what it has touched.
func TestFaultsEndWithTheMachine(t *testing.T) {
	n, _ := testNode(t)
	var told []string
	rec, err := record.CreateScenario(t.TempDir(), "test", "test", func(e record.Event) {
		told = append(told, strings.TrimSpace(e.Name+" "+e.Text+" "+e.State))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	n.world.cfg.Record = rec
	n.world.faults.open = []*fault{
		{verb: "link", node: "A", text: "loss=5%", inside: true, counted: 3},
		{verb: "link", node: "A", text: "down"},
		{verb: "link", node: "B", text: "loss=5%", inside: true},
		{verb: "link", node: "A", text: "delay=1s", inside: true},
	}
	n.endWithMachine(true)
	want := "pause  healed, link loss=5% observed, link loss=5% healed, link delay=1s healed"
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	if len(n.world.faults.open) != 2 || len(n.world.faults.idle) != 1 {
		t.Errorf("%d are in force, and idle were %v", len(n.world.faults.open), n.world.faults.idle)
	}
	told = nil
	n.endCrash()
	n.crashed = true
	n.endCrash()
	n.endCrash()
	if got := strings.Join(told, ", "); got != "crash  healed" {
		t.Errorf("told %s", got)
	}
}
