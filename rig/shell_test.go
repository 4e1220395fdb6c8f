package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/record"

	"github.com/creack/pty"
)

// A session is the real program on a real terminal.
type session struct {
	t        *testing.T
	cmd      *exec.Cmd
	terminal *os.File

	mu      sync.Mutex
	shown   bytes.Buffer
	changed chan struct{}
	seen    int
	ended   bool
}

// onTerminal starts the program in a folder, which the project need not lie above.
func onTerminal(t *testing.T, dir string, args ...string) *session {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	t.Cleanup(cancel)
	s := &session{t: t, changed: make(chan struct{}, 1)}
	s.cmd = exec.CommandContext(ctx, rigBinary, append([]string{"-C", projectDir}, args...)...)
	s.cmd.Dir = dir
	s.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=1")
	var err error
	if s.terminal, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 40, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.terminal.Close()
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", s.all())
		}
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := s.terminal.Read(buf)
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.ended = err != nil
			s.mu.Unlock()
			select {
			case s.changed <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *session) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// shows waits until something is shown that matches, behind what was looked for before, and returns it.
func (s *session) shows(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		s.mu.Lock()
		all, ended := s.shown.String(), s.ended
		s.mu.Unlock()
		if at := re.FindStringIndex(all[s.seen:]); at != nil {
			found := all[s.seen+at[0] : s.seen+at[1]]
			s.seen += at[1]
			return found
		}
		if ended {
			s.t.Fatalf("it ended, and %q was never shown; the last was %q", pattern, all[s.seen:])
		}
		<-s.changed // or the end: the process is killed when it takes too long
	}
}

func (s *session) types(keys string) {
	s.t.Helper()
	if _, err := s.terminal.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits for the program's end.
func (s *session) ends(status int) {
	s.t.Helper()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("exit status %d, want %d", got, status)
	}
}

// projectDir is where this package's project lies, for programs that run elsewhere.
var projectDir = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return dir
}()

const promptShown = `(?m)^\r?(\x1b\[K)?A\+B> `

