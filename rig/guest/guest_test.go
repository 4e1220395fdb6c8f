package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"dsoftbus-rig/nodes/agent"
	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/nodes/stacks"
)

// A standIn is an agent that serves this process instead of a virtual machine,
// running the host's programs.
type standIn struct {
	*Client
	near, far net.Conn
	paused    sync.Mutex // held while the machine hangs
	impaired  agentapi.ImpairmentStatistics

	mu      sync.Mutex
	journal bytes.Buffer
}

func TestMain(m *testing.M) {
	// Under nohup(1) a shell that is started here could not be sent a hang-up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

// A pausable connection reads nothing while its machine hangs.
type pausable struct {
	net.Conn
	paused *sync.Mutex
}

func (p *pausable) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.paused.Lock()
	defer p.paused.Unlock()
	return n, err
}

// hang makes the machine hang: nothing it is sent from now on is looked at.
func (m *standIn) hang(t *testing.T) {
	t.Helper()
	m.paused.Lock()
}

func (m *standIn) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.journal.Write(b)
}

// lines returns the journal so far, as "unit/stream text".
func (m *standIn) lines(t *testing.T) []string {
	m.mu.Lock()
	data := bytes.Clone(m.journal.Bytes())
	m.mu.Unlock()
	var out []string
	_ = journal.SplitAt(bytes.NewReader(data), journal.MaxEntry, func(line []byte, _ bool) {
		e, err := journal.Decode(line)
		if err != nil {
			t.Error(err)
		}
		out = append(out, e.Unit+"/"+e.Stream+" "+e.Line())
	})
	return out
}

// stepped is what a stand-in's clock shows.
var stepped = time.Date(2024, 2, 29, 23, 59, 59, 1, time.UTC)

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	m := &standIn{}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if m.near, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if m.far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	s := &agent.Server{
		Journal:    journal.NewWriter(m, func() time.Duration { return time.Second }),
		Supervisor: agent.NewSupervisor(),
		Configure: func(c agentapi.Identity) error {
			if c.Hostname == "" {
				return errors.New("no host name")
			}
			return nil
		},
		Modules: 7,
		Impair: func(i agentapi.Impairment) (agentapi.ImpairmentStatistics, error) {
			before := m.impaired
			m.impaired = agentapi.ImpairmentStatistics{Set: i != agentapi.Impairment{}, Packets: 1 << 40}
			return before, i.Check()
		},
		Impairment: func() (agentapi.ImpairmentStatistics, error) { return m.impaired, nil },
		StepClock: func(s agentapi.Step) (agentapi.Stepped, error) {
			if s.By == math.MaxInt64 {
				return agentapi.Stepped{}, errors.New("out of range")
			}
			return agentapi.Stepped{Before: stepped, After: stepped.Add(s.By)}, nil
		},
		Stacks: stacks.NewAsker(filepath.Join(t.TempDir(), "stacks")).Ask,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(context.Background(), &pausable{Conn: m.far, paused: &m.paused})
	}()
	m.Client = New(m.near)
	t.Cleanup(func() {
		m.Client.Close()
		m.far.Close()
		m.paused.TryLock()
		m.paused.Unlock()
		<-served
	})
	return m
}

func TestExec(t *testing.T) {
	m := newStandIn(t)
	tests := []struct {
		name           string
		argv           []string
		status         int
		stdout, stderr string
		journal        []string
	}{
		{"output and status", []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, 3, "out\n", "err\n", []string{"sh/stdout out", "sh/stderr err"}},
		{"arguments stay as they are", []string{"printf", "%s|", "a b", "", "'q'", "$HOME", "*"}, 0, "a b||'q'|$HOME|*|", "", []string{"printf/stdout a b||'q'|$HOME|*|"}},
		{"a signal", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, "", "", nil},
		{"status 127 is a program's own", []string{"sh", "-c", "exit 127"}, 127, "", "", nil},
		{"input is at its end", []string{"cat"}, 0, "", "", nil},
		{"bytes of any kind", []string{"printf", `\000\377\n`}, 0, "\x00\xff\n", "", []string{"printf/stdout \x00\xff"}},
	}
	seen := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got, err := m.Exec(t.Context(), tt.argv, &stdout, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tt.status || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("status %d, stdout %q, stderr %q", got.Status, stdout.String(), stderr.String())
			}
			lines := m.lines(t)
			if uint64(len(lines)) != got.JournalSeq {
				t.Errorf("the journal has %d lines, the result says %d", len(lines), got.JournalSeq)
			}
			for _, want := range tt.journal {
				if !strings.Contains(strings.Join(lines[seen:], "\n"), want) {
					t.Errorf("no %q in %q", want, lines[seen:])
				}
			}
			seen = len(lines)
		})
	}
}

