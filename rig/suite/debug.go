package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/delve"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/node"
)

const (
	// delvePort is where Delve listens in a machine, on its loopback address.
	delvePort = 4000
	// delveName is the service that Delve is in a machine, which has one at a time.
	delveName = "dlv"
	// delveBegin bounds, before scaling, how long Delve may take to listen.
	delveBegin = 10 * time.Second
)

// Debug implements live.Scenario.
func (a *alive) Debug(ctx context.Context, o live.DebugOptions) (live.Debugger, error) {
	m, err := a.world.Machine(o.Node)
	if err != nil {
		return nil, err
	}
	n, ok := m.(*node.Node)
	if !ok {
		return nil, fmt.Errorf("node %s cannot be debugged", o.Node)
	}
	if o.Program == "" {
		return a.debugKernel(o), nil
	}
	d := &delveSession{a: a, o: o, n: n}
	if err := d.begin(ctx); err != nil {
		return nil, fmt.Errorf("dlv %s %s: %w", o.Node, o.Program, err)
	}
	return d, nil
}

// A delveSession is a Delve in a machine. It is a live.Debugger.
type delveSession struct {
	a *alive
	o live.DebugOptions
	n *node.Node
	*delve.Session
}

// holder is who has nodes stand still.
func (d *delveSession) holder() string { return "dlv " + d.o.Node }

// onState has stand still what should while the program stands.
func (d *delveSession) onState(ctx context.Context, s delve.State) error {
	switch {
	case !d.o.Freeze:
		return nil
	case s == delve.Working:
		return d.a.world.Freeze(ctx, d.holder(), d.o.Node)
	case s == delve.Stopped:
		return d.a.world.Freeze(ctx, d.holder())
	}
	return d.a.world.Thaw(ctx, d.holder())
}

func (d *delveSession) begin(ctx context.Context) error {
	services, err := d.n.Services(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(services, func(s agentapi.Service) bool { return s.Name == d.o.Program && s.Running })
	if i < 0 && !d.o.Fresh {
		return fmt.Errorf("it does not run on node %s; `start` it, or say -fresh", d.o.Node)
	}
	files := map[string]string{d.o.Delve: "/bin/" + delveName}
	if !d.o.Fresh {
		files[d.o.Binary] = d.o.BinaryPath
	}
	for from, to := range files {
		if err := d.place(ctx, from, to); err != nil {
			return err
		}
	}
	if d.o.Fresh {
		var args []string
		if i >= 0 {
			args = services[i].Args
		}
		return d.beginFresh(ctx, i >= 0, args)
	}
	// Delve takes seconds to start and to read debug information, and more on a
	// slow host. The program stands from before the peers do until Delve lets
	// it go on: a program that ran while its peers stood would miss their
	// pings, and give them up.
	if err := d.n.Kill(ctx, d.o.Program, "SIGSTOP"); err != nil {
		return err
	}
	return d.attach(ctx, services[i].PID, false)
}

// beginFresh has the program start anew, from a binary without optimizations.
func (d *delveSession) beginFresh(ctx context.Context, runs bool, args []string) error {
	place := "/bin/" + d.o.Program
	// A file that runs cannot be written to; a link to it can be replaced.
	if err := d.n.Push(ctx, d.o.Unoptimized, place+".fresh"); err != nil {
		return err
	}
	if _, err := d.run(ctx, "mv", place+".fresh", place); err != nil {
		return err
	}
	if runs {
		if err := d.n.Stop(ctx, d.o.Program); err != nil {
			return err
		}
	}
	if err := d.n.StartStopped(ctx, d.o.Program, args); err != nil {
		return err
	}
	services, err := d.n.Services(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(services, func(s agentapi.Service) bool { return s.Name == d.o.Program && s.Running })
	if i < 0 {
		return errors.New("it has ended as soon as it was started")
	}
	return d.attach(ctx, services[i].PID, true)
}

// start starts Delve and returns when it can be connected to.
func (d *delveSession) start(ctx context.Context, args []string) error {
	log := d.a.world.Log(d.o.Node)
	from := log.Len()
	if err := d.n.StartTool(ctx, "/bin/"+delveName, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(float64(delveBegin)*max(1, d.a.job.Slowdown)))
	defer cancel()
	line, err := log.Wait(ctx, from, func(l console.Line) bool {
		return l.Unit == delveName && strings.HasPrefix(l.Text, delve.ListeningLine) ||
			l.Unit == agentapi.AgentUnit && strings.HasPrefix(l.Text, delveName+" ended: ")
	})
	if err != nil {
		return fmt.Errorf("wait for Delve to listen: %w", err)
	}
	if line.Unit == agentapi.AgentUnit {
		said := ""
		for _, l := range log.Lines(from, line.Seq) {
			if l.Unit == delveName {
				said = ": " + l.Text
			}
		}
		return fmt.Errorf("%s%s", line.Text, said)
	}
	return nil
}

// attach has Delve attach to the program, which SIGSTOP has stopped, and begins
// the session, which lasts as long as the scenario or until it is closed. The
// program then goes on, unless stopped. After an error it goes on as well,
// without a debugger.
func (d *delveSession) attach(ctx context.Context, pid int, stopped bool) (err error) {
	after := context.WithoutCancel(d.a.ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.a.world.Thaw(after, d.holder()), d.n.Kill(after, d.o.Program, "SIGCONT"))
		}
	}()
	if err := d.onState(ctx, delve.Working); err != nil {
		return err
	}
	if err := d.start(ctx, delve.AttachArgs(pid, delvePort)); err != nil {
		return err
	}
	d.Session, err = delve.Attach(d.a.ctx, delve.Config{
		Dial:    func(ctx context.Context) (io.ReadWriteCloser, error) { return d.n.Dial(ctx, delvePort) },
		OnState: d.onState,
		// Delve holds it from now on; SIGSTOP would stop it again once Delve
		// has gone.
		Attached: func(ctx context.Context) error { return d.n.Kill(ctx, d.o.Program, "SIGCONT") },
	}, stopped)
	return err
}

