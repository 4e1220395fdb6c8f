package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"dsoftbus-rig/rig/record"

	"github.com/hashicorp/go-multierror"
)

// A freezer knows who has the nodes stand still. A frozen node is not a paused one: the scenario has not asked for it, and whoever calls the node
// waits.
type freezer struct {
	turn sync.Mutex // held while machines are stopped or let go on, so that each is once at a time

	mu      sync.Mutex
	holders map[string][]string // what each holder does not hold
	changed chan struct{}       // closed at the next change

	onFreeze func(bool)
	onStop   func(string, bool)
}

// OnFreeze has f called with true before the first node is frozen, and with false once the last hold has ended: time that passes in between is nobody's. It
// is set before the first node is up.
func (w *World) OnFreeze(f func(frozen bool)) { w.freezer.onFreeze = f }

// OnStop has f called when a machine has been stopped by something else than this process, which is a debugger at QEMU's gdbstub, and when it goes on after
// that. It may freeze and thaw, and has to return before the machine's next event is looked at. It is set before the first node is up.
func (w *World) OnStop(f func(node string, stopped bool)) { w.freezer.onStop = f }

// Freeze stops all nodes but those named, also ones that come up later, until the holder thaws them: for a frozen node no time passes, calls to it wait, and its
// silence is excused. A holder that freezes again holds the nodes of the last time. Nodes that the scenario has paused, that are down or whose machines have ended
// are left as they are. After an error the hold is in force as far as it could be.
func (w *World) Freeze(ctx context.Context, holder string, except ...string) error {
	f := &w.freezer
	f.turn.Lock()
	defer f.turn.Unlock()
	first := f.hold(holder, except)
	if first && f.onFreeze != nil {
		f.onFreeze(true)
	}
	return w.settle(ctx)
}

// Thaw ends a holder's hold. A node that somebody else holds, or the scenario has paused, stays as it is. Without a hold it does nothing.
func (w *World) Thaw(ctx context.Context, holder string) error {
	f := &w.freezer
	f.turn.Lock()
	defer f.turn.Unlock()
	last := f.drop(holder)
	err := w.settle(ctx)
	if last && f.onFreeze != nil {
		f.onFreeze(false)
	}
	return err
}

// Frozen reports whether a node is held by somebody.
func (w *World) Frozen(name string) bool {
	w.freezer.mu.Lock()
	defer w.freezer.mu.Unlock()
	return w.freezer.holds(name)
}

// hold notes a hold and reports whether it is the only one.
func (f *freezer) hold(holder string, except []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := len(f.holders) == 0
	if f.holders == nil {
		f.holders = map[string][]string{}
	}
	f.holders[holder] = slices.Clone(except)
	f.tell()
	return first
}

// drop forgets a hold and reports whether it was the only one.
func (f *freezer) drop(holder string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.holders[holder]; !ok {
		return false
	}
	delete(f.holders, holder)
	f.tell()
	return len(f.holders) == 0
}

// tell wakes those who wait for a change; f.mu is held.
func (f *freezer) tell() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// holds reports whether somebody holds a node; f.mu is held.
func (f *freezer) holds(name string) bool {
	for _, except := range f.holders {
		if !slices.Contains(except, name) {
			return true
		}
	}
	return false
}

// turnOf waits until nobody holds a node, and takes the turn, which the caller gives back.
func (f *freezer) turnOf(ctx context.Context, name string) error {
	for {
		f.turn.Lock()
		f.mu.Lock()
		if !f.holds(name) {
			f.mu.Unlock()
			return nil
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		f.turn.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("node %s is frozen by a debugger: %w", name, context.Cause(ctx))
		}
	}
}

// settle has every machine stand or run as it should now; the turn is taken.
func (w *World) settle(ctx context.Context) error {
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = n.settleFrozen(ctx) })
	}
	all.Wait()
	var joined *multierror.Error
	for _, err := range errs {
		if err != nil {
			joined = multierror.Append(joined, err)
		}
	}
	return joined.ErrorOrNil()
}

