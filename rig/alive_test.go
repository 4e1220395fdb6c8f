package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/live/livetest"
	"dsoftbus-rig/rig/pace/pacetest"
	"dsoftbus-rig/rig/ptytest"

	"golang.org/x/sys/unix"
)

// aliveLimit bounds every wait for a command of these tests. It is no figure: a busy host takes what it takes.
var aliveLimit = pacetest.Limit(30 * time.Second)

// asked is a scenario that is alive in this process, and asked by the real program.
type asked struct {
	*livetest.Scenario
	t   *testing.T
	run string
	end func() // of the scenario
}

func startAsked(t *testing.T) *asked {
	t.Helper()
	files := t.TempDir()
	run := fmt.Sprintf("alive-test-%d-%s", os.Getpid(), t.Name())
	s := &asked{Scenario: livetest.New("/runs/"+run, "area/name", files), t: t, run: run}
	f, name, err := live.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Remove(name) })
	l, err := live.Inherited(f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var server sync.WaitGroup
	server.Go(func() {
		if err := live.Serve(ctx, l, s); err != nil {
			t.Error(err)
		}
	})
	s.end = func() { cancel(); server.Wait() }
	t.Cleanup(s.end)
	return s
}

// command is the real program with a command that asks this scenario.
func (s *asked) command(verb string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(s.t.Context(), aliveLimit)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, rigBinary, append([]string{verb, "-run", s.run}, args...)...)
	cmd.Dir = s.Files
	return cmd
}

// status is how a program has ended.
func status(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err == nil {
		return 0
	}
	return exit.ExitCode()
}

// What a process says that answers in a scenario's place does nothing to a terminal.
func TestHostileAnswers(t *testing.T) {
	f, name, err := live.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Remove(name) })
	l, err := live.Inherited(f)
	if err != nil {
		t.Fatal(err)
	}
	const evil = `\u001b]0;owned\u0007\u001b[2J`
	answer := `{"error":{"class":"refused","text":"` + evil + `"}}` + "\n"
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	})
	t.Cleanup(served.Wait)
	t.Cleanup(func() { l.Close() })
	check := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), aliveLimit)
		defer cancel()
		out, err := exec.CommandContext(ctx, rigBinary, args...).CombinedOutput()
		if bytes.ContainsAny(out, "\x1b\x07") {
			t.Errorf("%q: %q, %v: the terminal gets escapes", args, out, err)
		}
		if args[0] == "ps" && !bytes.Contains(out, []byte("owned")) {
			t.Errorf("%q: %q, %v: the answer did not come, so nothing was seen", args, out, err)
		}
	}
	all := [][]string{{"ps"}, {"do", "-run", "owned", "help"}, {"attach", "A"}, {"__complete", "attach", "-run", ""}, {"__complete", "console", ""}}
	for _, args := range all {
		check(args...)
	}
	answer = `{"result":{"scenario":"` + evil + `","run":"/runs/` + evil + `","nodes":[{"name":"` + evil + `","state":"up"}],"held":"` + evil + `"}}` + "\n"
	for _, args := range all {
		check(args...)
	}
}

