package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"

	"github.com/hashicorp/go-multierror"
)

// A fault is one of the network, in force.
type fault struct {
	verb, node, text string
	maybe            bool
	inside           bool   // the node's own kernel does it, and it ends with the machine
	counted          uint64 // of such a one: how much it had touched when it was last asked

	// count says how much it has touched so far; end ends it and says how much that was
	// in all.
	count, end func(context.Context) (uint64, error)
}

// A ledger has the faults of a scenario. Its lock is held while one is made or ended, so
// that a fault is known before anything can end it.
type ledger struct {
	mu    sync.Mutex
	open  []*fault
	idle  []string // those that ended and have touched nothing
	netem error    // why this host's kernel cannot impair; nil: it can, or nobody has tried
}

// tell records what became of a fault.
func (w *World) tell(f *fault, state string, count uint64) {
	w.emit(record.Event{Kind: record.KindFault, Name: f.verb, Node: f.node, Text: f.text, State: state, Count: count})
}

// inject makes a fault, after ending those it takes the place of; the ledger is locked.
func (w *World) inject(ctx context.Context, f *fault, replaces func(*fault) bool, make func() error) error {
	w.tell(f, record.FaultAsked, 0)
	if err := w.endFaults(ctx, replaces); err != nil {
		return err
	}
	if err := make(); err != nil {
		return err
	}
	w.faults.open = append(w.faults.open, f)
	w.tell(f, record.FaultInjected, 0)
	return nil
}

// endFaults ends the faults that which says, and judges each by what it has touched; the
// ledger is locked. One that cannot be ended stays.
func (w *World) endFaults(ctx context.Context, which func(*fault) bool) error {
	var errs *multierror.Error
	w.faults.open = slices.DeleteFunc(w.faults.open, func(f *fault) bool {
		if !which(f) {
			return false
		}
		n, err := f.end(ctx)
		if err != nil {
			errs = multierror.Append(errs, fmt.Errorf("end %s: %w", f, err))
			return false
		}
		w.judge(f, n)
		w.tell(f, record.FaultHealed, n)
		return true
	})
	return errs.ErrorOrNil()
}

// judge notes whether a fault has touched anything.
func (w *World) judge(f *fault, n uint64) {
	switch {
	case n > 0:
		w.tell(f, record.FaultObserved, n)
	case !f.maybe:
		w.faults.idle = append(w.faults.idle, fmt.Sprintf("%s has touched nothing", f))
	}
}

func (f *fault) String() string {
	s := f.verb
	if f.node != "" {
		s += " " + f.node
	}
	if f.text != "" {
		s += " " + f.text
	}
	return s
}

func everyFault(*fault) bool { return true }

// Unproven counts for the last time what the faults in force have touched. They end with
// the network.
func (w *World) Unproven(ctx context.Context) ([]string, error) {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	var errs *multierror.Error
	for _, f := range w.faults.open {
		n, err := f.count(ctx)
		if err != nil {
			errs = multierror.Append(errs, fmt.Errorf("%s: %w", f, err))
			continue
		}
		w.judge(f, n)
	}
	w.faults.open = nil
	return w.faults.idle, errs.ErrorOrNil()
}

// Heal ends all faults of the network.
func (w *World) Heal(ctx context.Context) error {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	return w.endFaults(ctx, everyFault)
}

// Partition keeps every frame from crossing.
func (w *World) Partition(ctx context.Context, maybe bool) error {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	f := &fault{verb: "partition", maybe: maybe}
	f.count = func(context.Context) (uint64, error) {
		faults, err := w.cfg.LAN.Faults()
		if err != nil || faults.Partition == nil {
			return 0, err
		}
		return faults.Partition.Frames, nil
	}
	f.end = func(context.Context) (uint64, error) {
		drops, err := w.cfg.LAN.EndPartition()
		return drops.Frames, err
	}
	return w.inject(ctx, f, f.same, w.cfg.LAN.Partition)
}

