package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// A recorded run goes as any other does, and its folder has all that a replay takes.
func TestRecordedRun(t *testing.T) {
	t.Parallel()
	r := testRoundtrip(t, "-record", "-j", "1")
	for _, name := range []string{recording.KernelFile, recording.InitrdFile, recording.DebugFile} {
		if info, err := os.Stat(r.latest(name)); err != nil || info.Size() < 1<<20 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	kernel, err := recording.Digest(r.latest(recording.KernelFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.only().Nodes {
		lives, err := recording.Lives(r.latest(filepath.Dir(filepath.FromSlash(n.Journal))))
		if err != nil || len(lives) != 1 {
			t.Fatalf("node %s: %d lives, %v", n.Name, len(lives), err)
		}
		l := lives[0]
		if !l.Ended || l.Node != n.Name || l.Scenario != "test" || l.Kernel != kernel || l.Lines < 5 {
			t.Errorf("node %s: %+v", n.Name, l.Machine)
		}
		if info, err := os.Stat(l.File(recording.LogFile)); err != nil || info.Size() < 10<<10 || info.Mode().Perm() != 0o600 {
			t.Errorf("the log of node %s: %v, %v", n.Name, info, err)
		}
		positions, err := l.Positions()
		if err != nil || len(positions) < 5 {
			t.Fatalf("node %s: %d positions, %v", n.Name, len(positions), err)
		}
		for i, p := range positions[1:] {
			if p.Instructions < positions[i].Instructions || p.Time.Before(positions[i].Time) {
				t.Errorf("node %s was at %+v, and then at %+v", n.Name, positions[i], p)
			}
		}
		console, err := os.ReadFile(l.File(recording.ConsoleFile))
		if err != nil {
			t.Fatal(err)
		}
		if told, err := os.ReadFile(r.latest(filepath.FromSlash(n.Console))); err != nil || string(told) != string(console) {
			t.Errorf("node %s: its console is %d bytes in the record, and %d in the recording, %v", n.Name, len(told), len(console), err)
		}
	}
}

// What failed is played again, recorded, until it fails; what then passes is not kept.
func TestRecordWhatFailed(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		as           string
		tries        int
		said         string
	}{
		{"fails again", "# Fails.\nup -only A\nexec A false\n", "test@recorded1", 1, "it failed again, played once with its machines recorded; rig replay "},
		{"passes recorded", "# Fails on clones.\nup -only A\nexec A cat /proc/cmdline\nstdout rig.control=\n", "", 2, "it did not fail again, played 2 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRun(t, tt.script, "-record=fail", "-record-tries", "2")
			if status := r.end(); status != record.ExitFailed {
				t.Fatalf("exit status %d", status)
			}
			rec, err := record.Load(r.latest())
			if err != nil {
				t.Fatal(err)
			}
			s := rec.Summary
			if got := s.Scenarios[0]; s.Counts[record.Failed] != 1 || len(s.Counts) != 1 || got.Recorded != tt.as || got.Tries != tt.tries {
				t.Errorf("counts %v, recorded as %q in %d tries", s.Counts, got.Recorded, got.Tries)
			}
			if !strings.Contains(r.output.String(), tt.said) {
				t.Errorf("the output does not say %q", tt.said)
			}
			page := filepath.Join(t.TempDir(), "page.html")
			if out, status := rig(t, nil, "report", r.latest(), "-o", page); status != record.ExitGreen {
				t.Errorf("rig report: exit status %d: %s", status, out)
			}
			if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), strings.TrimSuffix(tt.said, "rig replay ")) {
				t.Errorf("the page does not say %q, %v", tt.said, err)
			}
			for _, c := range s.Scenarios {
				lives, err := recording.Lives(r.latest(filepath.FromSlash(c.Dir), "A"))
				if err != nil || (len(lives) == 1) != (c.Name == tt.as) {
					t.Errorf("%s: %d lives, %v", c.Name, len(lives), err)
				}
			}
		})
	}
}
