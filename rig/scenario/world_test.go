package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// A guestProgram is a program of a fake node.
type guestProgram func(ctx context.Context, argv []string, stdout, stderr io.Writer) (int, error)

// A fakeWorld has nodes without machines: programs are functions, files are in
// memory, and logs are real.
type fakeWorld struct {
	mu       sync.Mutex
	names    []string
	nodes    map[string]*fakeNode
	programs map[string]guestProgram
	calls    []string // what was asked for, in order
	unproven []string
	up       func(ctx context.Context) error // nil: works
	tcp      func(ctx context.Context, addr netip.AddrPort, send []byte) ([]byte, error)
}

type fakeNode struct {
	world *fakeWorld
	name  string
	log   *console.Log
	up    bool
	files map[string]string
}

func newFakeWorld() *fakeWorld {
	w := &fakeWorld{nodes: map[string]*fakeNode{}, programs: map[string]guestProgram{
		"true":  func(context.Context, []string, io.Writer, io.Writer) (int, error) { return 0, nil },
		"false": func(context.Context, []string, io.Writer, io.Writer) (int, error) { return 1, nil },
		"echo": func(_ context.Context, argv []string, stdout, _ io.Writer) (int, error) {
			fmt.Fprintln(stdout, strings.Join(argv[1:], " "))
			return 0, nil
		},
		"misuse": func(context.Context, []string, io.Writer, io.Writer) (int, error) { return 2, nil },
		"complain": func(_ context.Context, argv []string, _, stderr io.Writer) (int, error) {
			fmt.Fprintln(stderr, strings.Join(argv[1:], " "))
			return 3, nil
		},
		"hang": func(ctx context.Context, _ []string, stdout, _ io.Writer) (int, error) {
			fmt.Fprintln(stdout, "hanging")
			<-ctx.Done()
			return 0, ctx.Err()
		},
	}}
	for _, name := range standardNodes {
		w.add(name)
	}
	return w
}

func (w *fakeWorld) add(name string) {
	w.names = append(w.names, name)
	w.nodes[name] = &fakeNode{world: w, name: name, log: console.NewLog(), files: map[string]string{}}
}

