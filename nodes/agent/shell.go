package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/coverage"
	procs "dsoftbus-rig/nodes/process"

	"golang.org/x/sys/unix"
)

const (
	// defaultShell is u-root's. On a terminal it edits lines and completes names. It has no
	// job control, so Ctrl-Z does nothing; and it would die of a Ctrl-C that is meant for the
	// program it runs, see terminal.spared.
	defaultShell = "gosh"
	// hangUpWait is how long after SIGHUP what is left of a terminal's session may go on:
	// enough to save a file, and less than the rig waits for an answer once its own context
	// has ended.
	hangUpWait = 300 * time.Millisecond
	// typingWait is how long a program may leave what is typed unread when there is no room
	// for more. What is typed then is lost, as on a serial line: nothing that comes behind it
	// could be seen otherwise, a hang-up least of all.
	typingWait = 5 * time.Second
)

// A terminal is a program on a pseudo-terminal, leading a session of its own.
type terminal struct {
	cmd    *exec.Cmd
	master *os.File // the end that the rig types into and looks at
	spare  bool     // the program in front gets the keys that end programs, the leader does not
}

// openTerminal starts argv on a terminal.
func openTerminal(argv []string, kind string, size agentapi.Size) (*terminal, error) {
	master, slave, err := openPTY()
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer slave.Close()
	t := &terminal{cmd: exec.Command(argv[0], argv[1:]...), master: master}
	t.spare = len(argv) == 1 && filepath.Base(argv[0]) == defaultShell
	t.cmd.Dir = "/"
	t.cmd.Env = append(os.Environ(), "TERM="+cmp.Or(kind, "dumb"), "HOME=/")
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = slave, slave, slave
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err = t.resize(size); err == nil {
		err = t.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run %s on a terminal: %w", argv[0], err), master.Close())
	}
	return t, nil
}

// openPTY opens both ends of a new pseudo-terminal. init has mounted devpts. The master
// is made to be waited for by the runtime, so that closing it ends a read that is under way:
// that is what hangs the terminal up.
func openPTY() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

// resize gives the terminal another size, of which its programs are told (SIGWINCH).
func (t *terminal) resize(size agentapi.Size) error {
	conn, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
	return errors.Join(err, failed)
}

// typed takes what the rig sends until it closes the stream or a frame makes no sense.
func (t *terminal) typed(in io.Reader) {
	wait := typingWait
	for {
		kind, payload, err := agentapi.ReadFrame(in)
		if err != nil {
			return
		}
		switch kind {
		case agentapi.FrameStdin:
			_ = t.master.SetWriteDeadline(time.Now().Add(wait))
			_, err := t.master.Write(t.spared(payload))
			// Once something was lost no time is given any more, until there is room again.
			wait = typingWait
			if errors.Is(err, os.ErrDeadlineExceeded) {
				wait = 0
			}
		case agentapi.FrameSize:
			var size agentapi.Size
			if json.Unmarshal(payload, &size) != nil {
				return
			}
			_ = t.resize(size) // the terminal has hung up, which is told elsewhere
		}
	}
}

// spared takes out of what is typed the keys that end programs, and sends the signals
// that they are for, where they would end the shell as well: while it runs a program, which
// is in its own process group. Alone it gets them, as keys or as signals.
func (t *terminal) spared(typed []byte) []byte {
	if !t.spare {
		return typed
	}
	var mode *unix.Termios
	var group int
	conn, err := t.master.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			if mode, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
				group, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
			}
		})
	}
	if err != nil || mode == nil || mode.Lflag&unix.ISIG == 0 || group != t.cmd.Process.Pid {
		return typed
	}
	signals := map[byte]unix.Signal{mode.Cc[unix.VINTR]: unix.SIGINT, mode.Cc[unix.VQUIT]: unix.SIGQUIT}
	var rest []byte
	for _, key := range typed {
		sig, ends := signals[key]
		if ends {
			members, done := t.session()
			members = slices.DeleteFunc(members, func(m member) bool { return m.pid == t.cmd.Process.Pid })
			send(members, sig)
			done()
			ends = len(members) > 0
		}
		if !ends {
			rest = append(rest, key)
		}
	}
	return rest
}

