package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/worker"
)

// Config says what a suite runs, on what, and how often.
type Config struct {
	Items  []Item // sorted by name
	Host   *host.Host
	Images *images.Set
	Saved  machine.Saved // what nodes are cloned from; its zero value: every machine boots
	Run    *record.Run

	Jobs     int           // how many scenarios are played side by side; below 1 is 1
	Rounds   int           // how often each is played; 0: without end
	FailFast bool          // nothing new begins once one is not green
	Retries  int           // how often one that failed is tried again at most, until it passes; not with Both
	Both     bool          // each is played on clones and on booted machines, and must go the same way
	Shuffle  *uint64       // the seed that each round is shuffled by; nil: not shuffled
	Shard    *record.Shard // which part of the selected scenarios Items are; nil: all
	Expected Durations

	// Recording returns what all recordings of machines have in common, and puts what a replay takes into the run's folder; it is called once, before the first one.
	// Nil: no machine is recorded. Recorded machines boot, whatever Saved says. With RecordTries scenarios are played as they would be without, and one that failed is
	// then played again, recorded, until it fails, that many times at the most.
	Recording   func(context.Context) (*recording.Machine, error)
	RecordTries int

	Capture      Keep  // of which scenarios frames are kept; "": KeepNever
	CaptureLimit int64 // bytes of one scenario's; 0: capture.DefaultLimit
	KeyLog       bool  // the keys of sessions are collected, of whatever scenario

	Stops    scenario.Stops // where a scenario stands still
	Patience time.Duration  // how long it then waits for somebody to come to the prompt; 0: DefaultPatience
	Source   string         // the project's folder, from which programs are built anew
}

// DefaultPatience is how long a scenario that stands still waits for somebody to come to the prompt.
const DefaultPatience = 10 * time.Minute

// Outcome is what Run knows beside the record.
type Outcome struct {
	// Passed is how long each scenario that passed took, the last time it did.
	Passed Durations
	// Cold says that every machine booted, of all scenarios.
	Cold bool
	// Images is the ID of what the machines booted; "" when none did.
	Images string
	// Why is what ended the run before all of it was played; nil when nothing did,
	// or when that was a scenario.
	Why *record.Failure
}

// Run plays every scenario, each on fresh machines in a worker of its own, several of
// them side by side, until all are played or ctx ends. What happens goes to the
// record. Its error is of the record alone.
//
// Workers know nothing of each other: each has its own namespaces and folder, and
// whatever becomes of one, the others run on.
func Run(ctx context.Context, cfg Config) (Outcome, error) {
	r := newRunner(cfg)
	if cfg.Recording != nil {
		r.recording = sync.OnceValues(func() (*recording.Machine, error) { return cfg.Recording(ctx) })
	}
	start := cfg.Start()
	start.Host = r.host()
	r.keep(cfg.Run.Append(start))
	var workers sync.WaitGroup
	for range r.jobs {
		workers.Go(func() {
			for t := r.take(ctx); t != nil; t = r.take(ctx) {
				r.play(ctx, t)
			}
		})
	}
	workers.Wait()
	return Outcome{Passed: r.passed, Cold: r.planner.cold, Images: cfg.Images.ID, Why: r.why(ctx)}, r.err
}

// Start returns the event with which the run begins, without the host. A run that ends
// before Run is called records it as well, since it says how many were planned.
func (cfg Config) Start() record.Event {
	return record.Event{Kind: record.KindRunStart, Total: newRunner(cfg).planner.total(), Seed: cfg.Shuffle, Shard: cfg.Shard}
}

// A runner is a suite that runs.
type runner struct {
	cfg       Config
	recording func() (*recording.Machine, error)
	jobs      int
	crowding  float64

	mu      sync.Mutex
	planner planner
	ready   []task // of the present round, not begun yet
	begun   int    // turns
	cut     int    // turns that were ended from outside
	stopped bool   // nothing new begins
	passed  Durations
	err     error
}

