package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/stacks"
	"dsoftbus-rig/protocol/session"
)

func deviceOf(t *testing.T, id string) device.Device {
	key, err := session.NewKeyPair(sha256.Sum256([]byte(id)))
	if err != nil {
		t.Fatal(err)
	}
	return device.Device{ID: id, Key: key}
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // standard output
	stderr *bytes.Buffer
}

// start starts the program called name as a machine does, by a link of its name.
func start(ctx context.Context, t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(ctx, filepath.Join(links, name), args...), lines: make(chan string, 100), stderr: new(bytes.Buffer)}
	p.run(t)
	return p
}

func (p *process) run(t *testing.T) {
	t.Helper()
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { p.cmd.Process.Kill() })
}

// want waits for a line, past others.
func (p *process) want(t *testing.T, line string) {
	t.Helper()
	for got := range p.lines {
		if got == line {
			return
		}
	}
	p.cmd.Wait()
	t.Fatalf("ended without the line %q; on standard error:\n%s", line, p.stderr)
}

// end takes the rest of the lines and gives the exit status.
func (p *process) end() (rest []string, status int) {
	for line := range p.lines {
		rest = append(rest, line)
	}
	p.cmd.Wait()
	return rest, p.cmd.ProcessState.ExitCode()
}

// Two dsoftbusd find each other by multicast on the loopback interface, pkgfs reads a file of one through the other, and
// SIGTERM ends every service with status 0. In a list of processes each has the name of its program.
func TestProcesses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "dsoftbusd") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.MkdirAll(filepath.Join(dir, "packages/system@1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "packages/system@1.0.0/build.prop"), []byte("ro.nexus.build=dev\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(dir, "packagefsd.sock")
	service := start(ctx, t, "packagefsd", "-root", filepath.Join(dir, "packages"), "-socket", packages)
	service.want(t, "packagefsd: ready")
	port := freeUDPPort(t)
	nodes := map[string]*process{}
	for id, peer := range map[string]string{"node-a": "node-b", "node-b": "node-a"} {
		other := deviceOf(t, peer)
		pairing := device.Pairing{ID: peer, Key: other.Key.Public, Services: []string{device.ServicePackageFS}}
		if err := device.Save(filepath.Join(dir, id), deviceOf(t, id), []device.Pairing{pairing}); err != nil {
			t.Fatal(err)
		}
		nodes[id] = start(ctx, t, "dsoftbusd", "-config", filepath.Join(dir, id), "-socket", filepath.Join(dir, id+".sock"), "-packagefsd", packages,
			"-listen", ":0", "-announce-port", port, "-interface", "lo")
	}
	for _, p := range nodes {
		p.want(t, "dsoftbusd: ready")
	}
	reader := start(ctx, t, "pkgfs", "-socket", filepath.Join(dir, "node-a.sock"), "-peer", "node-b", "-wait", "30s", "cat", "pkg:/system/build.prop")
	if lines, status := reader.end(); status != 0 || len(lines) != 1 || lines[0] != "ro.nexus.build=dev" {
		for id, p := range nodes {
			p.cmd.Process.Kill()
			p.end()
			t.Logf("standard error of %s:\n%s", id, p.stderr)
		}
		t.Fatalf("pkgfs ended with status %d, %q, %q", status, lines, reader.stderr)
	}
	for _, p := range nodes {
		p.terminate(t, "dsoftbusd")
		if !strings.Contains(p.stderr.String(), "limits path=192 read=32768 handles=8") {
			t.Errorf("the limits were not printed:\n%s", p.stderr)
		}
	}
	service.terminate(t, "packagefsd")
}

// terminate ends a service called name in order.
func (p *process) terminate(t *testing.T, name string) {
	t.Helper()
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
	if err != nil || strings.TrimSpace(string(comm)) != name {
		t.Errorf("%s is called %q, %v", name, comm, err)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if rest, status := p.end(); status != 0 {
		t.Errorf("%s: exit status %d after %q; standard error:\n%s", name, status, rest, p.stderr)
	}
}

// A program that is asked for its goroutines tells them, as often as it is asked, and runs on until it is ended.
func TestStacks(t *testing.T) {
	if stacksDir != stacks.Dir {
		t.Errorf("goroutines are told in %s, and looked for in %s", stacksDir, stacks.Dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// A name that nothing else on this host has: the program is the one that the first argument says.
	dir := t.TempDir()
	name := fmt.Sprintf("stk-%d", os.Getpid())
	if err := os.Symlink(filepath.Join(links, ownName), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	// Run by that name the program would be unknown; so the name that counts for it is given apart.
	cmd := exec.CommandContext(ctx, filepath.Join(dir, name))
	cmd.Args = []string{"netbench", "serve", "-listen", "127.0.0.1:0"}
	p := &process{cmd: cmd, lines: make(chan string, 100), stderr: new(bytes.Buffer)}
	p.run(t)
	p.want(t, "netbench: ready")
	asker := stacks.NewAsker(stacksOf(links))
	for range 3 {
		text, err := asker.Ask(ctx, name)
		if err != nil || !strings.Contains(string(text), "netbench.serve(") {
			t.Fatalf("%v:\n%s", err, text)
		}
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if rest, status := p.end(); status != 0 {
		t.Errorf("exit status %d after %q; standard error:\n%s", status, rest, p.stderr)
	}
}

// A binary that counts has written what has run when it answers, however it ends then.
func TestCoverage(t *testing.T) {
	dir, binary := t.TempDir(), filepath.Join(t.TempDir(), "node")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-cover", "-covermode=atomic", "-tags=covered",
		"-coverpkg=dsoftbus-rig/nodes/...", "-ldflags=-X main.stacksDir="+stacksOf(links), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "netbench", "serve", "-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "GOCOVERDIR="+dir)
	p := &process{cmd: cmd, lines: make(chan string, 100), stderr: new(bytes.Buffer)}
	p.run(t)
	p.want(t, "netbench: ready")
	counters := func() int {
		found, err := filepath.Glob(filepath.Join(dir, "covcounters.*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := counters(); n != 0 {
		t.Errorf("%d files of counters before anybody asked", n)
	}
	asker := stacks.NewAsker(stacksOf(links))
	for i := range 2 {
		if text, err := asker.AskProcess(t.Context(), p.cmd.Process.Pid); err != nil || !strings.Contains(string(text), "netbench.serve(") {
			t.Fatalf("%v:\n%s", err, text)
		}
		if n := counters(); n != i+1 {
			t.Errorf("%d files of counters after %d answers", n, i+1)
		}
	}
	p.cmd.Process.Kill()
	p.end()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "covdata", "percent", "-pkg=dsoftbus-rig/nodes/cmd/netbench", "-i="+dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "% of statements") || strings.Contains(string(out), "\t0.0%") || strings.Contains(string(out), " 0.0%") {
		t.Errorf("what was counted: %s, %v; standard error:\n%s", out, err, p.stderr)
	}
}

// What ends a program's context is said by name, and counts as an interrupt.
func TestHandleSignals(t *testing.T) {
	ctx, stop := handleSignals(t.Context(), io.Discard)
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); cause.Error() != "interrupt signal received" || !errors.Is(cause, context.Canceled) {
		t.Errorf("cause %v", cause)
	}
	ctx, stop = handleSignals(t.Context(), io.Discard)
	stop()
	if cause := context.Cause(ctx); cause != context.Canceled {
		t.Errorf("stopped: %v", cause)
	}
}

func freeUDPPort(t *testing.T) string {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port)
}
