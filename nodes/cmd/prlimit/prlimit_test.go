package prlimit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// startMode makes this test program prlimit, with the arguments that it has.
const startMode = "PRLIMIT_TEST_START"

// victimMode makes this test program a service that opens as many files as its standard input has lines, one for each, and says how that went.
const victimMode = "PRLIMIT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(startMode) != "" {
		os.Unsetenv(startMode)
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(victimMode) != "" {
		victim()
		return
	}
	os.Exit(m.Run())
}

func victim() {
	fmt.Println("ready")
	for line := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(line); err != nil {
			return
		}
		// Open for good: a file that nobody refers to would be closed at some time.
		_, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
		switch {
		case err == nil:
			fmt.Println("opened")
		case errors.Is(err, unix.EMFILE):
			fmt.Println("EMFILE")
		default:
			fmt.Println(err)
		}
	}
}

// A running is such a service, of a name that no other process has.
type running struct {
	t    *testing.T
	name string
	in   io.Writer
	out  io.Reader
}

func start(t *testing.T) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("victim-%d", os.Getpid())
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(link)
	cmd.Env = append(os.Environ(), victimMode+"=1")
	return run(t, name, cmd)
}

func run(t *testing.T, name string, cmd *exec.Cmd) *running {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	r := &running{t, name, in, out}
	r.says("ready")
	return r
}

func (r *running) says(want string) {
	r.t.Helper()
	got := make([]byte, len(want)+1)
	if _, err := io.ReadFull(r.out, got); err != nil || string(got) != want+"\n" {
		r.t.Fatalf("it says %q, %v; want %q", got, err, want)
	}
}

func (r *running) opens(want ...string) {
	r.t.Helper()
	for _, w := range want {
		if _, err := r.in.Write([]byte{'\n'}); err != nil {
			r.t.Fatal(err)
		}
		r.says(w)
	}
}

func check(t *testing.T, args []string, status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	got := Main(t.Context(), args, &out, &errs)
	if got != status || !regexp.MustCompile(stdout).MatchString(out.String()) || !regexp.MustCompile(stderr).MatchString(errs.String()) {
		t.Errorf("%q ended with %d, %q, %q; want %d, %q, %q", args, got, &out, &errs, status, stdout, stderr)
	}
}

func TestTakesAndGives(t *testing.T) {
	r := start(t)
	r.opens("opened") // what its runtime opens with the first file is there
	line := `^` + r.name + ` pid=\d+ fds=\d+ nofile=\d+ spare=%s\n$`
	check(t, []string{"-spare", "2", r.name}, 0, fmt.Sprintf(line, "2"), `^$`)
	r.opens("opened", "opened", "EMFILE", "EMFILE")
	check(t, []string{r.name}, 0, fmt.Sprintf(line, "0"), `^$`)
	check(t, []string{"-nofile", "max", r.name}, 0, fmt.Sprintf(line, `[1-9]\d*`), `^$`)
	r.opens("opened", "opened")
	check(t, []string{"-nofile", "3", r.name}, 0, `nofile=3 spare=0\n$`, `^$`)
	r.opens("EMFILE")
	check(t, []string{"-nofile", "2147483647", r.name}, 1, `^$`, `may never have more than \d+ descriptors\n$`)
	check(t, []string{r.name}, 0, `nofile=3 `, `^$`)
}

// TestStart: a program that is started under a limit has it when it opens its
// first file, though Go raises what can be raised.
func TestStart(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Some beyond the standard ones: a program that is linked dynamically, as with
	// the race detector, opens its libraries, and Go's runtime may keep a file.
	const room = 3
	cmd := exec.Command(self, "-start", "-nofile", strconv.Itoa(3+room), self)
	cmd.Env = append(os.Environ(), startMode+"=1", victimMode+"=1")
	r := run(t, "the program", cmd)
	lines := bufio.NewScanner(r.out)
	for opened := 0; ; opened++ {
		if _, err := r.in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || opened > room {
			t.Fatalf("after %d files it says %q, %v; want EMFILE after at most %d", opened, lines.Text(), lines.Err(), room)
		}
		if lines.Text() == "EMFILE" {
			return
		}
	}
}

func TestStartFails(t *testing.T) {
	// Both before any limit of this process is touched.
	check(t, []string{"-start", "-nofile", "8", "nobody-has-this"}, 1, `^$`, `^prlimit: start nobody-has-this: .*not found`)
	for _, args := range []string{"-start", "-start -nofile 8", "-start packagefsd", "-start -nofile max packagefsd", "-start -spare 2 packagefsd"} {
		check(t, strings.Fields(args), 2, `^$`, `^prlimit: -start takes -nofile N and a program`)
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		open  []int
		spare int
		limit uint64
	}{
		{nil, 0, 0},
		{nil, 2, 2},
		{[]int{0, 1, 2}, 0, 0},
		{[]int{0, 1, 2}, 1, 4},
		{[]int{0, 2, 4}, 1, 2},
		{[]int{0, 2, 4}, 2, 4},
		{[]int{0, 2, 4}, 3, 6},
	} {
		limit := limitFor(tt.open, tt.spare)
		if limit != tt.limit || spareOf(tt.open, limit) != uint64(tt.spare) {
			t.Errorf("%d more than %v: limit %d with %d to spare, want %d", tt.spare, tt.open, limit, spareOf(tt.open, limit), tt.limit)
		}
	}
}

func TestUsage(t *testing.T) {
	for args, stderr := range map[string]string{
		"":                             "0 programs; name one",
		"a b":                          "2 programs",
		"-nofile 3 -spare 2 dsoftbusd": "say one of them",
		"-nofile some dsoftbusd":       "say a number, or max",
		"-nofile -1 dsoftbusd":         "say a number, or max",
		"-spare -1 dsoftbusd":          "say 0 or more",
		"-spare":                       "needs an argument",
		"-nofile= dsoftbusd":           "say a number, or max",
	} {
		check(t, strings.Fields(args), 2, `^$`, `^prlimit: .*`+stderr)
	}
	check(t, []string{"-h"}, 0, `^$`, `^usage:\n  prlimit `)
	check(t, []string{"nobody-has-this"}, 1, `^$`, `^prlimit: no process is called nobody-has-this\n$`)
}
