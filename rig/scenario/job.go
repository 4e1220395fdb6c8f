package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/rig/record"
)

// A backgroundJob is a statement that runs beside the script, with its own stdout
// and stderr.
type backgroundJob struct {
	call   *call
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when err is set and the job's last event is out
	err    error
}

// startJob runs a call in the background. It outlives ctx, since a later `wait` may
// belong to another line of a prompt; the end of the script or Close ends it.
func (e *Engine) startJob(ctx context.Context, c *call, start time.Time) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	j := &backgroundJob{call: c, cancel: cancel, done: make(chan struct{})}
	e.jobs = append(e.jobs, j)
	go func() {
		defer close(j.done)
		defer cancel(nil)
		var ignored error
		j.err, ignored = e.perform(ctx, c)
		c.teller.end(start, j.err, ignored)
	}()
}

// endJobs cancels all jobs and returns when they have ended. The error is that of
// the first whose end was not what its statement asks for.
func (e *Engine) endJobs() error {
	for _, j := range e.jobs {
		j.cancel(errScriptEnded)
	}
	var first error
	for _, j := range e.jobs {
		<-j.done
		err := j.err
		if errors.Is(err, errScriptEnded) {
			if j.call.st.may {
				continue
			}
			err = &stepError{reason: record.StepFailed, next: "Put a `wait` behind it, or start it with '?' if it may be cut off.",
				err: errors.New("it was still running when the script ended")}
		}
		if err != nil && first == nil {
			first = &jobError{job: j, when: "nobody waited for it", err: err}
		}
	}
	e.jobs = nil
	e.scope.jobs = nil
	return first
}

// wait waits for the jobs with that name, or for all without one. It leaves their
// output, in the order of their start, to c.
func (e *Engine) wait(ctx context.Context, c *call, name string) error {
	var first error
	var others []*backgroundJob
	for i, j := range e.jobs {
		if name != "" && j.call.st.job != name {
			others = append(others, j)
			continue
		}
		select {
		case <-j.done:
		case <-ctx.Done():
			e.jobs = append(others, e.jobs[i:]...)
			if first != nil {
				return first
			}
			return c.explain(ctx, "", fmt.Sprintf("wait for the job of line %d", j.call.st.Line), context.Cause(ctx))
		}
		c.out.nodes = append(c.out.nodes, j.call.out.nodes...)
		c.out.stdout.add(j.call.out.stdout)
		c.out.stderr.add(j.call.out.stderr)
		if j.err != nil && first == nil {
			first = &jobError{job: j, when: fmt.Sprintf("awaited in line %d", c.st.Line), err: j.err}
		}
	}
	e.jobs = others
	return first
}
