package node

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agent"
	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/nodes/stacks"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// newTestWorld returns a world whose node A has a real machine that does nothing, and in place of that machine's agent one that runs on the host. Node B
// is not up.
func newTestWorld(t *testing.T) *World {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	rec, err := record.CreateScenario(t.TempDir(), "test", "test", func(record.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rec.Close() })
	w := &World{cfg: Config{Record: rec, Slowdown: 1}, failed: func(*scenario.NodeError) {}}
	for _, name := range []string{"A", "B"} {
		files, err := rec.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, &Node{world: w, name: name, files: files, log: console.NewLog()})
	}
	// The firmware is enough; a machine that is not resumed does not even look for a kernel's code.
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, multiboot(), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := machine.Start(context.WithoutCancel(t.Context()), machine.Spec{Name: t.Name(), Memory: 32, Hardware: machine.Hardware{QEMU: qemu, Accel: "tcg", Kernel: kernel, Initrd: kernel}}, machine.Files{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range m.Events() {
		}
	}()
	near, far := net.Pipe()
	s := &agent.Server{Journal: journal.NewWriter(io.Discard, func() time.Duration { return 0 }), Supervisor: agent.NewSupervisor(),
		Stacks: stacks.NewAsker(filepath.Join(t.TempDir(), "stacks")).Ask}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(context.Background(), far)
	}()
	w.nodes[0].life = &life{machine: m, agent: guest.New(near)}
	t.Cleanup(func() {
		w.Close()
		far.Close()
		<-served
	})
	return w
}

// multiboot is a kernel file that QEMU accepts.
func multiboot() []byte {
	image := make([]byte, 512)
	for i, v := range []uint32{0x1BADB002, 0x10000, 0xE4514FFE, 0x100000, 0x100000, 0x100200, 0x100200, 0x100040} {
		image[4*i], image[4*i+1], image[4*i+2], image[4*i+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	return image
}

func TestMachine(t *testing.T) {
	w := newTestWorld(t)
	for name, want := range map[string]string{"B": "node B is not up; `up B`", "C": "there is no node C"} {
		if m, err := w.Machine(name); m != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	m, err := w.Machine("A")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if exit, err := m.Shell(t.Context(), agentapi.Shell{Argv: []string{"sh", "-c", "test -t 1 && echo terminal; exit 3"}}, strings.NewReader(""), &out, nil); err != nil || exit.Status != 3 || out.String() != "terminal\r\n" {
		t.Errorf("shell: %+v, %v, %q", exit, err, out.String())
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := conn.(interface{ CloseWrite() error }); !ok {
		t.Error("a connection without a half-close")
	}
	conn.Close()
	l.Close()
	if conn, err := m.Dial(t.Context(), port); conn != nil || err == nil || !strings.Contains(err.Error(), "node A: ") {
		t.Errorf("dial of nobody: %v, %v", conn, err)
	}
	if text, err := m.Stacks(t.Context(), agentapi.AgentUnit); err != nil || !strings.Contains(string(text), "TestMachine(") {
		t.Errorf("stacks: %v:\n%s", err, text)
	}
	if got, err := m.QMP(t.Context(), "query-status", nil); err != nil || !strings.Contains(string(got), `"prelaunch"`) {
		t.Errorf("QMP: %s, %v", got, err)
	}
	if got, err := m.QMP(t.Context(), "human-monitor-command", json.RawMessage(`{"command-line":"info version"}`)); err != nil || len(got) < 3 {
		t.Errorf("QMP with arguments: %s, %v", got, err)
	}
	if _, err := m.QMP(t.Context(), "dance", nil); err == nil || !strings.Contains(err.Error(), "node A: QMP dance") {
		t.Errorf("unknown QMP: %v", err)
	}
	// A paused node has nobody to talk to, but still a machine.
	n := w.find("A")
	n.setPaused(n.life, true)
	if m, err = w.Machine("A"); err != nil {
		t.Fatalf("a paused node: %v", err)
	}
	if _, err := m.Stacks(t.Context(), agentapi.AgentUnit); err == nil || !strings.Contains(err.Error(), "`resume A`") {
		t.Errorf("stacks of a paused node: %v", err)
	}
	file := filepath.Join(t.TempDir(), "core")
	if err := m.Dump(t.Context(), file); err != nil {
		t.Error(err)
	}
	core(t, file)
	if err := m.Dump(t.Context(), file); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over a file: %v", err)
	}
	n.life.machine.Kill()
	var classed *scenario.NodeError
	if _, err := m.QMP(t.Context(), "query-status", nil); !errors.As(err, &classed) || classed.Reason != record.NodeExited {
		t.Errorf("QMP of a machine that has ended: %v", err)
	}
	if _, err := w.Machine("A"); err == nil {
		t.Error("a machine that has ended can be asked")
	}
}

// core checks that a file is one.
func core(t *testing.T, file string) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Type != elf.ET_CORE || !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_LOAD && p.Filesz > 0 }) {
		t.Errorf("%s: %v, %d segments", file, f.Type, len(f.Progs))
	}
}

func TestStacksOfAllNodes(t *testing.T) {
	w := newTestWorld(t)
	a := w.find("A")
	// What cannot answer is a warning, and no other has to wait for it.
	ctx, cancel := context.WithCancel(t.Context())
	up, out := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = a.life.agent.Exec(ctx, []string{"sh", "-c", "echo up; sleep 1000"}, out, io.Discard)
	}()
	defer func() { cancel(); <-ended }()
	if _, err := io.ReadFull(up, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := filepath.Join(dir, "A", "stacks-agent.txt")
	if got := w.Stacks(t.Context(), dir); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q", got)
	}
	if text, err := os.ReadFile(want); err != nil || !strings.Contains(string(text), "TestStacksOfAllNodes(") {
		t.Errorf("%v:\n%s", err, text)
	}
	events, err := os.ReadFile(filepath.Join(w.cfg.Record.Dir(), record.EventsFile))
	if err != nil || !bytes.Contains(events, []byte("save goroutines: node A: goroutines of sh: ")) {
		t.Errorf("%v, events:\n%s", err, events)
	}
	// Of a kernel that has panicked nobody answers, and nobody is asked.
	a.add(console.Line{Unit: unitKernel, Text: "[    1.0] Kernel panic - not syncing: test"})
	if got := w.Stacks(t.Context(), t.TempDir()); len(got) != 0 {
		t.Errorf("after a panic: %q", got)
	}
}

func TestDumpPanicked(t *testing.T) {
	w := newTestWorld(t)
	if got := w.DumpPanicked(t.Context()); len(got) != 0 {
		t.Errorf("without a panic: %q", got)
	}
	w.find("A").add(console.Line{Unit: unitKernel, Text: "[    1.0] Kernel panic - not syncing: test"})
	want := filepath.Join(w.cfg.Record.Dir(), "A", "panic.core")
	if got := w.DumpPanicked(t.Context()); !slices.Equal(got, []string{want}) {
		t.Fatalf("got %q", got)
	}
	core(t, want)
	if got := w.DumpPanicked(t.Context()); len(got) != 0 {
		t.Errorf("a second time: %q", got)
	}
}
