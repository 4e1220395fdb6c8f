// Package replaytest makes a recorded run for tests, on two real machines. It is for tests only.
package replaytest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/protocol/session"
	"dsoftbus-rig/rig/follow"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// Scenario is the name of the recorded one.
const Scenario = "pair/session"

// What the steps of the recorded scenario are: the first boots the machines, the second starts the services, the third waits for
// their session, and runs a program on A.
const (
	StepUp = iota + 1
	StepStart
	StepExec
)

// LineOf is the line in the script of a step.
func LineOf(step int) int { return 10 + step }

// nodes are the recorded machines.
var names = []string{"A", "B"}

// positionEvery is how often it is noted where the machines are.
const positionEvery = 50 * time.Millisecond

// A node is one machine that is being recorded.
type node struct {
	name     string
	index    int
	dir      string // of its life
	about    recording.Machine
	machine  *machine.Machine
	journal  *follow.File
	agent    *guest.Client
	key      session.KeyPair
	mu       sync.Mutex
	lines    []string
	changed  chan struct{}
	tasks    sync.WaitGroup
	stopping context.CancelFunc
}

func (n *node) deviceID() string    { return "node-" + strings.ToLower(n.name) }
func (n *node) address() netip.Addr { return netip.AddrFrom4([4]byte{10, 42, 0, byte(10 + n.index)}) }
func (n *node) mac() net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(10 + n.index)}
}
func (n *node) wire() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, byte(n.index), 1}), 30)
}
func (n *node) control() agentapi.ControlAddress {
	return agentapi.ControlAddress{
		MAC:     net.HardwareAddr{0x52, 0x54, 0, 1, 0, byte(10 + n.index)},
		Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, byte(n.index), 2}), 30),
	}
}

