package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/record"
)

// coverageWait bounds how long a node may take to say what has run in it, before scaling: half a second is usual, and its agent waits 5 s for a program that
// does not answer.
const coverageWait = 10 * time.Second

// SaveCoverage saves what has run in every node that is up, in machines that count it, into the nodes' folders of the record. It is for the end of a scenario:
// nodes that the scenario has paused go on for it. What could not be had is a warning of the record.
func (w *World) SaveCoverage(ctx context.Context) {
	var all sync.WaitGroup
	for _, n := range w.all() {
		all.Go(func() {
			if n.isPaused() {
				_ = n.resume(ctx) // if that fails, the next says why
			}
			n.saveCoverage(ctx)
		})
	}
	all.Wait()
}

// saveCoverage saves what has run in the node's machine so far, when its programs count: before that machine ends, or begins anew.
func (n *Node) saveCoverage(ctx context.Context) {
	if !n.world.cfg.Hardware.Cover {
		return
	}
	l, err := n.alive()
	switch {
	case l == nil && n.status().State == "down":
		return
	case n.hasFallen():
		err = errors.New("its kernel has panicked")
	case err == nil:
		wait := time.Duration(float64(coverageWait) * max(1, n.world.cfg.Slowdown))
		ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("it is not there after %s", wait))
		defer cancel()
		err = n.pullCoverage(ctx, l)
	}
	if err != nil {
		n.world.emit(record.Event{Kind: record.KindWarning, Node: n.name, Text: fmt.Sprintf("coverage of node %s is not complete: %v", n.name, err)})
	}
}

// pullCoverage pulls what there is and was not pulled before. Names have a process id and a time in nanoseconds in them, so those of two lives of a node do not
// meet.
func (n *Node) pullCoverage(ctx context.Context, l *life) error {
	dir := filepath.Join(filepath.Dir(n.files.Console), record.CoverageDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	found, err := l.agent.Coverage(ctx)
	if err != nil {
		return err
	}
	for _, file := range found.Files {
		name, err := guest.ParseName(file)
		if err != nil {
			return err
		}
		to := name.In(dir, "", "")
		if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := l.agent.Pull(ctx, path.Join(agentapi.CoverageDir, name.String()), to); err != nil {
			return err
		}
	}
	if len(found.Missing) > 0 {
		return errors.New(strings.Join(found.Missing, "; "))
	}
	return nil
}
