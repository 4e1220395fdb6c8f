package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/coverage"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/nodes/stacks"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"
)

// A Server serves the control port.
type Server struct {
	Journal    *journal.Writer
	Supervisor *Supervisor
	Configure  func(agentapi.Identity) error
	Modules    int // kernel modules loaded at boot
	Impair     func(agentapi.Impairment) (before agentapi.ImpairmentStatistics, err error)
	Impairment func() (agentapi.ImpairmentStatistics, error)
	StepClock  func(agentapi.Step) (agentapi.Stepped, error)
	Stacks     func(ctx context.Context, program string) ([]byte, error) // of a running program; the agent's own are the server's to tell

	mu       sync.Mutex
	programs []*process // that exec runs now, in the order in which they began
}

// Serve serves one connection until it ends.
func (s *Server) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	in := bufio.NewReader(rw)
	if _, err := in.Peek(1); err != nil {
		return err
	}
	// The first entry the rig reads on a new connection: by it a program that
	// prints nothing, run on a machine that has printed nothing, is in step too.
	if err := s.Journal.Line(agentapi.AgentUnit, "stdout", []byte("the rig is connected"), false); err != nil {
		return err
	}
	session, err := yamux.Server(ahead{in, rw}, agentapi.Mux(log.Default()))
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(ctx)
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return err
		}
		handlers.Go(func() {
			defer stream.Close()
			s.stream(ctx, stream)
		})
	}
}

// ahead is a connection of which some has been read already.
type ahead struct {
	in *bufio.Reader
	io.ReadWriteCloser
}

func (a ahead) Read(b []byte) (int, error) { return a.in.Read(b) }

// stream serves one stream. Whoever opened it and is gone needs no answer, so
// errors of the stream itself are nobody's.
func (s *Server) stream(ctx context.Context, stream io.ReadWriter) {
	in := bufio.NewReader(stream)
	var r agentapi.Request
	line, err := readLine(in)
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		_ = answer(stream, nil, fmt.Errorf("request: %w", err))
		return
	}
	switch r.Method {
	case agentapi.MethodExec:
		s.exec(ctx, stream, in, r)
	case agentapi.MethodPut:
		put(stream, in, r)
	case agentapi.MethodGet:
		get(stream, r)
	case agentapi.MethodShell:
		s.shell(ctx, stream, in, r)
	case agentapi.MethodDial:
		dial(ctx, stream, in, r)
	case agentapi.MethodStacks:
		s.stacks(ctx, stream, in, r)
	default:
		result, err := s.call(ctx, r)
		_ = answer(stream, result, err)
	}
}

// readLine reads one line of at most agentapi.MaxRequest bytes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > agentapi.MaxRequest:
			return nil, fmt.Errorf("longer than %d bytes", agentapi.MaxRequest)
		}
	}
}

