package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsoftbus-rig/rig/record"
)

// A Config is what an Engine needs.
type Config struct {
	World World

	// Work is the scenario's own folder, $WORK. It exists; Run puts the fixtures there.
	Work string

	// Emit takes the events of the run: section, step-start, output, step-end, marker,
	// budget and warning. It is called from one goroutine at a time. It may be nil.
	Emit func(record.Event)

	// Slowdown is how much slower this host's machines are than those scenarios are
	// written for. The work in every deadline and every budget is scaled by it, in the
	// ones that a scenario names too. Below 1, and without a value, it is 1.
	Slowdown float64

	Deadlines Deadlines
	Host      Host

	// Programs are those of a node's image, by their paths. Without them no program's
	// name is checked before it runs.
	Programs []string

	// Stops say where a script stands still. Hold is then called, and decides how it goes on; from the event of
	// record.KindHeld on, which comes before, until it returns lines can be given to the engine. Without Hold a script never stands still, and the commands of a prompt are none.
	Stops Stops
	Hold  func(ctx context.Context, s Stand) Move

	// Reload replaces a program of a node by one that is built from its present source, and says what it did. It may be nil.
	Reload func(ctx context.Context, node, program string) (said string, err error)

	// Explain returns a failure at which the script stands still with all that
	// is known of it; what it returns is also the failure of a script that is
	// ended there. It may be nil.
	Explain func(*record.Failure) *record.Failure

	// Late is called when a step was not in time, before its failure is told. It may be nil.
	Late func(ctx context.Context)
}

// An Engine runs one scenario, or lines one at a time, and keeps what they set
// between them. Run, Do and Complete belong to one goroutine; Fail may be called
// from any.
type Engine struct {
	cfg      Config
	host     *Engine // whose visitor it is; nil: nobody's
	commands *Registry
	work     *os.Root
	scope    *scope
	numbers  *atomic.Int64 // of steps, which visitors count on
	steps    int           // number of the last step
	lines    int           // number of the last line given to Do
	proved   bool          // a statement that can fail has run
	running  bool
	last     output // what the last command left in stdout and stderr
	printed  bool   // a command has left that
	jobs     []*backgroundJob
	vars     map[string]string // set by the scenario
	budgets  map[string]budget
	script   *Script      // that Run was given; nil: none
	typed    []typedLine  // what was typed, in order
	leftOut  map[int]bool // lines of the script that failed and were left out
	stand    *Stand       // where the script stands still; nil while it does not
	move     Move         // what a command of the prompt has decided

	// By clock the script's deadlines and budgets are measured, by typing those of the
	// lines that a person types: while the script stands still only the first one does.
	clock, typing *clock

	markers sync.Mutex
	cursors map[string]int // per node, the Seq its next marker looks at first
	acted   act            // what the script has done last

	events *sync.Mutex        // held while Emit runs
	hears  func(record.Event) // gets the events of the line that was given to Do; guarded by events

	mu        sync.Mutex
	allowed   []allowance
	fatal     *NodeError
	reports   int                     // that have begun, see Suspect
	told      chan struct{}           // closed when there are none; nil when nobody waits for that
	steppedIn []string                // what persons did
	cancel    context.CancelCauseFunc // ends what is running; nil when nothing is
}

// An act is a statement that does something to nodes or the network, and when it
// began.
type act struct {
	statement *Statement // nil: there was none
	began     time.Time
}

// An allowance is a line that does not end the scenario.
type allowance struct {
	re    *regexp.Regexp
	maybe bool // it need not come
}

// A budget is one that has begun.
type budget struct {
	start time.Time
	clock *clock        // by which it is measured
	spent time.Duration // by the clock that stood still before it
	limit limit
}

// New returns an engine. Close it when it is no longer needed.
func New(cfg Config) (*Engine, error) {
	folder, err := filepath.Abs(cfg.Work)
	if err != nil {
		return nil, fmt.Errorf("open the scenario's folder: %w", err)
	}
	work, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open the scenario's folder: %w", err)
	}
	cfg.Work = folder
	if !(cfg.Slowdown >= 1) || math.IsInf(cfg.Slowdown, 0) {
		cfg.Slowdown = 1
	}
	e := &Engine{
		cfg:      cfg,
		commands: Commands(),
		numbers:  new(atomic.Int64),
		clock:    &clock{},
		typing:   &clock{},
		events:   &sync.Mutex{},
		work:     work,
		scope:    newScope(filepath.ToSlash(folder)),
		vars:     map[string]string{},
		budgets:  map[string]budget{},
		cursors:  map[string]int{},
		leftOut:  map[int]bool{},
	}
	e.scope.programs = cfg.Programs
	if cfg.Hold != nil {
		e.commands = promptCommands()
	}
	e.scope.exists = func(rel string) bool {
		info, err := work.Stat(rel)
		return err == nil && !info.IsDir()
	}
	return e, nil
}

