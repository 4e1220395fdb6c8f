package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/coverage"
	"dsoftbus-rig/nodes/journal"

	"golang.org/x/sys/unix"
)

// drainWait is how long after a program's end its output may stay open. A child
// it left behind can hold the pipe for ever; what it prints then is not the
// program's.
const drainWait = 200 * time.Millisecond

// A process is one program the agent runs, in a process group of its own.
type process struct {
	cmd   *exec.Cmd
	done  chan struct{} // closed when the program has ended and its output is read
	err   error         // of Wait; valid after done
	asked atomic.Bool   // it was sent a signal
}

// notStartedError says that a program never ran, which is another thing than one
// that ran and failed.
type notStartedError struct{ error }

// Unwrap returns why it never ran.
func (e notStartedError) Unwrap() error { return e.error }

// spawn starts argv by start, without input. Every line it prints goes to the
// journal under unit, and whole to stdout and stderr, either of which may be nil.
// The error is a notStartedError.
func spawn(j *journal.Writer, unit string, argv []string, stdout, stderr io.Writer, start func(*exec.Cmd) error) (*process, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, notStartedError{errors.New("run a program: no program named")}
	}
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = "/"
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var readers sync.WaitGroup
	var ends []*os.File
	for _, s := range []struct {
		name string
		to   io.Writer
		at   *io.Writer
	}{{"stdout", stdout, &p.cmd.Stdout}, {"stderr", stderr, &p.cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, notStartedError{fmt.Errorf("run %s: %w", argv[0], err)}
		}
		*s.at = w
		ends = append(ends, r, w)
		var source io.Reader = r
		if s.to != nil {
			source = io.TeeReader(r, &lenient{w: s.to})
		}
		readers.Go(func() {
			// A journal that cannot be written any more must not stop the
			// program: it is drained all the same.
			_ = journal.Split(source, func(line []byte, more bool) { _ = j.Line(unit, s.name, line, more) })
		})
	}
	err := start(p.cmd)
	for i := 1; i < len(ends); i += 2 {
		ends[i].Close()
	}
	if err != nil {
		ends[0].Close()
		ends[2].Close()
		readers.Wait()
		return nil, notStartedError{fmt.Errorf("run %s: %w", argv[0], err)}
	}
	go func() {
		p.err = p.cmd.Wait()
		expired := time.AfterFunc(drainWait, func() {
			ends[0].SetReadDeadline(time.Now())
			ends[2].SetReadDeadline(time.Now())
		})
		readers.Wait()
		expired.Stop()
		ends[0].Close()
		ends[2].Close()
		close(p.done)
	}()
	return p, nil
}

// startStopped starts cmd and leaves its program stopped before the first
// instruction: the kernel stops a traced program as soon as it has been loaded,
// and the SIGSTOP that is pending then takes over when the tracer lets go.
func startStopped(cmd *exec.Cmd) error {
	// The tracer is the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Wait4(pid, &ws, unix.WALL, nil)
	}
	if err == nil && !ws.Stopped() {
		err = fmt.Errorf("it has ended (wait status %#x)", uint32(ws))
	}
	if err == nil {
		err = unix.Kill(pid, unix.SIGSTOP)
	}
	if err == nil {
		err = unix.PtraceDetach(pid)
	}
	if err != nil {
		// Their errors only say that it is gone.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("stop it before its first instruction: %w", err)
	}
	return nil
}

// lenient is a writer that swallows after its first error: a reader that went
// away must not stop the program that prints.
type lenient struct {
	w   io.Writer
	err error // the first one
}

func (l *lenient) Write(b []byte) (int, error) {
	if l.err == nil {
		_, l.err = l.w.Write(b)
	}
	return len(b), nil
}

