package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/coverage"
	procs "dsoftbus-rig/nodes/process"
	"dsoftbus-rig/nodes/stacks"

	"golang.org/x/sys/unix"
)

// Nothing of this file is in an ordinary binary: all that calls it does so only if coverage.On.

// counters asks programs of this machine for their goroutines, before whose answer they have written their counters. Run sets it, in a binary that counts. It is
// the one that is asked for goroutines themselves, since a program answers one question at a time.
var counters *stacks.Asker

// covered has every program of this machine that counts write its counters, this one too, and returns what is written.
func covered(ctx context.Context) (agentapi.Coverage, error) {
	var c agentapi.Coverage
	pids, err := everyProcess()
	if err != nil {
		return c, err
	}
	writeCoverage(ctx, pids)
	c.Missing = missed.take()
	if err := coverage.Write(); err != nil {
		c.Missing = append(c.Missing, agentapi.AgentUnit+": "+err.Error())
	}
	entries, err := os.ReadDir(agentapi.CoverageDir)
	for _, e := range entries {
		// What is still being written has another name, which begins with "tmp.".
		if strings.HasPrefix(e.Name(), "covmeta.") || strings.HasPrefix(e.Name(), "covcounters.") {
			c.Files = append(c.Files, e.Name())
		}
	}
	return c, err
}

// everyProcess returns all processes but this one.
func everyProcess() ([]int, error) {
	dirs, err := filepath.Glob(filepath.Join(procs.Proc, "[0-9]*"))
	var pids []int
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// lastWill has the programs of a process group write their counters, before a signal that may be the end of them.
func lastWill(group int, sig unix.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT: // programs that end in order write them then
		return
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGCONT, stacks.Signal:
		return
	}
	pids, err := procs.Group(procs.Proc, group)
	if err != nil {
		missed.add(fmt.Sprintf("process group %d: %v", group, err))
		return
	}
	writeCoverage(context.Background(), pids)
}

// missed says of whom there is less than there could be, until somebody wants to know.
var missed misses

type misses struct {
	mu    sync.Mutex
	texts []string
}

func (m *misses) add(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.texts = append(m.texts, text)
}

func (m *misses) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	texts := m.texts
	m.texts = nil
	return texts
}

// writeCoverage has those of the processes that are programs that count write their counters. Which did not, and why, is missed. It takes no longer than stacks.Asker
// waits for an answer.
func writeCoverage(ctx context.Context, pids []int) {
	if counters == nil {
		return // no machine, but a test on a host
	}
	var all sync.WaitGroup
	for _, pid := range pids {
		if !counts(pid) {
			continue
		}
		all.Go(func() { // side by side: one that does not answer must not use up the others' time
			name := programName(pid)
			state, err := procs.Status(procs.Proc, pid, "State")
			switch {
			case err != nil:
				return // it has ended meanwhile
			case strings.HasPrefix(state, "T"):
				err = errors.New("it is stopped")
			default:
				_, err = counters.AskProcess(ctx, pid)
			}
			if err == nil || errors.Is(err, os.ErrProcessDone) {
				return
			}
			missed.add(fmt.Sprintf("%s: %v", name, err))
		})
	}
	all.Wait()
}

// counts reports whether a process is a program of the rig's. Those of u-root's binary, which is also init's, need no closer look.
func counts(pid int) bool {
	file, err := os.Stat(filepath.Join(procs.Proc, strconv.Itoa(pid), "exe"))
	if err != nil {
		return false // of the kernel, or it has ended
	}
	init, err := os.Stat(filepath.Join(procs.Proc, "1", "exe"))
	if err == nil && os.SameFile(file, init) {
		return false
	}
	tells, err := stacks.Tells(pid)
	return err == nil && tells
}

func programName(pid int) string {
	comm, err := os.ReadFile(filepath.Join(procs.Proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return "a program"
	}
	return strings.TrimSpace(string(comm))
}
