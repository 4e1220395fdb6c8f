package scenario

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

func markerCommands() []command {
	fromStart := flag{name: "from", value: "start", kind: oneOf("start"), summary: "look at the whole log, not only at what is new"}
	return []command{
		{
			name:    "marker",
			summary: "waits until a line of that node matches",
			detail: "Each node has a cursor: a match moves it behind that line, so a sequence of `marker`s is an ordered ladder. " +
				"A line counts only if it came since the last command that does something to nodes or their network began (`kill`, `crash`, `link`, …). " +
				"`-from start` looks at the whole log. With `!`: no match may appear within D, and every line was looked at: " +
				"where one was lost, or is no longer kept (64 MiB of a node's last lines are), the step fails.\n" +
				"With `*` for NODE every node must have such a line. `-count N` waits for the N-th matching line.",
			forms: []form{{
				flags: []flag{
					within,
					{name: "count", value: "N", kind: count, summary: "wait for the N-th matching line, instead of the first"},
					fromStart,
				},
				args: []argument{{name: "NODE", kind: nodeList}, {name: "REGEXP", kind: pattern}},
			}},
			prefixes: "!?", inverts: true, background: true, deadline: waitDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				_, whole := b.flags["from"]
				for _, node := range k.nodes(b) {
					if st.not && !whole && k.scope.paused[node] {
						k.problem(st, faultf("`resume` it first", "marker: node %s is paused here and prints nothing, whatever is wrong", node))
					}
				}
			},
			run: runMarker,
		},
		{
			name:    "between",
			summary: "the time between two lines of a node is in a range",
			detail: "It is the time from a line that matches FIRST to the next one that matches SECOND, and must be in MIN..MAX, as in `2s..4s`. The time is by the node's own monotonic clock and never scaled: that is how times of a contract are checked. " +
				"It takes the first line behind the cursor that matches FIRST, and the next line behind that which matches SECOND, waits for both, and moves the cursor behind the second. " +
				"Lines of the kernel have no such time, and no time spans a boot of the node: both are errors. Without `-within` the deadline is the run's default and MAX more.",
			forms: []form{{
				flags: []flag{within, fromStart},
				args: []argument{
					{name: "NODE", kind: nodeList}, {name: "FIRST", kind: pattern}, {name: "SECOND", kind: pattern}, {name: "MIN..MAX", kind: interval},
				},
			}},
			background: true, deadline: waitDeadline,
			more: func(c *call) time.Duration {
				_, most, _ := parseInterval(c.arg("MIN..MAX"))
				return most
			},
			run: runBetween,
		},
		{
			name:    "allow",
			idle:    true,
			summary: "expects lines that would otherwise fail the run at once",
			detail:  "These are reports of a kernel or a program that something in it is broken (docs/reports.md lists them), a service's end with a failure, and `SELFTEST: … FAIL`. When no such line has come by its end the scenario is unproven, but for `-maybe`.",
			forms: []form{{
				flags: []flag{{name: "maybe", summary: "no such line need come"}},
				args:  []argument{{name: "REGEXP", kind: pattern}},
			}},
			run: runAllow,
		},
	}
}

func runAllow(_ context.Context, c *call) error {
	re, err := regexp.Compile(c.arg("REGEXP"))
	if err != nil {
		return failed(record.Invalid, "allow: %w", err)
	}
	e := c.engine
	e.mu.Lock()
	e.allowed = append(e.allowed, allowance{re: re, maybe: c.has("maybe")})
	e.mu.Unlock()
	return nil
}

// unneeded returns what was allowed and never came, each in half a sentence.
func (e *Engine) unneeded() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var idle []string
	for _, a := range e.allowed {
		if !a.maybe && !e.came(a.re) {
			idle = append(idle, fmt.Sprintf("no line that matches %q has come, which is allowed", a.re))
		}
	}
	return idle
}

// came reports whether a node has printed a line that matches.
func (e *Engine) came(re *regexp.Regexp) bool {
	for _, name := range e.cfg.World.Names() {
		if log := e.cfg.World.Log(name); log != nil {
			for _, l := range log.Lines(0, log.Len()) {
				if re.MatchString(l.Text) {
					return true
				}
			}
		}
	}
	return false
}

func runMarker(ctx context.Context, c *call) error {
	re, err := regexp.Compile(c.arg("REGEXP"))
	if err != nil {
		return failed(record.Invalid, "marker: %w", err)
	}
	return c.each(func(node string) error { return c.marker(ctx, node, re) })
}

