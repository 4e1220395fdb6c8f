package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
)

// programsTree is a module with an agent and another program in one binary, and a
// third that is not in it.
func programsTree() map[string][]byte {
	return map[string][]byte{
		"go.mod":                      []byte("module tiny\n\ngo 1.26\n"),
		"go.sum":                      nil,
		"protocol/wire/wire.go":       []byte("package wire\n\nconst Port = 1\n"),
		"nodes/agent/agent.go":        []byte("package agent\n\nimport (\n\t_ \"embed\"\n\n\t\"tiny/protocol/wire\"\n)\n\n//go:embed banner\nvar Banner string\n\nfunc Run() { println(Banner, wire.Port) }\n"),
		"nodes/agent/banner":          []byte("hello"),
		"nodes/cmd/agent/main.go":     []byte("package agent\n\nimport \"tiny/nodes/agent\"\n\nfunc Main() { agent.Run() }\n"),
		"nodes/cmd/left/main.go":      []byte("package left\n"),
		"nodes/cmd/node/main.go":      []byte("package main\n\nimport (\n\t\"tiny/nodes/cmd/agent\"\n\t_ \"tiny/nodes/cmd/other\"\n\t_ \"tiny/nodes/cmd/other/deeper\"\n)\n\nfunc main() { agent.Main() }\n"),
		"nodes/cmd/other/main.go":     []byte("package other\n"),
		"nodes/cmd/other/deeper/d.go": []byte("package deeper\n"),
		"nodes/agent/a_test.go":       []byte("package agent\n"),
		"nodes/agent/testdata/big":    []byte("test data"),
		"rig/rig.go":                  []byte("package rig\n\nconst X = 1\n"),
	}
}