func newRunner(cfg Config) *runner {
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	r := &runner{cfg: cfg, passed: Durations{}, planner: planner{
		items: cfg.Items, both: cfg.Both, cold: cfg.Saved == machine.Saved{}, recorded: cfg.Recording != nil && cfg.RecordTries == 0, rounds: cfg.Rounds, expected: cfg.Expected,
	}}
	if cfg.Shuffle != nil {
		r.planner.shuffle = newShuffle(*cfg.Shuffle)
	}
	r.jobs = max(1, cfg.Jobs)
	if cfg.Rounds > 0 {
		r.jobs = max(1, min(r.jobs, len(cfg.Items)*cfg.Rounds))
	}
	r.planner.sideBySide = r.jobs > 1
	r.crowding = crowding(r.jobs, Cores())
	return r
}

// host is the host as the record has it, with what playing side by side does to it.
func (r *runner) host() *record.Host {
	h := r.cfg.Host.Record(r.cfg.Images, r.crowding)
	h.Cores, h.Jobs = Cores(), r.jobs
	h.Line += fmt.Sprintf(" · %d at a time", h.Jobs)
	h.Detail += fmt.Sprintf(", since -j %d plays on %d cores", h.Jobs, h.Cores)
	return h
}

// slowdown is what deadlines are scaled by.
func (r *runner) slowdown() float64 { return r.cfg.Host.Slow(r.crowding) }

