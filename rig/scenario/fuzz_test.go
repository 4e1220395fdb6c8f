package scenario

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse reads and checks any file, and looks at what must hold for all.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "#", "-- x --", "\r\n", "a\x00", "-- ../x --\n", "up\n-- a --\n-- a/b --\n", "! ? * [x] y &z&", "'", "${", "exec A 'x''y'$Z# c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data)
		checkProblems(t, data, err)
		checkProblems(t, data, Check(s))
		lines := strings.Split(strings.TrimPrefix(string(unifyLineEnds(data)), "\ufeff"), "\n")
		last := 0
		for _, sec := range s.Sections {
			for _, st := range sec.Statements {
				if st.Line <= last || st.Line > len(lines) || strings.TrimSpace(lines[st.Line-1]) != st.Text {
					t.Fatalf("statement %q in line %d, behind %d", st.Text, st.Line, last)
				}
				last = st.Line
			}
		}
		for _, fx := range s.Fixtures {
			if !fs.ValidPath(fx.Name) || fx.Line < 1 || fx.Line > len(lines) || !strings.Contains(lines[fx.Line-1], fx.Name) {
				t.Fatalf("fixture %q in line %d", fx.Name, fx.Line)
			}
		}
		for _, name := range s.Nodes() {
			if !ValidNode(name) {
				t.Fatalf("node %q", name)
			}
		}
	})
}

func checkProblems(t *testing.T, data []byte, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("an error of another kind: %v", err)
	}
	last := 0
	for _, p := range problems {
		if p.Line < last || p.Line > 1+bytes.Count(data, []byte("\n")) || p.Reason == "" || p.File != "f" {
			t.Fatalf("problem %+v behind line %d", p, last)
		}
		last = p.Line
	}
}

// FuzzLine takes a line apart and completes it anywhere.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"", "up", "exec A 'it''s' $A_IP", "[kvm] ! marker -within 5s A x &j&", "'", "$", "${A", "cp a b c", "a#b", "stop A"} {
		f.Add(s, len(s))
		f.Add(s, len(s)/2)
	}
	registry := Commands()
	f.Fuzz(func(t *testing.T, line string, pos int) {
		words, _ := lex(line)
		end := 0
		for _, w := range words {
			if w.start < end || w.end <= w.start || w.end > len(line) {
				t.Fatalf("word at %d to %d, behind %d of %d", w.start, w.end, end, len(line))
			}
			end = w.end
		}
		if st, fault := parseStatement("f", 1, line); fault != nil && (st == nil || !st.broken) {
			t.Fatalf("fault %v without a broken statement", fault)
		}
		sc := newScope(workStandIn)
		start, offers := registry.complete(sc, line, pos)
		if start < 0 || start > len(line) {
			t.Fatalf("start %d of %d", start, len(line))
		}
		typed := line[start:max(start, min(pos, len(line)))]
		for _, s := range offers {
			if !strings.HasPrefix(s, typed) {
				t.Fatalf("%q does not complete %q", s, typed)
			}
		}
	})
}
