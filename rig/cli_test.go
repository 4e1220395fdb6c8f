package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/worker"

	"github.com/rogpeppe/go-internal/testscript"
)

// rigBinary is the real program, built once for all tests of this package.
var rigBinary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	// A test that plays scenarios in this process has it start itself as a worker.
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		main()
	}
	// Under nohup(1) what is started here would not hear of a terminal that hangs up. A program for which this one listens to a signal gets it as usual.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	// Where GitHub runs these tests, what they play is not what it is to be told.
	os.Unsetenv(gitHubSummary)
	os.Unsetenv(gitHubActions)
	dir, err := os.MkdirTemp("", "rig-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	rigBinary = filepath.Join(dir, "rig")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", rigBinary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build rig: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// TestCommandLine plays testdata/cli/*.txtar: what people type, and what they
// read. None of it needs a machine.
func TestCommandLine(t *testing.T) {
	compiled, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cli",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(rigBinary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("GOCACHE", strings.TrimSpace(string(compiled))) // of Go, which need not be compiled anew
			here, err := os.Getwd()
			env.Setenv("PROJECT", filepath.Dir(here))
			env.Setenv("RECORDED", filepath.Join(here, "webreport", "testdata", "runs"))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// status N COMMAND...: the command ends with that exit status.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: status N COMMAND...")
				}
				err := ts.Exec(args[1], args[2:]...)
				got := 0
				if exit, ok := err.(*exec.ExitError); ok {
					got = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if fmt.Sprint(got) != args[0] {
					ts.Fatalf("exit status %d, want %s", got, args[0])
				}
			},
		},
	})
}

// Each flag of each command is shown with one dash, with a value that has a
// name where it takes one, and its text has no marks of its own.
func TestFlagsAreShown(t *testing.T) {
	row := regexp.MustCompile(`^  (-[a-zA-Z], |    )-[a-z-]+( [A-Z][A-Z/]*|\[=[A-Z]+\])?   +[^ -]`)
	root := newRoot()
	for _, cmd := range append(root.Commands(), root) {
		text := helpText(cmd)
		_, flags, ok := strings.Cut(text, "\nFlags:\n")
		if !ok {
			t.Errorf("%s: help without flags:\n%s", cmd.Name(), text)
		}
		for _, line := range strings.Split(flags, "\n") {
			if strings.HasPrefix(line, "  -") && !row.MatchString(line) {
				t.Errorf("%s: %q", cmd.Name(), line)
			}
		}
		for _, set := range []*flagSet{cmd.LocalFlags(), cmd.InheritedFlags()} {
			set.VisitAll(func(f *flagOf) {
				name, usage := flagValue(f)
				if strings.Contains(usage, "`") || isSwitch(f) != (name == "") || name == "TEXT" {
					t.Errorf("%s -%s %s: %q", cmd.Name(), f.Name, name, usage)
				}
				if !strings.Contains(flags, " "+shownFlag(f)+"  ") {
					t.Errorf("%s: -%s is not shown", cmd.Name(), f.Name)
				}
			})
		}
	}
}

// Flags can be written with one dash.
func TestLongFlags(t *testing.T) {
	root := newRoot()
	in := []string{"run", "-kernel", "/k", "--accel=tcg", "-accel=kvm", "-v", "-vj2", "-j", "3", "-C", "/d", "-C/e", "-unknown", "-", "reject/*", "--", "-kernel"}
	want := "[run --kernel /k --accel=tcg --accel=kvm -v -vj2 -j 3 -C /d -C/e --unknown - reject/* -- -kernel]"
	if got := fmt.Sprint(longFlags(root, in)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	// What looks like a flag in a line of the scenario language is none of ours.
	for _, c := range []struct{ in, want []string }{
		{[]string{"do", "-run", "exec", "-v", "exec", "A", "-kernel", "-run"}, []string{"do", "--run", "exec", "-v", "exec", "A", "-kernel", "-run"}},
		{[]string{"-C", "do", "do", "marker", "-timeout"}, []string{"-C", "do", "do", "marker", "-timeout"}},
		{[]string{"do", "-run=x", "-verbose", "--", "-kernel"}, []string{"do", "--run=x", "--verbose", "--", "-kernel"}},
		{[]string{"attach", "A", "-run", "x", "--", "ls", "-run"}, []string{"attach", "A", "--run", "x", "--", "ls", "-run"}},
	} {
		if got := longFlags(root, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}
