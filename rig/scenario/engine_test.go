package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.programs["slow"] = func(_ context.Context, _ []string, stdout, stderr io.Writer) (int, error) {
			io.WriteString(stdout, "first\nsec")
			time.Sleep(2 * time.Second)
			io.WriteString(stdout, "ond\nrest")
			io.WriteString(stderr, "oops\n")
			return 1, nil
		}
		b.passes("# Up and down.\nup\n[kvm] exec A true\n\n# Slowly.\n? exec A slow\n")
		var got strings.Builder
		for _, e := range b.events {
			fmt.Fprintf(&got, "%s", e.Kind)
			for _, s := range []string{e.Stream, e.Node, e.Text, e.Error} {
				if s != "" {
					fmt.Fprintf(&got, " %q", s)
				}
			}
			fmt.Fprintf(&got, " step=%d line=%d seconds=%g ignored=%v\n", e.Step, e.Line, e.Seconds, e.Ignored)
		}
		golden(t, "testdata/events.want", got.String())
	})
}

func TestOutputComesWhileTheProgramRuns(t *testing.T) {
	b := newBench(t, nil)
	told := make(chan string, 10)
	emit := b.engine.cfg.Emit
	b.engine.cfg.Emit = func(e record.Event) {
		if e.Kind == record.KindOutput {
			told <- e.Text
		}
		emit(e)
	}
	b.world.programs["chat"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		fmt.Fprintln(stdout, "hello")
		if got := <-told; got != "hello\n" {
			t.Errorf("told %q", got)
		}
		return 0, nil
	}
	b.passes("up\nexec A chat\n")
}

func TestExec(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		reason       record.Reason // empty: passes
		text         string
	}{
		{"status 0", "exec A true", "", ""},
		{"output", "exec A echo a b\nstdout '^a b$'\n! stderr .", "", ""},
		{"on all nodes", "exec * echo x\nstdout -count 2 '^x$'", "", ""},
		{"status", "exec A false", record.ExecStatus, "node A: exec false: exit status 1"},
		{"last line of stderr", "exec A complain 'no room'", record.ExecStatus, "exit status 3: no room"},
		{"must fail and does", "! exec A complain x\nstderr x", "", ""},
		{"must fail and does not", "! exec A true", record.ExecStatus, "`! exec A true` succeeded, and '!' says that it must fail"},
		{"may fail", "? exec A false\n? exec A true", "", ""},
		{"missing program", "exec A nothing", record.NotStarted, "node A: exec nothing: nothing: no such program"},
		{"missing program is no failure of the program", "! exec A nothing", record.NotStarted, "no such program"},
		{"missing program is not what may fail", "? exec A nothing", record.NotStarted, "no such program"},
		{"missing program does not come", "* exec -within 1s A nothing", record.NotStarted, "not within 1s, in 5 attempts: node A: exec nothing: nothing: no such program"},
		{"missing program does not come and fail", "! * exec -within 1s A nothing", record.NotStarted, "no such program"},
		{"missing program, whatever is tried", "? * exec -within 1s A nothing", record.NotStarted, "no such program"},
		{"wrong usage is no failure of the program", "! exec A misuse", record.ExecStatus, "exit status 2, after 0s: '!' needs it to run and fail"},
		{"wrong usage may be", "? exec A misuse", "", ""},
		{"a status of its own", "exec -status 3 A complain x\nstderr x", "", ""},
		{"the status of wrong usage", "exec -status 2 A misuse", "", ""},
		{"another status", "exec -status 4 A complain x", record.ExecStatus, "exit status 3: x"},
		{"success in place of a status", "exec -status 4 A true", record.ExecStatus, "exit status 0"},
		{"a status that a missing program has not", "exec -status 127 A nothing", record.NotStarted, "no such program"},
		{"in time", "exec -within 5s A hang", record.ExecTimeout, "node A: exec hang: not within 5s"},
		{"too late to fail", "! exec -within 5s A hang", record.ExecTimeout, "'!' needs it to fail by itself"},
		{"too late but may fail", "? exec -within 5s A hang\nstdout hanging", "", ""},
		{"two nodes", "exec * complain x", record.ExecStatus, "node B: exec complain: exit status 3"},
		{"unset variable", "[kvm] env X=1\nexec A echo $X", record.Invalid, "variable $X is not set"},
		{"bad value of a variable", "env D=soon\nexec -within $D A true", record.Invalid, `bad duration "soon"`},
		{"end of flags", "exec -- A echo x\nstdout x", "", ""},
		{"flags of the program", "exec A echo -within '-x' $A_ID $B_IP\nstdout '^-within -x node-a 10[.]42[.]0[.]11$'", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				if tt.reason == "" {
					b.passes("up\n" + tt.script + "\n")
					return
				}
				f := b.fails("up\n"+tt.script+"\n", tt.reason, 2+strings.Count(tt.script, "\n"), tt.text)
				if want := tt.script[strings.LastIndexByte(tt.script, '\n')+1:]; f.Text != want || f.File != "test.txtar" {
					t.Errorf("failure names %s: %s, want %s", f.File, f.Text, want)
				}
			})
		})
	}
}

