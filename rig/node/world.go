// Package node joins a machine, its console and journal, its agent and its cable
// under one name, and all nodes of a scenario into the world it acts on.
//
// It owns the nodes' lives: fresh machine, identity, fixtures, services, and
// their end. It knows no scenario language, and of the protocol between the nodes
// only the markers that say a service is ready.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/session"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/scenario"

	"github.com/hashicorp/go-multierror"
)

// Config is what a World needs.
type Config struct {
	Hardware machine.Hardware
	LAN      *lan.LAN
	Script   *scenario.Script // for the fixtures
	Work     string           // where the scenario's fixtures lie
	Record   *record.Scenario
	Slowdown float64 // of this host's machines; silence is judged by it

	// KeyLog has dsoftbusd of every node write down the keys of its sessions, for Keys.
	KeyLog    bool
	BeforeRun func() // called before a machine first runs; nil: nothing

	// Recording has every machine recorded into its node's folder: what all of these have in common. Nil: none is. Machines then boot, under software emulation,
	// and LAN has bare ports.
	Recording *recording.Machine
}

// A World holds the nodes of one scenario. It implements scenario.World.
type World struct {
	cfg Config

	faults  ledger
	freezer freezer

	mu     sync.Mutex
	nodes  []*Node
	upTime time.Duration
	failed func(*scenario.NodeError)
	begins func() (done func()) // nil: nobody wants to know
}

// NewWorld returns a world with the nodes A and B, none of them up.
func NewWorld(cfg Config) (*World, error) {
	if cfg.BeforeRun == nil {
		cfg.BeforeRun = func() {}
	}
	w := &World{cfg: cfg, failed: func(*scenario.NodeError) {}}
	for _, name := range []string{"A", "B"} {
		if err := w.Declare(name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// OnFailure has f called when something befalls a node that ends a scenario. It
// is set before the first node is up.
func (w *World) OnFailure(f func(*scenario.NodeError)) { w.failed = f }

// OnReport has f called when a node begins to report something that may end a
// scenario, and done when it was told of, or has turned out to be nothing new. It is
// set before the first node is up.
func (w *World) OnReport(f func() (done func())) { w.begins = f }

// portPrefix and a node's name are the name of its port.
const portPrefix = "tap"

// PortNode returns the name of the node that has the port of that name, "" for a link that is no node's.
func PortNode(port string) string {
	name, ok := strings.CutPrefix(port, portPrefix)
	if !ok {
		return ""
	}
	return name
}

// Declare adds a node. Its key pair is new with each world.
func (w *World) Declare(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.name == name }) {
		return fmt.Errorf("declare node %s: there is one", name)
	}
	key, err := session.GenerateKeyPair(nil)
	if err != nil {
		return fmt.Errorf("declare node %s: %w", name, err)
	}
	files, err := w.cfg.Record.Node(name)
	if err != nil {
		return err
	}
	port, err := w.cfg.LAN.AddPort(portPrefix + name)
	if err != nil {
		return fmt.Errorf("declare node %s: %w", name, err)
	}
	index := len(w.nodes)
	var wire *lan.Port
	if w.cfg.Recording != nil {
		control := controlMachine(index)
		if wire, err = w.cfg.LAN.AddWire("ctl"+name, controlHost(index), control.Address.Addr(), control.MAC); err != nil {
			return fmt.Errorf("declare node %s: %w", name, err)
		}
	}
	w.nodes = append(w.nodes, &Node{
		world: w,
		name:  name,
		index: index,
		addr:  scenario.NodeAddress(index),
		// QEMU's own prefix; the last byte is that of the address.
		mac:   net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(10 + index)},
		key:   key,
		port:  port,
		wire:  wire,
		files: files,
		log:   console.NewLog(),
	})
	return nil
}

// Names returns the nodes' names in the order of their addresses.
func (w *World) Names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for _, n := range w.nodes {
		names = append(names, n.name)
	}
	return names
}

// find returns a node by name, nil when it is not declared.
func (w *World) find(name string) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Log returns the log of a node, nil when it is not declared.
func (w *World) Log(name string) *console.Log {
	if n := w.find(name); n != nil {
		return n.log
	}
	return nil
}