// keep keeps an error of the record.
func (r *runner) keep(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

// take returns what is to be played next, nil when nothing is. It plans a round when
// the one before has wholly begun.
func (r *runner) take(ctx context.Context) task {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || ctx.Err() != nil {
		return nil
	}
	if len(r.ready) == 0 {
		shown, play, ok := r.planner.next()
		if !ok {
			return nil
		}
		var names []string
		for _, t := range shown {
			for _, turn := range t {
				names = append(names, turn.name)
			}
		}
		for _, name := range slices.Sorted(slices.Values(names)) {
			r.cfg.Run.Folder(name) // in this order, so that it does not depend on which begins first
		}
		r.err = errors.Join(r.err, r.cfg.Run.Append(record.Event{Kind: record.KindPlan, Plan: names}))
		r.ready = play
	}
	t := r.ready[0]
	r.ready = r.ready[1:]
	r.begun++
	return t
}

// begin reports whether a further turn of a task may begin.
func (r *runner) begin(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || ctx.Err() != nil {
		return false
	}
	r.begun++
	return true
}

// play plays a task.
func (r *runner) play(ctx context.Context, t task) {
	var first *playing
	for i, turn := range t {
		if i > 0 && !r.begin(ctx) {
			return
		}
		first = r.playTurn(ctx, turn, first)
	}
	if !r.cfg.Both {
		r.tryAgain(ctx, t[0], first)
		r.recordFailure(ctx, t[0], first)
	}
}

// tryAgain plays a turn that failed again, on fresh machines, until it passes or has
// been tried often enough, and tells what that makes of the turn. It does so at once,
// and also when nothing new begins any more: whether a failure is one is what
// whoever waits for the end of the run wants to know.
func (r *runner) tryAgain(ctx context.Context, t turn, first *playing) {
	last, worst, played, failed := first, first, 1, 1
	for n := 1; n <= r.cfg.Retries && last.retryable() && ctx.Err() == nil; n++ {
		p := r.playTurn(ctx, t.retry(n), nil)
		if p.cutOff() {
			break // that says nothing about the scenario
		}
		last = p
		played++
		if p.result != record.Passed {
			failed++
		}
		if record.Worst(worst.result, p.result) != worst.result {
			worst = p // a try that failed is not hidden by one for which a machine broke
		}
	}
	if played == 1 {
		return
	}
	result, failure := worst.result, worst.failure
	if last.result == record.Passed {
		result, failure = record.Flaky, first.failure
	}
	r.keep(r.cfg.Run.Append(record.Event{
		Kind: record.KindVerdict, Scenario: t.name, Result: result, Failure: failure, Failed: failed, Played: played,
	}))
}

// recordFailure plays a turn that failed again, with its machines recorded, until it fails, and tells as what it did. Recordings of tries that passed are not kept.
func (r *runner) recordFailure(ctx context.Context, t turn, first *playing) {
	if r.cfg.RecordTries == 0 || !first.retryable() {
		return
	}
	told := record.Event{Kind: record.KindRecorded, Scenario: t.name}
	for told.Played < r.cfg.RecordTries && told.Name == "" && ctx.Err() == nil {
		again := t.record(told.Played + 1)
		p := r.playTurn(ctx, again, nil)
		if p.cutOff() {
			break
		}
		told.Played++
		if p.result == record.Failed {
			told.Name = again.name
			break
		}
		if err := recording.Remove(filepath.Join(r.cfg.Run.Dir(), filepath.FromSlash(r.cfg.Run.Folder(again.name)))); err != nil {
			r.keep(r.cfg.Run.Append(record.Event{Kind: record.KindWarning, Scenario: again.name, Text: err.Error()}))
		}
	}
	if told.Played > 0 {
		r.keep(r.cfg.Run.Append(told))
	}
}

// recordedSlowdown is by how much deadlines of recorded machines are longer than those of others under software emulation: they count instructions, and write down
// what enters them.
const recordedSlowdown = 2

// accelerated is by how much machines with hardware virtualization are faster than recorded ones, which have none; measured elsewhere, and generous.
const accelerated = 6

// recorded changes what a turn is played on and by to what a recorded machine takes.
func (r *runner) recorded(job *Job) (err error) {
	if job.Recording, err = r.recording(); err != nil {
		return err
	}
	job.Slowdown *= recordedSlowdown
	if job.Hardware.Accel != "tcg" {
		job.Slowdown *= accelerated
		job.Hardware.Accel = "tcg"
	}
	job.Hardware.Saved = machine.Saved{}
	return nil
}

// ended notes what became of a turn.
func (r *runner) ended(t turn, p *playing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.result == record.Passed && t.cold:
		r.passed[ColdKey(t.item.Name)] = p.seconds
	case p.result == record.Passed:
		r.passed[t.item.Name] = p.seconds
	case !p.result.Green() && r.cfg.FailFast:
		r.stopped = true
	}
	if p.cutOff() {
		r.cut++
	}
}

