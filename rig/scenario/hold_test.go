package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

// A person sits at the prompt: at each stand it types the next lines, of which the last one decides how to go on.
type person struct {
	b      *bench
	types  [][]string // for each stand
	stands []string   // as they came: why, line, text
	heard  []string   // what was printed for the lines
	errs   []string   // what they failed with
}

func (p *person) hold(ctx context.Context, s Stand) Move {
	p.stands = append(p.stands, strings.TrimSpace(fmt.Sprintf("%s %d %s", s.Why, s.Line, s.Text)))
	if len(p.types) == 0 {
		p.b.t.Errorf("it stands still once more: %s", p.stands[len(p.stands)-1])
		return Quit
	}
	lines := p.types[0]
	p.types = p.types[1:]
	for _, line := range lines {
		err := p.b.engine.Do(ctx, line, func(e record.Event) {
			if e.Kind == record.KindOutput {
				p.heard = append(p.heard, strings.TrimSpace(e.Text))
			}
			if !e.Typed {
				p.b.t.Errorf("%s: an event that is not of a typed line: %+v", line, e)
			}
		})
		if err != nil {
			p.errs = append(p.errs, err.Error())
		}
	}
	return p.b.engine.TakeMove()
}

func attended(t *testing.T, stops Stops, types ...[]string) (*bench, *person) {
	p := &person{types: types}
	p.b = newBench(t, func(c *Config) {
		c.Stops, c.Hold = stops, p.hold
	})
	return p.b, p
}

