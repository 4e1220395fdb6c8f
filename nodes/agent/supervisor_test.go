package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"

	"golang.org/x/sys/unix"
)

// A program that is started stopped is itself already, and has done nothing
// yet. SIGCONT lets it run, and nothing is left that would stop it again.
func TestStartStopped(t *testing.T) {
	var out lockedBuffer
	s := NewSupervisor()
	j := journal.NewWriter(&out, func() time.Duration { return 0 })
	const text = "it runs"
	if err := s.Start(j, agentapi.Start{Program: "/bin/echo", Args: []string{text}, Stopped: true}); err != nil {
		t.Fatal(err)
	}
	p := s.services["echo"]
	t.Cleanup(func() { _ = p.signal(unix.SIGKILL) })
	pid := p.cmd.Process.Pid
	for state := ""; state != "T"; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(stat), "(echo) ")
		if state, _, _ = strings.Cut(after, " "); state == "Z" || state == "" {
			t.Fatalf("it is not stopped: %s", stat)
		}
	}
	if said := out.String(); strings.Contains(said, text) {
		t.Errorf("before it was let run it has said %s", said)
	}
	if err := s.Kill("echo", "SIGCONT"); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if said := out.String(); !strings.Contains(said, text) || p.err != nil {
		t.Errorf("it ended with %v and said %q", p.err, said)
	}
}

func TestStartStoppedOfNoProgram(t *testing.T) {
	s := NewSupervisor()
	j := journal.NewWriter(io.Discard, func() time.Duration { return 0 })
	if err := s.Start(j, agentapi.Start{Program: "/bin/no-such-program", Stopped: true}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("it was started: %v", err)
	}
}

// A lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
