package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/record"
)

func flowCommands() []command {
	why := []form{{args: []argument{{name: "WHY", kind: anyText, optional: true}}}}
	return []command{
		{
			name:    "wait",
			summary: "waits for one background job, or for all; `stdout`/`stderr` are then theirs, in the order of their start",
			detail:  "A job that did not end as its line asks for fails here. Each job has a deadline of its own; -within is one for all of them.",
			forms: []form{{
				flags: []flag{{name: "within", value: "D", kind: duration, summary: "deadline, beside those of the jobs"}},
				args:  []argument{{name: "JOB", kind: job, optional: true}},
			}},
			output: true, deadline: jobDeadline,
			check: checkWait,
			run: func(ctx context.Context, c *call) error {
				return c.engine.wait(ctx, c, c.arg("JOB"))
			},
		},
		{
			name: "budget",
			summary: "the steps between `budget NAME D` and `budget -end NAME` must take no longer than D; " +
				"the figure lands in the record",
			detail: "D is scaled like a deadline, so that budgets can be compared between hosts.",
			forms: []form{
				{args: []argument{{name: "NAME", kind: budgetName}, {name: "D", kind: duration}}},
				{flags: []flag{{name: "end", must: true, summary: "the budget ends here"}}, args: []argument{{name: "NAME", kind: openBudget}}},
			},
			check: func(k *checker, st *Statement, b *binding) {
				name, _ := b.args[0].word.constant()
				if b.form == 0 {
					k.scope.budgets[name] = st.Line
					k.begun = name
					return
				}
				if k.begun == name {
					k.problem(st, faultf("put the lines in between that it is about", "budget %q has no line in it", name))
				}
				delete(k.scope.budgets, name)
			},
			run: runBudget,
		},
		{
			name:    "env",
			idle:    true,
			summary: "sets variables, or prints them to `stdout`: those that are named, or all",
			forms:   []form{{args: []argument{{name: "NAME[=VALUE]", kind: assignment, optional: true, repeat: true}}}},
			output:  true,
			check:   checkEnv,
			run:     runEnv,
		},
		{
			name:    "echo",
			idle:    true,
			summary: "prints its arguments to `stdout`",
			forms:   []form{{args: []argument{{name: "TEXT", kind: anyText, optional: true, repeat: true}}}},
			output:  true,
			run: func(_ context.Context, c *call) error {
				c.print(strings.Join(c.all("TEXT"), " ") + "\n")
				return nil
			},
		},
		{
			name:    "sleep",
			idle:    true,
			summary: "does nothing for D, which is not scaled",
			detail:  "To wait for something use `marker`, `wait` or the prefix `*`, which go on as soon as it is there.",
			forms:   []form{{args: []argument{{name: "D", kind: duration}}}},

			background: true,
			run: func(ctx context.Context, c *call) error {
				d, err := time.ParseDuration(c.arg("D"))
				if err != nil {
					return failed(record.Invalid, "sleep: %w", err)
				}
				if !sleep(ctx, d) {
					return context.Cause(ctx)
				}
				return nil
			},
		},
		{
			name:    "skip",
			idle:    true,
			summary: "ends the script here: the scenario does not apply",
			forms:   why,
			run:     func(_ context.Context, c *call) error { return &End{Skip: true, Why: c.arg("WHY")} },
		},
		{
			name:    "break",
			idle:    true,
			summary: "in an interactive or paused run: hands over the prompt here; otherwise a no-op",
			forms:   []form{{}},
			run:     func(context.Context, *call) error { return nil }, // the player has stood still before it
		},
		{
			name:    "help",
			idle:    true,
			summary: "prints what the named commands do, or the list of all, to `stdout`",
			forms: []form{{args: []argument{{name: "COMMAND", optional: true, repeat: true,
				kind: &kind{words: func(*scope) []string { return Commands().Names() }}}}}},
			check: func(k *checker, st *Statement, b *binding) {
				for _, w := range b.all("COMMAND") {
					if name, constant := w.constant(); constant && k.commands.commands[name] == nil {
						unknown := k.commands.unknown(name)
						k.problem(st, faultf(unknown.next, "help: %s", unknown.reason))
					}
				}
			},
			output: true,
			run: func(_ context.Context, c *call) error {
				var b strings.Builder
				if names := c.all("COMMAND"); len(names) == 0 {
					b.WriteString(c.engine.commands.list(c.engine.offers))
				} else if err := c.engine.commands.Help(&b, names...); err != nil {
					return failed(record.Invalid, "help: %w", err)
				}
				c.print(b.String())
				return nil
			},
		},
	}
}

