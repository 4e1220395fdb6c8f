// Package ptytest has a real pseudo-terminal with a test in front of it, which types, reads what is shown, and hangs up. What is on the terminal is
// code of this process or a command. It is for tests only, and interprets nothing of what is shown.
package ptytest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A Terminal is open until its test ends. Its methods are for the test's own goroutine, and fail the test when something does not go well.
type Terminal struct {
	t      testing.TB
	limit  time.Duration
	master *os.File
	slave  *os.File
	before unix.Termios
	reader sync.WaitGroup
	seen   int  // how much of what was shown lies before what is looked for next
	hungUp bool // by the test

	cmd   *exec.Cmd     // nil while none was started
	ended chan struct{} // closed when cmd has ended, and the following are set
	err   error         // of waiting for it
	after unix.Termios

	mu      sync.Mutex
	shown   bytes.Buffer
	closed  bool          // nothing more will be shown
	changed chan struct{} // has room for one: there is more, or closed is set
}

// Open returns a terminal of that size, in rows and columns, on which no single wait takes longer than the limit.
func Open(t testing.TB, rows, cols uint16, limit time.Duration) *Terminal {
	t.Helper()
	master, slave, err := open()
	if err != nil {
		t.Fatalf("open a terminal: %v", err)
	}
	x := &Terminal{t: t, limit: limit, master: master, slave: slave, ended: make(chan struct{}), changed: make(chan struct{}, 1)}
	x.reader.Go(x.read)
	t.Cleanup(func() {
		if x.cmd != nil {
			_ = x.cmd.Process.Kill()
			<-x.ended
		}
		x.master.Close()
		x.reader.Wait()
		x.slave.Close()
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", x.Text())
		}
	})
	x.Resize(rows, cols)
	x.before = x.Settings()
	return x
}

// open opens both sides. The master is another descriptor than the one that was opened: that one is in blocking mode, so closing it would wait for
// the read that nothing ends but its being closed.
func open() (master, slave *os.File, err error) {
	opened, slave, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(opened.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err := errors.Join(err, opened.Close()); err != nil {
		slave.Close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), opened.Name()), slave, nil
}

// read reads what is shown until the master is closed, or nobody has the slave any more.
func (x *Terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.master.Read(buf)
		x.mu.Lock()
		x.shown.Write(buf[:n])
		x.closed = err != nil
		x.mu.Unlock()
		select {
		case x.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Slave is the side for code in this process. With a command on the terminal it is closed when that ends.
func (x *Terminal) Slave() *os.File { return x.slave }

// Start starts a command on the terminal, which is its standard input, output and error: the leader of a session of its own, which the terminal
// controls. A terminal has one command at most. It is killed when the test ends.
func (x *Terminal) Start(cmd *exec.Cmd) {
	x.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.slave, x.slave, x.slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.cmd = cmd
	go func() {
		defer close(x.ended)
		x.err = cmd.Wait()
		// An error leaves none that can have been there before.
		if after, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS); err == nil {
			x.after = *after
		}
		// The reader gets to the end of what was shown when nobody has the slave, so that nothing is waited for in vain.
		x.slave.Close()
	}()
}

// Types types keys, as the terminal sends them: "\r" is Enter, "\x03" Ctrl-C.
func (x *Terminal) Types(keys string) {
	x.t.Helper()
	err := x.master.SetWriteDeadline(time.Now().Add(x.limit))
	if err == nil {
		_, err = x.master.WriteString(keys)
	}
	if err != nil {
		x.t.Fatalf("type %q: %v", keys, err)
	}
}

// Shows waits until something is shown that matches the regular expression, behind what was looked for before, and returns it.
func (x *Terminal) Shows(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.NewTimer(x.limit)
	defer late.Stop()
	for {
		x.mu.Lock()
		rest, closed := x.shown.String()[x.seen:], x.closed
		x.mu.Unlock()
		if at := re.FindStringIndex(rest); at != nil {
			x.seen += at[1]
			return rest[at[0]:at[1]]
		}
		if closed {
			x.t.Fatalf("it ended, and never showed %q; the last was %q", pattern, rest)
		}
		select {
		case <-x.changed:
		case <-late.C:
			x.t.Fatalf("it does not show %q within %v; the last is %q", pattern, x.limit, rest)
		}
	}
}

// Text is all that was shown so far.
func (x *Terminal) Text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

// Resize changes the size, in rows and columns, of which the foreground processes of the terminal's session get to know by SIGWINCH.
func (x *Terminal) Resize(rows, cols uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.master, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		x.t.Fatalf("resize the terminal: %v", err)
	}
}

// Settings are those of the slave at this time.
func (x *Terminal) Settings() unix.Termios {
	x.t.Helper()
	s, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS) // the kernel answers for the other side
	if err != nil {
		x.t.Fatalf("get the terminal's settings: %v", err)
	}
	return *s
}

// IsAsBefore checks that the settings are those with which the terminal was opened.
func (x *Terminal) IsAsBefore() {
	x.t.Helper()
	x.wasLeftAs(x.Settings())
}

func (x *Terminal) wasLeftAs(after unix.Termios) {
	x.t.Helper()
	if after != x.before {
		x.t.Errorf("the terminal is not left as it was: %+v before, %+v after", x.before, after)
	}
}

// HangUp takes the terminal away from what is on it.
func (x *Terminal) HangUp() {
	x.t.Helper()
	x.hungUp = true
	if err := x.master.Close(); err != nil {
		x.t.Fatalf("hang up: %v", err)
	}
}

// Signal sends the command a signal, if it has not ended.
func (x *Terminal) Signal(sig os.Signal) {
	x.t.Helper()
	if err := x.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		x.t.Fatal(err)
	}
}

// Ends waits for the command's end and checks its exit status, -1 when a signal ended it. Unless the terminal has hung up, it checks as well that
// the command has left it as it was.
func (x *Terminal) Ends(status int) {
	x.t.Helper()
	x.ends(status)
	if !x.hungUp {
		x.wasLeftAs(x.after)
	}
}

// EndsInTime is Ends for a command that may be killed in the middle: the
// terminal is as it was some time after its end.
func (x *Terminal) EndsInTime(status int) {
	x.t.Helper()
	x.ends(status)
	for late := time.Now().Add(x.limit); x.Settings() != x.before; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			x.wasLeftAs(x.Settings())
			return
		}
	}
}

func (x *Terminal) ends(status int) {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(x.limit):
		x.t.Fatalf("it does not end within %v; it shows %q", x.limit, x.Text())
	}
	var exit *exec.ExitError
	if x.err != nil && !errors.As(x.err, &exit) {
		x.t.Fatal(x.err)
	}
	if got := x.cmd.ProcessState.ExitCode(); got != status {
		x.t.Errorf("exit status %d, want %d; it shows %q", got, status, x.Text())
	}
}
