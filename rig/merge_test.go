package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// shardOf makes the record of a run of one scenario, and returns the folder that a build server would keep of it.
func shardOf(t *testing.T, scenario string, result record.Result, reason record.Reason) string {
	t.Helper()
	root := t.TempDir()
	run, err := record.Create(root, "shard", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := record.CreateScenario(run.Dir(), run.Folder(scenario), scenario, func(e record.Event) { err = errors.Join(err, run.Append(e)) })
	if err != nil {
		t.Fatal(err)
	}
	end := record.Event{Kind: record.KindScenarioEnd, Result: result}
	if reason != "" {
		end.Failure = &record.Failure{Reason: reason, File: "scenarios/" + scenario + ".txtar", Line: 3, Text: "exec A false", Message: "100% wrong\nreally"}
	}
	err = errors.Join(run.Append(record.Event{Kind: record.KindRunStart, Total: 1}), s.Append(record.Event{Kind: record.KindScenarioStart}), s.Append(end), s.Close(), err)
	if _, finish := run.Finish(nil); err != nil || finish != nil {
		t.Fatal(err, finish)
	}
	note := history.Note{Scenario: scenario, Kind: history.NewFailure, Text: "noted of " + scenario}
	if err := run.WriteFile(history.NotesFile, func(w io.Writer) error { return history.WriteNotes(w, []history.Note{note}) }); err != nil {
		t.Fatal(err)
	}
	// A build server that knows no links keeps a copy.
	if err := os.Remove(filepath.Join(root, record.LatestLink)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, record.LatestLink), os.DirFS(run.Dir())); err != nil {
		t.Fatal(err)
	}
	return root
}

// rig runs the real program with more of an environment and returns what it printed and its exit status.
func rig(t *testing.T, env []string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rigBinary, args...)
	cmd.Env = append(os.Environ(), env...)
	data, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(data), cmd.ProcessState.ExitCode()
}

func TestMergeOfShards(t *testing.T) {
	one, two := shardOf(t, "a/x", record.Passed, ""), shardOf(t, "a/y", record.Flaky, record.ExecStatus)
	runs := t.TempDir()
	out, status := rig(t, nil, "merge", "-runs", runs, "-name", "night", "-expect", "2", one, two)
	if status != record.ExitFailed || !strings.Contains(out, "ok a/x") || !strings.Contains(out, "FLAKY a/y") || !strings.HasSuffix(out, "1 passed, 0 failed, 1 flaky\n") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	rec, err := record.Load(filepath.Join(runs, record.LatestLink))
	if err != nil {
		t.Fatal(err)
	}
	if rec.Summary.Name != "night" || rec.Summary.Exit != status || len(rec.Summary.Scenarios) != 2 {
		t.Errorf("%+v", rec.Summary)
	}
	if data, err := os.ReadFile(filepath.Join(rec.Dir, record.JUnitFile)); err != nil || !strings.Contains(string(data), `tests="2" failures="1"`) {
		t.Errorf("%v: %s", err, data)
	}

	// What the parts have noted is on the page of the whole.
	page := filepath.Join(t.TempDir(), "page.html")
	if out, status := rig(t, nil, "report", rec.Dir, "-o", page); status != 0 {
		t.Errorf("exit status %d: %s", status, out)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"noted of a/x", "noted of a/y"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not say %q", want)
		}
	}

	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"green", []string{one}, record.ExitGreen, "1 passed, 0 failed"},
		{"the same twice is once", []string{one, one}, record.ExitGreen, "1 passed, 0 failed"},
		{"one is missing", []string{"-expect", "2", one}, record.ExitBroken, "1 records, and there should be 2"},
		{"a reason that nobody knows", []string{one, shardOf(t, "a/z", record.Failed, "mood")}, record.ExitBroken, `scenario a/z failed for the reason "mood"`},
		{"the same scenario", []string{one, shardOf(t, "a/x", record.Passed, "")}, record.ExitInvalid, "scenario a/x is in "},
		{"no record", []string{t.TempDir()}, record.ExitInvalid, "is no record of a run, and none is in it"},
		{"no folder", []string{"/no/such"}, record.ExitInvalid, "no such file"},
		{"nothing", nil, record.ExitInvalid, "name the folders"},
	} {
		out, status := rig(t, nil, append([]string{"merge", "-runs", t.TempDir()}, tt.args...)...)
		if status != tt.status || !strings.Contains(out, tt.says) {
			t.Errorf("%s: exit status %d:\n%s", tt.name, status, out)
		}
	}

	run, err := record.Create(t.TempDir(), "on", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if out, status := rig(t, nil, "merge", "-runs", t.TempDir(), run.Dir()); status != record.ExitInvalid || !strings.Contains(out, "goes on") {
		t.Errorf("exit status %d: %s", status, out)
	}
}

// What recordings need goes along, where all parts need the same.
func TestMergeOfRecordings(t *testing.T) {
	first, second := shardOf(t, "a/recorded", record.Passed, ""), shardOf(t, "b/recorded", record.Passed, "")
	for shard, content := range map[string]string{first: "first", second: "second"} {
		for name, content := range map[string]string{recording.KernelFile: "kernel", recording.InitrdFile: content} {
			if err := os.WriteFile(filepath.Join(shard, record.LatestLink, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	runs := t.TempDir()
	out, status := rig(t, nil, "merge", "-runs", runs, filepath.Join(first, record.LatestLink), filepath.Join(second, record.LatestLink))
	if status != record.ExitGreen || strings.Count(out, "is not that of other parts") != 1 || !strings.Contains(out, filepath.Join(second, record.LatestLink, recording.InitrdFile)) {
		t.Errorf("exit status %d, output:\n%s", status, out)
	}
	for name, want := range map[string]string{recording.KernelFile: "kernel", recording.InitrdFile: "first"} {
		if got, err := os.ReadFile(filepath.Join(runs, record.LatestLink, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
