package scenario

import (
	"fmt"
	"math"
	"time"

	"dsoftbus-rig/rig/record"
)

// Deadlines are the defaults of a run, before they are scaled. A zero means the
// value that is named.
type Deadlines struct {
	Wait time.Duration // for a line, a file, a service: 10s
	Exec time.Duration // for a program: 30s
	Boot time.Duration // for machines to be ready: 30s
}

func (d Deadlines) of(class deadlineClass) time.Duration {
	or := func(given, standard time.Duration) time.Duration {
		if given > 0 {
			return given
		}
		return standard
	}
	switch class {
	case waitDeadline:
		return or(d.Wait, 10*time.Second)
	case execDeadline:
		return or(d.Exec, 30*time.Second)
	case bootDeadline:
		return or(d.Boot, 30*time.Second)
	}
	return 0
}

// A limit has room for what nodes do, which takes longer on a slow host, and for
// what they wait for: their timers, which run in real time on every host. So only
// its work is scaled by the slowdown, and the rest is as it is written.
const (
	// mostWork is how much work there is in what a scenario waits for, at most.
	// On a host without slowdown no step of the suite takes as long.
	mostWork = 5 * time.Second
	// absentWork is how much work there is before a line that must not come would
	// come: nodes print a line within that after what it is about. A wait for what
	// does not happen lasts to its end each time, so it gets no more.
	absentWork = 250 * time.Millisecond
)

// A limit is a duration as it is written in a scenario, how much of it can be work,
// and how much slower this host's machines are than those it was written for.
type limit struct {
	written  time.Duration
	work     time.Duration
	slowdown float64
}

// scaled returns how long the limit is here.
func (l limit) scaled() time.Duration {
	d := float64(l.written) + float64(min(l.written, l.work))*(l.slowdown-1)
	if d >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(d)
}

func (l limit) String() string {
	if l.slowdown == 1 {
		return l.written.String()
	}
	return fmt.Sprintf("%s (%s, at slowdown %.3g)", l.scaled().Round(time.Millisecond), l.written, l.slowdown)
}

// A deadlineError is the cause of a context that ran into a step's deadline.
type deadlineError struct {
	limit limit
}

func (e *deadlineError) Error() string { return "not within " + e.limit.String() }

// timeoutReason returns the class of a failure to be in time.
func (class deadlineClass) timeoutReason() record.Reason {
	switch class {
	case execDeadline:
		return record.ExecTimeout
	case bootDeadline:
		return record.BootTimeout
	}
	return record.StepFailed
}
