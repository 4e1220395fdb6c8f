package machine

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testSpec() Spec {
	return Spec{
		Hardware: Hardware{QEMU: "qemu-system-x86_64", Accel: "tcg", TSC: 2300000, Kernel: "/cache/vmlinux", Initrd: "/cache/set 1/initrd.cpio"},
		Name:     "A",
		MAC:      "52:54:00:00:00:0a",
	}
}

func TestCommandLine(t *testing.T) {
	kvm := testSpec()
	kvm.Accel = "kvm"
	kvm.Memory = 512
	bare := testSpec()
	bare.MAC, bare.TSC, bare.Append = "", 0, "loglevel=6"
	clone := testSpec()
	clone.RAM, clone.Incoming, clone.Handover = "/cache/save,1/ram", true, true
	covered := testSpec()
	covered.Cover = true
	recorded := testSpec()
	recorded.Recording = &Recording{Log: "/run,1/log.rr", Console: "/run,1/console", Journal: "/run,1/journal", Control: agentapi.ControlAddress{
		MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 0, 10}, Address: netip.MustParsePrefix("10.43.0.2/30"),
	}}
	for name, spec := range map[string]Spec{"recorded": recorded, "covered": covered, "tcg": testSpec(), "kvm": kvm, "bare": bare, "clone": clone} {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", name+".golden")
			got := strings.ReplaceAll(spec.CommandLine(), " -", " \\\n  -")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the command line changed; with -update the golden file follows.\ngot:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// What Quote writes, a shell reads as the same words.
func TestQuote(t *testing.T) {
	words := []string{"", "plain", "a b", "it's", `back\slash`, `"q"`, "$HOME", "*", "a\nb", "-append=x,y:z/@%+", "ümlaut"}
	var line []string
	for _, w := range words {
		line = append(line, Quote(w))
	}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+strings.Join(line, " ")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); strings.Join(got, "|") != strings.Join(words, "|") {
		t.Errorf("got %q, want %q", got, words)
	}
}

// qemu returns the emulator, without which there is nothing to test with.
func qemu(t *testing.T) string {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	return path
}

// start starts a real machine without a kernel: its firmware finds nothing to
// boot, which is enough to be talked to.
func start(t *testing.T, change func(*Spec)) (*Machine, error) {
	t.Helper()
	kernel := filepath.Join(t.TempDir(), "none")
	spec := testSpec()
	spec.QEMU, spec.Name, spec.MAC, spec.Kernel, spec.Initrd = qemu(t), t.Name(), "", kernel, kernel
	change(&spec)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := Start(context.WithoutCancel(ctx), spec, Files{}, io.Discard)
	if err == nil {
		t.Cleanup(m.Kill)
	}
	return m, err
}

// program writes a script that stands in for QEMU.
func program(t *testing.T, script string) string {
	name := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestStartFailures(t *testing.T) {
	tests := []struct {
		name   string
		qemu   func(*testing.T) string
		want   string
		exited bool
	}{
		{"no such program", func(*testing.T) string { return "/no/such/qemu" }, "no such file", false},
		{"QEMU refuses its arguments", qemu, "could not open kernel", true},
		{"QEMU complains and dies", func(t *testing.T) string { return program(t, "echo 'out of luck' >&2; exit 7") }, "out of luck", true},
		{"something else answers", func(t *testing.T) string {
			return program(t, `exec 3>&- ; echo 'I am no QEMU' >&2; exec sleep 0.1`)
		}, "I am no QEMU", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := start(t, func(s *Spec) { s.QEMU = tt.qemu(t) })
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrExited) != tt.exited {
				t.Fatalf("got %v (exited: %t)", err, errors.Is(err, ErrExited))
			}
		})
	}
}

