package agent

import (
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/nodes/agentapi"

	"golang.org/x/sys/unix"
)

// stepClock steps the wall clock. The kernel adds the step itself, so that no time is
// lost between reading the clock and setting it.
func stepClock(step agentapi.Step) (agentapi.Stepped, error) {
	var s agentapi.Stepped
	s.Before = time.Now().Round(0).UTC()
	_, err := unix.Adjtimex(offset(step.By))
	if errors.Is(err, unix.EINVAL) {
		return s, fmt.Errorf("step the wall clock by %s from %s: out of range: a kernel's clock shows no time before the machine's boot counted from 1970, nor after 2232",
			step.By, s.Before.Format(time.RFC3339))
	}
	if err != nil {
		return s, fmt.Errorf("step the wall clock by %s: %w", step.By, err)
	}
	s.After = time.Now().Round(0).UTC()
	return s, nil
}

// offset is a step as adjtimex(2) takes it: its nanoseconds are never negative.
func offset(by time.Duration) *unix.Timex {
	sec, nsec := int64(by/time.Second), int64(by%time.Second)
	if nsec < 0 {
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	return &unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: sec, Usec: nsec}}
}
