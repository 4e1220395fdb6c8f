package cover

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// source is a file of a package, with a function that four tests of four kinds might reach.
const source = `package a

func A(n int) int {
	if n == 1 {
		return 10
	}
	if n == 2 {
		return 20
	}
	return 30
}
`

// profile is one of source in which those of its blocks have run.
func profile(t *testing.T, head string, counts ...string) *Profile {
	t.Helper()
	blocks := []string{
		"mod/a/a.go:3.19,4.12 1 ", "mod/a/a.go:4.12,6.3 1 ", "mod/a/a.go:7.2,7.12 1 ", "mod/a/a.go:7.12,9.3 1 ", "mod/a/a.go:10.2,10.11 1 ",
	}
	text := "mode: atomic\n" + head
	for i, n := range counts {
		text += blocks[i] + n + "\n"
	}
	p, err := loadFile(write(t, "profile", text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func joined(t *testing.T) *Coverage {
	t.Helper()
	// A file that is in no machine is nobody's.
	host := profile(t, "mod/a/race.go:1.1,2.2 7 1\n", "5", "5", "0", "0", "0")
	machines := profile(t, "mod/a/b/b.go:1.1,2.2 3 0\nmod/z/z.go:1.1,2.2 2 9\n", "1", "0", "7", "0", "7")
	c, err := Join(host, machines)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestJoin(t *testing.T) {
	c := joined(t)
	f := c.Files[0]
	for by, want := range map[By][]int{ByBoth: {3, 4}, ByHost: {4, 5, 6}, ByMachines: {7, 10}, ByNobody: {7, 8, 9}} {
		if got := f.Lines(by); !slices.Equal(got, want) {
			t.Errorf("%s: reached by %b: lines %v, want %v", f.Name, by, got, want)
		}
	}
	want := []Figures{
		{"mod/a", 5, 2, 3, 4, 2}, {"mod/a/b", 3, 0, 0, 0, 0}, {"mod/z", 2, 0, 2, 2, 2}, {"total", 10, 2, 5, 6, 4},
	}
	if d := cmp.Diff(want, c.Packages()); d != "" {
		t.Errorf("figures (-want +got):\n%s", d)
	}
}

func TestTable(t *testing.T) {
	var with, without strings.Builder
	if err := joined(t).WriteTable(&with, "mod"); err != nil {
		t.Fatal(err)
	}
	want := `
  package  statements  host  machines  together  machines only
  a                 5  40.0      60.0      80.0           40.0
  a/b               3   0.0       0.0       0.0            0.0
  z                 2   0.0     100.0     100.0          100.0
  total            10  20.0      50.0      60.0           40.0
`
	if got := "\n" + with.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
	c, err := Join(nil, profile(t, "", "1", "0", "7", "0", "7"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteTable(&without, "mod"); err != nil {
		t.Fatal(err)
	}
	if want := "  package  statements  machines\n  a                 5      60.0\n  total             5      60.0\n"; without.String() != want {
		t.Errorf("without a host's profile: got\n%s\nwant\n%s", &without, want)
	}
}

// Files of a package that another one's lie between are of one package.
func TestAPackageWithOneBelowIt(t *testing.T) {
	c, err := Join(nil, profile(t, "mod/a/b.go:1.1,2.2 1 0\nmod/a/c/c.go:1.1,2.2 1 0\nmod/a/d.go:1.1,2.2 1 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Figures{{"mod/a", 2, 0, 1, 1, 1}, {"mod/a/c", 1, 0, 0, 0, 0}, {"total", 3, 0, 1, 1, 1}}
	if d := cmp.Diff(want, c.Packages()); d != "" {
		t.Errorf("figures (-want +got):\n%s", d)
	}
}

// What is written is a profile again, of what either has reached.
func TestWriteProfile(t *testing.T) {
	var text strings.Builder
	if err := joined(t).WriteProfile(&text); err != nil {
		t.Fatal(err)
	}
	want := `mode: set
mod/a/a.go:3.19,4.12 1 1
mod/a/a.go:4.12,6.3 1 1
mod/a/a.go:7.2,7.12 1 1
mod/a/a.go:7.12,9.3 1 0
mod/a/a.go:10.2,10.11 1 1
mod/a/b/b.go:1.1,2.2 3 0
mod/z/z.go:1.1,2.2 2 1
`
	if d := cmp.Diff(want, text.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := loadFile(write(t, "again", text.String())); err != nil {
		t.Error(err)
	}
}

func TestPage(t *testing.T) {
	c, err := Join(profile(t, "", "5", "5", "0", "0", "0"), profile(t, "", "1", "0", "7", "0", "7"))
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	err = c.WriteHTML(&page, "mod", filepath.Dir(filepath.Dir(write(t, "a/a.go", source))))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<i>4</i><span class="b">	if n == 1 </span><span class="h">{</span>` + "\n" + `<i>5</i><span class="h">		return 10</span>`,
		`<i class="m">7</i>	<span class="m">if n == 2 </span><span class="n">{</span>` + "\n",
		`<i class="m">10</i>	<span class="m">return 30</span>` + "\n" + `<i>11</i>}`,
		`<td>a<td>5`, "only tests on the host",
	} {
		if want = strings.Replace(want, "<td>a<", "<td>mod/a<", 1); !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the page:\n%s", want, &page)
		}
	}
	if err := c.WriteHTML(&page, "mod", t.TempDir()); err == nil || !strings.Contains(err.Error(), "a.go") {
		t.Errorf("without the source: %v", err)
	}
	if err := c.WriteHTML(&page, "other", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no file of other") {
		t.Errorf("another module: %v", err)
	}
}

func TestAnotherSource(t *testing.T) {
	machines := profile(t, "", "1", "0", "7", "0", "7")
	for what, host := range map[string]*Profile{
		"a block less":  profile(t, "", "1", "0", "7", "0"),
		"a block more":  profile(t, "mod/a/a.go:1.1,2.2 1 0\n", "1", "0", "7", "0", "7"),
		"another block": profile(t, "mod/a/a.go:1.1,2.2 1 0\n", "1", "0", "7", "0"),
	} {
		if _, err := Join(host, machines); err == nil || !strings.Contains(err.Error(), "mod/a/a.go; run the tests again") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLoadFails(t *testing.T) {
	for what, c := range map[string]struct{ name, want string }{
		"nothing there": {filepath.Join(t.TempDir(), "none"), "no such file"},
		"no profile":    {write(t, "text", "hello\n"), "is no profile"},
		"empty":         {write(t, "empty", "mode: set\n"), "-coverpkg"},
		"no counters":   {t.TempDir(), "no counters in"},
	} {
		if _, err := Load(t.Context(), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want something with %q", what, err, c.want)
		}
	}
}

// Counters are those of a real program, which each run leaves in a folder of its own: more of them than are given to the tool at once.
func TestLoadCounters(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module mod\n\ngo 1.26\n",
		"main.go": "package main\n\nimport \"os\"\n\nfunc main() {\n\tif len(os.Args) == 2 {\n\t\tprintln(1)\n\t}\n\tif len(os.Args) == 3 {\n\t\tprintln(2)\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-cover", "-o", "program", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	var dirs []string
	run := func(args ...string) {
		t.Helper()
		own := t.TempDir()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "program"), args...)
		cmd.Env = append(os.Environ(), "GOCOVERDIR="+own)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		dirs = append(dirs, own)
	}
	lines := func(p *Profile, err error) []int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c, err := Join(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		return c.Files[0].Lines(ByNobody)
	}
	run("one")
	if got := lines(Load(t.Context(), dirs[0])); !slices.Equal(got, []int{9, 10, 11}) {
		t.Errorf("one run leaves out lines %v", got)
	}
	for range foldersAtOnce {
		dirs = append(dirs, dirs[0])
	}
	run("one", "two")
	// The tool is this Go's and runs here, whatever else the user compiles.
	t.Setenv("GOROOT", t.TempDir())
	t.Setenv("GOARCH", "arm64")
	if got := lines(LoadCounters(t.Context(), dirs...)); len(got) != 0 {
		t.Errorf("two runs leave out lines %v", got)
	}
}
