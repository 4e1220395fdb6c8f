package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/record"
)

// oldRun makes a record of a run that has passed, or was killed, some days ago.
func oldRun(t *testing.T, root, name string, days int, result record.Result) string {
	t.Helper()
	run, err := record.Create(root, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Append(record.Event{Kind: record.KindScenarioStart, Scenario: "a/b"}); err != nil {
		t.Fatal(err)
	}
	if err := run.Append(record.Event{Kind: record.KindScenarioEnd, Scenario: "a/b", Result: result}); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Finish(nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, time.Now().AddDate(0, 0, -days).Format("20060102-150405")+"-"+name)
	if err := os.Rename(run.Dir(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestGC(t *testing.T) {
	root := t.TempDir()
	stale, failed, fresh := oldRun(t, root, "stale", 30, record.Passed), oldRun(t, root, "failed", 30, record.Failed), oldRun(t, root, "fresh", 2, record.Passed)
	gc := func(flags ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), rigBinary, append([]string{"gc", "-runs", root}, flags...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	out := gc("-n")
	if !strings.Contains(out, "would remove "+stale) || !strings.Contains(out, "it is older than 14d\n") || !strings.Contains(out, "\nwould remove 1 of 3 records, ") || !isThere(stale) {
		t.Errorf("-n: %s", out)
	}
	out = gc()
	if !strings.Contains(out, "removed 1 of 3 records") || isThere(stale) || !isThere(failed) || !isThere(fresh) {
		t.Errorf("%s", out)
	}
	if out = gc(); !strings.Contains(out, "removed 0 of 2 records") {
		t.Errorf("%s", out)
	}
	if out = gc("-keep-failed", "0"); isThere(failed) || !isThere(fresh) {
		t.Errorf("%s", out)
	}

	// One that goes on is kept, whatever the policy says.
	run, err := record.Create(root, "on", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	on := filepath.Join(root, time.Now().AddDate(0, 0, -5).Format("20060102-150405")+"-on")
	if err := os.Rename(run.Dir(), on); err != nil {
		t.Fatal(err)
	}
	if out = gc("-keep-failed", "0"); !strings.Contains(out, "kept "+on+": its run goes on\n") || !isThere(on) {
		t.Errorf("%s", out)
	}
}

// The end of a run tidies up quietly, and never takes the run's own folder.
func TestTidyUp(t *testing.T) {
	root := t.TempDir()
	current := oldRun(t, root, "current", 99, record.Passed)
	oldRun(t, root, "fresh", 1, record.Passed)
	said := ""
	tidyUp(t.Context(), root, current, func(text string) { said += text })
	if said != "" || !isThere(current) {
		t.Errorf("said %q", said)
	}
	tidyUp(t.Context(), root, "", func(text string) { said += text })
	if !strings.HasPrefix(said, "removed 1 old records, ") || isThere(current) {
		t.Errorf("said %q", said)
	}
}
