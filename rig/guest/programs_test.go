package guest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/pace/pacetest"
)

func TestStacks(t *testing.T) {
	m := newStandIn(t)
	// The agent's own: it is this process.
	text, err := m.Stacks(t.Context(), agentapi.AgentUnit)
	if err != nil || !strings.Contains(string(text), "agent.(*Server).stacks") || !strings.Contains(string(text), "guest.TestStacks(") {
		t.Errorf("%v:\n%s", err, text)
	}
	if _, err := m.Stacks(t.Context(), "no-such-program"); err == nil || !strings.Contains(err.Error(), "no process is called no-such-program") {
		t.Errorf("of nobody: %v", err)
	}
}

// script makes a program called name that prints its arguments and runs until SIGTERM.
func script(t *testing.T, dir, name, says string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	content := "#!/bin/sh\necho " + says + " $*\nexec sleep 1000\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestServicesAndRestart(t *testing.T) {
	m := newStandIn(t)
	name := "unique-service"
	first, second := script(t, filepath.Join(t.TempDir(), "a"), name, "first"), script(t, filepath.Join(t.TempDir(), "b"), name, "second")
	services := func() []agentapi.Service {
		t.Helper()
		all, err := m.Services(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := services(); len(all) != 0 {
		t.Errorf("at first: %+v", all)
	}
	restart := func(file string) error { return m.Restart(t.Context(), name, file, pacetest.Limit(20*time.Second)) }
	if err := restart(""); err == nil || !strings.Contains(err.Error(), "never started here") {
		t.Errorf("restart of nothing: %v", err)
	}
	if err := m.Call(t.Context(), agentapi.MethodStart, agentapi.Start{Program: first, Args: []string{"x", "y z"}}, nil); err != nil {
		t.Fatal(err)
	}
	awaitJournal(t, m, name+"/stdout first x y z")
	all := services()
	if len(all) != 1 || all[0].Name != name || all[0].Program != first || !slices.Equal(all[0].Args, []string{"x", "y z"}) || all[0].PID == 0 ||
		!all[0].Running || !all[0].Supervised || all[0].Ended != "" {
		t.Errorf("running: %+v", all)
	}
	pid := all[0].PID
	// While it runs, with another file, and when it has ended.
	if err := restart(second); err != nil {
		t.Fatal(err)
	}
	awaitJournal(t, m, name+"/stdout second x y z")
	if all = services(); len(all) != 1 || all[0].Program != second || all[0].PID == pid || !all[0].Running {
		t.Errorf("restarted: %+v", all)
	}
	if err := m.Call(t.Context(), agentapi.MethodKill, agentapi.Kill{Program: name, Signal: "KILL"}, nil); err != nil {
		t.Fatal(err)
	}
	if all = services(); len(all) != 1 || all[0].Running || all[0].Ended != "signal: killed" {
		t.Errorf("killed: %+v", all)
	}
	if err := restart(""); err != nil {
		t.Fatal(err)
	}
	for what, file := range map[string]string{"must be called " + name: "/bin/sh", "no such file": filepath.Join(t.TempDir(), name)} {
		if err := restart(file); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("restart as %s: %v", file, err)
		}
	}
	if all = services(); len(all) != 1 || !all[0].Running || all[0].Program != second {
		t.Errorf("a restart that was refused ended it: %+v", all)
	}
	if err := m.Call(t.Context(), agentapi.MethodStop, agentapi.Stop{Program: name, Within: pacetest.Limit(20 * time.Second)}, nil); err != nil {
		t.Fatal(err)
	}
	if all = services(); len(all) != 1 || all[0].Running || all[0].Ended != "signal: terminated" {
		t.Errorf("stopped: %+v", all)
	}
}

// A program that a step runs is listed for as long as it does.
func TestServicesListWhatIsExecuted(t *testing.T) {
	m := newStandIn(t)
	ctx, cancel := context.WithCancel(t.Context())
	up, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = m.Exec(ctx, []string{"sh", "-c", "echo up; sleep 1000"}, w, io.Discard)
	}()
	if _, err := io.ReadFull(up, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	all, err := m.Services(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "sh" || all[0].Supervised || !all[0].Running || len(all[0].Args) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	cancel()
	<-ended
	if all, err = m.Services(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("afterwards: %+v, %v", all, err)
	}
}
