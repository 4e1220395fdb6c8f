package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) {
	if os.Getenv("GOTEST_TESTED") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var figures = regexp.MustCompile(`\d+\.\d+s`)

// Of packages that end in each way it prints go test's own lines, and ends as it.
func TestShowsWhatGoTestShows(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module m\n\ngo 1.26\n",
		"good/a_test.go":    "package good\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Log(\"of no interest\") }\n",
		"bad/a_test.go":     "package bad\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Log(\"of no interest\") }\n\nfunc TestB(t *testing.T) {\n\tt.Run(\"part\", func(t *testing.T) { t.Error(\"it went wrong\") })\n}\n",
		"dies/a_test.go":    "package dies\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestA(*testing.T) {\n\tfmt.Println(\"last words\")\n\tos.Exit(3)\n}\n",
		"none/none.go":      "package none\n",
		"wrong/a_test.go":   "package wrong\n\nvar x int = \"x\"\n",
		"skipped/a_test.go": "package skipped\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Skip(\"of no interest\") }\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(argv ...string) (stdout string, status int) {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		// One package at a time, so that they come in order.
		cmd.Args = append(cmd.Args, "-p=1", "-vet=off", "./...")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		cmd.Env = append(os.Environ(), "GOTEST_TESTED=1", "GOWORK=off", "GOFLAGS=")
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return figures.ReplaceAllString(out.String(), "0.0s"), cmd.ProcessState.ExitCode()
	}
	want, wantStatus := run("go", "test")
	got, status := run(os.Args[0], "list")
	// What failed tests say comes in another order.
	own := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			if line = strings.TrimLeft(line, " "); !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "a_test.go") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	if diff := cmp.Diff(own(want), own(got)); diff != "" || status != wantStatus {
		t.Errorf("status %d, want %d; go test and gotest print:\n%s", status, wantStatus, diff)
	}
	for line := range strings.Lines(want) {
		if !strings.Contains(got, strings.TrimSpace(line)) {
			t.Errorf("go test also prints: %s", line)
		}
	}
	if !strings.Contains(got, "it went wrong") || !strings.Contains(got, "last words") || strings.Contains(got, "of no interest") {
		t.Errorf("printed:\n%s", got)
	}
}

func TestSlowest(t *testing.T) {
	var out bytes.Buffer
	took := []duration{{"m/a", "TestX", 0.9}, {"m/a", "TestY/part", 60}, {"m/a", "TestY", 61}, {"m/a", "", 62.04}, {"m/b", "", 0.5}}
	for range 2 * most {
		took = append(took, duration{"m/c", "TestZ", 2})
	}
	printSlowest(&out, took)
	want := "the slowest packages:\n    62.0s m/a\nthe slowest tests:\n    61.0s m/a TestY\n" + strings.Repeat("     2.0s m/c TestZ\n", most-1)
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