// place copies a file to the machine, unless there is one of that name.
func (d *delveSession) place(ctx context.Context, from, to string) error {
	// u-root's ls is content with a file that is not there.
	status, err := d.n.Exec(ctx, []string{"chmod", "0755", to}, io.Discard, io.Discard)
	if err != nil || status == 0 {
		return err
	}
	return d.n.Push(ctx, from, to)
}

func (d *delveSession) run(ctx context.Context, argv ...string) (string, error) {
	var out bytes.Buffer
	status, err := d.n.Exec(ctx, argv, &out, &out)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", strings.Join(argv, " "), status, bytes.TrimSpace(out.Bytes()))
	}
	return out.String(), err
}

// Over implements live.Debugger.
func (d *delveSession) Over() <-chan struct{} { return d.Released() }

// Close implements live.Debugger.
func (d *delveSession) Close() error {
	return errors.Join(d.Session.Close(), d.a.world.Thaw(context.WithoutCancel(d.a.ctx), d.holder()))
}

// A kernelSession is gdb on a machine. It is a live.Debugger.
type kernelSession struct {
	a    *alive
	o    live.DebugOptions
	over chan struct{}
	once sync.Once
}

func (a *alive) debugKernel(o live.DebugOptions) *kernelSession {
	return &kernelSession{a: a, o: o, over: make(chan struct{})}
}

// stopped is the world's OnStop: gdb has stopped a machine, or let it go on.
func (a *alive) stopped(name string, stopped bool) {
	a.mu.Lock()
	freeze := a.gdbFreezes[name]
	a.mu.Unlock()
	var err error
	switch {
	case stopped && freeze:
		err = a.world.Freeze(a.ctx, gdbHolder(name), name)
	case !stopped:
		err = a.world.Thaw(a.ctx, gdbHolder(name))
	}
	if err != nil {
		a.warn(fmt.Sprintf("gdb %s: %v", name, err))
	}
}

func gdbHolder(name string) string { return "gdb " + name }

// Serve implements live.Debugger. While gdb is connected, the machine's stops are its own.
func (k *kernelSession) Serve(ctx context.Context, conn io.ReadWriteCloser) error {
	k.a.mu.Lock()
	if k.a.gdbFreezes == nil {
		k.a.gdbFreezes = map[string]bool{}
	}
	k.a.gdbFreezes[k.o.Node] = k.o.Freeze
	k.a.mu.Unlock()
	stub, err := k.a.world.GDB(ctx, k.o.Node)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	err = live.Splice(ctx, conn, stub)
	after := context.WithoutCancel(ctx)
	return errors.Join(err, k.a.world.EndGDB(after, k.o.Node), k.a.world.Thaw(after, gdbHolder(k.o.Node)))
}

// Over implements live.Debugger.
func (k *kernelSession) Over() <-chan struct{} { return k.over }

// Close implements live.Debugger. Those who are connected are their own connections' to end.
func (k *kernelSession) Close() error {
	k.once.Do(func() { close(k.over) })
	return nil
}
