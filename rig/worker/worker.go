// Package worker runs a job in a process of its own, which is this program again,
// in fresh namespaces: network and PID always, user too when not root.
//
// It owns the process: whichever way the worker ends, everything it started ends
// with it, because it is the first process of its PID namespace; and whichever
// way its parent ends, the worker ends too. It never knows what a job does.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/lan"
)

// Command is the hidden subcommand under which a program calls Main.
const Command = "worker"

// grace is how long a worker has, after it was asked to end, before it is killed.
// Together with the killing it keeps an interrupted run's end within a second.
const grace = 700 * time.Millisecond

// stderrTail is how much of a worker's stderr is kept, in bytes: a Go panic with
// its first goroutines.
const stderrTail = 16 << 10

// File descriptors of the worker, in the order of exec.Cmd.ExtraFiles.
const (
	fdJob   = iota + 3 // a JSON job, then nothing: its end says that the parent is gone
	fdOut              // what the job tells
	fdGiven            // the first of what the parent gives
)

// ErrInterrupted is the cause of a job's context when the worker was asked to end.
var ErrInterrupted = errors.New("interrupted")

// ErrOutOfTime is the cause of a job's context when the worker was asked to end
// because there is no more time. It is so when it is in the cause of the context
// that the worker was started with.
var ErrOutOfTime = errors.New("out of time")

// endSignal asks a worker to end, and says why.
func endSignal(ctx context.Context) os.Signal {
	if errors.Is(context.Cause(ctx), ErrOutOfTime) {
		return syscall.SIGALRM
	}
	return syscall.SIGTERM
}

// A Handler carries out one kind of job. out is read by the parent as it is
// written.
type Handler func(ctx context.Context, job json.RawMessage, out io.Writer) error

// request is what the parent sends.
type request struct {
	Kind  string          `json:"kind"`
	Job   json.RawMessage `json:"job"`
	Given int             `json:"given,omitempty"` // how many files come along
}

// A Process is a worker, seen from its parent.
type Process struct {
	cmd    *exec.Cmd
	out    *os.File
	alive  *os.File
	stderr *console.Tail
	done   chan struct{}
	err    error // valid after done
}

// Start starts a worker on a job, which finds the files that come along by Given;
// the parent's stay its own. When ctx ends the worker is asked to end, and
// killed when it does not within 700 ms.
func Start(ctx context.Context, kind string, job any, given ...*os.File) (*Process, error) {
	data, err := json.Marshal(job)
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	line, err := json.Marshal(request{Kind: kind, Job: data, Given: len(given)})
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	jobR, jobW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	defer jobR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		jobW.Close()
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	defer outW.Close()
	p := &Process{out: outR, alive: jobW, stderr: &console.Tail{Max: stderrTail}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, self, Command)
	p.cmd.ExtraFiles = append([]*os.File{jobR, outW}, given...)
	p.cmd.Stderr = p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(endSignal(ctx)) }
	p.cmd.WaitDelay = grace
	p.cmd.SysProcAttr = attributes()
	// The kernel ties "die with your parent" to the thread that started the
	// child, so that thread stays until the child has ended.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		outR.Close()
		jobW.Close()
		if why := lan.CheckNamespaces(ctx); why != nil {
			return nil, fmt.Errorf("start a worker: %w", why)
		}
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	if _, err := jobW.Write(append(line, '\n')); err != nil {
		p.Kill()
		_ = p.Wait()
		return nil, fmt.Errorf("give the worker its job: %w", err)
	}
	return p, nil
}

// attributes puts a worker into namespaces of its own, and into a session of its
// own, so that Ctrl-C reaches the parent alone: it decides what an interrupt means.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// Out is what the job tells. It must be read to its end before Wait.
func (p *Process) Out() io.Reader { return p.out }

// Pid is the worker's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the worker, and all it started, at once.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// Wait returns when the worker has ended and is cleaned up after. Its error says
// how it died, with the last of what it printed, or what its job's error was.
func (p *Process) Wait() error {
	<-p.done
	p.alive.Close()
	p.out.Close()
	// os/exec calls it an error when a process that was asked to end has done so.
	if p.err == nil || p.cmd.ProcessState != nil && p.cmd.ProcessState.Success() {
		return nil
	}
	said := p.stderr.String()
	if p.cmd.ProcessState != nil && p.cmd.ProcessState.ExitCode() == exitJob {
		return errors.New(strings.TrimSpace(said))
	}
	if said != "" {
		return fmt.Errorf("the worker died (%w); it said:\n%s", p.err, said)
	}
	return fmt.Errorf("the worker died (%w)", p.err)
}

// exitJob is the exit status of a worker whose job failed in an orderly way.
const exitJob = 10

// given are the files that came with the job.
var given []*os.File

// Given returns the file with that index, from 0, that the parent gave this worker
// along with its job; nil when it gave fewer.
func Given(i int) *os.File {
	if i < len(given) {
		return given[i]
	}
	return nil
}

// Main is the whole of a worker: it carries out the job it was started with and
// returns the exit status.
func Main(handlers map[string]Handler) int {
	jobPipe := os.NewFile(fdJob, "job")
	out := os.NewFile(fdOut, "out")
	if jobPipe == nil || out == nil {
		fmt.Fprintln(os.Stderr, "rig worker is started by rig itself")
		return 2
	}
	// The machines a job starts must not inherit them: a worker's end would go
	// unnoticed.
	syscall.CloseOnExec(fdJob)
	syscall.CloseOnExec(fdOut)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGALRM)
	go func() {
		if <-signals == syscall.SIGALRM {
			cancel(ErrOutOfTime)
		}
		cancel(ErrInterrupted)
	}()
	dec := json.NewDecoder(jobPipe)
	var req request
	if err := dec.Decode(&req); err != nil {
		fmt.Fprintln(os.Stderr, "rig worker is started by rig itself:", err)
		return 2
	}
	for i := range req.Given {
		syscall.CloseOnExec(fdGiven + i)
		given = append(given, os.NewFile(uintptr(fdGiven+i), "given"))
	}
	go func() {
		// The end of the pipe is the parent's end: nobody is left to tell, and
		// with this process all it started is gone.
		_, _ = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), jobPipe))
		os.Exit(1)
	}()
	handle, ok := handlers[req.Kind]
	if !ok {
		fmt.Fprintf(os.Stderr, "rig worker: no job of kind %q\n", req.Kind)
		return 2
	}
	if err := handle(ctx, req.Job, out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitJob
	}
	return 0
}