func notStarted(err error) bool {
	_, is := errors.AsType[NotStartedError](err)
	return is
}

// A program that cannot be started has no exit status: it must not be taken for one
// that ran and failed.
func TestNotStarted(t *testing.T) {
	m := newStandIn(t)
	dir := t.TempDir()
	plain, binary := filepath.Join(dir, "plain"), filepath.Join(dir, "binary")
	if err := errors.Join(os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644), os.WriteFile(binary, []byte("\x00\x01"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, program, text string }{
		{"no such program", "no-such-program", "executable file not found in $PATH"},
		{"no such file", filepath.Join(dir, "missing"), "no such file or directory"},
		{"a folder", dir, "permission denied"},
		{"a file that must not be executed", plain, "permission denied"},
		{"a file that is no program", binary, "exec format error"},
		{"no name", "", "no program named"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr bytes.Buffer
			exit, err := m.Exec(t.Context(), []string{tt.program, "x"}, io.Discard, &stderr)
			if !notStarted(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("exec: %+v, %v; want %q", exit, err, tt.text)
			}
			if stderr.Len() > 0 {
				t.Errorf("exec printed %q in the program's name", stderr.String())
			}
			err = m.Call(t.Context(), agentapi.MethodStart, agentapi.Start{Program: tt.program}, nil)
			if !notStarted(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("start: %v; want %q", err, tt.text)
			}
		})
	}
	for method, in := range map[string]any{
		agentapi.MethodStop:    agentapi.Stop{Program: "sleeper"},
		agentapi.MethodKill:    agentapi.Kill{Program: "sleeper", Signal: "SIGKILL"},
		agentapi.MethodRestart: agentapi.Restart{Program: "sleeper"},
	} {
		if err := m.Call(t.Context(), method, in, nil); !notStarted(err) || !strings.Contains(err.Error(), "sleeper was never started here") {
			t.Errorf("%s of a service that never was: %v", method, err)
		}
	}
}

func TestExecOfMuchOutput(t *testing.T) {
	m := newStandIn(t)
	var out bytes.Buffer
	got, err := m.Exec(t.Context(), []string{"sh", "-c", "head -c 8000000 /dev/zero"}, &out, io.Discard)
	if err != nil || got.Status != 0 || out.Len() != 8_000_000 {
		t.Fatalf("%d bytes, %+v, %v", out.Len(), got, err)
	}
}