func (p *person) stood(want ...string) {
	p.b.t.Helper()
	if got := strings.Join(p.stands, "\n"); got != strings.Join(want, "\n") {
		p.b.t.Errorf("it stood still at\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

const failing = "up\nexec A true\nexec A cat-repaired\nexec A echo done\n"

// brokenProgram makes cat-repaired fail until somebody has run `mend`.
func brokenProgram(b *bench) {
	mended := false
	b.world.programs["cat-repaired"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
		if mended {
			return 0, nil
		}
		return 1, nil
	}
	b.world.programs["mend"] = func(context.Context, []string, io.Writer, io.Writer) (int, error) {
		mended = true
		return 0, nil
	}
}

func TestRepairedAtTheFailure(t *testing.T) {
	b, p := attended(t, Stops{OnFailure: true}, []string{"where", "retry"}, []string{"exec A mend", "retry"})
	brokenProgram(b)
	out := b.run(t.Context(), failing)
	if out.Result != record.Repaired || out.Failure != nil || out.Why != "retry of line 3, which had failed; `exec A mend`" {
		t.Errorf("%+v", out)
	}
	p.stood("failed 3 exec A cat-repaired", "failed 3 exec A cat-repaired")
	if len(p.heard) != 1 || !strings.Contains(p.heard[0], "test.txtar:3: failed (exec-status): node A: ") || !strings.Contains(p.heard[0], ">   3  exec A cat-repaired\n    4  exec A echo done") {
		t.Errorf("where says %q", p.heard)
	}
	held, released := b.seen(record.KindHeld), b.seen(record.KindReleased)
	if len(held) != 2 || held[0].Name != "failed" || held[0].Line != 3 || held[0].Failure == nil || held[0].Failure.Reason != record.ExecStatus ||
		len(released) != 2 || released[1].Name != "retry" {
		t.Errorf("events %+v, %+v", held, released)
	}
}

func TestContinueLeavesTheLineOut(t *testing.T) {
	b, p := attended(t, Stops{OnFailure: true}, []string{"continue"})
	brokenProgram(b)
	if out := b.run(t.Context(), failing); out.Result != record.Repaired {
		t.Errorf("%+v", out)
	}
	p.stood("failed 3 exec A cat-repaired")
	if steps := b.seen(record.KindStepStart); steps[len(steps)-1].Text != "exec A echo done" {
		t.Errorf("the last step: %+v", steps[len(steps)-1])
	}
}

func TestQuitIsTheFailure(t *testing.T) {
	b, _ := attended(t, Stops{OnFailure: true}, []string{"exec A true", "quit"})
	brokenProgram(b)
	out := b.run(t.Context(), failing)
	if out.Result != record.Failed || out.Failure.Reason != record.ExecStatus || out.Failure.Line != 3 {
		t.Errorf("%+v", out)
	}
}

// Whoever steps through a script and changes nothing has not repaired it.
func TestStepsAndBreak(t *testing.T) {
	b, p := attended(t, Stops{AtBreak: true}, []string{"step"}, []string{"lines", "step"}, []string{"continue"}, []string{"continue"})
	out := b.run(t.Context(), "up\nbreak\nexec A true\nexec B true\nbreak\n")
	if out.Result != record.Passed {
		t.Errorf("%+v", out)
	}
	p.stood("break 2 break", "step 3 exec A true", "step 4 exec B true", "break 5 break")
	if len(p.types) != 0 {
		t.Errorf("%d stands are missing", len(p.types))
	}
}

func TestStandsBeforeALine(t *testing.T) {
	b, p := attended(t, Stops{Before: 3, AtEnd: true}, []string{"exec A echo hi", "stdout ho", "env X=1", "continue"}, []string{"quit"})
	out := b.run(t.Context(), "up\n\n# Later.\nexec A true\nexec A true\n")
	if out.Result != record.Repaired {
		t.Errorf("%+v", out)
	}
	p.stood("until 4 exec A true", "end 0")
	if len(p.errs) != 1 || !strings.Contains(p.errs[0], `no line of stdout matches "ho"`) {
		t.Errorf("errors %q", p.errs)
	}
	for _, e := range b.seen(record.KindStepStart) {
		if e.Typed != (e.Line <= 3 && e.Text != "up") {
			t.Errorf("typed: %+v", e)
		}
	}
}

func TestQuitInFrontOfALine(t *testing.T) {
	b, _ := attended(t, Stops{Before: 2}, []string{"quit"})
	out := b.run(t.Context(), "up\nexec A true\n")
	if out.Result != record.Interrupted || out.Failure.Line != 2 || out.Failure.Message != "ended at the prompt, in front of this line" {
		t.Errorf("%+v, %+v", out, out.Failure)
	}
}

func TestMovesOutOfPlace(t *testing.T) {
	b, p := attended(t, Stops{Before: 1}, []string{"retry", "save", "lines C", "reload dsoftbusd", "contiune", "continue"})
	b.passes("up\nexec A true\n")
	for i, want := range []string{"no line has failed", "too few arguments", `unknown node "C"`, "cannot build programs", `did you mean "continue"`} {
		if i >= len(p.errs) || !strings.Contains(p.errs[i], want) {
			t.Fatalf("errors %q, want %q at %d", p.errs, want, i)
		}
	}
}

// The commands of the prompt are none of the language, nor of an engine that never stands still.
func TestPromptCommandsAreNotTheLanguages(t *testing.T) {
	if _, err := Parse("x", []byte("up\ncontinue\n")); err != nil {
		t.Fatal(err)
	}
	s, _ := Parse("x", []byte("up\ncontinue\n"))
	if err := Check(s); err == nil || !strings.Contains(err.Error(), `unknown command "continue"`) {
		t.Errorf("check: %v", err)
	}
	b := newBench(t, nil)
	if err := b.engine.Do(t.Context(), "quit", nil); err == nil || !strings.Contains(err.Error(), `unknown command "quit"`) {
		t.Errorf("do: %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := attended(t, Stops{AtEnd: true}, []string{"continue"}, []string{"continue"})
		go func() {
			time.Sleep(5 * time.Second)
			if !b.engine.Interrupt() {
				t.Error("nothing to interrupt")
			}
		}()
		if out := b.run(t.Context(), "up\nexec A hang\nexec A true\n"); out.Result != record.Passed {
			t.Errorf("%+v", out)
		}
		p.stood("interrupted 2 exec A hang", "end 0")
		if b.engine.Interrupt() {
			t.Error("there was something to interrupt afterwards")
		}
	})
}

// While a person looks, nothing is late: neither jobs nor budgets.
func TestNothingIsLateMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *person
		b := newBench(t, func(c *Config) {
			c.Stops = Stops{AtBreak: true}
			c.Hold = func(ctx context.Context, s Stand) Move {
				time.Sleep(time.Hour)
				return p.hold(ctx, s)
			}
		})
		p = &person{b: b, types: [][]string{{"continue"}}}
		release := make(chan struct{})
		b.world.programs["awaited"] = func(ctx context.Context, _ []string, _, _ io.Writer) (int, error) {
			select {
			case <-release:
				return 0, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
		go func() {
			time.Sleep(time.Hour + 20*time.Second)
			close(release)
		}()
		b.passes("up\nbudget all 30s\nexec -within 25s A awaited &job&\nbreak\nwait job\nbudget -end all\n")
	})
}

// The lines that a person types while the script stands still have deadlines and
// budgets that pass.
func TestTypedLinesAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *bench
		b = newBench(t, func(c *Config) {
			c.Stops, c.Slowdown = Stops{AtBreak: true}, 2
			c.Hold = func(ctx context.Context, _ Stand) Move {
				for _, tt := range []struct {
					line  string
					takes time.Duration
					text  string // of the failure; empty: it passes
				}{
					{"! marker -within 1s B panic", 1250 * time.Millisecond, ""},
					{"exec -within 1s B hang", 2 * time.Second, "not within 2s (1s, at slowdown 2)"},
					{"exec -within 3s B hang &job&", 0, ""},
					{"wait job", 6 * time.Second, "not within 6s (3s, at slowdown 2)"},
					{"budget typed 4s", 0, ""},
					{"sleep 9s", 9 * time.Second, ""},
					{"budget -end typed", 0, `budget "typed" took 9s, the limit is 8s`},
				} {
					began := time.Now()
					err := b.engine.Do(ctx, tt.line, nil)
					if took := time.Since(began); took != tt.takes {
						t.Errorf("%s took %s, want %s", tt.line, took, tt.takes)
					}
					if tt.text == "" && err != nil || tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)) {
						t.Errorf("%s: %v, want %q", tt.line, err, tt.text)
					}
				}
				return Continue
			}
		})
		if out := b.run(t.Context(), "up\nbudget all 1s\nbreak\nbudget -end all\n"); out.Result != record.Repaired {
			t.Errorf("the script's own budget: %+v", out)
		}
	})
}

