package delve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/pace/pacetest"
)

// These tests have a real Delve debug a real program, both on the host.

// limit is when something counts as hung.
var limit = pacetest.Limit(30 * time.Second)

// linger is the session's.
const linger = 20 * time.Millisecond

// shortGrace lets a test see that the program is let go.
const shortGrace = 100 * time.Millisecond

const program = `package main

import (
	"fmt"
	"time"
)

//go:noinline
func tick(i int) { fmt.Println("tick", i) }

func main() {
	for i := 0; ; i++ {
		tick(i)
		time.Sleep(5 * time.Millisecond)
	}
}
`

// tools are Delve and a program to debug, made once.
var tools = sync.OnceValues(func() (t struct{ dlv, program string }, err error) {
	d, err := images.DebuggerFor(context.Background(), images.Config{SourceDir: "../.."}, false)
	if err != nil {
		return t, err
	}
	dir, err := os.MkdirTemp("", "delve-test-")
	if err != nil {
		return t, err
	}
	madeDir = dir
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		return t, err
	}
	t.dlv, t.program = d.Dlv, filepath.Join(dir, "ticker")
	out, err := exec.Command("go", "build", "-gcflags=-N -l", "-o", t.program, source).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return t, err
})

var madeDir string

func TestMain(m *testing.M) {
	status := m.Run()
	if madeDir != "" {
		os.RemoveAll(madeDir)
	}
	os.Exit(status)
}

// A world is a program, its Delve, and a session, with the states it went through.
type world struct {
	*Session
	t    *testing.T
	ctx  context.Context
	pid  int
	dlv  *exec.Cmd
	done chan struct{} // closed when Delve has ended
	addr string

	mu     sync.Mutex
	states []State
	news   chan struct{} // closed at the next state
	early  []string      // what reached Delve while its machine stood
	fail   error         // of OnState from now on
}

// newWorld starts it all. The program is stopped if stopped.
func newWorld(t *testing.T, stopped bool, grace time.Duration) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles Delve")
	}
	made, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, done: make(chan struct{}), news: make(chan struct{})}
	ticker := exec.CommandContext(ctx, made.program)
	ticker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := ticker.Start(); err != nil {
		t.Fatal(err)
	}
	w.pid = ticker.Process.Pid
	t.Cleanup(func() { _ = ticker.Process.Kill(); _ = ticker.Wait() })
	// As the rig has it: the program stands before Delve is there.
	if err := syscall.Kill(w.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	letRun := func(context.Context) error { return syscall.Kill(w.pid, syscall.SIGCONT) }

	w.dlv = exec.CommandContext(ctx, made.dlv, "attach", strconv.Itoa(w.pid), "--headless", "--accept-multiclient", "--api-version=2", "--listen=127.0.0.1:0")
	w.dlv.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := w.dlv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	w.dlv.Stderr = &complaints
	if err := w.dlv.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	go func() {
		defer close(w.done)
		_, _ = io.Copy(io.Discard, lines)
		_ = w.dlv.Wait()
	}()
	t.Cleanup(func() { _ = w.dlv.Process.Kill(); <-w.done })
	if err != nil {
		<-w.done
		if strings.Contains(complaints.String(), "operation not permitted") {
			t.Skipf("this host lets nobody debug: %s", &complaints)
		}
		t.Fatalf("Delve: %v: %s", err, &complaints)
	}
	_, w.addr, _ = strings.Cut(strings.TrimSpace(line), "listening at: ")
	w.Session, err = Attach(ctx, Config{Dial: w.dial, OnState: w.onState, Attached: letRun, Linger: linger, Grace: grace}, stopped)
	if err != nil {
		t.Fatalf("%v (Delve: %s)", err, &complaints)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil && w.fail == nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.early {
			t.Errorf("Delve was sent %q while its machine stood", e)
		}
	})
	return w
}

func (w *world) onState(_ context.Context, s State) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.states = append(w.states, s)
	close(w.news)
	w.news = make(chan struct{})
	return nil
}

