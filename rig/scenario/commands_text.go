package scenario

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"dsoftbus-rig/rig/record"
)

func textCommands() []command {
	counted := flag{name: "count", value: "N", kind: count, summary: "exactly N lines match, instead of at least one"}
	whole := flag{name: "whole", must: true, summary: "match the text as a whole, line breaks and all, not line by line"}
	expression := argument{name: "REGEXP", kind: pattern}
	wholeExpression := argument{name: "REGEXP", kind: wholePattern}
	detail := func(of string) string {
		return "`^` and `$` are the ends of the line. The last line needs no line break; an empty " + of + " has no line."
	}
	matcher := func(stream string) command {
		return command{
			name:    stream,
			summary: "a line of the " + stream + " of the last command that left output matches; `-whole ^$`: it is empty",
			detail:  detail("output"),
			forms:   []form{{flags: []flag{counted}, args: []argument{expression}}, {flags: []flag{whole}, args: []argument{wholeExpression}}},

			prefixes: "!?", inverts: true,
			check: func(k *checker, st *Statement, _ *binding) { k.problem(st, k.scope.needOutput(stream)) },
			run:   func(_ context.Context, c *call) error { return c.match(stream) },
		}
	}
	file := argument{name: "FILE", kind: readable}
	return []command{
		matcher("stdout"),
		matcher("stderr"),
		{
			name:    "grep",
			summary: "a line of a file of `$WORK` matches",
			detail:  detail("file"),
			forms:   []form{{flags: []flag{counted}, args: []argument{expression, file}}, {flags: []flag{whole}, args: []argument{wholeExpression, file}}},

			prefixes: "!?", inverts: true,
			run: func(_ context.Context, c *call) error { return c.match(c.arg("FILE")) },
		},
		{
			name:    "cmp",
			summary: "two files have the same content; either can be `stdout` or `stderr`",
			detail:  "By convention the first is what came, the second what is wanted.",
			forms:   []form{{args: []argument{{name: "FILE1", kind: readable}, {name: "FILE2", kind: readable}}}},

			prefixes: "!?", inverts: true,
			check: func(k *checker, st *Statement, b *binding) {
				if k.scope.sameFile(b.args[0].word, b.args[1].word) {
					k.problem(st, faultf("name two", "cmp: a file is always equal to itself"))
				}
			},
			run: runCmp,
		},
	}
}

// match looks for the call's REGEXP in a file or stream.
func (c *call) match(name string) error {
	re, err := regexp.Compile(c.arg("REGEXP"))
	if err != nil {
		return failed(record.Invalid, "%s: %w", c.st.name, err)
	}
	data, err := c.engine.read(name)
	if err != nil {
		return err
	}
	lines := matchingLines(re, data)
	matched, is, line := len(lines) > 0, fmt.Sprintf("no line of %s matches %q", name, re), ""
	if matched {
		is, line = fmt.Sprintf("a line of %s matches %q", name, re), ": "+shorten(lines[0])
	}
	wanted := fmt.Sprintf("a line of %s to match %q", name, re)
	if n := c.count(0); n > 0 {
		matched, is = len(lines) == n, fmt.Sprintf("%d lines of %s match %q", len(lines), name, re)
		if !matched {
			is += fmt.Sprintf(", not %d", n)
		}
		wanted = fmt.Sprintf("%d lines of %s to match %q", n, name, re)
	}
	if c.has("whole") {
		matched, is, line = re.Match(data), fmt.Sprintf("%s as a whole does not match %q", name, re), ""
		if matched {
			is = fmt.Sprintf("%s as a whole matches %q", name, re)
		}
		wanted = fmt.Sprintf("%s as a whole to match %q", name, re)
	}
	if matched != c.st.not {
		c.teller.note("%s%s", is, line)
		return nil
	}
	if c.st.not {
		wanted = "not " + wanted
		is += ", which '!' forbids"
	}
	return &stepError{reason: record.ContentMismatch, node: c.engine.origin(name), awaited: wanted,
		err: fmt.Errorf("%s%s; %s is %s", is, line, name, excerpt(data))}
}

// maxShown bounds what of a content is shown in a message.
const maxShown = 4 << 10

// shorten returns a line as far as it is shown in a message.
func shorten(line string) string {
	if len(line) > maxShown {
		return strings.ToValidUTF8(line[:maxShown], "") + "…"
	}
	return line
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
	se := &stepError{reason: record.ContentMismatch, node: c.engine.origin(names[:]...), awaited: names[0] + " to have the content of " + names[1]}
	switch same := bytes.Equal(got, want); {
	case same != c.st.not:
		return nil
	case same:
		se.awaited = names[0] + " to have another content than " + names[1]
		se.err = fmt.Errorf("%s and %s do not differ: each is %s", names[0], names[1], excerpt(got))
	default:
		se.err = fmt.Errorf("%s and %s differ: %s", names[0], names[1], difference(names, got, want))
	}
	return se
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
