package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// runOf returns the one run's folder in what shardOf has made.
func runOf(t *testing.T, root string) string {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != record.LatestLink {
			return filepath.Join(root, e.Name())
		}
	}
	t.Fatalf("no run in %s", root)
	return ""
}

// A page of a record with keys shows what the sessions carried.
func TestPageOfARecordWithKeysIsPrivate(t *testing.T) {
	run := runOf(t, shardOf(t, "a/x", record.Passed, ""))
	page := filepath.Join(t.TempDir(), "page.html")
	for _, keys := range []bool{false, true} {
		if keys {
			if err := os.WriteFile(filepath.Join(run, "a", "x", record.KeysFile), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, status := rig(t, nil, "report", "-o", page, run); status != 0 {
			t.Fatalf("exit status %d:\n%s", status, out)
		}
		info, err := os.Stat(page)
		if err != nil {
			t.Fatal(err)
		}
		if private := info.Mode().Perm() == 0o600; private != keys {
			t.Errorf("with keys %t: the page is %s", keys, info.Mode())
		}
	}
}

// Links in a record of a stranger lead to nothing of this host.
func TestLinksInARecord(t *testing.T) {
	private := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(private, []byte("a key of somebody"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := shardOf(t, "a/x", record.Passed, "")
	run := runOf(t, root)
	if err := os.Symlink(private, filepath.Join(run, "a", "x", record.CaptureFile)); err != nil {
		t.Fatal(err)
	}
	out, status := rig(t, nil, "report", "-o", filepath.Join(t.TempDir(), "page.html"), run)
	if status != 0 || !strings.Contains(out, "escapes") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if out, status := rig(t, nil, "decode", run); status == 0 || !strings.Contains(out, "escapes") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if err := os.Symlink(private, filepath.Join(run, recording.KernelFile)); err != nil {
		t.Fatal(err)
	}
	runs := t.TempDir()
	out, status = rig(t, nil, "merge", "-runs", runs, run)
	if status == 0 || !strings.Contains(out, "escapes") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if err := filepath.WalkDir(runs, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "a key of somebody") {
			t.Errorf("the joined record has the key in %s", name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A recording of a stranger is replayed by the user's QEMU, or not at all: neither
// the program nor the options that it names are run.
func TestReplayOfAStranger(t *testing.T) {
	needQEMU(t)
	version, err := host.QEMUVersion(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ = strings.Cut(version, " ")
	dir := t.TempDir()
	mark, evil := filepath.Join(dir, "mark"), filepath.Join(dir, "qemu")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\ntouch "+mark+"\necho QEMU emulator version "+version+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := runOf(t, shardOf(t, "a/x", record.Passed, ""))
	for _, name := range []string{recording.KernelFile, recording.InitrdFile} {
		if err := os.WriteFile(filepath.Join(run, name), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := recording.Digest(filepath.Join(run, recording.KernelFile))
	if err != nil {
		t.Fatal(err)
	}
	life, err := recording.Create(filepath.Join(run, "a", "x", "A"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{recording.LogFile, recording.ConsoleFile, recording.JournalFile, recording.PositionsFile} {
		if err := os.WriteFile(filepath.Join(life, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := recording.Machine{Node: "A", Scenario: "a/x", QEMU: evil, QEMUVersion: version, Kernel: sum, Initrd: sum, Ended: true}
	for want, args := range map[string][]string{
		`"-incoming exec:touch ` + mark + `"`: {"-S", "-incoming", "exec:touch " + mark},
		`"-plugin ` + evil + `"`:              {"-plugin", evil},
	} {
		m.Args = args
		if err := recording.Write(life, m); err != nil {
			t.Fatal(err)
		}
		out, status := rig(t, nil, "replay", run, "A")
		if status == 0 || !strings.Contains(out, want) {
			t.Errorf("exit status %d, want an error that names %s:\n%s", status, want, out)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Fatalf("a program that the recording names was run:\n%s", out)
		}
	}
}
