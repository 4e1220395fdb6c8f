package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
)

// lookedAt is for how long a person looks at a breakpoint here: longer than a session lives without a word (3 s), and than a peer is remembered (5 s).
const lookedAt = 6 * time.Second

// debugged is a scenario that goes on until somebody has debugged enough, and in which nobody may notice.
const debugged = `# Somebody debugs.
up
marker A 'session ok node-b'
exec A pkgfs -peer node-b cat pkg:/system/build.prop
marker -within 4m A '^enough$'
! marker -within 1ms -from start A 'session lost'
! marker -within 1ms -from start B 'session lost'

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

// unique makes a run's name one that no other test of this host has at the time.
func unique(name string) string { return fmt.Sprintf("%s-%d", name, os.Getpid()) }

// A debugger is `rig dlv` or `rig gdb`, which says how to connect.
type debuggerCommand struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	said    *bufio.Reader
	stderr  bytes.Buffer
}

func startDebugger(t *testing.T, run string, args ...string) *debuggerCommand {
	t.Helper()
	d := &debuggerCommand{t: t}
	d.cmd = exec.Command(rigBinary, append(append([]string{args[0], "-run", run, "-listen"}, args[1:]...), "-C", projectDir)...)
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
	d.said = bufio.NewReader(out)
	line, err := d.said.ReadString('\n')
	if err != nil {
		_ = d.cmd.Wait()
		t.Fatalf("%s says %q, %v\n%s", args[0], line, err, &d.stderr)
	}
	if d.address = socketPath.FindString(line); d.address == "" {
		t.Fatalf("no socket in %q", line)
	}
	return d
}

// socketPath is what a debugger's client connects to, in the line that says how.
var socketPath = regexp.MustCompile(`/[^ ':]*/rig-[0-9]+/socket`)

// dial connects to the debugger, as its client does.
func (d *debuggerCommand) dial() net.Conn {
	d.t.Helper()
	conn, err := net.Dial("unix", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	return conn
}

// ends waits until it has let go.
func (d *debuggerCommand) ends() {
	d.t.Helper()
	if _, err := io.Copy(io.Discard, d.said); err != nil {
		d.t.Error(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("%v\n%s", err, &d.stderr)
	}
}

// do gives a run a line, from another terminal, and returns what came of it when that is wanted.
func doIn(run, line string) func() (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(rigBinary, "do", "-run", run, line)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	return func() (string, error) {
		if err != nil {
			return "", err
		}
		err := cmd.Wait()
		return out.String(), err
	}
}

// goesOn has the scenario end, in which nobody may have noticed.
func goesOn(t *testing.T, r *rigRun, run string) {
	t.Helper()
	_, _ = doIn(run, "exec A echo enough")() // it may end before that is told
	r.await("REPAIRED test")
	r.end()
}

func states(t *testing.T, run string) string {
	t.Helper()
	out, err := exec.Command(rigBinary, "ps").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, run) {
			return line
		}
	}
	t.Fatalf("%s is not alive:\n%s", run, out)
	return ""
}

// A read that hits a breakpoint in the peer's daemon succeeds after it, however long one has looked: no timeout of either side has fired.
func TestReadThroughABreakpoint(t *testing.T) {
	run := unique("read-through-a-breakpoint")
	r := startRun(t, debugged, "-name", run)
	r.await("marker -within 4m")
	d := startDebugger(t, run, "dlv", "B", "dsoftbusd")
	delve := jsonrpc.NewClient(d.dial())
	defer delve.Close()
	type breakpoint struct {
		ID           int    `json:"id,omitempty"`
		FunctionName string `json:"functionName,omitempty"`
		Line         int    `json:"line,omitempty"`
	}
	type command struct {
		Name string `json:"name"`
	}
	var stopped struct {
		State struct {
			CurrentThread struct {
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			} `json:"currentThread"`
		}
	}
	const function = "dsoftbus-rig/nodes/dsoftbusd.(*server).read"
	var made struct{ Breakpoint breakpoint }
	if err := errors.Join(
		delve.Call("RPCServer.Command", command{"halt"}, &struct{}{}),
		delve.Call("RPCServer.CreateBreakpoint", struct{ Breakpoint breakpoint }{breakpoint{FunctionName: function, Line: -1}}, &made),
	); err != nil {
		t.Fatal(err)
	}
	until := delve.Go("RPCServer.Command", command{"continue"}, &stopped, nil)
	read := doIn(run, "exec A pkgfs -peer node-b cat pkg:/system/build.prop")
	if <-until.Done; until.Error != nil || stopped.State.CurrentThread.Function.Name != function {
		t.Fatalf("stopped in %q, %v", stopped.State.CurrentThread.Function.Name, until.Error)
	}
	time.Sleep(lookedAt)
	if line := states(t, run); !strings.Contains(line, "A frozen, B frozen") {
		t.Errorf("while somebody looks: %s", line)
	}
	if err := delve.Call("RPCServer.ClearBreakpoint", map[string]int{"Id": made.Breakpoint.ID}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	delve.Go("RPCServer.Command", command{"continue"}, &struct{}{}, nil)
	if out, err := read(); err != nil || out != "ro.nexus.build=dev\n" {
		t.Errorf("the read through the breakpoint: %v\n%s", err, out)
	}
	if err := delve.Close(); err != nil {
		t.Error(err)
	}
	d.ends()
	if line := states(t, run); !strings.Contains(line, "A up, B up") {
		t.Errorf("afterwards: %s", line)
	}
	goesOn(t, r, run)
}

// A program that is started anew under the debugger stands before its main
// function, and has done nothing yet.
func TestFromTheStart(t *testing.T) {
	run := unique("from-the-start")
	r := startRun(t, "# Somebody debugs.\nup\nmarker A 'session ok node-b'\nmarker -within 4m A '^enough$'\n", "-name", run)
	r.await("marker -within 4m")
	d := startDebugger(t, run, "dlv", "-fresh", "B", "dsoftbusd")
	delve := jsonrpc.NewClient(d.dial())
	defer delve.Close()
	const function = "main.main"
	var stopped struct {
		State struct {
			CurrentThread struct {
				Function struct {
					Name string `json:"name"`
				} `json:"function"`
			} `json:"currentThread"`
		}
	}
	if err := errors.Join(
		delve.Call("RPCServer.CreateBreakpoint", map[string]any{"Breakpoint": map[string]any{"functionName": function, "line": -1}}, &struct{}{}),
		delve.Call("RPCServer.Command", map[string]string{"name": "continue"}, &stopped),
	); err != nil {
		t.Fatal(err)
	}
	if got := stopped.State.CurrentThread.Function.Name; got != function {
		t.Errorf("it stands in %q, want %s", got, function)
	}
	if err := delve.Close(); err != nil {
		t.Error(err)
	}
	d.ends()
	goesOn(t, r, run)
}

// The same for the kernel, by the protocol of gdb.
func TestKernelInGDB(t *testing.T) {
	run := unique("kernel-in-gdb")
	r := startRun(t, debugged, "-name", run)
	r.await("marker -within 4m")
	d := startDebugger(t, run, "gdb", "A")
	conn := d.dial()
	in := bufio.NewReader(conn)
	// packet sends one, and answers returns the next.
	packet := func(text string) {
		t.Helper()
		sum := byte(0)
		for i := range len(text) {
			sum += text[i]
		}
		if _, err := fmt.Fprintf(conn, "$%s#%02x", text, sum); err != nil {
			t.Fatal(err)
		}
	}
	answers := func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(aliveLimit)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadString('$'); err != nil {
			t.Fatal(err)
		}
		text, err := in.ReadString('#')
		if err == nil {
			_, err = in.Discard(2)
		}
		if err == nil {
			_, err = conn.Write([]byte{'+'})
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(text, "#")
	}
	packet("?")
	if got := answers(); !strings.HasPrefix(got, "T0") {
		t.Fatalf("it stands because of %q", got)
	}
	read := doIn(run, "exec A pkgfs -peer node-b cat pkg:/system/build.prop")
	time.Sleep(lookedAt)
	if line := states(t, run); !strings.Contains(line, "A frozen, B frozen") {
		t.Errorf("while somebody looks: %s", line)
	}
	packet("c")
	if out, err := read(); err != nil || out != "ro.nexus.build=dev\n" {
		t.Errorf("the read meanwhile: %v\n%s", err, out)
	}
	// Ctrl-C, and then gdb hangs up: all goes on.
	if _, err := conn.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if got := answers(); !strings.HasPrefix(got, "T0") {
		t.Errorf("it stands because of %q", got)
	}
	conn.Close()
	if out, err := doIn(run, "exec A pkgfs -peer node-b cat pkg:/system/build.prop")(); err != nil || out != "ro.nexus.build=dev\n" {
		t.Errorf("a read afterwards: %v\n%s", err, out)
	}
	goesOn(t, r, run)
}

// Whatever is looked at when a run is killed, all of it ends with the run, and nothing is left.
func TestEverythingEndsWithTheRun(t *testing.T) {
	run := unique("killed-while-it-is-looked-at")
	r := startRun(t, debugged, "-name", run)
	r.await("marker -within 4m")
	d := startDebugger(t, run, "dlv", "B", "dsoftbusd")
	s := onTerminal(t, t.TempDir(), "attach", "-run", run, "A")
	s.Shows(`\$ `)
	journal := exec.Command(rigBinary, "journal", "-f", "-run", run, "B")
	lines, err := journal.StdoutPipe()
	if err == nil {
		err = journal.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Process.Kill(); _ = journal.Wait() })
	if _, err := bufio.NewReader(lines).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	processes, machines := offspring(t, r.cmd.Process.Pid)
	if len(machines) != 2 {
		t.Fatalf("%d machines", len(machines))
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, processes)
	s.Ends(record.ExitBroken)
	_, _ = io.Copy(io.Discard, d.said)
	for name, cmd := range map[string]*exec.Cmd{"dlv": d.cmd, "journal": journal} {
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != record.ExitBroken {
			t.Errorf("%s ended with %d", name, cmd.ProcessState.ExitCode())
		}
	}
	all, err := live.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.PID == r.cmd.Process.Pid {
			t.Errorf("there is still a socket %s", a.Name)
		}
	}
}
