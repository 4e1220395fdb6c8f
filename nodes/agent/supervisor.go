package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"

	"golang.org/x/sys/unix"
)

// drainWait is how long after a program's end its output may stay open. A child
// it left behind can hold the pipe for ever; what it prints then is not the
// program's.
const drainWait = 200 * time.Millisecond

// A process is one program the agent runs, in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and its output is read
	err  error         // of Wait; valid after done
}

// spawn starts argv, without input. Every line it prints goes to the journal under
// unit, and whole to stdout and stderr, either of which may be nil.
func spawn(j *journal.Writer, unit string, argv []string, stdout, stderr io.Writer) (*process, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("run a program: no program named")
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
			return nil, fmt.Errorf("run %s: %w", argv[0], err)
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
	err := p.cmd.Start()
	for i := 1; i < len(ends); i += 2 {
		ends[i].Close()
	}
	if err != nil {
		ends[0].Close()
		ends[2].Close()
		readers.Wait()
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
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
	err := unix.Kill(-p.cmd.Process.Pid, sig)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// outcome says in words how the program ended.
func (p *process) outcome() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// status is the exit status; a program ended by a signal has 128 + its number,
// as a shell says it.
func (p *process) status() int {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
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
func (s *Supervisor) Start(j *journal.Writer, program string, args []string) error {
	name := filepath.Base(program)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.services[name]; ok {
		select {
		case <-old.done:
		default:
			return fmt.Errorf("start %s: it is running already (process %d); stop it first", name, old.cmd.Process.Pid)
		}
	}
	p, err := spawn(j, name, append([]string{program}, args...), nil, nil)
	if err != nil {
		return err
	}
	s.services[name] = p
	go func() {
		<-p.done
		_ = j.Line(agentapi.AgentUnit, "stdout", fmt.Appendf(nil, "%s ended: %s", name, p.outcome()), false)
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
		return nil, fmt.Errorf("%s was never started here (started: %s)", name, s.names())
	}
	select {
	case <-p.done:
		return nil, fmt.Errorf("%s is not running: it ended with %s", name, p.outcome())
	default:
		return p, nil
	}
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
