package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/pace/pacetest"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"

	"golang.org/x/sys/unix"
)

// Tests in this file boot real machines. Each of them runs the real program on
// scenarios of its own, with the project's images.

// A rigRun is `rig run` in progress.
type rigRun struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string       // of the records
	output bytes.Buffer // stdout, as far as it was looked at
	stderr bytes.Buffer // complete after end
	lines  chan string  // of stdout, as they come; closed at its end
}

// runLimit is when a run of these tests counts as hung; the longest takes some
// 15 s on two slow cores, and the images may have to be built before.
var runLimit = pacetest.Limit(2 * time.Minute)

// needQEMU skips a test where there is no emulator.
func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
}

// startRun starts `rig run -v` on one scenario.
func startRun(t *testing.T, script string, flags ...string) *rigRun {
	t.Helper()
	needQEMU(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "test.txtar")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &rigRun{t: t, dir: filepath.Join(dir, "runs"), lines: make(chan string, 10_000)}
	// A run that hangs is a failure of its own, not of the whole test program.
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	t.Cleanup(cancel)
	r.cmd = exec.CommandContext(ctx, rigBinary, append([]string{"run", "-v", "-runs", r.dir, file}, flags...)...)
	r.cmd.Stderr = &r.stderr
	// A process group of its own, as a shell gives each command.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Logf("rig run said:\n%s%s", r.output.String(), r.stderr.String())
		}
	})
	go func() {
		defer close(r.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	return r
}

// await waits until the run prints a line with that text.
func (r *rigRun) await(text string) {
	r.t.Helper()
	for line := range r.lines {
		fmt.Fprintln(&r.output, line)
		if strings.Contains(line, text) {
			return
		}
	}
	r.t.Fatalf("the run ended without a line that has %q", text)
}

// end waits for the run's end and returns its exit status.
func (r *rigRun) end() int {
	r.t.Helper()
	for line := range r.lines {
		fmt.Fprintln(&r.output, line)
	}
	err := r.cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		r.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

// latest is a path in the newest record.
func (r *rigRun) latest(elem ...string) string {
	return filepath.Join(append([]string{r.dir, record.LatestLink}, elem...)...)
}

// only returns the one scenario of the record's summary.
func (r *rigRun) only() record.ScenarioSummary {
	r.t.Helper()
	rec, err := record.Load(r.latest())
	if err != nil {
		r.t.Fatal(err)
	}
	if len(rec.Summary.Scenarios) != 1 {
		r.t.Fatalf("%d scenarios in the summary", len(rec.Summary.Scenarios))
	}
	return rec.Summary.Scenarios[0]
}

// failure checks how the run's only scenario ended.
func (r *rigRun) failure(status int, result record.Result, reason record.Reason, node string) *record.Failure {
	r.t.Helper()
	got := r.end()
	s := r.only()
	if got != status || s.Result != result || s.Failure == nil || s.Failure.Reason != reason || s.Failure.Node != node {
		r.t.Fatalf("exit status %d, %s, failure %+v", got, s.Result, s.Failure)
	}
	return s.Failure
}

// offspring returns a descriptor for each process below pid, by which its end is
// seen, and how many of them are QEMU.
func offspring(t *testing.T, pid int) (fds []int, machines []int) {
	t.Helper()
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, field := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(child, 0)
			if err != nil {
				continue // it has just ended
			}
			t.Cleanup(func() { unix.Close(fd) })
			fds = append(fds, fd)
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", child)); strings.Contains(exe, "qemu-system") {
				machines = append(machines, child)
			}
			f, m := offspring(t, child)
			fds, machines = append(fds, f...), append(machines, m...)
		}
	}
	return fds, machines
}

// gone checks that the processes end by themselves.
func gone(t *testing.T, fds []int) {
	t.Helper()
	for _, fd := range fds {
		n, err := 0, error(unix.EINTR)
		for err == unix.EINTR { // a signal, such as of a child's end, ends the wait
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(aliveLimit.Milliseconds()))
		}
		if err != nil || n != 1 {
			t.Errorf("a process was left behind (%d, %v)", n, err)
		}
	}
}

