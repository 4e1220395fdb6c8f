package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
)

// What a person can ask of a node beside what a scenario does to it. Node
// implements live.Machine.
var _ live.Machine = (*Node)(nil)

const (
	// stacksWait bounds how long all nodes together may take to tell their goroutines.
	// They do it in some tens of milliseconds; what takes longer is what is stuck.
	stacksWait = 6 * time.Second
	// dumpWait bounds a core that nobody waits for in particular.
	dumpWait = 30 * time.Second
	// panicCore is the core of a node whose kernel panicked, in the node's folder.
	panicCore = "panic.core"
)

// Machine returns a node whose machine runs. It may be paused, or its agent silent: then
// QMP and Dump are still good, and the rest says why it is not.
func (w *World) Machine(name string) (live.Machine, error) {
	n := w.find(name)
	if err := w.on(name, func(n *Node) error { _, err := n.running(); return err }); err != nil {
		return nil, err
	}
	return n, nil
}

// running returns the node's life with a machine that has not ended.
func (n *Node) running() (*life, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.runningLocked()
}

// runningLocked is running for who holds n.mu.
func (n *Node) runningLocked() (*life, error) {
	switch {
	case n.life == nil:
		return nil, fmt.Errorf("node %s is not up; `up %s` brings it up", n.name, n.name)
	case n.life.machine.Err() != nil:
		return nil, n.wrap(record.NodeExited, n.life.machine.Err())
	}
	return n.life, nil
}

// told returns what an error of the node's agent means, with the node's name.
func (n *Node) told(l *life, err error) error {
	if err == nil {
		return nil
	}
	return n.agentError(l, fmt.Errorf("node %s: %w", n.name, err))
}

// Shell runs a program on a terminal of its own, to its end. See guest.Client.Shell.
func (n *Node) Shell(ctx context.Context, s agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (agentapi.Exit, error) {
	l, err := n.alive()
	if err != nil {
		return agentapi.Exit{}, err
	}
	exit, err := l.agent.Shell(ctx, s, in, out, sizes)
	return exit, n.told(l, err)
}

// Dial connects to a TCP port of the node's own loopback address. What it returns has
// CloseWrite, too: it is a guest.Conn.
func (n *Node) Dial(ctx context.Context, port uint16) (io.ReadWriteCloser, error) {
	l, err := n.alive()
	if err != nil {
		return nil, err
	}
	conn, err := l.agent.Dial(ctx, port)
	if err != nil {
		return nil, n.told(l, err)
	}
	return conn, nil
}

// Stacks returns the goroutines of a program of the rig's, which runs on undisturbed.
func (n *Node) Stacks(ctx context.Context, program string) ([]byte, error) {
	l, err := n.alive()
	if err != nil {
		return nil, err
	}
	text, err := l.agent.Stacks(ctx, program)
	return text, n.told(l, err)
}

// Services returns what became of each service, and the programs that steps are running.
func (n *Node) Services(ctx context.Context) ([]agentapi.Service, error) {
	l, err := n.alive()
	if err != nil {
		return nil, err
	}
	all, err := l.agent.Services(ctx)
	return all, n.told(l, err)
}

// Restart starts a service again, with the arguments it had last, as the node's file of
// that name or, when that is empty, as the program it was.
func (n *Node) Restart(ctx context.Context, program, file string) error {
	l, err := n.alive()
	if err != nil {
		return err
	}
	return n.told(l, l.agent.Restart(ctx, program, file, time.Duration(float64(stopWait)*n.world.cfg.Slowdown)))
}

// QMP executes a command of QEMU's machine protocol, whether the node's agent answers
// or not. What it does to the machine the rig does not know: a machine that is stopped by
// it is not paused, but silent.
func (n *Node) QMP(ctx context.Context, command string, arguments json.RawMessage) (json.RawMessage, error) {
	l, err := n.running()
	if err != nil {
		return nil, err
	}
	var in any
	if arguments != nil {
		in = arguments
	}
	var out json.RawMessage
	if err := l.machine.Run(ctx, command, in, &out); err != nil {
		return nil, n.ofQEMU(err)
	}
	return out, nil
}

// Dump writes the machine's memory to a new file of the host, an ELF core, whether the
// node's agent answers or not. See machine.Machine.Dump.
func (n *Node) Dump(ctx context.Context, file string) error {
	l, err := n.running()
	if err != nil {
		return err
	}
	return n.ofQEMU(l.machine.Dump(ctx, file))
}

// ofQEMU gives an error of the machine its class.
func (n *Node) ofQEMU(err error) error {
	if errors.Is(err, machine.ErrExited) {
		return n.wrap(record.NodeExited, err)
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	return nil
}

// Stacks saves the goroutines of every program of the rig's that runs on a node, as far
// as it answers, and those of the agents, and returns the files: dir/A/stacks-dsoftbusd.txt.
// It never takes more than some seconds. What it could not have is a warning of the record.
//
// It is for a scenario that has failed, before anything of it is ended.
func (w *World) Stacks(ctx context.Context, dir string) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, stacksWait, fmt.Errorf("no answer within %s", stacksWait))
	defer cancel()
	var (
		mu    sync.Mutex
		files []string
		all   sync.WaitGroup
	)
	for _, n := range w.all() {
		if _, err := n.alive(); err != nil || n.hasFallen() {
			continue // it is down, or cannot answer: that is known
		}
		all.Go(func() {
			saved, err := n.saveStacks(ctx, filepath.Join(dir, n.name))
			if err != nil {
				w.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: fmt.Sprintf("save goroutines: %v", err)})
			}
			mu.Lock()
			defer mu.Unlock()
			files = append(files, saved...)
		})
	}
	all.Wait()
	slices.Sort(files)
	return files
}

