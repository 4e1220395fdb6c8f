package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/delve"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/node"
	"dsoftbus-rig/rig/pace/pacetest"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/warm"
	"dsoftbus-rig/rig/worker"
)

// Tests in this file boot a real pair, in a worker as scenarios have one.

const debugJob = "debug"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{debugJob: debugPair, host.ProbeJob: host.Probe, host.NetworkJob: host.Network, warm.SaveJob: warm.Make}))
	}
	os.Exit(m.Run())
}

// A job is one of the tests below, for its worker.
type job struct {
	Test     string
	Hardware machine.Hardware
	Slowdown float64
	Dir      string
	Debugger images.Debugger
}

// lookedFor is how long somebody looks at a machine that stands: longer than any timeout of the protocol.
const lookedFor = 10 * time.Second

func TestFreeze(t *testing.T) { onPair(t, "freeze") }
func TestGDB(t *testing.T)    { onPair(t, "gdb") }
func TestDelve(t *testing.T)  { onPair(t, "delve") }
func TestFresh(t *testing.T)  { onPair(t, "fresh") }

var pairTests = map[string]func(*pair) error{"freeze": freezes, "gdb": isStoppedByGDB, "delve": isDebugged, "fresh": isDebuggedFromItsStart}

// onPair runs a test on a pair of machines.
func onPair(t *testing.T, name string) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	if _, err := exec.LookPath(host.DefaultQEMU); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), pacetest.Limit(4*time.Minute)) // from an empty cache
	defer cancel()
	cfg := images.Config{SourceDir: "../.."}
	set, err := images.Build(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(user, "dsoftbus-rig")
	h, err := host.Detect(ctx, host.Options{CacheDir: cache}, set)
	if unsupported, ok := errors.AsType[*host.UnsupportedError](err); ok {
		t.Skip(unsupported)
	} else if err != nil {
		t.Fatal(err)
	}
	j := job{Test: name, Hardware: h.Hardware(set), Slowdown: h.Slowdown, Dir: t.TempDir()}
	if j.Hardware.Saved, err = warm.Get(ctx, warm.Config{Hardware: j.Hardware, Version: h.QEMUVersion, CacheDir: filepath.Join(cache, "machines"), Log: func(s string) { t.Log(s) }}); err != nil {
		t.Logf("booting every machine: %v", err)
	}
	if name == "delve" || name == "fresh" {
		d, err := images.DebuggerFor(ctx, cfg, name == "fresh")
		if err != nil {
			t.Fatal(err)
		}
		j.Debugger = *d
	}
	p, err := worker.Start(ctx, debugJob, j)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(p.Out())
	if err = errors.Join(err, p.Wait()); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	t.Logf("%s", said)
}

// A pair is two machines with their services, whose session is up.
type pair struct {
	*node.World
	ctx context.Context
	job job
	out io.Writer

	mu     sync.Mutex
	frozen []bool   // what OnFreeze was told
	stops  []string // what OnStop was told
	news   chan struct{}
	from   map[string]int // of each log, where what matters begins
}

