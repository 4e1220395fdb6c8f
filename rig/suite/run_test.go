package suite

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/worker"
)

// The workers of these tests are this program with a stand-in for Work: what a
// suite does with workers that misbehave needs no machine.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{ScenarioJob: misbehave}))
	}
	// With the race detector each worker would stay a second longer, to have its say.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
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
	if err := tell(record.Event{Schema: record.Schema, Kind: record.KindScenarioStart, File: job.File, Of: job.Of, Dir: job.Dir}); err != nil {
		return err
	}
	// A named pipe is what a test holds a scenario with, until it wants it to go on.
	if info, err := os.Stat(job.File); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		f, err := os.Open(job.File)
		if err != nil {
			return err
		}
		if _, err := f.Read(make([]byte, 1)); err != nil {
			return err
		}
	}
	cold := job.Hardware.Saved == machine.Saved{}
	marker := func(step int, node, text string) error {
		return tell(record.Event{Kind: record.KindMarker, Step: step, Node: node, Unit: "unit", Text: text})
	}
	failed := func(message string) error {
		return tell(record.Event{Kind: record.KindScenarioEnd, Result: record.Failed, Seconds: 1,
			Failure: &record.Failure{Reason: record.StepFailed, File: job.File, Line: 3, Message: message}})
	}
	switch job.Name {
	case "bad/fails", "bad/fails@retry1", "bad/fails@retry2", "bad/third@3", "bad/twice@2", "bad/twice@2.retry1", "bad/once", "bad/again", "bad/worse@retry1":
		return failed("as it was asked to")
	case "both/cold-fails@cold":
		return failed("only when it boots")
	case "both/clones-fail":
		return failed("only on clones")
	case "both/marker", "both/marker@cold":
		text := "ready"
		if cold {
			text = "ready at last"
		}
		err := errors.Join(tell(record.Event{Kind: record.KindStepStart, Step: 4, Line: 7, Text: "marker B ready"}), marker(4, "A", "first"), marker(4, "B", text))
		if err != nil {
			return err
		}
	case "both/chance", "both/chance@cold":
		text, steps := "took 1.5s", []int{1, 2}
		if cold {
			text, steps = "took 27ms", []int{2, 1}
		}
		for _, step := range steps {
			if err := marker(step, "A", text); err != nil {
				return err
			}
		}
	case "bad/unwell":
		return tell(record.Event{Kind: record.KindScenarioEnd, Result: record.Failed, Failure: &record.Failure{Reason: record.Invalid}})
	case "bad/dies", "bad/died", "bad/worse", "bad/worse@retry2":
		panic("out of cheese")
	case "bad/silent":
		return nil
	case "bad/torn":
		_, _ = io.WriteString(out, `{"kind":"scenario-end","resul`)
		return nil
	case "bad/waits", "bad/again@retry1":
		ctx, release := explained(ctx)
		defer release()
		<-ctx.Done()
		end := broken(record.Internal, record.Broken, context.Cause(ctx))
		end.Kind = record.KindScenarioEnd
		return tell(end)
	case "bad/stubborn":
		select {}
	}
	return tell(record.Event{Kind: record.KindScenarioEnd, Result: record.Passed, Seconds: 1})
}

func playSuite(t *testing.T, ctx context.Context, each func(record.Event), names ...string) record.Summary {
	t.Helper()
	summary, _ := playConfig(t, ctx, Config{Rounds: 1}, each, names...)
	return summary
}

// playConfig plays a suite of scenarios of those names.
func playConfig(t *testing.T, ctx context.Context, cfg Config, each func(record.Event), names ...string) (record.Summary, Outcome) {
	t.Helper()
	run, err := record.Create(t.TempDir(), "test", each)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Images, cfg.Run = &host.Host{Accel: "tcg", Slowdown: 1}, &images.Set{}, run
	for _, name := range names {
		cfg.Items = append(cfg.Items, Item{Name: name, File: name + extension})
	}
	slices.SortFunc(cfg.Items, compareNames)
	// A suite that goes on and on is a failure of its test alone.
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the suite hangs"))
	defer cancel()
	out, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := run.Finish(out.Why)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range summary.Scenarios {
		if s.Failure != nil && strings.Contains(s.Failure.Message, "namespaces") && os.Geteuid() != 0 {
			t.Skip(s.Failure.Message)
		}
	}
	return summary, out
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
	if len(summary.Scenarios) != 1 || summary.Scenarios[0].Result != record.Interrupted || summary.Result != record.Interrupted || summary.NotPlayed != 1 {
		t.Fatalf("summary %+v", summary)
	}
}

// Each attempt has a folder of its own, also one whose worker never said where it is.
func TestEachAttemptHasAFolderOfItsOwn(t *testing.T) {
	first, second := playSuite(t, t.Context(), nil, "zz/work", "zz", "测试", "验证", "bad/garbled"), playSuite(t, t.Context(), nil, "zz", "zz/work")
	names := map[string]string{}
	for _, s := range first.Scenarios {
		for other, dir := range names {
			if s.Dir == dir || strings.HasPrefix(s.Dir+"/", dir+"/") || strings.HasPrefix(dir+"/", s.Dir+"/") {
				t.Errorf("%s is in %s, and %s in %s", s.Name, s.Dir, other, dir)
			}
		}
		names[s.Name] = s.Dir
	}
	if names["zz"] != "zz" || names["bad/garbled"] != "bad/garbled" {
		t.Errorf("ordinary names have the folders %v", names)
	}
	for _, s := range second.Scenarios {
		if s.Dir != names[s.Name] {
			t.Errorf("%s is in %s, and was in %s", s.Name, s.Dir, names[s.Name])
		}
	}
}
