package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// Nodes with machines are tested through the real program, in package rig.

func TestFatalLines(t *testing.T) {
	tests := []struct {
		unit, stream, text string
		want               record.Reason
	}{
		{"kernel", "console", "[    5.70] Kernel panic - not syncing: sysrq triggered crash", record.KernelPanic},
		{"kernel", "console", "[   12.345678] BUG: unable to handle page fault for address: 0", record.KernelPanic},
		{"kernel", "console", "[    1.0] Oops: 0002 [#1] PREEMPT SMP", record.KernelPanic},
		{"kernel", "console", "[    1.0] general protection fault, probably for non-canonical address", record.KernelPanic},
		{"kernel", "console", "[    1.0] kernel BUG at mm/slub.c:300!", record.KernelPanic},
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
	n.readJournal(&life{}, &first, file)
	n.readJournal(&life{}, &second, file)
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