// Block filters frames from one node to another.
func (w *World) Block(ctx context.Context, b scenario.Block) error {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	block, err := w.block(b)
	if err != nil {
		return err
	}
	f := &fault{verb: "block", text: b.String(), maybe: b.Maybe}
	f.count = func(context.Context) (uint64, error) {
		faults, err := w.cfg.LAN.Faults()
		for _, other := range faults.Blocks {
			if o := other.Block; o.From == block.From && o.To == block.To && o.Proto == block.Proto && o.Port == block.Port {
				return other.Drops.Frames, err
			}
		}
		return 0, err
	}
	f.end = func(context.Context) (uint64, error) {
		drops, err := w.cfg.LAN.Unblock(block)
		return drops.Frames, err
	}
	return w.inject(ctx, f, f.same, func() error {
		_, err := w.cfg.LAN.Block(block)
		return err
	})
}

// same reports whether a fault is the same one, made earlier.
func (f *fault) same(other *fault) bool {
	return f.verb == other.verb && f.node == other.node && f.text == other.text
}

// Unblock ends a block, or, with nil, all.
func (w *World) Unblock(ctx context.Context, which *scenario.Block) error {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	found := false
	err := w.endFaults(ctx, func(f *fault) bool {
		is := f.verb == "block" && (which == nil || f.text == which.String())
		found = found || is
		return is
	})
	if err == nil && !found && which != nil {
		err = fmt.Errorf("there is no block %s", which)
	}
	return err
}

// block names a block by ports.
func (w *World) block(b scenario.Block) (lan.Block, error) {
	from, to := w.find(b.From), w.find(b.To)
	if from == nil || to == nil {
		return lan.Block{}, fmt.Errorf("block %s: there is no such node", b)
	}
	return lan.Block{From: from.port.Name(), To: to.port.Name(), Proto: b.Proto, Port: b.Port, First: b.First}, nil
}

// Link does something to a node's cable.
func (w *World) Link(ctx context.Context, name string, l scenario.Link) error {
	return w.on(name, func(n *Node) error {
		w.faults.mu.Lock()
		defer w.faults.mu.Unlock()
		mine := func(texts ...string) func(*fault) bool {
			return func(f *fault) bool {
				return f.verb == "link" && f.node == name && (len(texts) == 0 || slices.Contains(texts, f.text))
			}
		}
		switch {
		case l.Clear:
			return w.endFaults(ctx, mine())
		case l.Up:
			return w.endFaults(ctx, mine("down"))
		case l.Down:
			return n.pull(ctx, l.Maybe)
		}
		return n.impair(ctx, l)
	})
}

// pull pulls the node's cable; the ledger is locked.
func (n *Node) pull(ctx context.Context, maybe bool) error {
	f := &fault{verb: "link", node: n.name, text: "down", maybe: maybe}
	sum := func(d lan.CableDrops, err error) (uint64, error) { return d.Sent.Frames + d.Received.Frames, err }
	f.count = func(context.Context) (uint64, error) { return sum(n.port.SetCable(false)) }
	f.end = func(context.Context) (uint64, error) { return sum(n.port.SetCable(true)) }
	return n.world.inject(ctx, f, f.same, func() error {
		_, err := n.port.SetCable(false)
		return err
	})
}