// While the machines stand still a typed line is not late either.
func TestNothingIsLateWhileMachinesStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		began := time.Now()
		go func() {
			time.Sleep(500 * time.Millisecond)
			resume := b.engine.Suspend()
			time.Sleep(time.Hour)
			resume()
		}()
		for _, line := range []string{"up", "! marker -within 1s B panic"} {
			if err := b.engine.Do(t.Context(), line, nil); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != time.Hour+time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A node that fails while the script stands still does not end the line that repairs it, nor what comes after.
func TestNodeFailsMeanwhile(t *testing.T) {
	var p *person
	b := newBench(t, func(c *Config) {
		c.Stops = Stops{AtBreak: true, OnFailure: true}
		c.Hold = func(ctx context.Context, s Stand) Move {
			p.b.engine.Fail(&NodeError{Node: "A", Reason: record.KernelPanic})
			return p.hold(ctx, s)
		}
	})
	p = &person{b: b, types: [][]string{{"up A", "continue"}}}
	if out := b.run(t.Context(), "up\nbreak\nexec A true\n"); out.Result != record.Repaired {
		t.Errorf("%+v", out)
	}
}

// When the run is ended from outside, nobody is waited for.
func TestEndedWhileItStands(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	b := newBench(t, func(c *Config) {
		c.Stops = Stops{AtBreak: true}
		c.Hold = func(ctx context.Context, s Stand) Move {
			cancel(errors.New("enough"))
			<-ctx.Done()
			return Continue
		}
	})
	out := b.run(ctx, "up\nbreak\nexec A true\n")
	if out.Result != record.Interrupted || !strings.Contains(out.Failure.Message, "enough") {
		t.Errorf("%+v, %+v", out, out.Failure)
	}
}

func TestSave(t *testing.T) {
	t.Chdir(t.TempDir())
	b, p := attended(t, Stops{Before: 5, OnFailure: true, AtEnd: true},
		[]string{"exec A echo hi", "stdout ho", "help", "save mine", "save mine", "continue"}, // in front of line 5
		[]string{"exec A echo mended", "save failed", "continue"},                             // line 5 has failed
		[]string{"exec B echo late", "save over", "quit"})                                     // behind the last line
	b.run(t.Context(), "# First.\nup\npush A note /note\n# Then.\nexec A false\nexec B true # last\n\n-- note --\nsome text\n")
	const (
		begin = "# First.\nup\npush A note /note\n# Then.\nexec A echo hi  # typed\n  # typed, and failed: stdout ho\n"
		end   = "exec B true # last\n"
		note  = "\n-- note --\nsome text\n"
	)
	for name, want := range map[string]string{
		"mine":   begin + "exec A false\n" + end + note,
		"failed": begin + "exec A echo mended  # typed\nexec A false\n" + end + note,
		"over":   begin + "exec A echo mended  # typed\n  # failed, and was left out: exec A false\n" + end + "exec B echo late  # typed\n" + note,
	} {
		got, err := os.ReadFile(name + ".txtar")
		if err != nil || string(got) != want {
			t.Errorf("%s: saved %q, %v; want %q", name, got, err, want)
		}
		s, err := Load(name+".txtar", nil)
		if err != nil || len(s.Sections) != 2 {
			t.Errorf("%s: what was saved: %+v, %v", name, s, err)
		}
	}
	if len(p.errs) != 2 || !strings.Contains(p.errs[1], "mine.txtar exists") {
		t.Errorf("errors %q", p.errs)
	}
}

// What is told where a script stands still is explained by then, and is what
// the script has failed with when a person ends it there, whatever was typed
// meanwhile.
func TestToldWhereItStands(t *testing.T) {
	b, p := attended(t, Stops{OnFailure: true}, []string{"where", "exec A false", "quit"})
	explained := 0
	b.engine.cfg.Explain = func(f *record.Failure) *record.Failure {
		explained++
		out := *f
		out.Reason, out.Evidence = record.SessionNoSynAck, []string{"in force: link B down"}
		return &out
	}
	out := b.run(t.Context(), "up\nexec A false\n")
	held := b.seen(record.KindHeld)
	if len(held) != 1 || held[0].Failure != out.Failure || explained != 1 || out.Result != record.Failed {
		t.Errorf("told %+v, ended with %+v, explained %d times", held, out, explained)
	}
	if f := out.Failure; f.Reason != record.SessionNoSynAck || f.Step != 2 || len(f.Evidence) != 1 {
		t.Errorf("%+v", f)
	}
	if len(p.heard) != 1 || !strings.HasPrefix(p.heard[0], "test.txtar:2: failed (session-no-synack): "+out.Failure.Headline()+"\n") {
		t.Errorf("where says %q", p.heard)
	}
}

// Help lists what makes sense where the script stands.
func TestHelpAtAStand(t *testing.T) {
	if _, words := newBench(t, func(c *Config) { c.Hold = (&person{}).hold }).engine.Complete("help ret", 8); !slices.Equal(words, []string{"retry"}) {
		t.Errorf("help completes %q", words)
	}
	for _, c := range []struct {
		stops Stops
		want  string // of the moves
	}{
		{Stops{AtEnd: true}, "quit"},
		{Stops{OnFailure: true}, "continue retry step quit"},
		{Stops{Before: 2}, "continue step quit"},
	} {
		b, p := attended(t, c.stops, []string{"help", "quit"})
		line := "exec A false"
		if c.stops.AtEnd {
			line = "exec A true"
		}
		b.run(t.Context(), "up\n"+line+"\n")
		var got []string
		for line := range strings.Lines(strings.Join(p.heard, "\n")) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(line, "  ") && slices.Contains([]Move{Continue, Retry, OneStep, Quit}, Move(name)) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want || !strings.HasPrefix(p.heard[0], "This prompt:\n") {
			t.Errorf("%+v: %q, want %s, in %s", c.stops, got, c.want, p.heard)
		}
	}
}

// A visitor acts on the same nodes while the script runs, and shares nothing else with it.
func TestVisitor(t *testing.T) {
	b := newBench(t, nil)
	visited := make(chan error, 1)
	b.world.programs["visited"] = func(ctx context.Context, _ []string, _, _ io.Writer) (int, error) {
		v, err := b.engine.Visitor()
		if err == nil {
			err = v.Do(ctx, "exec C echo from outside", nil)
		}
		if err == nil && v.Do(ctx, "exec A echo $X", nil) == nil {
			err = errors.New("it knows the script's variables")
		}
		visited <- errors.Join(err, v.Close())
		return 0, nil
	}
	out := b.run(t.Context(), "node C\nup\nenv X=1\nexec A echo mine\nexec A visited\nstdout -whole '^$'\n")
	if out.Result != record.Repaired || !strings.HasPrefix(out.Why, "`exec C echo from outside`") {
		t.Errorf("%+v", out)
	}
	if err := <-visited; err != nil {
		t.Error(err)
	}
	steps := map[int]bool{}
	for _, e := range b.seen(record.KindStepStart) {
		if steps[e.Step] {
			t.Errorf("two steps have the number %d", e.Step)
		}
		steps[e.Step] = true
		if want := strings.Contains(e.Text, "from outside"); e.Typed != want {
			t.Errorf("typed: %+v", e)
		}
	}
}

// Late is called when a step has run out of time, and only then.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := 0
		b := newBench(t, func(c *Config) { c.Late = func(context.Context) { late++ } })
		b.run(t.Context(), "up\n? exec -within 1s A hang\n! exec A false\n* exec -within 2s A false\n")
		if late != 1 {
			t.Errorf("%d times", late)
		}
	})
}
