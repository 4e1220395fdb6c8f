package live_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/live/livetest"
	"dsoftbus-rig/rig/prompt"
	"dsoftbus-rig/rig/record"
)

// A client is what lines of a prompt can be given to.
var _ prompt.Scenario = (*live.Client)(nil)

// limit bounds every wait of these tests. It is no figure: a busy host takes what it takes.
const limit = 30 * time.Second

// served is a scenario that is served in this process.
type served struct {
	*livetest.Scenario
	client *live.Client
	name   string
	end    func() // of the scenario; returns when the server has
}

func start(t *testing.T) *served {
	t.Helper()
	files := t.TempDir()
	s := &served{Scenario: livetest.New("/runs/20260101-000000-"+filepath.Base(files), "area/name", files)}
	f, name, err := live.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l, err := live.Inherited(f)
	if err != nil {
		t.Fatal(err)
	}
	s.name = name
	if s.client, err = live.Open(name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live.Serve(ctx, l, s) }()
	s.end = func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			ended <- nil
		case <-time.After(limit):
			t.Error("the server does not end")
		}
	}
	t.Cleanup(s.end)
	return s
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("not within the test's limit"))
	t.Cleanup(cancel)
	return ctx
}

func class(err error) live.Class {
	var e *live.Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// wants fails a test unless an error is of a class and has a text.
func wants(t *testing.T, err error, c live.Class, text string) {
	t.Helper()
	if class(err) != c || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v of class %q, want %q with %q", err, class(err), c, text)
	}
}

func TestStatus(t *testing.T) {
	s := start(t)
	s.Stand.Step = &live.Place{File: "name.txtar", Line: 7, Text: "up"}
	got, err := s.client.Status(bounded(t))
	if err != nil || !reflect.DeepEqual(got, s.Stand) {
		t.Errorf("got %+v, %v, want %+v", got, err, s.Stand)
	}
	nodes, err := s.client.Nodes(bounded(t))
	if err != nil || !slices.Equal(nodes, []string{"A", "B", "C"}) {
		t.Errorf("nodes %q, %v", nodes, err)
	}
}

func TestDo(t *testing.T) {
	s := start(t)
	var got []string
	tell := func(e record.Event) {
		got = append(got, fmt.Sprintf("%s %s %s", e.Kind, e.Stream, strings.TrimSpace(e.Text)))
	}
	if err := s.client.Do(bounded(t), "say hello", tell); err != nil {
		t.Error(err)
	}
	want := []string{"step-start  say hello", "output stdout hello"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	wants(t, s.client.Do(bounded(t), "fail", func(record.Event) {}), live.Failed, "it went wrong")
	wants(t, s.client.Do(bounded(t), "dance", func(record.Event) {}), live.Invalid, `unknown command "dance"`)
}

// Whoever gives up ends the line, hears what became of it, and ends nothing else.
func TestDoIsCancelled(t *testing.T) {
	s := start(t)
	ctx, cancel := context.WithCancelCause(bounded(t))
	why := errors.New("enough")
	err := s.client.Do(ctx, "hang", func(record.Event) { cancel(why) })
	if !errors.Is(err, why) || class(err) != live.Failed || !strings.Contains(err.Error(), "hang was cut off") {
		t.Errorf("got %v", err)
	}
	if err := s.client.Do(bounded(t), "say on", func(record.Event) {}); err != nil {
		t.Error(err)
	}
}

// Whoever vanishes ends the line, too, though nobody reads what is told.
func TestDoOfOneWhoVanishes(t *testing.T) {
	s := start(t)
	conn := ask(t, s, `{"method":"do","args":{"line":"hang"}}`)
	receive(t, s.Began)
	conn.Close()
	if err := receive(t, s.Ended); err == nil {
		t.Error("the line ended by itself")
	}
}

// A scenario never waits for who reads its events: what they do not take in time is left out, and said.
func TestSlowReaderOfEvents(t *testing.T) {
	s := start(t)
	conn := ask(t, s, `{"method":"do","args":{"line":"flood 40000"}}`)
	if err := receive(t, s.Ended); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 0, 20<<20)
	lines, warned, ended := 0, false, false
	b := bytes.NewBuffer(data)
	if _, err := io.Copy(b, conn); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b.Bytes()) {
		lines++
		warned = warned || bytes.Contains(line, []byte("events were left out here"))
		ended = bytes.HasPrefix(line, []byte(`{"end":{}}`))
	}
	if !warned || !ended || lines > 30000 || lines < 10000 {
		t.Errorf("%d lines, warned %v, ended %v", lines, warned, ended)
	}
}

