package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/follow"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// positionEvery is how often a recorded machine is asked where it is: so near to a moment of the record a replay can be stopped.
const positionEvery = 100 * time.Millisecond

// A recorded is what is kept of a life that is recorded.
type recorded struct {
	dir              string
	about            recording.Machine
	console, journal *follow.File
	positions        *os.File
	tell             func(error) // what went wrong in the end
}

// controlHost and controlMachine are the two ends of the wire to the agent of the i-th node.
func controlHost(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, byte(i), 1}), 30)
}

func controlMachine(i int) agentapi.ControlAddress {
	return agentapi.ControlAddress{
		MAC:     net.HardwareAddr{0x52, 0x54, 0, 1, 0, byte(10 + i)},
		Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, byte(i), 2}), 30),
	}
}

// record makes the folder of a life that is recorded, and has spec record into it.
func (n *Node) record(spec *machine.Spec) (_ *recorded, err error) {
	dir, err := recording.Create(filepath.Dir(n.files.Console))
	if err != nil {
		return nil, fmt.Errorf("record node %s: %w", n.name, err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	spec.Recording = &machine.Recording{
		Log: file(recording.LogFile), Console: file(recording.ConsoleFile), Journal: file(recording.JournalFile), Control: controlMachine(n.index),
	}
	r := &recorded{dir: dir, about: *n.world.cfg.Recording, tell: n.tellRecording}
	r.about.Node, r.about.Started, r.about.Args = n.name, time.Now().UTC(), spec.Args()
	err = recording.Write(dir, r.about)
	if err == nil {
		r.console, err = follow.Open(spec.Recording.Console)
	}
	if err == nil {
		r.journal, err = follow.Open(spec.Recording.Journal)
	}
	if err == nil {
		r.positions, err = os.Create(file(recording.PositionsFile))
	}
	if err == nil {
		// All that enters the machine is in there, its private key with it. QEMU writes into what it finds.
		err = os.WriteFile(spec.Recording.Log, nil, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("record node %s: %w", n.name, err)
	}
	return r, nil
}

// follow notes where a recorded machine is until it ends, and then ends what is read of it.
func (n *Node) follow(l *life) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(positionEvery)
	defer tick.Stop()
	out := json.NewEncoder(n.recorder(l.recorded.positions))
	for {
		select {
		case <-tick.C:
			at, err := l.machine.Position(ctx) // ends with the machine
			if err == nil {
				_ = out.Encode(recording.Position{Time: time.Now().UTC(), Instructions: at})
			}
			continue
		case <-l.machine.Done():
		}
		break
	}
	l.recorded.console.End()
	l.recorded.journal.End()
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.control != nil {
		_ = l.control.Close() // nothing else tells that nobody is there any more
	}
}

// dial connects to the agent of a recorded machine, once that says, after the line from of the node's log, that it listens.
func (n *Node) dial(ctx context.Context, l *life, from int) (net.Conn, error) {
	_, err := n.log.Wait(ctx, from, func(line console.Line) bool {
		return line.Unit == agentapi.AgentUnit && line.Text == agentapi.ListeningLine
	})
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", controlMachine(n.index).Endpoint().String())
	if err != nil {
		return nil, l.machine.Cause(fmt.Errorf("connect to the agent: %w", err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.machine.Err() != nil {
		return nil, errors.Join(l.machine.Err(), conn.Close())
	}
	l.control = conn
	return conn, nil
}

// end notes that the recording is whole, if it is. The machine has ended, and all it printed was read.
func (r *recorded) end() {
	err := r.positions.Close()
	whole, logErr := wholeLog(filepath.Join(r.dir, recording.LogFile))
	err = errors.Join(err, logErr)
	if err == nil && whole {
		r.about.Ended = true
		r.about.Lines, err = r.lines()
	}
	if err == nil {
		err = recording.Write(r.dir, r.about)
	}
	if err != nil {
		r.tell(fmt.Errorf("the recording in %s: %w", r.dir, err))
	}
}

// wholeLog reports whether QEMU has written its log to the end: the version, with which it begins, comes last.
func wholeLog(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var version uint32
	if err := binary.Read(f, binary.BigEndian, &version); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return version != 0, nil
}

// lines counts what the machine has printed.
func (r *recorded) lines() (n int, err error) {
	for _, name := range []string{recording.ConsoleFile, recording.JournalFile} {
		data, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return 0, err
		}
		n += bytes.Count(data, []byte("\n"))
		if len(data) > 0 && data[len(data)-1] != '\n' {
			n++
		}
	}
	return n, nil
}

// tellRecording makes what went wrong with a recording a warning of the record.
func (n *Node) tellRecording(err error) {
	n.world.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: err.Error()})
}
