package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
)

// bootWait bounds the boot of the machine that is saved.
const bootWait = 2 * time.Minute

// quiet is how long after its agent's last word a machine is saved.
const quiet = 250 * time.Millisecond

// A Job is one save for one worker.
type Job struct {
	Hardware machine.Hardware `json:"hardware"`
	Dir      string           `json:"dir"` // gets the files; exists and is empty
}

// Make carries out a SaveJob: it boots a machine, saves it, and tries the save.
func Make(ctx context.Context, data json.RawMessage, _ io.Writer) error {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootWait, fmt.Errorf("it took longer than %s", bootWait))
	defer cancel()
	// The card needs a tap from the beginning: what it can do is part of the
	// state.
	network, err := lan.New(ctx, lan.Config{})
	if err != nil {
		return err
	}
	defer network.Close()
	port, err := network.AddPort("tapsave")
	if err != nil {
		return err
	}
	s := spec(job.Hardware)
	s.RAM = filepath.Join(job.Dir, ramFile)
	state := filepath.Join(job.Dir, stateFile)
	if err := save(ctx, s, port, state); err != nil {
		return err
	}
	s.Shared, s.Incoming = false, true
	if err := try(ctx, s, port, state); err != nil {
		return fmt.Errorf("the save does not work: %w", err)
	}
	return nil
}

// save boots a machine until its agent waits to be somebody, and saves it.
func save(ctx context.Context, s machine.Spec, port *lan.Port, state string) error {
	r, err := start(ctx, s, port, []byte{agentapi.HandoverWait})
	if err != nil {
		return err
	}
	defer r.end()
	if err := r.Resume(ctx); err != nil {
		return err
	}
	if err := r.await(ctx, agentapi.IdleLine); err != nil {
		return err
	}
	// The line itself has set a few things going in the machine, and nothing tells
	// when it is quiet again.
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f, err := os.Create(state)
	if err != nil {
		return err
	}
	return errors.Join(r.Save(ctx, f), f.Sync(), f.Close())
}

// try restores a save, hands it an identity, and has its agent answer: what does
// not work here would break every scenario.
func try(ctx context.Context, s machine.Spec, port *lan.Port, state string) error {
	handover, err := agentapi.Handover(agentapi.Identity{
		Hostname: "try", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, Address: netip.MustParsePrefix("10.42.0.1/24"),
		Clock: time.Now(), Entropy: make([]byte, 64),
	})
	if err != nil {
		return err
	}
	r, err := start(ctx, s, port, handover)
	if err != nil {
		return err
	}
	defer r.end()
	f, err := os.Open(state)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.Restore(ctx, f); err != nil {
		return err
	}
	if err := r.Resume(ctx); err != nil {
		return err
	}
	if err := r.await(ctx, agentapi.ConfiguredLine); err != nil {
		return err
	}
	agent, _, err := guest.Reach(ctx, r.Machine, r.control)
	if err != nil {
		return err
	}
	return agent.Close()
}

// A running machine is one whose streams are drained.
type running struct {
	*machine.Machine
	control net.Conn
	said    chan string // what the agent writes to the journal
	readers sync.WaitGroup
	conns   []net.Conn
}

func start(ctx context.Context, s machine.Spec, port *lan.Port, handover []byte) (*running, error) {
	tap, err := port.Open()
	if err != nil {
		return nil, err
	}
	defer tap.Close()
	file, err := machine.Memory("handover", handover)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m, err := machine.Start(ctx, s, machine.Files{Tap: tap, Handover: file}, os.Stderr)
	if err != nil {
		return nil, err
	}
	r := &running{Machine: m, said: make(chan string, 16), control: m.Stream("control")}
	console, journal := m.Stream("console"), m.Stream("journal")
	r.conns = []net.Conn{console, journal, r.control}
	r.readers.Go(func() { _, _ = io.Copy(io.Discard, console) })
	r.readers.Go(func() { r.listen(journal) })
	return r, nil
}

// end ends the machine, after which its memory's file is complete.
func (r *running) end() {
	r.Kill()
	r.readers.Wait()
	for _, c := range r.conns {
		c.Close()
	}
}

// listen reads a journal to its end. Nobody waits for more lines of an agent than
// said holds.
func (r *running) listen(stream io.Reader) {
	_ = journal.SplitAt(stream, journal.MaxEntry, func(line []byte, _ bool) {
		e, err := journal.Decode(line)
		if err == nil && e.Unit == agentapi.AgentUnit {
			select {
			case r.said <- e.Line():
			default:
			}
		}
	})
}

// await waits until the agent says a line that begins with prefix.
func (r *running) await(ctx context.Context, prefix string) error {
	for {
		select {
		case line := <-r.said:
			if strings.HasPrefix(line, prefix) {
				return nil
			}
			if strings.HasPrefix(line, agentapi.RefusedLine) {
				return errors.New(line)
			}
		case <-r.Done():
			return r.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
