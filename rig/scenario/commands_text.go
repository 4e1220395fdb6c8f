package scenario

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"dsoftbus-rig/rig/record"
)

func textCommands() []command {
	counted := flag{name: "count", value: "N", kind: count, summary: "exactly N matches, instead of at least one"}
	expression := argument{name: "REGEXP", kind: pattern}
	matcher := func(stream string) command {
		return command{
			name:    stream,
			summary: "the " + stream + " of the last command that left output matches",
			detail:  "`^` and `$` are the ends of a line.",
			forms:   []form{{flags: []flag{counted}, args: []argument{expression}}},

			prefixes: "!?",
			check:    func(k *checker, st *Statement, _ *binding) { k.problem(st, k.scope.needOutput(stream)) },
			run:      func(_ context.Context, c *call) error { return c.match(stream) },
		}
	}
	return []command{
		matcher("stdout"),
		matcher("stderr"),
		{
			name:    "grep",
			summary: "a file of `$WORK` matches",
			detail:  "`^` and `$` are the ends of a line.",
			forms:   []form{{flags: []flag{counted}, args: []argument{expression, {name: "FILE", kind: readable}}}},

			prefixes: "!?",
			run:      func(_ context.Context, c *call) error { return c.match(c.arg("FILE")) },
		},
		{
			name:    "cmp",
			summary: "two files have the same content; either can be `stdout` or `stderr`",
			detail:  "By convention the first is what came, the second what is wanted.",
			forms:   []form{{args: []argument{{name: "FILE1", kind: readable}, {name: "FILE2", kind: readable}}}},

			prefixes: "!?",
			run:      runCmp,
		},
	}
}

// match looks for the call's REGEXP in a file or stream.
func (c *call) match(name string) error {
	re, err := regexp.Compile("(?m)" + c.arg("REGEXP"))
	if err != nil {
		return failed(record.Invalid, "%s: %w", c.st.name, err)
	}
	data, err := c.engine.read(name)
	if err != nil {
		return err
	}
	found := re.FindAllIndex(data, -1)
	wanted := c.count(0)
	if wanted == 0 && len(found) > 0 {
		c.teller.note("matched: %s", lineAround(data, found[0]))
		return nil
	}
	if wanted > 0 && len(found) == wanted {
		return nil
	}
	what := fmt.Sprintf("no match for %q in %s", c.arg("REGEXP"), name)
	if wanted > 0 {
		what = fmt.Sprintf("%d matches for %q in %s, not %d", len(found), c.arg("REGEXP"), name, wanted)
	}
	return &stepError{reason: record.ContentMismatch, node: c.engine.origin(name), awaited: fmt.Sprintf("a match for %q in %s", c.arg("REGEXP"), name),
		err: fmt.Errorf("%s, which is %s", what, excerpt(data))}
}

// maxShown bounds what of a content is shown in a message.
const maxShown = 4 << 10

// lineAround returns the line a match is in.
func lineAround(data []byte, at []int) string {
	start := bytes.LastIndexByte(data[:at[0]], '\n') + 1
	end := len(data)
	if i := bytes.IndexByte(data[at[0]:], '\n'); i >= 0 {
		end = at[0] + i
	}
	return string(data[start:min(end, start+maxShown)])
}

// excerpt shows a content in a message, its end if it is long.
func excerpt(data []byte) string {
	switch {
	case len(data) == 0:
		return "empty"
	case len(data) > maxShown:
		return fmt.Sprintf("%d bytes and ends in:\n%s", len(data), data[len(data)-maxShown:])
	}
	return fmt.Sprintf("%d bytes:\n%s", len(data), data)
}

func runCmp(_ context.Context, c *call) error {
	names := [2]string{c.arg("FILE1"), c.arg("FILE2")}
	got, err := c.engine.read(names[0])
	if err != nil {
		return err
	}
	want, err := c.engine.read(names[1])
	if err != nil {
		return err
	}
	if bytes.Equal(got, want) {
		return nil
	}
	return &stepError{reason: record.ContentMismatch, node: c.engine.origin(names[:]...), awaited: names[0] + " to have the content of " + names[1],
		err: fmt.Errorf("%s and %s differ: %s", names[0], names[1], difference(names, got, want))}
}

// maxDiff bounds the texts that are shown as a diff.
const maxDiff = 1 << 20

// difference says how two contents differ: text as a unified diff, anything else by
// the first byte that is not the same.
func difference(names [2]string, a, b []byte) string {
	if isText(a) && isText(b) {
		// The wanted content comes first, so that '+' marks what is there and should not be.
		d := diff.Diff(names[1], b, names[0], a)
		if len(d) > maxShown {
			d = append(d[:bytes.LastIndexByte(d[:maxShown], '\n')+1], "… and more\n"...)
		}
		return "\n" + string(d)
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	at := func(data []byte) string {
		if i == len(data) {
			return "the end"
		}
		return fmt.Sprintf("%#02x", data[i])
	}
	return fmt.Sprintf("first at byte %d: %s is %s, not %s; they have %d and %d bytes", i, names[0], at(a), at(b), len(a), len(b))
}

func isText(data []byte) bool {
	return len(data) <= maxDiff && utf8.Valid(data) && bytes.IndexByte(data, 0) < 0
}
