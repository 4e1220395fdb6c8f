package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `# Node A reads a package file
# that node B serves.
up
sha256 WANT B/packages/x

# Then it is done.
node C
  # not a section
stop 'that''s all'

-- B/packages/x --
one
two
-- note.txt --
-- C/etc/hosts --
c`

func TestParse(t *testing.T) {
	s, err := Parse("f.txtar", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Sections) != 2 || s.Title() != "Node A reads a package file that node B serves." {
		t.Fatalf("sections %+v", s.Sections)
	}
	var lines []int
	for _, sec := range s.Sections {
		lines = append(lines, -sec.Line)
		for _, st := range sec.Statements {
			lines = append(lines, st.Line)
		}
	}
	want := []int{-1, 3, 4, -6, 7, 9}
	if len(lines) != len(want) {
		t.Fatalf("lines %v, want %v", lines, want)
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Fatalf("lines %v, want %v", lines, want)
		}
	}
	if got := s.Nodes(); strings.Join(got, " ") != "A B C" {
		t.Errorf("nodes %v", got)
	}
	if len(s.Fixtures) != 3 || s.Fixtures[0].Line != 11 || s.Fixtures[1].Line != 14 || s.Fixtures[2].Line != 15 {
		t.Errorf("fixtures %+v", s.Fixtures)
	}
	onB := s.NodeFixtures("B")
	if len(onB) != 1 || onB[0].Name != "/packages/x" || string(onB[0].Data) != "one\ntwo\n" {
		t.Errorf("fixtures of B %+v", onB)
	}
	onC := s.NodeFixtures("C")
	if len(onC) != 1 || string(onC[0].Data) != "c\n" {
		t.Errorf("fixtures of C %+v", onC)
	}
}