// Close ends the background jobs and gives the engine's folder back.
func (e *Engine) Close() error {
	e.endJobs()
	return e.work.Close()
}

// An Outcome is how a scenario ended.
type Outcome struct {
	Result  record.Result
	Why     string          // the word of `skip` or `stop`, if it gave one; of a repaired scenario, what persons did
	Failure *record.Failure // nil when the scenario passed, was repaired or was skipped
}

// Run checks a script, places its fixtures and runs its statements. It ends at the
// first that fails; at `skip` or `stop`; and at once when ctx ends or Fail is
// called. When the cause of ctx is a *NodeError, that is the failure; with any
// other cause the scenario is interrupted.
//
// Background jobs that nobody waited for are cancelled at the end. As with
// rsc.io/script, such a job fails a scenario that would have passed, unless it
// ended as it should, or '?' lets it fail.
func (e *Engine) Run(ctx context.Context, s *Script) Outcome {
	if out, ok := e.place(s); !ok {
		return out
	}
	e.script, e.running = s, true
	defer func() { e.running = false }()
	p := newPlayer(e, s)
	defer func() { p.release() }()
	last, err := p.play(ctx)
	return e.end(p.ctx, last, err)
}

// end makes the outcome of a script whose last statement was st.
func (e *Engine) end(ctx context.Context, st *Statement, err error) Outcome {
	var end *End
	ended := errors.As(err, &end)
	if ended {
		err = context.Cause(ctx)
	}
	if err != nil {
		e.settle(ctx, err)
		f := e.failure(ctx, st, e.steps, err)
		e.endJobs()
		return Outcome{Result: f.Reason.Info().Result, Failure: f}
	}
	out := Outcome{Result: record.Passed}
	if ended {
		out.Why = end.Why
		if end.Skip {
			out.Result = record.Skipped
		}
	}
	if err := e.endJobs(); err != nil && out.Result == record.Passed {
		f := e.failure(ctx, st, e.steps, err)
		return Outcome{Result: f.Reason.Info().Result, Failure: f}
	}
	if out.Result == record.Passed {
		err := e.endBudgets()
		if err == nil {
			err = e.proven(ctx)
		}
		if err != nil {
			f := e.failure(ctx, st, e.steps, err)
			return Outcome{Result: f.Reason.Info().Result, Failure: f}
		}
	}
	if out.Result == record.Passed && !e.proved {
		return Outcome{Result: record.Skipped, Why: "no line that can fail has run: the conditions of all of them are not met"}
	}
	if did := e.whatPersonsDid(); len(did) > 0 && out.Result == record.Passed {
		return Outcome{Result: record.Repaired, Why: strings.Join(did, "; ")}
	}
	return out
}

// countWait bounds the last look at what faults have touched: kernels count, and answer
// at once.
const countWait = 10 * time.Second

// proven returns nil when every fault of the scenario has touched something, and
// every line that it allows has come.
func (e *Engine) proven(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(float64(countWait)*max(e.cfg.Slowdown, 1)))
	defer cancel()
	idle, err := e.cfg.World.Unproven(ctx)
	if err != nil {
		return failed(record.StepFailed, "count what faults have touched: %w", err)
	}
	if idle = append(idle, e.unneeded()...); len(idle) > 0 {
		return failed(record.NeverTouched, "%s", strings.Join(idle, "; "))
	}
	return nil
}

// place checks the script and writes its fixtures; ok is false when the scenario
// ends with that.
func (e *Engine) place(s *Script) (out Outcome, ok bool) {
	fail := func(f record.Failure) (Outcome, bool) {
		f.File = s.File
		return Outcome{Result: f.Reason.Info().Result, Failure: &f}, false
	}
	var problems Problems
	if err := Check(s); errors.As(err, &problems) {
		first, rest := problems[0], problems[1:]
		f := record.Failure{Reason: record.Invalid, Line: first.Line, Message: first.Reason, Next: first.Next}
		if len(rest) > 0 {
			f.Message += "\n" + rest.Error()
		}
		return fail(f)
	} else if err != nil {
		return fail(record.Failure{Reason: record.Invalid, Message: err.Error()})
	}
	if err := s.extract(e.work); err != nil {
		return fail(record.Failure{Reason: record.Internal, Message: err.Error()})
	}
	for _, fx := range s.Fixtures {
		e.scope.fixture(fx)
	}
	return Outcome{}, true
}

