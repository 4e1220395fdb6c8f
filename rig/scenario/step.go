package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// How soon a statement with '*' is tried again: after the first failure soon, then
// twice as long each time. A new line of a node concerned cuts the pause short,
// though never below its floor, so that a talkative node does not cause a rush.
const (
	retryFloor   = 50 * time.Millisecond
	retryCeiling = time.Second
)

// step runs one statement, from its first event to its last; a background job is
// only started. The error is what ends the script.
func (e *Engine) step(ctx context.Context, st *Statement) error {
	e.steps = int(e.numbers.Add(1))
	n := e.steps
	start := time.Now()
	t := &teller{to: e.emit, step: n, typed: !e.running}
	t.emit(record.Event{Kind: record.KindStepStart, Line: st.Line, Text: st.Text})
	if ctx.Err() != nil {
		err := context.Cause(ctx)
		t.end(start, err, nil)
		return err
	}
	if tag, met := e.met(st); !met {
		t.note("condition [%s] is not met", tag)
		t.end(start, nil, nil)
		return nil
	}
	c, err := e.prepare(st, n, t)
	if err != nil {
		t.end(start, err, nil)
		return err
	}
	k := &checker{commands: e.commands, scope: e.scope, report: func(Problem) {}}
	k.statement(st)
	e.proved = e.proved || st.proves(c.command)
	if c.command.acts && e.running {
		e.acts(st, start)
	}
	if st.background {
		e.startJob(ctx, c, start)
		return nil
	}
	err, ignored := e.perform(ctx, c)
	if c.command.output {
		e.last, e.printed = c.out, true
	}
	t.end(start, err, ignored)
	return err
}

// met evaluates the conditions of a statement; tag is the first that is not met.
func (e *Engine) met(st *Statement) (tag string, met bool) {
	for _, g := range st.conditions {
		cond, suffix, f := findCondition(g.tag)
		if f == nil && cond.holds(e.cfg.Host, suffix) == g.want {
			continue
		}
		if !g.want {
			return "!" + g.tag, false
		}
		return g.tag, false
	}
	return "", true
}

// perform runs a call as its prefixes say. err ends the script; ignored is an error
// that the prefixes ask for or allow.
func (e *Engine) perform(ctx context.Context, c *call) (err, ignored error) {
	stepCtx := ctx
	if c.limit != nil {
		var cancel context.CancelFunc
		stepCtx, cancel = c.clock().withTimeout(ctx, c.limit.scaled(), &deadlineError{limit: *c.limit})
		defer cancel()
	}
	var real error // of the last attempt that ended by itself
	for attempt := 1; ; attempt++ {
		c.out = output{}
		result := c.command.run(stepCtx, c)
		if ctx.Err() != nil && result != nil {
			return context.Cause(ctx), nil
		}
		var end *End
		if errors.As(result, &end) {
			return result, nil
		}
		err, ignored = c.judge(result)
		if err == nil || !c.st.retry {
			break
		}
		var se *stepError
		if stepCtx.Err() == nil || !errors.As(err, &se) || !se.late {
			if real == nil || real.Error() != err.Error() {
				c.teller.note("attempt %d: %v", attempt, err)
			}
			real = err
		}
		if stepCtx.Err() == nil {
			e.pause(stepCtx, c, attempt)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx), nil
		}
		if stepCtx.Err() != nil {
			err = c.exhausted(attempt, real, err)
			break
		}
	}
	if c.st.may && err != nil && !neverRan(err) {
		return nil, err
	}
	if err != nil && stepCtx.Err() != nil && e.cfg.Late != nil {
		e.cfg.Late(ctx)
	}
	return err, ignored
}

// judge turns the result of a run into what it means behind the statement's '!'.
func (c *call) judge(result error) (err, ignored error) {
	if !c.st.not || c.command.inverts {
		return result, nil
	}
	if result == nil {
		unexpected := failed(c.unexpected(), "`%s` succeeded, and '!' says that it must fail", c.st.Text)
		if len(c.nodes) == 1 {
			unexpected.node = c.nodes[0]
		}
		return unexpected, nil
	}
	var se *stepError
	switch { // only what was asked of a node has failed, not what the host does for it, nor a node that could not be asked
	case !errors.As(result, &se), se.trouble, se.reason == record.Invalid:
		return result, nil
	case se.late:
		late := *se
		late.err = fmt.Errorf("%w: '!' needs it to fail by itself", se.err)
		return &late, nil
	}
	return nil, result
}

// unexpected is the class of a success behind '!'.
func (c *call) unexpected() record.Reason {
	if c.command.deadline == execDeadline {
		return record.ExecStatus
	}
	return record.StepFailed
}

// neverRan reports whether a command failed because its program could not be
// started. That is a mistake in the line, or in one before, which no prefix means:
// not even '?', behind which it would never be seen.
func neverRan(err error) bool {
	var se *stepError
	return errors.As(err, &se) && se.reason == record.NotStarted
}

// exhausted is the error of a retried statement that ran out of time: its last real
// error if there was one, and else that of the only attempt.
func (c *call) exhausted(attempts int, real, err error) error {
	if real == nil {
		return err
	}
	times := "1 attempt"
	if attempts > 1 {
		times = fmt.Sprintf("%d attempts", attempts)
	}
	text := fmt.Errorf("not within %s, in %s: %w", c.limit, times, real)
	var se *stepError
	if !errors.As(real, &se) {
		return text
	}
	all := *se
	all.err = text
	return &all
}

// pause waits before the next attempt.
func (e *Engine) pause(ctx context.Context, c *call, attempt int) {
	delay := retryCeiling
	if attempt < 10 {
		delay = min(retryFloor<<(attempt-1), retryCeiling)
	}
	seen := map[string]int{}
	for _, name := range c.nodes {
		if log := e.cfg.World.Log(name); log != nil {
			seen[name] = log.Len()
		}
	}
	if !sleep(ctx, retryFloor) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, delay-retryFloor)
	defer cancel()
	e.newLine(ctx, seen)
}

// newLine waits until one of the nodes has printed a line that it had not when its
// log had as many lines as are given.
func (e *Engine) newLine(ctx context.Context, seen map[string]int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan bool, len(seen))
	for name, from := range seen {
		log := e.cfg.World.Log(name)
		go func() {
			_, err := log.Wait(ctx, from, anyLine)
			ended <- err == nil
		}()
	}
	for range seen {
		if <-ended {
			cancel()
		}
	}
	<-ctx.Done()
}

func anyLine(console.Line) bool { return true }

// sleep returns true after d, and false at once when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
