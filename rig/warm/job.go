package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"
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

// Make carries out a SaveJob.
func Make(ctx context.Context, data json.RawMessage, _ io.Writer) error {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootWait, fmt.Errorf("the machine was not idle within %s", bootWait))
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
	tap, err := port.Open()
	if err != nil {
		return err
	}
	defer tap.Close()
	s := spec(job.Hardware)
	s.RAM = filepath.Join(job.Dir, ramFile)
	m, err := machine.Start(ctx, s, tap, os.Stderr)
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	defer m.Kill()
	idle := make(chan struct{})
	for name, read := range map[string]func(io.Reader){
		"console": func(r io.Reader) { _, _ = io.Copy(io.Discard, r) },
		"journal": func(r io.Reader) { watch(r, idle) },
	} {
		conn, err := m.Dial(ctx, name)
		if err != nil {
			return err
		}
		defer conn.Close()
		readers.Go(func() { read(conn) })
	}
	if err := m.Resume(ctx); err != nil {
		return err
	}
	select {
	case <-idle:
	case <-m.Done():
		return m.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	state, err := os.Create(filepath.Join(job.Dir, stateFile))
	if err != nil {
		return err
	}
	if err := errors.Join(m.Save(ctx, state), state.Sync(), state.Close()); err != nil {
		return err
	}
	m.Kill()
	return nil
}

// watch reads a journal to its end and closes idle at the line with which the
// agent says that it has nothing to do.
func watch(r io.Reader, idle chan struct{}) {
	said := false
	_ = journal.SplitAt(r, journal.MaxEntry, func(line []byte, _ bool) {
		e, err := journal.Decode(line)
		if err == nil && !said && e.Unit == agentapi.AgentUnit && e.Line() == agentapi.IdleLine {
			said = true
			close(idle)
		}
	})
}
