package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// What the argument line of StartReplay has after -chardev for QMP, in the place
// of the recorded machine's, and for the gdbstub.
var (
	ReplayQMP = pair("qmp", fdQMP)
	ReplayGDB = pair(gdbStream, fdReplayGDB)
)

// ReplayDisk is the path of the disk that StartReplay is given, as QEMU sees it.
var ReplayDisk = fmt.Sprintf("/proc/self/fd/%d", fdReplayDisk)

// Those behind QMP's: a machine that replays has no streams.
const (
	fdReplayGDB = iota + fdQMP + 1
	fdReplayDisk
)

// StartReplay starts QEMU on an argument line that replays a recorded machine, as package recording makes one. disk, which stays the caller's, is what the line calls ReplayDisk. As with Start the machine
// stands at its first instruction. Nothing of it can be reached by name: its network namespace may be the host's own. At the end of its log the machine stands still
// (event "SHUTDOWN", then "STOP") and can be looked at.
func StartReplay(ctx context.Context, name string, hw Hardware, args []string, disk *os.File, stderr io.Writer) (*Machine, error) {
	gdb, theirs, err := newPair()
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", name, err)
	}
	defer theirs.Close()
	if hw.Sandbox {
		args = append([]string{"-sandbox", sandbox}, args...)
	}
	m, err := launch(ctx, Spec{Hardware: hw, Name: name}, args, nil, []*os.File{theirs, disk}, stderr)
	if err != nil {
		gdb.Close()
		return nil, err
	}
	m.gdb = gdb
	if err := m.Run(ctx, "set-action", map[string]string{"shutdown": "pause"}, nil); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// hurryEvery is how often Hurry has QEMU look: each time costs it some 50 µs.
const hurryEvery = time.Millisecond

// Hurry has a machine that replays not wait for the time to pass that passed while it was recorded, until ctx ends: where the machine idled, QEMU sleeps until the next timer is due by
// the host's clock, though what comes next is in the log and all it takes is to look. Every question on QMP has it look: what it is asked is where it is, which told gets.
func (m *Machine) Hurry(ctx context.Context, told func(instructions int64)) {
	tick := time.NewTicker(hurryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if at, err := m.Position(ctx); err == nil {
				told(at)
			}
		case <-m.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// BreakAt has a machine that replays stop (event "STOP") when it has executed that many instructions, which are more than it has. There is one such place, and
// the last one that was asked for is it.
func (m *Machine) BreakAt(ctx context.Context, instructions int64) error {
	return m.Run(ctx, "replay-break", map[string]int64{"icount": instructions}, nil)
}

// ForgetBreak takes BreakAt back.
func (m *Machine) ForgetBreak(ctx context.Context) error {
	return m.Run(ctx, "replay-delete-break", nil, nil)
}

// SaveState saves the state of a machine that stands still to its disk, under a name, in the place of what has that name.
func (m *Machine) SaveState(ctx context.Context, name string) error {
	return m.state(ctx, "savevm", name)
}

// LoadState brings a machine that stands still back to what SaveState saved.
func (m *Machine) LoadState(ctx context.Context, name string) error {
	return m.state(ctx, "loadvm", name)
}

// DeleteState gives back the space of what SaveState saved.
func (m *Machine) DeleteState(ctx context.Context, name string) error {
	return m.state(ctx, "delvm", name)
}

func (m *Machine) state(ctx context.Context, command, name string) error {
	said, err := m.human(ctx, command+" "+strconv.Quote(name))
	if err == nil && said != "" {
		err = fmt.Errorf("QEMU says %q", strings.Join(strings.Fields(said), " "))
	}
	if err != nil {
		return fmt.Errorf("%s %s of machine %s: %w", command, name, m.spec.Name, err)
	}
	return nil
}