// answer sends a reply.
func answer(w io.Writer, result any, err error) error {
	reply := agentapi.Reply{}
	if err == nil && result != nil {
		reply.Result, err = json.Marshal(result)
	}
	if err != nil {
		reply.Error = err.Error()
		_, reply.NotStarted = errors.AsType[notStartedError](err)
	}
	line, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// decode reads the arguments of a request.
func decode(r agentapi.Request, into any) error {
	if err := json.Unmarshal(r.Args, into); err != nil {
		return fmt.Errorf("request of %s: %w", r.Method, err)
	}
	return nil
}

// call carries out a method that is answered and done.
func (s *Server) call(ctx context.Context, r agentapi.Request) (any, error) {
	if coverage.On && r.Method == agentapi.MethodCoverage {
		return covered(ctx)
	}
	switch r.Method {
	case agentapi.MethodInfo:
		return s.info()
	case agentapi.MethodConfigure:
		var data []byte
		if err := decode(r, &data); err != nil {
			return nil, err
		}
		var id agentapi.Identity
		if err := id.UnmarshalBinary(data); err != nil {
			return nil, err
		}
		return nil, s.Configure(id)
	case agentapi.MethodStart:
		var c agentapi.Start
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Start(s.Journal, c)
	case agentapi.MethodStop:
		var c agentapi.Stop
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Stop(ctx, c.Program, c.Within)
	case agentapi.MethodKill:
		var c agentapi.Kill
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Kill(c.Program, c.Signal)
	case agentapi.MethodRestart:
		var c agentapi.Restart
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Restart(ctx, s.Journal, c.Program, c.File, c.Within)
	case agentapi.MethodServices:
		return s.services(), nil
	case agentapi.MethodImpair:
		var c agentapi.Impairment
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return s.Impair(c)
	case agentapi.MethodImpairment:
		return s.Impairment()
	case agentapi.MethodClock:
		var c agentapi.Step
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return s.StepClock(c)
	}
	return nil, fmt.Errorf("the agent knows no call %q", r.Method)
}

func (s *Server) info() (agentapi.Info, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return agentapi.Info{}, fmt.Errorf("uname: %w", err)
	}
	return agentapi.Info{
		KernelRelease: unix.ByteSliceToString(u.Release[:]),
		Uptime:        monotonic(),
		Modules:       s.Modules,
	}, nil
}

// exec runs a program on a stream until it ends, or until the other side, or the
// connection, is gone.
func (s *Server) exec(ctx context.Context, stream io.Writer, in io.Reader, r agentapi.Request) {
	var e agentapi.Exec
	if err := decode(r, &e); err != nil {
		_ = answer(stream, nil, err)
		return
	}
	if answer(stream, nil, nil) != nil {
		return
	}
	out := agentapi.NewFrameWriter(stream)
	// The other side sends nothing more: the stream's end says that it is gone.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, in)
	}()
	unit := "exec"
	if len(e.Argv) > 0 {
		unit = filepath.Base(e.Argv[0])
	}
	exit := agentapi.Exit{}
	p, err := s.spawn(unit, e.Argv, out.Stream(agentapi.FrameStdout), out.Stream(agentapi.FrameStderr))
	if err != nil {
		exit.NotStarted = err.Error()
	} else {
		select {
		case <-p.done:
		case <-gone:
			_ = p.signal(unix.SIGKILL)
		case <-ctx.Done():
			_ = p.signal(unix.SIGKILL)
		}
		<-p.done
		s.unlist(p) // before anybody is told that it has ended
		exit.Status = status(p.cmd.ProcessState)
	}
	exit.JournalSeq = s.Journal.Seq()
	if data, err := json.Marshal(exit); err == nil {
		_ = out.WriteFrame(agentapi.FrameExit, data)
	}
}

// spawn starts a program that is listed from its first output on.
func (s *Server) spawn(unit string, argv []string, stdout, stderr io.Writer) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := spawn(s.Journal, unit, argv, stdout, stderr, (*exec.Cmd).Start)
	if err == nil {
		s.programs = append(s.programs, p)
	}
	return p, err
}

func (s *Server) unlist(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs = slices.DeleteFunc(s.programs, func(other *process) bool { return other == p })
}

// services lists the services, then the programs that run beside them.
func (s *Server) services() []agentapi.Service {
	all := s.Supervisor.Services()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.programs {
		all = append(all, p.service(false))
	}
	return all
}

// stacks sends the goroutines of a program on a stream.
func (s *Server) stacks(ctx context.Context, stream io.Writer, in io.Reader, r agentapi.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the other side sends nothing more: the stream's end says that it is gone
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	var c agentapi.Stacks
	err := decode(r, &c)
	var text []byte
	if err == nil && c.Program == agentapi.AgentUnit {
		text = stacks.All()
	} else if err == nil {
		text, err = s.Stacks(ctx, c.Program)
	}
	if answer(stream, nil, err) == nil && err == nil {
		sendFile(stream, bytes.NewReader(text))
	}
}

// monotonic is CLOCK_MONOTONIC: time since the machine's boot.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
