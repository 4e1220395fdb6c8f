package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

// tellJSON returns what programs read of a run, and how each test and package ended.
func tellJSON(t *testing.T, events []record.Event, s record.Summary) (all []testEvent, ended map[string]string) {
	t.Helper()
	var b bytes.Buffer
	j := NewTestJSON(&b, "suite")
	j.Folder("runs/x")
	j.Print("the rig says\n" + hostile)
	for _, e := range events {
		j.Event(e)
	}
	if err := j.Finish(s); err != nil {
		t.Fatal(err)
	}
	j.Event(record.Event{Kind: record.KindWarning, Text: "too late"})
	ended = map[string]string{}
	open := map[string]bool{}
	d := json.NewDecoder(&b)
	for {
		var e testEvent
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		key := e.Package + "." + e.Test
		switch e.Action {
		case "start", "run":
			if open[key] || ended[key] != "" {
				t.Errorf("%s begins twice", key)
			}
			open[key] = true
		case "output":
			if !open[key] || !strings.HasSuffix(e.Output, "\n") || strings.Count(e.Output, "\n") != 1 || strings.Contains(e.Output, "\x1b") {
				t.Errorf("output of %s: %q", key, e.Output)
			}
		default:
			if !open[key] || e.Elapsed == nil {
				t.Errorf("%s ends without a begin, or a time", key)
			}
			delete(open, key)
			ended[key] = e.Action
		}
		if e.Package == "" {
			t.Errorf("an event of no package: %+v", e)
		}
	}
	if len(open) > 0 {
		t.Errorf("these never end: %v", open)
	}
	return all, ended
}

func TestTestJSON(t *testing.T) {
	events, s := script()
	all, ended := tellJSON(t, events, s)
	want := map[string]string{
		"suite.": "pass", "roundtrip.": "pass", "roundtrip.basic": "pass", "errors.": "fail", "errors.enoent": "fail", "errors.boot": "fail", "errors.stop": "fail",
		"faults.": "fail", "faults.loss": "fail", "host.": "pass", "host.kvm": "skip",
	}
	if fmt.Sprint(ended) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", ended, want)
	}
	var text strings.Builder
	for _, e := range all {
		text.WriteString(e.Package + "|" + e.Test + "|" + e.Output + "\n")
	}
	for _, want := range []string{
		"suite||the rig says\n", "suite||warning: the disk is nearly full\n", "suite||QEMU 7.2.15",
		"roundtrip|basic|      0.002s  2: up\n", "errors|enoent|    reason    marker-timeout", "errors|enoent|    artifacts runs/x/errors/enoent\n",
		"faults|loss|    unproven: link A loss=5% touched no frame\n", "host|kvm|    needs KVM\n", "host|kvm|--- SKIP: kvm (0.00s)\n", "roundtrip||PASS\n", "errors||FAIL\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not told", want)
		}
	}
}

// A worker may be gone before its scenario has an end, and a run may fail without any.
func TestTestJSONOfARunThatEndsEarly(t *testing.T) {
	events := []record.Event{{Kind: record.KindScenarioStart, Scenario: "a/b"}}
	s := record.Summary{Failure: &record.Failure{Reason: record.ImageFailed, Message: "no compiler"}, Scenarios: []record.ScenarioSummary{{Name: "a/b", Result: record.Interrupted}}}
	all, ended := tellJSON(t, events, s)
	if ended["a.b"] != "fail" || ended["a."] != "fail" || ended["suite."] != "fail" {
		t.Errorf("%v", ended)
	}
	if !strings.Contains(fmt.Sprint(all), "image-failed") {
		t.Error("why the run failed is not told")
	}
}

// A flaky scenario is no test that passed.
func TestTestJSONOfTries(t *testing.T) {
	events, s := flakyRun(t)
	all, ended := tellJSON(t, events, s)
	if ended["a.flaky"] != "fail" || ended["a.flaky@retry1"] != "pass" || ended["a."] != "fail" {
		t.Errorf("%v", ended)
	}
	if !strings.Contains(fmt.Sprint(all), "FLAKY a/flaky: failed 1 of 2 times") {
		t.Error("that it is flaky is not told")
	}
}

func TestTestJSONOfAWriterThatFails(t *testing.T) {
	events, s := script()
	j := NewTestJSON(&failing{}, "suite")
	for _, e := range events {
		j.Event(e)
	}
	if err := j.Finish(s); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
}
