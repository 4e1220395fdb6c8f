package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dsoftbus-rig/rig/record"
)

// Stops say where a script stands still, for a person to take over.
type Stops struct {
	OnFailure bool // where a step fails, before anything is torn down
	AtBreak   bool // at `break`
	AtEnd     bool // behind the last line, before anything is torn down
	Before    int  // at the first line of the script from this one on; 0: at none
}

// A Stand is where and why a script stands still.
type Stand struct {
	Why     Why
	File    string
	Line    int             // of the statement that Retry and Step run
	Text    string          // that statement; empty behind the last one
	Step    int             // of the step that failed
	Failure *record.Failure // how; nil unless one did
}

// Why is why a script stands still.
type Why string

// Reasons to stand still.
const (
	WhyFailed      Why = "failed"      // a step failed
	WhyBreak       Why = "break"       // `break`
	WhyBefore      Why = "until"       // the line that was to be waited for
	WhyStep        Why = "step"        // one more line was run, as was asked for
	WhyInterrupted Why = "interrupted" // a person asked for it while a step ran
	WhyEnd         Why = "end"         // the script is over
)

// A Move is how a script that stands still goes on.
type Move string

// Moves.
const (
	Continue Move = "continue" // on behind the line that failed or was interrupted; else with the line it stands at
	Retry    Move = "retry"    // with the line it stands at, which may have failed
	OneStep  Move = "step"     // that line, and then it stands still again
	Quit     Move = "quit"     // no further line
)

// errHeld cancels the step that runs when a person wants to take over.
var errHeld = errors.New("interrupted from the prompt")

// errQuit ends a script at the prompt.
var errQuit = errors.New("ended at the prompt")

// Interrupt has the script stand still where it is: the step that runs is ended. It says whether a script runs that can
// stand still.
func (e *Engine) Interrupt() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cfg.Hold == nil || e.cancel == nil {
		return false
	}
	e.cancel(errHeld)
	return true
}

// SteppedIn notes that a person does something that the script does not. A script that passes is then repaired.
func (e *Engine) SteppedIn(what string) {
	if e.host != nil {
		e.host.SteppedIn(what)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.steppedIn, what) {
		e.steppedIn = append(e.steppedIn, what)
	}
}

// maxDeeds is how much of what persons did is told with a verdict; the events have it all.
const maxDeeds = 5

// whatPersonsDid returns what there is to say of that.
func (e *Engine) whatPersonsDid() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	did := slices.Clone(e.steppedIn)
	if more := len(did) - maxDeeds; more > 0 {
		did = append(did[:maxDeeds], fmt.Sprintf("and %d more", more))
	}
	return did
}

// Suspend stops the clocks that deadlines and budgets are measured by until the function that it returns is called: for
// when the machines stand still, which no line can help.
func (e *Engine) Suspend() (resume func()) {
	script, typed := e.clock.stop(), e.typing.stop()
	return func() {
		script()
		typed()
	}
}

// hold has the script stand still until a person lets it go on. None of the script's deadlines passes meanwhile; the lines
// that the person types have deadlines of their own, which do.
func (e *Engine) hold(ctx context.Context, s Stand) Move {
	defer e.clock.stop()()
	// Lines can be given from the moment on at which somebody hears of it.
	e.running, e.stand = false, &s
	e.emit(record.Event{Kind: record.KindHeld, Name: string(s.Why), File: s.File, Line: s.Line, Text: s.Text, Step: s.Step, Failure: s.Failure})
	move := e.cfg.Hold(ctx, s)
	e.running, e.stand = true, nil
	if ctx.Err() != nil {
		move = Quit
	}
	e.emit(record.Event{Kind: record.KindReleased, Name: string(move)})
	return move
}

// Extent returns how many lines a script has, and which of them is its last
// command; 0 without one.
func (s *Script) Extent() (lines, last int) {
	for i := range s.Sections {
		for _, st := range s.Sections[i].Statements {
			last = st.Line
		}
	}
	lines = len(s.lines)
	for lines > 0 && s.lines[lines-1] == "" {
		lines--
	}
	return lines, last
}

