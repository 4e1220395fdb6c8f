package suite

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/worker"
)

// The workers of these tests are this program with a stand-in for Work: what a
// suite does with workers that misbehave needs no machine.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{ScenarioJob: misbehave}))
	}
	os.Exit(m.Run())
}

func misbehave(ctx context.Context, data json.RawMessage, out io.Writer) error {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	tell := func(e record.Event) error {
		e.Scenario = job.Name
		return record.WriteEvent(out, e)
	}
	if job.Name == "bad/garbled" {
		_, _ = io.WriteString(out, "what is an event?\n")
		<-ctx.Done() // whoever talks nonsense is not waited for
	}
	if err := tell(record.Event{Schema: record.Schema, Kind: record.KindScenarioStart, File: job.File}); err != nil {
		return err
	}
	switch job.Name {
	case "bad/dies":
		panic("out of cheese")
	case "bad/silent":
		return nil
	case "bad/torn":
		_, _ = io.WriteString(out, `{"kind":"scenario-end","resul`)
		return nil
	case "bad/waits":
		<-ctx.Done()
		return tell(record.Event{Kind: record.KindScenarioEnd, Result: record.Interrupted})
	}
	return tell(record.Event{Kind: record.KindScenarioEnd, Result: record.Passed})
}

func playSuite(t *testing.T, ctx context.Context, each func(record.Event), names ...string) record.Summary {
	t.Helper()
	run, err := record.Create(t.TempDir(), "test", each)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Host: &host.Host{Accel: "tcg", Slowdown: 1}, Images: &images.Set{}, Run: run}
	for _, name := range names {
		cfg.Items = append(cfg.Items, Item{Name: name, File: name + extension})
	}
	if err := Run(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	summary, err := run.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range summary.Scenarios {
		if s.Failure != nil && strings.Contains(s.Failure.Message, "namespaces") && os.Geteuid() != 0 {
			t.Skip(s.Failure.Message)
		}
	}
	return summary
}

func TestAWorkerWithoutAVerdictGetsOne(t *testing.T) {
	summary := playSuite(t, t.Context(), nil, "good/first", "bad/dies", "bad/silent", "bad/torn", "bad/garbled", "good/last")
	want := map[string]struct {
		result  record.Result
		reason  record.Reason
		message string
	}{
		"good/first":  {record.Passed, "", ""},
		"bad/dies":    {record.Broken, record.WorkerDied, "out of cheese"},
		"bad/silent":  {record.Broken, record.WorkerDied, "without a verdict"},
		"bad/torn":    {record.Broken, record.WorkerDied, "without a verdict"},
		"bad/garbled": {record.Broken, record.WorkerDied, "no event"},
		"good/last":   {record.Passed, "", ""},
	}
	if len(summary.Scenarios) != len(want) {
		t.Fatalf("%d scenarios", len(summary.Scenarios))
	}
	for _, s := range summary.Scenarios {
		w := want[s.Name]
		if s.Result != w.result {
			t.Errorf("%s: %s, want %s", s.Name, s.Result, w.result)
		}
		if w.reason != "" && (s.Failure == nil || s.Failure.Reason != w.reason || !strings.Contains(s.Failure.Message, w.message)) {
			t.Errorf("%s: failure %+v", s.Name, s.Failure)
		}
	}
	if summary.Result != record.Broken {
		t.Errorf("run: %s", summary.Result)
	}
}

func TestAnInterruptEndsTheSuite(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	summary := playSuite(t, ctx, func(e record.Event) {
		if e.Scenario == "bad/waits" && e.Kind == record.KindScenarioStart {
			cancel(errors.New("enough"))
		}
	}, "bad/waits", "good/never")
	if len(summary.Scenarios) != 1 || summary.Scenarios[0].Result != record.Interrupted || summary.Result != record.Interrupted {
		t.Fatalf("summary %+v", summary)
	}
}
