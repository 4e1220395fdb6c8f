package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/record"

	"github.com/google/renameio/v2"
	"golang.org/x/tools/txtar"
)

// tailShown is how many of a node's last lines `lines` prints when nobody says.
const tailShown = 10

// promptCommands returns the commands of the language and those that only a person can give.
func promptCommands() *Registry {
	r := Commands()
	moves := []struct {
		move    Move
		summary string
	}{
		{Continue, "lets the script go on: behind the line that failed, or with the one it stands at"},
		{Retry, "runs the line again that failed or was interrupted, and lets the script go on"},
		{OneStep, "runs the line that the script stands at, and stands still again"},
		{Quit, "ends the script here; machines are taken down"},
	}
	var group []command
	for _, m := range moves {
		group = append(group, command{
			name: string(m.move), summary: m.summary, forms: []form{{}}, prompt: true,
			run: func(_ context.Context, c *call) error { return c.engine.decide(m.move) },
		})
	}
	group = append(group,
		command{
			name: "where", summary: "prints where and why the script stands still, and the lines around", forms: []form{{}}, prompt: true, output: true,
			run: func(_ context.Context, c *call) error {
				c.print(c.engine.where())
				return nil
			},
		},
		command{
			name:    "lines",
			summary: "prints what nodes have printed last",
			forms: []form{{
				flags: []flag{{name: "n", value: "N", kind: count, summary: fmt.Sprintf("how many lines; %d", tailShown)}},
				args:  []argument{{name: "NODE", kind: declaredNodes, optional: true, repeat: true}},
			}},
			prompt: true, output: true,
			run: func(_ context.Context, c *call) error { return c.printTails() },
		},
		command{
			name:    "save",
			summary: "writes the script, with the lines that were typed, to a file as a scenario",
			detail:  "Each typed line stands where it was typed, and is marked. One that failed is a comment, and so is a line of the script that failed and was left out by `continue`. FILE is in the folder in which the run was started, and must not exist.",
			forms:   []form{{args: []argument{{name: "FILE", kind: anyText}}}},
			prompt:  true, output: true,
			run: func(_ context.Context, c *call) error { return c.engine.save(c, c.arg("FILE")) },
		},
		command{
			name:    "reload",
			summary: "builds a program from its present source, replaces it on a node, or on all, and starts it again if it runs there as a service",
			forms: []form{{
				flags: []flag{within},
				args:  []argument{{name: "PROGRAM", kind: service}, {name: "NODE", kind: nodeList, optional: true}},
			}},
			prompt: true, output: true, deadline: bootDeadline,
			run: func(ctx context.Context, c *call) error { return c.reload(ctx) },
		},
	)
	r.add("This prompt", group)
	last := len(r.areas) - 1 // in front of the others, where somebody at a prompt looks first
	r.areas = append(r.areas[last:], r.areas[:last]...)
	r.commands["help"].forms[0].args[0].kind = &kind{words: func(*scope) []string { return r.Names() }}
	return r
}

// offers reports whether a command makes sense now: how a script goes on can be
// said only where it stands still and is not over.
func (e *Engine) offers(name string) bool {
	switch Move(name) {
	case Quit:
		return e.stand != nil
	case Continue, OneStep:
		return e.stand != nil && e.stand.Why != WhyEnd
	case Retry:
		return e.canRetry()
	}
	return true
}

// canRetry reports whether the script stands still at a line that may be run
// again.
func (e *Engine) canRetry() bool {
	return e.stand != nil && (e.stand.Why == WhyFailed || e.stand.Why == WhyInterrupted)
}

// doPrompt runs a command of the prompt, or `help`. It leaves no step in the record, and nothing for `stdout`.
func (e *Engine) doPrompt(ctx context.Context, st *Statement) error {
	t := &teller{to: func(ev record.Event) {
		e.events.Lock()
		defer e.events.Unlock()
		if e.hears != nil {
			e.hears(ev)
		}
	}, typed: true}
	c, err := e.prepare(st, 0, t)
	if err == nil {
		err, _ = e.perform(ctx, c)
	}
	if err != nil {
		return e.failure(ctx, st, 0, err)
	}
	return nil
}

// decide notes how a script that stands still is to go on. Whoever called Do takes it with TakeMove.
func (e *Engine) decide(m Move) error {
	if e.stand == nil {
		return &stepError{reason: record.StepFailed, next: "Interrupt the script, or wait until it stands still.", err: fmt.Errorf("%s: the script does not stand still", m)}
	}
	if m == Retry && !e.canRetry() {
		return &stepError{reason: record.StepFailed, next: "`continue` goes on with the line it stands at, `step` runs that line only.",
			err: fmt.Errorf("retry: no line has failed or was interrupted here")}
	}
	e.move = m
	return nil
}

// TakeMove returns what the line that was last given to Do has decided, "" if nothing.
func (e *Engine) TakeMove() Move {
	m := e.move
	e.move = ""
	return m
}

