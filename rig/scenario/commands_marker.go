package scenario

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

func markerCommands() []command {
	return []command{
		{
			name:    "marker",
			summary: "waits until a line of that node matches",
			detail: "Each node has a cursor: a match moves it behind that line, so a sequence of `marker`s is an ordered ladder; " +
				"`-from start` looks at the whole log. With `!`: no match may appear within D.\n" +
				"With `*` for NODE every node must have such a line. `-count N` waits for the N-th matching line.",
			forms: []form{{
				flags: []flag{
					within,
					{name: "count", value: "N", kind: count, summary: "wait for the N-th matching line, instead of the first"},
					{name: "from", value: "start", kind: oneOf("start"), summary: "look at the whole log, not only behind the cursor"},
				},
				args: []argument{{name: "NODE", kind: nodeList}, {name: "REGEXP", kind: pattern}},
			}},
			prefixes: "!?", inverts: true, background: true, deadline: waitDeadline,
			run: runMarker,
		},
		{
			name: "allow",
			summary: "this scenario expects lines that otherwise fail a run at once " +
				"(kernel panic or oops, `SELFTEST: … FAIL`, Go panic)",
			forms: []form{{args: []argument{{name: "REGEXP", kind: pattern}}}},
			run:   runAllow,
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
	e.allowed = append(e.allowed, re)
	e.mu.Unlock()
	return nil
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
	left := c.count(1)
	last, err := log.Wait(ctx, from, func(l console.Line) bool {
		if !re.MatchString(l.Text) {
			return false
		}
		c.teller.emit(record.Event{Kind: record.KindMarker, Node: node, Unit: l.Unit, Text: l.Text,
			Guest: record.Seconds(l.Guest)})
		left--
		return left == 0
	})
	awaited := fmt.Sprintf("a line of node %s that matches %q", node, re)
	if n := c.count(1); n > 1 {
		awaited = fmt.Sprintf("%d lines of node %s that match %q", n, node, re)
	}
	var late *deadlineError
	switch {
	case err == nil && c.st.not:
		return &stepError{reason: record.MarkerUnexpected, node: node, awaited: "no line of node " + node + " that matches " + fmt.Sprintf("%q", re),
			err: fmt.Errorf("node %s printed a line that must not come: %s", node, showLine(last))}
	case err == nil:
		e.moveCursor(node, last.Seq+1)
		return nil
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
	case c.st.not:
		return nil
	}
	came := ""
	if n := c.count(1); n > 1 {
		came = fmt.Sprintf(", only %d came", n-left)
	}
	return &stepError{reason: record.MarkerTimeout, node: node, awaited: awaited, late: true,
		next: missedMarker(log, cursor, c.arg("REGEXP"), re),
		err:  fmt.Errorf("%s: %w%s; %s", awaited, late, came, sinceCursor(log, from))}
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
			return fmt.Sprintf("Such a line came before the cursor (%s): move this marker up, or give it -from start.", showLine(l))
		}
	}
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
