package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/record"
)

// A run that goes on is not packed, and is when it has ended.
func TestPackWaitsForTheEnd(t *testing.T) {
	run, err := record.Create(t.TempDir(), "on", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if err := run.Append(record.Event{Kind: record.KindRunStart}); err != nil {
		t.Fatal(err)
	}
	pack := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), rigBinary, "pack", run.Dir())
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		left, _ := os.ReadDir(cmd.Dir)
		if len(left) > 0 != (err == nil) {
			t.Errorf("%v, and left is %v", err, left)
		}
		return string(out), err
	}
	if out, err := pack(); exitStatus(err) != record.ExitInvalid || !strings.Contains(out, "goes on: wait for its end") {
		t.Errorf("%v: %s", err, out)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := pack(); err != nil { // as it was killed, it has no summary
		t.Errorf("%v: %s", err, out)
	}
}

// Ctrl-C ends both commands, and nothing is left of what they made.
func TestPackIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(run, record.EventsFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// So large a hole keeps them busy for minutes.
	if err := os.WriteFile(filepath.Join(run, "hole"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(run, "hole"), 1<<40); err != nil {
		t.Fatal(err)
	}
	interrupt := func(begun string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), rigBinary, args...)
		cmd.Dir = dir
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if found, _ := filepath.Glob(filepath.Join(dir, begun)); len(found) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Error("it has made nothing")
				break
			}
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); exitStatus(err) != record.ExitInterrupted || said.String() != "rig: interrupted\n" {
			t.Errorf("%v: %s", err, said.String())
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
	interrupt(".packing-*", "pack", "run")

	// An archive that does not come to an end, as over a slow network.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	feed, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	interrupt(".unpacking-*", "unpack", pipe)
}

// exitStatus is what a command ended with.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return -1
}