func TestParseLineEnds(t *testing.T) {
	for _, tt := range []struct{ name, file, title, data string }{
		{"all CRLF", "# t\r\nup\r\n-- x --\r\na\r\nb\r\n", "t", "a\nb\n"},
		{"fixture with CRLF", "# t\nup\n-- x --\na\r\nb\n", "t", "a\r\nb\n"},
		{"byte order mark", "\ufeff# t\nup\n-- x --\na\n", "t", "a\n"},
		{"script with CRLF", "# t\r\nup\r\n-- x --\r\na\nb\n", "t", "a\nb\n"},
	} {
		s, err := Parse("f", []byte(tt.file))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if s.Title() != tt.title || string(s.Fixtures[0].Data) != tt.data || s.Sections[0].Statements[0].Text != "up" {
			t.Errorf("%s: %q %q", tt.name, s.Title(), s.Fixtures[0].Data)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"comment that is not UTF-8", "# \xe9t\xe9\nup\n", "f:1: byte 0xe9 is not UTF-8: a scenario is text; save the file as UTF-8; make binary content on a node with `exec`, or send it as hex"},
		{"fixture that is not UTF-8", "up\n-- x --\n\n\xff\n", "f:4: byte 0xff is not UTF-8: a scenario is text; save the file as UTF-8; make binary content on a node with `exec`, or send it as hex"},
		{"NUL", "up\nexec A x\x00\n", "f:2: NUL byte in the file: a scenario is text; make binary content on a node with `exec`, or send it as hex"},
		{"size", strings.Repeat("#", MaxSize+1), "f: the file has more than 8 MiB; make the large file on a node with `exec`, or `pull` it"},
		{"lines", strings.Repeat("#\n", MaxLines+1), "f: the script has 10001 lines and 20002 bytes, the limits are 10000 and 1048576; put data into fixtures, or split the scenario"},
		{"script", strings.Repeat("#", MaxScript+1), "f: the script has 1 lines and 1048578 bytes, the limits are 10000 and 1048576; put data into fixtures, or split the scenario"},
		{"duplicate", "up\n-- a --\n-- b --\n-- a --\n", `f:4: fixture "a" is there twice, first in line 2; rename one of them`},
		{"folder then file", "up\n-- a/b --\n-- a --\n", `f:3: fixture "a" is a folder in line 2; rename one of them`},
		{"file then folder", "up\n-- a --\n-- a/b/c --\n", `f:3: fixture "a" is a file in line 2, so "a/b/c" cannot be; rename one of them`},
		{"absolute", "up\n-- /etc/passwd --\n", `f:2: fixture name "/etc/passwd" is absolute; drop the leading slash: A/etc/hosts is /etc/hosts on node A`},
		{"parent", "up\n-- ../x --\n", `f:2: fixture name "../x" is not a clean path inside of the scenario's folder; write it without '.', '..' and empty parts`},
		{"hidden parent", "up\n-- A/../../x --\n", `f:2: fixture name "A/../../x" is not a clean path inside of the scenario's folder; write it without '.', '..' and empty parts`},
		{"dot", "up\n-- . --\n", `f:2: fixture name "." is not a clean path inside of the scenario's folder; write it without '.', '..' and empty parts`},
		{"backslash", "up\n-- a\\b --\n", `f:2: fixture name "a\\b" holds a backslash or a control character; use letters, digits and slashes`},
		{"control", "up\n-- a\x1bb --\n", `f:2: fixture name "a\x1bb" holds a backslash or a control character; use letters, digits and slashes`},
		{"stdout", "up\n-- stdout --\n", `f:2: fixture name "stdout" means a command's output; rename it`},
		{"long", "up\n-- " + strings.Repeat("a", 1025) + " --\n", "f:2: fixture name of 1025 bytes, the limit is 1024; shorten it"},
		{"several", "exec A 'x\n! !\n-- a --\n-- a --\n", "f:1: unterminated quote; close it; a quote inside of quotes is written twice: 'it''s'\n" +
			`f:2: prefix "!" is there twice; keep one of them` + "\n" + `f:4: fixture "a" is there twice, first in line 3; rename one of them`},
	} {
		_, err := Parse("f", []byte(tt.file))
		var problems Problems
		if !errors.As(err, &problems) || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x.txtar")
	if err := os.WriteFile(name, []byte("up\nexec A 'x\nfly\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Load(name, nil)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 || problems[0].Line != 2 || problems[1].Line != 3 {
		t.Fatalf("problems of parser and checker: %v", err)
	}
	if s.File != name {
		t.Errorf("file %q", s.File)
	}
	if err := os.WriteFile(name, []byte("up\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name, nil); err != nil {
		t.Errorf("a good scenario: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "missing.txtar"), nil); !errors.Is(err, os.ErrNotExist) || errors.As(err, &problems) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestNodeNames(t *testing.T) {
	for name, want := range map[string]bool{"A": true, "B2": true, "EDGE": true, "": false, "a": false, "2A": false, "A-B": false, "ABCDEFGHI": false} {
		if ValidNode(name) != want {
			t.Errorf("ValidNode(%q) = %v", name, !want)
		}
	}
	if got := NodeAddress(2).String(); got != "10.42.0.12" {
		t.Errorf("address of the third node %s", got)
	}
	if got := DeviceID("EDGE1"); got != "node-edge1" {
		t.Errorf("device id %s", got)
	}
}

func TestLingers(t *testing.T) {
	for line, want := range map[string]bool{
		"exec A true":              false,
		"marker -within 5s A x":    false,
		"! exec A false":           false,
		"* exec -within 5s A true": false,
		"sleep 1s":                 true,
		"sleep 1s &":               true,
		"exec A sleep 1":           true,
		"! marker -within 1s A x":  true,
		"exec A echo 'sleep'":      false,
		"link A down":              true,
		"? reset B":                true,
		"exec A hostile -peer B x": true,
		"kill A dsoftbusd":         false,
		"[tcg] ! marker -within 1s A x # one place": true,
	} {
		s, err := Parse("f", []byte("# First.\nup\n\n# Second.\n"+line+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if s.Lingers() != want {
			t.Errorf("%s: %t", line, !want)
		}
	}
}
