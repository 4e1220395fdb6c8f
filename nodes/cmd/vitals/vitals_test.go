package vitals

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// self is how this test's own process is called.
func self(t *testing.T) string {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(comm))
}

// view is a /proc that has these processes of the host only.
func view(t *testing.T, pids ...int) string {
	dir := t.TempDir()
	for _, pid := range pids {
		if err := os.Symlink(fmt.Sprintf("/proc/%d", pid), filepath.Join(dir, fmt.Sprint(pid))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// check runs the program on proc.
func check(t *testing.T, proc string, args []string, status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	got := run(proc, args, &out, &errs)
	if got != status || !regexp.MustCompile(stdout).MatchString(out.String()) || !regexp.MustCompile(stderr).MatchString(errs.String()) {
		t.Errorf("%q ended with %d, %q, %q; want %d, %q, %q", args, got, &out, &errs, status, stdout, stderr)
	}
}

func TestSaveAndCompare(t *testing.T) {
	me, name := os.Getpid(), self(t)
	proc, file := view(t, me), filepath.Join(t.TempDir(), "vitals")
	line := fmt.Sprintf(`^%s pid=%d fds=\d+ rss_kb=[1-9]\d* threads=[1-9]\d*\n$`, regexp.QuoteMeta(name), me)
	check(t, proc, []string{"-save", file, name}, 0, line, `^$`)
	saved, err := os.ReadFile(file)
	if err != nil || !regexp.MustCompile(line).Match(saved) {
		t.Fatalf("saved %q, %v", saved, err)
	}
	check(t, proc, []string{"-against", file, "-rss", "65536", name}, 0, line, `^$`)

	for range 3 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	check(t, proc, []string{"-against", file, "-rss", "65536", name}, 1, line,
		`^vitals: `+regexp.QuoteMeta(name)+` grew: fds \d+, was \d+: 3 more, allowed are 0\n$`)
	check(t, proc, []string{"-against", file, "-rss", "65536", "-fds", "2", name}, 1, line, `: 3 more, allowed are 2\n$`)
	check(t, proc, []string{"-against", file, "-rss", "65536", "-fds", "3", name}, 0, line, `^$`)

	// What goes away while it looks is no growth.
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(lookAgain/2, func() { f.Close() })
	check(t, proc, []string{"-against", file, "-rss", "65536", "-fds", "3", "-within", "1m", name}, 0, line, `^$`)
	check(t, proc, []string{"-against", file, "-rss", "65536", "-within", "1ms", name}, 1, line, `: 3 more, allowed are 0\n$`)

	// Not of the heap, which may have had as much before.
	memory, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	check(t, proc, []string{"-against", file, "-fds", "3", name}, 1, line, `grew: rss_kb \d+, was \d+: \d{5,} more, allowed are 4096\n$`)
	check(t, proc, []string{"-against", file, "-fds", "1", "-rss", "1", name}, 1, line, `fds .*; .*rss_kb`)
	if err := unix.Munmap(memory); err != nil {
		t.Error(err)
	}
}

func TestAnotherProcess(t *testing.T) {
	name := self(t)
	file := filepath.Join(t.TempDir(), "vitals")
	before := vital{name: name, pid: os.Getpid() + 1, fds: 1 << 20, rssKB: 1 << 30, thread: 1}
	if err := os.WriteFile(file, []byte(before.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, view(t, os.Getpid()), []string{"-against", file, name}, 1, name, fmt.Sprintf(`is another process: pid %d, was %d\n$`, os.Getpid(), os.Getpid()+1))
}

func TestNoneOrSeveral(t *testing.T) {
	me, name := os.Getpid(), self(t)
	check(t, view(t), []string{name}, 1, `^$`, `^vitals: no process is called `)
	check(t, view(t, me), []string{name, "nonsense"}, 1, `^$`, `^vitals: no process is called nonsense\n$`)

	// The same process again, under another number.
	proc := view(t, me)
	if err := os.Symlink(fmt.Sprintf("/proc/%d", me), filepath.Join(proc, "999999999")); err != nil {
		t.Fatal(err)
	}
	check(t, proc, []string{name}, 1, `^$`, fmt.Sprintf(`^vitals: 2 processes are called .*: pids %d 999999999\n$`, me))
}

// The kernel keeps fifteen bytes of a name.
func TestLongName(t *testing.T) {
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "7", "fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"comm": "a-name-that-has\n", "status": "Name:\tx\nVmRSS:\t  12 kB\nThreads:\t3\n"} {
		if err := os.WriteFile(filepath.Join(proc, "7", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check(t, proc, []string{"a-name-that-has-more"}, 0, `^a-name-that-has-more pid=7 fds=0 rss_kb=12 threads=3\n$`, `^$`)
}

// A process that has ended and that nobody has waited for has no memory to tell of.
func TestEnded(t *testing.T) {
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "7", "fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"comm": "gone\n", "status": "Name:\tx\nThreads:\t1\n"} {
		if err := os.WriteFile(filepath.Join(proc, "7", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check(t, proc, []string{"gone"}, 1, `^$`, `^vitals: gone, pid 7, has ended`)
}

func TestBadFile(t *testing.T) {
	name := self(t)
	file := filepath.Join(t.TempDir(), "vitals")
	check(t, view(t, os.Getpid()), []string{"-against", file, name}, 1, `^$`, `no such file`)
	if err := os.WriteFile(file, []byte("other pid=1 fds=1 rss_kb=1 threads=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, view(t, os.Getpid()), []string{"-against", file, name}, 1, `^$`, `says nothing of `)
	if err := os.WriteFile(file, []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, view(t, os.Getpid()), []string{"-against", file, name}, 1, `^$`, `"nonsense" is no line of vitals`)
}

func TestUsage(t *testing.T) {
	for args, stderr := range map[string]string{
		"":                              "no program",
		"-save":                         "needs an argument",
		"-save x -against y dsoftbusd":  "save first",
		"-fds 1 dsoftbusd":              "are for -against",
		"-rss 1 dsoftbusd":              "are for -against",
		"-within 1s dsoftbusd":          "are for -against",
		"-against y -within -1s x":      "say 0 or more",
		"-against y -fds -1 dsoftbusd":  "say 0 or more",
		"-against y -rss -1 dsoftbusd":  "say 0 or more",
		"-against y -rss much packages": "much",
	} {
		check(t, "/proc", strings.Fields(args), 2, `^$`, `^vitals: .*`+stderr)
	}
	check(t, "/proc", []string{"-h"}, 0, `^$`, `^usage:\n  vitals \[-save FILE\] PROGRAM`)
}