func TestAskingAScenario(t *testing.T) {
	s := startAsked(t)
	s.Stand.Step = &live.Place{File: "/there/name.txtar", Line: 7, Text: "exec A \x1b[2J"}
	s.Stand.Held = "failed"
	for _, l := range []console.Line{
		{Unit: "kernel", Stream: "console", Text: "[    0.100000] boots \x1b[31m"},
		{Unit: "dsoftbusd", Stream: "stdout", Text: "ready", Guest: 1500 * time.Millisecond},
		{Unit: "packagefsd", Stream: "stderr", Text: "served \xff", Guest: 12 * time.Second},
	} {
		s.Logs["A"].Append(l)
	}
	if err := os.WriteFile(filepath.Join(s.Files, "here"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.Files, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	const nodes = `there is no node "D"; there are A, B, C`
	for _, c := range []struct {
		line   string // words of the command, separated by spaces
		status int
		stdout string // all of it; with "…" in front, a part
		stderr string // a part; empty: nothing
	}{
		{"ps", 0, `…  area/name  1m0s   A up, B up, C down  held: failed  name.txtar:7: exec A \x1b[2J`, ""},
		{"ps -json", 0, "…\n    \"scenario\": \"area/name\",\n", ""},
		{"console A", 0, "[    0.100000] boots \\x1b[31m\n", ""},
		{"journal A", 0, "    1.500 [dsoftbusd] ready\n   12.000 [packagefsd] served \\xff\n", ""},
		{"journal A -n 1", 0, "   12.000 [packagefsd] served \\xff\n", ""},
		{"journal A -unit dsoftbusd", 0, "    1.500 [dsoftbusd] ready\n", ""},
		{"journal A -unit dsoftbus", 0, "", `no program "dsoftbus" of A has printed anything yet; those that have: dsoftbusd, packagefsd`},
		{"journal B", 0, "", "no program of B has printed anything yet"},
		{"journal B -n 0", 0, "", ""},
		{"console B", 0, "", "the kernel of B has printed nothing: a clone has booted before it was one"},
		{"journal A -n -1", 2, "", "-n -1: say how many lines"},
		{"journal D", 2, "", nodes},
		{"do say hello world", 0, "hello world\n", ""},
		{"do whisper hello", 0, "", "hello\n"},
		{"do -v say hello", 0, "hello\n", "# step-start: say hello\n"},
		{"do fail", 1, "", "it went wrong"},
		{"do dance -kernel", 2, "", `unknown command "dance"`},
		{"cp here A:/there", 0, "", ""},
		{"cp A:/there folder", 0, "", ""},
		{"cp here A:/folder/", 0, "", ""},
		{"cp A:/nowhere folder", 1, "", "no such file"},
		{"cp here D:/there", 2, "", nodes},
		{"cp here C:/there", 1, "", "node C is down: `up C` starts it"},
		{"qmp A query-status", 0, "{\n  \"arguments\": null,\n  \"command\": \"query-status\"\n}\n", ""},
		{`qmp A stop {"a":[1]}`, 0, "{\n  \"arguments\": {\n    \"a\": [\n      1\n    ]\n  },\n  \"command\": \"stop\"\n}\n", ""},
		{"qmp A nothing", 1, "", "CommandNotFound"},
		{"qmp D stop", 2, "", nodes},
		{"stacks A dsoftbusd", 0, "goroutine 1 [running]:\nmain.main()\n", ""},
		{"stacks A nobody", 1, "", "nobody does not run"},
		{"stacks D dsoftbusd", 2, "", nodes},
		{"dump A core", 0, "core\n", ""},
		{"dump A core", 2, "", "core exists; name another file"},
		{"dump A", 0, "…dump-A-", ""},
		{"dump D", 2, "", nodes},
		{"attach D", 2, "", nodes},
		{"attach C", 1, "", "node C is down"},
		{"attach A -- sh -c exit\t7", 7, "", ""},
		{"forward D 80", 2, "", nodes},
	} {
		words := strings.Split(c.line, " ")
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "\t", " ")
		}
		cmd := s.command(words[0], words[1:]...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		got := status(t, cmd.Run())
		part, only := strings.CutPrefix(c.stdout, "…")
		if got != c.status || !only && stdout.String() != part || !strings.Contains(stdout.String(), part) ||
			c.stderr == "" && stderr.Len() > 0 || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want %d, %q, %q", c.line, got, &stdout, &stderr, c.status, c.stdout, c.stderr)
		}
	}
	for _, name := range []string{"there", "folder/there", "folder/here"} {
		if data, err := os.ReadFile(filepath.Join(s.Files, name)); err != nil || string(data) != "content" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	var list []map[string]any
	if out, err := s.command("ps", "-json").Output(); err != nil || json.Unmarshal(out, &list) != nil || len(list) != 1 || list[0]["run"] != s.Stand.Run {
		t.Errorf("ps -json: %s, %v", out, err)
	}
}

// Completion knows what runs, and what it consists of.
func TestLiveCompletion(t *testing.T) {
	s := startAsked(t)
	for words, want := range map[string]string{
		"console ":                             "A B C",
		"attach B":                             "B",
		"cp A":                                 "A:",
		"console -run " + s.run[:len(s.run)-1]: s.run + "/area/name",
		"do -run " + s.run + " fl":             "flood",
	} {
		args := strings.Split(words, " ")
		verb, rest := args[0], args[1:]
		if !strings.Contains(words, "-run") {
			rest = append([]string{"-run", s.run}, rest...)
		}
		out, err := exec.Command(rigBinary, append([]string{"__completeNoDesc", verb}, rest...)...).Output()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || !strings.HasPrefix(got, want+" :") {
			t.Errorf("%s: %q, %v, want %s", words, got, err, want)
		}
	}
}

// Of the scenarios of several checkouts, the one of the checkout that a command
// is given in is asked, and named.
func TestAsksThisProject(t *testing.T) {
	project := func(s *asked) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o644); err != nil {
			t.Fatal(err)
		}
		s.Stand.Source = dir
		return dir
	}
	mine, other := startAsked(t), startAsked(t)
	here, _ := project(mine), project(other)
	mine.Stand.Run, other.Stand.Run = mine.Stand.Run+"-1", other.Stand.Run+"-2"
	for _, args := range [][]string{{}, {"-run", mine.run}} {
		cmd := exec.Command(rigBinary, append(append([]string{"do"}, args...), "say", "hello")...)
		cmd.Dir = here
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil || stdout.String() != "hello\n" || !strings.HasPrefix(stderr.String(), "rig: asking "+mine.run+"-1/area/name, a run of this project; -run names another (") {
			t.Errorf("%q: %v, %q, %q", args, err, &stdout, &stderr)
		}
	}
	if len(mine.Began) != 2 || len(other.Began) != 0 {
		t.Errorf("%d lines here, %d there", len(mine.Began), len(other.Began))
	}
	out, err := exec.Command(rigBinary, "-C", here, "do", "-run", other.run+"-2", "say", "there").CombinedOutput()
	if err != nil || string(out) != "there\n" {
		t.Errorf("by its name: %q, %v", out, err)
	}
}

