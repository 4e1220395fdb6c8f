package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