// Do runs one line, with all that was set by those before it, and returns when it
// is done. A script that was given to Run stands still meanwhile. tell gets the
// line's events as they come, until Do returns; it may be nil. The error is
// Problems when the line makes no sense (nothing was run), an *End for `skip` and
// `stop`, and else a *record.Failure.
func (e *Engine) Do(ctx context.Context, line string, tell func(record.Event)) error {
	e.lines++
	const name = "prompt"
	var problems Problems
	report := func(p Problem) { problems = append(problems, p) }
	st, f := parseStatement(name, e.lines, line)
	if f != nil {
		report(Problem{File: name, Line: e.lines, Reason: f.reason, Next: f.next})
		return problems.err()
	}
	if st == nil {
		return nil
	}
	k := &checker{commands: e.commands, scope: e.scope.clone(), report: report}
	k.statement(st)
	if len(problems) > 0 {
		return problems.err()
	}
	// What befell a node while no line ran must not end the line that is typed next:
	// that may well be the one that repairs it.
	if fatal := e.takeFatal(); fatal != nil {
		e.emit(record.Event{Kind: record.KindWarning, Node: fatal.Node, Text: fatal.Error()})
	}
	ctx, release := e.watch(ctx)
	defer release()
	defer e.listen(tell)()
	command := e.commands.commands[st.name]
	if command.prompt || command.name == "help" {
		return e.doPrompt(ctx, st)
	}
	e.SteppedIn("`" + st.Text + "`")
	err := e.step(ctx, st)
	e.noteTyped(st.Text, err != nil)
	var end *End
	if err == nil || errors.As(err, &end) {
		return err
	}
	e.settle(ctx, err)
	failure := e.failure(ctx, st, e.steps, err)
	if ctx.Err() != nil {
		e.takeFatal() // it is this failure
	}
	return failure
}

// Complete returns what the word at byte pos of a line can become, and the byte
// where that word starts.
func (e *Engine) Complete(line string, pos int) (start int, words []string) {
	return e.commands.complete(e.scope, line, pos)
}

// Fail says that something happened to a node that ends the scenario: the step that
// runs ends at once, and Run returns with it. A line that an `allow` expects is
// only noted. Call it when the lines that explain it are in the node's log, since
// the failure takes the log's end along. The first call counts.
func (e *Engine) Fail(ne *NodeError) {
	e.mu.Lock()
	expected := ne.Text != "" && slices.ContainsFunc(e.allowed, func(a allowance) bool { return a.re.MatchString(ne.Text) })
	if !expected && e.fatal == nil {
		e.fatal = ne
		if e.cancel != nil {
			e.cancel(ne)
		}
	}
	e.mu.Unlock()
	if expected {
		e.emit(record.Event{Kind: record.KindWarning, Node: ne.Node, Text: "allowed: " + ne.Text})
	}
}

// Suspect says that a node has begun to report something for which Fail will be
// called, unless it is allowed, before done is. A step that fails meanwhile does so for
// that reason, not for what followed from it.
func (e *Engine) Suspect() (done func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reports++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.reports--
		if e.reports == 0 && e.told != nil {
			close(e.told)
			e.told = nil
		}
	}
}

// awaitReports returns when no report is being read, or ctx has ended with one.
func (e *Engine) awaitReports(ctx context.Context) {
	e.mu.Lock()
	if e.reports == 0 {
		e.mu.Unlock()
		return
	}
	if e.told == nil {
		e.told = make(chan struct{})
	}
	told := e.told
	e.mu.Unlock()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// Befell returns what Fail was given that the script has not ended with, nil when
// nothing was: a report whose last lines came after the last statement.
func (e *Engine) Befell() *NodeError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fatal
}

// watch returns a context that ends with Fail, and what to call when it is no
// longer needed.
func (e *Engine) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancel = cancel
	if e.fatal != nil {
		cancel(e.fatal)
	}
	return ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.cancel = nil
		cancel(nil)
	}
}

// takeFatal returns what Fail was given since the last line, and forgets it.
func (e *Engine) takeFatal() *NodeError {
	e.mu.Lock()
	defer e.mu.Unlock()
	fatal := e.fatal
	e.fatal = nil
	return fatal
}

func (e *Engine) emit(ev record.Event) {
	e.events.Lock()
	defer e.events.Unlock()
	if ev.Typed && e.hears != nil {
		e.hears(ev)
	}
	if e.cfg.Emit != nil {
		e.cfg.Emit(ev)
	}
}

// listen passes the events of lines that are typed to tell, until what it returns is
// called.
func (e *Engine) listen(tell func(record.Event)) func() {
	set := func(to func(record.Event)) {
		e.events.Lock()
		defer e.events.Unlock()
		e.hears = to
	}
	set(tell)
	return func() { set(nil) }
}

// variable returns the value of a variable.
func (e *Engine) variable(name string) (string, bool) {
	if v, ok := e.scope.known[name]; ok {
		return v, true
	}
	v, ok := e.vars[name]
	return v, ok
}

// variables returns the names of all variables, sorted.
func (e *Engine) variables() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(e.vars)), maps.Keys(e.scope.known))
	slices.Sort(names)
	return names
}

// nodeNames returns the nodes an argument means.
func (e *Engine) nodeNames(arg string) []string {
	if arg == "*" {
		return e.scope.nodes
	}
	return []string{arg}
}
