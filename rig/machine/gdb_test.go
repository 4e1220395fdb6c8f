package machine

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
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
		case <-time.After(20 * time.Second):
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
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
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