func TestExecIsKilledWithItsContext(t *testing.T) {
	m := newStandIn(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("took too long")
	r, w := io.Pipe()
	go func() {
		// The program runs once it has printed its process group.
		_, _ = io.ReadFull(r, make([]byte, 3))
		cancel(late)
		_, _ = io.Copy(io.Discard, r)
	}()
	_, err := m.Exec(ctx, []string{"sh", "-c", "echo up; sleep 1000"}, w, io.Discard)
	if !errors.Is(err, late) {
		t.Fatalf("got %v", err)
	}
	// The connection is still good.
	if got, err := m.Exec(t.Context(), []string{"true"}, io.Discard, io.Discard); err != nil || got.Status != 0 {
		t.Fatalf("next program: %+v, %v", got, err)
	}
}

// A child that keeps the output open does not keep a finished program from ending.
func TestExecDoesNotWaitForChildren(t *testing.T) {
	m := newStandIn(t)
	var out bytes.Buffer
	got, err := m.Exec(t.Context(), []string{"sh", "-c", "sleep 1000 & echo $!"}, &out, io.Discard)
	if err != nil || got.Status != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := m.Exec(t.Context(), []string{"kill", strings.TrimSpace(out.String())}, io.Discard, io.Discard); err != nil || got.Status != 0 {
		t.Fatalf("kill the child: %+v, %v", got, err)
	}
}

func TestServices(t *testing.T) {
	m := newStandIn(t)
	call := func(method string, in any) error { return m.Call(t.Context(), method, in, nil) }
	sleeper := filepath.Join(t.TempDir(), "sleeper")
	script := "#!/bin/sh\ntrap 'echo bye; exit 0' TERM\ntrap 'echo hup' HUP\necho ready $1\nwhile :; do sleep 0.01; done\n"
	if err := os.WriteFile(sleeper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	awaitLine := func(want string) {
		t.Helper()
		for {
			for _, line := range m.lines(t) {
				if line == want {
					return
				}
			}
			if t.Context().Err() != nil {
				t.Fatalf("no %q in %q", want, m.lines(t))
			}
		}
	}
	if err := call(agentapi.MethodStop, agentapi.Stop{Program: "sleeper"}); err == nil || !strings.Contains(err.Error(), "never started") {
		t.Fatalf("stop of nothing: %v", err)
	}
	if err := call(agentapi.MethodStart, agentapi.Start{Program: sleeper, Args: []string{"steady"}}); err != nil {
		t.Fatal(err)
	}
	awaitLine("sleeper/stdout ready steady")
	if err := call(agentapi.MethodStart, agentapi.Start{Program: sleeper}); err == nil || !strings.Contains(err.Error(), "running already") || notStarted(err) {
		t.Fatalf("second start: %v", err)
	}
	if err := call(agentapi.MethodKill, agentapi.Kill{Program: "sleeper", Signal: "HUP"}); err != nil {
		t.Fatal(err)
	}
	awaitLine("sleeper/stdout hup")
	if err := call(agentapi.MethodKill, agentapi.Kill{Program: "sleeper", Signal: "SIGNONE"}); err == nil || !strings.Contains(err.Error(), "unknown signal") {
		t.Fatalf("odd signal: %v", err)
	}
	if err := call(agentapi.MethodStop, agentapi.Stop{Program: "sleeper", Within: time.Minute}); err != nil {
		t.Fatal(err)
	}
	awaitLine("sleeper/stdout bye")
	awaitLine("agent/stdout sleeper ended: exit status 0")
	if err := call(agentapi.MethodKill, agentapi.Kill{Program: "sleeper", Signal: "9"}); err == nil || !strings.Contains(err.Error(), "ended with exit status 0") || notStarted(err) {
		t.Fatalf("kill of the dead: %v", err)
	}
	if err := call(agentapi.MethodStart, agentapi.Start{Program: sleeper}); err != nil {
		t.Fatalf("start again: %v", err)
	}
	if err := call(agentapi.MethodKill, agentapi.Kill{Program: "sleeper", Signal: "SIGKILL"}); err != nil {
		t.Fatal(err)
	}
	awaitLine("agent/stdout sleeper ended: signal: killed")
}

// The agent tells an end that no signal of the rig has asked for on a stream of its
// own.
func TestServiceThatEndsByItself(t *testing.T) {
	m := newStandIn(t)
	await := func(want string) {
		t.Helper()
		for !strings.Contains(strings.Join(m.lines(t), "\n"), want) {
			if t.Context().Err() != nil {
				t.Fatalf("no %q in %q", want, m.lines(t))
			}
		}
	}
	for _, tt := range []struct{ script, signal, want string }{
		{"exit 3", "", "agent/stderr sh ended: exit status 3"},
		{"exit 0", "", "agent/stdout sh ended: exit status 0"},
		{"trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done", "TERM", "agent/stdout sh ended: exit status 4"},
	} {
		if err := m.Call(t.Context(), agentapi.MethodStart, agentapi.Start{Program: "sh", Args: []string{"-c", tt.script}}, nil); err != nil {
			t.Fatal(err)
		}
		if tt.signal != "" {
			await("sh/stdout up")
			if err := m.Call(t.Context(), agentapi.MethodKill, agentapi.Kill{Program: "sh", Signal: tt.signal}, nil); err != nil {
				t.Fatal(err)
			}
		}
		await(tt.want)
	}
}

func TestServiceThatIgnoresSIGTERMIsKilled(t *testing.T) {
	m := newStandIn(t)
	if err := m.Call(t.Context(), agentapi.MethodStart, agentapi.Start{Program: "sh", Args: []string{"-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"}}, nil); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(strings.Join(m.lines(t), "\n"), "sh/stdout up") {
		if t.Context().Err() != nil {
			t.Fatal("it never came up")
		}
	}
	err := m.Call(t.Context(), agentapi.MethodStop, agentapi.Stop{Program: "sh", Within: 50 * time.Millisecond}, nil)
	if err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Fatalf("got %v", err)
	}
}

func testIdentity(hostname string) agentapi.Identity {
	return agentapi.Identity{
		Hostname: hostname, MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x0a}, Address: netip.MustParsePrefix("10.42.0.10/24"),
		Clock: time.Now(), Entropy: make([]byte, 64),
	}
}