func TestComplete(t *testing.T) {
	s := start(t)
	first, words, err := s.client.Complete(bounded(t), "f", 1)
	if err != nil || first != 0 || !slices.Equal(words, []string{"fail", "flood"}) {
		t.Errorf("got %d, %q, %v", first, words, err)
	}
	_, _, err = s.client.Complete(bounded(t), "f", 2)
	wants(t, err, live.Invalid, "byte 2 of a line of 1")
}

func TestFollow(t *testing.T) {
	s := start(t)
	heard := make(chan record.Event, 10)
	ended := make(chan error, 1)
	go func() { ended <- s.client.Follow(bounded(t), func(e record.Event) { heard <- e }) }()
	eventually(t, func() bool { return s.Followers() == 1 })
	s.Emit(record.Event{Kind: record.KindMarker, Node: "A", Text: "ready"})
	if e := receive(t, heard); e.Text != "ready" {
		t.Errorf("heard %+v", e)
	}
	s.Emit(record.Event{Kind: record.KindScenarioEnd, Result: record.Passed})
	s.Over()
	if e := receive(t, heard); e.Kind != record.KindScenarioEnd {
		t.Errorf("heard %+v", e)
	}
	if err := receive(t, ended); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// The end of the scenario ends all that follow it in an orderly way, also when it does not say so to them itself; what else was asked, it cuts off.
func TestEndOfTheScenario(t *testing.T) {
	s := start(t)
	follow, log, do, shell := make(chan error, 1), make(chan error, 1), make(chan error, 1), make(chan error, 1)
	heard := make(chan console.Line, 10)
	ctx := bounded(t)
	go func() { follow <- s.client.Follow(ctx, func(record.Event) {}) }()
	go func() {
		log <- s.client.Log(ctx, live.LogQuery{Node: "A", Last: -1, Follow: true}, func(l console.Line) { heard <- l })
	}()
	go func() { do <- s.client.Do(ctx, "hang", func(record.Event) {}) }()
	shows := &output{}
	go func() {
		_, err := s.client.Shell(ctx, "A", agentapi.Shell{Argv: []string{"sh", "-c", "echo here; sleep 1000"}}, nil, shows, nil)
		shell <- err
	}()
	silent, err := net.Dial("unix", s.name)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, func() bool { return s.Followers() == 1 })
	receive(t, s.Began)
	shows.until(t, "here")
	s.Logs["A"].Append(console.Line{Text: "one"})
	receive(t, heard)
	s.end()
	if err := receive(t, follow); err != nil {
		t.Errorf("follow ended with %v", err)
	}
	if err := receive(t, log); err != nil {
		t.Errorf("log ended with %v", err)
	}
	wants(t, receive(t, do), live.Ended, "the scenario has ended")
	wants(t, receive(t, shell), live.Ended, "the scenario has ended")
	_, err = s.client.Status(bounded(t))
	wants(t, err, live.Lost, "not there any more")
}

