package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/record"
)

// A racer is the program of testdata/racer, and a scenario in which one node asks another for what is being written there.
type racer struct {
	binary string // on the host, with all that a debugger wants to know
	script string
}

// buildRacer compiles it so that it loses about every other playing, or never.
func buildRacer(t *testing.T, loses bool) racer {
	t.Helper()
	r := racer{binary: filepath.Join(t.TempDir(), "racer")}
	args := []string{"build", "-buildvcs=false", "-trimpath", "-o", r.binary}
	if loses {
		args = append(args, "-tags", "race_lost")
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "./testdata/racer")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build racer: %v\n%s", err, out)
	}
	script, err := os.ReadFile(filepath.Join("testdata", "race.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loadedPart(r.binary)
	if err != nil {
		t.Fatal(err)
	}
	r.script = fmt.Sprintf("%s-- racer.text --\n%s\n", script, printfText(loaded))
	return r
}

// loadedPart is the beginning of a program's file that has all that its kernel loads. Debug information lies behind it.
func loadedPart(file string) ([]byte, error) {
	program, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	end := uint64(0)
	for _, p := range program.Progs {
		if p.Type == elf.PT_LOAD {
			end = max(end, p.Off+p.Filesz)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if end == 0 || end > uint64(len(data)) {
		return nil, fmt.Errorf("%s: what is loaded ends at %d of %d bytes", file, end, len(data))
	}
	return data[:end], nil
}

// printfText is what the machines' shell makes data of: `printf "$(<file)"`. A scenario has no NUL, and may have its line ends changed; the shell drops line ends at
// the end; and \ and % mean something to printf.
func printfText(data []byte) []byte {
	var out bytes.Buffer
	for i, c := range data {
		switch {
		case c < 0x80 && c != 0 && c != '\n' && c != '\r' && c != '\\' && c != '%':
			out.WriteByte(c)
		case i+1 < len(data) && (data[i+1] < '0' || data[i+1] > '9'):
			fmt.Fprintf(&out, `\%o`, c)
		default: // all digits, or it would take what follows for one
			fmt.Fprintf(&out, `\%03o`, c)
		}
	}
	return out.Bytes()
}

// raceTo is where TestWriteRace writes.
var raceTo = flag.String("race-to", "", "`folder` to which TestWriteRace writes race.txtar and racer, with which README.md shows a recording")

// What README.md shows can be done again by a reader who has the scenario and
// the program.
func TestWriteRace(t *testing.T) {
	to := *raceTo
	if to == "" {
		to = t.TempDir()
	}
	r := buildRacer(t, true)
	program, err := os.ReadFile(r.binary)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"race.txtar": []byte(r.script), "racer": program} {
		if err := os.WriteFile(filepath.Join(to, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(rigBinary, "check", filepath.Join(to, "race.txtar")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// With its lock the program never shows what is half written.
func TestRaceThatIsWon(t *testing.T) {
	t.Parallel()
	r := startRun(t, buildRacer(t, false).script, "-repeat", "5")
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	rec, err := record.Load(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rec.Summary.Scenarios); n != 5 {
		t.Errorf("%d scenarios in the summary", n)
	}
}

// Without it, it does, if it is asked often enough: 20 playings are all won once in a million times.
func TestRaceThatIsLost(t *testing.T) {
	t.Parallel()
	r := startRun(t, buildRacer(t, true).script, "-until-fail", "-repeat", "20")
	if status := r.end(); status != record.ExitFailed {
		t.Fatalf("exit status %d", status)
	}
	rec, err := record.Load(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, s := range rec.Summary.Scenarios {
		f := s.Failure
		if f == nil {
			continue
		}
		lost++
		if s.Result != record.Failed || f.Reason != record.ExecStatus || f.Node != "B" || !strings.Contains(f.Message, "racer: TORN seq=") {
			t.Errorf("%s: %s, failure %+v", s.Name, s.Result, f)
		}
	}
	if lost == 0 {
		t.Error("nothing failed")
	}
}

// What lost is caught by playing it again, recorded, and then it loses in each replay, and stops at the line.
func TestRaceIsCaught(t *testing.T) {
	t.Parallel()
	racer := buildRacer(t, true)
	r := startRun(t, racer.script, "-record=fail", "-record-tries", "20", "-until-fail", "-repeat", "20")
	if status := r.end(); status != record.ExitFailed {
		t.Fatalf("exit status %d", status)
	}
	rec, err := record.Load(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	as, tries := "", 0
	for _, s := range rec.Summary.Scenarios {
		if s.Recorded != "" {
			as, tries = s.Recorded, s.Tries
		}
	}
	if as == "" {
		t.Fatal("it did not lose again, in 20 tries")
	}
	t.Logf("it lost again in try %d", tries)
	run, err := filepath.EvalSymlinks(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"A", "B"} {
		// The same wrong answer, to the digit, since all that was printed is compared.
		out := replayed(t, run, n, "-scenario", as)
		if !strings.Contains(out, "identical, ") || n == "B" && !strings.Contains(out, "racer: TORN seq=") {
			t.Errorf("the replay of %s:\n%s", n, out)
		}
	}
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("no gdb here")
	}
	cmd := exec.CommandContext(t.Context(), rigBinary, "replay", run, "B", "-scenario", as, "-gdb", "-listen", "-binary", racer.binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var where string
	for lines := bufio.NewScanner(stdout); where == "" && lines.Scan(); {
		where = socketPath.FindString(lines.Text())
	}
	gdb := exec.CommandContext(t.Context(), "gdb", "-q", "-batch", "-nx", "-ex", "set remotetimeout 120", "-ex", "target remote "+where,
		"-ex", "break main.report if seq != copy", "-ex", "continue", "-ex", "info args", "-ex", "frame 1", "-ex", "detach", racer.binary)
	out, err := gdb.CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?s)Breakpoint 1, main\.report \(seq=([0-9]+), copy=([0-9]+)\).*main\.answer.*testdata/racer/main\.go:[0-9]+`).Match(out) {
		t.Errorf("gdb: %v\n%s", err, out)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("rig replay -gdb ends when gdb hangs up: %v", err)
	}
}

// replayed is what `rig replay` of a node prints. It must end with status 0.
func replayed(t *testing.T, run, node string, flags ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), rigBinary, append([]string{"replay", run, node}, flags...)...).Output()
	if err != nil {
		var said []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			said = exit.Stderr
		}
		t.Fatalf("replay %s: %v\n%s%s", node, err, out, said)
	}
	return string(out)
}