// configure calls the agent as a node does.
func (m *standIn) configure(t *testing.T, id agentapi.Identity) error {
	data, err := id.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return m.Call(t.Context(), agentapi.MethodConfigure, data, nil)
}

func TestCalls(t *testing.T) {
	m := newStandIn(t)
	var info agentapi.Info
	if err := m.Call(t.Context(), agentapi.MethodInfo, nil, &info); err != nil {
		t.Fatal(err)
	}
	if info.KernelRelease == "" || info.Uptime <= 0 || info.Modules != 7 {
		t.Fatalf("info %+v", info)
	}
	if err := m.configure(t, testIdentity("node-a")); err != nil {
		t.Fatal(err)
	}
	if err := m.configure(t, testIdentity("")); err == nil || err.Error() != "no host name" {
		t.Fatalf("refused configuration: %v", err)
	}
	if err := m.Call(t.Context(), agentapi.MethodConfigure, []byte("short"), nil); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Fatalf("half a configuration: %v", err)
	}
	if err := m.Call(t.Context(), agentapi.MethodStart, agentapi.Start{Program: "no-such-program"}, nil); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Fatalf("refused start: %v", err)
	}
	if _, err := m.Coverage(t.Context()); err == nil || !strings.Contains(err.Error(), `no call "coverage"`) {
		t.Errorf("coverage of programs that do not count: %v", err)
	}
	if err := m.Call(t.Context(), "dance", nil, nil); err == nil || !strings.Contains(err.Error(), `no call "dance"`) {
		t.Fatalf("unknown call: %v", err)
	}
}

// What an agent would not read is not sent.
func TestACallIsBounded(t *testing.T) {
	m := newStandIn(t)
	large := testIdentity("node-a")
	large.Files = []agentapi.File{{Path: "/large", Content: make([]byte, agentapi.MaxRequest)}}
	if err := m.configure(t, large); err == nil || !strings.Contains(err.Error(), "an agent takes 1048576") {
		t.Fatalf("got %v", err)
	}
	if err := m.configure(t, testIdentity("node-a")); err != nil {
		t.Fatalf("the next call: %v", err)
	}
}

// Many calls at a time do not get into each other's way, nor does a program whose output nobody reads.
func TestCallsSideBySide(t *testing.T) {
	m := newStandIn(t)
	stuck := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = m.Exec(ctx, []string{"sh", "-c", "while :; do head -c 1000000 /dev/zero; done"}, reads(func([]byte) { <-stuck }), io.Discard)
	}()
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			if err := m.Call(t.Context(), agentapi.MethodInfo, nil, &agentapi.Info{}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	cancel()
	close(stuck)
	<-ended
}

