package livetest

import (
	"context"
	"fmt"
	"io"
	"sync"

	"dsoftbus-rig/rig/live"
)

// A Debugger is a live.Debugger that says again what its clients say.
type Debugger struct {
	Options live.DebugOptions

	once sync.Once
	over chan struct{}
}

// Debug implements live.Scenario. There is no program "missing".
func (s *Scenario) Debug(_ context.Context, o live.DebugOptions) (live.Debugger, error) {
	if o.Program == "missing" {
		return nil, fmt.Errorf("dlv %s %s: it does not run on node %[1]s", o.Node, o.Program)
	}
	d := &Debugger{Options: o, over: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.debuggers = append(s.debuggers, d)
	return d, nil
}

// Debuggers are all that were asked for.
func (s *Scenario) Debuggers() []*Debugger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.debuggers
}

// Serve implements live.Debugger. A client that says "quit\n" has it let go.
func (d *Debugger) Serve(ctx context.Context, conn io.ReadWriteCloser) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) == "quit\n" {
			return d.Close()
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// Over implements live.Debugger.
func (d *Debugger) Over() <-chan struct{} { return d.over }

// Close implements live.Debugger.
func (d *Debugger) Close() error {
	d.once.Do(func() { close(d.over) })
	return nil
}
