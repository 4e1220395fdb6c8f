package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

// blocking are statements that would go on for long.
var blocking = []string{
	"exec A hang", "! exec A hang", "? exec A hang", "* exec A false", "marker A never", "! marker A never", "? marker A never",
	"sleep 1h", "tcp B:1 00", "exec A hang &\nwait", "exec A hang &one&\nwait -within 1h one",
}

func TestCancellationEndsAtOnce(t *testing.T) {
	for _, script := range blocking {
		t.Run(script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.tcp = hangTCP
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				go func() {
					time.Sleep(1234 * time.Millisecond)
					cancel(errors.New("SIGINT"))
				}()
				out := b.run(ctx, "up\n"+script+"\nexec A true\n")
				if out.Result != record.Interrupted {
					t.Fatalf("result %s: %v", out.Result, out.Failure)
				}
				checkFailure(t, out.Failure, record.Stopped, 2+strings.Count(script, "\n"), "SIGINT")
				if took := time.Since(start); took != 1234*time.Millisecond {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestCancelledBeforeItStarts(t *testing.T) {
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out := b.run(ctx, "up\n"); out.Result != record.Interrupted || len(b.world.calls) > 0 {
		t.Errorf("%+v, calls %v", out, b.world.calls)
	}
}

func TestFailEndsAtOnce(t *testing.T) {
	for _, script := range blocking {
		t.Run(script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.tcp = hangTCP
				start := time.Now()
				go func() {
					time.Sleep(1234 * time.Millisecond)
					b.world.print("B", "Kernel panic - not syncing")
					b.engine.Fail(&NodeError{Node: "B", Reason: record.KernelPanic, Text: "Kernel panic - not syncing"})
					b.engine.Fail(&NodeError{Node: "B", Reason: record.NodeExited, Err: errors.New("a later one")})
				}()
				f := b.fails("up\n"+script+"\nexec A true\n", record.KernelPanic, 2+strings.Count(script, "\n"),
					"node B: the kernel panicked: Kernel panic - not syncing")
				if took := time.Since(start); took != 1234*time.Millisecond {
					t.Errorf("took %s", took)
				}
				if f.Node != "B" || len(f.Tail["B"]) != 1 {
					t.Errorf("failure %+v", f)
				}
			})
		})
	}
}

func TestFailDuringAStepThatHolds(t *testing.T) {
	for _, script := range []string{"exec A tell", "exec A tell\nstop", "exec A tell\nexec A true"} {
		b := newBench(t, nil)
		b.world.programs["tell"] = func(context.Context, []string, writer, writer) (int, error) {
			b.engine.Fail(&NodeError{Node: "A", Reason: record.MarkerFail, Text: "SELFTEST: x FAIL y"})
			return 0, nil
		}
		out := b.run(t.Context(), "up\n"+script+"\n")
		if out.Failure == nil || out.Failure.Reason != record.MarkerFail {
			t.Errorf("%q: %+v", script, out)
		}
	}
}

func TestFailBeforeItStarts(t *testing.T) {
	b := newBench(t, nil)
	b.engine.Fail(&NodeError{Node: "A", Reason: record.NodeExited})
	b.fails("up\n", record.NodeExited, 1, "node A: a QEMU process ended by itself")
	if len(b.world.calls) > 0 {
		t.Errorf("calls %v", b.world.calls)
	}
}

func TestCauseOfTheContext(t *testing.T) {
	b := newBench(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	b.world.programs["tell"] = func(ctx context.Context, _ []string, _, _ writer) (int, error) {
		cancel(&NodeError{Reason: record.StepFailed, Err: errors.New("the scenario took more than 10m")})
		return 0, ctx.Err()
	}
	out := b.run(ctx, "up\nexec A tell\n")
	if out.Result != record.Failed {
		t.Fatalf("result %s", out.Result)
	}
	checkFailure(t, out.Failure, record.StepFailed, 2, "the scenario took more than 10m")
}

func TestAllow(t *testing.T) {
	b := newBench(t, nil)
	b.world.programs["panic"] = func(_ context.Context, argv []string, _, _ writer) (int, error) {
		b.world.print("A", "panic: "+argv[1])
		b.engine.Fail(&NodeError{Node: "A", Reason: record.GoPanic, Text: "panic: " + argv[1]})
		return 0, nil
	}
	b.passes("allow 'panic: provoked'\nup\nexec A panic provoked\nexec A true\n")
	if got := b.seen(record.KindWarning); len(got) != 1 || got[0].Text != "allowed: panic: provoked" {
		t.Errorf("warnings %+v", got)
	}
	b.fails("allow 'panic: provoked'\nup\nexec A panic real\nexec A true\n", record.GoPanic, 3, "panic: real")
}

// What is allowed has to come: a scenario that provokes a line proves nothing when
// the line is missing.
func TestAllowedButNeverSeen(t *testing.T) {
	b := newBench(t, nil)
	b.world.print("A", "panic: other")
	b.fails("allow 'panic: provoked'\nup\nexec A true\n", record.NeverTouched, 3, `no line that matches "panic: provoked" has come, which is allowed`)
	b = newBench(t, nil)
	b.passes("allow -maybe 'panic: provoked'\nup\nexec A true\n")
}

func TestTheCauseBehindALostAgent(t *testing.T) {
	lost := &NodeError{Node: "A", Reason: record.AgentLost, Err: errors.New("connection lost")}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.programs["die"] = func(context.Context, []string, writer, writer) (int, error) {
			go func() {
				time.Sleep(100 * time.Millisecond)
				b.engine.Fail(&NodeError{Node: "A", Reason: record.NodeExited, Err: errors.New("QEMU was killed")})
			}()
			return 0, lost
		}
		start := time.Now()
		b.fails("up\nexec A die\n", record.NodeExited, 2, "QEMU was killed")
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.programs["die"] = func(context.Context, []string, writer, writer) (int, error) { return 0, lost }
		f := b.fails("up\n! exec A die\n", record.AgentLost, 2, "node A: exec die: node A: connection lost")
		if f.Node != "A" {
			t.Errorf("node %q", f.Node)
		}
	})
}