func (w *fakeWorld) called(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

// print makes a node print a line.
func (w *fakeWorld) print(node, text string) {
	w.nodes[node].log.Append(console.Line{Time: time.Now(), Unit: "test", Stream: "stdout", Text: text})
}

func (w *fakeWorld) Declare(name string) error {
	w.called("declare %s", name)
	w.add(name)
	return nil
}

func (w *fakeWorld) Up(ctx context.Context, o UpOptions) error {
	w.called("up %v cold=%v only=%v", o.Nodes, o.Cold, o.Only)
	if w.up != nil {
		return w.up(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.names {
		if o.Nodes == nil || slices.Contains(o.Nodes, name) {
			w.nodes[name].up = true
		}
	}
	return nil
}

func (w *fakeWorld) Node(name string) (Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[name]
	if n == nil || !n.up {
		return nil, fmt.Errorf("node %s is not up", name)
	}
	return n, nil
}

func (w *fakeWorld) Names() []string { return slices.Clone(w.names) }

func (w *fakeWorld) Log(name string) *console.Log {
	if n := w.nodes[name]; n != nil {
		return n.log
	}
	return nil
}

func (w *fakeWorld) Pause(_ context.Context, name string) error {
	w.called("pause %s", name)
	return nil
}

func (w *fakeWorld) Resume(_ context.Context, name string) error {
	w.called("resume %s", name)
	return nil
}

func (w *fakeWorld) Reset(_ context.Context, name string) error {
	w.called("reset %s", name)
	return nil
}

func (w *fakeWorld) Crash(_ context.Context, name string) error {
	w.called("crash %s", name)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[name].up = false
	return nil
}

func (w *fakeWorld) Link(_ context.Context, name string, l Link) error {
	w.called("link %s %s maybe=%v", name, l, l.Maybe)
	return nil
}

func (w *fakeWorld) Block(_ context.Context, b Block) error {
	w.called("block %s first=%d maybe=%v", b, b.First, b.Maybe)
	return nil
}

func (w *fakeWorld) Unblock(_ context.Context, which *Block) error {
	w.called("unblock %v", which)
	return nil
}

func (w *fakeWorld) Partition(_ context.Context, maybe bool) error {
	w.called("partition maybe=%v", maybe)
	return nil
}

func (w *fakeWorld) Heal(context.Context) error {
	w.called("heal")
	return nil
}

func (w *fakeWorld) Clock(_ context.Context, name string, by time.Duration) error {
	w.called("clock %s %s", name, by)
	return nil
}

func (w *fakeWorld) Unproven(context.Context) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unproven, nil
}

func (w *fakeWorld) LAN() LAN { return w }

func (w *fakeWorld) TCP(ctx context.Context, addr netip.AddrPort, send []byte) ([]byte, error) {
	w.called("tcp %s %x", addr, send)
	return w.tcp(ctx, addr, send)
}

func (w *fakeWorld) UDP(_ context.Context, from, to netip.AddrPort, payload []byte) error {
	w.called("udp %s %s %x", from, to, payload)
	return nil
}

func (n *fakeNode) Start(_ context.Context, program string, args []string) error {
	n.world.called("start %s %s %q", n.name, program, args)
	return nil
}

func (n *fakeNode) Stop(_ context.Context, program string) error {
	n.world.called("stop %s %s", n.name, program)
	return nil
}

func (n *fakeNode) Kill(_ context.Context, program, signal string) error {
	n.world.called("kill %s %s %s", n.name, program, signal)
	return nil
}

func (n *fakeNode) Exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (int, error) {
	p := n.world.programs[argv[0]]
	if p == nil {
		return 0, &NodeError{Reason: record.NotStarted, Err: fmt.Errorf("%s: no such program", argv[0])}
	}
	return p(ctx, argv, stdout, stderr)
}

func (n *fakeNode) Push(_ context.Context, src, dst string) error {
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.files[dst] = string(data)
	return nil
}

func (n *fakeNode) Pull(_ context.Context, src, dst string) error {
	n.world.mu.Lock()
	data, ok := n.files[src]
	n.world.mu.Unlock()
	if !ok {
		return fmt.Errorf("%s: no such file", src)
	}
	return os.WriteFile(dst, []byte(data), 0o644)
}

// A bench is an engine with a fake world and the events it emitted.
type bench struct {
	t      *testing.T
	world  *fakeWorld
	engine *Engine
	mu     sync.Mutex
	events []record.Event
}

// newBench makes a bench; change may alter the configuration.
func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, world: newFakeWorld()}
	cfg := Config{World: b.world, Work: t.TempDir(), Host: Host{Accel: "tcg", Arch: "amd64"}, Emit: func(e record.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.engine = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("close engine: %v", err)
		}
	})
	return b
}

// run runs a script.
func (b *bench) run(ctx context.Context, script string) Outcome {
	b.t.Helper()
	s, err := Parse("test.txtar", []byte(script))
	if err != nil {
		b.t.Fatalf("parse: %v", err)
	}
	return b.engine.Run(ctx, s)
}

// seen returns the events of one kind.
func (b *bench) seen(kind record.Kind) []record.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []record.Event
	for _, e := range b.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// output returns the text of all output events of a stream.
func (b *bench) output(stream string) string {
	var out strings.Builder
	for _, e := range b.seen(record.KindOutput) {
		if e.Stream == stream {
			out.WriteString(e.Text)
		}
	}
	return out.String()
}

// passes runs a script that must pass.
func (b *bench) passes(script string) {
	b.t.Helper()
	if out := b.run(b.t.Context(), script); out.Result != record.Passed {
		b.t.Fatalf("result %s: %v", out.Result, out.Failure)
	}
}

// fails runs a script that must fail for a reason, in a line, with a message that
// has some text in it.
func (b *bench) fails(script string, reason record.Reason, line int, text string) *record.Failure {
	b.t.Helper()
	out := b.run(b.t.Context(), script)
	if out.Failure == nil {
		b.t.Fatalf("result %s without a failure", out.Result)
	}
	checkFailure(b.t, out.Failure, reason, line, text)
	if out.Result != reason.Info().Result {
		b.t.Errorf("result %s, want %s", out.Result, reason.Info().Result)
	}
	return out.Failure
}

func checkFailure(t *testing.T, f *record.Failure, reason record.Reason, line int, text string) {
	t.Helper()
	if f.Reason != reason || f.Line != line || !strings.Contains(f.Message, text) {
		t.Fatalf("got %s in line %d: %s\nwant %s in line %d with %q", f.Reason, f.Line, f.Message, reason, line, text)
	}
}