// marker waits for the marker on one node.
func (c *call) marker(ctx context.Context, node string, re *regexp.Regexp) error {
	e := c.engine
	log := e.cfg.World.Log(node)
	if log == nil {
		return failed(record.Invalid, "node %s has no log", node)
	}
	cursor := e.cursor(node)
	from := cursor
	if c.has("from") {
		from = 0
	}
	// A node that cannot print anything shows nothing by its silence, unless it has
	// printed what is looked at.
	if c.st.not && (!c.has("from") || log.Len() == 0) {
		if _, err := c.node(ctx, node, "marker"); err != nil {
			return err
		}
	}
	acted := e.lastAct()
	if c.st.not || c.has("from") {
		acted = act{} // a line that must not come must not have come either
	}
	left := c.count(1)
	last, err := log.Wait(ctx, from, func(l console.Line) bool {
		if !re.MatchString(l.Text) || l.Time.Before(acted.began) {
			return false
		}
		c.told(node, l)
		left--
		return left == 0
	})
	awaited := fmt.Sprintf("a line of node %s that matches %q", node, re)
	if n := c.count(1); n > 1 {
		awaited = fmt.Sprintf("%d lines of node %s that match %q", n, node, re)
	}
	var (
		late    *deadlineError
		lacking *console.IncompleteError
	)
	unseen := ""
	if errors.As(err, &lacking) {
		unseen = "; " + lacking.Why
	}
	switch {
	case err == nil && c.st.not:
		return &stepError{reason: record.MarkerUnexpected, node: node, awaited: "no line of node " + node + " that matches " + fmt.Sprintf("%q", re),
			err: fmt.Errorf("node %s printed a line that must not come: %s", node, showLine(last))}
	case err == nil:
		e.moveCursor(node, last.Seq+1)
		return nil
	case c.st.not && errors.As(context.Cause(ctx), &late) && lacking != nil:
		return &stepError{reason: record.LogIncomplete, node: node, awaited: "no line of node " + node + " that matches " + fmt.Sprintf("%q", re), trouble: true,
			err: fmt.Errorf("it cannot be said that no line of node %s matches %q: %s", node, re, lacking.Why)}
	case c.st.not && errors.As(context.Cause(ctx), &late):
		return nil
	}
	came := ""
	if n := c.count(1); n > 1 {
		came = fmt.Sprintf(", only %d came", n-left)
	}
	next := missedMarker(log, cursor, c.arg("REGEXP"), re)
	if l, stale := staleMarker(log, cursor, acted.began, re); stale {
		next = fmt.Sprintf("Such a line came before line %d (`%s`) began (%s), and `marker` looks at what came from then on: "+
			"move this line up, or give it -from start.",
			acted.statement.Line, acted.statement.Text, showLine(l))
	}
	return missing(ctx, node, awaited, came+"; "+sinceCursor(log, from)+unseen, next, err)
}

// missing is the error of a wait for lines of a node that ended with err, without
// them. came says what came instead, next what to do about it.
func missing(ctx context.Context, node, awaited, came, next string, err error) error {
	var late *deadlineError
	switch {
	case ctx.Err() == nil: // the log ended
		se := &stepError{reason: record.NodeExited, node: node, awaited: awaited, trouble: true,
			err: fmt.Errorf("%s can no longer come: %w", awaited, err)}
		var ne *NodeError
		if errors.As(err, &ne) {
			se.reason = ne.Reason
		}
		return se
	case !errors.As(context.Cause(ctx), &late):
		return err
	}
	return &stepError{reason: record.MarkerTimeout, node: node, awaited: awaited, late: true, next: next,
		err: fmt.Errorf("%s: %w%s", awaited, late, came)}
}

func runBetween(ctx context.Context, c *call) error {
	first, err := regexp.Compile(c.arg("FIRST"))
	if err != nil {
		return failed(record.Invalid, "between: %w", err)
	}
	second, err := regexp.Compile(c.arg("SECOND"))
	if err != nil {
		return failed(record.Invalid, "between: %w", err)
	}
	return c.each(func(node string) error { return c.between(ctx, node, first, second) })
}