// A step that fails while a node reports something fails for that, however long the report is.
func TestAStepThatFailsDuringAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.programs["victim"] = func(context.Context, []string, writer, writer) (int, error) {
			done := b.engine.Suspect()
			go func() {
				time.Sleep(1500 * time.Millisecond)
				b.engine.Fail(&NodeError{Node: "A", Reason: record.OutOfMemory, Text: "Out of memory: Killed process 9 (victim)"})
				done()
			}()
			return 137, nil
		}
		b.fails("up\nexec A victim\n", record.OutOfMemory, 2, "Killed process 9")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.programs["victim"] = func(context.Context, []string, writer, writer) (int, error) {
			done := b.engine.Suspect()
			go func() {
				time.Sleep(time.Second)
				b.engine.Fail(&NodeError{Node: "A", Reason: record.OutOfMemory, Text: "Out of memory: Killed process 9 (victim)"})
				done()
			}()
			return 137, nil
		}
		b.fails("allow 'Out of memory'\nup\nexec A victim\n", record.ExecStatus, 3, "exit status 137")
	})
}

// What is told behind the last step is not lost.
func TestFailBehindTheLastStep(t *testing.T) {
	b := newBench(t, nil)
	b.passes("allow -maybe expected\nup\nexec A true\n")
	b.engine.Fail(&NodeError{Node: "A", Reason: record.KernelBug, Text: "BUG: expected"})
	if ne := b.engine.Befell(); ne != nil {
		t.Errorf("allowed, and befell: %v", ne)
	}
	b.engine.Fail(&NodeError{Node: "A", Reason: record.KernelBug, Text: "BUG: late"})
	if ne := b.engine.Befell(); ne == nil || ne.Text != "BUG: late" {
		t.Errorf("got %v", ne)
	}
}

func TestWhatTheHostRanOutOf(t *testing.T) {
	b := newBench(t, nil)
	b.world.up = func(context.Context) error { return fmt.Errorf("open tap: %w", syscall.EMFILE) }
	b.fails("up\n", record.HostExhausted, 1, "this host ran out of open files")
}

func TestUpFails(t *testing.T) {
	b := newBench(t, nil)
	b.world.up = func(context.Context) error {
		return &NodeError{Node: "B", Reason: record.HostUnsupported, Err: errors.New("no QEMU")}
	}
	f := b.fails("up\n", record.HostUnsupported, 1, "bring nodes up: node B: no QEMU")
	if f.Node != "B" {
		t.Errorf("node %q", f.Node)
	}
}

type writer = io.Writer

func hangTCP(ctx context.Context, _ netip.AddrPort, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