func TestDeadlinesAreScaled(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		slowdown     float64
		takes        time.Duration
	}{
		{"explicit", "exec -within 4s A hang", 2.5, 10 * time.Second},
		{"a long one is scaled for its work", "exec -within 90s A hang", 3, 100 * time.Second},
		{"default for programs", "exec A hang", 2, 35 * time.Second},
		{"default for waits", "marker A never", 3, 20 * time.Second},
		{"default for waits, on the slowest host", "marker A never", 10, 55 * time.Second},
		{"what must not come needs little work", "! marker -within 2s A never\nexec A false", 10, 4250 * time.Millisecond},
		{"what must not come for long", "! marker A never\nexec A false", 10, 12250 * time.Millisecond},
		{"what must not come at once", "! marker -within 100ms A never\nexec A false", 5, 500 * time.Millisecond},
		{"no slowdown", "marker A never", 0, 10 * time.Second},
		{"never shorter", "marker A never", 0.1, 10 * time.Second},
		{"sleep is exact", "sleep 7s\nexec A false", 3, 7 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(c *Config) { c.Slowdown = tt.slowdown })
				start := time.Now()
				out := b.run(t.Context(), "up\n"+tt.script+"\n")
				if out.Result != record.Failed {
					t.Fatalf("result %s", out.Result)
				}
				if took := time.Since(start); took != tt.takes {
					t.Errorf("took %s, want %s: %s", took, tt.takes, out.Failure.Message)
				}
			})
		})
	}
	for _, tt := range []struct {
		statement string
		reason    record.Reason
	}{{"exec A hang", record.ExecTimeout}, {"marker A never", record.MarkerTimeout}, {"up", record.BootTimeout}, {"tcp B:1 00", record.StepFailed}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(c *Config) {
				c.Slowdown = 2
				c.Deadlines = Deadlines{Wait: time.Second, Exec: time.Second, Boot: time.Second}
			})
			b.world.tcp = hangTCP
			first := "up"
			if tt.statement == "up" {
				first = "echo"
				b.world.up = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			}
			start := time.Now()
			b.fails(first+"\n"+tt.statement+"\n", tt.reason, 2, "not within 2s (1s, at slowdown 2)")
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("%s took %s", tt.statement, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Slowdown = 2.5 })
		b.fails("up\nexec -within 4s A hang\n", record.ExecTimeout, 2, "not within 10s (4s, at slowdown 2.5)")
	})
}