const roundtrip = `# Node A reads a package file that node B serves.
up
sha256 WANT B/packages/system@1.0.0/build.prop
exec A selftest-client remote-pkgfs -peer node-b -sha256 $WANT pkg:/system/build.prop
marker A 'SELFTEST: remote pkgfs read ok'
marker B 'dsoftbusd: remote packagefs served'
exec A date +%Y
exec B hostname

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

func TestRoundtrip(t *testing.T) {
	t.Run("clones", func(t *testing.T) { t.Parallel(); testRoundtrip(t) })
	t.Run("cold", func(t *testing.T) { t.Parallel(); testRoundtrip(t, "-cold") })
}

// testRoundtrip runs the roundtrip with further flags and looks at all that comes of
// it.
func testRoundtrip(t *testing.T, flags ...string) *rigRun {
	t.Helper()
	r := startRun(t, roundtrip, flags...)
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.output.String(), "probing"), "\n")
	if !strings.Contains(r.output.String(), "QEMU ") || !strings.Contains(r.output.String(), "slowdown ") {
		t.Errorf("no line says what the machines are: %s", first)
	}
	s := r.only()
	if s.Result != record.Passed {
		t.Fatalf("summary %+v", s)
	}
	var phases []string
	for _, p := range s.Phases {
		phases = append(phases, p.Name)
	}
	if got := strings.Join(phases, " "); got != "network boot configure services script teardown" {
		t.Errorf("phases %q", got)
	}
	if len(s.Nodes) != 2 {
		t.Fatalf("nodes %+v", s.Nodes)
	}
	for _, n := range s.Nodes {
		for what, path := range map[string]string{"-name " + n.Name + " ": n.QEMUCmd, `"unit":"dsoftbusd"`: n.Journal, "": n.Console} {
			data, err := os.ReadFile(r.latest(filepath.FromSlash(path)))
			if err != nil || !bytes.Contains(data, []byte(what)) {
				t.Errorf("%s: no %q in %d bytes, %v", path, what, len(data), err)
			}
		}
		if _, err := os.Stat(r.latest(filepath.FromSlash(n.QEMULog))); err != nil {
			t.Error(err)
		}
		journal(t, r.latest(filepath.FromSlash(n.Journal)))
	}
	if !strings.Contains(r.output.String(), "stdout| "+time.Now().UTC().Format("2006")) {
		t.Error("the node's clock was not set")
	}
	if !strings.Contains(r.output.String(), "stdout| node-b") {
		t.Error("the node's host name was not set")
	}
	data, err := os.ReadFile(r.latest(record.JUnitFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, new(struct{ XMLName xml.Name })); err != nil {
		t.Errorf("%s: %v", record.JUnitFile, err)
	}
	secrets(t, r.latest())
	return r
}

// A clone is told from a machine that booted by its command line and console.
func TestColdAndClones(t *testing.T) {
	for _, tt := range []struct {
		name, up string
		flags    []string
		clones   bool
	}{
		{"clones", "up -only A", nil, true},
		{"up -cold", "up -cold -only A", nil, false},
		{"rig run -cold", "up -only A", []string{"-cold"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A program that prints nothing must not be waited for.
			r := startRun(t, "# Looks.\n"+tt.up+"\nexec A true\n", tt.flags...)
			if status := r.end(); status != record.ExitGreen {
				t.Fatalf("exit status %d", status)
			}
			line, err := os.ReadFile(r.latest("test", "A", "qemu.cmd"))
			if err != nil {
				t.Fatal(err)
			}
			console, err := os.ReadFile(r.latest("test", "A", "console.log"))
			if err != nil {
				t.Fatal(err)
			}
			if cloned, booted := bytes.Contains(line, []byte("-incoming")), bytes.Contains(console, []byte("u-root")); cloned != tt.clones || booted == tt.clones {
				t.Errorf("cloned %t, booted %t", cloned, booted)
			}
		})
	}
}

// No two machines ever draw the same random bytes, whichever run they belong to.
func TestNoTwoClonesDrawTheSame(t *testing.T) {
	drawn := map[string]bool{}
	const runs = 3
	for range runs {
		r := startRun(t, "# Draws.\nup -only\nexec A cat /proc/sys/kernel/random/uuid\nexec B cat /proc/sys/kernel/random/uuid\nexec A cat /proc/sys/kernel/random/boot_id\nexec B cat /proc/sys/kernel/random/boot_id\n")
		if status := r.end(); status != record.ExitGreen {
			t.Fatalf("exit status %d", status)
		}
		for line := range strings.Lines(r.output.String()) {
			if _, uuid, ok := strings.Cut(line, "stdout| "); ok {
				drawn[strings.TrimSpace(uuid)] = true
			}
		}
	}
	if len(drawn) != 4*runs {
		t.Errorf("%d different ones of %d: %v", len(drawn), 4*runs, drawn)
	}
}

// journal checks that a node's journal has whole entries without gaps.
func journal(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for line := range bytes.Lines(data) {
		var e struct {
			Seq  int
			Mono int64 `json:"mono_ns"`
			Time time.Time
		}
		if err := json.Unmarshal(line, &e); err != nil || e.Mono <= 0 || e.Time.IsZero() {
			t.Fatalf("%s: entry %d is %s (%v)", name, next, line, err)
		}
		// A clone goes on counting where the machine it was cloned from was.
		if next != 0 && e.Seq != next {
			t.Fatalf("%s: entry %d, want %d", name, e.Seq, next)
		}
		next = e.Seq + 1
	}
}

// secrets checks that no file of a record has a private key in it.
func secrets(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch d.Name() {
		case recording.LogFile: // all that entered the machine, which only its owner may read
			return nil
		case recording.KernelFile, recording.InitrdFile, recording.DebugFile:
			return nil
		}
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte("private")) {
			t.Errorf("%s mentions a private key", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What a guest prints or does ends the scenario at once, and the failure names
// node, line and class. None of these waits for its marker's deadline, which is
// longer than a test may take.
func TestFatalLinesEndTheScenarioAtOnce(t *testing.T) {
	tests := []struct {
		name, line string
		result     record.Result
		reason     record.Reason
		node, text string
	}{
		{"a FAIL marker", `exec B echo 'SELFTEST: remote pkgfs open FAIL made up'`, record.Failed, record.MarkerFail, "B", "made up"},
		{"a kernel panic", `? exec A gosh -c 'echo c > /proc/sysrq-trigger'`, record.Failed, record.KernelPanic, "A", "Kernel panic - not syncing"},
		{"a Go panic", `? exec B gosh -c 'echo "panic: out of cheese" >&2'`, record.Failed, record.GoPanic, "B", "panic: out of cheese"},
		{"a machine that reboots", `? exec B gosh -c 'echo b > /proc/sysrq-trigger'`, record.Broken, record.NodeExited, "B", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := startRun(t, "# It goes wrong.\nup -only\nmarker -within 24h A never &\n"+tt.line+"\nwait\n")
			status := record.ExitFailed
			if tt.result == record.Broken {
				status = record.ExitBroken
			}
			f := r.failure(status, tt.result, tt.reason, tt.node)
			if !strings.Contains(f.Message, tt.text) || f.Line == 0 || f.Tail[tt.node] == nil {
				t.Errorf("failure %+v", f)
			}
		})
	}
}

// The lines after a panic's first one are the useful ones: they are in the tail.
func TestKernelPanicIsReadToItsEnd(t *testing.T) {
	r := startRun(t, "# Panic.\nup -only A\nexec A gosh -c 'echo c > /proc/sysrq-trigger'\n")
	f := r.failure(record.ExitFailed, record.Failed, record.KernelPanic, "A")
	if tail := strings.Join(f.Tail["A"], "\n"); !strings.Contains(tail, "end Kernel panic") {
		t.Errorf("tail:\n%s", tail)
	}
	core, err := elf.Open(r.latest("test", "A", "panic.core"))
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	if core.Type != elf.ET_CORE {
		t.Errorf("its memory is %s", core.Type)
	}
}

// What every program was doing when a step was not in time is in the record.
func TestStacksOfWhatIsLate(t *testing.T) {
	r := startRun(t, "# Waits in vain.\nup\nmarker -within 100ms A '^never$'\n")
	r.failure(record.ExitFailed, record.Failed, record.MarkerTimeout, "A")
	for name, want := range map[string]string{"A/stacks-dsoftbusd.txt": "acceptSessions", "B/stacks-packagefsd.txt": "AcceptUnix", "A/stacks-agent.txt": "goroutine "} {
		text, err := os.ReadFile(r.latest("test", name))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, without %q:\n%s", name, err, want, text)
		}
	}
}

func TestMarkerThatNeverComes(t *testing.T) {
	r := startRun(t, "# Waits in vain.\nup -only\nexec A echo almost\nmarker -within 100ms A '^never$'\n")
	f := r.failure(record.ExitFailed, record.Failed, record.MarkerTimeout, "A")
	if f.Line != 4 || !strings.Contains(f.Awaited, "never") || !strings.Contains(strings.Join(f.Tail["A"], "\n"), "almost") {
		t.Errorf("failure %+v", f)
	}
}

func TestProgramThatFails(t *testing.T) {
	r := startRun(t, "# Fails.\nup -only\nexec A cat /no/such/file\n")
	f := r.failure(record.ExitFailed, record.Failed, record.ExecStatus, "A")
	if f.Line != 3 || !strings.Contains(f.Message, "/no/such/file") {
		t.Errorf("failure %+v", f)
	}
}

// No prefix accepts a program that never ran. Its name comes out of a variable, for
// the check names all others before any machine starts.
func TestProgramThatNeverRan(t *testing.T) {
	for _, tt := range []struct{ line, text string }{
		{"! exec A $P cat x", "node A: exec pkfgs: run pkfgs: exec: \"pkfgs\": executable file not found in $PATH"},
		{"? exec A /etc", "node A: exec /etc: run /etc: fork/exec /etc: permission denied"},
		{"! start A /etc/plain", "node A: start /etc/plain: run /etc/plain: fork/exec /etc/plain: permission denied"},
		{"! kill A $P", "node A: kill pkfgs: kill: pkfgs was never started here (started: nothing)"},
		{"? stop A $P", "node A: stop pkfgs: stop: pkfgs was never started here (started: nothing)"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			r := startRun(t, "up -only A\nenv P=pkfgs\nexec A echo $P\n"+tt.line+"\n-- A/etc/plain --\nx\n")
			f := r.failure(1, record.Failed, record.NotStarted, "A")
			if f.Message != tt.text || f.Line != 4 {
				t.Errorf("line %d: %s; want line 4: %s", f.Line, f.Message, tt.text)
			}
		})
	}
}

func TestServiceThatDiesAtItsStart(t *testing.T) {
	r := startRun(t, "# A daemon without its configuration.\nallow 'dsoftbusd ended: exit status [1-9]'\nup -only\nexec A rm /etc/dsoftbus/device.json\nstart A dsoftbusd\nmarker A 'dsoftbusd ended: exit status [1-9]'\n")
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	// A service that is called wrongly does nothing, which must not be green.
	r = startRun(t, "# A service with a wrong flag.\nup -only\nstart A netbench serve -lisen :1\n! marker A 'netbench: wrong'\n")
	f := r.failure(record.ExitFailed, record.Failed, record.ServiceEnded, "A")
	if f.Line != 4 || !strings.Contains(f.Message, "netbench ended: exit status 2") {
		t.Errorf("line %d: %s", f.Line, f.Message)
	}
}

func TestKilledMachine(t *testing.T) {
	r := startRun(t, "# The machine is shot.\nup -only\nmarker -within 24h A never\n")
	r.await("marker -within 24h A never")
	fds, machines := offspring(t, r.cmd.Process.Pid)
	if len(machines) != 2 {
		t.Fatalf("%d machines run", len(machines))
	}
	if err := unix.Kill(machines[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := r.end(); status != record.ExitBroken {
		t.Errorf("exit status %d", status)
	}
	s := r.only()
	if s.Failure == nil || s.Failure.Reason != record.NodeExited || s.Failure.Node == "" || !strings.Contains(s.Failure.Message, "killed") {
		t.Errorf("failure %+v", s.Failure)
	}
	gone(t, fds)
}

func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			r := startRun(t, "# It is stopped.\nup -only\nmarker -within 24h A never\n")
			r.await("marker -within 24h A never")
			fds, _ := offspring(t, r.cmd.Process.Pid)
			// As a terminal does it: to the whole process group.
			if err := unix.Kill(-r.cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			f := r.failure(record.ExitInterrupted, record.Interrupted, record.Stopped, "")
			if f.Line != 3 {
				t.Errorf("failure %+v", f)
			}
			gone(t, fds)
		})
	}
}

func TestInterruptWhileMachinesBoot(t *testing.T) {
	r := startRun(t, "# It is stopped early.\nup\n")
	r.await("node A starting")
	fds, _ := offspring(t, r.cmd.Process.Pid)
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.failure(record.ExitInterrupted, record.Interrupted, record.Stopped, "")
	gone(t, fds)
}

// Whichever process of the rig is killed, nothing of the run is left: no QEMU, and
// with the processes their namespaces, with all links in them.
func TestKilledRig(t *testing.T) {
	t.Run("parent", func(t *testing.T) {
		r := startRun(t, "# The rig is shot.\nup -only\nmarker -within 24h A never\n")
		r.await("marker -within 24h A never")
		fds, machines := offspring(t, r.cmd.Process.Pid)
		if len(machines) != 2 || len(fds) != 3 {
			t.Fatalf("%d machines, %d processes", len(machines), len(fds))
		}
		if err := r.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		r.end()
		gone(t, fds)
		rec, err := record.Load(r.latest())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Summary.Result != record.Interrupted {
			t.Errorf("a killed run reads as %s", rec.Summary.Result)
		}
	})
	t.Run("worker", func(t *testing.T) {
		r := startRun(t, "# The worker is shot.\nup -only\nmarker -within 24h A never\n")
		r.await("marker -within 24h A never")
		fds, machines := offspring(t, r.cmd.Process.Pid)
		worker := parent(t, machines[0])
		if err := unix.Kill(worker, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f := r.failure(record.ExitBroken, record.Broken, record.WorkerDied, "")
		if !strings.Contains(f.Message, "killed") {
			t.Errorf("failure %+v", f)
		}
		gone(t, fds)
	})
}

// parent returns a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The second field is the name in parentheses, which may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// Files of the host, of a person's terminal included, are never written with what
// a guest prints, other than as data of the record.
func TestGuestOutputIsHarmless(t *testing.T) {
	r := startRun(t, `# Noise.