// between waits for two lines of one node and compares the time between them.
func (c *call) between(ctx context.Context, node string, first, second *regexp.Regexp) error {
	least, most, f := parseInterval(c.arg("MIN..MAX"))
	if f != nil {
		return invalid(f)
	}
	e := c.engine
	log := e.cfg.World.Log(node)
	if log == nil {
		return failed(record.Invalid, "node %s has no log", node)
	}
	cursor := e.cursor(node)
	from := cursor
	if c.has("from") {
		from = 0
	}
	wait := func(from int, re *regexp.Regexp) (console.Line, error) {
		l, err := log.Wait(ctx, from, func(l console.Line) bool { return re.MatchString(l.Text) })
		if err == nil {
			c.told(node, l)
		}
		return l, err
	}
	one, err := wait(from, first)
	if err != nil {
		return missing(ctx, node, fmt.Sprintf("a line of node %s that matches %q", node, first), "; "+sinceCursor(log, from),
			missedMarker(log, cursor, c.arg("FIRST"), first), err)
	}
	other, err := wait(one.Seq+1, second)
	if err != nil {
		return missing(ctx, node, fmt.Sprintf("a line of node %s that matches %q, behind %s", node, second, showLine(one)),
			"; "+sinceCursor(log, one.Seq+1), missedSecond(log, one, c.arg("SECOND"), second), err)
	}
	e.moveCursor(node, other.Seq+1)
	lines := fmt.Sprintf("node %s, from %q to %q", node, showLine(one), showLine(other))
	awaited := fmt.Sprintf("%s to %s of node %s's time between a line that matches %q and the next one that matches %q",
		least, most, node, first, second)
	if one.Boot == 0 || other.Boot == 0 {
		return &stepError{reason: record.StepFailed, node: node, awaited: awaited, next: "Name lines that programs of the node print.",
			err: fmt.Errorf("%s: a line has no time of the node's clock, so the time between the two is not known", lines)}
	}
	if one.Boot != other.Boot {
		return &stepError{reason: record.StepFailed, node: node, awaited: awaited,
			next: "Name two lines of the same boot, or move the cursor behind the boot with `marker`.",
			err:  fmt.Errorf("%s: the node booted between the two, and its clock began anew, so the time between them is not known", lines)}
	}
	// The agent reads the clock before it takes the journal's lock, so the times of
	// two programs' lines can be a moment out of order.
	took := max(0, other.Guest-one.Guest)
	if took < least || took > most {
		return &stepError{reason: record.MarkerInterval, node: node, awaited: awaited,
			err: fmt.Errorf("%s: %s passed by the node's clock, not %s to %s", lines, took, least, most)}
	}
	c.teller.note("%s: %s passed by the node's clock", lines, took)
	return nil
}

// told records that a line which a command waits for has come.
func (c *call) told(node string, l console.Line) {
	c.teller.emit(record.Event{Kind: record.KindMarker, Node: node, Unit: l.Unit, Text: l.Text, Guest: record.Seconds(l.Guest)})
}

// sinceCursor says what there was to match.
func sinceCursor(log *console.Log, from int) string {
	n := log.Len() - from
	if n == 0 {
		return "no line came behind the cursor"
	}
	last := log.Tail(1)
	if len(last) == 0 {
		return "no line came behind the cursor"
	}
	return fmt.Sprintf("of %d lines behind the cursor the last is: %s", n, showLine(last[0]))
}

// missedMarker looks for the usual reasons why a line that was printed did not
// count, and says what to do about the one that it finds.
func missedMarker(log *console.Log, cursor int, pattern string, re *regexp.Regexp) string {
	for _, l := range log.Lines(0, cursor) {
		if re.MatchString(l.Text) {
			return fmt.Sprintf("Such a line came before the cursor (%s): move this line up, or give it -from start.", showLine(l))
		}
	}
	return takenLiterally(log, cursor, pattern)
}

// missedSecond is missedMarker for the second line of `between`.
func missedSecond(log *console.Log, first console.Line, pattern string, re *regexp.Regexp) string {
	for _, l := range log.Lines(0, first.Seq+1) {
		if re.MatchString(l.Text) {
			return fmt.Sprintf("Such a line came before the first of the two, or is the first (%s).", showLine(l))
		}
	}
	return takenLiterally(log, first.Seq+1, pattern)
}

// takenLiterally looks behind the cursor for a line that has a pattern's text
// but does not match it, and says how to write the pattern then.
func takenLiterally(log *console.Log, cursor int, pattern string) string {
	if regexp.QuoteMeta(pattern) == pattern {
		return ""
	}
	for _, l := range log.Lines(cursor, log.Len()) {
		if strings.Contains(l.Text, pattern) {
			return fmt.Sprintf("A line has exactly this text (%s), but a regular expression means something else with it: write %s.",
				showLine(l), quote(regexp.QuoteMeta(pattern)))
		}
	}
	return ""
}

// staleMarker returns a line behind the cursor that matches, but came before the
// script did what it has done last.
func staleMarker(log *console.Log, cursor int, began time.Time, re *regexp.Regexp) (console.Line, bool) {
	for _, l := range log.Lines(cursor, log.Len()) {
		if re.MatchString(l.Text) && l.Time.Before(began) {
			return l, true
		}
	}
	return console.Line{}, false
}

// acts notes that a statement of the script does something to nodes or the network.
func (e *Engine) acts(st *Statement, began time.Time) {
	e.markers.Lock()
	defer e.markers.Unlock()
	e.acted = act{statement: st, began: began}
}

func (e *Engine) lastAct() act {
	e.markers.Lock()
	defer e.markers.Unlock()
	return e.acted
}

func (e *Engine) cursor(node string) int {
	e.markers.Lock()
	defer e.markers.Unlock()
	return e.cursors[node]
}

// moveCursor moves a node's cursor forwards.
func (e *Engine) moveCursor(node string, seq int) {
	e.markers.Lock()
	defer e.markers.Unlock()
	e.cursors[node] = max(e.cursors[node], seq)
}
