package machine

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ReplayQMP is what the argument line of StartReplay has in the place of the recorded machine's socket of QMP.
var ReplayQMP = socket("qmp", fdQMP)

// StartReplay starts QEMU on an argument line that replays a recorded machine, as package recording makes one. There is nothing to hand over. As with Start it
// stands at its first instruction. name is unique within the network namespace, which may be the host's own. At the end of its log the machine stands still
// (event "SHUTDOWN", then "STOP") and can be looked at.
func StartReplay(ctx context.Context, name, qemu string, args []string, stderr io.Writer) (*Machine, error) {
	m, err := launch(ctx, Spec{Hardware: Hardware{QEMU: qemu}, Name: name}, args, nil, nil, stderr)
	if err != nil {
		return nil, err
	}
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
