package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/capture"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/locate"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/node"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/worker"
)

// ScenarioJob is the kind of the job a worker gets from this package: a Job. What
// it tells are events, as record.WriteEvent writes them; the last one is of
// record.KindScenarioEnd.
const ScenarioJob = "scenario"

// A Job is one scenario for one worker.
type Job struct {
	Name     string           `json:"name"`
	Of       string           `json:"of,omitempty"` // the scenario's own name, when that is another one
	File     string           `json:"file"`
	RunDir   string           `json:"run_dir"`
	Dir      string           `json:"dir"` // the scenario's folder, relative to RunDir and separated by slashes
	Hardware machine.Hardware `json:"hardware"`
	Slowdown float64          `json:"slowdown"`
	// Stops say where the script stands still, and Patience how long it then waits for somebody to come to the prompt.
	Stops    scenario.Stops `json:"stops"`
	Patience time.Duration  `json:"patience_ns"`
	// Source is the project's folder, from which programs are built anew.
	Source string `json:"source"`
	// Capture says what is kept of the network's frames, and CaptureLimit how many bytes.
	Capture      Keep  `json:"capture,omitempty"`
	CaptureLimit int64 `json:"capture_limit,omitempty"`
	// KeyLog has the keys of sessions collected in the scenario's folder.
	KeyLog bool `json:"key_log,omitempty"`
	// Recording has every machine recorded: what they have in common. Nil: none is.
	Recording *recording.Machine `json:"recording,omitempty"`
	// Root says whether the run was started by root; inside its namespaces a
	// worker always looks like root.
	Root bool `json:"root"`
}

// Work carries out a ScenarioJob. Its error is of the record alone: all else is in
// the events.
func Work(ctx context.Context, data json.RawMessage, out io.Writer) error {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	ctx, release := explained(ctx)
	defer release()
	start := time.Now()
	p := &play{job: job, unreach: func() {}, capture: job.newCapture(), locator: locate.New()}
	p.alive = newAlive(ctx, job, start, func(text string) { p.tell(record.Event{Kind: record.KindWarning, Text: text}) })
	var told error
	rec, err := record.CreateScenario(job.RunDir, job.Dir, job.Name, func(e record.Event) {
		p.alive.told(e)
		p.capture.Event(e)
		p.locator.Event(e)
		p.noteFailure(e)
		told = errors.Join(told, record.WriteEvent(out, e))
	})
	if err != nil {
		return err
	}
	p.rec = rec
	end := p.run(ctx)
	end.Kind, end.Seconds = record.KindScenarioEnd, record.Seconds(time.Since(start))
	p.keepCapture(end)
	end.Failure = p.explain(end.Failure)
	recErr := errors.Join(p.recErr, rec.Append(end))
	p.unreach() // those who follow have heard of the end
	recErr = errors.Join(recErr, rec.Close())
	return errors.Join(told, recErr)
}

// A play is one scenario while it runs.
type play struct {
	job   Job
	rec   *record.Scenario
	alive *alive

	capture *capture.Capture // nil: none
	locator *locate.Locator
	failed  time.Time       // when a step failed, the last time; one event at a time is taken in
	held    *record.Failure // the last one at which the script stood still, explained; nil: none

	unreach func() // ends what reachable began

	mu     sync.Mutex
	recErr error // the first failure to write the record
}

// tell records an event.
func (p *play) tell(e record.Event) {
	err := p.rec.Append(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recErr = errors.Join(p.recErr, err)
}

func (p *play) phase(name string, d time.Duration) {
	p.tell(record.Event{Kind: record.KindPhase, Name: name, Seconds: record.Seconds(d)})
}

// run plays the scenario and returns its end.
func (p *play) run(ctx context.Context) record.Event {
	p.tell(record.Event{Kind: record.KindScenarioStart, File: p.job.File, Of: p.job.Of, Dir: p.job.Dir})
	programs, err := images.Programs(p.job.Source)
	if err != nil {
		return broken(record.Internal, record.Broken, err)
	}
	script, err := scenario.Load(p.job.File, programs)
	if err != nil {
		return broken(record.Invalid, record.Failed, err)
	}
	begin := time.Now()
	network, err := lan.New(ctx, lan.Config{
		Idle: time.Duration(float64(lan.DefaultIdle) * p.job.Slowdown), Bare: p.job.Recording != nil,
		Note: func(line string) { p.tell(record.Event{Kind: record.KindWarning, Text: line}) },
	})
	if err != nil {
		return brokenHost(err)
	}
	p.capture.Start(network.BridgeIndex(), node.PortNode)
	p.phase("network", time.Since(begin))
	world, err := node.NewWorld(node.Config{
		Hardware: p.job.Hardware, LAN: network, Script: script, Work: p.rec.Work(), Record: p.rec, Slowdown: p.job.Slowdown,
		BeforeRun: p.capture.Await, KeyLog: p.job.KeyLog, Recording: p.recording(),
	})
	if err != nil {
		return brokenHost(errors.Join(err, network.Close()))
	}
	engine, err := scenario.New(scenario.Config{
		World: world, Work: p.rec.Work(), Emit: p.tell, Slowdown: p.job.Slowdown,
		Host:     scenario.Host{Accel: p.job.Hardware.Accel, Root: p.job.Root, Arch: host.Arch},
		Programs: programs, Stops: p.job.Stops, Hold: p.alive.hold, Reload: p.reload, Late: p.late, Explain: p.explainHeld,
	})
	if err != nil {
		return brokenHost(errors.Join(err, network.Close()))
	}
	world.OnFailure(engine.Fail)
	world.OnReport(engine.Suspect)
	world.OnFreeze(suspends(engine))
	world.OnStop(p.alive.stopped)
	p.reachable(ctx, engine, world)

	begin = time.Now()
	outcome := engine.Run(ctx, script)
	p.phase("script", time.Since(begin)-world.UpTime())

	if outcome.Failure != nil {
		world.DumpPanicked(context.WithoutCancel(ctx))
	}
	if p.job.Hardware.Cover && ctx.Err() == nil { // whoever ends a run waits for nothing
		begin = time.Now()
		world.SaveCoverage(ctx)
		p.phase("coverage", time.Since(begin))
	}
	begin = time.Now()
	if err := world.Keys(context.WithoutCancel(ctx), p.rec.Keys()); err != nil {
		p.tell(record.Event{Kind: record.KindWarning, Text: err.Error()})
	}
	if !p.job.keeps(outcome.Result) {
		p.capture.Drop()
	}
	world.Close()
	if ctx.Err() == nil { // whoever ends a run waits for nothing
		outcome = p.examine(engine, world, outcome)
	}
	// The network goes with this process's namespace, when nobody waits for it any
	// more: taking bridge and taps away one by one takes the kernel 70 ms.
	if err := engine.Close(); err != nil {
		p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("teardown: %v", err)})
	}
	p.phase("teardown", time.Since(begin))
	end := record.Event{Result: outcome.Result, Text: outcome.Why, Failure: outcome.Failure}
	if outcome.Result.Green() {
		// What the fixtures and pulled files are worth is over with a pass.
		if err := os.RemoveAll(p.rec.Work()); err != nil {
			p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("remove the work folder: %v", err)})
		}
	}
	return end
}

