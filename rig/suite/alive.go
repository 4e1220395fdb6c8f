package suite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/node"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// An alive is a scenario that runs, as others see it: it is a live.Scenario.
type alive struct {
	ctx    context.Context // ends with the scenario, and the lines that run with it
	job    Job
	began  time.Time
	engine *scenario.Engine
	world  *node.World
	warn   func(text string)

	// turn is held by whoever gives a line to the engine, and by the end of a stand: so no line runs when the script goes on.
	turn  chan struct{}
	moves chan scenario.Move // has room for the one that ends a stand
	busy  chan struct{}      // has room for one: somebody is at the prompt, or was just now

	mu        sync.Mutex
	step      *live.Place
	stand     *live.Place // where the script stands still; nil: it runs
	held      string      // why
	people    int         // who follows what happens
	followers map[*follower]struct{}
	over      chan struct{} // closed when the scenario has ended

	gdbFreezes map[string]bool // by node: whether the others stand still with it
}

// A follower is told of every event.
type follower struct {
	events chan record.Event
	lost   bool // it did not keep up
}

// followerRoom is how many events may wait for a follower: more than a step makes, so that only one that does not read falls behind.
const followerRoom = 8192

func newAlive(ctx context.Context, job Job, began time.Time, warn func(string)) *alive {
	return &alive{
		ctx: ctx, job: job, began: began, warn: warn, turn: make(chan struct{}, 1), moves: make(chan scenario.Move, 1), busy: make(chan struct{}, 1),
		followers: map[*follower]struct{}{}, over: make(chan struct{}),
	}
}

// told takes in an event of the scenario, before anybody else hears of it.
func (a *alive) told(e record.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case e.Kind == record.KindStepStart && !e.Typed:
		a.step = &live.Place{File: a.job.File, Line: e.Line, Text: e.Text}
	case e.Kind == record.KindHeld:
		a.stand = &live.Place{File: e.File, Line: e.Line, Text: e.Text}
		a.held = e.Name
	}
	for f := range a.followers {
		select {
		case f.events <- e:
		default:
			f.lost = true
			close(f.events)
			delete(a.followers, f)
		}
	}
	if e.Kind == record.KindScenarioEnd {
		for f := range a.followers {
			close(f.events)
			delete(a.followers, f)
		}
		close(a.over)
	}
}

// hold is the engine's Hold: it waits until a line decides how the script goes on, or nobody has come for too long.
func (a *alive) hold(ctx context.Context, _ scenario.Stand) scenario.Move {
	move := a.decided(ctx)
	// A line that still runs has to end before the script goes on.
	a.turn <- struct{}{}
	a.goesOn()
	<-a.turn
	return move
}

func (a *alive) decided(ctx context.Context) scenario.Move {
	patience := time.NewTimer(a.job.Patience)
	defer patience.Stop()
	for {
		select {
		case move := <-a.moves:
			return move
		case <-a.busy:
			patience.Reset(a.job.Patience)
		case <-patience.C:
			a.mu.Lock()
			people := a.people
			a.mu.Unlock()
			if people > 0 { // somebody looks on, however long they think
				patience.Reset(a.job.Patience)
				continue
			}
			a.warn(fmt.Sprintf("nobody came to the prompt within %s", a.job.Patience))
			return scenario.Quit
		case <-ctx.Done():
			return scenario.Quit
		}
	}
}

func (a *alive) goesOn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stand = nil
}

func (a *alive) stands() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stand != nil
}

// present notes that somebody is there.
func (a *alive) present() {
	select {
	case a.busy <- struct{}{}:
	default:
	}
}

// Status implements live.Scenario.
func (a *alive) Status() live.Status {
	s := live.Status{Run: a.job.RunDir, Source: a.job.Source, Scenario: a.job.Name, Started: a.began, Nodes: a.world.Status()}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Step = a.step
	if a.stand != nil {
		s.Step, s.Held = a.stand, a.held
	}
	return s
}

// interruptLine is the one line that can be given to a script that runs and ends what it does.
const interruptLine = "interrupt"

// Do implements live.Scenario. While the script stands still its variables, jobs and output are those of the prompt; else the line is a visitor's.
func (a *alive) Do(ctx context.Context, line string, tell func(record.Event)) error {
	a.present()
	defer a.present()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(a.ctx, func() { cancel(context.Cause(a.ctx)) })()
	if line == interruptLine {
		if a.stands() || !a.engine.Interrupt() {
			return errors.New("interrupt: no script runs: it stands still already")
		}
		return nil
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if a.stands() {
		err := a.engine.Do(ctx, line, tell)
		if move := a.engine.TakeMove(); move != "" {
			// The one who waits for it takes it; the turn that is given back is the last before the script goes on.
			a.goesOn()
			a.moves <- move
		}
		<-a.turn
		return plainly(err)
	}
	<-a.turn
	visitor, err := a.engine.Visitor()
	if err != nil {
		return err
	}
	return errors.Join(plainly(visitor.Do(ctx, line, tell)), visitor.Close())
}

// plainly leaves out of a failure what whoever typed the line knows.
func plainly(err error) error {
	var end *scenario.End
	if errors.As(err, &end) {
		return fmt.Errorf("%w: that ends a script from inside; at a prompt `quit` ends it", err)
	}
	var f *record.Failure
	if !errors.As(err, &f) {
		return err
	}
	text := f.Message
	if next := f.Next; next != "" {
		text += "\n" + next
	}
	return errors.New(text)
}

// completeWait bounds the wait for a line that runs: nobody waits longer for a completion.
const completeWait = time.Second

// Complete implements live.Scenario.
func (a *alive) Complete(line string, pos int) (int, []string) {
	a.present()
	soon := time.NewTimer(completeWait)
	defer soon.Stop()
	select {
	case a.turn <- struct{}{}:
		if a.stands() {
			defer func() { <-a.turn }()
			return a.engine.Complete(line, pos)
		}
		<-a.turn
	case <-soon.C: // a line runs, and the engine is its own
	}
	visitor, err := a.engine.Visitor()
	if err != nil {
		return pos, nil
	}
	defer visitor.Close()
	return visitor.Complete(line, pos)
}

// Follow implements live.Scenario.
func (a *alive) Follow(ctx context.Context, tell func(record.Event)) error {
	f := &follower{events: make(chan record.Event, followerRoom)}
	a.mu.Lock()
	a.people++
	a.followers[f] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.people--
		delete(a.followers, f)
		a.mu.Unlock()
		a.present()
	}()
	for {
		select {
		case e, ok := <-f.events:
			if ok {
				tell(e)
				continue
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if f.lost {
				return fmt.Errorf("too slow: %d events wait to be read", followerRoom)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Log implements live.Scenario.
func (a *alive) Log(name string) *console.Log { return a.world.Log(name) }

// Machine implements live.Scenario.
func (a *alive) Machine(name string) (live.Machine, error) { return a.world.Machine(name) }

// SteppedIn implements live.Scenario.
func (a *alive) SteppedIn(what string) { a.engine.SteppedIn(what) }