// saveStacks saves those of one node's programs and returns the files.
func (n *Node) saveStacks(ctx context.Context, dir string) (files []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	services, err := n.Services(ctx)
	if err != nil {
		return nil, err
	}
	programs := []string{agentapi.AgentUnit}
	for _, s := range services {
		if s.Running && !slices.Contains(programs, s.Name) {
			programs = append(programs, s.Name)
		}
	}
	// Side by side: one that is stuck must not use up the others' time.
	saved, errs := make([]string, len(programs)), make([]error, len(programs))
	var all sync.WaitGroup
	for i, program := range programs {
		all.Go(func() {
			name, err := guest.ParseName(program)
			var text []byte
			if err == nil {
				text, err = n.Stacks(ctx, program)
			}
			file := name.In(dir, "stacks-", ".txt")
			if err == nil {
				err = os.WriteFile(file, text, 0o644)
			}
			if err != nil {
				errs[i] = err
				return
			}
			saved[i] = file
		})
	}
	all.Wait()
	return slices.DeleteFunc(saved, func(file string) bool { return file == "" }), errors.Join(errs...)
}

// DumpPanicked writes a core of every node whose kernel has panicked, and still lies where
// it fell, into the node's folder of the record, and returns the files: A/panic.core. What
// could not be written is a warning of the record.
//
// It is for a scenario that has failed, before World.Close.
func (w *World) DumpPanicked(ctx context.Context) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, dumpWait, fmt.Errorf("not done within %s", dumpWait))
	defer cancel()
	var files []string
	for _, n := range w.all() {
		if !n.hasFallen() {
			continue
		}
		file := filepath.Join(filepath.Dir(n.files.Console), panicCore)
		if err := n.Dump(ctx, file); err != nil {
			w.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: err.Error()})
			continue
		}
		files = append(files, file)
	}
	return files
}

// hasFallen reports whether the node's machine still has the kernel that panicked in it.
func (n *Node) hasFallen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life != nil && n.life.fallen && n.life.machine.Err() == nil
}

// all returns the nodes in the order of their addresses.
func (w *World) all() []*Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.nodes)
}