// bootSector returns a kernel file QEMU accepts and that does nothing: a multiboot
// image whose code is one endless halt.
func bootSector(t *testing.T) string {
	t.Helper()
	image := make([]byte, 512)
	const magic, flags = 0x1BADB002, 0x00010000
	put := func(at int, v uint32) {
		image[at], image[at+1], image[at+2], image[at+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	put(0, magic)
	put(4, flags)
	sum := uint32(magic + flags)
	put(8, -sum)
	const base = 0x100000
	put(12, base)                              // header address
	put(16, base)                              // load address
	put(20, base+512)                          // end of data
	put(24, base+512)                          // end of bss
	put(28, base+64)                           // entry
	copy(image[64:], []byte{0xf4, 0xeb, 0xfd}) // hlt; jmp -1
	name := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(name, image, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func idle(t *testing.T) *Machine {
	t.Helper()
	kernel := bootSector(t)
	m, err := start(t, func(s *Spec) { s.Kernel, s.Initrd = kernel, kernel })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLife(t *testing.T) {
	m := idle(t)
	go func() {
		for range m.Events() {
		}
	}()
	var status struct{ Status string }
	query := func() string {
		t.Helper()
		if err := m.Run(t.Context(), "query-status", nil, &status); err != nil {
			t.Fatal(err)
		}
		return status.Status
	}
	if got := query(); got != "prelaunch" {
		t.Errorf("before Resume: %s", got)
	}
	for _, stream := range []string{"console", "control", "journal"} {
		defer m.Stream(stream).Close()
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(); got != "running" {
		t.Errorf("after Resume: %s", got)
	}
	if err := m.Run(t.Context(), "no-such-command", nil, nil); err == nil || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("unknown command: %v", err)
	}
	if m.Err() != nil {
		t.Errorf("it runs, but Err is %v", m.Err())
	}
	m.Kill()
	m.Kill()
	if err := m.Err(); !errors.Is(err, ErrExited) {
		t.Errorf("after Kill: %v", err)
	}
	if err := m.Run(t.Context(), "query-status", nil, nil); !errors.Is(err, ErrExited) {
		t.Errorf("QMP after Kill: %v", err)
	}
	if _, err := m.Stream("control").Read(make([]byte, 1)); err == nil {
		t.Error("the control stream is open after Kill")
	}
}

func TestEventsComeAndEnd(t *testing.T) {
	m := idle(t)
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context(), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context(), "quit", nil, nil); err != nil && !errors.Is(err, ErrExited) {
		t.Fatal(err)
	}
	var names []string
	for e := range m.Events() {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); !strings.HasPrefix(got, "RESUME STOP") {
		t.Errorf("events %s", got)
	}
	<-m.Done()
}

func TestDeathEndsEveryWait(t *testing.T) {
	m := idle(t)
	ended := make(chan error)
	go func() {
		_, err := m.Stream("console").Read(make([]byte, 1))
		ended <- err
	}()
	killed := exec.Command("kill", "-9", strconv.Itoa(m.Pid()))
	if err := killed.Run(); err != nil {
		t.Fatal(err)
	}
	<-m.Done()
	if err := <-ended; err == nil {
		t.Error("the console went on")
	}
	if err := m.Err(); !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("cause %v", err)
	}
}

func TestSocketsAreTheNamespacesOnly(t *testing.T) {
	m := idle(t)
	if _, err := net.Dial("unix", strings.TrimPrefix(m.address("control"), "@")); err == nil {
		t.Error("a socket lies in the file system")
	}
	_, err := start(t, func(s *Spec) { s.Name = m.spec.Name })
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second machine of that name: %v", err)
	}
}

func TestStderrIsKeptInFull(t *testing.T) {
	var log bytes.Buffer
	spec := testSpec()
	spec.Name = t.Name()
	spec.QEMU = program(t, "for i in 1 2 3; do echo line $i >&2; done; exit 1")
	if _, err := Start(t.Context(), spec, Files{}, &log); err == nil {
		t.Fatal("no error")
	}
	if log.String() != "line 1\nline 2\nline 3\n" {
		t.Errorf("log %q", log.String())
	}
}

func TestKillsForWantOfMemory(t *testing.T) {
	for text, want := range map[string]int{"nr_free_pages 1\noom_kill 17\nallocstall 0\n": 17, "nr_free_pages 1\n": 0, "": 0, "oom_kill x\n": 0} {
		if got := kills(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
