package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/rig/console"

	"github.com/digitalocean/go-qemu/qmp"
)

// ErrExited is why everything about a machine ends when its process is gone.
// Errors of this package wrap it together with QEMU's own last words.
var ErrExited = errors.New("QEMU exited")

// startWait bounds how long QEMU may take to answer on QMP. It takes some 50 ms;
// a host that swaps may take seconds.
const startWait = 20 * time.Second

// drainWait is how long QEMU's stderr may stay open after its end.
const drainWait = time.Second

// stderrTail is how much of QEMU's stderr is kept for error texts, in bytes.
const stderrTail = 4 << 10

// streams are the machine's sockets but that of QMP, in the order of their descriptors.
var streams = []string{"console", "control", "journal"}

// A Machine is one running QEMU process. Its methods may be called concurrently.
type Machine struct {
	spec    Spec
	cmd     *exec.Cmd
	monitor *qmp.SocketMonitor
	stderr  *console.Tail
	events  chan Event
	streams map[string]net.Conn
	gdb     net.Conn // to QEMU's end of a pair, for a machine that replays; nil: the gdbstub gets a socket with a name

	starved int // processes that the host's kernel had ended for want of memory when this one began

	done chan struct{} // closed when the process is gone
	err  error         // wraps ErrExited; valid after done
}

// An Event is an asynchronous message of QMP: "RESET", "SHUTDOWN", "STOP",
// "GUEST_PANICKED" and so on, with its data.
type Event struct {
	Name string
	Data map[string]any
}

// Start starts QEMU on a Spec. given stays the caller's; stderr receives what QEMU
// itself prints. The machine is stopped at its very first instruction and its streams
// are connected: have them drained, then Resume.
//
// The process dies with ctx. Errors say what QEMU said.
func Start(ctx context.Context, spec Spec, given Files, stderr io.Writer) (*Machine, error) {
	files := []*os.File{given.Tap, given.Handover, given.Control}
	if spec.Recording != nil {
		return launch(ctx, spec, spec.Args(), nil, append(make([]*os.File, len(streams)), files...), stderr)
	}
	return launch(ctx, spec, spec.Args(), streams, files, stderr)
}

// begin starts QEMU's process.
func (m *Machine) begin() error {
	started := make(chan error)
	go startConfined(m.cmd, func(err error) { started <- err }, m.ended)
	return <-started
}

// launch starts QEMU with sockets for QMP and for streams, which are the first files it inherits, and more after them.
func launch(ctx context.Context, spec Spec, args, streams []string, more []*os.File, stderr io.Writer) (*Machine, error) {
	m := &Machine{spec: spec, stderr: &console.Tail{Max: stderrTail}, done: make(chan struct{}), events: make(chan Event, 64), streams: map[string]net.Conn{}}
	m.cmd = exec.CommandContext(ctx, spec.QEMU, args...)
	m.cmd.WaitDelay = drainWait
	// QEMU prints nothing to stdout; what it did would be a complaint too.
	m.cmd.Stderr = io.MultiWriter(m.stderr, lenient{stderr})
	m.cmd.Stdout = m.cmd.Stderr
	// The machine must not outlive the rig, and Ctrl-C is the rig's alone.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	m.cmd.Env = environment(os.Environ())
	monitor, theirs, err := newMonitor()
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", spec.Name, err)
	}
	defer theirs.Close()
	m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, theirs)
	for _, name := range streams {
		f, err := listen(m.address(name))
		if err != nil {
			_ = monitor.Disconnect()
			return nil, fmt.Errorf("start machine %s: %w", spec.Name, err)
		}
		defer f.Close()
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, f)
	}
	m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, more...)
	m.starved = starved()
	if err := m.begin(); err != nil {
		_ = monitor.Disconnect()
		return nil, fmt.Errorf("start machine %s: %w", spec.Name, err)
	}
	err = m.connect(ctx, streams)
	if err == nil {
		err = m.connectMonitor(ctx, monitor)
	} else {
		_ = monitor.Disconnect()
	}
	if err != nil {
		m.Kill()
		for _, conn := range m.streams {
			conn.Close()
		}
		if !errors.Is(err, ErrExited) {
			err = fmt.Errorf("start machine %s: %w", spec.Name, err)
		}
		return nil, err
	}
	return m, nil
}