func TestRetry(t *testing.T) {
	t.Run("keeps its last real error", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			attempts := 0
			b.world.programs["flaky"] = func(ctx context.Context, _ []string, _, stderr io.Writer) (int, error) {
				if attempts++; attempts == 4 {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				fmt.Fprintf(stderr, "not yet: %d\n", min(attempts, 2))
				return 1, nil
			}
			start := time.Now()
			f := b.fails("up\n* exec -within 9s A flaky\n", record.ExecStatus, 2, "not within 9s, in 4 attempts: ")
			if !strings.Contains(f.Message, "exit status 1: not yet: 2") {
				t.Errorf("last real error: %s", f.Message)
			}
			if took := time.Since(start); took != 9*time.Second {
				t.Errorf("took %s", took)
			}
			if notes := b.output("note"); strings.Count(notes, "attempt") != 2 {
				t.Errorf("each new error is told once: %s", notes)
			}
		})
	})
	t.Run("an error after the deadline is real too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			b.world.programs["stubborn"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
				time.Sleep(3 * time.Second)
				return 1, nil
			}
			b.fails("up\n* exec -within 2s A stubborn\n", record.ExecStatus, 2, "not within 2s, in 1 attempt: node A: exec stubborn: exit status 1")
		})
	})
	t.Run("until it succeeds, sooner at first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			attempts := 0
			b.world.programs["flaky"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
				attempts++
				fmt.Fprintln(stdout, attempts)
				if attempts == 8 {
					return 0, nil
				}
				return 1, nil
			}
			start := time.Now()
			b.passes("up\n* exec A flaky\nstdout '^8$'\n! stdout 7\n")
			// 50, 100, 200, 400, 800 ms, then every second.
			if took := time.Since(start); took != 3550*time.Millisecond {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("a line of the node cuts the pause short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			attempts := 0
			b.world.programs["flaky"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
				if attempts++; attempts == 6 {
					go func() {
						time.Sleep(300 * time.Millisecond)
						b.world.print("B", "not concerned")
						time.Sleep(100 * time.Millisecond)
						b.world.print("A", "ready")
					}()
				}
				return max(0, 7-attempts), nil
			}
			start := time.Now()
			b.passes("up\n* exec A flaky\n")
			if took := time.Since(start); took != 1550*time.Millisecond+400*time.Millisecond {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("a talkative node causes no rush", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			attempts := 0
			b.world.programs["flaky"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
				attempts++
				return 1, nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan bool)
			go func() {
				defer close(done)
				for sleep(ctx, time.Millisecond) {
					b.world.print("A", "chatter")
				}
			}()
			b.fails("up\n* exec -within 10s A flaky\n", record.ExecStatus, 2, "exit status 1")
			cancel()
			<-done
			if attempts > 201 {
				t.Errorf("%d attempts in 10 s", attempts)
			}
		})
	})
	t.Run("until it fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			attempts := 0
			b.world.programs["flaky"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
				attempts++
				return attempts / 3, nil
			}
			b.passes("up\n* ! exec A flaky\n")
			if attempts != 3 {
				t.Errorf("%d attempts", attempts)
			}
		})
	})
	t.Run("and may fail in the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			start := time.Now()
			b.passes("up\n? * exec -within 5s A false\n")
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	})
}

func TestConditions(t *testing.T) {
	b := newBench(t, nil)
	b.passes(`up
[kvm] echo kvm
[tcg] echo tcg
[!tcg] echo not-tcg
[!kvm] [arch:amd64] echo both
[tcg] [root] echo root
`)
	if got := b.output("stdout"); got != "tcg\nboth\n" {
		t.Errorf("ran %q", got)
	}
	if got := b.output("note"); !strings.Contains(got, "condition [kvm] is not met") || !strings.Contains(got, "condition [!tcg] is not met") {
		t.Errorf("notes %q", got)
	}
}

func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		script, why string
		result      record.Result
	}{
		{"echo", "", record.Passed},
		{"[tcg] stop\nexec A false", "", record.Passed},
		{"stop 'that is all'", "that is all", record.Passed},
		{"skip", "", record.Skipped},
		{"skip 'needs kvm'\nexec A false", "needs kvm", record.Skipped},
		{"[kvm] skip 'not now'", "", record.Passed},
	} {
		b := newBench(t, nil)
		out := b.run(t.Context(), "up\n"+tt.script+"\n")
		if out.Result != tt.result || out.Why != tt.why || out.Failure != nil {
			t.Errorf("%q: %+v", tt.script, out)
		}
		for _, e := range b.seen(record.KindStepEnd) {
			if e.Error != "" {
				t.Errorf("%q: a step ended with %s", tt.script, e.Error)
			}
		}
	}
}