func debugPair(ctx context.Context, data json.RawMessage, out io.Writer) error {
	var j job
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	script, err := scenario.Parse("debug.txtar", []byte("up\n-- B/packages/system@1.0.0/build.prop --\nro.nexus.build=dev\n"))
	if err != nil {
		return err
	}
	rec, err := record.CreateScenario(j.Dir, "debug", "debug", func(record.Event) {})
	if err != nil {
		return err
	}
	defer rec.Close()
	fixture := filepath.Join(rec.Work(), "B/packages/system@1.0.0/build.prop")
	if err := os.MkdirAll(filepath.Dir(fixture), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(fixture, []byte("ro.nexus.build=dev\n"), 0o644); err != nil {
		return err
	}
	network, err := lan.New(ctx, lan.Config{})
	if err != nil {
		return err
	}
	world, err := node.NewWorld(node.Config{Hardware: j.Hardware, LAN: network, Script: script, Work: rec.Work(), Record: rec, Slowdown: j.Slowdown})
	if err != nil {
		return err
	}
	defer world.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	world.OnFailure(func(err *scenario.NodeError) { fail(err) })
	p := &pair{World: world, ctx: ctx, job: j, out: out, news: make(chan struct{}), from: map[string]int{}}
	world.OnFreeze(func(frozen bool) { p.note(func() { p.frozen = append(p.frozen, frozen) }) })
	world.OnStop(func(name string, stopped bool) {
		p.note(func() { p.stops = append(p.stops, fmt.Sprint(name, " ", stopped)) })
	})
	if err := world.Up(ctx, scenario.UpOptions{}); err != nil {
		return err
	}
	for _, name := range world.Names() {
		if _, err := world.Log(name).Wait(ctx, 0, func(l console.Line) bool { return strings.Contains(l.Text, "cross-vm session ok") }); err != nil {
			return err
		}
		p.from[name] = world.Log(name).Len()
	}
	if err := pairTests[j.Test](p); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return p.undisturbed()
}

func (p *pair) note(what func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	close(p.news)
	p.news = make(chan struct{})
}

// stopped waits until OnStop was told this in all.
func (p *pair) stopped(want ...string) error {
	for {
		p.mu.Lock()
		got, news := fmt.Sprint(p.stops), p.news
		p.mu.Unlock()
		if got == fmt.Sprint(want) {
			return nil
		}
		select {
		case <-news:
		case <-time.After(pacetest.Limit(20 * time.Second)):
			return fmt.Errorf("told of stops %s, want %v", got, want)
		}
	}
}

// undisturbed says whether the pair has noticed anything.
func (p *pair) undisturbed() error {
	for _, name := range p.Names() {
		log := p.Log(name)
		for _, l := range log.Lines(p.from[name], log.Len()) {
			if strings.Contains(l.Text, "session lost") || strings.Contains(l.Text, "session with") {
				return fmt.Errorf("node %s has noticed: %s", name, l.Text)
			}
		}
	}
	return nil
}

// A run is a program on a node while it runs.
type run struct {
	ended chan error
}

// read has A read a file of B's.
func (p *pair) read() run {
	return p.exec("A", "pkgfs", "-peer", "node-b", "cat", "pkg:/system/build.prop")
}

func (p *pair) exec(name string, argv ...string) run {
	r := run{make(chan error, 1)}
	go func() {
		n, err := p.Node(name)
		var out bytes.Buffer
		status := 0
		if err == nil {
			status, err = n.Exec(p.ctx, argv, &out, &out)
		}
		if err == nil && status != 0 {
			err = fmt.Errorf("%s on node %s: status %d: %s", argv[0], name, status, &out)
		}
		r.ended <- err
	}()
	return r
}

// ok waits until it has ended well.
func (r run) ok() error {
	select {
	case err := <-r.ended:
		return err
	case <-time.After(pacetest.Limit(30 * time.Second)):
		return errors.New("it never ended")
	}
}

// stands makes sure that it does not end for as long as somebody looks.
func (r run) stands() error {
	select {
	case err := <-r.ended:
		return fmt.Errorf("it ended while everything stood: %v", err)
	case <-time.After(lookedFor):
		return nil
	}
}

// freezes has both stand still: they lose nothing. What a scenario has paused stays so, and each of two holders holds for itself.
func freezes(p *pair) error {
	if err := p.Freeze(p.ctx, "one"); err != nil {
		return err
	}
	if !p.Frozen("A") || !p.Frozen("B") {
		return errors.New("not frozen")
	}
	reading := p.read()
	if err := reading.stands(); err != nil {
		return err
	}
	// A second one, who holds only B.
	if err := p.Freeze(p.ctx, "other", "A"); err != nil {
		return err
	}
	if err := p.Thaw(p.ctx, "one"); err != nil {
		return err
	}
	if p.Frozen("A") || !p.Frozen("B") || len(p.frozen) != 1 {
		return fmt.Errorf("of two holders one is gone: A %t, B %t, told %v", p.Frozen("A"), p.Frozen("B"), p.frozen)
	}
	if err := p.exec("A", "hostname").ok(); err != nil {
		return err
	}
	if err := p.Thaw(p.ctx, "other"); err != nil {
		return err
	}
	if got := fmt.Sprint(p.frozen); got != "[true false]" {
		return fmt.Errorf("told %s", got)
	}
	if err := reading.ok(); err != nil {
		return err
	}
	if err := p.undisturbed(); err != nil {
		return err
	}

	if err := p.Pause(p.ctx, "B"); err != nil {
		return err
	}
	if err := errors.Join(p.Freeze(p.ctx, "one"), p.Thaw(p.ctx, "one")); err != nil {
		return err
	}
	if _, err := p.Node("B"); err == nil || !strings.Contains(err.Error(), "is paused") {
		return fmt.Errorf("a thaw has resumed what the scenario has paused: %v", err)
	}
	// Its kernel answers nobody.
	if conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(scenario.NodeAddress(1), 34567).String(), time.Second); err == nil {
		conn.Close()
		return errors.New("a thaw has let run what the scenario has paused")
	}
	if err := p.Freeze(p.ctx, "one"); err != nil {
		return err
	}
	// The scenario's own verbs wait.
	resumed := make(chan error, 1)
	go func() { resumed <- p.Resume(p.ctx, "B") }()
	select {
	case err := <-resumed:
		return fmt.Errorf("a frozen node was resumed: %v", err)
	case <-time.After(time.Second):
	}
	if err := errors.Join(p.Thaw(p.ctx, "one"), <-resumed, p.read().ok()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.stops) != 0 {
		return fmt.Errorf("taken for a debugger's stops: %v", p.stops)
	}
	return nil
}

