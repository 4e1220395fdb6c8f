package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An exposed command is one that listens for others, on a port.
type exposed struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	stderr  bytes.Buffer
}

// expose starts a command and reads where it listens: the address is in the first line that it prints.
func expose(t *testing.T, cmd *exec.Cmd, find func(line string) string) *exposed {
	t.Helper()
	e := &exposed{t: t, cmd: cmd}
	cmd.Stderr = &e.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 1024)
	n, err := out.Read(line)
	if e.address = find(string(line[:n])); e.address == "" {
		t.Fatalf("no address in %q, %v", line[:n], err)
	}
	return e
}

// says connects and says something, and returns what is answered: nothing, where the connection is closed. stranger has the socket be another user's.
func (e *exposed) says(text string, stranger bool) string {
	e.t.Helper()
	network := "tcp"
	if filepath.IsAbs(e.address) {
		network = "unix"
	}
	d := net.Dialer{Timeout: aliveLimit}
	if stranger {
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchown(int(fd), 65534, 65534) }), err)
		}
	}
	conn, err := d.Dial(network, e.address)
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(aliveLimit))
	_, _ = io.WriteString(conn, text) // it may have been closed
	answer := make([]byte, len(text))
	n, err := io.ReadFull(conn, answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Errorf("%q is neither answered nor refused", text)
	}
	return string(answer[:n])
}

// ends waits for the command, and wants these on stderr, once each.
func (e *exposed) ends(told ...string) {
	e.t.Helper()
	if got := status(e.t, e.cmd.Wait()); got != 0 {
		e.t.Errorf("status %d", got)
	}
	for _, text := range told {
		if n := strings.Count(e.stderr.String(), text); n != 1 {
			e.t.Errorf("%q is said %d times:\n%s", text, n, &e.stderr)
		}
	}
}

func portIn(line string) string {
	if i := strings.Index(line, "127.0.0.1:"); i >= 0 {
		return strings.TrimRight(line[i:], "'\n")
	}
	return ""
}

// A web page's POST to a debugger's port, whose body is a packet for QEMU's monitor, gets nothing through, nor does another user; this user's gdb does.
func TestDebuggerOnAPort(t *testing.T) {
	s := startAsked(t)
	e := expose(t, s.command("gdb", "A", "-port", "0"), portIn)
	const packet = "$qRcmd,696e666f#00"
	for range 2 {
		if got := e.says("POST / HTTP/1.1\r\nHost: "+e.address+"\r\n\r\n"+packet, false); got != "" {
			t.Errorf("a web page is answered %q", got)
		}
	}
	told := []string{"does not speak the remote protocol of gdb"}
	if os.Geteuid() == 0 {
		for range 2 {
			if got := e.says(packet, true); got != "" {
				t.Errorf("another user is answered %q", got)
			}
		}
		told = append(told, "another user's")
	}
	if got := e.says(packet, false); got != packet {
		t.Errorf("gdb is answered %q", got)
	}
	s.end()
	e.ends(told...)
}

// Without -port a debugger is nowhere but in a folder of its user's, which goes with it.
func TestDebuggerOnASocket(t *testing.T) {
	s := startAsked(t)
	e := expose(t, s.command("gdb", "A"), socketPath.FindString)
	info, err := os.Stat(filepath.Dir(e.address))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode is %v", info.Mode())
	}
	if got := e.says("+", false); got != "+" {
		t.Errorf("gdb is answered %q", got)
	}
	s.end()
	e.ends()
	if _, err := os.Stat(filepath.Dir(e.address)); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
}

func TestForwardOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // says again what it hears, and ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	for _, any := range []bool{false, true} {
		s := startAsked(t)
		args, want, told := []string{"A", port}, "", []string{"another user's"}
		if any {
			args, want, told = append(args, "-any-user"), "hello", nil
		}
		e := expose(t, s.command("forward", args...), portIn)
		if got := e.says("hello", true); got != want {
			t.Errorf("-any-user=%v: another user is answered %q", any, got)
		}
		if got := e.says("hello", false); got != "hello" {
			t.Errorf("-any-user=%v: the user is answered %q", any, got)
		}
		s.end()
		e.ends(told...)
	}
}
