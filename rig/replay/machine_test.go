package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/pace/pacetest"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

func sprint(v any) string { return fmt.Sprint(v) }

// positionsAt is a file of positions, after so many seconds each: a hundred instructions take one.
func positionsAt(start time.Time, seconds ...int) string {
	var b strings.Builder
	for _, s := range seconds {
		line, _ := json.Marshal(recording.Position{Time: start.Add(time.Duration(s) * time.Second), Instructions: int64(100 * s)})
		b.Write(append(line, '\n'))
	}
	return b.String()
}

// limit bounds each test with machines.
var limit = pacetest.Limit(3 * time.Minute)

// script is the scenario that is recorded. Its name is script's, its lines are those of its steps.
const (
	script = "# Node A reads from node B.\nup\nexec A pkgfs -peer node-b cat pkg:/system/build.prop\nexec A vitals dsoftbusd\n" +
		"-- B/packages/system@1.0.0/build.prop --\nro.nexus.build=dev\n"
	named = "recorded"
)

// A fixture is a recorded run, and the program that replays it.
type fixture struct{ run, rig string }

// What is recorded once is replayed by all, side by side.
func TestMachines(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	if _, err := exec.LookPath(host.DefaultQEMU); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := t.TempDir()
	f := &fixture{rig: filepath.Join(dir, "rig")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", f.rig, "..").CombinedOutput(); err != nil {
		t.Fatalf("build rig: %v: %s", err, out)
	}
	file, runs := filepath.Join(dir, named+".txtar"), filepath.Join(dir, "runs")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, f.rig, "run", "-record", "-runs", runs, file).CombinedOutput(); err != nil {
		t.Fatalf("rig run -record: %v\n%s", err, out)
	}
	var err error
	if f.run, err = filepath.EvalSymlinks(filepath.Join(runs, record.LatestLink)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, *fixture){
		"identical": replaysIdentically, "difference": tellsDifference, "stall": noticesStall, "refusals": refuses,
		"step and time": stopsAtStepAndTime, "find and dump": findsAndDumps, "find value": findsValue, "gdb": isDebugged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// A life of the recorded run.
func life(t *testing.T, run, node string) *recording.Life {
	t.Helper()
	all, err := Scenarios(run)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Choose(all, named)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	return n.Lives[0]
}

// copied is a copy of the run, to be changed. What is large is linked.
func copied(t *testing.T, run string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(run, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(run, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if filepath.Dir(path) == run && d.Name() != "events.jsonl" {
			return os.Link(path, filepath.Join(to, rel))
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// play runs the real program; its status must be that.
func (f *fixture) play(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out, said strings.Builder
	cmd := exec.CommandContext(ctx, f.rig, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("rig %q: exit status %d, want %d\n%s%s", args, got, status, out.String(), said.String())
	}
	return out.String(), said.String()
}

// Both machines replay, side by side and each without the other, and print what they printed.
func replaysIdentically(t *testing.T, f *fixture) {
	run := f.run
	out, said := f.play(t, 0, "replay", "-j", run)
	for _, node := range []string{"A", "B"} {
		l := life(t, run, node)
		for _, want := range []string{
			fmt.Sprintf("%s: identical, %d lines\n", node, l.Lines), node + ": init: ", node + ":  ",
			"[dsoftbusd] dsoftbusd: cross-vm session ok node-",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("there is no %q in\n%s", want, out)
			}
		}
		if n := len(regexp.MustCompile(`(?m)^`+node+`: `).FindAllString(out, -1)); n != l.Lines+1 {
			t.Errorf("node %s: %d lines and a verdict, want %d", node, n-1, l.Lines)
		}
		if !strings.Contains(said, node+": ") || !strings.Contains(said, "% of the log, instruction ") {
			t.Errorf("how far node %s was, nobody said: %s", node, said)
		}
	}
	if strings.Contains(out+said, "host network") {
		t.Errorf("QEMU's warning of having no network is shown: %s", said)
	}
}

// A recording that says something else than the machine did is one that the machine differs from.
func tellsDifference(t *testing.T, f *fixture) {
	run := copied(t, f.run)
	file := life(t, run, "A").File(recording.ConsoleFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	was := strings.TrimSpace(lines[1])
	lines[1] = "tampered with\r\n"
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	out, said := f.play(t, 1, "replay", run, "A")
	for _, want := range []string{"differs in line 2 of the console\n", strings.TrimSpace(lines[0]) + "\n", "recorded:  tampered with\n", was} {
		if !strings.Contains(said, want) {
			t.Errorf("there is no %q in %s", want, said)
		}
	}
	if strings.Contains(out, "identical") || strings.Contains(out, "[agent]") {
		t.Errorf("it went on: %s", out)
	}
}

// A machine with another command line asks for other things than those that were recorded.
func noticesStall(t *testing.T, f *fixture) {
	run := f.run
	l := life(t, run, "A")
	i := slices.Index(l.Args, "-append")
	l.Args[i+1] = strings.Replace(l.Args[i+1], "nowatchdog ", "", 1)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p, err := Open(ctx, l, Options{QEMU: l.QEMU, Run: run, stalled: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = p.Run(ctx)
	var stalled *StalledError
	if !errors.As(err, &stalled) {
		t.Fatalf("it ends with %v", err)
	}
	if stalled.Instructions < 1000 || stalled.Share <= 0 || stalled.Share > 0.5 || stalled.CPU < 2*time.Second || stalled.CPU > 20*time.Second {
		t.Errorf("%+v", stalled)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("-until instruction:%d", stalled.Instructions-1)) {
		t.Errorf("it does not say what next: %v", err)
	}
}

func refuses(t *testing.T, f *fixture) {
	run := copied(t, f.run)
	for name, tt := range map[string]struct {
		change func(*recording.Life)
		why    string
	}{
		"no end":         {func(l *recording.Life) { l.Ended = false }, "the recording has no end"},
		"version":        {func(l *recording.Life) { l.QEMUVersion = "7.1.0" }, "recorded by QEMU 7.1.0"},
		"another kernel": {func(l *recording.Life) { l.Kernel = strings.Repeat("0", 64) }, recording.KernelFile + " is not what the machine booted"},
		"another initrd": {func(l *recording.Life) { l.Initrd = strings.Repeat("0", 64) }, recording.InitrdFile + " is not what the machine booted"},
	} {
		t.Run(name, func(t *testing.T) {
			l := life(t, run, "A")
			tt.change(l)
			if err := recording.Write(l.Dir, l.Machine); err != nil {
				t.Fatal(err)
			}
			if _, said := f.play(t, 2, "replay", run, "A"); !strings.Contains(said, tt.why) {
				t.Error(said)
			}
		})
		run = copied(t, f.run)
	}
	if _, said := f.play(t, 2, "replay", run, "C"); !strings.Contains(said, "there are those of A, B") {
		t.Error(said)
	}
	if _, said := f.play(t, 2, "replay", "-life", "2", run, "A"); !strings.Contains(said, "has 1 lives") {
		t.Error(said)
	}
	if _, said := f.play(t, 2, "replay", "-until", "never said", run, "A"); !strings.Contains(said, "no such line was recorded") {
		t.Error(said)
	}
}

// stood is where a replay said that it stood.
var stood = regexp.MustCompile(`stands at instruction ([0-9]+), ([0-9.]+) % of the log, about ([0-9.]+) s after`)

// Steps and times lie where the machine was when they began.
func stopsAtStepAndTime(t *testing.T, f *fixture) {
	run := f.run
	l := life(t, run, "B")
	positions, err := l.Positions()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Scenarios(run)
	if err != nil {
		t.Fatal(err)
	}
	after := positions[len(positions)/4].Time.Sub(all[0].Started).Round(time.Millisecond)
	for _, point := range []string{"line:3", "step:3", fmt.Sprintf("%.3fs", after.Seconds())} {
		at := all[0].Started.Add(after)
		if strings.HasPrefix(point, "line") {
			at = all[0].Steps[1].Time
		} else if strings.HasPrefix(point, "step") {
			at = all[0].Steps[2].Time
		}
		var want int64
		for _, p := range positions {
			if !p.Time.After(at) {
				want = p.Instructions + beside
			}
		}
		out, _ := f.play(t, 0, "replay", "-until", point, run, "B")
		if m := stood.FindStringSubmatch(out); m == nil || m[1] != fmt.Sprint(want) {
			t.Errorf("-until %s, which is instruction %d:\n%s", point, want, out)
		}
	}
}

// The same line is found at the same instruction, whichever way; the instruction before it is not there. What is there is a machine that can be looked at.
func findsAndDumps(t *testing.T, f *fixture) {
	run := f.run
	const marker = "dsoftbusd: ready"
	out, _ := f.play(t, 0, "replay", "-find", marker, run, "A")
	first := stood.FindStringSubmatch(out)
	if first == nil || !strings.Contains(out, "it holds after instruction "+first[1]+", and not before; found by ") {
		t.Fatalf("-find:\n%s", out)
	}
	dump := filepath.Join(t.TempDir(), "a.core")
	out, _ = f.play(t, 0, "replay", "-until", "/^dsoftbusd: re.dy$/", "-dump", dump, run, "A")
	second := stood.FindStringSubmatch(out)
	if second == nil || second[1] != first[1] {
		t.Errorf("found at %s, and then at\n%s", first[1], out)
	}
	if n := strings.Count(out[:strings.Index(out, "node A stands")], "\n"); n > life(t, run, "A").Lines {
		t.Errorf("%d lines, some of them twice:\n%s", n, out)
	}
	var n int64
	if _, err := fmt.Sscan(first[1], &n); err != nil {
		t.Fatal(err)
	}
	if last := out[strings.Index(out, "its last lines:"):]; !strings.Contains(last, marker) {
		t.Errorf("where the line is whole it is not among the last:\n%s", last)
	}
	command := regexp.MustCompile(`  rig (stacks -binary .* ` + regexp.QuoteMeta(dump) + `)\n`).FindStringSubmatch(out)
	if command == nil {
		t.Fatalf("how to read the dump is not said:\n%s", out)
	}
	stacks, _ := f.play(t, 0, append(strings.Fields(command[1]), "dsoftbusd")...)
	if !strings.Contains(stacks, "goroutine 1 [") || !strings.Contains(stacks, "dsoftbus-rig/nodes/dsoftbusd.Run(...)") {
		t.Errorf("the goroutines in the dump:\n%s", stacks)
	}

	before, _ := f.play(t, 0, "replay", "-until", fmt.Sprintf("instruction:%d", n-1), run, "A")
	if strings.Contains(before, marker) {
		t.Errorf("one instruction before, the line is there:\n%s", before)
	}
}

// A value of a program, which gdb reads from what lies in the machine's memory.
func findsValue(t *testing.T, f *fixture) {
	run := f.run
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("no gdb here")
	}
	const find = "gdb:agent:'runtime.sched'.goidgen.value > 17"
	out, _ := f.play(t, 0, "replay", "-find", find, run, "B")
	at := stood.FindStringSubmatch(out)
	if at == nil || !strings.Contains(out, "it holds after instruction "+at[1]) {
		t.Fatalf("-find:\n%s", out)
	}
	if _, said := f.play(t, 1, "replay", "-find", "gdb:nobody:1", run, "B"); !strings.Contains(said, "does not hold anywhere") {
		t.Error(said)
	}
}

// gdb stops a program in the replay by a function's name, sees arguments and goroutines, and goes back.
func isDebugged(t *testing.T, f *fixture) {
	run := f.run
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		t.Skip("no gdb here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.rig, "replay", "-until", "discovery peer learned", "-gdb", run, "A")
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stderr = file
	said := func() string {
		text, _ := os.ReadFile(file.Name()) // what there is
		return string(text)
	}
	read, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := &strings.Builder{}
	how := ""
	for b := make([]byte, 4096); how == ""; {
		n, err := read.Read(b)
		all.Write(b[:n])
		if m := regexp.MustCompile(`(?m)^gdb -q (.*)\n`).FindStringSubmatch(all.String()); m != nil {
			how = m[1]
		}
		if err != nil && how == "" {
			t.Fatalf("how to connect is not said: %v\n%s%s", err, all, said())
		}
	}
	commands := ""
	for _, c := range []string{
		// Before the place at which gdb came, where QEMU itself has saved a state, only the rig's lead.
		"monitor info replay", "reverse-stepi", "monitor info replay",
		"break dsoftbus-rig/nodes/dsoftbusd.(*daemon).handshake", "continue", "info args", "bt 3", "info goroutines", "monitor info replay",
		"reverse-stepi", "monitor info replay", "break dsoftbus-rig/nodes/dsoftbusd.(*daemon).dial", "reverse-continue", "bt 1", "monitor info replay",
	} {
		commands += " -ex 'echo == " + c + "\\n' -ex '" + c + "'"
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", "exec "+gdb+" -nx -batch "+how+commands).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	parts := map[string]string{}
	var counts []int64
	for _, part := range strings.Split(string(out), "== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		parts[name] = text
		if m := regexp.MustCompile(`instruction count = ([0-9]+)`).FindStringSubmatch(text); m != nil {
			var n int64
			_, _ = fmt.Sscan(m[1], &n) // digits
			counts = append(counts, n)
		}
	}
	for name, want := range map[string]string{
		"continue":         "Breakpoint 1, dsoftbus-rig/nodes/dsoftbusd.(*daemon).handshake",
		"info args":        "raw = {tab = ",
		"bt 3":             "dsoftbusd.(*daemon).dial",
		"info goroutines":  "waiting  runtime.gopark",
		"reverse-continue": "Breakpoint 2, dsoftbus-rig/nodes/dsoftbusd.(*daemon).dial",
		"bt 1":             "nodes/dsoftbusd/dialler.go:",
	} {
		if !strings.Contains(parts[name], want) {
			t.Errorf("%s: there is no %q in %s", name, want, parts[name])
		}
	}
	if len(counts) != 5 || counts[1] != counts[0]-1 || counts[2] <= counts[1] || counts[3] != counts[2]-1 || counts[4] >= counts[3] {
		t.Errorf("first, a step back, at the breakpoint, a step back, and at the breakpoint before, the machine was at %v", counts)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	_, _ = io.Copy(all, read)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the replay ends with %v: %s", err, said())
	}
}

// The disk for states is one by QEMU's own judgement.
func TestEmptyDisk(t *testing.T) {
	img, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("no qemu-img here")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, emptyDisk(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(img, "check", "-f", "qcow2", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "No errors were found") {
		t.Errorf("%v: %s", err, out)
	}
}
