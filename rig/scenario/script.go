package scenario

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// A Script is a scenario file that was read: its statements by section, and its
// fixtures.
type Script struct {
	File     string // as given to Load or Parse
	Sections []Section
	Fixtures []Fixture // in the order of the file

	lines    []string // of its comment part, without line ends
	programs []string // of a node's image, by their paths; empty when they are not known
	problems Problems // that Parse found
	refused  bool     // the file as a whole, so there is nothing to check
}

// A Section is what stands between two comments that begin a line. Statements in
// front of the first one are in a section without a title.
type Section struct {
	Line       int    // of its comment, from 1
	Title      string // its comment; the lines of a comment of several are joined by spaces
	Statements []*Statement
}

// Load reads and checks a scenario file. programs are those of a node's image, by
// their paths; without them no program's name is checked. When anything is wrong
// with its content the error is Problems, with all there is to say, and the Script
// is what could be read.
func Load(name string, programs []string) (*Script, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	s, _ := Parse(name, data) // its error is in that of Check
	s.programs = programs
	return s, Check(s)
}

// Parse reads the content of a scenario file; name is for messages only. When
// something cannot be read the error is Problems, and the Script is the rest.
// Whether the commands make sense is for Check, which repeats these problems.
func Parse(name string, data []byte) (*Script, error) {
	s := &Script{File: name}
	script, fixtures, no := split(data)
	if no != nil {
		s.refused = true
		s.problem(no.line, &no.fault)
		return s, s.problems.err()
	}
	taken := places{files: map[string]int{}, folders: map[string]int{}}
	for _, fx := range fixtures {
		if f := taken.add(fx); f != nil {
			s.problem(fx.Line, f)
			continue
		}
		s.Fixtures = append(s.Fixtures, fx)
	}
	lines := strings.Split(string(script), "\n")
	s.lines = lines
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "#") {
			first := i
			var title []string
			for ; i < len(lines) && strings.HasPrefix(lines[i], "#"); i++ {
				title = append(title, strings.Trim(lines[i], "# \t\r"))
			}
			i--
			s.Sections = append(s.Sections, Section{Line: first + 1, Title: strings.TrimSpace(strings.Join(title, " "))})
			continue
		}
		st, f := parseStatement(name, i+1, lines[i])
		if f != nil {
			s.problem(i+1, f)
		}
		if st != nil {
			if len(s.Sections) == 0 {
				s.Sections = append(s.Sections, Section{Line: st.Line})
			}
			last := &s.Sections[len(s.Sections)-1]
			last.Statements = append(last.Statements, st)
		}
	}
	return s, s.problems.err()
}

func (s *Script) problem(line int, f *fault) {
	s.problems = append(s.problems, Problem{File: s.File, Line: line, Reason: f.reason, Next: f.next})
}

// Title returns the title of the first section: what the scenario is about.
func (s *Script) Title() string {
	for _, sec := range s.Sections {
		if sec.Title != "" {
			return sec.Title
		}
	}
	return ""
}

// Nodes returns the names of all nodes of the scenario in the order of their
// addresses: A, B, and those its `node` statements declare.
func (s *Script) Nodes() []string {
	nodes := slices.Clone(standardNodes)
	for _, sec := range s.Sections {
		for _, st := range sec.Statements {
			if st.name != "node" || len(st.args) != 1 {
				continue
			}
			if name, ok := st.args[0].constant(); ok && ValidNode(name) && !slices.Contains(nodes, name) {
				nodes = append(nodes, name)
			}
		}
	}
	return nodes
}

// Lingers reports whether the script waits on purpose, however fast the machines are: it has a `sleep`, on the host or as a
// node's program; a marker that must not come, which is awaited for its whole time; a fault, whose effects take the seconds that
// the wire contract gives them; or an attack, which does.
func (s *Script) Lingers() bool {
	for _, sec := range s.Sections {
		for _, st := range sec.Statements {
			switch {
			case slices.Contains(lingering, st.name), st.name == "marker" && st.not:
				return true
			case st.name == "exec" && slices.ContainsFunc(st.args, func(w word) bool {
				text, ok := w.bare()
				return ok && (text == "sleep" || text == "hostile")
			}):
				return true
			}
		}
	}
	return false
}

// lingering are the commands after which scenarios wait on purpose.
var lingering = []string{"sleep", "link", "block", "partition", "pause", "crash", "reset"}

// NodeFixtures returns the fixtures that belong on a node. Their names are
// absolute paths on it.
func (s *Script) NodeFixtures(node string) []Fixture {
	var out []Fixture
	for _, fx := range s.Fixtures {
		if name, ok := strings.CutPrefix(fx.Name, node+"/"); ok {
			fx.Name = "/" + name
			out = append(out, fx)
		}
	}
	return out
}

// extract writes all fixtures into the work folder under their names.
func (s *Script) extract(work *os.Root) error {
	for _, fx := range s.Fixtures {
		if err := work.MkdirAll(path.Dir(fx.Name), 0o755); err != nil {
			return fmt.Errorf("place fixture %s: %w", fx.Name, err)
		}
		if err := work.WriteFile(fx.Name, fx.Data, 0o644); err != nil {
			return fmt.Errorf("place fixture %s: %w", fx.Name, err)
		}
	}
	return nil
}
