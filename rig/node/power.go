package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/record"
)

// pause stops the node's processor: it does nothing, and for it no time passes.
func (n *Node) pause(ctx context.Context) error {
	if err := n.world.freezer.turnOf(ctx, n.name); err != nil {
		return err
	}
	defer n.world.freezer.turn.Unlock()
	l, err := n.alive()
	if err != nil {
		return err
	}
	n.fault("pause", record.FaultAsked)
	// Before it is so: nobody must miss the silence that follows.
	n.setPaused(l, true)
	if err := n.stop(ctx, l); err != nil {
		n.setPaused(l, false)
		return err
	}
	n.fault("pause", record.FaultInjected)
	n.fault("pause", record.FaultObserved)
	return nil
}

// resume lets a paused node go on.
func (n *Node) resume(ctx context.Context) error {
	if err := n.world.freezer.turnOf(ctx, n.name); err != nil {
		return err
	}
	defer n.world.freezer.turn.Unlock()
	if !n.isPaused() {
		return fmt.Errorf("node %s is not paused", n.name)
	}
	n.mu.Lock()
	l := n.life
	n.mu.Unlock()
	if err := n.switched(ctx, l, l.machine.Resume, "running"); err != nil {
		return err
	}
	n.setPaused(l, false)
	n.fault("pause", record.FaultHealed)
	return nil
}

// switched asks QEMU for something and has QEMU itself say that it is so.
func (n *Node) switched(ctx context.Context, l *life, ask func(context.Context) error, want string) error {
	err := ask(ctx)
	got := want
	if err == nil {
		got, err = l.machine.Status(ctx)
	}
	if err == nil && got != want {
		err = fmt.Errorf("QEMU says that the machine is %s, not %s", got, want)
	}
	if l.machine.Err() != nil {
		return n.wrap(record.NodeExited, l.machine.Err())
	}
	return err
}

// goOn lets the machine run, once nobody has it frozen.
func (n *Node) goOn(ctx context.Context, l *life) error {
	if err := n.world.freezer.turnOf(ctx, n.name); err != nil {
		return err
	}
	defer n.world.freezer.turn.Unlock()
	return n.switched(ctx, l, l.machine.Resume, "running")
}

func (n *Node) isPaused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life != nil && n.life.paused
}

func (n *Node) setPaused(l *life, paused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l.paused = paused
	l.stood = true
}

// crash cuts the node's power: nothing is flushed, and nobody is told.
func (n *Node) crash(ctx context.Context) error {
	n.mu.Lock()
	up := n.life != nil && n.life.machine.Err() == nil
	paused := up && n.life.paused
	n.mu.Unlock()
	if !up {
		return n.ready()
	}
	n.countBefore(ctx)
	n.saveCoverage(ctx)
	n.fault("crash", record.FaultAsked)
	n.down() // returns when the process is gone
	n.mu.Lock()
	n.crashed = true
	n.mu.Unlock()
	n.fault("crash", record.FaultInjected)
	n.endWithMachine(paused)
	n.fault("crash", record.FaultObserved)
	return nil
}

// reset presses the node's reset button. It returns when the machine, which boots
// from its kernel whether it was a clone or not, is the same node again: configured,
// with its fixtures, and with the standard services if it had them.
func (n *Node) reset(ctx context.Context) error {
	n.countBefore(ctx)
	n.saveCoverage(ctx)
	happened := make(chan struct{})
	n.mu.Lock()
	l := n.life
	if l == nil || l.machine.Err() != nil || l.agent == nil {
		n.mu.Unlock()
		_, err := n.alive()
		return err
	}
	if l.reset != nil {
		n.mu.Unlock()
		return fmt.Errorf("node %s is being reset already", n.name)
	}
	old, paused := l.agent, l.paused
	l.agent, l.paused, l.fallen, l.reset = nil, false, false, happened
	n.mu.Unlock()
	n.fault("reset", record.FaultAsked)
	// The agent's end of the connection goes without a word.
	_ = old.Close()
	if err := l.machine.Reset(ctx); err != nil {
		return n.wrap(record.NodeExited, err)
	}
	// What is still to come of the old kernel must not be taken for the new one's.
	select {
	case <-happened:
	case <-l.machine.Done():
		return n.wrap(record.NodeExited, l.machine.Err())
	case <-ctx.Done():
		return fmt.Errorf("wait for the reset of node %s: %w", n.name, context.Cause(ctx))
	}
	if l.recorded != nil {
		l.recorded.about.Resets++ // by one who resets at a time, and read when the machine has ended
	}
	n.fault("reset", record.FaultInjected)
	n.endWithMachine(paused)
	from := n.log.Len()
	// A machine that was paused is reset, and still paused.
	err := n.goOn(ctx, l)
	if err != nil {
		return err
	}
	var conn net.Conn
	if l.recorded != nil {
		conn, err = n.dial(ctx, l, from)
	} else {
		conn, err = l.machine.Reconnect(ctx, "control")
	}
	if err != nil {
		return n.wrap(record.NodeExited, err)
	}
	agent, _, err := guest.Reach(ctx, l.machine, conn)
	if err != nil {
		return n.unreached(err)
	}
	if err := l.machine.RebootEnds(ctx); err != nil {
		return n.wrap(record.NodeExited, errors.Join(err, agent.Close()))
	}
	if err := n.reached(l, agent); err != nil {
		return err
	}
	if err := n.configure(ctx, n.world.pairings(n)); err != nil {
		return err
	}
	if l.serving {
		if err := n.startServices(ctx); err != nil {
			return err
		}
	}
	// With that it is over, too: until here the node is not what it was.
	n.fault("reset", record.FaultObserved)
	return nil
}

// endWithMachine ends what is no more when a machine was switched off or began anew:
// a pause, and what its own kernel did to its frames.
func (n *Node) endWithMachine(paused bool) {
	if paused {
		n.fault("pause", record.FaultHealed)
	}
	w := n.world
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	w.faults.open = slices.DeleteFunc(w.faults.open, func(f *fault) bool {
		if !f.inside || f.node != n.name {
			return false
		}
		w.judge(f, f.counted)
		w.tell(f, record.FaultHealed, f.counted)
		return true
	})
}

// endCrash ends the fault of a node that lay without power, and runs again.
func (n *Node) endCrash() {
	n.mu.Lock()
	crashed := n.crashed
	n.crashed = false
	n.mu.Unlock()
	if crashed {
		n.fault("crash", record.FaultHealed)
	}
}

// fault records what became of a fault of this node's machine.
func (n *Node) fault(verb, state string) {
	n.world.emit(record.Event{Kind: record.KindFault, Name: verb, Node: n.name, State: state, Count: 1})
}
