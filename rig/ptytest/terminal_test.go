package ptytest

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// limit is no figure: a busy host takes what it takes.
const limit = 30 * time.Second

// A failing test is one whose failures are wanted.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// fails checks that f fails its test, once and saying so.
func (x *Terminal) fails(t *testing.T, says string, f func()) {
	t.Helper()
	fake := &failing{TB: t}
	x.t = fake
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	x.t = t
	if len(fake.said) != 1 || !strings.Contains(fake.said[0], says) {
		t.Errorf("it says %q, want %q", fake.said, says)
	}
}

func sh(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func TestCommand(t *testing.T) {
	x := Open(t, 20, 50, limit)
	x.Start(sh(`tty >/dev/null && [ -t 2 ] && stty size; echo on its terminal >/dev/tty; read word; echo "<$word>"; exit 7`))
	if got := x.Shows(`\d+ \d+`); got != "20 50" {
		t.Errorf("the size is %q", got)
	}
	x.Shows(`on its terminal\r\n`)
	x.Types("word\r")
	x.Shows(`<word>\r\n$`)
	x.Ends(7)
	if got, want := x.Text(), "20 50\r\non its terminal\r\nword\r\n<word>\r\n"; got != want {
		t.Errorf("it shows %q, want %q", got, want)
	}
}

// The size's change and keys for signals arrive, and what a signal ended has no status.
func TestResizeAndSignals(t *testing.T) {
	x := Open(t, 20, 50, limit)
	x.Start(sh(`trap 'stty size' WINCH; trap 'echo caught' INT; sh -c 'echo ready; exec sleep 1000' & while wait; [ $? -gt 128 ]; do :; done`))
	x.Shows("ready")
	x.Resize(44, 132)
	x.Shows("44 132")
	x.Types("\x03")
	x.Shows("caught")
	x.Signal(unix.SIGKILL)
	x.Ends(-1)
	x.Signal(unix.SIGKILL) // which is for nobody
}

func TestInThisProcess(t *testing.T) {
	x := Open(t, 24, 80, limit)
	if _, err := x.Slave().WriteString("one two three"); err != nil {
		t.Fatal(err)
	}
	x.Shows("two")
	x.Shows("three")
	x.IsAsBefore()
	old, err := term.MakeRaw(int(x.Slave().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if raw := x.Settings(); raw.Lflag&unix.ICANON != 0 {
		t.Errorf("it is not raw: %+v", raw)
	}
	x.fails(t, "not left as it was", x.IsAsBefore)
	if err := term.Restore(int(x.Slave().Fd()), old); err != nil {
		t.Fatal(err)
	}
	x.IsAsBefore()
	x.Types("line\r")
	buf := make([]byte, 80)
	if n, err := x.Slave().Read(buf); string(buf[:n]) != "line\n" {
		t.Errorf("typed is %q, %v", buf[:n], err)
	}
}

// Hanging up does not wait for the read that goes on, and ends one of the other side.
func TestHangUp(t *testing.T) {
	x := Open(t, 24, 80, limit)
	x.Start(sh(`trap 'exit 3' HUP; sh -c 'echo ready; exec sleep 1000' & wait`))
	x.Shows("ready")
	x.HangUp()
	x.Ends(3)

	x = Open(t, 24, 80, limit)
	read := make(chan error, 1)
	go func() {
		_, err := x.Slave().Read(make([]byte, 1))
		read <- err
	}()
	x.HangUp()
	select {
	case err := <-read:
		if err == nil {
			t.Error("something was typed")
		}
	case <-time.After(limit):
		t.Error("the read goes on")
	}
}

func TestFailures(t *testing.T) {
	x := Open(t, 24, 80, limit)
	x.Start(sh(`echo one; echo two; read word; stty raw; exit 3`))
	x.Shows("two")
	x.limit = time.Millisecond
	x.fails(t, `does not show "one" within 1ms; the last is "\r\n"`, func() { x.Shows("one") }) // it is behind
	x.fails(t, `does not end within 1ms; it shows "one\r\ntwo\r\n"`, func() { x.Ends(3) })
	x.limit = limit
	x.Types("word\r")
	x.fails(t, "not left as it was", func() { x.Ends(3) })
	x.fails(t, `it ended, and never showed "three"; the last was "\r\nword\r\n"`, func() { x.Shows("three") })

	x = Open(t, 24, 80, limit)
	x.Start(sh(`echo four; exit 3`))
	x.Shows(`four\r\n`)
	x.fails(t, `exit status 3, want 0; it shows "four\r\n"`, func() { x.Ends(0) })
}