// A watched connection to Delve notes what is written while the machine stands.
type watched struct {
	net.Conn
	w *world
}

func (c watched) Write(b []byte) (int, error) {
	if c.w.last() == Stopped {
		c.w.mu.Lock()
		c.w.early = append(c.w.early, string(b))
		c.w.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (w *world) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return nil, err
	}
	return watched{conn, w}, nil
}

// last is the state that was told of last.
func (w *world) last() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[len(w.states)-1]
}

// mark is how many states there were so far, and since those after that.
func (w *world) mark() int { return len(w.since(0)) }

func (w *world) since(mark int) []State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.states[mark:])
}

// until waits for a state.
func (w *world) until(want State) {
	w.t.Helper()
	for {
		w.mu.Lock()
		got, news := w.states[len(w.states)-1], w.news
		w.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-news:
		case <-w.ctx.Done():
			w.t.Fatalf("never %s; states: %v", want, w.since(0))
		}
	}
}

// client connects somebody through the session.
func (w *world) client() net.Conn {
	w.t.Helper()
	near, far := net.Pipe()
	served := make(chan struct{})
	ctx, cancel := context.WithCancel(w.ctx)
	go func() {
		defer close(served)
		if err := w.Serve(ctx, far); err != nil && w.fail == nil {
			w.t.Error(err)
		}
	}()
	w.t.Cleanup(func() { near.Close(); cancel(); <-served })
	return near
}

// traced says who traces the program, "0" for nobody.
func (w *world) traced() string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "TracerPid:")
	pid, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(pid)
}

// released waits until the program was let go, and Delve has ended.
func (w *world) released() {
	w.t.Helper()
	select {
	case <-w.done:
	case <-w.ctx.Done():
		w.t.Fatalf("Delve never ended; states: %v", w.since(0))
	}
	<-w.Released()
	if got := w.traced(); got != "0" {
		w.t.Errorf("the program is still traced by %s", got)
	}
	if got := w.last(); got != Running {
		w.t.Errorf("at the end: %s", got)
	}
}

type (
	breakpoint struct {
		FunctionName string `json:"functionName"`
		Line         int    `json:"line"`
	}
	createIn struct{ Breakpoint breakpoint }
)

// Each answer comes when its state has been told of, and nothing is asked of a machine that stands: dial checks that.
func TestJSONRPC(t *testing.T) {
	w := newWorld(t, false, shortGrace)
	if w.last() != Running {
		t.Fatalf("after the attach: %v", w.since(0))
	}
	c := jsonrpc.NewClient(w.client())
	call := func(method string, in, out any) {
		t.Helper()
		if err := c.Call("RPCServer."+method, in, out); err != nil {
			t.Fatal(err)
		}
	}
	var out stateOut
	call("State", stateIn{NonBlocking: true}, &out)
	if !out.State.Running || w.last() != Running {
		t.Errorf("Delve: running %t, session: %s", out.State.Running, w.last())
	}
	call("Command", command{Name: "halt"}, &out)
	w.until(Stopped)
	call("CreateBreakpoint", createIn{breakpoint{FunctionName: "main.tick", Line: -1}}, &struct{}{})
	for range 3 {
		w.until(Stopped)
		from := w.mark()
		call("Command", command{Name: "continue"}, &out)
		if got := w.last(); got == Running {
			t.Error("the client knows that the program stands, others do not")
		}
		w.until(Stopped)
		if got := w.since(from); !slices.Contains(got, Running) {
			t.Errorf("it continued without running: %v", got)
		}
	}
	// A question does not let the peers run.
	from := w.mark()
	call("State", stateIn{}, &out)
	w.until(Stopped)
	if got := w.since(from); slices.Contains(got, Running) || !slices.Contains(got, Working) {
		t.Errorf("a question: %v", got)
	}
	// Gone without a word, in front of a breakpoint.
	c.Close()
	w.released()
}