// isStoppedByGDB has gdb stop A. Frozen peers do not notice.
func isStoppedByGDB(p *pair) error {
	conn, err := p.GDB(p.ctx, "A")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := errors.Join(p.stopped("A true"), p.Freeze(p.ctx, "gdb", "A")); err != nil {
		return err
	}
	if _, err := p.GDB(p.ctx, "A"); err == nil || !strings.Contains(err.Error(), "already") {
		return fmt.Errorf("a second gdb: %v", err)
	}
	if err := p.read().stands(); err != nil {
		return err
	}
	if err := p.Thaw(p.ctx, "gdb"); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "$c#63"); err != nil {
		return err
	}
	if err := errors.Join(p.stopped("A true", "A false"), p.read().ok()); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{3}); err != nil {
		return err
	}
	if err := p.stopped("A true", "A false", "A true"); err != nil {
		return err
	}
	// A gdb that goes leaves a machine that goes on.
	return errors.Join(conn.Close(), p.EndGDB(p.ctx, "A"), p.stopped("A true", "A false", "A true", "A false"), p.read().ok())
}

// isDebugged has a read hit a breakpoint in B's dsoftbusd, and looks at it for longer than any timeout of either side.
func isDebugged(p *pair) error {
	b, err := p.Node("B")
	if err != nil {
		return err
	}
	d := p.job.Debugger
	if err := p.exec("B", "mkdir", "-p", filepath.Dir(d.NodePath)).ok(); err != nil {
		return err
	}
	if err := errors.Join(b.Push(p.ctx, d.Dlv, "/bin/dlv"), b.Push(p.ctx, d.Node, d.NodePath)); err != nil {
		return err
	}
	pid, err := p.pidOf(b, "dsoftbusd")
	if err != nil {
		return err
	}
	begin := time.Now()
	cfg, told := p.delveConfig()
	cfg.Attached = func(ctx context.Context) error { return b.Kill(ctx, "dsoftbusd", "SIGCONT") }
	// It stands before its peer does, however long Delve takes until it
	// attaches.
	if err := errors.Join(b.Kill(p.ctx, "dsoftbusd", "SIGSTOP"), p.Freeze(p.ctx, "dlv", "B")); err != nil {
		return err
	}
	time.Sleep(lookedFor)
	from := p.Log("B").Len()
	if err := p.startDelve(b, delve.AttachArgs(pid, delvePort)); err != nil {
		return err
	}
	session, err := delve.Attach(p.ctx, cfg, false)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "attached in %.2f s\n", time.Since(begin).Seconds())
	if err := p.read().ok(); err != nil {
		return err
	}
	c := p.connect(session)
	defer c.Close()
	const function = "dsoftbus-rig/nodes/dsoftbusd.(*server).read"
	if err := errors.Join(c.call("Command", command{"halt"}, &at{}), c.breakAt(function)); err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.continueTo(function) }()
	reading := p.read()
	if err := <-stopped; err != nil {
		return err
	}
	if err := reading.stands(); err != nil {
		return err
	}
	var goroutines struct {
		Goroutines []struct {
			ID int64 `json:"id"`
		}
	}
	asked := time.Now()
	if err := c.call("ListGoroutines", struct{ Start, Count int }{0, 100}, &goroutines); err != nil || len(goroutines.Goroutines) < 5 {
		return fmt.Errorf("%d goroutines, %v", len(goroutines.Goroutines), err)
	}
	fmt.Fprintf(p.out, "%d goroutines listed in %.2f s\n", len(goroutines.Goroutines), time.Since(asked).Seconds())
	// Hung up in front of the breakpoint: the read goes on, and Delve is gone.
	if err := c.Close(); err != nil {
		return err
	}
	if err := errors.Join(<-c.served, reading.ok(), p.read().ok(), session.Close()); err != nil {
		return err
	}
	if _, err := p.Log("B").Wait(p.ctx, from, func(l console.Line) bool { return strings.HasPrefix(l.Text, "dlv ended: ") }); err != nil {
		return err
	}
	fmt.Fprintln(p.out, strings.Join(*told, ", "))
	return nil
}