// What stands behind its last line is at none.
func TestStep(t *testing.T) {
	for want, place := range map[string]*live.Place{
		"-":                               nil,
		"behind the last line of x.txtar": {File: "/runs/x.txtar"},
		"x.txtar:7: exec A true":          {File: "/runs/x.txtar", Line: 7, Text: "exec A true"},
	} {
		a := live.Alive{Status: live.Status{Run: "/runs/r", Scenario: "s", Held: "end", Step: place}}
		if got := psLine(&a, time.Now()); !strings.HasSuffix(got, "\t"+want) {
			t.Errorf("%+v: %q, want %q", place, got, want)
		}
	}
}

// Whatever ends a prompt, the terminal is as it was.
func TestPromptEnds(t *testing.T) {
	for what, c := range map[string]struct {
		end    func(s *asked, x *ptytest.Terminal)
		status int
		said   string
	}{
		"Ctrl-D":          {func(_ *asked, x *ptytest.Terminal) { x.Types("\x04") }, 0, "it stands still for others"},
		"SIGTERM":         {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGTERM) }, 130, "interrupted"},
		"SIGHUP":          {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGHUP) }, 130, "interrupted"},
		"SIGINT":          {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGINT) }, 130, "interrupted"},
		"lost connection": {func(s *asked, _ *ptytest.Terminal) { s.end() }, 0, ""},
		// Of these the program itself knows nothing, as of a panic.
		"SIGKILL": {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGKILL) }, -1, ""},
		"SIGABRT": {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGABRT) }, 2, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir()) // for the prompt's history; sockets may be there, too
			s := startAsked(t)
			s.run, s.Stand.Held = filepath.Base(s.Stand.Run), "failed"
			cmd := s.command("shell")
			cmd.Env = append(os.Environ(), "TERM=vt220")
			x := ptytest.Open(t, 20, 200, aliveLimit)
			x.Start(cmd)
			x.Shows("it stands here\r\n`retry` runs the line again, `continue` leaves it out, `quit` ends the script with it; .* Ctrl-D leaves it as it stands")
			x.Shows(`A\+B\+C> `)
			if raw := x.Settings(); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
				t.Errorf("the terminal is not raw: %+v", raw)
			}
			c.end(s, x)
			if c.said != "" {
				x.Shows(c.said)
			}
			x.EndsInTime(c.status)
		})
	}
}