// A player goes through a script's statements.
type player struct {
	e        *Engine
	script   *Script
	all      []placed
	stepping bool
	before   int // Stops.Before, until it has stood there

	// What steps run under, and what to call when that is over. It ends when something befalls a node.
	ctx     context.Context
	release func()
}

// A placed statement knows its section; first is set on a section's first.
type placed struct {
	*Statement
	section *Section
	first   bool
}

func newPlayer(e *Engine, s *Script) *player {
	p := &player{e: e, script: s, before: e.cfg.Stops.Before, release: func() {}}
	for i := range s.Sections {
		sec := &s.Sections[i]
		for j, st := range sec.Statements {
			p.all = append(p.all, placed{st, sec, j == 0})
		}
	}
	return p
}

// play runs the script and returns its last statement with what ended it.
func (p *player) play(outer context.Context) (last *Statement, err error) {
	e := p.e
	p.ctx, p.release = e.watch(outer)
	// again begins anew after a person took over: what had ended the step is over.
	again := func() {
		p.release()
		e.takeFatal()
		p.ctx, p.release = e.watch(outer)
	}
	for _, st := range p.all {
		last = st.Statement
		if st.first && st.section.Title != "" {
			e.emit(record.Event{Kind: record.KindSection, Line: st.section.Line, Text: st.section.Title})
		}
		if why, stand := p.stands(st.Statement); stand {
			if p.move(outer, Stand{Why: why, File: st.File, Line: st.Line, Text: st.Text}) == Quit {
				return last, quit(outer)
			}
			again()
		}
		for done := false; !done; {
			err = e.step(p.ctx, st.Statement)
			if err == nil {
				err = context.Cause(p.ctx) // it came during a step that held
			}
			if err == nil {
				delete(e.leftOut, st.Line)
				break
			}
			move, told := p.failed(outer, st.Statement, err)
			if move == Quit {
				if told != nil && outer.Err() == nil {
					err = &toldError{err, told}
				}
				return last, err
			}
			again()
			if move == Continue {
				e.leftOut[st.Line] = true
				done = true
			}
		}
	}
	if e.cfg.Hold != nil && (e.cfg.Stops.AtEnd || p.stepping) {
		p.move(outer, Stand{Why: WhyEnd, File: p.script.File})
		again()
	}
	return last, context.Cause(p.ctx)
}

// quit is what ends a script that a person has ended, or that was ended while it waited for one.
func quit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errQuit
}

// stands says whether the script stands still before a statement.
func (p *player) stands(st *Statement) (Why, bool) {
	stops := p.e.cfg.Stops
	switch {
	case p.e.cfg.Hold == nil:
	case p.before > 0 && st.Line >= p.before:
		return WhyBefore, true
	case p.stepping:
		return WhyStep, true
	case st.name == "break" && stops.AtBreak:
		return WhyBreak, true
	}
	return "", false
}

// move stands still.
func (p *player) move(ctx context.Context, s Stand) Move {
	if s.Line >= p.before {
		p.before = 0
	}
	move := p.e.hold(ctx, s)
	p.stepping = move == OneStep
	return move
}

// failed decides what becomes of a script whose step did not hold: Quit ends it
// with that. told is the failure at which it stood still, if it did.
func (p *player) failed(outer context.Context, st *Statement, err error) (move Move, told *record.Failure) {
	e := p.e
	var end *End
	held := errors.Is(context.Cause(p.ctx), errHeld)
	if e.cfg.Hold == nil || outer.Err() != nil || errors.As(err, &end) || !held && !e.cfg.Stops.OnFailure {
		return Quit, nil
	}
	s := Stand{Why: WhyInterrupted, File: st.File, Line: st.Line, Text: st.Text, Step: e.steps}
	if !held {
		e.settle(p.ctx, err)
		s.Why, s.Failure = WhyFailed, e.failure(p.ctx, st, e.steps, err)
		if e.cfg.Explain != nil {
			s.Failure = e.cfg.Explain(s.Failure)
		}
	}
	move = p.move(outer, s)
	if move != Quit && !held {
		e.SteppedIn(fmt.Sprintf("%s of line %d, which had failed", move, st.Line))
	}
	return move, s.Failure
}

// A toldError is the error of a step at whose failure the script stood still:
// what a person was told there is what the reports say.
type toldError struct {
	err  error
	told *record.Failure
}

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }
