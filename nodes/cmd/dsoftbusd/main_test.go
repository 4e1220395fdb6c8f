package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/session"
)

// TestMain makes this test binary the command itself when a test starts it as such.
func TestMain(m *testing.M) {
	if os.Getenv("DSOFTBUSD_TEST_COMMAND") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func deviceOf(t *testing.T, id string) device.Device {
	key, err := session.NewKeyPair(sha256.Sum256([]byte(id)))
	if err != nil {
		t.Fatal(err)
	}
	return device.Device{ID: id, Key: key}
}

// process is a running command.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // standard output
	stderr *bytes.Buffer
}

func start(ctx context.Context, t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(ctx, os.Args[0], args...), lines: make(chan string, 100), stderr: new(bytes.Buffer)}
	p.cmd.Env = append(os.Environ(), "DSOFTBUSD_TEST_COMMAND=1")
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
	return p
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

// Two processes find each other by multicast on the loopback interface, one reads a file of the other, and SIGTERM ends
// both with status 0.
func TestTwoProcesses(t *testing.T) {
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
	packages := startPackages(ctx, t, dir)
	port := freeUDPPort(t)
	var nodes []*process
	for id, peer := range map[string]string{"node-a": "node-b", "node-b": "node-a"} {
		other := deviceOf(t, peer)
		pairing := device.Pairing{ID: peer, Key: other.Key.Public, Services: []string{device.ServicePackageFS}}
		if err := device.Save(filepath.Join(dir, id), deviceOf(t, id), []device.Pairing{pairing}); err != nil {
			t.Fatal(err)
		}
		p := start(ctx, t, "-config", filepath.Join(dir, id), "-socket", filepath.Join(dir, id+".sock"), "-packagefsd", packages,
			"-listen", ":0", "-announce-port", port, "-interface", "lo")
		nodes = append(nodes, p)
	}
	for _, p := range nodes {
		p.want(t, "dsoftbusd: ready")
	}
	c, err := remotefs.Dial(ctx, filepath.Join(dir, "node-a.sock"), "node-b", remotefs.Options{Wait: 30 * time.Second})
	if err != nil {
		for _, p := range nodes {
			p.cmd.Process.Kill()
			p.end()
			t.Logf("standard error:\n%s", p.stderr)
		}
		t.Fatal(err)
	}
	defer c.Close()
	if info, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil || info.Size() != 19 {
		t.Errorf("stat: %+v, %v", info, err)
	}
	for _, p := range nodes {
		p.cmd.Process.Signal(syscall.SIGTERM)
		if rest, status := p.end(); status != 0 {
			t.Errorf("exit status %d after %q; standard error:\n%s", status, rest, p.stderr)
		}
		if !strings.Contains(p.stderr.String(), "limits path=192 read=32768 handles=8") {
			t.Errorf("the limits were not printed:\n%s", p.stderr)
		}
	}
}

// startPackages runs the package service in this process and gives its socket.
func startPackages(ctx context.Context, t *testing.T, dir string) string {
	socket := filepath.Join(dir, "packagefsd.sock")
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- packagefsd.Run(ctx, packagefsd.Config{Root: filepath.Join(dir, "packages"), Socket: socket, Ready: func() { close(ready) }})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("package service: %v", err)
	}
	return socket
}

func freeUDPPort(t *testing.T) string {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port)
}

func TestUsage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	if err := device.Save(dir, deviceOf(t, "node-a"), nil); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"no-such-folder":        {"-config", "no-such-folder"},
		"unexpected argument":   {"extra"},
		"-group":                {"-config", dir, "-group", "nonsense"},
		"not an IPv4 multicast": {"-config", dir, "-group", "10.0.0.1", "-listen", ":0"},
		"-announce-port":        {"-config", dir, "-announce-port", "70000"},
		"listen for sessions":   {"-config", dir, "-listen", "256.0.0.1:1"},
		"read limit":            {"-config", dir, "-listen", ":0", "-announce-port", freeUDPPort(t), "-socket", filepath.Join(dir, "s"), "-pk-max-read", "70000"},
	} {
		p := start(ctx, t, args...)
		if rest, status := p.end(); status == 0 || len(rest) != 0 || !strings.Contains(p.stderr.String(), want) {
			t.Errorf("%q: status %d, printed %q, standard error %q; want %q in it", args, status, rest, p.stderr, want)
		}
	}
}