// where says where the script stands still.
func (e *Engine) where() string {
	s := e.stand
	if s == nil {
		return "the script does not stand still\n"
	}
	var b strings.Builder
	switch {
	case s.Why == WhyEnd:
		fmt.Fprintf(&b, "%s is over\n", s.File)
		return b.String()
	case s.Failure != nil:
		fmt.Fprintf(&b, "%s:%d: failed (%s): %s\n", s.File, s.Line, s.Failure.Reason, s.Failure.Headline())
		for line := range strings.Lines(s.Failure.Message) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
		}
	default:
		fmt.Fprintf(&b, "%s:%d: %s\n", s.File, s.Line, s.Why)
	}
	const around = 3
	for i, line := range e.script.lines {
		n := i + 1
		if n < s.Line-around || n > s.Line+around {
			continue
		}
		sign := "  "
		if n == s.Line {
			sign = "> "
		}
		fmt.Fprintf(&b, "%s%3d  %s\n", sign, n, line)
	}
	return b.String()
}

func (c *call) printTails() error {
	nodes := c.nodes
	if len(nodes) == 0 {
		nodes = c.engine.cfg.World.Names()
	}
	n := c.number("n")
	if n == 0 {
		n = tailShown
	}
	for _, name := range nodes {
		log := c.engine.cfg.World.Log(name)
		if log == nil {
			continue
		}
		lines := log.Tail(n)
		c.print(fmt.Sprintf("%s, last %d lines:\n", name, len(lines)))
		for _, l := range lines {
			c.print("  " + showLine(l) + "\n")
		}
	}
	return nil
}

func (c *call) reload(ctx context.Context) error {
	program := c.arg("PROGRAM")
	if c.engine.cfg.Reload == nil {
		return failed(record.StepFailed, "reload %s: this run cannot build programs", program)
	}
	c.engine.SteppedIn("`" + c.st.Text + "`")
	if len(c.nodes) == 0 {
		c.nodes = c.engine.cfg.World.Names()
	}
	said := make(map[string]string)
	for _, node := range c.nodes { // one after the other: the first builds, the others find it built
		text, err := c.engine.cfg.Reload(ctx, node, program)
		if err != nil {
			return c.explain(ctx, node, "reload "+program, err)
		}
		said[node] = text
	}
	for _, node := range c.nodes {
		c.print(said[node] + "\n")
	}
	return nil
}

// A typedLine is a line that was given at the prompt.
type typedLine struct {
	before int // the line of the script that it was typed in front of; 0: behind the last one
	text   string
	failed bool
}

// noteTyped keeps a line for the transcript.
func (e *Engine) noteTyped(text string, failed bool) {
	t := typedLine{text: text, failed: failed}
	if e.stand != nil {
		t.before = e.stand.Line
	}
	e.typed = append(e.typed, t)
}

// save writes what was run as a scenario.
func (e *Engine) save(c *call, name string) error {
	if e.script == nil {
		return failed(record.StepFailed, "save: there is no script")
	}
	if !strings.HasSuffix(name, ".txtar") {
		name += ".txtar"
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return failed(record.StepFailed, "save: %w", err)
	}
	data := e.transcript()
	if _, err := Parse(name, data); err != nil {
		return failed(record.Internal, "save: what was run makes no scenario: %w", err)
	}
	if _, err := os.Lstat(abs); err == nil {
		return &stepError{reason: record.StepFailed, next: "Name another file.", err: fmt.Errorf("save: %s exists", abs)}
	}
	if err := renameio.WriteFile(abs, data, 0o644, renameio.WithTempDir(filepath.Dir(abs))); err != nil {
		return failed(record.StepFailed, "save: %w", err)
	}
	c.print("saved as " + abs + "\n")
	return nil
}

// transcript is the whole script as the content of a scenario file, with the
// lines that were typed where they were typed. They are marked; so are those
// that failed, as comments. Comments behind space open no section.
func (e *Engine) transcript() []byte {
	var b strings.Builder
	typed := func(before int) {
		for _, t := range e.typed {
			switch {
			case t.before != before:
			case t.failed:
				fmt.Fprintf(&b, "  # typed, and failed: %s\n", t.text)
			default:
				fmt.Fprintf(&b, "%s  # typed\n", t.text)
			}
		}
	}
	all, _ := e.script.Extent()
	for i, line := range e.script.lines[:all] {
		typed(i + 1)
		if e.leftOut[i+1] {
			line = "  # failed, and was left out: " + line
		}
		b.WriteString(line + "\n")
	}
	typed(0)
	a := &txtar.Archive{Comment: []byte(b.String())}
	if len(e.script.Fixtures) > 0 {
		a.Comment = append(a.Comment, '\n')
	}
	for _, fx := range e.script.Fixtures {
		a.Files = append(a.Files, txtar.File{Name: fx.Name, Data: fx.Data})
	}
	return txtar.Format(a)
}

// Visitor returns an engine for one line of somebody else, while a script runs on this one: it acts on the same world by the same
// clock, and knows nothing of what the script has set. Close it when it is no longer needed.
func (e *Engine) Visitor() (*Engine, error) {
	cfg := e.cfg
	cfg.Hold = nil // it has no script
	v, err := New(cfg)
	if err != nil {
		return nil, err
	}
	v.host, v.commands = e, e.commands
	v.numbers, v.clock, v.typing, v.events = e.numbers, e.clock, e.typing, e.events
	v.scope.nodes = nil
	for _, name := range e.cfg.World.Names() {
		v.scope.addNode(name)
		v.scope.up[name] = true
	}
	v.scope.upLine, v.scope.anyFile, v.scope.anyProgram = 1, true, true
	return v, nil
}