// address is the abstract unix socket of one of the machine's streams. Abstract
// names belong to the network namespace: no file is left behind, no path is too
// long, and two workers never meet.
func (m *Machine) address(stream string) string {
	return "@rig/" + m.spec.Name + "/" + stream
}

// listen opens a listening socket for QEMU to inherit. Whoever dials it before
// QEMU has looked waits in its queue, so nobody has to ask when QEMU is ready.
func listen(address string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.File()
}

// Stream is the connection to one of the machine's streams: "console", "control" or
// "journal". It is the caller's, who drains and closes it; it ends with the machine. A recorded machine has none.
func (m *Machine) Stream(name string) net.Conn { return m.streams[name] }

// Reconnect makes a new connection to a stream, once the old one is closed.
func (m *Machine) Reconnect(ctx context.Context, name string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", m.address(name))
	if err != nil {
		return nil, m.Cause(fmt.Errorf("connect to the %s of machine %s: %w", name, m.spec.Name, err))
	}
	return conn, nil
}

// connect connects to the machine's streams. It does so before QEMU has looked at any
// of its sockets, QMP's among them: so they are all connected when it answers there, and
// to a restored machine, which was saved with its ports connected, none is news.
func (m *Machine) connect(ctx context.Context, streams []string) error {
	for _, name := range streams {
		conn, err := m.Reconnect(ctx, name)
		if err != nil {
			return err
		}
		m.streams[name] = conn
	}
	return nil
}

// ended notes the process's end.
func (m *Machine) ended(err error) {
	m.err = fmt.Errorf("machine %s: %w (%v)", m.spec.Name, ErrExited, m.cmd.ProcessState)
	if m.cmd.ProcessState == nil {
		m.err = fmt.Errorf("machine %s: %w (%v)", m.spec.Name, ErrExited, err)
	}
	if state := m.cmd.ProcessState; state != nil && starved() > m.starved {
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			m.err = fmt.Errorf("%w; this host's kernel ends processes for want of memory: %w", m.err, syscall.ENOMEM)
		}
	}
	if said := m.stderr.String(); said != "" {
		m.err = fmt.Errorf("%w: %s", m.err, said)
	}
	close(m.done)
}

// starved returns how many processes this host's kernel has ended for want of memory
// since it began; 0 when it does not say.
func starved() int {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	return kills(string(data))
}

// kills reads that from the text of /proc/vmstat.
func kills(text string) int {
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(n)) // 0 where it is no number
			return n
		}
	}
	return 0
}

// connectMonitor performs QMP's greeting, by the deadline, or until QEMU exits:
// go-qemu knows neither.
func (m *Machine) connectMonitor(ctx context.Context, monitor *qmp.SocketMonitor) (err error) {
	connected := make(chan error, 1)
	go func() { connected <- monitor.Connect() }()
	late := time.NewTimer(startWait)
	defer late.Stop()
	select {
	case err = <-connected:
		if err != nil {
			err = m.Cause(fmt.Errorf("QMP greeting: %w", err))
		}
	case <-m.done:
		err = m.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late.C:
		err = fmt.Errorf("QMP greeting: none within %s", startWait)
	}
	if err != nil {
		_ = monitor.Disconnect()
		return err
	}
	m.monitor = monitor
	events, err := monitor.Events(ctx)
	if err != nil {
		return err
	}
	go func() {
		defer close(m.events)
		for e := range events {
			select {
			case m.events <- Event{Name: e.Event, Data: e.Data}:
			case <-m.done:
			}
		}
	}()
	return nil
}

// Cause prefers the process's end, if it comes within a moment, to what followed
// from it: a broken connection says nothing, QEMU's last words say it all.
func (m *Machine) Cause(err error) error {
	soon := time.NewTimer(drainWait)
	defer soon.Stop()
	select {
	case <-m.done:
		return m.err
	case <-soon.C:
		return err
	}
}

