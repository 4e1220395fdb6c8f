package scenario

import (
	"fmt"
	"strings"
	"testing"
)

// show writes words so that a table can hold them: quoted parts in ”, variables in
// <>, words apart by a bar.
func show(words []word) string {
	var out []string
	for _, w := range words {
		var b strings.Builder
		for _, p := range w.parts {
			switch {
			case p.variable:
				fmt.Fprintf(&b, "<%s>", p.text)
			case p.quoted:
				fmt.Fprintf(&b, "'%s'", p.text)
			default:
				b.WriteString(p.text)
			}
		}
		out = append(out, b.String())
	}
	return strings.Join(out, "|")
}

func TestLex(t *testing.T) {
	for _, tt := range []struct{ line, want, fault string }{
		{"", "", ""},
		{" \t\r", "", ""},
		{"up", "up", ""},
		{"  exec A  prog\ta ", "exec|A|prog|a", ""},
		{"up # all of them", "up", ""},
		{"up#all", "up", ""},
		{"up '#' x", "up|'#'|x", ""},
		{"a 'b c' d", "a|'b c'|d", ""},
		{"'it''s'", "'it's'", ""},
		{"''", "''", ""},
		{"''''", "'''", ""},
		{"x'y z'w", "x'y z'w", ""},
		{"a 'b", "a|'b'", "unterminated quote"},
		{"a 'b''", "a|'b''", "unterminated quote"},
		{"$A ${B_1}c", "<A>|<B_1>c", ""},
		{"x$Ay$B-z", "x<Ay><B>-z", ""},
		{"'$A'", "'$A'", ""},
		{"ok$ $ $1 a$|b", "ok$|$|$1|a$|b", ""},
		{"${", "${", `bad variable reference "${"`},
		{"x ${A-b} y", "x|${A-b}", `bad variable reference "${A-b}"`},
		{"a\x00b", "", "NUL byte in the line"},
		{"a\nb", "", "line break inside of a line"},
		{"a\xffb", "", "the line is not UTF-8"},
		{"grüße 'ж'", "grüße|'ж'", ""},
	} {
		words, f := lex(tt.line)
		got := ""
		if f != nil {
			got = f.reason
		}
		if show(words) != tt.want || got != tt.fault {
			t.Errorf("lex(%q) = %s, %q; want %s, %q", tt.line, show(words), got, tt.want, tt.fault)
		}
	}
}

func TestWordsKnowTheirPlace(t *testing.T) {
	line := " exec  'a b'$C # x"
	words, f := lex(line)
	if f != nil {
		t.Fatal(f)
	}
	for i, want := range []string{"exec", "'a b'$C"} {
		if got := line[words[i].start:words[i].end]; got != want {
			t.Errorf("word %d is %q, want %q", i, got, want)
		}
	}
}

func TestQuoteIsReadBack(t *testing.T) {
	for _, s := range []string{"", "a", "a b", "it's", "'", "$HOME", "#", "-x", "a\tb", "ж"} {
		words, f := lex(quote(s))
		if f != nil || len(words) != 1 {
			t.Errorf("%q is quoted as %s: %d words, %v", s, quote(s), len(words), f)
			continue
		}
		if got, _ := words[0].constant(); got != s {
			t.Errorf("%q is quoted as %s and read as %q", s, quote(s), got)
		}
	}
}

func TestParseStatement(t *testing.T) {
	for _, tt := range []struct{ line, want, fault string }{
		{"up", "up", ""},
		{"! exec A x", "! exec A|x", ""},
		{"? * exec A x", "?* exec A|x", ""},
		{"[kvm] [!root] ! up", "[kvm][!root]! up", ""},
		{"[arch:amd64] up", "[arch:amd64] up", ""},
		{"exec A x &", "exec A|x &", ""},
		{"exec A x &one&", "exec A|x &one&", ""},
		{"break &", "break  &", ""},
		{"exec A x '&'", "exec A|x|'&'", ""},
		{"exec A x&", "exec A|x&", ""},
		{"stdout '!'", "stdout '!'", ""},
		{"", "", ""},
		{"# only a comment", "", ""},
		{"! ! up", "!! up", `prefix "!" is there twice`},
		{"! ? up", "!? up", "prefixes '!' (must fail) and '?' (may fail) exclude each other"},
		{"!", "", "missing command"},
		{"[kvm]", "", "missing command"},
		{"[kvm up", "", `condition "[kvm" has no closing bracket`},
		{"[] up", "", `empty condition "[]"`},
		{"[!] up", "", `empty condition "[!]"`},
		{"'up' A", "", "the command must not be quoted or a variable: 'up'"},
		{"$X A", "", "the command must not be quoted or a variable: $X"},
		{"exec A x &one", "", `"&one" is no name for a background job`},
		{"exec A x &&", "", `"&&" is no name for a background job`},
		{"exec A 'x", "", "unterminated quote"},
	} {
		st, f := parseStatement("f", 3, tt.line)
		switch {
		case f != nil:
			if f.reason != tt.fault || st == nil || !st.broken {
				t.Errorf("%q: %q, want %q", tt.line, f.reason, tt.fault)
			}
		case tt.fault != "":
			t.Errorf("%q: no fault, want %q", tt.line, tt.fault)
		case st == nil:
			if tt.want != "" {
				t.Errorf("%q: no statement", tt.line)
			}
		default:
			if got := showStatement(st); got != tt.want {
				t.Errorf("%q is %s, want %s", tt.line, got, tt.want)
			}
		}
	}
}

func showStatement(st *Statement) string {
	var b strings.Builder
	for _, g := range st.conditions {
		if g.want {
			fmt.Fprintf(&b, "[%s]", g.tag)
		} else {
			fmt.Fprintf(&b, "[!%s]", g.tag)
		}
	}
	for _, p := range []struct {
		sign string
		on   bool
	}{{"!", st.not}, {"?", st.may}, {"*", st.retry}} {
		if p.on {
			b.WriteString(p.sign)
		}
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(st.name)
	if len(st.args) > 0 || st.background {
		b.WriteString(" " + show(st.args))
	}
	if st.background {
		b.WriteString(" &")
		if st.job != "" {
			b.WriteString(st.job + "&")
		}
	}
	return b.String()
}