// reads is a writer made of a function.
type reads func([]byte)

func (r reads) Write(b []byte) (int, error) {
	r(b)
	return len(b), nil
}

func TestFiles(t *testing.T) {
	m := newStandIn(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	if err := os.WriteFile(src, content, 0o750); err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(dir, "deep", "er", "file")
	for range 2 {
		if err := m.Push(t.Context(), src, there); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(there)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Fatalf("pushed: %v, %v", info, err)
	}
	back := filepath.Join(dir, "back")
	if err := m.Pull(t.Context(), there, back); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("pulled %d bytes, %v", len(got), err)
	}
	for what, err := range map[string]error{
		"push of nothing":    m.Push(t.Context(), filepath.Join(dir, "none"), there),
		"push of a folder":   m.Push(t.Context(), dir, there),
		"push onto a file":   m.Push(t.Context(), src, filepath.Join(there, "below")),
		"pull of nothing":    m.Pull(t.Context(), filepath.Join(dir, "none"), back),
		"pull to no folder":  m.Pull(t.Context(), there, filepath.Join(dir, "none", "x")),
		"pull over a folder": m.Pull(t.Context(), there, filepath.Join(dir, "deep")),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	var names []string
	for _, pattern := range []string{"*", ".*", "deep/er/*", "deep/er/.*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		names = append(names, found...)
	}
	for _, name := range names {
		if strings.Contains(filepath.Base(name), ".rig") || strings.Contains(filepath.Base(name), ".pull-") {
			t.Errorf("left behind: %s", name)
		}
	}
}

func TestALostAgentEndsEverything(t *testing.T) {
	m := newStandIn(t)
	errs := make(chan error, 2)
	started, w := io.Pipe()
	go func() {
		_, err := m.Exec(context.Background(), []string{"sh", "-c", "echo up; sleep 1000"}, w, io.Discard)
		errs <- err
	}()
	go func() { errs <- m.Watch(time.Hour, time.Hour, never) }()
	if _, err := io.ReadFull(started, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	m.far.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrLost) {
			t.Fatalf("got %v", err)
		}
	}
	<-m.Done()
	if err := m.Call(t.Context(), agentapi.MethodKill, nil, nil); !errors.Is(err, ErrLost) {
		t.Fatalf("call after the loss: %v", err)
	}
}

func never() bool { return false }

// An agent that stays connected and says nothing is as lost as one that is gone, unless its machine is paused.
func TestASilentAgentIsLost(t *testing.T) {
	m := newStandIn(t)
	excuses := 3
	err := m.Watch(time.Millisecond, time.Nanosecond, func() bool { excuses--; return excuses > 0 })
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "no sign of life") || excuses > 0 {
		t.Fatalf("got %v, %d excuses left", err, excuses)
	}
}

// A machine that hangs answers nothing any more and breaks no connection.
func TestAMachineThatHangsHoldsNobodyUp(t *testing.T) {
	m := newStandIn(t)
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), src, src+".pushed"); err != nil {
		t.Fatal(err)
	}
	m.hang(t)
	late := errors.New("took too long")
	for what, f := range map[string]func(context.Context) error{
		"call": func(ctx context.Context) error { return m.Call(ctx, agentapi.MethodKill, agentapi.Kill{}, nil) },
		"exec": func(ctx context.Context) error {
			_, err := m.Exec(ctx, []string{"true"}, io.Discard, io.Discard)
			return err
		},
		"shell": func(ctx context.Context) error {
			_, err := m.Shell(ctx, agentapi.Shell{}, strings.NewReader(""), io.Discard, nil)
			return err
		},
		"dial": func(ctx context.Context) error {
			_, err := m.Dial(ctx, 7700)
			return err
		},
		"stacks": func(ctx context.Context) error {
			_, err := m.Stacks(ctx, agentapi.AgentUnit)
			return err
		},
		"push": func(ctx context.Context) error { return m.Push(ctx, src, src+".pushed") },
		"pull": func(ctx context.Context) error { return m.Pull(ctx, src, src+".pulled") },
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, late)
			defer cancel()
			if err := f(ctx); !errors.Is(err, late) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSomethingElseAnswers(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	go func() {
		_, _ = io.Copy(far, iotest.OneByteReader(strings.NewReader("HTTP/1.1 400 Bad Request\r\n\r\n"+strings.Repeat("x", 1000))))
		far.Close()
	}()
	c := New(near)
	defer c.Close()
	if _, err := c.Exec(t.Context(), []string{"true"}, io.Discard, io.Discard); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "version") {
		t.Fatalf("got %v", err)
	}
}

