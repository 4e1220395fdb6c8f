package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// links is a folder with the binary, as it is really built, and a link to it for
// each program and for one that there is not.
var links string

const unknown = "nonsense"

func TestMain(m *testing.M) {
	status, err := withLinks(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func withLinks(tests func() int) (status int, err error) {
	if links, err = os.MkdirTemp("", "node"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(links)
	binary := filepath.Join(links, ownName)
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-X main.stacksDir="+stacksOf(links), "-o", binary, fmt.Sprintf("-race=%t", raced()), ".")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	for _, name := range append(folders(), unknown) {
		if err := os.Symlink(ownName, filepath.Join(links, name)); err != nil {
			return 1, err
		}
	}
	return tests(), nil
}

// stacksOf is where the programs in a folder of links tell their goroutines.
func stacksOf(links string) string { return filepath.Join(links, "stacks") }

// raced tells whether the race detector looks at these tests; then it shall look
// at the binary, too.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// folders are the names of the programs as images makes links of them: those of
// the folders beside this one.
func folders() []string {
	var names []string
	beside, err := filepath.Glob("../*")
	if err != nil {
		panic(err)
	}
	for _, dir := range beside {
		if name := filepath.Base(dir); name != ownName {
			names = append(names, name)
		}
	}
	return names
}

func names() []string {
	var all []string
	for _, p := range programs {
		all = append(all, p.name)
	}
	return all
}

func TestEveryFolderIsAProgram(t *testing.T) {
	if d := cmp.Diff(folders(), names()); d != "" {
		t.Errorf("folders of nodes/cmd and programs of the binary differ (-folders +programs):\n%s", d)
	}
}

// TestDispatch: each program is the one that its name means, by a link as by the
// first argument. The agent would take over the host.
func TestDispatch(t *testing.T) {
	none := "node: no command; there are " + strings.Join(names(), ", ") + "\n"
	no := fmt.Sprintf("node: unknown command %q; there are %s\n", unknown, strings.Join(names(), ", "))
	for _, c := range []struct {
		link   string
		args   string
		status int
		stderr string // begins with this
	}{
		{"dsoftbusd", "extra", 2, `dsoftbusd: unexpected argument "extra"`},
		{"hostile", "nope", 2, `hostile: unknown command "nope"`},
		{"netbench", "nope", 2, `netbench: unknown command "nope"`},
		{"packagefsd", "extra", 2, `packagefsd: unexpected argument "extra"`},
		{"pkgfs", "", 2, "pkgfs: no command"},
		{"pkgfs", "node", 2, `pkgfs: unknown command "node"`},
		{"selftest-client", "nope", 2, `selftest-client: unknown test "nope"`},
		{"vitals", "", 2, "vitals: no program"},
		{"node", "dsoftbusd extra", 2, `dsoftbusd: unexpected argument "extra"`},
		{"node", "netbench nope", 2, `netbench: unknown command "nope"`},
		{"node", "packagefsd extra", 2, `packagefsd: unexpected argument "extra"`},
		{"node", "pkgfs", 2, "pkgfs: no command"},
		{"node", "pkgfs -h", 0, "usage:\n  pkgfs -peer ID stat PATH\n"},
		{"node", "selftest-client nope", 2, `selftest-client: unknown test "nope"`},
		{"node", "", 2, none},
		{"node", unknown, 2, no},
		{"node", unknown + " pkgfs", 2, no},
		{"node", "node pkgfs", 2, `node: unknown command "node"; there are `},
		{unknown, "", 2, no},
		{unknown, "pkgfs -h", 2, no},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(links, c.link), strings.Fields(c.args)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if status := cmd.ProcessState.ExitCode(); status != c.status || stdout.String() != "" || !strings.HasPrefix(stderr.String(), c.stderr) {
			t.Errorf("%s %s ended with %d, %q, %q; want %d and %q", c.link, c.args, status, &stdout, &stderr, c.status, c.stderr)
		}
	}
}

func TestFindAgent(t *testing.T) {
	for _, argv := range [][]string{
		{"agent", "x"}, {"/bin/uinit", "x"}, {"uinit", "x"}, {"/bin/node", "agent", "x"},
	} {
		p, args, err := find(argv)
		if err != nil || p.name != "agent" || p.orderly || len(args) != 1 || args[0] != "x" {
			t.Errorf("%q is %+v with %q, %v; want the agent, ended by any signal, with x", argv, p, args, err)
		}
	}
}