// A debugger's own prompt is killed where the scenario ends, or this process is
// told to: the terminal is as it was all the same.
func TestDebuggerEnds(t *testing.T) {
	for what, c := range map[string]struct {
		end    func(s *asked, x *ptytest.Terminal)
		status int
	}{
		"scenario": {func(s *asked, _ *ptytest.Terminal) { s.end() }, 0},
		"SIGHUP":   {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGHUP) }, 0},
		"SIGTERM":  {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGTERM) }, 0},
	} {
		t.Run(what, func(t *testing.T) {
			s := startAsked(t)
			s.run = filepath.Base(s.Stand.Run)
			bin := t.TempDir()
			// In gdb's place, which needs a machine: what matters is that it
			// changes the settings, and is killed.
			if err := os.WriteFile(filepath.Join(bin, "gdb"), []byte("#!/bin/sh\nstty raw -echo; echo ready; exec sleep 1000\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := s.command("gdb", "A")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			x := ptytest.Open(t, 20, 200, aliveLimit)
			x.Start(cmd)
			x.Shows("ready")
			c.end(s, x)
			x.Ends(c.status)
		})
	}
}

// What a pipe brings is typed, and its end is the input's.
func TestAttachAPipe(t *testing.T) {
	s := startAsked(t)
	cmd := s.command("attach", "A", "--", "sh", "-c", "stty size; cat; exit 4")
	cmd.Stdin = strings.NewReader("~.\nno end")
	out, err := cmd.Output()
	if got := status(t, err); got != 4 || !bytes.Contains(out, []byte("24 80\r\n")) || bytes.Count(out, []byte("~.")) != 2 || bytes.Count(out, []byte("no end")) != 2 {
		t.Errorf("status %d, output %q", got, out) // as it was typed, and as it was read
	}
}

// onTerminal attaches on a real terminal.
func (s *asked) onTerminal(args ...string) *ptytest.Terminal {
	s.t.Helper()
	cmd := s.command("attach", args...)
	cmd.Env = append(os.Environ(), "TERM=vt220")
	x := ptytest.Open(s.t, 20, 50, aliveLimit)
	x.Start(cmd)
	return x
}

// Keys, Ctrl-C among them, and sizes go to the machine's terminal.
func TestAttachATerminal(t *testing.T) {
	s := startAsked(t)
	// A shell looks at its traps when it waits for a job, at once, but not when it reads: so a job reads.
	x := s.onTerminal("A", "--", "sh", "-c", `
		trap 'echo caught; exit 5' INT
		trap 'stty size' WINCH
		stty size; echo on $TERM
		exec 3<&0
		while read word <&3; do echo "<$word>"; done &
		while wait; [ $? -gt 128 ]; do :; done`)
	x.Shows("20 50\r\non vt220")
	if raw := x.Settings(); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the terminal is not raw: %+v", raw)
	}
	x.Types("one\r~~two\ra~.\r")
	x.Shows("<one>")
	x.Shows("<~two>")
	x.Shows(`<a~\.>`)
	x.Resize(44, 132)
	x.Shows("44 132")
	x.Types("\x03")
	x.Shows("caught")
	x.Ends(5)
}

