package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// confined starts a machine in QEMU's sandbox, where this QEMU has one.
func confined(t *testing.T) *Machine {
	t.Helper()
	if err := CheckSandbox(t.Context(), qemu(t)); err != nil {
		t.Skipf("this QEMU cannot confine itself: %v", err)
	}
	kernel := bootSector(t)
	t.Setenv("RIG_SECRET", "token")
	m, err := start(t, func(s *Spec) { s.Kernel, s.Initrd, s.Sandbox = kernel, kernel, true })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// status returns a field of /proc/PID/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in the status of process %d", field, pid)
	return ""
}

// QEMU has no power of root's, no variable of the rig's, and a filter of system calls.
func TestConfined(t *testing.T) {
	m := confined(t)
	if got, want := status(t, m.Pid(), "Seccomp"), "2"; got != want {
		t.Errorf("QEMU's seccomp mode is %s, want %s (a filter)", got, want)
	}
	if got, want := status(t, m.Pid(), "NoNewPrivs"), "1"; got != want {
		t.Errorf("QEMU can gain privileges: NoNewPrivs is %s, want %s", got, want)
	}
	allowed := []string{fmt.Sprintf("%016x", 0), fmt.Sprintf("%016x", 1<<unix.CAP_DAC_READ_SEARCH)}
	for _, set := range []string{"CapEff", "CapPrm"} {
		if got := status(t, m.Pid(), set); !slices.Contains(allowed, got) {
			t.Errorf("QEMU's %s is %s, want one of %v", set, got, allowed)
		}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(environ), "RIG_SECRET") || !strings.Contains(string(environ), "PATH=") {
		t.Errorf("QEMU's environment is %q", environ)
	}
	// This process has what it had.
	if os.Geteuid() == 0 && status(t, os.Getpid(), "CapEff") == allowed[0] {
		t.Error("the rig has lost its own capabilities")
	}
}

// Whoever got hold of QMP still cannot have QEMU start a program.
func TestConfinedStartsNoProgram(t *testing.T) {
	m := confined(t)
	go func() {
		for range m.Events() {
		}
	}()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := m.Run(ctx, "migrate", map[string]string{"uri": "exec:touch " + mark}, nil)
	select { // the kernel ends a QEMU that tries
	case <-m.Done():
	case <-ctx.Done():
		t.Errorf("QEMU has not ended; migrate: %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("QEMU has started a program")
	}
}

// The connection for QMP has no name while the machine runs.
func TestMonitorHasNoName(t *testing.T) {
	m := idle(t)
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, m.address("qmp")) {
			t.Errorf("QMP has a name: %s", line)
		}
	}
	if !strings.Contains(string(sockets), m.address("control")) {
		t.Error("the list of sockets lacks the machine's others: nothing was looked at")
	}
}

func TestCheckSandbox(t *testing.T) {
	if err := CheckSandbox(t.Context(), program(t, "echo '-sandbox support is not enabled in this QEMU binary' >&2; exit 1")); err == nil ||
		!strings.Contains(err.Error(), "not enabled") {
		t.Errorf("got %v, want QEMU's own words", err)
	}
}