// Node returns a node that is up.
func (w *World) Node(name string) (scenario.Node, error) {
	n := w.find(name)
	if err := w.on(name, (*Node).ready); err != nil {
		return nil, err
	}
	return n, nil
}

// on does something to a node that is declared.
func (w *World) on(name string, do func(*Node) error) error {
	n := w.find(name)
	if n == nil {
		return fmt.Errorf("there is no node %s; declare it with `node %s` before `up`", name, name)
	}
	return do(n)
}

// Pause stops a node's processor.
func (w *World) Pause(ctx context.Context, name string) error {
	return w.on(name, func(n *Node) error { return n.pause(ctx) })
}

// Resume lets a paused node go on.
func (w *World) Resume(ctx context.Context, name string) error {
	return w.on(name, func(n *Node) error { return n.resume(ctx) })
}

// Reset presses a node's reset button.
func (w *World) Reset(ctx context.Context, name string) error {
	return w.on(name, func(n *Node) error { return n.reset(ctx) })
}

// Crash cuts a node's power.
func (w *World) Crash(ctx context.Context, name string) error {
	return w.on(name, func(n *Node) error { return n.crash(ctx) })
}

// Up makes nodes ready, side by side. A node that is up already is refused.
func (w *World) Up(ctx context.Context, o scenario.UpOptions) error {
	names := o.Nodes
	if names == nil {
		names = w.Names()
	}
	var nodes []*Node
	for _, name := range names {
		n := w.find(name)
		if n == nil {
			return fmt.Errorf("up: there is no node %s", name)
		}
		if n.ready() == nil || n.isPaused() {
			return fmt.Errorf("up: node %s is up already", name)
		}
		nodes = append(nodes, n)
	}
	stages := []struct {
		phase string
		do    func(context.Context, *Node) error
	}{
		{"boot", func(ctx context.Context, n *Node) error { return n.boot(ctx, o.Cold, w.pairings(n)) }},
		{"configure", func(ctx context.Context, n *Node) error { return n.configure(ctx, w.pairings(n)) }},
		{"services", func(ctx context.Context, n *Node) error {
			if o.Only {
				return nil
			}
			return n.startServices(ctx)
		}},
	}
	for _, stage := range stages {
		start := time.Now()
		if err := each(ctx, nodes, stage.do); err != nil {
			return err
		}
		took := time.Since(start)
		w.emit(record.Event{Kind: record.KindPhase, Name: stage.phase, Seconds: record.Seconds(took)})
		w.mu.Lock()
		w.upTime += took
		w.mu.Unlock()
	}
	for _, n := range nodes {
		w.emit(record.Event{Kind: record.KindNode, Node: n.name, State: record.StateReady})
	}
	return nil
}

// UpTime is how long all stages of Up have taken so far.
func (w *World) UpTime() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.upTime
}

// each does one thing to all nodes at once and returns all errors. The first
// error ends the others, whose consequent errors are left out.
func each(ctx context.Context, nodes []*Node, do func(context.Context, *Node) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			if errs[i] = do(ctx, n); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	all.Wait()
	first := context.Cause(ctx)
	joined := first
	for _, err := range errs {
		if err != nil && !errors.Is(err, first) {
			joined = multierror.Append(joined, err)
		}
	}
	return joined
}

// pairings are those of node n: every other node, for the package service.
func (w *World) pairings(n *Node) []device.Pairing {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []device.Pairing
	for _, other := range w.nodes {
		if other != n {
			out = append(out, device.Pairing{
				ID:       scenario.DeviceID(other.name),
				Key:      other.key.Public,
				Services: []string{device.ServicePackageFS},
			})
		}
	}
	return out
}

// LAN returns the network, in which the rig itself can take part.
func (w *World) LAN() scenario.LAN { return w.cfg.LAN }

// emit records an event. A record that cannot be written has said so once.
func (w *World) emit(e record.Event) { _ = w.cfg.Record.Append(e) }

// Close ends every node at once and returns when all processes are gone.
func (w *World) Close() {
	var all sync.WaitGroup
	for _, n := range w.all() {
		all.Go(n.down)
	}
	all.Wait()
}

// prefix is the size of the scenario's network.
func (w *World) prefix(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, w.cfg.LAN.Prefix().Bits())
}