// However attaching ends, the terminal is as it was, and what ran has hung up.
func TestAttachEnds(t *testing.T) {
	for what, c := range map[string]struct {
		end    func(s *asked, x *ptytest.Terminal)
		status int
		said   string
	}{
		"escape":        {func(_ *asked, x *ptytest.Terminal) { x.Types("\r~.") }, 130, "disconnected from A"},
		"SIGTERM twice": {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGTERM); x.Signal(syscall.SIGTERM) }, 130, "interrupted"},
		"SIGHUP":        {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGHUP) }, 130, "interrupted"},
		"SIGQUIT":       {func(_ *asked, x *ptytest.Terminal) { x.Signal(syscall.SIGQUIT) }, 130, "interrupted"},
		"scenario":      {func(s *asked, _ *ptytest.Terminal) { s.end() }, 1, "the scenario has ended"},
	} {
		t.Run(what, func(t *testing.T) {
			s := startAsked(t)
			s.run = filepath.Base(s.Stand.Run)
			told := namedPipe(t)
			// The job says that it is ready: one that is only being made has the shell's trap, and would outlive it.
			x := s.onTerminal("A", "--", "sh", "-c", `trap 'echo hung up > "`+told.Name()+`"; exit' HUP; sh -c 'echo ready; exec sleep 1000' & wait`)
			x.Shows("ready")
			c.end(s, x)
			x.Ends(c.status)
			x.Shows(c.said)
			_ = told.SetReadDeadline(time.Now().Add(aliveLimit))
			if line, err := bufio.NewReader(told).ReadString('\n'); line != "hung up\n" {
				t.Errorf("of what has hung up comes %q, %v", line, err)
			}
		})
	}
}

// namedPipe is for a program that has no other way to tell something.
func namedPipe(t *testing.T) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0) // for writing, too: it is open before anybody writes, and has no end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Ctrl-C ends the line, and the scenario goes on.
func TestDoIsInterrupted(t *testing.T) {
	s := startAsked(t)
	cmd := s.command("do", "-v", "hang")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(stderr)
	if line, err := said.ReadString('\n'); line != "# step-start: hang\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(said)
	if got := status(t, cmd.Wait()); got != 130 || err != nil || string(rest) != "rig: interrupted: hang was cut off: who asked has gone\n" {
		t.Errorf("status %d, it says %q, %v", got, rest, err)
	}
	if err := <-s.Ended; err == nil {
		t.Error("the line was not ended")
	}
	if out, err := s.command("do", "say", "on").Output(); err != nil || string(out) != "on\n" {
		t.Errorf("it does not go on: %q, %v", out, err)
	}
}

func TestFollowingLines(t *testing.T) {
	s := startAsked(t)
	for i := range 20 {
		s.Logs["A"].Append(console.Line{Unit: "x", Stream: "stdout", Text: fmt.Sprint(i)})
	}
	follow := func() (*exec.Cmd, io.Reader) {
		t.Helper()
		cmd := s.command("journal", "A", "-f")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n"))
		if _, err := io.ReadFull(out, first); err != nil || !bytes.HasPrefix(first, []byte("10\n")) {
			t.Fatalf("got %q, %v", first, err)
		}
		return cmd, out
	}
	byKey, out := follow()
	s.Logs["A"].Append(console.Line{Unit: "x", Stream: "stdout", Text: "more"})
	if more, err := io.ReadAll(io.LimitReader(out, 5)); err != nil || string(more) != "more\n" {
		t.Errorf("got %q, %v", more, err)
	}
	if err := byKey.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := status(t, byKey.Wait()); got != 0 {
		t.Errorf("Ctrl-C: status %d", got)
	}
	s.Logs["A"] = console.NewLog()
	for i := range 20 {
		s.Logs["A"].Append(console.Line{Unit: "x", Stream: "stdout", Text: fmt.Sprint(i)})
	}
	byItself, out := follow()
	s.end()
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	if got := status(t, byItself.Wait()); got != 0 {
		t.Errorf("the scenario's end: status %d", got)
	}
}