func TestFaults(t *testing.T) {
	m := newStandIn(t)
	var before, now agentapi.ImpairmentStatistics
	if err := m.Call(t.Context(), agentapi.MethodImpair, agentapi.Impairment{Delay: time.Second, Loss: 0.5}, &before); err != nil || before.Set {
		t.Fatalf("impair: %+v, %v", before, err)
	}
	if err := m.Call(t.Context(), agentapi.MethodImpairment, nil, &now); err != nil || !now.Set || now.Packets != 1<<40 {
		t.Fatalf("impairment: %+v, %v", now, err)
	}
	if err := m.Call(t.Context(), agentapi.MethodImpair, agentapi.Impairment{Loss: 100.5}, nil); err == nil || !strings.Contains(err.Error(), "loss 100.5%") {
		t.Errorf("impair by too much: %v", err)
	}
	if err := m.Call(t.Context(), agentapi.MethodImpair, agentapi.Impairment{}, &before); err != nil || !before.Set {
		t.Errorf("end: %+v, %v", before, err)
	}
	if err := m.Call(t.Context(), agentapi.MethodImpair, nil, nil); err == nil || !strings.Contains(err.Error(), "request of impair") {
		t.Errorf("impair without saying how: %v", err)
	}
	var s agentapi.Stepped
	if err := m.Call(t.Context(), agentapi.MethodClock, agentapi.Step{By: -time.Nanosecond}, &s); err != nil || !s.Before.Equal(stepped) || s.After.Sub(s.Before) != -1 {
		t.Errorf("clock: %+v, %v", s, err)
	}
	if err := m.Call(t.Context(), agentapi.MethodClock, agentapi.Step{By: math.MaxInt64}, &s); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("clock too far: %v", err)
	}
}

// A pulled file may be read by those who may read it in the machine, and by its owner.
func TestPullKeepsPermissions(t *testing.T) {
	m := newStandIn(t)
	dir := t.TempDir()
	for mode, want := range map[os.FileMode]os.FileMode{0o600: 0o600, 0o400: 0o600, 0o755: 0o755, 0o640: 0o640} {
		there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
		_ = os.Remove(there)
		if err := errors.Join(os.WriteFile(there, []byte("x"), 0o600), os.Chmod(there, mode)); err != nil {
			t.Fatal(err)
		}
		if err := m.Pull(t.Context(), there, back); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(back)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got&^want != 0 || got&0o700 != want&0o700 {
			t.Errorf("mode %v was pulled as %v, want %v less the umask", mode, got, want)
		}
	}
}

// An agent that answers without end is not read without end.
func TestAnswersAreBounded(t *testing.T) {
	s := stream{in: bufio.NewReader(endless{})}
	if _, err := s.reply(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an answer without end: got %v, want an error that says so", err)
	}
	frame := new(bytes.Buffer)
	if err := agentapi.NewFrameWriter(frame).WriteFrame(agentapi.FrameBytes, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	again := io.MultiReader(bytes.NewReader(frame.Bytes()), bytes.NewReader(frame.Bytes()))
	if err := new(Client).receive(again, io.Discard, 1999, "x"); !errors.Is(err, errTooLong) {
		t.Errorf("2000 bytes of at most 1999: got %v, want %v", err, errTooLong)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}