// Events returns QMP's events in order. It is closed when the machine is gone.
// It must be drained.
func (m *Machine) Events() <-chan Event { return m.events }

// Run executes one QMP command and decodes its return value into out, unless
// out is nil. arguments is marshalled as JSON, nil for none.
func (m *Machine) Run(ctx context.Context, command string, arguments, out any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	answer, err := m.converse(ctx, command, func() ([]byte, error) {
		data, err := m.monitor.Run(data)
		return bytes.Clone(data), err
	})
	if err != nil || out == nil {
		return err
	}
	reply := struct {
		Return any `json:"return"`
	}{out}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	return nil
}

// converse waits for the answer to a command, for the end of ctx, or for that of
// the machine; go-qemu itself waits for ever.
func (m *Machine) converse(ctx context.Context, command string, ask func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		data []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		data, err := ask()
		answered <- answer{data, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			select {
			case <-m.done:
				return nil, m.err
			default:
			}
			return nil, fmt.Errorf("QMP %s: %w", command, a.err)
		}
		return a.data, nil
	case <-m.done:
		return nil, m.err
	case <-ctx.Done():
		return nil, fmt.Errorf("QMP %s: %w", command, context.Cause(ctx))
	}
}

// Resume lets the machine's processor run.
func (m *Machine) Resume(ctx context.Context) error { return m.Run(ctx, "cont", nil, nil) }

// Pause stops the machine's processor, and with it every clock the machine has but
// the battery's.
func (m *Machine) Pause(ctx context.Context) error { return m.Run(ctx, "stop", nil, nil) }

// Status is QEMU's word for what the machine does: "running", "paused", …
func (m *Machine) Status(ctx context.Context) (string, error) {
	var status struct{ Status string }
	err := m.Run(ctx, "query-status", nil, &status)
	return status.Status, err
}

// Reset presses the machine's reset button. The event "RESET" says that it was, and
// may come twice: firmware that finds itself started a second time resets the
// machine once more. So from here on a machine that resets itself does so, where else
// that is its end (-no-reboot), until RebootEnds.
func (m *Machine) Reset(ctx context.Context) error {
	if err := m.onReboot(ctx, "reset"); err != nil {
		return err
	}
	return m.Run(ctx, "system_reset", nil, nil)
}

// RebootEnds makes a reset the machine's end again.
func (m *Machine) RebootEnds(ctx context.Context) error { return m.onReboot(ctx, "shutdown") }

func (m *Machine) onReboot(ctx context.Context, action string) error {
	return m.Run(ctx, "set-action", map[string]string{"reboot": action}, nil)
}

// Pid is QEMU's process id, in the rig's namespace.
func (m *Machine) Pid() int { return m.cmd.Process.Pid }

// Done is closed when the process is gone.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Err says how the process ended; it wraps ErrExited. Nil while it runs.
func (m *Machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Position is how many instructions a recorded machine has executed.
func (m *Machine) Position(ctx context.Context) (int64, error) {
	var replay struct{ Icount int64 }
	err := m.Run(ctx, "query-replay", nil, &replay)
	return replay.Icount, err
}

// quitWait bounds how long QEMU may take to write the end of its log, which is some kilobytes.
const quitWait = 5 * time.Second

// Kill ends the process at once, nothing flushed but the log of a recording, and waits until it is gone. It
// may be called more than once.
func (m *Machine) Kill() {
	if m.spec.Recording != nil && m.monitor != nil && m.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), quitWait)
		defer cancel()
		// Its answer and the process's end come in either order.
		_ = m.Run(ctx, "quit", nil, nil)
		select {
		case <-m.done:
		case <-ctx.Done():
		}
	}
	// The error can only be that the process is gone already.
	_ = m.cmd.Process.Kill()
	<-m.done
	if m.gdb != nil {
		m.gdb.Close() // also where no debugger has asked for it
	}
	if m.monitor != nil {
		_ = m.monitor.Disconnect()
	}
}

// lenient passes on what it can: the machine goes on when its log cannot be
// written.
type lenient struct{ to io.Writer }

func (l lenient) Write(b []byte) (int, error) {
	_, _ = l.to.Write(b)
	return len(b), nil
}