func TestInvalidScriptRunsNothing(t *testing.T) {
	b := newBench(t, nil)
	f := b.fails("up\nexec C true\nfly\n-- x --\n", record.Invalid, 2, `exec: unknown node "C"`)
	if !strings.Contains(f.Message, `test.txtar:3: unknown command "fly"`) {
		t.Errorf("not all problems: %s", f.Message)
	}
	if len(b.events) > 0 || len(b.world.calls) > 0 {
		t.Errorf("something ran: %v %v", b.events, b.world.calls)
	}
	if _, err := os.Stat(filepath.Join(b.engine.cfg.Work, "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("fixtures were placed: %v", err)
	}
}

func TestScriptThatCouldNotBeReadDoesNotRun(t *testing.T) {
	b := newBench(t, nil)
	s, _ := Parse("test.txtar", []byte("up\nexec A 'x\n"))
	if out := b.engine.Run(t.Context(), s); out.Failure == nil || out.Failure.Reason != record.Invalid || len(b.world.calls) > 0 {
		t.Errorf("%+v, calls %v", out, b.world.calls)
	}
}

func TestNewNeedsAFolder(t *testing.T) {
	if _, err := New(Config{Work: filepath.Join(t.TempDir(), "missing")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFixturesArePlaced(t *testing.T) {
	b := newBench(t, nil)
	b.passes("up\ncat a/b/c\n-- B/packages/x --\non B\n-- a/b/c --\ndeep\n")
	for name, want := range map[string]string{"B/packages/x": "on B\n", "a/b/c": "deep\n"} {
		if got, err := os.ReadFile(filepath.Join(b.engine.cfg.Work, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.engine.cfg.Work, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.fails("up\ncat taken\n-- taken --\nx\n", record.Internal, 0, "place fixture taken")
}

func TestHugeOutput(t *testing.T) {
	b := newBench(t, nil)
	const size = 40 << 20
	b.world.programs["flood"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		block := []byte(strings.Repeat("x", 1<<20)) // no line end anywhere
		for range size >> 20 {
			if n, err := stdout.Write(block); n != len(block) || err != nil {
				return 0, fmt.Errorf("write: %d, %w", n, err)
			}
		}
		return 0, nil
	}
	b.world.programs["drip"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		for range 100_000 {
			if _, err := io.WriteString(stdout, "y\n"); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	f := b.fails("up\nexec A flood\nstdout x\n", record.StepFailed, 3, "stdout is incomplete: it has more than 16 MiB")
	if !strings.Contains(f.Next, "pull") {
		t.Errorf("next step %q", f.Next)
	}
	if got := len(b.engine.last.stdout.data); got != maxKept {
		t.Errorf("%d bytes kept", got)
	}
	told := b.seen(record.KindOutput)
	if n := len(b.output("stdout")); n > maxTold {
		t.Errorf("%d bytes of events", n)
	}
	for _, e := range told {
		if len(e.Text) > chunk {
			t.Errorf("an event of %d bytes", len(e.Text))
		}
	}
	if last := told[len(told)-1]; last.Stream != "note" || !strings.Contains(last.Text, "not recorded") {
		t.Errorf("last event %+v", last)
	}

	b.events = nil
	b.passes("up\nexec A drip\nstdout -count 100000 y\n")
	if n := len(b.seen(record.KindOutput)); n > maxEvents+2 {
		t.Errorf("%d events", n)
	}
}

func TestOutputAfterTheEndIsDropped(t *testing.T) {
	b := newBench(t, nil)
	var late io.Writer
	b.world.programs["leave"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		late = stdout
		return 0, nil
	}
	b.passes("up\nexec A leave\n")
	if n, err := late.Write([]byte("late\n")); n != 5 || err != nil {
		t.Errorf("write after the end: %d, %v", n, err)
	}
	if got := b.output("stdout"); got != "" {
		t.Errorf("told %q", got)
	}
}

func TestRunesAreNotCut(t *testing.T) {
	b := newBench(t, nil)
	b.world.programs["wide"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		_, err := io.WriteString(stdout, strings.Repeat("ж€😀", 20_000))
		return 0, err
	}
	b.passes("up\nexec A wide\n")
	for _, e := range b.seen(record.KindOutput) {
		if strings.ToValidUTF8(e.Text, "") != e.Text {
			t.Fatalf("an event of %d bytes ends in a part of a character", len(e.Text))
		}
	}
	if b.output("stdout") != strings.Repeat("ж€😀", 20_000) {
		t.Error("text changed on its way")
	}
}

func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		takes    string
		slowdown float64
		over     bool
	}{{"3s", 1, false}, {"4s", 1, true}, {"4s", 2, false}, {"7s", 2, true}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Slowdown = tt.slowdown })
			out := b.run(t.Context(), "budget load 3s\nsleep "+tt.takes+"\nbudget -end load\n")
			if tt.over != (out.Failure != nil && out.Failure.Reason == record.OverBudget && out.Failure.Line == 3) {
				t.Errorf("%s with slowdown %g: %+v", tt.takes, tt.slowdown, out)
			}
			events := b.seen(record.KindBudget)
			want, _ := time.ParseDuration(tt.takes)
			if len(events) != 1 || events[0].Name != "load" || events[0].Seconds != want.Seconds() || events[0].Limit != 3*tt.slowdown {
				t.Errorf("figure %+v", events)
			}
		})
	}
}

// A budget whose end the script does not come to ends with the script.
func TestBudgetThatIsLeftOpen(t *testing.T) {
	for _, end := range []string{"[kvm] budget -end load", "[tcg] stop\nbudget -end load"} {
		for takes, result := range map[string]record.Result{"2s": record.Passed, "4s": record.Failed} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				out := b.run(t.Context(), "up\nbudget load 3s\nsleep "+takes+"\n"+end+"\n")
				if out.Result != result || (out.Failure != nil && out.Failure.Reason != record.OverBudget) {
					t.Errorf("%s, %q: %+v, %v", takes, end, out, out.Failure)
				}
				if events := b.seen(record.KindBudget); len(events) != 1 {
					t.Errorf("%s, %q: figures %+v", takes, end, events)
				}
			})
		}
	}
}