// A pair at a prompt: lines, completion, Ctrl-C for a line only, and what was typed as a scenario.
func TestShell(t *testing.T) {
	dir := t.TempDir()
	s := onTerminal(t, dir, "shell", "-runs", filepath.Join(dir, "runs"))
	s.shows(promptShown)
	s.types("exec A hostna\t\r")
	s.shows(`\nnode-a\r\n`)
	s.shows(promptShown)
	s.types("exec A netbench serve\r")
	s.shows(`netbench: ready`)
	// What is typed meanwhile is kept, and Ctrl-C ends the line and not the pair.
	s.types("exec B hostname\r\x03")
	s.shows(`interrupted\r\n`)
	s.shows(`\nnode-b\r\n`)
	s.types("stdout ^node-a$\r")
	s.shows(`no match for`)
	s.types("follow B\rexec B netbench -peer nonsense ping\r")
	s.shows(`B \d+\.\d+ \[netbench\]`)
	s.types("follow off\rlines -n 2 A\r")
	s.shows(`A, last 2 lines:`)
	s.types("save mine\r")
	s.shows(`saved as .*mine\.txtar`)
	s.shows(promptShown)
	s.types("\x04")
	s.shows(`total .*, record in `)
	s.ends(0)

	data, err := os.ReadFile(filepath.Join(dir, "mine.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	want := "# Machines to try things on.\nup\n\n# From the prompt.\nexec A hostname\n# It failed: exec A netbench serve\nexec B hostname\n# It failed: stdout ^node-a$\n"
	if !strings.HasPrefix(string(data), want) {
		t.Errorf("saved is %q, want %q", data, want)
	}
	if out, err := exec.Command(rigBinary, "check", filepath.Join(dir, "mine.txtar")).CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// repairable fails at its third command until somebody starts the daemon again.
const repairable = `# The daemon is gone, and somebody has to notice.
up
exec A pkgfs -peer node-b cat pkg:/system/build.prop
kill B dsoftbusd
exec A pkgfs -peer node-b -wait 1s cat pkg:/system/build.prop
cmp stdout B/packages/system@1.0.0/build.prop

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

func writeScenario(t *testing.T, dir, content string) string {
	t.Helper()
	file := filepath.Join(dir, "broken.txtar")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// A run stands still where it breaks; repaired by hand it goes on to its end, and is never called passed.
func TestRepairedByHand(t *testing.T) {
	dir := t.TempDir()
	s := onTerminal(t, dir, "run", "-debug", "-runs", filepath.Join(dir, "runs"), writeScenario(t, dir, repairable))
	s.shows(`HELD broken, failed\r\n.*broken\.txtar:5: exec A pkgfs`)
	s.shows(`reason +exec-status`)
	s.shows(`B, last lines`)
	s.shows(promptShown)
	s.types("where\r")
	s.shows(`> +5  exec A pkgfs`)
	s.types("start B dsoftbusd\rmarker B 'session ok node-a'\r")
	s.shows(`B \d+\.\d+ \[dsoftbusd\] dsoftbusd: cross-vm session ok node-a`)
	s.types("retry\r")
	s.shows("REPAIRED broken .*retry of line 5, which had failed")
	s.shows("0 passed, 1 failed")
	s.ends(record.ExitFailed)
	rec, err := record.Load(filepath.Join(dir, "runs", record.LatestLink))
	if err != nil {
		t.Fatal(err)
	}
	if got := rec.Summary.Scenarios[0]; got.Result != record.Repaired || got.Failure != nil {
		t.Errorf("%s, %+v", got.Result, got.Failure)
	}
}

// Without a terminal it waits for another one, for a time that it says.
func TestRepairedFromAnotherTerminal(t *testing.T) {
	name := unique("mended-from-another-terminal")
	r := startRun(t, repairable, "-debug", "-debug-wait", "2m", "-name", name)
	r.await("HELD test, failed")
	r.await("it waits until")
	do := func(status int, line string) string {
		t.Helper()
		out, err := exec.Command(rigBinary, "do", "-run", name, line).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || exit != nil && exit.ExitCode() != status || exit == nil && status != 0 {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return string(out)
	}
	if out := do(0, "where"); !strings.Contains(out, ">   5  exec A pkgfs") {
		t.Errorf("where: %s", out)
	}
	do(1, "stdout nonsense")
	do(2, "nonsense")
	do(0, "start B dsoftbusd")
	do(0, "retry")
	r.await("REPAIRED test")
	if status := r.end(); status != record.ExitFailed {
		t.Errorf("exit status %d", status)
	}
}

func TestNobodyComes(t *testing.T) {
	r := startRun(t, repairable, "-debug", "-debug-wait", "1s")
	r.await("nobody came to the prompt within 1s")
	r.failure(record.ExitFailed, record.Failed, record.ExecStatus, "A")
}

// A scenario is played up to a line, then line by line, and Ctrl-C has one stand still that runs.
func TestShellOnAScenario(t *testing.T) {
	dir := t.TempDir()
	file := writeScenario(t, dir, "up\nexec A hostname\nexec B hostname\nexec A sleep 1000\nexec B hostname\n")
	s := onTerminal(t, dir, "shell", "-runs", filepath.Join(dir, "runs"), "-until", "2", file)
	s.shows(`HELD broken, until at .*:2: exec A hostname`)
	s.shows(promptShown)
	s.types("step\r")
	s.shows(`HELD broken, step at .*:3: exec B hostname`)
	s.shows(promptShown)
	s.types("continue\r")
	s.shows(`exec A sleep 1000`) // the status line
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.shows(`HELD broken, interrupted at .*:4: exec A sleep 1000`)
	s.shows(promptShown)
	s.types("continue\r")
	s.shows(`HELD broken at its end`)
	s.shows(promptShown)
	s.types("quit\r")
	s.shows(`1 passed, 0 failed`)
	s.ends(0)
}

// Lines of a pipe are run one after the other; the first that fails is the last.
func TestShellFromAPipe(t *testing.T) {
	dir := t.TempDir()
	for input, want := range map[string]struct {
		status int
		shown  string
	}{
		"exec A hostname\nstdout ^node-a$\nquit\n":     {0, "node-a"},
		"exec A hostname\nstdout wrong\nexec B true\n": {1, "no match for"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), runLimit)
		cmd := exec.CommandContext(ctx, rigBinary, "shell", "-runs", filepath.Join(dir, "runs"))
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		cancel()
		if got := cmd.ProcessState.ExitCode(); got != want.status || !strings.Contains(string(out), want.shown) {
			t.Errorf("%q ended with %d, %v, want %d:\n%s", input, got, err, want.status, out)
		}
	}
}

// A program that was edited takes the place of the one that runs, in the machine as it is.
func TestReload(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	for _, top := range []string{"images", "nodes", "protocol"} {
		if err := os.CopyFS(filepath.Join(source, top), os.DirFS(filepath.Join(projectDir, top))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(projectDir, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(source, file), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := onTerminal(t, dir, "shell", "-runs", filepath.Join(dir, "runs"), "-C", source)
	s.shows(promptShown)
	edited := filepath.Join(source, "nodes", "dsoftbusd", "daemon.go")
	data, err := os.ReadFile(edited)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte(`"device %s port`), []byte(`"edited device %s port`), 1)
	if bytes.Equal(changed, data) {
		t.Fatalf("%s does not print what this test changes", edited)
	}
	if err := os.WriteFile(edited, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	s.types("reload dsoftbusd B\r")
	s.shows(`dsoftbusd on B: copied, started again, in `)
	s.types("marker B '^dsoftbusd: edited device node-b'\r")
	s.shows(`B .* dsoftbusd: edited device node-b`)
	s.types("exec A pkgfs -peer node-b -wait 10s pk 'stat pkg:/system/nothing'\r")
	s.shows(`STAT NOT_FOUND`)
	s.types("reload dsoftbusd B\r")
	s.shows(`dsoftbusd on B: unchanged since it was last reloaded, started again, in `)
	// What does not compile changes nothing.
	if err := os.WriteFile(edited, append(changed, "nonsense"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.types("reload dsoftbusd B\r")
	s.shows(`daemon\.go:\d+:\d+: `)
	s.shows(promptShown)
	s.types("exec A pkgfs -peer node-b -wait 10s pk 'stat pkg:/system/nothing'\r")
	s.shows(`STAT NOT_FOUND`)
	s.types("quit\r")
	s.ends(0)
}

// A shell in a machine that runs, on a real terminal: keys, Ctrl-C, size, job, end; and nothing of it is left.
func TestAttach(t *testing.T) {
	name := unique("looked-into-from-another-terminal")
	r := startRun(t, "# Runs meanwhile.\nup\nmarker -within 4m A '^enough$'\n", "-name", name)
	r.await("marker -within 4m")
	s := onTerminal(t, t.TempDir(), "attach", "-run", name, "A")
	s.shows(`\$ `)
	s.types("hostname\r")
	s.shows(`\nnode-a\r\n`)
	s.types("stty\r")
	s.shows(`40[^\n]*200|rows 40[^\n]*`)
	if err := pty.Setsize(s.terminal, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	s.types("netbench serve\r")
	s.shows(`netbench: ready`)
	s.types("\x03")
	s.shows(`\$ `)
	s.types("stty\r")
	s.shows(`50[^\n]*132|rows 50[^\n]*`)
	s.types("exit\r")
	s.ends(0)
	out, err := exec.Command(rigBinary, "do", "-run", name, "exec A ps -e").CombinedOutput()
	if err != nil || strings.Contains(string(out), "netbench") {
		t.Errorf("%v, of the shell is left:\n%s", err, out)
	}
	// A program in place of a shell, and how it ended.
	s = onTerminal(t, t.TempDir(), "attach", "-run", name, "B", "--", "cat", "/no/such/file")
	s.shows(`/no/such/file`)
	s.ends(1)
	// It may end before the line is told to have been run.
	_ = exec.Command(rigBinary, "do", "-run", name, "exec A echo enough").Run()
	r.await("REPAIRED test")
	r.end()
}
