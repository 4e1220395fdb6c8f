package main

import (
	"encoding/json"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

// What `rig run -json` prints are events of tests, and nothing else; every try is in the record.
func TestJSONOfARunWithTries(t *testing.T) {
	r := startRun(t, "# Fails.\nup -only A\nexec A false\n", "-json", "-retries", "1")
	if status := r.end(); status != record.ExitFailed {
		t.Fatalf("exit status %d", status)
	}
	ended := map[string]string{}
	for line := range strings.Lines(r.output.String()) {
		var e struct{ Action, Test, Package string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Action == "pass" || e.Action == "fail" {
			ended[e.Test] = e.Action
		}
	}
	if ended["test"] != "fail" || ended["test@retry1"] != "fail" || ended[""] != "fail" || r.stderr.Len() > 0 {
		t.Errorf("%v, stderr %q", ended, r.stderr.String())
	}
	rec, err := record.Load(r.latest())
	if err != nil {
		t.Fatal(err)
	}
	s := rec.Summary
	if len(s.Scenarios) != 2 || s.Scenarios[0].Played != 2 || s.Scenarios[1].RetryOf != "test" || s.Planned != 1 || s.Counts[record.Failed] != 1 {
		t.Errorf("%+v", s)
	}
}