// A script of which no line that can fail has run has not passed.
func TestNothingWasProved(t *testing.T) {
	for _, tt := range []struct {
		script string
		result record.Result
	}{
		{"[kvm] up\n[kvm] exec A true\n", record.Skipped},
		{"[tcg] stop 'not here'\nup\n", record.Skipped},
		{"sleep 1ms\n[kvm] up\n", record.Skipped},
		{"[tcg] up\n[kvm] exec A true\n", record.Passed},
		{"up\n? exec A true &\nwait\n", record.Passed},
	} {
		b := newBench(t, nil)
		out := b.run(t.Context(), tt.script)
		if out.Result != tt.result || out.Failure != nil {
			t.Errorf("%q: %+v", tt.script, out)
		}
	}
}

// What the host does for a line, and a node that is not there, is not what '!' asks
// to fail.
func TestWhatIsNoFailureOfANode(t *testing.T) {
	echo := func(_ context.Context, _ netip.AddrPort, send []byte) ([]byte, error) { return send, nil }
	for _, tt := range []struct{ script, text string }{
		{"[kvm] up\n! exec A false", "node A is not up"},
		{"[kvm] up\n! start A dsoftbusd", "node A is not up"},
		{"[kvm] up\n! pull A /x f", "node A is not up"},
		{"[kvm] up\n! marker A x", "node A is not up"},
		{"[kvm] up\n! marker -from start A x", "node A is not up"},
		{"[kvm] up\n! exec * false", "node A is not up"},
		{"up\n[kvm] cp note new\n! push A new /new", "there is no file new"},
		{"up\n[kvm] cp note new\n! grep y new", "open new: no such file or directory"},
		{"up\n[kvm] cp note new\n! cmp note new", "open new: no such file or directory"},
		{"up\n! pull A /missing note/x", "pull: make folder note: file exists"},
		{"up\n! pull A /missing folder", "pull: folder is a folder"},
		{"up\nenv X=nothing\n! tcp A:1 $X", `"nothing" is neither hex nor a file`},
		{"up\nenv X=folder\n! tcp A:1 $X", `"folder" is neither hex nor a file`},
		{"up\n[kvm] exec A echo x\n! stdout y", "stdout is not there: what would leave it is behind a condition that is not met"},
		{"up\n[kvm] exec A echo x\n! cmp stderr note", "stderr is not there"},
		{"up\nenv X=\n! stdout $X", "empty regexp"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			b.world.tcp = echo
			out := b.run(t.Context(), tt.script+"\ncat note folder/note\n-- note --\nx\n-- folder/note --\ny\n")
			last := 1 + strings.Count(tt.script, "\n")
			if out.Result.Green() || out.Failure.Line != last || !strings.Contains(out.Failure.Message, tt.text) {
				t.Errorf("%q: %+v, %v; want %q in line %d", tt.script, out, out.Failure, tt.text, last)
			}
		})
	}
}

func TestFailureOnEveryNode(t *testing.T) {
	b := newBench(t, nil)
	var runs atomic.Int32
	b.world.programs["once"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
		return int(runs.Add(1)) - 1, nil
	}
	b.passes("up\n! exec * false\n")
	f := b.fails("up\n! exec * once\n", record.ExecStatus, 2, ", and '!' says that it must fail on every node")
	if !strings.HasPrefix(f.Message, "it succeeded on node "+f.Node) {
		t.Errorf("node %s: %s", f.Node, f.Message)
	}
}

func TestBudgetBehindAnUnmetCondition(t *testing.T) {
	b := newBench(t, nil)
	b.passes("up\n[kvm] budget load 3s\nexec A true\nbudget -end load\n")
	if events := b.seen(record.KindBudget); len(events) > 0 {
		t.Errorf("figure %+v", events)
	}
}

// What was dropped of an output may have what must not be in it.
func TestHugeOutputIsNoGroundForANo(t *testing.T) {
	b := newBench(t, nil)
	b.world.programs["flood"] = func(_ context.Context, _ []string, stdout, _ io.Writer) (int, error) {
		_, err := io.WriteString(stdout, strings.Repeat("x", maxKept)+"z\n")
		return 0, err
	}
	for _, line := range []string{"! stdout z", "! stdout -count 5 x", "! cmp stdout other"} {
		b.fails("up\nexec A flood\n"+line+"\n? cmp other stdout\n-- other --\n", record.StepFailed, 3, "stdout is incomplete: it has more than 16 MiB")
	}
}
