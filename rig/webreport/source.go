package webreport

import (
	"bytes"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/record"
)

// A source is the script of a scenario, as far as it is known.
type source struct {
	File  string `json:"file"`
	Note  string `json:"note"` // where the lines are from
	Lines []src  `json:"lines"`
}

// A src is one line of it.
type src struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

// scenarios is the folder of the project's own scenarios.
const scenarios = "scenarios"

// mostSource is how much of a file is looked at; scenarios are a few KiB.
const mostSource = 256 << 10

// newSource returns the script of a scenario: the file that the run's folder has, or the scenario's own file if what ran stands in it, or what the
// steps' texts give. root is the project's folder.
func newSource(dir string, c *record.ScenarioSummary, steps []step, sections map[int]string, root string) source {
	s := source{File: label(c.File)}
	name := path.Base(filepath.ToSlash(c.File))
	for _, p := range []string{path.Join(c.Dir, name), name} {
		if !isScenario(p) || !inside(p) {
			continue
		}
		if lines, ok := readScript(os.OpenInRoot(dir, filepath.FromSlash(p))); ok && agrees(lines, steps) {
			s.Note, s.Lines = "from the run's folder: "+label(p), lines
			return s
		}
	}
	if file := projectScenario(c, root); file != "" {
		if lines, ok := readScript(os.OpenInRoot(root, file)); ok {
			if agrees(lines, steps) {
				s.Note, s.Lines = "from the scenario's file as it was when this page was made; every line that ran stands in it", lines
				return s
			}
			s.Note = "the scenario's file is another one by now; "
		}
	}
	s.Note += "only the lines that ran, from the record: lines behind the last one are not known"
	seen := map[int]bool{}
	for n, text := range sections {
		s.Lines = append(s.Lines, src{n, "# " + text})
		seen[n] = true
	}
	for _, st := range steps {
		if !st.Typed && !seen[st.Line] {
			s.Lines = append(s.Lines, src{st.Line, st.Text})
			seen[st.Line] = true
		}
	}
	slices.SortFunc(s.Lines, func(a, b src) int { return a.N - b.N })
	return s
}

// projectScenario returns the file, relative to the project's folder root, that
// the project has for a scenario of this name, and "" where the record names
// another one. The record decides nothing: the file's place follows from the
// name, and a name that leads elsewhere is refused.
func projectScenario(c *record.ScenarioSummary, root string) string {
	file := filepath.Join(scenarios, filepath.FromSlash(own(c))+".txtar")
	if root == "" || !filepath.IsLocal(filepath.FromSlash(own(c))) {
		return ""
	}
	if named := "/" + filepath.ToSlash(c.File); !strings.HasSuffix(named, "/"+filepath.ToSlash(file)) {
		return ""
	}
	return file
}

func isScenario(p string) bool { return strings.HasSuffix(p, ".txtar") }

// readScript returns the lines of a scenario's script, without the files below it, and closes the file.
func readScript(f *os.File, err error) ([]src, bool) {
	if err != nil {
		return nil, false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(f, mostSource))
	if err != nil {
		return nil, false
	}
	var lines []src
	for raw := range bytes.Lines(data) {
		text := strings.TrimRight(string(raw), "\r\n")
		if strings.HasPrefix(text, "-- ") && strings.HasSuffix(text, " --") {
			break
		}
		lines = append(lines, src{len(lines) + 1, short(text)})
	}
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1].Text) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines, true
}

// agrees reports whether every step stands where the record says, and there is
// one: without, any file would agree.
func agrees(lines []src, steps []step) bool {
	agreed := false
	for _, s := range steps {
		if s.Typed {
			continue
		}
		if s.Text == "" || s.Line < 1 || s.Line > len(lines) || !strings.Contains(lines[s.Line-1].Text, s.Text) {
			return false
		}
		agreed = true
	}
	return agreed
}
