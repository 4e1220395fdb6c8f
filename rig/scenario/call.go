package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"dsoftbus-rig/rig/record"
)

// A call is a statement that is ready to run: every word expanded and checked, and
// all that depends on the engine's scope taken from it, since a call may run in the
// background while the script goes on.
type call struct {
	engine  *Engine
	command *command
	st      *Statement
	step    int
	form    int
	flags   map[string]string
	args    []boundText
	nodes   []string // all that the arguments name
	from    netip.AddrPort
	to      netip.AddrPort
	limit   *limit // nil: no deadline of its own
	teller  *teller
	out     output
}

type boundText struct {
	argument *argument
	text     string
}

// prepare expands and checks the words of a statement.
func (e *Engine) prepare(st *Statement, step int, t *teller) (*call, error) {
	cmd := e.commands.commands[st.name]
	b, f := cmd.bind(st.args)
	if f != nil {
		return nil, invalid(f)
	}
	c := &call{engine: e, command: cmd, st: st, step: step, form: b.form, flags: map[string]string{}, teller: t}
	for name, w := range b.flags {
		text, err := e.expand(cmd.forms[b.form].flag(name).kind, w)
		if err != nil {
			return nil, err
		}
		c.flags[name] = text
	}
	if from, ok := c.flags["from"]; ok && cmd.flag("from").kind == source {
		if c.from, f = e.scope.source(from); f != nil {
			return nil, invalid(f)
		}
	}
	for _, a := range b.args {
		text, err := e.expand(a.argument.kind, a.word)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, boundText{argument: a.argument, text: text})
		switch a.argument.kind {
		case oneNode, nodeList, declaredNodes:
			for _, name := range e.nodeNames(text) {
				if !slices.Contains(c.nodes, name) {
					c.nodes = append(c.nodes, name)
				}
			}
		case endpoint:
			if c.to, f = e.scope.endpoint(text); f != nil {
				return nil, invalid(f)
			}
		}
	}
	written := e.cfg.Deadlines.of(cmd.deadline)
	if cmd.more != nil {
		written += cmd.more(c)
	}
	if within, ok := c.flags["within"]; ok {
		written, _ = time.ParseDuration(within)
	}
	if written > 0 {
		c.limit = &limit{written: written, work: mostWork, slowdown: e.cfg.Slowdown}
		if st.not && cmd.inverts {
			c.limit.work = absentWork
		}
	}
	return c, nil
}

// clock returns the one by which the call's deadline is measured.
func (c *call) clock() *clock {
	if c.teller.typed {
		return c.engine.typing
	}
	return c.engine.clock
}

func invalid(f *fault) error {
	return &stepError{reason: record.Invalid, next: f.next, err: errors.New(f.reason)}
}

// expand returns the text of a word. What came out of a variable is checked now,
// the rest was before the run.
func (e *Engine) expand(kd *kind, w word) (string, error) {
	var unset error
	value := func(name string) string {
		v, ok := e.variable(name)
		if !ok && unset == nil {
			unset = invalid(unsetVariable(e.scope, name))
		}
		return v
	}
	quoted := func(s string) string { return s }
	if kd != nil && kd.regexp {
		quoted = regexp.QuoteMeta
	}
	text := w.expand(value, quoted)
	if unset != nil {
		return "", unset
	}
	if _, constant := w.constant(); !constant && kd != nil && kd.check != nil {
		if f := kd.check(e.scope, text); f != nil {
			return "", invalid(f)
		}
	}
	return text, nil
}

// arg returns the text of the argument with that name, "" if it is left out.
func (c *call) arg(name string) string {
	for _, a := range c.args {
		if a.argument.name == name {
			return a.text
		}
	}
	return ""
}

// all returns the texts of an argument that repeats.
func (c *call) all(name string) []string {
	var out []string
	for _, a := range c.args {
		if a.argument.name == name {
			out = append(out, a.text)
		}
	}
	return out
}

func (c *call) has(flag string) bool {
	_, ok := c.flags[flag]
	return ok
}

// count returns the value of -count, or standard without it.
func (c *call) count(standard int) int {
	if n := c.number("count"); n > 0 {
		return n
	}
	return standard
}

// number returns the value of a flag that is a count, 0 without it.
func (c *call) number(flag string) int {
	n, _ := strconv.Atoi(c.flags[flag])
	return n
}

// print adds to the step's stdout.
func (c *call) print(s string) {
	c.out.stdout.append([]byte(s))
	for len(s) > 0 {
		n := min(len(s), chunk)
		n = runeEnd([]byte(s[:n]))
		c.teller.tell("stdout", "", s[:n])
		s = s[n:]
	}
}

// each runs f for all nodes of the call at once and waits for all of them. The
// class of the error is that of the first node that failed.
func (c *call) each(f func(name string) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, name := range c.nodes {
		wg.Go(func() { errs[i] = f(name) })
	}
	wg.Wait()
	if i := slices.Index(errs, nil); c.st.not && !c.command.inverts && i >= 0 && len(errs) > 1 {
		return &stepError{reason: c.unexpected(), node: c.nodes[i], trouble: true,
			err: fmt.Errorf("it succeeded on node %s, and '!' says that it must fail on every node", c.nodes[i])}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	var first *stepError
	if !errors.As(errs[0], &first) {
		return errors.Join(errs...)
	}
	all := *first
	all.err = errors.Join(errs...)
	return &all
}

// explain gives an error of the World its class. doing is what was being done.
func (c *call) explain(ctx context.Context, node, doing string, err error) error {
	var late *deadlineError
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &late) {
		return &stepError{reason: c.command.deadline.timeoutReason(), node: node, late: true, awaited: doing,
			err: fmt.Errorf("%s: %w", doing, late)}
	}
	se := &stepError{reason: record.StepFailed, node: node, err: fmt.Errorf("%s: %w", doing, err)}
	var ne *NodeError
	if errors.As(err, &ne) {
		se.reason, se.trouble = ne.Reason, true
		if ne.Node != "" {
			se.node = ne.Node
		}
	}
	return se
}