// A client that has gone leaves a program that runs; it is stopped for those who stay.
func TestOneOfTwoVanishesWhileItRuns(t *testing.T) {
	w := newWorld(t, true, shortGrace)
	w.until(Stopped)
	one, other := jsonrpc.NewClient(w.client()), jsonrpc.NewClient(w.client())
	if err := other.Call("RPCServer.State", stateIn{}, &stateOut{}); err != nil {
		t.Fatal(err)
	}
	if err := one.Call("RPCServer.CreateBreakpoint", createIn{breakpoint{FunctionName: "main.tick", Line: -1}}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	// The second time: from the breakpoint on.
	for range 2 {
		if err := one.Call("RPCServer.Command", command{Name: "continue"}, &stateOut{}); err != nil {
			t.Fatal(err)
		}
	}
	w.until(Stopped)
	// It stops at the breakpoint, of which Delve tells nobody.
	third := jsonrpc.NewClient(w.client())
	third.Go("RPCServer.Command", command{Name: "continue"}, &stateOut{}, make(chan *rpc.Call, 1))
	third.Close()
	w.until(Stopped)
	if err := one.Call("RPCServer.ClearBreakpoint", struct{ Id int }{1}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	// Without one it runs.
	w.until(Stopped)
	from := w.mark()
	one.Go("RPCServer.Command", command{Name: "continue"}, &stateOut{}, make(chan *rpc.Call, 1))
	w.until(Running)
	one.Close()
	time.Sleep(10 * linger)
	if got := w.since(from); got[len(got)-1] != Running {
		t.Errorf("it runs, and is taken to be %v", got)
	}
	if err := other.Call("RPCServer.Command", command{Name: "halt"}, &stateOut{}); err != nil {
		t.Fatal(err)
	}
	w.until(Stopped)
	if err := other.Call("RPCServer.State", stateIn{}, &stateOut{}); err != nil {
		t.Fatal(err)
	}
	other.Close()
	w.released()
}

// The real client: commands of `dlv connect`.
func TestDlvConnect(t *testing.T) {
	w := newWorld(t, false, shortGrace)
	l, err := ownport.Listen(ownport.Options{Protocol: ownport.Delve})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = w.Serve(w.ctx, conn)
		}
		served <- err
	}()
	script := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(script, []byte("break main.tick\ncontinue\nprint i\ngoroutines\nnext\nclearall\nexit -c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	made, _ := tools()
	cmd := exec.CommandContext(w.ctx, made.dlv, "connect", "unix:"+l.Addr().String(), "--allow-non-terminal-interactive", "--init", script)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "(hits goroutine(1):1 total:1)") {
		t.Errorf("dlv connect: %v: %s", err, out)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	w.released()
}

// A dap client is as much of an editor as it takes.
type dap struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	seq  int
}

func (d *dap) send(command string, arguments any) {
	d.t.Helper()
	d.seq++
	body, err := json.Marshal(map[string]any{"seq": d.seq, "type": "request", "command": command, "arguments": arguments})
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.conn.Write([]byte(framed(string(body)))); err != nil {
		d.t.Fatal(err)
	}
}

// await reads up to the response to a command, or an event.
func (d *dap) await(kind, name string) map[string]any {
	d.t.Helper()
	for {
		size := 0
		for {
			line, err := d.in.ReadString('\n')
			if err != nil {
				d.t.Fatalf("wait for the %s %s: %v", kind, name, err)
			}
			if line = strings.TrimSpace(line); line == "" {
				break
			}
			_, value, _ := strings.Cut(line, ": ")
			size, _ = strconv.Atoi(value)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(d.in, body); err != nil {
			d.t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			d.t.Fatal(err)
		}
		if m["type"] == kind && (m["command"] == name || m["event"] == name) {
			if m["success"] == false {
				d.t.Fatalf("%s: %s", name, body)
			}
			return m
		}
	}
}

func (d *dap) ask(command string, arguments any) map[string]any {
	d.t.Helper()
	d.send(command, arguments)
	return d.await("response", command)
}

func TestDAP(t *testing.T) {
	w := newWorld(t, false, shortGrace)
	conn := w.client()
	d := &dap{t: t, conn: conn, in: bufio.NewReader(conn)}
	d.ask("initialize", map[string]any{"adapterID": "go", "linesStartAt1": true, "columnsStartAt1": true, "pathFormat": "path"})
	d.ask("attach", map[string]any{"mode": "remote", "request": "attach"})
	w.until(Stopped) // Delve has stopped the program for what follows
	d.ask("setFunctionBreakpoints", map[string]any{"breakpoints": []map[string]any{{"name": "main.tick"}}})
	d.ask("configurationDone", nil)
	d.await("event", "stopped")
	for _, step := range []string{"continue", "next", "continue"} {
		if w.last() == Running {
			t.Errorf("before %s: the client knows that the program stands, others do not", step)
		}
		w.until(Stopped)
		from := w.mark()
		d.ask("stackTrace", map[string]any{"threadId": 1, "levels": 1})
		w.until(Stopped)
		if got := w.since(from); slices.Contains(got, Running) {
			t.Errorf("a question: %v", got)
		}
		from = w.mark()
		d.ask(step, map[string]any{"threadId": 1})
		d.await("event", "stopped")
		if got := w.since(from); !slices.Contains(got, Running) {
			t.Errorf("%s without running: %v", step, got)
		}
	}
	d.ask("disconnect", map[string]any{})
	d.await("event", "terminated")
	conn.Close()
	w.released()
}

// What is not understood is passed on as it is, and everything runs.
func TestStrangeClient(t *testing.T) {
	w := newWorld(t, true, time.Hour)
	w.until(Stopped)
	conn := w.client()
	if _, err := conn.Write([]byte("[what?]\n")); err != nil {
		t.Fatal(err)
	}
	w.until(Running)
	conn.Close()
	// There is nothing any more that is not understood.
	w.until(Stopped)
}

// A machine that cannot be paused or resumed ends the session, and its clients' connections with it.
// A session without an OnState changes its state and tells no one.
func TestNoOnState(t *testing.T) {
	s := &Session{ctx: t.Context(), now: Running}
	if err := s.tell(Working); err != nil || s.now != Working {
		t.Errorf("%s, %v", s.now, err)
	}
}

func TestStateThatFails(t *testing.T) {
	w := newWorld(t, false, shortGrace)
	conn := w.client()
	w.mu.Lock()
	w.fail = errors.New("the machine is gone")
	w.mu.Unlock()
	if _, err := fmt.Fprintf(conn, `{"method":"RPCServer.Command","params":[{"name":"halt"}],"id":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Error(err)
	}
}

func TestProgramThatEnds(t *testing.T) {
	w := newWorld(t, true, shortGrace)
	w.until(Stopped)
	c := jsonrpc.NewClient(w.client())
	if err := syscall.Kill(w.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Delve says it either way.
	err := c.Call("RPCServer.Command", command{Name: "continue"}, &stateOut{})
	if err != nil && !hasExited(err.Error()) {
		t.Error(err)
	}
	w.until(Running)
	_ = c.Call("RPCServer.State", stateIn{}, &stateOut{})
	if w.last() != Running {
		t.Errorf("a program that has ended is %s", w.last())
	}
}

// The program goes on when Delve is killed, too: nothing is left of the SIGSTOP
// from before it attached.
func TestDelveIsKilled(t *testing.T) {
	w := newWorld(t, false, DefaultGrace)
	if err := w.dlv.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.done
	slept := func() (n int) {
		t.Helper()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		if _, err := fmt.Sscan(after, &n); err != nil {
			t.Fatalf("%v in %s", err, status)
		}
		return n
	}
	// Each tick is followed by a sleep.
	for before := slept(); slept() < before+20; {
		select {
		case <-w.ctx.Done():
			t.Fatal("the program does not run")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