// isDebuggedFromItsStart has B's dsoftbusd started anew without optimizations, and stopped before it does anything.
func isDebuggedFromItsStart(p *pair) error {
	b, err := p.Node("B")
	if err != nil {
		return err
	}
	d := p.job.Debugger
	// A file that runs cannot be written to; a link to it can be replaced.
	if err := errors.Join(b.Push(p.ctx, d.Dlv, "/bin/dlv"), b.Push(p.ctx, d.Unoptimized, "/bin/dsoftbusd.fresh"), b.Stop(p.ctx, "dsoftbusd"),
		p.exec("B", "mv", "/bin/dsoftbusd.fresh", "/bin/dsoftbusd").ok()); err != nil {
		return err
	}
	cfg, _ := p.delveConfig()
	from := p.Log("B").Len()
	if err := b.(*node.Node).StartStopped(p.ctx, "dsoftbusd", nil); err != nil {
		return err
	}
	pid, err := p.pidOf(b, "dsoftbusd")
	if err != nil {
		return err
	}
	cfg.Attached = func(ctx context.Context) error { return b.Kill(ctx, "dsoftbusd", "SIGCONT") }
	if err := p.startDelve(b, delve.AttachArgs(pid, delvePort)); err != nil {
		return err
	}
	session, err := delve.Attach(p.ctx, cfg, true)
	if err != nil {
		return err
	}
	c := p.connect(session)
	defer c.Close()
	const function = "dsoftbus-rig/nodes/dsoftbusd.Run"
	if err := errors.Join(c.breakAt(function), c.continueTo(function)); err != nil {
		return err
	}
	var eval struct {
		Variable struct {
			Name string `json:"name"`
			Kind int    `json:"kind"`
		}
	}
	if err := c.call("Eval", map[string]any{"Scope": map[string]int64{"GoroutineID": -1}, "Expr": "cfg.Device.ID"}, &eval); err != nil {
		return fmt.Errorf("a variable of an unoptimized program: %w", err)
	}
	if err := errors.Join(c.Close(), <-c.served, session.Close()); err != nil {
		return err
	}
	for name, line := range map[string]string{"B": "dsoftbusd: ready", "A": "cross-vm session ok"} {
		if _, err := p.Log(name).Wait(p.ctx, p.from[name], func(l console.Line) bool { return strings.Contains(l.Text, line) }); err != nil {
			return err
		}
	}
	if err := p.read().ok(); err != nil {
		return err
	}
	// That the session was lost when the service was stopped is no surprise.
	p.from["A"], p.from["B"] = p.Log("A").Len(), max(from, p.Log("B").Len())
	return nil
}

