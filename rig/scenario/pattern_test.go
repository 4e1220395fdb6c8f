package scenario

import (
	"regexp"
	"strings"
	"testing"
)

func TestExtent(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, tt := range []struct {
		pattern string
		whole   bool
		want    extent
	}{
		{"session ok", false, extent{}},
		{"", false, extent{always: true}},
		{"^", false, extent{always: true}},
		{"$", false, extent{always: true}},
		{"x*", false, extent{always: true}},
		{"(ok)?", false, extent{always: true}},
		{"ok|", false, extent{always: true}},
		{".*", false, extent{always: true}},
		{"^.*$", false, extent{always: true}},
		{"^[^x]*", false, extent{always: true}},
		{"^[^x]*$", false, extent{}},
		{"x|[^x]|^$", false, extent{always: true}},
		{`[^\n]*$`, false, extent{always: true}},
		{"^a*$|[^a]", false, extent{always: true}},
		{"^a*$|[^aé]", false, extent{}},
		{`\b|^\W*$`, false, extent{always: true}},
		{`\b`, false, extent{}},
		{".", false, extent{}},
		{".+", false, extent{}},
		{"^$", false, extent{}},
		{"^.?$", false, extent{}},
		{"^.{0,300}$", false, extent{}},
		{"^x*$", false, extent{}},
		{"(?i)^k*$|[^kK\u212a]", false, extent{always: true}},
		{"(?i)^k*$|[^kK]", false, extent{always: true}}, // K, the sign of a kelvin, is folded into a k
		{"a^", false, extent{never: true}},
		{"$a", false, extent{never: true}},
		{`a\n`, false, extent{never: true}},
		{"a\nb", false, extent{never: true}},
		{`[\n]`, false, extent{never: true}},
		{`(?s)a.b`, false, extent{}},
		{`a\n?`, false, extent{}},
		{`\Bx\b\w`, false, extent{never: true}},
		{`x\By`, false, extent{}},
		{`a\bb`, false, extent{never: true}},
		{`(?m)^a$`, false, extent{}},
		{`(?m)a$\nb`, false, extent{never: true}},
		{long, false, extent{}},
		{long + "^", false, extent{never: true}},
		{"(a|b){1000}", false, extent{}},
		{"", true, extent{always: true}},
		{"^", true, extent{always: true}},
		{"^$", true, extent{}},
		{`\A\z`, true, extent{}},
		{`a\nb`, true, extent{}},
		{"(?m)^", true, extent{always: true}},
		{"^.*$", true, extent{}},
		{"(?m)^.*$", true, extent{always: true}},
		{"(?s)^.*$", true, extent{always: true}},
		{"a^", true, extent{never: true}},
		{"(?m)a$^", true, extent{never: true}},
		{`(?m)a$\n^b`, true, extent{}},
		{`\A(\z|abc\s)`, true, extent{}},
	} {
		got, err := extentOf(tt.pattern, tt.whole)
		if err != nil || got != tt.want {
			t.Errorf("%.20q, whole %v: %+v, %v; want %+v", tt.pattern, tt.whole, got, err, tt.want)
		}
	}
}

// FuzzExtent compares what is said of an expression with what it does to a line.
func FuzzExtent(f *testing.F) {
	for _, pattern := range []string{"", "x*", "a^", `\bx`, "^[^x]*$", "(?i)k|[^k]", `(a|b)*\n`} {
		f.Add(pattern, "x y")
	}
	f.Fuzz(func(t *testing.T, pattern, line string) {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return
		}
		found, err := extentOf(pattern, false)
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		line = strings.ReplaceAll(line, "\n", "")
		if matched := re.MatchString(line); matched && found.never || !matched && found.always {
			t.Errorf("%q and the line %q: %v, but it was found to match %+v", pattern, line, matched, found)
		}
	})
}