// hangUp ends the session: SIGHUP, and to what is left of it after a while SIGKILL.
func (t *terminal) hangUp() {
	members, done := t.session()
	defer done()
	if coverage.On {
		var pids []int
		for _, m := range members {
			pids = append(pids, m.pid)
		}
		writeCoverage(context.Background(), pids)
	}
	// The kernel sends SIGHUP to the leader and the group in front; the others have no
	// terminal any more either.
	_ = t.master.Close()
	send(members, unix.SIGHUP)
	send(members, unix.SIGCONT)
	for until := time.Now().Add(hangUpWait); len(members) > 0 && time.Until(until) > 0; {
		polled := make([]unix.PollFd, len(members))
		for i, m := range members {
			polled[i] = unix.PollFd{Fd: int32(m.fd), Events: unix.POLLIN}
		}
		if _, err := unix.Poll(polled, int(time.Until(until).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
		var left []member
		for i, m := range members {
			if polled[i].Revents == 0 {
				left = append(left, m)
			}
		}
		members = left
	}
	// Anew, for what was started meanwhile.
	left, done := t.session()
	defer done()
	send(left, unix.SIGKILL)
}

// A member is a process of a terminal's session. By a descriptor a signal hits nobody else
// who has the number by then; and it is ready when the process has ended.
type member struct{ pid, fd int }

// session returns the processes of the terminal's session, and a function that closes their
// descriptors.
func (t *terminal) session() (members []member, done func()) {
	pids, _ := procs.Session(procs.Proc, t.cmd.Process.Pid)
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // else it has just ended
			members = append(members, member{pid, fd})
		}
	}
	all := slices.Clone(members)
	return members, func() {
		for _, m := range all {
			_ = unix.Close(m.fd)
		}
	}
}

// send sends a signal to processes, some of which may have ended.
func send(to []member, sig unix.Signal) {
	for _, m := range to {
		_ = unix.PidfdSendSignal(m.fd, sig, nil, 0)
	}
}

// shell runs a program on a terminal until it ends, or until the other side, or the
// connection, is gone. What is typed and shown is nobody's but theirs: the journal has
// only that there was a shell.
func (s *Server) shell(ctx context.Context, stream io.Writer, in io.Reader, r agentapi.Request) {
	var c agentapi.Shell
	err := decode(r, &c)
	if len(c.Argv) == 0 {
		c.Argv = []string{defaultShell}
	}
	var t *terminal
	if err == nil {
		t, err = openTerminal(c.Argv, c.Term, c.Size)
	}
	if err != nil {
		_ = answer(stream, nil, err)
		return
	}
	began := monotonic()
	name := fmt.Sprintf("shell %d (%s)", t.cmd.Process.Pid, filepath.Base(c.Argv[0]))
	s.say("%s began on a terminal: %s", name, strings.Join(c.Argv, " "))

	gone, shown, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { // ends with the stream
		defer close(gone)
		t.typed(in)
	}()
	out := agentapi.NewFrameWriter(stream)
	answered := answer(stream, nil, nil)
	go func() { // ends when nothing has the terminal open any more, or it has hung up
		defer close(shown)
		_, _ = io.Copy(&lenient{w: out.Stream(agentapi.FrameStdout)}, struct{ io.Reader }{t.master})
	}()
	var waited error
	go func() { // ends with the program, which hangUp sees to
		defer close(ended)
		waited = t.cmd.Wait()
	}()
	if answered == nil {
		select {
		case <-ended:
			// What it has shown, it has shown; who else has the terminal is not waited for.
			late := time.NewTimer(drainWait)
			select {
			case <-shown:
			case <-late.C:
			}
			late.Stop()
		case <-gone:
		case <-ctx.Done():
		}
	}
	t.hangUp()
	<-ended
	<-shown
	s.say("%s ended: %s, after %s", name, outcome(waited), (monotonic() - began).Round(time.Millisecond))
	if data, err := json.Marshal(agentapi.Exit{Status: status(t.cmd.ProcessState), JournalSeq: s.Journal.Seq()}); err == nil {
		_ = out.WriteFrame(agentapi.FrameExit, data)
	}
}

// say puts a line of the agent's own into the journal.
func (s *Server) say(format string, args ...any) {
	_ = s.Journal.Line(agentapi.AgentUnit, "stdout", fmt.Appendf(nil, format, args...), false)
}
