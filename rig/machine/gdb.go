package machine

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// gdbStream is the name of the gdbstub's socket among the machine's.
const gdbStream = "gdb"

// GDB starts QEMU's gdbstub and connects to it, on which the machine stops (event "STOP"). What is said there is the GDB remote protocol: registers
// and memory of the machine's processor, breakpoints, `c` to go on. The connection is the caller's, who closes it; EndGDB ends the stub. A second stub
// is refused, and a machine that replays has one once.
func (m *Machine) GDB(ctx context.Context) (net.Conn, error) {
	if m.gdb != nil {
		return m.gdb, m.startGDB(ctx, "chardev:"+gdbStream)
	}
	// Nothing but a debugger has any use for it, so it is no part of the argument line.
	address := strings.TrimPrefix(m.address(gdbStream), "@") + ",server=on,wait=off,abstract=on"
	if err := m.startGDB(ctx, "unix:"+address); err != nil {
		return nil, err
	}
	return m.Reconnect(ctx, gdbStream)
}

func (m *Machine) startGDB(ctx context.Context, device string) error {
	said, err := m.human(ctx, "gdbserver "+device)
	if err == nil && !strings.HasPrefix(said, "Waiting for gdb") {
		err = fmt.Errorf("start the gdbstub of machine %s: QEMU says %q", m.spec.Name, strings.Join(strings.Fields(said), " "))
	}
	return err
}

// EndGDB ends the gdbstub. The machine stays as it is, stopped or running, without the breakpoints that a debugger has left.
func (m *Machine) EndGDB(ctx context.Context) error {
	_, err := m.human(ctx, "gdbserver none")
	return err
}

// human executes a command of QEMU's monitor for people, and returns what it prints: errors too.
func (m *Machine) human(ctx context.Context, line string) (string, error) {
	var said string
	err := m.Run(ctx, "human-monitor-command", map[string]string{"command-line": line}, &said)
	return said, err
}
