package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/ptytest"
	"dsoftbus-rig/rig/record"
)

// onTerminal starts the real program on a real terminal, in a folder, which the project need not lie above.
func onTerminal(t *testing.T, dir string, args ...string) *ptytest.Terminal {
	t.Helper()
	needQEMU(t)
	// One limit for all that it does, not for each wait: a test that hangs must end before all tests have to.
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, rigBinary, append([]string{"-C", projectDir}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=1")
	s := ptytest.Open(t, 40, 200, runLimit)
	s.Start(cmd)
	return s
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
	s.Types("exec A hostna") // before there is a prompt
	s.Shows("Type lines of the scenario language, .* `quit` or Ctrl-D takes the machines down")
	s.Shows(promptShown)
	s.Types("\t\r")
	s.Shows(`\nnode-a\r\n`)
	s.Shows(promptShown)
	s.Types("help\r")
	s.Shows(`This prompt:\r\n  quit `)
	s.Shows(`Nodes and their programs:\r\n`)
	s.Shows(`follow `)
	s.Shows(promptShown)
	s.Types("\x12hostn") // Ctrl-R
	s.Shows(`\(search: hostn\) exec A hostname`)
	s.Types("\r")
	s.Shows(`\nnode-a\r\n`)
	s.Shows(promptShown)
	s.Types("exec A netbench serve\r")
	s.Shows(`netbench: ready`)
	// What is typed meanwhile is kept, and Ctrl-C ends the line and not the pair.
	s.Types("exec B hostname\r\x03")
	s.Shows(`interrupted\r\n`)
	s.Shows(`\nnode-b\r\n`)
	s.Types("stdout ^node-a$\r")
	s.Shows(`no line of stdout matches`)
	s.Types("follow B\rexec B netbench -peer nonsense ping\r")
	s.Shows(`B \d+\.\d+ \[netbench\]`)
	s.Types("follow off\rlines -n 2 A\r")
	s.Shows(`A, last 2 lines:`)
	s.Types("save mine\r")
	s.Shows(`saved as .*mine\.txtar`)
	s.Shows(promptShown)
	s.Types("\x04")
	s.Shows(`total .*, record in `)
	s.Ends(0)

	data, err := os.ReadFile(filepath.Join(dir, "mine.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	want := "# Machines to try things on.\nup\nexec A hostname  # typed\nexec A hostname  # typed\n  # typed, and failed: exec A netbench serve\nexec B hostname  # typed\n  # typed, and failed: stdout ^node-a$\n"
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
	s.Shows(`HELD broken, failed\r\n`)
	s.Shows(`broken\.txtar:5: exec A pkgfs`)
	s.Shows(`reason +session-reset`)
	s.Shows(`evidence `)
	s.Shows(`B, last lines`)
	s.Shows("`retry` runs the line again, `continue` leaves it out")
	s.Shows(promptShown)
	s.Types("where\r")
	s.Shows(`5: failed \(session-reset\): `)
	s.Shows(`> +5  exec A pkgfs`)
	s.Types("start B dsoftbusd\rmarker B 'session ok node-a'\r")
	s.Shows(`B \d+\.\d+ \[dsoftbusd\] dsoftbusd: cross-vm session ok node-a`)
	s.Types("retry\r")
	s.Shows("REPAIRED broken .*retry of line 5, which had failed")
	s.Shows("0 passed, 0 failed, 1 repaired")
	s.Ends(record.ExitFailed)
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

// Another terminal can have the prompt itself, and leave it for others.
func TestShellJoinsARun(t *testing.T) {
	name := unique("mended-at-a-joined-prompt")
	r := startRun(t, repairable, "-debug", "-debug-wait", "2m", "-name", name)
	r.await("it waits until")
	s := onTerminal(t, t.TempDir(), "shell", "-run", name)
	s.Shows(`failed \(session-reset\): `)
	s.Shows(promptShown)
	s.Types("start B dsoftbusd\r")
	s.Shows(promptShown)
	s.Types("\x04")
	s.Shows("it stands still for others")
	s.Ends(0)
	s = onTerminal(t, t.TempDir(), "shell", "-run", name)
	s.Shows(promptShown)
	s.Types("step\r") // the line that failed, which holds now
	s.Shows(`cmp stdout`)
	s.Shows(promptShown)
	s.Types("continue\r")
	s.Ends(0)
	r.await("REPAIRED test")
	r.end()
	// There is nobody to join any more.
	s = onTerminal(t, t.TempDir(), "shell", "-run", name)
	s.Shows("no (running )?scenario")
	s.Ends(record.ExitFailed)
}

func TestNobodyComes(t *testing.T) {
	r := startRun(t, repairable, "-debug", "-debug-wait", "1s")
	r.await("nobody came to the prompt within 1s")
	r.failure(record.ExitFailed, record.Failed, record.SessionReset, "A") // as its packets say, read while it stood still
	var held, end *record.Failure
	_, err := record.ReadEvents(filepath.Join(r.dir, record.LatestLink, record.EventsFile), func(e record.Event) error {
		switch e.Kind {
		case record.KindHeld:
			held = e.Failure
		case record.KindScenarioEnd:
			end = e.Failure
		}
		return nil
	})
	if err != nil || held == nil || len(held.Evidence) == 0 || !reflect.DeepEqual(held, end) {
		t.Errorf("%v: a person was told %+v, and the report says %+v", err, held, end)
	}
}

// A scenario is played up to a line, then line by line, and Ctrl-C has one stand still that runs.
func TestShellOnAScenario(t *testing.T) {
	dir := t.TempDir()
	file := writeScenario(t, dir, "up\nexec A hostname\nexec B hostname\nexec A sleep 1000\nexec B hostname\n")
	s := onTerminal(t, dir, "shell", "-runs", filepath.Join(dir, "runs"), "-until", "2", file)
	s.Shows(`HELD broken, until at .*:2: exec A hostname`)
	s.Shows(promptShown)
	s.Types("step\r")
	s.Shows(`HELD broken, step at .*:3: exec B hostname`)
	s.Shows(promptShown)
	s.Types("continue\r")
	s.Shows(`exec A sleep 1000`) // the status line
	s.Signal(syscall.SIGINT)
	s.Shows(`HELD broken, interrupted at .*:4: exec A sleep 1000`)
	s.Shows(promptShown)
	s.Types("continue\r")
	s.Shows(`HELD broken at its end`)
	s.Shows("The script is over")
	s.Shows(promptShown)
	s.Types("quit\r")
	s.Shows(`1 passed, 0 failed`)
	s.Ends(0)
}

// Lines of a pipe are run one after the other; the first that fails is the last.
func TestShellFromAPipe(t *testing.T) {
	dir := t.TempDir()
	for input, want := range map[string]struct {
		status int
		shown  string
	}{
		"exec A hostname\nstdout ^node-a$\nquit\n":     {0, "node-a"},
		"exec A hostname\nstdout wrong\nexec B true\n": {1, `no line of stdout matches "wrong"`},
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
	needQEMU(t)
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
	s.Shows(promptShown)
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
	s.Types("reload dsoftbusd B\r")
	s.Shows(`dsoftbusd on B: copied, started again, in `)
	s.Types("marker B '^dsoftbusd: edited device node-b'\r")
	s.Shows(`B .* dsoftbusd: edited device node-b`)
	s.Types("exec A pkgfs -peer node-b -wait 10s pk 'stat pkg:/system/nothing'\r")
	s.Shows(`STAT NOT_FOUND`)
	s.Types("reload dsoftbusd B\r")
	s.Shows(`dsoftbusd on B: unchanged since it was last reloaded, started again, in `)
	// What does not compile changes nothing.
	if err := os.WriteFile(edited, append(changed, "nonsense"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Types("reload dsoftbusd B\r")
	s.Shows(`daemon\.go:\d+:\d+: `)
	s.Shows(promptShown)
	s.Types("exec A pkgfs -peer node-b -wait 10s pk 'stat pkg:/system/nothing'\r")
	s.Shows(`STAT NOT_FOUND`)
	s.Types("quit\r")
	s.Ends(0)
}

// A shell in a machine that runs, on a real terminal: keys, Ctrl-C, size, job, end; and nothing of it is left.
func TestAttach(t *testing.T) {
	name := unique("looked-into-from-another-terminal")
	r := startRun(t, "# Runs meanwhile.\nup\nmarker -within 4m A '^enough$'\n", "-name", name)
	r.await("marker -within 4m")
	s := onTerminal(t, t.TempDir(), "attach", "-run", name, "A")
	s.Shows(`\$ `)
	s.Types("hostname\r")
	s.Shows(`\nnode-a\r\n`)
	s.Types("stty\r")
	s.Shows(`40[^\n]*200|rows 40[^\n]*`)
	s.Resize(50, 132)
	s.Types("netbench serve\r")
	s.Shows(`netbench: ready`)
	s.Types("\x03")
	s.Shows(`\$ `)
	s.Types("stty\r")
	s.Shows(`50[^\n]*132|rows 50[^\n]*`)
	s.Types("exit\r")
	s.Ends(0)
	out, err := exec.Command(rigBinary, "do", "-run", name, "exec A ps -e").CombinedOutput()
	if err != nil || strings.Contains(string(out), "netbench") {
		t.Errorf("%v, of the shell is left:\n%s", err, out)
	}
	// A program in place of a shell, and how it ended.
	s = onTerminal(t, t.TempDir(), "attach", "-run", name, "B", "--", "cat", "/no/such/file")
	s.Shows(`/no/such/file`)
	s.Ends(1)
	// It may end before the line is told to have been run.
	_ = exec.Command(rigBinary, "do", "-run", name, "exec A echo enough").Run()
	r.await("REPAIRED test")
	r.end()
}
