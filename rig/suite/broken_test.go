package suite

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/record"
)

func TestWhatTheHostRanOutOfHasItsClass(t *testing.T) {
	for _, c := range []struct {
		reason record.Reason
		err    error
		want   record.Reason
	}{
		{record.Internal, fmt.Errorf("start a worker: %w", syscall.EMFILE), record.HostExhausted},
		{record.Internal, errors.New("make a bridge: refused"), record.Internal},
		{record.WorkerDied, errors.New("record scenario a/b: create event log: no space left on device"), record.HostExhausted},
		{record.WorkerDied, errors.New("the worker died (signal: killed)"), record.WorkerDied},
		{record.Internal, errors.New("a machine said: no space left on device"), record.Internal},
		{record.HostUnsupported, fmt.Errorf("make a user namespace: %w", syscall.ENOSPC), record.HostUnsupported},
	} {
		if got := broken(c.reason, record.Broken, c.err).Failure.Reason; got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
