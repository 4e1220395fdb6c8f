package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// dumpable is two machines with a session, until somebody says that it is enough.
const dumpable = `# They idle.
up
marker -within 4m A '^enough$'
-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

// ask runs the rig's program to its end, which must be a good one.
func ask(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, rigBinary, args...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		t.Fatalf("rig %s: %v\n%s%s", strings.Join(args, " "), err, out, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// parkedGoroutines are those of a printed text that stand, by their ids, without arguments of functions: what two texts of nearly the same time have
// in common. The one that answers when a program is asked is not among them, nor are those that run.
func parkedGoroutines(text string) map[string]string {
	all := map[string]string{}
	for _, one := range strings.Split(strings.TrimSpace(text), "\n\n") {
		head, rest, _ := strings.Cut(one, "\n")
		if !strings.HasPrefix(head, "goroutine ") || strings.Contains(head, "[run") || strings.Contains(rest, "main.handleSignals.func1") {
			continue
		}
		for line := range strings.Lines(rest) {
			if i := strings.LastIndexByte(line, '('); i >= 0 && line[0] != '\t' && !strings.HasPrefix(line, "created by") {
				line = line[:i] + "(...)\n"
			}
			all[head] += line
		}
		all[head] = strings.TrimSpace(all[head])
	}
	return all
}

// What a machine's dump tells is what its program tells when it is asked, and Delve opens the core that is made of it.
func TestStacksOfADump(t *testing.T) {
	needQEMU(t)
	d, err := images.DebuggerFor(t.Context(), images.Config{SourceDir: projectDir}, false)
	if err != nil {
		t.Fatal(err)
	}
	name := unique("dumped-to-be-read")
	r := startRun(t, dumpable, "-name", name)
	r.await("marker -within 4m")
	ask(t, "do", "-run", name, "marker -within 1m A 'cross-vm session ok'")
	dir := t.TempDir()
	file := filepath.Join(dir, "a.core")
	before := parkedGoroutines(ask(t, "stacks", "-run", name, "A", "dsoftbusd"))
	ask(t, "dump", "-run", name, "A", file)
	after := parkedGoroutines(ask(t, "stacks", "-run", name, "A", "dsoftbusd"))
	// It may end before the line is told to have been run.
	_ = exec.Command(rigBinary, "do", "-run", name, "exec A echo enough").Run()
	r.await("REPAIRED test")
	r.end()

	text := ask(t, "stacks", file, "dsoftbusd")
	dumped := parkedGoroutines(text)
	same := 0
	for head, want := range before {
		if after[head] != want {
			continue // it did something
		}
		same++
		if dumped[head] != want {
			t.Errorf("%s it told\n%s\nand the dump tells\n%s", head, want, dumped[head])
		}
	}
	if same < 8 {
		t.Errorf("only %d goroutines stood", same)
	}
	if text := ask(t, "stacks", file); !regexp.MustCompile(`(?s)== agent, process \d+: /bin/uinit\n\ngoroutine 1 .*== packagefsd, process \d+: packagefsd\n.*== dsoftbusd, process \d+: dsoftbusd\n`).MatchString(text) {
		t.Errorf("of all programs:\n%s", text)
	}

	// What is beside it is taken first, and must be that machine's.
	stranger := filepath.Join(dir, recording.DebugFile)
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-B 0x0123456789abcdef0123456789abcdef01234567", "-o", stranger, "./memory/testdata/parked").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(rigBinary, "stacks", file, "dsoftbusd").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "whose build id is 0123456789abcdef0123456789abcdef01234567; those that tell theirs have ") || !strings.Contains(string(out), "-binary names another") {
		t.Errorf("with another binary: %v, %s", err, out)
	}

	core := filepath.Join(dir, "dsoftbusd.core")
	if got, want := ask(t, "stacks", "-binary", d.Node, "-core", core, file, "dsoftbusd"), "dlv core "+d.Node+" "+core+"\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	testDelve(t, d, core, dumped)
}

// testDelve has Delve open a core: it lists the same goroutines with the same functions, and tells arguments and variables.
func testDelve(t *testing.T, d *images.Debugger, core string, dumped map[string]string) {
	t.Helper()
	id := ""
	for head, text := range dumped {
		if i := strings.Index(text, "dsoftbusd.(*daemon).acceptSessions(...)"); i >= 0 {
			id = strings.Fields(head)[1]
		}
	}
	script := filepath.Join(t.TempDir(), "init")
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	play := func(lines ...string) string {
		t.Helper()
		if err := os.WriteFile(script, []byte(strings.Join(append(lines, "exit\n"), "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, d.Dlv, "core", d.Node, core, "--init", script, "--allow-non-terminal-interactive=true")
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "TERM=dumb")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dlv: %v\n%s", err, out)
		}
		return regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(string(out), "")
	}
	listed := map[string][]string{} // functions by the goroutine's id
	var current string
	for line := range strings.Lines(play("goroutines -t 50")) {
		if m := regexp.MustCompile(`^\*? *Goroutine (\d+) `).FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := regexp.MustCompile(`^\s+\d+\s+0x[0-9a-f]+ in (\S+)`).FindStringSubmatch(line); m != nil {
			listed[current] = append(listed[current], m[1])
		}
	}
	for head, text := range dumped {
		functions := listed[strings.Fields(head)[1]]
		for line := range strings.Lines(text) {
			name, isCall := strings.CutSuffix(strings.TrimSuffix(line, "\n"), "(...)")
			if !isCall || strings.Contains(name, "[...]") || strings.HasPrefix(name, "internal/poll.runtime_") {
				continue
			}
			if !slices.Contains(functions, name) {
				t.Errorf("of %s Delve has %q, without %s", head, functions, name)
			}
		}
	}
	frame := slices.IndexFunc(listed[id], func(name string) bool { return strings.HasSuffix(name, ".acceptSessions") })
	if frame < 0 {
		t.Fatalf("no goroutine that accepts sessions: %v", listed[id])
	}
	at := fmt.Sprintf("frame %d ", frame)
	out := play("goroutine "+id, at+"args", at+"locals", at+"print d.id")
	if !regexp.MustCompile(`(?m)^d = \("\*dsoftbus-rig/nodes/dsoftbusd\.daemon"\)\(0x[0-9a-f]+\)$`).MatchString(out) || !strings.Contains(out, "\n\"node-a\"\n") {
		t.Errorf("arguments and variables:\n%s", out)
	}
}

// Which binary is taken for a dump: the nearest, and none from above the run's folder.
func TestDebugBinaryOf(t *testing.T) {
	root := t.TempDir()
	write := func(elem ...string) string {
		t.Helper()
		file := filepath.Join(append([]string{root}, elem...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	outside := write("panic.core")
	write("runs", recording.DebugFile)
	write("runs", "run", record.EventsFile)
	write("runs", "run", "area", "name", record.EventsFile)
	dump := filepath.Join(root, "runs", "run", "area", "name", "A", "panic.core")
	check := func(dump, want string) {
		t.Helper()
		if got := debugBinaryOf(dump); got != want {
			t.Errorf("%s has %q, want %q", dump, got, want)
		}
	}
	check(dump, "")
	check(outside, "")
	for _, elem := range [][]string{{"runs", "run", recording.DebugFile}, {"runs", "run", "area", "name", recording.DebugFile}, {"runs", "run", "area", "name", "A", recording.DebugFile}} {
		check(dump, write(elem...))
	}
	check(outside, "")
	check(outside, func() string { write(recording.DebugFile); return filepath.Join(root, recording.DebugFile) }())
}

// Which of the programs a process was.
func TestRanAs(t *testing.T) {
	for want, args := range map[string][]string{
		"agent": {"/bin/uinit"}, "dsoftbusd": {"dsoftbusd", "-x"}, "pkgfs": {"/bin/node", "pkgfs", "cat"}, "node": {"node"}, "?": nil,
	} {
		if got := ranAs(args); got != want {
			t.Errorf("%q ran as %s, want %s", args, got, want)
		}
	}
}
