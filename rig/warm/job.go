package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
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

// save boots a machine to its idle agent and saves it.
func save(ctx context.Context, s machine.Spec, port *lan.Port, state string) error {
	r, err := start(ctx, s, port)
	if err != nil {
		return err
	}
	defer r.end()
	if err := r.Resume(ctx); err != nil {
		return err
	}
	select {
	case <-r.idle:
	case <-r.Done():
		return r.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f, err := os.Create(state)
	if err != nil {
		return err
	}
	return errors.Join(r.Save(ctx, f), f.Sync(), f.Close())
}

// try restores a save and has its agent answer: what does not work here would
// break every scenario.
func try(ctx context.Context, s machine.Spec, port *lan.Port, state string) error {
	r, err := start(ctx, s, port)
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
	agent, _, err := guest.Reach(ctx, r.Machine)
	if err != nil {
		return err
	}
	return agent.Close()
}

// A running machine is one whose streams are drained.
type running struct {
	*machine.Machine
	idle    chan struct{} // closed when the agent has nothing to do
	readers sync.WaitGroup
	conns   []net.Conn
}

func start(ctx context.Context, s machine.Spec, port *lan.Port) (*running, error) {
	tap, err := port.Open()
	if err != nil {
		return nil, err
	}
	defer tap.Close()
	m, err := machine.Start(ctx, s, tap, os.Stderr)
	if err != nil {
		return nil, err
	}
	r := &running{Machine: m, idle: make(chan struct{})}
	for name, read := range map[string]func(io.Reader){
		"console": func(r io.Reader) { _, _ = io.Copy(io.Discard, r) },
		"journal": r.watch,
	} {
		conn, err := m.Dial(ctx, name)
		if err != nil {
			r.end()
			return nil, err
		}
		r.conns = append(r.conns, conn)
		r.readers.Go(func() { read(conn) })
	}
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

// watch reads a journal to its end and closes idle at the line with which the
// agent says that it has nothing to do.
func (r *running) watch(stream io.Reader) {
	said := false
	_ = journal.SplitAt(stream, journal.MaxEntry, func(line []byte, _ bool) {
		e, err := journal.Decode(line)
		if err == nil && !said && e.Unit == agentapi.AgentUnit && e.Line() == agentapi.IdleLine {
			said = true
			close(r.idle)
		}
	})
}
