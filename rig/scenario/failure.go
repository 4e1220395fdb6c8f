package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// tailLines is how many of each node's last lines a failure carries: about a screen
// of each of two nodes.
const tailLines = 20

// A stepError is how a command fails.
type stepError struct {
	reason  record.Reason
	node    string // the node concerned, if it is one
	awaited string // what was waited for
	next    string // what to do next, when there is more to say than for every failure of this class
	late    bool   // it ran into its deadline, so nobody knows how it would have ended
	trouble bool   // it is the rig or a machine that failed, not what was asked of it
	err     error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// failed returns a stepError without more than a class.
func failed(reason record.Reason, format string, args ...any) *stepError {
	return &stepError{reason: reason, err: fmt.Errorf(format, args...)}
}

// onHost returns the error of what the host does for a command, which says nothing of
// a node.
func onHost(format string, args ...any) *stepError {
	se := failed(record.StepFailed, format, args...)
	se.trouble = true
	return se
}

// A jobError is the failure of a background job, at the place where it came out.
type jobError struct {
	job  *backgroundJob
	when string
	err  error
}

func (e *jobError) Error() string { return e.err.Error() + " (background job, " + e.when + ")" }
func (e *jobError) Unwrap() error { return e.err }

// An End is how `skip` and `stop` end a scenario. It is no failure.
type End struct {
	Skip bool   // the scenario does not apply; else it is done
	Why  string // as given; may be empty
}

func (e *End) Error() string {
	word := "stop"
	if e.Skip {
		word = "skip"
	}
	if e.Why == "" {
		return word
	}
	return word + ": " + e.Why
}

// errScriptEnded cancels the background jobs nobody waited for.
var errScriptEnded = errors.New("the script ended")

// interrupted returns the class of what ended a step from outside.
func interrupted(cause error) (reason record.Reason, node string) {
	var ne *NodeError
	if errors.As(cause, &ne) {
		return ne.Reason, ne.Node
	}
	return record.Stopped, ""
}

// failure describes err, which ended the step number n.
func (e *Engine) failure(ctx context.Context, st *Statement, n int, err error) *record.Failure {
	var te *toldError
	if errors.As(err, &te) {
		return te.told
	}
	f := &record.Failure{Reason: record.StepFailed, Step: n, File: st.File, Line: st.Line, Text: st.Text, Message: err.Error()}
	var je *jobError
	if errors.As(err, &je) {
		st = je.job.call.st
		f.Step, f.File, f.Line, f.Text = je.job.call.step, st.File, st.Line, st.Text
	}
	var se *stepError
	if errors.As(err, &se) {
		f.Reason, f.Node, f.Awaited, f.Next = se.reason, se.node, se.awaited, se.next
	}
	if what, ok := record.Exhausted(err); ok && (f.Reason == record.StepFailed || f.Reason == record.Internal) {
		f.Reason, f.Next = record.HostExhausted, ""
		f.Message = "this host ran out of " + what + ": " + f.Message
	}
	if errors.Is(err, errQuit) {
		f.Reason, f.Node, f.Step = record.Stopped, "", 0
		f.Message += ", in front of this line"
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		f.Reason, f.Node = interrupted(cause)
		f.Next = ""
		f.Message = cause.Error()
		if f.Reason == record.Stopped {
			f.Message = "stopped while this step ran: " + cause.Error()
		}
	}
	f.Tail = e.tails()
	return f
}

// settle gives the true cause a moment to show up when a step failed because a
// machine stopped answering: a panic or an exit is noticed elsewhere, a little
// later than the broken connection. A report that has begun is waited for in any case.
func (e *Engine) settle(ctx context.Context, err error) {
	e.awaitReports(ctx)
	const moment = 500 * time.Millisecond
	var se *stepError
	if !errors.As(err, &se) || (se.reason != record.AgentLost && se.reason != record.NodeExited) {
		return
	}
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// tails returns the last lines of each node.
func (e *Engine) tails() map[string][]string {
	tails := map[string][]string{}
	for _, name := range e.cfg.World.Names() {
		log := e.cfg.World.Log(name)
		if log == nil {
			continue
		}
		for _, line := range log.Tail(tailLines) {
			tails[name] = append(tails[name], showLine(line))
		}
	}
	return tails
}

// showLine returns a node's line with when and by whom it was printed.
func showLine(l console.Line) string {
	var b strings.Builder
	if l.Guest > 0 {
		fmt.Fprintf(&b, "%.3f ", l.Guest.Seconds())
	}
	if l.Unit != "" {
		fmt.Fprintf(&b, "[%s] ", l.Unit)
	}
	b.WriteString(l.Text[:min(len(l.Text), record.MaxTailLine)])
	if over := len(l.Text) - record.MaxTailLine; over > 0 {
		fmt.Fprintf(&b, "… and %d bytes more", over)
	}
	return b.String()
}