func goFor(t *testing.T, source string) *goTool {
	t.Helper()
	g, err := findGo(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestProgramsLayer(t *testing.T) {
	// None of what the caller's environment, configuration or other projects say
	// may matter.
	tree := map[string][]byte{
		"go.work":                    []byte("go 1.26\n"),
		"tiny/nodes/agent/tagged.go": []byte("//go:build x\n\npackage agent\n\nvar _ = undefined\n"),
	}
	for name, content := range programsTree() {
		tree["tiny/"+name] = content
	}
	source := filepath.Join(writeTree(t, tree), "tiny")
	for name, value := range map[string]string{
		"GOFLAGS": "-tags=x -mod=vendor", "GOOS": "plan9", "GOARCH": "arm", "CGO_ENABLED": "1",
		"GOENV": writeFile(t, "env", "GOFLAGS=-tags=x\nGO111MODULE=off\nGOOS=plan9\nGOARCH=arm\nCGO_ENABLED=1\n"),
	} {
		t.Setenv(name, value)
	}
	c, _ := testCache(t, t.TempDir())
	e, err := c.get(t.Context(), programsLayer(goFor(t, source), source, false))
	if err != nil {
		t.Fatal(err)
	}
	got := readArchive(t, e.file("nodes.cpio"))
	names := map[string]uint64{}
	for name, a := range got {
		names[name] = a.mode
	}
	want := map[string]uint64{
		"bin": cpio.S_IFDIR | 0o755, "bin/node": cpio.S_IFREG | 0o755,
		"bin/uinit": cpio.S_IFLNK | 0o777, "bin/agent": cpio.S_IFLNK | 0o777, "bin/other": cpio.S_IFLNK | 0o777,
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("archive (-want +got):\n%s", d)
	}
	for link, want := range map[string]string{"bin/uinit": "/bin/agent", "bin/agent": "/bin/node", "bin/other": "/bin/node"} {
		if target := string(got[link].content); target != want {
			t.Errorf("%s is a link to %q, want %s", link, target, want)
		}
	}
	if !strings.HasPrefix(string(got["bin/node"].content), "\x7fELF") {
		t.Error("the binary is not a program")
	}
	if e.Facts[factPrograms] != "agent other" {
		t.Errorf("the manifest says that the programs are %q", e.Facts[factPrograms])
	}
}

func TestProgramsInputs(t *testing.T) {
	id := func(tree map[string][]byte) string {
		t.Helper()
		in, err := programsInputs(writeTree(t, tree))
		if err != nil {
			t.Fatal(err)
		}
		return inputID("nodes", in)
	}
	before := id(programsTree())
	tests := []struct {
		file    string
		matters bool
	}{
		{"nodes/agent/agent.go", true}, {"nodes/agent/banner", true}, {"nodes/cmd/other/main.go", true},
		{"protocol/wire/wire.go", true}, {"go.mod", true}, {"go.sum", true}, {"nodes/agent/new.go", true},
		{"nodes/agent/a_test.go", false}, {"nodes/agent/testdata/big", false}, {"rig/rig.go", false}, {"README.md", false},
	}
	for _, test := range tests {
		tree := programsTree()
		tree[test.file] = append(tree[test.file], "// changed"...)
		if changed := id(tree) != before; changed != test.matters {
			t.Errorf("%s changed: rebuilt %v, want %v", test.file, changed, test.matters)
		}
	}
	tree := programsTree()
	delete(tree, "nodes/agent/banner")
	if id(tree) == before {
		t.Error("a file was removed and nothing would be rebuilt")
	}
}

func TestProgramsLayerFails(t *testing.T) {
	tests := []struct {
		name   string
		change map[string]string // "" removes
		want   []string
	}{
		{"does not compile", map[string]string{"nodes/cmd/other/main.go": "package other\n\nfunc Main() { undefined_thing() }\n"},
			[]string{"nodes layer: cd ", "go build -trimpath", "nodes/cmd/other/main.go:3:15: undefined: undefined_thing"}},
		{"no agent", map[string]string{"nodes/cmd/node/main.go": "package main\n\nfunc main() {}\n"}, []string{"nodes/cmd/node has no program called agent"}},
		{"no binary", map[string]string{"nodes/cmd/node/main.go": ""}, []string{"nodes/cmd/node: directory not found"}},
		{"imports the rig", map[string]string{"nodes/agent/more.go": "package agent\n\nimport _ \"tiny/rig\"\n"},
			[]string{"import tiny/rig: they may import only what lies in nodes and protocol"}},
		{"embeds test data", map[string]string{"nodes/agent/more.go": "package agent\n\nimport _ \"embed\"\n\n//go:embed testdata/big\nvar Big string\n"},
			[]string{"tiny/nodes/agent embeds testdata/big"}},
		{"replaced module", map[string]string{
			"go.mod":              "module tiny\n\ngo 1.26\n\nrequire example.org/dep v1.0.0\n\nreplace example.org/dep => ./dep\n",
			"dep/go.mod":          "module example.org/dep\n",
			"dep/dep.go":          "package dep\n",
			"nodes/agent/more.go": "package agent\n\nimport _ \"example.org/dep\"\n",
		}, []string{"import example.org/dep, which go.mod replaces with the folder "}},
		{"module to be had nowhere", map[string]string{
			"go.mod":              "module tiny\n\ngo 1.26\n\nrequire example.org/dep v1.0.0\n",
			"go.sum":              "example.org/dep v1.0.0 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nexample.org/dep v1.0.0/go.mod h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
			"nodes/agent/more.go": "package agent\n\nimport _ \"example.org/dep\"\n",
		}, []string{"example.org/dep", "check the network and GOPROXY"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOPROXY", "off")
			tree := programsTree()
			for name, text := range test.change {
				tree[name] = []byte(text)
			}
			maps.DeleteFunc(tree, func(name string, _ []byte) bool { text, ok := test.change[name]; return ok && text == "" })
			source := writeTree(t, tree)
			c, _ := testCache(t, t.TempDir())
			_, err := c.get(t.Context(), programsLayer(goFor(t, source), source, false))
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want something with %q", err, part)
				}
			}
			if left := names(t, c.dir); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestFindGo(t *testing.T) {
	if _, err := findGo(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "source tree") {
		t.Errorf("no source tree: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := findGo(t.Context(), ".."); err == nil || !strings.Contains(err.Error(), "go is not installed") {
		t.Errorf("no go: %v", err)
	}
}

func TestCommandString(t *testing.T) {
	c := command{dir: "/src", argv: []string{"go", "build", "-ldflags=-s -w", "", "it's", "./nodes/..."}}
	if want := `cd /src && go build '-ldflags=-s -w' '' 'it'\''s' ./nodes/...`; c.String() != want {
		t.Errorf("%s", c)
	}
}

// A cancelled build must end at once, with what it started.
func TestCommandEndsWithContext(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("somebody pressed ctrl-c")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		defer cancel(reason)
		f, err := os.Open(fifo)
		if err != nil {
			ended <- err
			return
		}
		defer f.Close()
		// The grandchild says that it runs; the end of the file is its end.
		if _, err = f.Read(make([]byte, 8)); err == nil {
			cancel(reason)
			_, err = io.ReadAll(f)
		}
		ended <- err
	}()
	_, err := command{argv: []string{"sh", "-c", "sh -c 'echo running; exec sleep 600' >" + fifo + "; true"}}.run(ctx)
	if !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Programs that count are other code in another layer, with the folder that they write to, and from other files than ordinary ones.
func TestCoveredLayer(t *testing.T) {
	tree := programsTree()
	tree["nodes/agent/on.go"] = []byte("//go:build covered\n\npackage agent\n\nimport _ \"runtime/coverage\"\n")
	source := writeTree(t, tree)
	g := goFor(t, source)
	c, _ := testCache(t, t.TempDir())
	ordinary, err := c.get(t.Context(), programsLayer(g, source, false))
	if err != nil {
		t.Fatal(err)
	}
	covered, err := c.get(t.Context(), programsLayer(g, source, true))
	if err != nil {
		t.Fatal(err)
	}
	if ordinary.Layer == covered.Layer || ordinary.ID == covered.ID {
		t.Errorf("layers %s-%s and %s-%s", ordinary.Layer, ordinary.ID, covered.Layer, covered.ID)
	}
	was, is := readArchive(t, ordinary.file("nodes.cpio")), readArchive(t, covered.file("covered.cpio"))
	if dir := is["run/coverage"]; dir.mode != cpio.S_IFDIR|0o755 {
		t.Errorf("the folder that is written to: mode %o", dir.mode)
	}
	if _, found := was["run/coverage"]; found {
		t.Error("ordinary programs have a folder for what they do not count")
	}
	_, _, wasID := loaded(t, was["bin/node"].content)
	_, _, isID := loaded(t, is["bin/node"].content)
	if wasID == isID {
		t.Errorf("both have the build id %s, so a debugger would take the one for the other", isID)
	}

	// The real program says what it has counted, of the project's packages alone.
	node, dir := writeFile(t, "agent", string(is["bin/node"].content)), t.TempDir()
	if err := os.Chmod(node, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node)
	cmd.Env = append(os.Environ(), "GOCOVERDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hello 1\n" {
		t.Fatalf("it says %q, %v", out, err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "covdata", "pkglist", "-i="+dir).Output()
	if err != nil || !slices.Equal(strings.Fields(string(out)), []string{
		"tiny/nodes/agent", "tiny/nodes/cmd/agent", "tiny/nodes/cmd/node", "tiny/nodes/cmd/other", "tiny/nodes/cmd/other/deeper", "tiny/protocol/wire",
	}) {
		t.Errorf("packages that were counted: %q, %v", out, err)
	}
}

// The project's ordinary programs have nothing in them of counting, not even the code that would ask for it.
func TestOrdinaryProgramsDoNotCount(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "node")
	if err := compileNode(t.Context(), goFor(t, ".."), "..", binary, stripFlags); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	// Names of functions are in a stripped program, too.
	if !bytes.Contains(content, []byte("dsoftbus-rig/nodes/agent.(*Supervisor).Kill")) {
		t.Error("no functions are named in it")
	}
	for _, name := range []string{"runtime/coverage.", "internal/coverage/", "nodes/coverage.", "nodes/agent.covered", "nodes/agent.lastWill", "nodes/agent.writeCoverage", "GOCOVERDIR"} {
		if bytes.Contains(content, []byte(name)) {
			t.Errorf("%s is in it", name)
		}
	}
}

// TestPrograms compares what is known before anything is built with what is compiled
// into the image.
func TestPrograms(t *testing.T) {
	const source = ".."
	got, err := Programs(source)
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := checkProgramSources(t.Context(), goFor(t, source), source)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := userlandCommands(filepath.Join(source, userlandDir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/init", "/bbin/bb", "/bin/node", "/bin/uinit"}
	for _, name := range compiled {
		want = append(want, "/bin/"+name)
	}
	for _, tool := range tools {
		want = append(want, "/bbin/"+filepath.Base(tool))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the image's programs and those that are listed differ (-image +list):\n%s", diff)
	}
	if got, err := Programs(t.TempDir()); len(got) > 0 || err != nil {
		t.Errorf("a folder without source: %q, %v", got, err)
	}
}