// playTurn plays a scenario once, and compares that with how it went on clones, unless
// clones is nil. A worker that ends without a verdict gets one here.
func (r *runner) playTurn(ctx context.Context, t turn, clones *playing) *playing {
	run := r.cfg.Run
	p := &playing{}
	began := false
	tell := func(e record.Event) {
		began = began || e.Kind == record.KindScenarioStart
		if e.Kind == record.KindScenarioEnd && !began {
			began = true
			r.keep(run.Append(record.Event{Kind: record.KindScenarioStart, Scenario: t.name, File: t.item.File, Of: t.of(), Dir: run.Folder(t.name), RetryOf: t.retryOf}))
		}
		if e.Kind == record.KindScenarioStart {
			e.RetryOf = t.retryOf // the worker does not know what it is good for
		}
		p.note(e)
		if e.Kind == record.KindScenarioEnd && clones != nil {
			if f := differs(t.item.File, clones, p); f != nil {
				e.Result, e.Failure = record.Broken, f
				p.result, p.failure = e.Result, e.Failure
			}
		}
		if e.Kind == record.KindScenarioEnd {
			r.ended(t, p) // before anybody hears of it
		}
		r.keep(run.Append(e))
	}
	giveUp := func(reason record.Reason, result record.Result, why error) *playing {
		e := broken(reason, result, why)
		e.Kind, e.Scenario = record.KindScenarioEnd, t.name
		tell(e)
		return p
	}
	job := Job{
		Name: t.name, Of: t.of(), File: t.item.File, RunDir: run.Dir(), Dir: run.Folder(t.name), Slowdown: r.slowdown(), Root: os.Geteuid() == 0,
		Hardware: r.cfg.Host.Hardware(r.cfg.Images), Stops: r.cfg.Stops, Patience: r.cfg.Patience, Source: r.cfg.Source,
		Capture: r.cfg.Capture, CaptureLimit: r.cfg.CaptureLimit, KeyLog: r.cfg.KeyLog,
	}
	if !t.cold {
		job.Hardware.Saved = r.cfg.Saved
	}
	if t.recorded {
		if err := r.recorded(&job); err != nil {
			return giveUp(record.Internal, record.Broken, fmt.Errorf("prepare to record machines: %w", err))
		}
	}
	var given []*os.File
	if socket, name, err := live.Listen(); err != nil {
		r.keep(run.Append(record.Event{Kind: record.KindWarning, Scenario: t.name, Text: fmt.Sprintf("no other terminal can reach this scenario: %v", err)}))
	} else {
		given = []*os.File{socket}
		defer func() {
			if err := live.Remove(name); err != nil {
				r.keep(run.Append(record.Event{Kind: record.KindWarning, Scenario: t.name, Text: err.Error()}))
			}
		}()
	}
	w, err := worker.Start(ctx, ScenarioJob, job, given...)
	for _, f := range given {
		f.Close() // it is the worker's
	}
	if err != nil {
		if ctx.Err() != nil {
			return giveUp(record.Stopped, record.Interrupted, context.Cause(ctx))
		}
		var lacking *lan.HostError
		if errors.As(err, &lacking) {
			return giveUp(record.HostUnsupported, record.Broken, err)
		}
		return giveUp(record.Internal, record.Broken, err)
	}
	var garbled error
	events := record.NewReader(w.Out())
	for {
		e, err := events.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, record.ErrTruncated) {
				garbled = fmt.Errorf("the worker said something that is no event: %w", err)
				w.Kill()
			}
			_, _ = io.Copy(io.Discard, w.Out())
			break
		}
		tell(e)
	}
	err = errors.Join(garbled, w.Wait())
	switch {
	case p.result != "" && err != nil:
		r.keep(run.Append(record.Event{Kind: record.KindWarning, Scenario: t.name, Text: err.Error()}))
		return p
	case p.result != "":
		return p
	case ctx.Err() != nil:
		return giveUp(record.Stopped, record.Interrupted, context.Cause(ctx))
	case err == nil:
		err = errors.New("the worker ended without a verdict")
	}
	return giveUp(record.WorkerDied, record.Broken, err)
}

// why is what ended the run from outside. A run that has no end is over whenever
// somebody ends it, so that only takes something away when a scenario was cut off, or
// one of the first round was never begun. When all was played, the end came too late
// to be one.
func (r *runner) why(ctx context.Context) *record.Failure {
	missing := max(0, r.planner.total()-r.begun)
	if ctx.Err() == nil || r.cut == 0 && (missing == 0 || r.stopped) {
		return nil
	}
	f := Ended(context.Cause(ctx))
	f.Message += fmt.Sprintf(": %d cut off, %d never begun", r.cut, missing)
	return f
}

// A timeoutError is the cause of a context whose run had a limit on its time.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("the run's time of %s is over", e.limit) }
func (e *timeoutError) Unwrap() error { return worker.ErrOutOfTime }

// WithTimeout returns a context that ends a run after that time: what runs then has
// failed, for the reason record.RunTimeout.
func WithTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &timeoutError{limit})
}

// Ended returns what ended a run from outside, as a failure of the run: the cause of
// its context.
func Ended(cause error) *record.Failure {
	return broken(record.Stopped, record.Interrupted, cause).Failure
}
