package scenario

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

// withSlow adds a program that takes a while, says so, and ends with a status:
// slow DURATION TEXT STATUS.
func withSlow(b *bench) {
	b.world.programs["slow"] = func(ctx context.Context, argv []string, stdout, stderr io.Writer) (int, error) {
		d, _ := time.ParseDuration(argv[1])
		if !sleep(ctx, d) {
			return 0, ctx.Err()
		}
		fmt.Fprintln(stdout, argv[2])
		fmt.Fprintln(stderr, "about", argv[2])
		return len(argv) - 3, nil
	}
}

func TestJobs(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		takes        time.Duration
		line         int // of the failure; 0: passes
		text         string
	}{
		{"side by side", "exec A slow 3s one &\nexec B slow 2s two &\nwait", 3 * time.Second, 0, ""},
		{"output in the order of the start", "exec A slow 3s one &\nexec B slow 2s two &\nwait\nstdout -whole '^one\\ntwo\\n$'\nstderr -whole 'about one\\nabout two'", 3 * time.Second, 0, ""},
		{"one by name", "exec A slow 3s one &a&\nexec B slow 2s two &b&\nwait b\nstdout two\n! stdout one\nwait\nstdout one", 3 * time.Second, 0, ""},
		{"own output", "exec A slow 1s one &\nexec A echo front\nsleep 2s\nstdout front\nwait\nstdout one\n! stdout front", 2 * time.Second, 0, ""},
		{"a job fails at wait", "exec A slow 1s one x &\nexec A true\nwait", time.Second, 2, "exit status 1: about one, after 1s (background job, awaited in line 4)"},
		{"a job must fail", "! exec A slow 1s one x &\nwait", time.Second, 0, ""},
		{"a job may fail", "? exec A slow 1s one x &\nwait", time.Second, 0, ""},
		{"a job is retried", "* exec -within 10s A slow 1s one x &\nwait", 10 * time.Second, 2, "in 7 attempts"},
		{"a marker as job", "! marker -within 3s A never &\nexec A true\nwait", 3 * time.Second, 0, ""},
		{"deadline of a job", "exec -within 2s A hang &\nwait", 2 * time.Second, 2, "not within 2s"},
		{"deadline of wait", "exec A hang &\nwait -within 2s", 2 * time.Second, 3, "wait for the job of line 2: not within 2s"},
		{"nobody waits", "exec A hang &\nexec A true", 0, 2, "it was still running when the script ended (background job, nobody waited for it)"},
		{"nobody waits but it may be cut off", "? exec A hang &\nexec A true", 0, 0, ""},
		{"nobody waits for one that must fail", "! exec A hang &\nexec A true", 0, 2, "still running when the script ended"},
		{"nobody waits for one that ended well", "exec A slow 1s one &\nsleep 2s", 2 * time.Second, 0, ""},
		{"nobody waits for one that failed", "exec A slow 1s one x &\nsleep 2s", 2 * time.Second, 2, "exit status 1"},
		{"stop counts jobs too", "exec A hang &\nstop", 0, 2, "still running"},
		{"the first failure is the one", "exec A slow 1s one x &\nexec A false", 0, 3, "exit status 1"},
		{"a job behind an unmet condition", "[kvm] exec A hang &one&\nwait one", 0, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				withSlow(b)
				start := time.Now()
				out := b.run(t.Context(), "up\n"+tt.script+"\n")
				if took := time.Since(start); took != tt.takes {
					t.Errorf("took %s, want %s", took, tt.takes)
				}
				if tt.line == 0 {
					if out.Result != record.Passed {
						t.Fatalf("result %s: %v", out.Result, out.Failure)
					}
				} else if out.Failure == nil {
					t.Fatalf("result %s", out.Result)
				} else if !strings.Contains(out.Failure.Message, tt.text) || out.Failure.Line != tt.line {
					t.Fatalf("line %d: %s\nwant line %d: %s", out.Failure.Line, out.Failure.Message, tt.line, tt.text)
				}
				if starts, ends := len(b.seen(record.KindStepStart)), len(b.seen(record.KindStepEnd)); starts != ends {
					t.Errorf("%d steps began, %d ended", starts, ends)
				}
			})
		})
	}
}

func TestSkipDoesNotCountJobs(t *testing.T) {
	b := newBench(t, nil)
	if out := b.run(t.Context(), "up\nexec A hang &\nskip\n"); out.Result != record.Skipped || out.Failure != nil {
		t.Errorf("%+v", out)
	}
}