// signal sends sig to the program's whole process group.
func (p *process) signal(sig unix.Signal) error {
	if coverage.On {
		lastWill(p.cmd.Process.Pid, sig)
	}
	p.asked.Store(true)
	err := unix.Kill(-p.cmd.Process.Pid, sig)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// outcome says in words how a program ended, by the error of its Wait.
func outcome(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// status is the exit status; a program ended by a signal has 128 + its number,
// as a shell says it.
func status(p *os.ProcessState) int {
	ws, ok := p.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.ExitCode()
}

// running reports whether the program has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// service says what became of the program.
func (p *process) service(supervised bool) agentapi.Service {
	s := agentapi.Service{
		Name: filepath.Base(p.cmd.Args[0]), Program: p.cmd.Args[0], Args: p.cmd.Args[1:], PID: p.cmd.Process.Pid,
		Supervised: supervised, Running: p.running(),
	}
	if !s.Running {
		s.Ended = outcome(p.err)
	}
	return s
}

// A Supervisor holds the services of the machine, at most one of each name.
type Supervisor struct {
	mu       sync.Mutex
	services map[string]*process
}

// NewSupervisor returns a supervisor without services.
func NewSupervisor() *Supervisor {
	return &Supervisor{services: map[string]*process{}}
}

// Start starts a program as a service under its base name.
func (s *Supervisor) Start(j *journal.Writer, start agentapi.Start) error {
	how := (*exec.Cmd).Start
	if start.Stopped {
		how = startStopped
	}
	name := filepath.Base(start.Program)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.services[name]; ok && old.running() {
		return fmt.Errorf("start %s: it is running already (process %d); stop it first", name, old.cmd.Process.Pid)
	}
	p, err := spawn(j, name, append([]string{start.Program}, start.Args...), nil, nil, how)
	if err != nil {
		return err
	}
	s.services[name] = p
	go func() {
		<-p.done
		stream := "stdout"
		if p.err != nil && !p.asked.Load() && !start.Tool {
			stream = agentapi.TroubleStream
		}
		_ = j.Line(agentapi.AgentUnit, stream, fmt.Appendf(nil, "%s%s%s", name, agentapi.EndedText, outcome(p.err)), false)
	}()
	return nil
}

// running returns the service of that name.
func (s *Supervisor) running(program string) (*process, error) {
	name := filepath.Base(program)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.services[name]
	if !ok {
		return nil, notStartedError{fmt.Errorf("%s was never started here (started: %s)", name, s.names())}
	}
	if !p.running() {
		return nil, fmt.Errorf("%s is not running: it ended with %s", name, outcome(p.err))
	}
	return p, nil
}

// Restart starts a service again, which was started before and may run: it is stopped
// then. It has the arguments it had last, and is the program it was unless file
// names another.
func (s *Supervisor) Restart(ctx context.Context, j *journal.Writer, program, file string, within time.Duration) error {
	name := filepath.Base(program)
	s.mu.Lock()
	p, ok := s.services[name]
	started := s.names()
	s.mu.Unlock()
	if !ok {
		return notStartedError{fmt.Errorf("restart: %s was never started here (started: %s)", name, started)}
	}
	if file == "" {
		file = p.cmd.Args[0]
	}
	// Programs of the rig are the one whose name they are run by.
	if filepath.Base(file) != name {
		return fmt.Errorf("restart %s as %s: the file must be called %s, too; copy it to a folder of its own", name, file, name)
	}
	// Before the old one is gone for it.
	if _, err := exec.LookPath(file); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	if p.running() {
		if err := s.Stop(ctx, name, within); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	return s.Start(j, agentapi.Start{Program: file, Args: p.cmd.Args[1:]})
}

// Services returns what became of each service, by name.
func (s *Supervisor) Services() []agentapi.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []agentapi.Service
	for _, p := range s.services {
		all = append(all, p.service(true))
	}
	slices.SortFunc(all, func(a, b agentapi.Service) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// names lists the services; s.mu is held.
func (s *Supervisor) names() string {
	if len(s.services) == 0 {
		return "nothing"
	}
	var names []string
	for name := range s.services {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Sprint(names)
}

// Stop ends a service with SIGTERM and waits for its end. A service that does
// not end within the time is killed, and that is an error.
func (s *Supervisor) Stop(ctx context.Context, program string, within time.Duration) error {
	p, err := s.running(program)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := p.signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", program, err)
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		if err := p.signal(unix.SIGKILL); err != nil {
			return fmt.Errorf("kill %s: %w", program, err)
		}
		<-p.done
		return fmt.Errorf("stop %s: it did not end within %s of SIGTERM and was killed", program, within)
	}
}

// Kill sends a signal to a service and, for SIGKILL, waits until it is gone.
func (s *Supervisor) Kill(program, signal string) error {
	sig, err := parseSignal(signal)
	if err != nil {
		return fmt.Errorf("kill %s: %w", program, err)
	}
	p, err := s.running(program)
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if err := p.signal(sig); err != nil {
		return fmt.Errorf("kill %s: %w", program, err)
	}
	if sig == unix.SIGKILL {
		<-p.done
	}
	return nil
}