func TestLog(t *testing.T) {
	s := start(t)
	log := s.Logs["A"]
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, l := range []console.Line{
		{Unit: "kernel", Stream: "console", Text: "[    0.1] boots"},
		{Unit: "dsoftbusd", Stream: "stdout", Text: "ready", Guest: 1500 * time.Millisecond, Time: at},
		{Unit: "packagefsd", Stream: "stderr", Text: "bytes \xff\x1b"},
		{Unit: "dsoftbusd", Stream: "stdout", Text: "served"},
	} {
		log.Append(l)
	}
	texts := func(q live.LogQuery) []string {
		t.Helper()
		var all []string
		q.Node = "A"
		if err := s.client.Log(bounded(t), q, func(l console.Line) { all = append(all, l.Text) }); err != nil {
			t.Error(err)
		}
		return all
	}
	for _, c := range []struct {
		what string
		q    live.LogQuery
		want []string
	}{
		{"all", live.LogQuery{Last: -1}, []string{"[    0.1] boots", "ready", "bytes \xff\x1b", "served"}},
		{"console", live.LogQuery{Last: -1, Source: live.SourceConsole}, []string{"[    0.1] boots"}},
		{"journal", live.LogQuery{Last: -1, Source: live.SourceJournal}, []string{"ready", "bytes \xff\x1b", "served"}},
		{"unit", live.LogQuery{Last: -1, Unit: "dsoftbusd"}, []string{"ready", "served"}},
		{"last", live.LogQuery{Last: 1, Unit: "dsoftbusd"}, []string{"served"}},
		{"from", live.LogQuery{Last: -1, From: 2}, []string{"bytes \xff\x1b", "served"}},
		{"none", live.LogQuery{}, nil},
	} {
		if got := texts(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	var whole []console.Line
	if err := s.client.Log(bounded(t), live.LogQuery{Node: "A", Last: -1}, func(l console.Line) { whole = append(whole, l) }); err != nil {
		t.Error(err)
	}
	if want := (console.Line{Seq: 1, Time: at, Guest: 1500 * time.Millisecond, Unit: "dsoftbusd", Stream: "stdout", Text: "ready"}); whole[1] != want {
		t.Errorf("got %+v, want %+v", whole[1], want)
	}
	err := s.client.Log(bounded(t), live.LogQuery{Node: "D"}, func(console.Line) {})
	wants(t, err, live.Invalid, `there is no node "D"; there are A, B, C`)
}

// Lines are followed across a node's end and its next start.
func TestLogFollows(t *testing.T) {
	s := start(t)
	log := s.Logs["B"]
	log.Append(console.Line{Text: "before"})
	heard := make(chan string, 10)
	ctx, cancel := context.WithCancel(bounded(t))
	ended := make(chan error, 1)
	go func() {
		ended <- s.client.Log(ctx, live.LogQuery{Node: "B", Last: -1, Follow: true}, func(l console.Line) { heard <- l.Text })
	}()
	hears := func(want string) {
		t.Helper()
		if got := receive(t, heard); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	hears("before")
	log.Append(console.Line{Text: "after"})
	hears("after")
	log.End(errors.New("the machine is gone"))
	select {
	case err := <-ended:
		t.Fatalf("it ended with the machine: %v", err)
	case <-time.After(200 * time.Millisecond): // nothing tells that nothing happens
	}
	log.Resume()
	log.Append(console.Line{Text: "again"})
	hears("again")
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// Whoever reads lines slowly gets all of them, and nobody waits for them.
func TestSlowReaderOfLines(t *testing.T) {
	s := start(t)
	const n = 5000
	conn := ask(t, s, `{"method":"log","args":{"node":"A","last":-1,"follow":true}}`)
	for i := range n {
		s.Logs["A"].Append(console.Line{Text: fmt.Sprintf("%d %s", i, strings.Repeat("x", 200))})
	}
	if _, err := s.client.Status(bounded(t)); err != nil {
		t.Error(err)
	}
	dec := json.NewDecoder(conn)
	for i := -1; i < n; i++ { // the reply first
		var it struct {
			Line *struct{ Seq int }
		}
		if err := dec.Decode(&it); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if i >= 0 && (it.Line == nil || it.Line.Seq != i) {
			t.Fatalf("line %d: got %+v", i, it.Line)
		}
	}
}

func TestShell(t *testing.T) {
	s := start(t)
	in, keys := io.Pipe()
	out := &output{}
	sizes := make(chan agentapi.Size)
	ended := make(chan error, 1)
	var exit agentapi.Exit
	go func() {
		var err error
		exit, err = s.client.Shell(bounded(t), "A", agentapi.Shell{
			Argv: []string{"sh", "-c", `
				trap 'stty size' WINCH
				trap 'echo interrupted; exit 9' INT
				stty size; echo $TERM; read word; echo got $word
				while :; do read _; done`},
			Term: "vt100", Size: agentapi.Size{Rows: 10, Cols: 40},
		}, in, out, sizes)
		in.Close() // nobody reads it any more
		ended <- err
	}()
	out.until(t, "10 40\r\nvt100\r\n")
	write(t, keys, "hello\r")
	out.until(t, "got hello")
	sizes <- agentapi.Size{Rows: 33, Cols: 99}
	// A shell looks at its traps when it is not waiting for input.
	eventually(t, func() bool {
		write(t, keys, "\r")
		return strings.Contains(out.String(), "33 99")
	})
	write(t, keys, "\x03")
	eventually(t, func() bool {
		if strings.Contains(out.String(), "interrupted") {
			return true
		}
		_, _ = io.WriteString(keys, "\r") // it may just have ended
		return false
	})
	if err := receive(t, ended); err != nil || exit.Status != 9 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if got := s.Stepped(); !slices.Equal(got, []string{"attach A"}) {
		t.Errorf("stepped in: %q", got)
	}
}

func TestShellFromAPipe(t *testing.T) {
	s := start(t)
	out := &output{}
	exit, err := s.client.Shell(bounded(t), "A", agentapi.Shell{Argv: []string{"sh", "-c", "cat; exit 3"}}, strings.NewReader("typed\n\x04"), out, nil)
	if err != nil || exit.Status != 3 || !strings.Contains(out.String(), "typed") {
		t.Errorf("exit %+v, %v, output %q", exit, err, out)
	}
	_, err = s.client.Shell(bounded(t), "C", agentapi.Shell{}, nil, out, nil)
	wants(t, err, live.Failed, "node C is down")
	_, err = s.client.Shell(bounded(t), "D", agentapi.Shell{}, nil, out, nil)
	wants(t, err, live.Invalid, "there are A, B, C")
}

// A terminal hangs up when whoever had it is gone, though the program does not read what was typed.
func TestShellHangsUp(t *testing.T) {
	s := start(t)
	file := filepath.Join(t.TempDir(), "hung up")
	ctx, cancel := context.WithCancelCause(bounded(t))
	out := &output{}
	ended := make(chan error, 1)
	go func() {
		_, err := s.client.Shell(ctx, "A", agentapi.Shell{
			Argv: []string{"sh", "-c", `stty raw; trap 'echo > "` + file + `"; exit' HUP; echo ready; sleep 1000 & wait`},
		}, endless{}, out, nil)
		ended <- err
	}()
	out.until(t, "ready")
	why := errors.New("the person has gone")
	cancel(why)
	if err := receive(t, ended); !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
	eventually(t, func() bool { _, err := os.Stat(file); return err == nil })
}

func TestDial(t *testing.T) {
	s := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // echoes in capitals when it has heard all; ends with l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			data, _ := io.ReadAll(conn)
			_, _ = conn.Write(bytes.ToUpper(data))
			conn.Close()
		}
	}()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	conn, err := s.client.Dial(bounded(t), "A", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	write(t, conn, "half")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn)
	if err != nil || string(data) != "HALF" {
		t.Errorf("got %q, %v", data, err)
	}
	l.Close()
	_, err = s.client.Dial(bounded(t), "A", port)
	wants(t, err, live.Failed, "refused")
	_, err = s.client.Dial(bounded(t), "D", port)
	wants(t, err, live.Invalid, "there are A, B, C")
	if got := s.Stepped(); len(got) > 0 {
		t.Errorf("stepped in: %q", got)
	}
}

// A connection into a machine is closed when whoever had it is gone, though its other end reads nothing of what was sent.
func TestDialOfOneWhoVanishes(t *testing.T) {
	s := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := s.client.Dial(bounded(t), "A", uint16(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	// Until nothing more fits.
	_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.Copy(conn, endless{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("endless writing ended with %v", err)
	}
	conn.Close()
	_ = far.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.Copy(io.Discard, far); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays")
	}
}

func TestCopy(t *testing.T) {
	s := start(t)
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Push(bounded(t), "A", host, "/there"); err != nil {
		t.Error(err)
	}
	if err := s.client.Pull(bounded(t), "A", "/there", host+".2"); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(host + ".2"); err != nil || string(data) != "content" {
		t.Errorf("got %q, %v", data, err)
	}
	wants(t, s.client.Push(bounded(t), "A", host, "there"), live.Invalid, "A:there is not absolute")
	wants(t, s.client.Pull(bounded(t), "A", "there", host), live.Invalid, "A:there is not absolute")
	wants(t, s.client.Pull(bounded(t), "A", "/there", "here"), live.Invalid, `"here" is not absolute`)
	wants(t, s.client.Pull(bounded(t), "A", "/nowhere", host), live.Failed, "no such file")
	wants(t, s.client.Pull(bounded(t), "C", "/there", host), live.Failed, "node C is down")
	if got, want := s.Stepped(), []string{"cp " + host + " A:/there"}; !slices.Equal(got, want) {
		t.Errorf("stepped in: %q, want %q", got, want)
	}
}

func TestQMP(t *testing.T) {
	s := start(t)
	got, err := s.client.QMP(bounded(t), "B", "query-block", json.RawMessage(`{"x":1}`))
	if err != nil || string(got) != `{"arguments":{"x":1},"command":"query-block"}` {
		t.Errorf("got %s, %v", got, err)
	}
	_, err = s.client.QMP(bounded(t), "B", "nothing", nil)
	wants(t, err, live.Failed, "CommandNotFound")
	ctx, cancel := context.WithTimeoutCause(bounded(t), 100*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := s.client.QMP(ctx, "B", "hang", nil); err == nil || err.Error() != "enough" {
		t.Errorf("got %v", err)
	}
	if got, want := s.Stepped(), []string{"qmp B query-block", "qmp B nothing", "qmp B hang"}; !slices.Equal(got, want) {
		t.Errorf("stepped in: %q, want %q", got, want)
	}
}

func TestLooking(t *testing.T) {
	s := start(t)
	file := filepath.Join(t.TempDir(), "core")
	if err := s.client.Dump(bounded(t), "A", file); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "\x7fELF" {
		t.Errorf("got %q, %v", data, err)
	}
	wants(t, s.client.Dump(bounded(t), "A", "core"), live.Invalid, "not absolute")
	text, err := s.client.Stacks(bounded(t), "A", "dsoftbusd")
	if err != nil || !bytes.HasPrefix(text, []byte("goroutine 1")) {
		t.Errorf("got %q, %v", text, err)
	}
	_, err = s.client.Stacks(bounded(t), "A", "nobody")
	wants(t, err, live.Failed, "nobody does not run")
	if got := s.Stepped(); len(got) > 0 {
		t.Errorf("stepped in by looking: %q", got)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ line, want string }{
		{"dance", "no request"},
		{`{"method":"dance"}`, `unknown method \"dance\"`},
		{`{"method":"do","args":[]}`, "no arguments of this request"},
		{`{"method":"log","args":{"node":"A","source":"attic"}}`, "no source of lines"},
		{strings.Repeat("x", 1<<20), "more than 1048576 bytes"},
	} {
		conn := ask(t, s, c.line)
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		if err != nil || !strings.Contains(string(answer[:n]), c.want) {
			t.Errorf("%.40q: got %q, %v, want %q", c.line, answer[:n], err, c.want)
		}
	}
}

// More than it can serve are refused, and told so; none of them keeps others out for ever.
func TestManyConnections(t *testing.T) {
	s := start(t)
	var held []net.Conn
	for range 64 {
		held = append(held, ask(t, s, `{"method":"follow"}`))
	}
	eventually(t, func() bool { return s.Followers() == 64 })
	_, err := s.client.Status(bounded(t))
	wants(t, err, live.Refused, "64 things already")
	for _, conn := range held {
		conn.Close()
	}
	eventually(t, func() bool { _, err := s.client.Status(bounded(t)); return err == nil })
}

// ask sends a line over a connection of its own.
func ask(t *testing.T, s *served, line string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	write(t, conn, line+"\n")
	return conn
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(limit):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually waits for what tells nobody.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// endless is what never has an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}
