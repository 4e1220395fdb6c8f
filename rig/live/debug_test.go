package live_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"dsoftbus-rig/rig/live"
)

// says has a client of a debugger say something, which says it again.
func says(t *testing.T, conn *live.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("it says %q, %v", got, err)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestDebug(t *testing.T) {
	s := start(t)
	ctx := within(t)
	o := live.DebugOptions{Node: "A", Program: "dsoftbusd", Freeze: true, Delve: "/dlv"}
	session, err := s.client.Debug(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	one, err := session.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two, err := session.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	says(t, one, "hello")
	says(t, two, "hello too")
	one.Close()
	says(t, two, "again")
	d := s.Debuggers()[0]
	if d.Options != o {
		t.Errorf("asked for %+v", d.Options)
	}
	if err := session.Close(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-d.Over():
	case <-time.After(limit):
		t.Error("it has not let go")
	}
	if _, err := session.Connect(ctx); class(err) != live.Ended {
		t.Errorf("a client that comes too late: %v", err)
	}
	if !slices.Contains(s.Stepped(), "dlv A dsoftbusd") {
		t.Errorf("nobody was told: %q", s.Stepped())
	}
}

// Whoever asked hears that a debugger has let go by itself.
func TestDebuggerLetsGo(t *testing.T) {
	s := start(t)
	ctx := within(t)
	session, err := s.client.Debug(ctx, live.DebugOptions{Node: "B"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := session.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "quit\n"); err != nil {
		t.Fatal(err)
	}
	if err := session.Wait(ctx); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("its client: %v", err)
	}
	if !slices.Contains(s.Stepped(), "gdb B") {
		t.Errorf("nobody was told: %q", s.Stepped())
	}
}

func TestDebugRefuses(t *testing.T) {
	s := start(t)
	_, err := s.client.Debug(within(t), live.DebugOptions{Node: "A", Program: "missing"})
	wants(t, err, live.Failed, "does not run on node A")
	_, err = s.client.Debug(within(t), live.DebugOptions{Node: "D"})
	wants(t, err, live.Invalid, `there is no node "D"`)
	if len(s.Debuggers()) != 0 {
		t.Error("there is a debugger")
	}
}

// A scenario's end ends its debuggers.
func TestDebuggerEndsWithTheScenario(t *testing.T) {
	s := start(t)
	session, err := s.client.Debug(within(t), live.DebugOptions{Node: "A"})
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	if err := session.Wait(within(t)); err != nil {
		t.Error(err)
	}
	<-s.Debuggers()[0].Over()
}
