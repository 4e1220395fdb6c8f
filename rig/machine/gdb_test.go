package machine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/pace/pacetest"
)

// A stub is gdb's side of its remote protocol.
type stub struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// send sends one packet, and reads that it has arrived.
func (s stub) send(packet string) {
	s.t.Helper()
	sum := 0
	for _, b := range []byte(packet) {
		sum += int(b)
	}
	if _, err := fmt.Fprintf(s.conn, "$%s#%02x", packet, sum&0xff); err != nil {
		s.t.Fatal(err)
	}
	// A machine that is stopped by the connection itself says so first, unasked.
	for {
		ack, err := s.in.Peek(1)
		if err != nil {
			s.t.Fatalf("%s: not acknowledged: %v", packet, err)
		}
		if ack[0] == '$' {
			s.answer()
			continue
		}
		if ack[0] != '+' {
			s.t.Fatalf("%s: acknowledged by %q", packet, ack)
		}
		_, _ = s.in.Discard(1) // it is there
		return
	}
}

// answer reads one packet.
func (s stub) answer() string {
	s.t.Helper()
	text, err := s.in.ReadString('#')
	if err == nil {
		_, err = s.in.Discard(2)
	}
	if err == nil {
		_, err = s.conn.Write([]byte("+"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Trim(text, "$#")
}

func TestGDB(t *testing.T) {
	m := idle(t)
	events := make(chan string, 64)
	go func() {
		defer close(events)
		for e := range m.Events() {
			events <- e.Name
		}
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("event %s, want %s", got, want)
			}
		case <-time.After(pacetest.Limit(20 * time.Second)):
			t.Fatalf("no event, want %s", want)
		}
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	next("RESUME")
	// The second time after an end: everything is there again.
	for range 2 {
		conn, err := m.GDB(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(pacetest.Limit(20 * time.Second))); err != nil {
			t.Fatal(err)
		}
		next("STOP")
		if _, err := m.GDB(t.Context()); err == nil || !strings.Contains(err.Error(), "gdbstub of machine TestGDB: QEMU says") {
			t.Errorf("a second stub: %v", err)
		}
		s := stub{t, conn, bufio.NewReader(conn)}
		s.send("?")
		if got := s.answer(); !strings.HasPrefix(got, "T") {
			t.Errorf("why it has halted: %q", got)
		}
		s.send("g")
		if got := s.answer(); len(got) < 16*16 {
			t.Errorf("registers: %q", got)
		}
		s.send("c")
		next("RESUME")
		if _, err := conn.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		next("STOP")
		if got := s.answer(); !strings.HasPrefix(got, "T02") {
			t.Errorf("after Ctrl-C: %q", got)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.EndGDB(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status, err := m.Status(t.Context()); err != nil || status != "paused" {
			t.Errorf("after the end: %s, %v", status, err)
		}
		if err := m.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		next("RESUME")
	}
}

// The real gdb, by way of a unix socket, as people use it.
func TestRealGDB(t *testing.T) {
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		t.Skip("no gdb here")
	}
	m := idle(t)
	go func() {
		for range m.Events() {
		}
	}()
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := m.GDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := ownport.Listen(ownport.Options{Protocol: ownport.GDB, One: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var passing sync.WaitGroup
	passing.Go(func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		passing.Go(func() { _, _ = io.Copy(conn, client); conn.Close() })
		_, _ = io.Copy(client, conn)
		client.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, gdb, "-nx", "-batch", "-ex", "set architecture i386:x86-64", "-ex", "target remote "+l.Addr().String(), "-ex", "info registers rip", "-ex", "detach").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rip ") {
		t.Errorf("gdb: %v: %s", err, out)
	}
	l.Close()
	passing.Wait()
	if status, err := m.Status(t.Context()); err != nil || status != "running" {
		t.Errorf("detached: %s, %v", status, err)
	}
}
