package webreport

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dsoftbus-rig/rig/record"
)

func TestConsoleTimes(t *testing.T) {
	lines := func(s ...string) (l []raw) {
		for _, text := range s {
			l = append(l, raw{text: text})
		}
		return l
	}
	for _, c := range []struct {
		name   string
		lines  []raw
		clocks []clock
		start  float64
		want   []float64
	}{
		{"by the journal's entry before it", lines("[    4.500000] a", "no clock", "[   10.000000] b"), []clock{{mono: 4, t: 0.2}, {mono: 9, t: 7.2}}, 0, []float64{0.7, 0.7, 8.2}},
		{"before the first one", lines("Welcome", "[    1.000000] a"), []clock{{mono: 3, t: 5}}, 0, []float64{3, 3}},
		{"after a reset", lines("[    9.000000] a", "[    1.000000] b"), []clock{{mono: 9, t: 4}, {boot: true}, {mono: 2, t: 12}}, 0, []float64{4, 11}},
		{"without a journal", lines("x", "[    2.000000] a"), nil, 1.5, []float64{3.5, 3.5}},
		{"without anything", lines("x", "y"), nil, 1.5, []float64{1.5, 1.5}},
		{"never back in time", lines("[    2.000000] a", "[    1.500000] b"), []clock{{mono: 1, t: 1}}, 0, []float64{2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, consoleTimes(c.lines, c.clocks, c.start), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastLines(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", mostRawLine+17)
	for name, c := range map[string]struct {
		content string
		want    []raw
		left    int
	}{
		"few":   {"a\r\nb\n", []raw{{"a", 0}, {"b", 0}}, 0},
		"many":  {"1\n2\n3\n4\n5\n", []raw{{"3", 0}, {"4", 0}, {"5", 0}}, 2},
		"cut":   {"a\nwithout an end", []raw{{"a", 0}, {"without an end", 0}}, 0},
		"long":  {long + "\nb\n", []raw{{long[:mostRawLine], 18}, {"b", 0}}, 0},
		"empty": {"", nil, 0},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		lines, left, err := lastLines(dir, name, 3)
		if err != nil || left != c.left {
			t.Errorf("%s: %d left, error %v", name, left, err)
		}
		if diff := cmp.Diff(c.want, lines, cmp.AllowUnexported(raw{})); diff != "" && len(diff) < 2000 {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		} else if diff != "" {
			t.Errorf("%s: other lines than expected", name)
		}
	}
}

// A link in a record from elsewhere does not lead to this host's files.
func TestLinksOutOfTheRun(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret.txtar")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "journal.jsonl")); err != nil {
		t.Fatal(err)
	}
	if lines, _, err := lastLines(dir, "journal.jsonl", 3); err == nil {
		t.Errorf("read %v through a link that leads out of the folder", lines)
	}
	// Nor does a name; and a scenario's file is only shown if it is what was played.
	s := newSource(dir, &record.ScenarioSummary{File: secret, Dir: "../.."}, []step{{Line: 1, Text: "up"}}, nil, "")
	if diff := cmp.Diff([]src{{1, "up"}}, s.Lines); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
}

func TestSource(t *testing.T) {
	dir, project := t.TempDir(), t.TempDir()
	file := filepath.Join(project, "scenarios", "area", "a.txtar")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("# One.\nup\n\nexec A true # said\nmarker A x\n\n-- A/f --\nup\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &record.ScenarioSummary{Name: "area/a", File: "../scenarios/area/a.txtar", Dir: "a"}
	whole := []src{{1, "# One."}, {2, "up"}, {3, ""}, {4, "exec A true # said"}, {5, "marker A x"}}
	steps := []step{{Line: 2, Text: "up"}, {Line: 4, Text: "exec A true"}, {Line: 1, Text: "link B up", Typed: true}}
	for _, tc := range []struct {
		name, root string
		steps      []step
		note       string
		want       []src
	}{
		{"the file", project, steps, "every line that ran stands in it", whole},
		{"another file by now", project, []step{{Line: 2, Text: "down"}}, "another one by now", []src{{1, "# One."}, {2, "down"}}},
		{"no file", "", steps, "only the lines that ran", []src{{1, "# One."}, {2, "up"}, {4, "exec A true"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSource(dir, c, tc.steps, map[int]string{1: "One."}, tc.root)
			if !strings.Contains(s.Note, tc.note) {
				t.Errorf("note %q, want %q in it", s.Note, tc.note)
			}
			if diff := cmp.Diff(tc.want, s.Lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// A record of a stranger does not decide which file of this host is shown.
func TestSourceOfAStranger(t *testing.T) {
	project, elsewhere := t.TempDir(), t.TempDir()
	private := filepath.Join(elsewhere, "scenarios", "area", "x.txtar")
	for _, file := range []string{private, filepath.Join(project, "notes.txtar"), filepath.Join(project, "scenarios", "area", "x.txtar")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("# private\nup\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(private, filepath.Join(project, "scenarios", "area", "link.txtar")); err != nil {
		t.Fatal(err)
	}
	up := []step{{Line: 2, Text: "up"}}
	for _, tc := range []struct {
		name, file string
		steps      []step
	}{
		{"area/y", private, up},
		{"../" + filepath.Base(elsewhere) + "/scenarios/area/x", private, up},
		{"area/y", filepath.Join(project, "notes.txtar"), up},
		{"../notes", "scenarios/../notes.txtar", up},
		{"area/link", "scenarios/area/link.txtar", up},
		{"area/x", "scenarios/area/x.txtar", nil},
		{"area/x", "scenarios/area/x.txtar", []step{{Line: 1}}},
		{"area/x", "scenarios/area/x.txtar", []step{{Line: 2, Text: "up", Typed: true}}},
	} {
		s := newSource(t.TempDir(), &record.ScenarioSummary{Name: tc.name, File: tc.file, Dir: "a"}, tc.steps, nil, project)
		for _, line := range s.Lines {
			if strings.Contains(line.Text, "private") {
				t.Errorf("%s, %s, %v: the page has %q", tc.name, tc.file, tc.steps, line.Text)
			}
		}
	}
}

func TestHistory(t *testing.T) {
	passed := &record.ScenarioSummary{Result: record.Passed, Seconds: 3}
	for _, c := range []struct {
		before []float64
		c      *record.ScenarioSummary
		text   string
	}{
		{[]float64{1, 2, 1.5}, passed, "median of 3: 1.5s, now +100%"},
		{[]float64{2.9, 3, 3.1}, passed, "median of 3: 3.0s, now +0%"},
		{[]float64{0}, passed, "median of 1: 0.0s"},
		{[]float64{1}, &record.ScenarioSummary{Result: record.Failed, Seconds: 3}, "median of 1: 1.0s"},
	} {
		h := newHistory(c.before, c.c)
		if h == nil || h.Text != c.text {
			t.Errorf("history %v: %+v, want %q", c.before, h, c.text)
		}
	}
	if h := newHistory(nil, passed); h != nil {
		t.Errorf("without a history: %+v", h)
	}
}

// Of very many lines and events the last ones are there, and how many are not.
func TestBounds(t *testing.T) {
	d := &detail{}
	for i := range mostEvents + 50 {
		d.Events = append(d.Events, event{T: float64(i)})
	}
	d.bound()
	if len(d.Events) != mostEvents || d.Left != 50 || d.Events[firstOnes-1].T != firstOnes-1 || d.Events[firstOnes].T != firstOnes+50 || d.Events[mostEvents-1].T != mostEvents+49 {
		t.Errorf("%d events, %d left out", len(d.Events), d.Left)
	}
	n := &node{}
	dir := t.TempDir()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `{"time":"2026-01-02T03:04:%02d.%02dZ","seq":%d,"mono_ns":%d,"unit":"u","stream":"stdout","text":"line %d"}`+"\n", 5+i/50, i%50*2, i+1, i*1000, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "j"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	n.readLines(dir, record.NodeFiles{Journal: "j", Console: "missing"}, record.Event{}.Time, 10)
	if len(n.Lines) != 10 || n.Left != 90 || n.Lines[9].Text != "line 99" || len(n.Notes) != 1 {
		t.Errorf("%d lines, %d left out, last %+v, notes %q", len(n.Lines), n.Left, n.Lines, n.Notes)
	}
}

// What was done to nodes and network, as its events tell it, becomes one band each.
func TestFaults(t *testing.T) {
	b := builder{detail: &detail{}, nodes: map[string]*node{}, steps: map[int]int{}}
	for i, e := range []record.Event{
		{Name: "link", Node: "B", Text: "delay=20ms", State: record.FaultAsked},
		{Name: "link", Node: "A", Text: "delay=20ms", State: record.FaultAsked},
		{Name: "link", Node: "B", Text: "delay=20ms (by the node itself)", State: record.FaultInjected},
		{Name: "link", Node: "B", Text: "delay=20ms (by the node itself)", State: record.FaultObserved, Count: 9},
		{Name: "link", Node: "B", Text: "delay=20ms (by the node itself)", State: record.FaultHealed, Count: 10},
		{Name: "reset", Node: "B", State: record.FaultAsked},
		{Name: "reset", Node: "B", State: record.FaultInjected},
		{Name: "reset", Node: "B", State: record.FaultObserved, Count: 1},
		{Name: "link", Node: "B", Text: "delay=20ms", State: record.FaultAsked},
		{Name: "crash", Node: "B", State: record.FaultAsked},
		{Name: "crash", Node: "B", State: record.FaultObserved, Count: 1},
	} {
		e.Kind, e.T = record.KindFault, float64(i)
		b.add(&e)
	}
	want := []fault{
		{Name: "link", Node: "B", Text: "delay=20ms (by the node itself)", Asked: 0, Injected: 2, Healed: 4, Count: 10},
		{Name: "link", Node: "A", Text: "delay=20ms", Asked: 1, Injected: -1, Healed: -1},
		{Name: "reset", Node: "B", Asked: 5, Injected: 6, Healed: 7, Once: true, Count: 1},
		{Name: "link", Node: "B", Text: "delay=20ms", Asked: 8, Injected: -1, Healed: -1},
		{Name: "crash", Node: "B", Asked: 9, Injected: 10, Healed: -1, Count: 1},
	}
	if diff := cmp.Diff(want, b.Faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestLinksStayRelative(t *testing.T) {
	l := newLinks("/out", "/out/runs/x")
	for path, want := range map[string]string{
		"a/A/journal.jsonl": "./runs/x/a/A/journal.jsonl",
		"javascript:x":      "./runs/x/javascript:x",
		"//host/x?y#z":      "./runs/x///host/x%3Fy%23z",
	} {
		if got := l.to(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
