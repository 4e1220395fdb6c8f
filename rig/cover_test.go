package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/cover"
	"dsoftbus-rig/rig/record"
)

// Lines of the programs' source that are looked for in what machines have counted.
const (
	sessionLine = `print("dsoftbusd: cross-vm session ok %s"` // takes two machines
	servedLine  = `printOnce("dsoftbusd: remote packagefs served")`
	readyLine   = `print("dsoftbusd: ready"`
)

// ran reports whether the line of nodes/dsoftbusd with that text is among those that these folders of counters say have run.
func ran(t *testing.T, text string, dirs ...string) bool {
	t.Helper()
	p, err := cover.LoadCounters(t.Context(), dirs...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cover.Join(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		name, ours := strings.CutPrefix(f.Name, "dsoftbus-rig/")
		if !ours || !strings.HasPrefix(name, "nodes/dsoftbusd/") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(projectDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if before, _, found := strings.Cut(string(source), text); found {
			return slices.Contains(f.Lines(cover.ByMachines), strings.Count(before, "\n")+1)
		}
	}
	t.Fatalf("no file has %q", text)
	return false
}

// What has run in machines is known of daemons that run on at the end, of one that was killed, and of a machine whose power was cut.
func TestCover(t *testing.T) {
	alone := filepath.Join(t.TempDir(), "alone.txtar")
	if err := os.WriteFile(alone, []byte("# One node, without another.\nup A\nkill -s STOP A packagefsd\ncrash A\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(t.TempDir(), "host.out")
	tests := exec.CommandContext(t.Context(), "go", "test", "-coverprofile="+host, "-coverpkg=./nodes/...,./protocol/...", "./protocol/nxsb")
	tests.Dir = projectDir
	if out, err := tests.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", tests, err, out)
	}
	script := strings.Replace(roundtrip, "exec A date", "kill B dsoftbusd\nexec A date", 1)
	r := startRun(t, script, alone, "-cover", "-cover-host", host)
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	folder := func(scenario, node string) string { return r.latest(scenario, node, record.CoverageDir) }
	for _, c := range []struct {
		scenario, node, line string
		want                 bool
	}{
		{"alone", "A", readyLine, true}, {"alone", "A", sessionLine, false},
		{"test", "A", sessionLine, true}, {"test", "A", servedLine, false},
		{"test", "B", sessionLine, true}, {"test", "B", servedLine, true},
	} {
		if got := ran(t, c.line, folder(c.scenario, c.node)); got != c.want {
			t.Errorf("%s on node %s of %s: ran is %t, want %t", c.line, c.node, c.scenario, got, c.want)
		}
	}
	if lost := warnings(t, r); len(lost) != 1 || lost[0] != "coverage of node A is not complete: packagefsd: it is stopped" {
		t.Errorf("warnings: %q", lost)
	}

	// The run's own files have it all.
	whole, err := cover.Load(t.Context(), r.latest(coverProfile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cover.Join(nil, whole)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(r.latest(coverPage))
	if err != nil || !strings.Contains(string(page), "cross-vm session ok") {
		t.Errorf("the page has %d bytes, %v", len(page), err)
	}
	total := c.Packages()[len(c.Packages())-1]
	shown := fmt.Sprintf("%.1f", 100*float64(total.Machines)/float64(total.All))
	output := r.output.String()
	if !regexp.MustCompile(`(?m)^  protocol/nxsb +\d+ +[1-9]`).MatchString(output) {
		t.Error("the table has nothing of what the host's tests ran")
	}
	last := output[strings.LastIndex(output, "\n  total"):]
	if fields := strings.Fields(last); len(fields) != 6 || fields[4] != shown || !strings.Contains(output, "machines only") {
		t.Errorf("the table ends with %q; together it should be %s", last, shown)
	}
}

// A profile of another source is told, and takes nothing away.
func TestCoverOfAnotherSource(t *testing.T) {
	host := filepath.Join(t.TempDir(), "host.out")
	if err := os.WriteFile(host, []byte("mode: set\ndsoftbus-rig/nodes/cmd/agent/main.go:1.1,2.2 2 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startRun(t, "up A\n", "-cover", "-cover-host", host)
	if status := r.end(); status != record.ExitBroken || !strings.Contains(r.stderr.String(), "nodes/cmd/agent/main.go; run the tests again") {
		t.Errorf("exit status %d, %s", status, &r.stderr)
	}
	if _, err := cover.Load(t.Context(), r.latest(coverProfile)); err != nil {
		t.Error(err)
	}
}

// warnings are those of the run's scenarios.
func warnings(t *testing.T, r *rigRun) (all []string) {
	t.Helper()
	rec, err := record.Load(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range rec.Summary.Scenarios {
		all = append(all, s.Warnings...)
	}
	return all
}