// settleFrozen stops the node's machine or lets it go on, as holds want it; the turn is taken.
func (n *Node) settleFrozen(ctx context.Context) error {
	frozen := n.world.Frozen(n.name)
	n.mu.Lock()
	l := n.life
	if l == nil || !l.begun || l.frozen == frozen || l.machine.Err() != nil {
		n.mu.Unlock()
		return nil
	}
	// Before it is so: nobody must miss the silence that follows.
	l.frozen, l.stood = true, true
	stands := l.paused || l.halted
	n.mu.Unlock()
	var err error
	switch {
	case stands:
		// It stands for another reason, and goes on standing.
	case frozen:
		err = n.stop(ctx, l)
	default:
		err = n.switched(ctx, l, l.machine.Resume, "running")
	}
	if l.machine.Err() != nil {
		return nil // which is told by itself
	}
	if err != nil {
		what := "thaw"
		if frozen {
			what = "freeze"
		}
		return fmt.Errorf("%s node %s: %w", what, n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l.frozen = frozen
	return nil
}

// stop stops the machine's processor, and notes that it was us.
func (n *Node) stop(ctx context.Context, l *life) error {
	status, err := l.machine.Status(ctx)
	if err != nil {
		return err
	}
	ours := 0
	if status == "running" {
		ours = 1
	}
	n.mu.Lock()
	l.stops += ours
	n.mu.Unlock()
	if err := n.switched(ctx, l, l.machine.Pause, "paused"); err != nil {
		n.mu.Lock()
		l.stops -= ours
		n.mu.Unlock()
		return err
	}
	return nil
}

// excused reports whether the machine has stood still at any time since the last call: what it owes is not late yet.
func (n *Node) excused(l *life) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	stands := l.paused || l.frozen || l.halted
	stood := l.stood
	l.stood = stands
	return stands || stood
}

// switchedBy looks at a machine's STOP and RESUME: those that nobody here asked for are a debugger's.
func (n *Node) switchedBy(l *life, event string) {
	n.mu.Lock()
	told := false
	switch {
	case event == "STOP" && l.stops > 0:
		l.stops--
	case event == "STOP":
		told = !l.halted
		l.halted, l.stood = true, true
	case event == "RESUME":
		told = l.halted
		l.halted = false
	}
	n.mu.Unlock()
	if told && n.world.freezer.onStop != nil {
		n.world.freezer.onStop(n.name, event == "STOP")
	}
}

// GDB starts the gdbstub of a node's machine and connects to it: the protocol of gdb's `target remote`. That stops the machine, which is told by OnStop. There is
// one such connection at a time. It is the caller's, who closes it and then calls EndGDB.
func (w *World) GDB(ctx context.Context, name string) (conn net.Conn, err error) {
	err = w.on(name, func(n *Node) error {
		l, err := n.alive()
		if err != nil {
			return err
		}
		if l.recorded != nil {
			return fmt.Errorf("node %s is being recorded, and what gdb does to it would be in no log; look at it with gdb afterwards: rig replay RUN %[1]s -gdb", name)
		}
		n.mu.Lock()
		busy := l.debugged
		l.debugged = true
		n.mu.Unlock()
		if busy {
			return fmt.Errorf("node %s is being debugged by another gdb already", name)
		}
		if conn, err = l.machine.GDB(ctx); err != nil {
			n.mu.Lock()
			l.debugged = false
			n.mu.Unlock()
			return n.wrap(record.NodeExited, err)
		}
		return nil
	})
	return conn, err
}

// EndGDB ends the gdbstub of a node's machine. A machine that gdb has left standing goes on, unless it is frozen or paused; that is told by OnStop.
func (w *World) EndGDB(ctx context.Context, name string) error {
	return w.on(name, func(n *Node) error {
		w.freezer.turn.Lock()
		defer w.freezer.turn.Unlock()
		n.mu.Lock()
		l := n.life
		if l == nil || !l.debugged || l.machine.Err() != nil {
			n.mu.Unlock()
			return nil
		}
		l.debugged = false
		n.mu.Unlock()
		err := l.machine.EndGDB(ctx)
		n.mu.Lock()
		stands := l.paused || l.frozen
		n.mu.Unlock()
		if stands {
			n.switchedBy(l, "RESUME") // as far as gdb is concerned
		} else {
			err = errors.Join(err, n.switched(ctx, l, l.machine.Resume, "running"))
		}
		if err != nil && l.machine.Err() == nil {
			return fmt.Errorf("end gdb on node %s: %w", name, err)
		}
		return nil
	})
}