func checkWait(k *checker, st *Statement, b *binding) {
	jobs := k.scope.jobs
	if len(jobs) == 0 && len(b.args) == 0 {
		k.problem(st, faultf("start a job before, with '&' at the end of its line", "nothing to wait for: no background job is running here"))
	}
	k.scope.jobs = nil
	if len(b.args) == 0 {
		return
	}
	name, _ := b.args[0].word.constant()
	for _, j := range jobs {
		if j.name != name {
			k.scope.jobs = append(k.scope.jobs, j)
		}
	}
}

func checkEnv(k *checker, st *Statement, b *binding) {
	for _, a := range b.args {
		name, _, set := strings.Cut(textOf(a.word), "=")
		if text, constant := a.word.constant(); constant && !set {
			delete(k.digests, text)
			if k.scope.vars[text] {
				continue
			}
			f := checkVariable(k.scope, text)
			if f == nil {
				f = unsetVariable(k.scope, text)
			}
			k.problem(st, faultf(f.next, "env: %s", f.reason))
			continue
		}
		if !set {
			k.problem(st, faultf("write the variable's name out, as in NAME=$OTHER", "env: a name cannot come from a variable"))
			continue
		}
		if f := checkVariable(k.scope, name); f != nil {
			k.problem(st, faultf(f.next, "env: %s", f.reason))
			continue
		}
		k.scope.vars[name] = true
	}
}

func runEnv(_ context.Context, c *call) error {
	e := c.engine
	names := c.all("NAME[=VALUE]")
	if len(names) == 0 {
		names = e.variables()
	}
	for _, arg := range names {
		if name, value, set := strings.Cut(arg, "="); set {
			e.vars[name] = value
			continue
		}
		value, ok := e.variable(arg)
		if !ok {
			return invalid(unsetVariable(e.scope, arg))
		}
		c.print(arg + "=" + value + "\n")
	}
	return nil
}

func runBudget(_ context.Context, c *call) error {
	e, name := c.engine, c.arg("NAME")
	if !c.has("end") {
		d, err := time.ParseDuration(c.arg("D"))
		if err != nil {
			return failed(record.Invalid, "budget: %w", err)
		}
		clock := c.clock()
		e.budgets[name] = budget{start: time.Now(), clock: clock, spent: clock.spent(), limit: limit{written: d, work: mostWork, slowdown: e.cfg.Slowdown}}
		return nil
	}
	if _, ok := e.budgets[name]; !ok { // its beginning is behind a condition that is not met
		return nil
	}
	return e.endBudget(name, c.teller)
}

// endBudgets ends the budgets whose end the script has not come to: behind a
// condition that is not met, or behind the `stop` that ended it.
func (e *Engine) endBudgets() error {
	for _, name := range slices.Sorted(maps.Keys(e.budgets)) {
		if err := e.endBudget(name, &teller{to: e.emit, step: e.steps}); err != nil {
			return err
		}
	}
	return nil
}

// endBudget records what the steps of a budget took, and compares it with the limit.
func (e *Engine) endBudget(name string, t *teller) error {
	b := e.budgets[name]
	delete(e.budgets, name)
	took := time.Since(b.start) - (b.clock.spent() - b.spent)
	t.emit(record.Event{Kind: record.KindBudget, Name: name, Seconds: record.Seconds(took),
		Limit: record.Seconds(b.limit.scaled())})
	if took > b.limit.scaled() {
		return &stepError{reason: record.OverBudget, awaited: fmt.Sprintf("budget %q to end within %s", name, b.limit),
			err: fmt.Errorf("budget %q took %s, the limit is %s", name, took.Round(time.Millisecond), b.limit)}
	}
	return nil
}