// Run records a run below root, in the network namespace that the caller is in, and returns its folder. source is the project's folder.
func Run(ctx context.Context, root, source string) (dir string, err error) {
	set, err := images.Build(ctx, images.Config{SourceDir: source})
	if err != nil {
		return "", err
	}
	debugger, err := images.DebuggerFor(ctx, images.Config{SourceDir: source}, false)
	if err != nil {
		return "", err
	}
	version, err := host.QEMUVersion(ctx, host.DefaultQEMU)
	if err != nil {
		return "", err
	}
	version, _, _ = strings.Cut(version, " ") // its path follows
	run, err := record.Create(root, "recorded", func(record.Event) {})
	if err != nil {
		return "", err
	}
	dir = run.Dir()
	if err := run.Append(record.Event{Kind: record.KindRunStart, Name: "recorded", Total: 1}); err != nil {
		return "", err
	}
	about := recording.Machine{Scenario: Scenario, QEMU: host.DefaultQEMU, QEMUVersion: version}
	for _, f := range []struct {
		from, to string
		digest   *string
	}{{set.Kernel, recording.KernelFile, &about.Kernel}, {set.Initrd, recording.InitrdFile, &about.Initrd}, {debugger.Node, recording.DebugFile, nil}} {
		digest, err := copyFile(f.from, filepath.Join(dir, f.to))
		if err != nil {
			return "", err
		}
		if f.digest != nil {
			*f.digest = digest
		}
	}
	scenario, err := record.CreateScenario(dir, Scenario, func(e record.Event) { _ = run.Append(e) })
	if err != nil {
		return "", err
	}
	if err := scenario.Append(record.Event{Kind: record.KindScenarioStart, File: "scenarios/pair/session.txtar"}); err != nil {
		return "", err
	}
	network, err := lan.New(ctx, lan.Config{Bare: true})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	var pair []*node
	for i, name := range names {
		n := &node{name: name, index: i, about: about, changed: make(chan struct{})}
		n.about.Node = name
		if n.key, err = session.NewKeyPair([session.KeySize]byte{1: byte(i + 1)}); err != nil {
			return "", err
		}
		pair = append(pair, n)
		if err := n.start(ctx, network, scenario, set); err != nil {
			return "", err
		}
		defer n.machine.Kill()
	}
	step := func(number int, text string, f func(*node) error) error {
		since := time.Now()
		err := scenario.Append(record.Event{Kind: record.KindStepStart, Step: number, Line: LineOf(number), Text: text})
		for _, n := range pair {
			err = errors.Join(err, f(n))
		}
		return errors.Join(err, scenario.Append(record.Event{Kind: record.KindStepEnd, Step: number, Seconds: time.Since(since).Seconds()}))
	}
	err = step(StepUp, "up", func(n *node) error { return n.reach(ctx, pair) })
	if err == nil {
		err = step(StepStart, "start", func(n *node) error {
			for _, program := range []string{"packagefsd", "dsoftbusd"} {
				if err := n.agent.Call(ctx, agentapi.MethodStart, agentapi.Start{Program: program}, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = step(StepExec, "exec A vitals dsoftbusd", func(n *node) error {
			if n.name != "A" {
				return nil
			}
			if err := n.await(ctx, "cross-vm session ok"); err != nil {
				return err
			}
			exit, err := n.agent.Exec(ctx, []string{"vitals", "dsoftbusd"}, io.Discard, io.Discard)
			if err == nil && exit.Status != 0 {
				err = fmt.Errorf("vitals: exit status %d", exit.Status)
			}
			return err
		})
	}
	for _, n := range pair {
		err = errors.Join(err, n.end())
	}
	return dir, errors.Join(err,
		scenario.Append(record.Event{Kind: record.KindScenarioEnd, Result: record.Passed}), scenario.Close(),
		run.Append(record.Event{Kind: record.KindRunEnd, Result: record.Passed}))
}

// start starts the machine.
func (n *node) start(ctx context.Context, network *lan.LAN, scenario *record.Scenario, set *images.Set) error {
	files, err := scenario.Node(n.name)
	if err != nil {
		return err
	}
	if n.dir, err = recording.Create(filepath.Dir(files.Console)); err != nil {
		return err
	}
	port, err := network.AddPort("port-" + n.name)
	if err != nil {
		return err
	}
	wire, err := network.AddWire("wire-"+n.name, n.wire(), n.control().Address.Addr(), n.control().MAC)
	if err != nil {
		return err
	}
	tap, err := port.Open()
	if err != nil {
		return err
	}
	defer tap.Close()
	control, err := wire.Open()
	if err != nil {
		return err
	}
	defer control.Close()
	file := func(name string) string { return filepath.Join(n.dir, name) }
	spec := machine.Spec{
		Hardware: machine.Hardware{QEMU: host.DefaultQEMU, Accel: "tcg", Kernel: set.Kernel, Initrd: set.Initrd},
		Name:     n.name, MAC: n.mac().String(),
		Recording: &machine.Recording{Log: file(recording.LogFile), Console: file(recording.ConsoleFile), Journal: file(recording.JournalFile), Control: n.control()},
	}
	n.about.Args, n.about.Started = spec.Args(), time.Now().UTC()
	if err := recording.Write(n.dir, n.about); err != nil {
		return err
	}
	if n.journal, err = follow.Open(spec.Recording.Journal); err != nil {
		return err
	}
	if n.machine, err = machine.Start(ctx, spec, machine.Files{Tap: tap, Control: control}, io.Discard); err != nil {
		return err
	}
	ctx, n.stopping = context.WithCancel(ctx)
	n.tasks.Go(func() {
		for range n.machine.Events() {
		}
	})
	n.tasks.Go(func() { _ = journal.SplitAt(n.journal, journal.MaxEntry, n.line) })
	positions, err := os.Create(file(recording.PositionsFile))
	if err != nil {
		return err
	}
	n.tasks.Go(func() {
		defer positions.Close()
		out := json.NewEncoder(positions)
		tick := time.NewTicker(positionEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if at, err := n.machine.Position(ctx); err == nil {
				_ = out.Encode(recording.Position{Time: time.Now().UTC(), Instructions: at})
			}
		}
	})
	return n.machine.Resume(ctx)
}

func (n *node) line(text []byte, _ bool) {
	e, err := journal.Decode(text)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, e.Line())
	close(n.changed)
	n.changed = make(chan struct{})
}

// await waits for a line with text.
func (n *node) await(ctx context.Context, text string) error {
	for {
		n.mu.Lock()
		lines, changed := n.lines, n.changed
		n.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return nil
			}
		}
		select {
		case <-changed:
		case <-n.machine.Done():
			return n.machine.Err()
		case <-ctx.Done():
			return fmt.Errorf("node %s: no line %q: %w; its lines are %q", n.name, text, context.Cause(ctx), lines)
		}
	}
}

// reach connects to the machine's agent and gives the machine its identity.
func (n *node) reach(ctx context.Context, pair []*node) error {
	if err := n.await(ctx, agentapi.ListeningLine); err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", n.control().Endpoint().String())
	if err != nil {
		return err
	}
	if n.agent, _, err = guest.Reach(ctx, n.machine, conn); err != nil {
		return err
	}
	id := agentapi.Identity{Hostname: n.deviceID(), MAC: n.mac(), Address: netip.PrefixFrom(n.address(), 24), Clock: time.Now(), Entropy: make([]byte, 64)}
	_, _ = rand.Read(id.Entropy)
	var pairings []device.Pairing
	for _, peer := range pair {
		if peer != n {
			pairings = append(pairings, device.Pairing{ID: peer.deviceID(), Key: peer.key.Public, Services: []string{device.ServicePackageFS}})
		}
	}
	own, err := device.Encode(device.Device{ID: id.Hostname, Key: n.key}, pairings)
	if err != nil {
		return err
	}
	for _, f := range own {
		id.Files = append(id.Files, agentapi.File{Path: path.Join(device.DefaultDir, f.Name), Mode: device.Mode, Content: f.Content})
	}
	data, err := id.MarshalBinary()
	if err != nil {
		return err
	}
	return n.agent.Call(ctx, agentapi.MethodConfigure, data, nil)
}

// end ends the machine and the recording.
func (n *node) end() error {
	n.machine.Kill()
	n.stopping()
	n.journal.End()
	n.tasks.Wait()
	n.about.Ended = true
	for _, name := range []string{recording.ConsoleFile, recording.JournalFile} {
		data, err := os.ReadFile(filepath.Join(n.dir, name))
		if err != nil {
			return err
		}
		n.about.Lines += strings.Count(string(data), "\n")
	}
	return errors.Join(recording.Write(n.dir, n.about), n.journal.Close())
}

// copyFile copies a file and returns its SHA-256 in hex.
func copyFile(from, to string) (string, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, out.Close())
}