// impair does something to all that the node sends: by the host's kernel, or, where that
// has no means, by the node's own. The ledger is locked.
func (n *Node) impair(ctx context.Context, l scenario.Link) error {
	w := n.world
	i := l.Impairment
	f := &fault{verb: "link", node: n.name, text: i.String(), maybe: l.Maybe}
	onlyLoss := i == scenario.Impairment{Loss: i.Loss}
	hosts := func(c lan.ImpairmentCounts, err error) (uint64, error) {
		if onlyLoss {
			return c.Dropped, err
		}
		return max(c.Seen, c.Dropped), err
	}
	f.count = func(context.Context) (uint64, error) {
		faults, err := w.cfg.LAN.Faults()
		for _, other := range faults.Impairments {
			if other.Port == n.port.Name() {
				return hosts(other.Counts, err)
			}
		}
		return 0, err
	}
	f.end = func(context.Context) (uint64, error) { return hosts(n.port.ClearImpairment()) }
	replaces := func(old *fault) bool { return old.verb == "link" && old.node == n.name && old.text != "down" }
	return w.inject(ctx, f, replaces, func() error {
		if w.faults.netem == nil {
			_, err := n.port.Impair(lan.Impairment{
				Delay: i.Delay, Jitter: i.Jitter, Loss: i.Loss, Duplicate: i.Duplicate, Reorder: i.Reorder, Corrupt: i.Corrupt, Rate: (i.Rate + 7) / 8,
			})
			if err == nil {
				f.text += " (by the host)"
			}
			if !errors.Is(err, lan.ErrNoNetem) {
				return err
			}
			w.faults.netem = err
		}
		err := n.impairInside(ctx, f, i, onlyLoss)
		if err != nil {
			return fmt.Errorf("%w (the host cannot do it either: %w)", err, w.faults.netem)
		}
		return nil
	})
}

// impairInside has the node's own kernel do it.
func (n *Node) impairInside(ctx context.Context, f *fault, i scenario.Impairment, onlyLoss bool) error {
	l, err := n.alive()
	if err != nil {
		return err
	}
	// The machine, and its fault with it, may end before the fault is counted.
	count := func(method string, args any) func(context.Context) (uint64, error) {
		return func(ctx context.Context) (uint64, error) {
			n.mu.Lock()
			same := n.life == l && l.machine.Err() == nil && l.agent != nil && !l.paused
			agent := l.agent
			n.mu.Unlock()
			if !same {
				return f.counted, nil
			}
			var s agentapi.ImpairmentStatistics
			if err := agent.Call(ctx, method, args, &s); err != nil {
				return f.counted, n.agentError(l, err)
			}
			if s.Set || method == agentapi.MethodImpair {
				f.counted = s.Dropped
				if !onlyLoss {
					f.counted += s.Packets + s.Queued
				}
			}
			return f.counted, nil
		}
	}
	f.count = count(agentapi.MethodImpairment, nil)
	f.end = count(agentapi.MethodImpair, agentapi.Impairment{})
	err = l.agent.Call(ctx, agentapi.MethodImpair, agentapi.Impairment{
		Delay: i.Delay, Jitter: i.Jitter, Loss: i.Loss, Duplicate: i.Duplicate, Reorder: i.Reorder, Corrupt: i.Corrupt, Rate: i.Rate,
	}, nil)
	if err != nil {
		return n.agentError(l, err)
	}
	f.text += " (by the node itself)"
	f.inside = true
	return nil
}

// countBefore counts what the node's own kernel has touched, before its machine ends or
// begins anew: nobody can ask it afterwards.
func (n *Node) countBefore(ctx context.Context) {
	n.world.faults.mu.Lock()
	defer n.world.faults.mu.Unlock()
	for _, f := range n.world.faults.open {
		if f.verb == "link" && f.node == n.name {
			_, _ = f.count(ctx) // it remembers; what cannot be had is not waited for
		}
	}
}

// Clock steps a node's wall clock.
func (w *World) Clock(ctx context.Context, name string, by time.Duration) error {
	return w.on(name, func(n *Node) error {
		l, err := n.alive()
		if err != nil {
			return err
		}
		f := &fault{verb: "clock", node: name, text: by.String()}
		w.tell(f, record.FaultAsked, 0)
		var s agentapi.Stepped
		if err := l.agent.Call(ctx, agentapi.MethodClock, agentapi.Step{By: by}, &s); err != nil {
			return n.agentError(l, err)
		}
		w.tell(f, record.FaultInjected, 0)
		const slack = time.Minute // what the two looks at the clock may be apart, at the most
		if moved := s.After.Sub(s.Before); moved < by || moved > by+slack {
			return fmt.Errorf("the clock of node %s went from %s to %s, which is no step of %s", name, s.Before, s.After, by)
		}
		w.tell(f, record.FaultObserved, 1)
		return nil
	})
}
