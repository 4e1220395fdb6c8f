package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
