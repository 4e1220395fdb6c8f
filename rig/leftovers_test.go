package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

// manyPlayings is how often a scenario is played to see whether anything is left of
// it: often enough that one thing more each time is not taken for chance.
const manyPlayings = 60

// leftMark is in the environment of all that a run starts, but QEMU, so that it is known
// whoever its parent has become.
const leftMark = "RIG_TEST_LEFTOVERS"

// leftovers are what a run may leave of itself in this process and on the host.
type leftovers struct {
	files     []string // what this process has open, by kind
	threads   int      // of this process
	processes []string // with the mark or the folder for temporary files in their environment, other than this one
	networks  []string // namespaces of those
	mounts    string
	temporary []string
	sockets   []string // files of this process's scenarios, and abstract ones of this network namespace
}

func lookAround(t *testing.T, mark, tmp string) (l leftovers) {
	t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	list := func(dir string) []os.DirEntry {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	for _, e := range list("/proc/self/fd") {
		// "socket:[123]" is another one each time.
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		kind, _, _ := strings.Cut(target, "[")
		l.files = append(l.files, kind)
	}
	slices.Sort(l.files)
	l.threads = len(list("/proc/self/task"))
	for _, e := range list("/proc") {
		// What is no process, or none any more, has no environment.
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		ours := strings.Contains(string(env), leftMark+"="+mark) || strings.Contains(string(env), "TMPDIR="+tmp)
		if err != nil || e.Name() == "self" || e.Name() == "thread-self" || !ours {
			continue
		}
		exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		l.processes = append(l.processes, e.Name()+" "+filepath.Base(exe))
		if network, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns", "net")); err == nil && !slices.Contains(l.networks, network) {
			l.networks = append(l.networks, network)
		}
	}
	l.mounts = read("/proc/self/mountinfo")
	for _, e := range list(tmp) {
		l.temporary = append(l.temporary, e.Name())
	}
	for line := range strings.Lines(read("/proc/self/net/unix")) {
		_, name, abstract := strings.Cut(strings.TrimSpace(line), " @")
		if abstract && strings.Contains(name, "rig") {
			l.sockets = append(l.sockets, name)
		}
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(cache), os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Geteuid())} {
		files, err := filepath.Glob(filepath.Join(dir, "dsoftbus-rig", "live", fmt.Sprintf("%d-*", os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		l.sockets = append(l.sockets, files...)
	}
	return l
}

// However often a scenario is played, nothing is left of it, in the process that
// plays or on the host: processes, open files, threads, namespaces, mounts, temporary
// files, sockets.
func TestNothingIsLeftBehind(t *testing.T) {
	needQEMU(t)
	dir := t.TempDir()
	tmp, runs := filepath.Join(dir, "tmp"), filepath.Join(dir, "runs")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name, script string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	tiny := file("tiny.txtar", "# Comes up.\nup -only\n")
	stays := file("stays.txtar", "# Stays for a while.\nup -only\n! marker -within 3s A never\n")
	mark := fmt.Sprint(os.Getpid())
	t.Setenv(leftMark, mark)
	t.Setenv("TMPDIR", tmp) // which QEMU has, too, whose environment is its own otherwise

	// play is `rig run` in this process, and calls seen for each line that it prints.
	play := func(seen func(line string), args ...string) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		stdout := os.Stdout
		os.Stdout = w
		status := make(chan int, 1)
		go func() {
			got := run(append([]string{"run", "-runs", runs}, args...))
			w.Close() // the end of the lines, and before anything is counted
			status <- got
		}()
		var lines []string
		for s := bufio.NewScanner(r); s.Scan(); {
			lines = append(lines, s.Text())
			seen(s.Text())
		}
		os.Stdout = stdout
		if got := <-status; got != record.ExitGreen {
			t.Fatalf("exit status %d:\n%s", got, strings.Join(lines, "\n"))
		}
	}

	// The first run builds what is missing, and what the process has open from then
	// on it has for good. It also shows that a leftover would be seen.
	var during leftovers
	play(func(line string) {
		if strings.Contains(line, "node A ready") {
			during = lookAround(t, mark, tmp)
		}
	}, "-v", "-j", "1", stays)
	if len(during.processes) < 3 || len(during.networks) != 1 {
		t.Fatalf("while a scenario runs there are the processes %q in the namespaces %q", during.processes, during.networks)
	}

	if len(during.sockets) == 0 {
		t.Error("while a scenario runs it has no socket to be asked by")
	}

	before := lookAround(t, mark, tmp)
	play(func(string) {}, "-repeat", fmt.Sprint(manyPlayings), "-j", "2", tiny)
	after := lookAround(t, mark, tmp)

	rec, err := record.Load(filepath.Join(runs, record.LatestLink))
	if err != nil || rec.Summary.Counts[record.Passed] != manyPlayings {
		t.Fatalf("%d passed, %v", rec.Summary.Counts[record.Passed], err)
	}
	if len(after.processes) > 0 || len(after.networks) > 0 {
		t.Errorf("processes %q in the namespaces %q", after.processes, after.networks)
	}
	if !slices.Equal(before.files, after.files) {
		t.Errorf("open files %q became %q", before.files, after.files)
	}
	// Go keeps threads to use them again, some more or less.
	if more := after.threads - before.threads; more > manyPlayings/4 {
		t.Errorf("%d threads more", more)
	}
	if before.mounts != after.mounts {
		t.Errorf("mounts\n%sbecame\n%s", before.mounts, after.mounts)
	}
	if len(after.temporary) > 0 {
		t.Errorf("temporary files %q", after.temporary)
	}
	if len(after.sockets) > 0 {
		t.Errorf("sockets %q", after.sockets)
	}
}
