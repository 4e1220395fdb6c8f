package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shown makes a folder that looks like /proc with processes of these names.
func shown(t *testing.T, comms map[string]string) string {
	t.Helper()
	proc := t.TempDir()
	for pid, comm := range comms {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if comm == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

func TestFind(t *testing.T) {
	proc := shown(t, map[string]string{"12": "pkgfs", "7": "pkgfs", "8": "pkgfs2", "9": "", "self": "pkgfs", "100": "a-name-that-has"})
	for name, want := range map[string][]int{"pkgfs": {7, 12}, "pkg": nil, "a-name-that-has-more": {100}} {
		if got, err := Find(proc, name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"pkgfs": "2 processes are called pkgfs: pids 7 12", "none": "no process is called none"} {
		if _, err := One(proc, name); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
	if pid, err := One(proc, "pkgfs2"); err != nil || pid != 8 {
		t.Errorf("%d, %v", pid, err)
	}
}

func TestReal(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := Find(Proc, strings.TrimSpace(string(comm)))
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("%v, %v; I am %d", pids, err, os.Getpid())
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fds, err := Descriptors(Proc, os.Getpid())
	if err != nil || !slices.Contains(fds, int(f.Fd())) || !slices.IsSorted(fds) {
		t.Errorf("%v, %v; %s is %d", fds, err, f.Name(), f.Fd())
	}
	if _, err := Descriptors(Proc, 1<<30); err == nil || !os.IsNotExist(err) {
		t.Errorf("of nobody: %v", err)
	}
	if _, err := Descriptors(t.TempDir(), os.Getpid()); err == nil {
		t.Error(fmt.Sprint("of a folder that shows none: ", err))
	}
}

func TestStatus(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	status := "Name:\tpkgfs\nState:\tT (stopped)\nSigIgn:\tffffffffffffffff\nSigCgt:\t0000000000000200\n"
	if err := os.WriteFile(filepath.Join(proc, "7", "status"), []byte(status), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Status(proc, 7, "State"); got != "T (stopped)" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Status(proc, 7, "Stat"); err == nil || err.Error() != "status of process 7: no field Stat" {
		t.Errorf("no such field: %v", err)
	}
	for signal, want := range map[int]bool{10: true, 9: false, 11: false, 1: false, 64: false} {
		if got, err := Catches(proc, 7, signal); got != want || err != nil {
			t.Errorf("signal %d: %t, %v", signal, got, err)
		}
	}
	if _, err := Catches(proc, 8, 10); !os.IsNotExist(err) {
		t.Errorf("nobody: %v", err)
	}
}

func TestSession(t *testing.T) {
	proc := shown(t, map[string]string{"3": "x", "20": "x", "4": "x", "5": "x", "6": "x"})
	for pid, stat := range map[string]string{
		"3":  "3 (sh) S 1 3 3 34816 3 0",
		"20": "20 (a ) b) R 3 20 3 34816",
		"4":  "4 (gone) Z 3 3 3 0",
		"5":  "5 (other) S 3 9 5 0",
		"6":  "6 (short",
	} {
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for leader, want := range map[int][]int{3: {3, 20}, 5: {5}, 20: nil} {
		if got, err := Session(proc, leader); err != nil || !slices.Equal(got, want) {
			t.Errorf("session %d: %v, %v; want %v", leader, got, err, want)
		}
	}
	for leader, want := range map[int][]int{3: {3}, 9: {5}, 20: {20}, 5: nil} {
		if got, err := Group(proc, leader); err != nil || !slices.Equal(got, want) {
			t.Errorf("group %d: %v, %v; want %v", leader, got, err, want)
		}
	}
	if got, err := Group(Proc, unix.Getpgrp()); err != nil || !slices.Contains(got, os.Getpid()) {
		t.Errorf("my own group: %v, %v; I am %d", got, err, os.Getpid())
	}
	own, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Session(Proc, own); err != nil || !slices.Contains(got, os.Getpid()) {
		t.Errorf("my own: %v, %v; I am %d", got, err, os.Getpid())
	}
}