func TestForward(t *testing.T) {
	s := startAsked(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var service sync.WaitGroup
	defer service.Wait()
	defer l.Close()
	service.Go(func() { // answers in capitals when it has heard all
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			data, _ := io.ReadAll(conn)
			_, _ = conn.Write(bytes.ToUpper(data))
			conn.Close()
		}
	})
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	cmd := s.command("forward", "A", port)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		conn, err := net.DialTimeout("tcp", address, aliveLimit)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(aliveLimit))
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		data, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || string(data) != strings.ToUpper(text) {
			t.Errorf("got %q, %v", data, err)
		}
	}
	s.end()
	if got := status(t, cmd.Wait()); got != 0 {
		t.Errorf("status %d", got)
	}
}

// In a network of its own nobody finds what is alive in another one.
func TestNothingIsAlive(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		stdout string
		stderr string
	}{
		{[]string{"ps"}, 0, "", "no scenario is running\n"},
		{[]string{"ps", "-json"}, 0, "[]\n", ""},
		{[]string{"do", "up"}, 1, "", "rig: no scenario is running; start one with `rig run PATTERN`, in another terminal, and ask while it runs\n"},
	} {
		cmd := exec.Command(rigBinary, c.args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("no namespaces here: %v", err)
		}
		if got := status(t, err); got != c.status || stdout.String() != c.stdout || stderr.String() != c.stderr {
			t.Errorf("%q: status %d, stdout %q, stderr %q", c.args, got, &stdout, &stderr)
		}
	}
}

func TestEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"plain":          "plain",
		"~.more":         "!",
		"a\r~.":          "a\r!",
		"a\n~.b":         "a\n!",
		"a~.b":           "a~.b",
		"~~.b":           "~.b",
		"~~~.":           "~~.",
		"~a\r~~":         "~a\r~",
		"x\r~\r~.":       "x\r~\r!",
		"held back: \r~": "held back: \r",
	} {
		for _, one := range []bool{false, true} {
			var r io.Reader = strings.NewReader(in)
			if one {
				r = iotest.OneByteReader(r)
			}
			off := ""
			got, err := io.ReadAll(&escapes{r: r, start: true, disconnect: func() { off = "!" }})
			if err != nil || string(got)+off != want {
				t.Errorf("%q: got %q, %v, want %q", in, string(got)+off, err, want)
			}
		}
	}
}

func TestLineOf(t *testing.T) {
	for want, args := range map[string][]string{
		`exec A ls -l $X`:                   {"exec", "A", "ls", "-l", "$X"},
		`marker A 'dsoftbusd: it''s ready'`: {"marker", "A", "dsoftbusd: it's ready"},
		`env X ''`:                          {"env", "X", ""},
		`! exec A "as it is" # whole`:       {`! exec A "as it is" # whole`},
		`& exec A sleep '#1'`:               {"&", "exec", "A", "sleep", "#1"},
	} {
		if got := lineOf(args); got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
}

func TestRemote(t *testing.T) {
	for arg, want := range map[string][]string{
		"A:/x": {"A", "/x"}, "AB2:": {"AB2", ""}, "/x": {"", "/x"}, "./A:/x": {"", "./A:/x"}, "a:/x": {"", "a:/x"}, "TOOLONGNAME:/x": {"", "TOOLONGNAME:/x"},
	} {
		node, path, ok := remote(arg)
		if !slices.Equal([]string{node, path}, want) || ok != (node != "") {
			t.Errorf("%s: got %q, %q, %v", arg, node, path, ok)
		}
	}
}