up -only A
exec A gosh -c 'printf "\033]0;title\007\033[2J\n"; exit 3'
`)
	r.failure(record.ExitFailed, record.Failed, record.ExecStatus, "A")
	if i := strings.IndexFunc(r.output.String(), func(c rune) bool { return c == '\x1b' || c == '\a' }); i >= 0 {
		t.Errorf("the terminal got %q", r.output.String()[i:min(i+40, r.output.Len())])
	}
	if !strings.Contains(r.output.String(), `\x1b]0;title\x07`) {
		t.Error("what it printed is not shown at all")
	}
}

// The links a run makes are never this host's.
func TestTheHostsNetworkIsLeftAlone(t *testing.T) {
	before := links(t)
	r := startRun(t, "# Looks.\nup -only\nmarker -within 24h A never\n")
	r.await("marker -within 24h A never")
	if during := links(t); !slices.Equal(before, during) {
		t.Errorf("links %v became %v", before, during)
	}
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	r.end()
}

func links(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What doctor has measured is remembered, until it is told to measure again.
func TestDoctorRemeasures(t *testing.T) {
	needQEMU(t)
	doctor := func(flags ...string) (probed bool) {
		t.Helper()
		out, status := rig(t, nil, append([]string{"doctor", "-C", projectDir}, flags...)...)
		if status == record.ExitUnsupported {
			t.Skip(out)
		}
		if status != record.ExitGreen || !strings.Contains(out, "deadlines are x") {
			t.Fatalf("exit status %d:\n%s", status, out)
		}
		return strings.Contains(out, " with a machine\n")
	}
	doctor()
	if doctor() || !doctor("-remeasure") || doctor() {
		t.Error("it boots a machine when it remembers how long that took, or does not when it is told to")
	}
}

// A QEMU that cannot confine itself is said to be one, and machines run on it all
// the same.
func TestDoctorSaysWhetherQEMUConfines(t *testing.T) {
	needQEMU(t)
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "qemu-without-seccomp")
	script := "#!/bin/sh\ncase \"$*\" in *-sandbox*) echo '-sandbox support is not enabled' >&2; exit 1;; esac\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(plain, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for qemu, want := range map[string]string{
		real:  "ok       sandbox       QEMU gives up starting programs and gaining privileges\n",
		plain: "lacking  sandbox       QEMU does not confine itself",
	} {
		out, status := rig(t, nil, "doctor", "-C", projectDir, "-accel", "tcg", "-qemu", qemu)
		if qemu == real && machine.CheckSandbox(t.Context(), real) != nil {
			continue
		}
		if status != record.ExitGreen || !strings.Contains(out, want) {
			t.Errorf("%s: exit status %d, want %q in:\n%s", qemu, status, want, out)
		}
	}
}
