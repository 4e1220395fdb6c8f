// Package livetest has a scenario without machines, for tests of who asks one: its nodes' shells are this host's, their ports this host's own, and
// their files a folder's.
package livetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"

	"github.com/creack/pty"
)

// A Scenario is a live.Scenario with the nodes A and B, which are up, and C, which is down.
type Scenario struct {
	Stand live.Status
	Logs  map[string]*console.Log
	Files string // the folder that is / of every node

	// Began gets each line that Do is given, and Ended what became of it. Both have room for many.
	Began chan string
	Ended chan error

	mu        sync.Mutex
	over      chan struct{}
	followers map[*func(record.Event)]struct{}
	stepped   []string
	debuggers []*Debugger
}

// New returns one that is called so, whose nodes have their files in a folder.
func New(run, name, files string) *Scenario {
	s := &Scenario{
		Stand: live.Status{Run: run, Scenario: name, Started: time.Now().Add(-time.Minute).UTC(), Nodes: []live.NodeInfo{
			{Name: "A", Address: "10.42.0.10", State: "up"}, {Name: "B", Address: "10.42.0.11", State: "up"}, {Name: "C", Address: "10.42.0.12", State: "down"},
		}},
		Logs:  map[string]*console.Log{},
		Files: files, Began: make(chan string, 100), Ended: make(chan error, 100),
		over: make(chan struct{}), followers: map[*func(record.Event)]struct{}{},
	}
	for _, n := range s.Stand.Nodes {
		s.Logs[n.Name] = console.NewLog()
	}
	return s
}

// Status implements live.Scenario.
func (s *Scenario) Status() live.Status { return s.Stand }

// Do implements live.Scenario. It knows "say TEXT", "whisper TEXT", "hang",
// "fail", "flood N" and "where".
func (s *Scenario) Do(ctx context.Context, line string, tell func(record.Event)) (err error) {
	s.Began <- line
	defer func() { s.Ended <- err }()
	word, rest, _ := strings.Cut(line, " ")
	tell(record.Event{Kind: record.KindStepStart, Step: 1, Line: 1, Text: line, Typed: true})
	switch word {
	case "say":
		tell(record.Event{Kind: record.KindOutput, Step: 1, Stream: "stdout", Text: rest + "\n"})
	case "where":
		tell(record.Event{Kind: record.KindOutput, Step: 1, Stream: "stdout", Text: "it stands here\n"})
	case "whisper":
		tell(record.Event{Kind: record.KindOutput, Step: 1, Stream: "stderr", Text: rest + "\n"})
	case "hang":
		<-ctx.Done()
		return fmt.Errorf("hang was cut off: %w", context.Cause(ctx))
	case "fail":
		return &record.Failure{Reason: record.StepFailed, Text: line, Message: "it went wrong"}
	case "flood":
		var n int
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return err
		}
		for range n {
			tell(record.Event{Kind: record.KindOutput, Step: 1, Stream: "stdout", Text: strings.Repeat("x", 1023) + "\n"})
		}
	default:
		return scenario.Problems{{File: "prompt", Line: 1, Reason: fmt.Sprintf("unknown command %q", word)}}
	}
	return nil
}

// Complete implements live.Scenario.
func (s *Scenario) Complete(line string, pos int) (int, []string) {
	start := strings.LastIndexByte(line[:pos], ' ') + 1
	var words []string
	for _, w := range []string{"fail", "flood", "hang", "say"} {
		if strings.HasPrefix(w, line[start:pos]) {
			words = append(words, w)
		}
	}
	return start, words
}

// Follow implements live.Scenario.
func (s *Scenario) Follow(ctx context.Context, tell func(record.Event)) error {
	s.mu.Lock()
	s.followers[&tell] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.followers, &tell)
	}()
	select {
	case <-s.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Followers is how many follow.
func (s *Scenario) Followers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.followers)
}

// Emit tells those who follow of an event.
func (s *Scenario) Emit(e record.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tell := range s.followers {
		(*tell)(e)
	}
}

// Over ends the scenario for those who follow it.
func (s *Scenario) Over() { close(s.over) }

// Log implements live.Scenario.
func (s *Scenario) Log(node string) *console.Log { return s.Logs[node] }

// SteppedIn implements live.Scenario.
func (s *Scenario) SteppedIn(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stepped = append(s.stepped, what)
}

// Stepped is all that SteppedIn was told.
func (s *Scenario) Stepped() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stepped)
}

// Machine implements live.Scenario.
func (s *Scenario) Machine(node string) (live.Machine, error) {
	for _, n := range s.Stand.Nodes {
		if n.Name == node && n.State != "up" {
			return nil, fmt.Errorf("node %s is %s: `up %s` starts it", node, n.State, node)
		}
	}
	return machine{s.Files}, nil
}

type machine struct{ files string }

// hangUpWait is how long a program has to end when its terminal has hung up.
const hangUpWait = 5 * time.Second

// Shell implements live.Machine, on a real terminal.
func (m machine) Shell(ctx context.Context, s agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (agentapi.Exit, error) {
	argv := s.Argv
	if len(argv) == 0 {
		argv = []string{"sh"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TERM="+s.Term, "PS1=$ ")
	winsize := func(s agentapi.Size) *pty.Winsize { return &pty.Winsize{Rows: s.Rows, Cols: s.Cols} }
	terminal, err := pty.StartWithSize(cmd, winsize(s.Size))
	if err != nil {
		return agentapi.Exit{}, err
	}
	defer terminal.Close()
	ended := make(chan struct{})
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer close(ended)
	go func() { // ends with its reader, which the caller closes
		_, _ = io.Copy(terminal, in)
	}()
	helpers.Go(func() {
		for {
			select {
			case size := <-sizes:
				_ = pty.Setsize(terminal, winsize(size))
			case <-ctx.Done():
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
				select {
				case <-ended:
				case <-time.After(hangUpWait):
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				}
				return
			case <-ended:
				return
			}
		}
	})
	_, _ = io.Copy(out, terminal) // until nobody has the terminal any more, which is an error to read
	err = cmd.Wait()
	if ctx.Err() != nil {
		return agentapi.Exit{}, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return agentapi.Exit{}, err
	}
	return agentapi.Exit{Status: cmd.ProcessState.ExitCode()}, nil
}

// Dial implements live.Machine.
func (m machine) Dial(ctx context.Context, port uint16) (io.ReadWriteCloser, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// Push implements live.Machine.
func (m machine) Push(_ context.Context, src, dst string) error {
	return duplicate(src, filepath.Join(m.files, dst))
}

// Pull implements live.Machine.
func (m machine) Pull(_ context.Context, src, dst string) error {
	return duplicate(filepath.Join(m.files, src), dst)
}

func duplicate(src, dst string) error {
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, data, 0o644)
}

// QMP implements live.Machine: it returns what it was given, and "hang" waits for ctx.
func (m machine) QMP(ctx context.Context, command string, arguments json.RawMessage) (json.RawMessage, error) {
	switch command {
	case "hang":
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case "nothing":
		return nil, errors.New("CommandNotFound: the command nothing has not been found")
	}
	return json.Marshal(map[string]any{"command": command, "arguments": arguments})
}

// Dump implements live.Machine.
func (m machine) Dump(_ context.Context, file string) error {
	return os.WriteFile(file, []byte("\x7fELF"), 0o600)
}

// Stacks implements live.Machine.
func (m machine) Stacks(_ context.Context, program string) ([]byte, error) {
	if program != "dsoftbusd" {
		return nil, fmt.Errorf("%s does not run", program)
	}
	return []byte("goroutine 1 [running]:\nmain.main()\n"), nil
}