// delvePort is where Delve listens in the machine.
const delvePort = 4000

// delveConfig is that of a session on B, and the states that it is told of.
func (p *pair) delveConfig() (delve.Config, *[]string) {
	begin, told := time.Now(), new([]string)
	return delve.Config{
		Dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", netip.AddrPortFrom(scenario.NodeAddress(1), delvePort).String())
		},
		OnState: func(ctx context.Context, s delve.State) error {
			*told = append(*told, fmt.Sprintf("%s %.2fs", s, time.Since(begin).Seconds()))
			switch s {
			case delve.Working:
				return p.Freeze(ctx, "dlv", "B")
			case delve.Stopped:
				return p.Freeze(ctx, "dlv")
			}
			return p.Thaw(ctx, "dlv")
		},
	}, told
}

// pidOf returns the process of a program.
func (p *pair) pidOf(n scenario.Node, program string) (int, error) {
	var out bytes.Buffer
	if _, err := n.Exec(p.ctx, []string{"pidof", program}, &out, io.Discard); err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out.String()))
}

// startDelve starts Delve on B, on the network under test: this is its own worker, and takes part in it.
func (p *pair) startDelve(b scenario.Node, args []string) error {
	from := p.Log("B").Len()
	for i, arg := range args {
		args[i] = strings.Replace(arg, "127.0.0.1", scenario.NodeAddress(1).String(), 1)
	}
	if err := b.Start(p.ctx, "/bin/dlv", append(args, "--only-same-user=false")); err != nil {
		return err
	}
	_, err := p.Log("B").Wait(p.ctx, from, func(l console.Line) bool { return strings.HasPrefix(l.Text, delve.ListeningLine) })
	return err
}

// A debugger is a client of a session.
type debugger struct {
	*rpc.Client
	served chan error
}

func (p *pair) connect(s *delve.Session) debugger {
	near, far := net.Pipe()
	d := debugger{jsonrpc.NewClient(near), make(chan error, 1)}
	go func() { d.served <- s.Serve(p.ctx, far) }()
	return d
}

// Forms of Delve's API.
type (
	command struct {
		Name string `json:"name"`
	}
	breakpoint struct {
		FunctionName string `json:"functionName"`
		Line         int    `json:"line"`
	}
	at struct {
		State struct {
			CurrentThread struct {
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			} `json:"currentThread"`
		}
	}
)

func (d debugger) call(method string, in, out any) error {
	call := d.Go("RPCServer."+method, in, out, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return call.Error
	case <-time.After(pacetest.Limit(30 * time.Second)):
		return fmt.Errorf("%s: no answer", method)
	}
}

func (d debugger) breakAt(function string) error {
	return d.call("CreateBreakpoint", struct{ Breakpoint breakpoint }{breakpoint{function, -1}}, &struct{}{})
}

// continueTo lets the program run until it stops in a function.
func (d debugger) continueTo(function string) error {
	var a at
	if err := d.call("Command", command{"continue"}, &a); err != nil {
		return err
	}
	if got := a.State.CurrentThread.Function.Name; got != function {
		return fmt.Errorf("stopped in %q, want %s", got, function)
	}
	return nil
}