// recording is what the scenario's recordings have in common; nil: there are none.
func (p *play) recording() *recording.Machine {
	if p.job.Recording == nil {
		return nil
	}
	m := *p.job.Recording
	m.Scenario = p.job.Name
	return &m
}

// reachable lets other terminals reach the scenario, until unreach is called.
func (p *play) reachable(ctx context.Context, engine *scenario.Engine, world *node.World) {
	p.alive.engine, p.alive.world = engine, world
	socket := worker.Given(givenSocket)
	if socket == nil {
		return // the parent has said why
	}
	listener, err := live.Inherited(socket)
	if err != nil {
		p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("no other terminal can reach this scenario: %v", err)})
		return
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx)) // also while the scenario ends
	served := make(chan error, 1)
	go func() { served <- live.Serve(serving, listener, p.alive) }()
	p.unreach = func() {
		cancel()
		if err := <-served; err != nil {
			p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("other terminals: %v", err)})
		}
	}
}

// suspends has no deadline of a scenario pass while its nodes are frozen.
func suspends(engine *scenario.Engine) func(frozen bool) {
	resume := func() {}
	return func(frozen bool) {
		resume()
		if frozen {
			resume = engine.Suspend()
		}
	}
}

// reload builds a program from its present source, and replaces it on a node.
func (p *play) reload(ctx context.Context, name, program string) (string, error) {
	if p.job.Source == "" {
		return "", errors.New("this run does not know where the source is")
	}
	binary := filepath.Join(p.rec.Dir(), reloadFile)
	digest, err := images.Binary(ctx, p.job.Source, binary)
	if err != nil {
		return "", err
	}
	return p.alive.world.Reload(ctx, name, program, binary, digest)
}

// late saves what every program is doing when a step was not in time.
func (p *play) late(ctx context.Context) {
	p.alive.world.Stacks(context.WithoutCancel(ctx), p.rec.Dir())
}

// reloadFile is the binary of programs that was last built for machines that run, in the scenario's folder.
const reloadFile = "node"

// givenSocket is the index of the socket on which a scenario is reached, of what its worker is given.
const givenSocket = 0

// explained returns a context that ends with ctx, and whose cause has the scenario
// end for the right reason: without more time it has failed, else it was interrupted.
func explained(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, worker.ErrOutOfTime) {
			cause = &scenario.NodeError{Reason: record.RunTimeout, Err: fmt.Errorf("%w: the time of the whole run was over while this scenario ran", cause)}
		}
		cancel(cause)
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}

// broken is the end of a scenario that could not be played.
func broken(reason record.Reason, result record.Result, err error) record.Event {
	switch {
	case errors.Is(err, worker.ErrOutOfTime):
		reason, result = record.RunTimeout, record.RunTimeout.Info().Result
	case errors.Is(err, worker.ErrInterrupted):
		reason, result = record.Stopped, record.Interrupted
	case reason == record.Internal || reason == record.WorkerDied:
		what, ok := record.Exhausted(err)
		if !ok && reason == record.WorkerDied {
			what, ok = record.ExhaustedText(err.Error())
		}
		if ok {
			reason, err = record.HostExhausted, fmt.Errorf("this host ran out of %s: %w", what, err)
		}
	}
	return record.Event{Result: result, Failure: record.NewFailure(reason, err)}
}

// brokenHost tells what the host lacks from what the rig did wrong.
func brokenHost(err error) record.Event {
	var lacking *lan.HostError
	if errors.As(err, &lacking) {
		return broken(record.HostUnsupported, record.Broken, err)
	}
	return broken(record.Internal, record.Broken, err)
}
