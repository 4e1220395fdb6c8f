package webreport

import (
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
)

// Lengths of a failure as it is shown at once; the rest is a click away in the lines of the nodes, or in the record.
const (
	tailLines    = 12
	messageLines = 30
	labelBytes   = 300  // of a name
	lineBytes    = 2000 // of one line that came from a machine or a program
)

// view is what page.html shows without a script.
type view struct {
	Policy string

	Style, Script, Data template.HTML

	Name, Result, Word string
	Started, Seconds   string
	Host, Folder       string
	Incomplete         bool
	NotPlayed          int
	Counts             []count
	Failure            *failureView
	Warnings           []string
	Groups             []group

	order []int // Rows' places in the summary
}

// A count is how many scenarios had one verdict.
type count struct {
	Result, Word string
	N            int
}

// A group is part of the list: the scenarios to look at, or those of one area
// that went well.
type group struct {
	Area    string // "" of those to look at, and of scenarios without an area
	Green   bool
	Counts  []count
	Seconds string // all together
	Rows    []row
}

// A command is one to copy.
type command struct{ What, Text string }

// A row is one scenario in the list.
type row struct {
	Index              int // its place in the list, from 0
	Name, Result, Word string
	Seconds, Brief     string
	Proves             string // what it is for: the comment above its first step
	Bar                int    // thousandths of the longest
	Open               bool
	Failure            *failureView
	Person             string       // what a person did to have it pass
	Before             *failureView // what had failed when they came
	Message            string
	Warnings           []string
	History            *history
	Notes              []string // what it is beside earlier runs, and what came of recording it
	Slower             bool     // one of them says so
	Folder             string   // link
	FolderName         string
	Capture            string // link; "": there is none
	Commands           []command
}

// failureView is a failure, ready to be shown.
type failureView struct {
	Result, Headline                                              string
	Position, Text, Node, Reason, Meaning, Message, Awaited, Next string
	MoreMessage                                                   int
	Evidence                                                      []string
	Tails                                                         []tail
}

type tail struct {
	Node  string
	Lines []string
	More  int // of the failure's lines, those above that are not shown
}

// history is how long a scenario took in runs before this one.
type history struct {
	Points string // of a polyline, 80 by 20, this run at its end
	X, Y   string // where this run is
	Text   string // "median of 8: 2.1s, now +9%"
}

var words = map[record.Result]string{
	record.Passed: "passed", record.Failed: "failed", record.Flaky: "flaky", record.Repaired: "repaired",
	record.Unproven: "unproven", record.Skipped: "skipped", record.Broken: "broken", record.Interrupted: "interrupted",
}

// class is a result as the name of a CSS class; one of a later version is shown as a failure.
func class(r record.Result) string {
	if w, ok := words[r]; ok {
		return w
	}
	return "failed"
}

// word is what a result is called; one of a later version by its own name.
func word(r record.Result) string {
	if w, ok := words[r]; ok {
		return w
	}
	return label(string(r))
}

func newView(rec *record.Record, events map[string][]record.Event, o Options, links links) *view {
	s := &rec.Summary
	v := &view{
		Name: label(s.Name), Result: class(s.Result), Word: word(s.Result),
		Started: s.Started.UTC().Format("2006-01-02 15:04:05 UTC"), Seconds: seconds(s.Seconds),
		Host: short(s.Host.Line), Folder: label(folderName(rec.Dir)), Incomplete: !rec.Complete, NotPlayed: s.NotPlayed,
		Failure: newFailure(s.Failure, nil), order: inOrder(s.Scenarios),
	}
	for _, w := range slices.Concat(s.Warnings, rec.Warnings) {
		v.Warnings = append(v.Warnings, short(w))
	}
	longest := 0.0
	for _, c := range s.Scenarios {
		longest = max(longest, c.Seconds)
	}
	v.Counts = newCounts(s.Scenarios)
	// What there is only one of to look at is open at once. Of several the list comes first: it says of each where it broke.
	bad := 0
	for _, c := range s.Scenarios {
		if !c.Result.Green() {
			bad++
		}
	}
	for place, i := range v.order {
		c := &s.Scenarios[i]
		if last := len(v.Groups) - 1; last < 0 || v.Groups[last].Green != c.Result.Green() || c.Result.Green() && v.Groups[last].Area != label(area(c)) {
			v.Groups = append(v.Groups, group{Green: c.Result.Green()})
			if c.Result.Green() {
				v.Groups[last+1].Area = label(area(c))
			}
		}
		g := &v.Groups[len(v.Groups)-1]
		zero := beginning(c, events[c.Name])
		r := row{
			Index: place, Proves: proves(c), Commands: commands(rec.Dir, c),
			Name: label(c.Name), Result: class(c.Result), Word: word(c.Result), Seconds: seconds(c.Seconds),
			Failure: newFailure(c.Failure, timesOf(rec.Dir, c, zero)), History: newHistory(o.History[own(c)], c),
			Folder: links.to(c.Dir), FolderName: label(c.Dir),
		}
		for _, n := range o.Notes[own(c)] {
			r.Notes = append(r.Notes, short(n.Text))
			r.Slower = r.Slower || n.Slower
		}
		if c.Tries > 0 {
			r.Notes = append(r.Notes, short(record.RecordedText(c.Recorded, c.Tries, folderName(rec.Dir))))
		}
		if longest > 0 {
			r.Bar = max(4, int(c.Seconds/longest*1000))
		}
		for _, w := range c.Warnings {
			r.Warnings = append(r.Warnings, short(w))
		}
		switch {
		case c.Result == record.Repaired:
			r.Person = short(c.Message)
			r.Brief = "a person stepped in: " + short(firstLine(c.Message))
			for _, e := range events[c.Name] {
				if e.Kind == record.KindHeld && e.Failure != nil {
					r.Before = newFailure(e.Failure, timesOf(rec.Dir, c, zero))
					break
				}
			}
		case c.Failure != nil:
			r.Brief = r.Failure.Headline
			if c.Failure.Line > 0 {
				r.Brief = fmt.Sprintf("line %d: %s", c.Failure.Line, r.Brief)
			}
			r.Message = short(c.Message)
		default:
			r.Message = short(c.Message)
			r.Brief = short(firstLine(c.Message))
		}
		r.Open = bad == 1 && !c.Result.Green() || len(s.Scenarios) == 1
		if capture := path.Join(c.Dir, record.CaptureFile); there(rec.Dir, capture) {
			r.Capture = links.to(capture)
		}
		g.Rows = append(g.Rows, r)
	}
	for i := range v.Groups {
		g := &v.Groups[i]
		var members []record.ScenarioSummary
		total := 0.0
		for _, r := range g.Rows {
			c := s.Scenarios[v.order[r.Index]]
			members = append(members, c)
			total += c.Seconds
		}
		g.Counts, g.Seconds = newCounts(members), seconds(total)
	}
	return v
}

// newCounts counts scenarios by their verdicts, failures first.
func newCounts(all []record.ScenarioSummary) (list []count) {
	counts := map[record.Result]int{}
	for _, c := range all {
		counts[c.Result]++
	}
	for _, r := range []record.Result{record.Failed, record.Broken, record.Flaky, record.Unproven, record.Repaired, record.Interrupted, record.Passed, record.Skipped} {
		if counts[r] > 0 {
			list = append(list, count{class(r), word(r), counts[r]})
			delete(counts, r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, count{class(r), word(r), counts[r]})
	}
	return list
}

// area is the folder that a scenario's name is in, "" without one.
func area(c *record.ScenarioSummary) string {
	if dir := path.Dir(own(c)); dir != "." {
		return dir
	}
	return ""
}

// proves is what a scenario is for, "" if it never began.
func proves(c *record.ScenarioSummary) string {
	if len(c.Steps) == 0 {
		return ""
	}
	return short(c.Steps[0].Section)
}

// commands are what a person may want to do next about a scenario, from the
// project's folder.
func commands(dir string, c *record.ScenarioSummary) (list []command) {
	add := func(what string, words ...string) {
		text := make([]string, len(words))
		for i, w := range words {
			text[i] = machine.Quote(w)
		}
		list = append(list, command{what, strings.Join(text, " ")})
	}
	folder := folderName(dir)
	for _, name := range []string{c.File, c.Name, c.Dir, folder} {
		// What cannot be shown as it is cannot be copied, and an option is none
		// of these.
		if name == "" || label(name) != name || strings.HasPrefix(name, "-") {
			return nil
		}
	}
	add("run it again", "rig", "run", c.File)
	if c.Result.Green() {
		return list
	}
	add("debug it: stand still where it fails", "rig", "run", "-debug", c.File)
	replays := 0
	for _, n := range c.Nodes {
		as := c.Recorded
		if there(dir, path.Join(path.Dir(n.Console), "recording")) {
			as = c.Name
		}
		if as != "" && label(n.Name) == n.Name && label(as) == as {
			add("replay node "+n.Name, "rig", "replay", folder, n.Name, "-scenario", as)
			replays++
		}
	}
	if replays == 0 {
		add("record it, to replay it afterwards", "rig", "run", "-record=fail", c.File)
	}
	if capture := path.Join(c.Dir, record.CaptureFile); there(dir, capture) {
		add("list its packets", "rig", "decode", path.Join("runs", folder, capture))
	}
	return list
}

func folderName(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Base(dir)
}

// newFailure makes a failure ready. times are those of the nodes' lines, as
// timesOf gives them.
func newFailure(f *record.Failure, times map[string]map[string]float64) *failureView {
	if f == nil {
		return nil
	}
	v := &failureView{
		Result: class(f.Reason.Info().Result), Headline: short(firstLine(f.Headline())),
		Position: label(f.Position()), Text: short(f.Text), Node: label(f.Node), Reason: label(string(f.Reason)),
		Meaning: f.Reason.Info().Meaning, Awaited: short(f.Awaited), Next: short(f.NextStep()),
	}
	lines := strings.Split(strings.TrimRight(f.Message, "\n"), "\n")
	if len(lines) > messageLines {
		lines, v.MoreMessage = lines[:messageLines], len(lines)-messageLines
	}
	for i := range lines {
		lines[i] = short(lines[i])
	}
	v.Message = strings.Join(lines, "\n")
	for _, e := range f.Evidence {
		v.Evidence = append(v.Evidence, short(e))
	}
	for _, node := range slices.Sorted(maps.Keys(f.Tail)) {
		t := tail{Node: label(node), More: max(0, len(f.Tail[node])-tailLines)}
		for _, line := range f.Tail[node][t.More:] {
			t.Lines = append(t.Lines, short(inScenarioTime(line, times[node])))
		}
		v.Tails = append(v.Tails, t)
	}
	return v
}

func newHistory(before []float64, c *record.ScenarioSummary) *history {
	before = slices.DeleteFunc(slices.Clone(before), func(s float64) bool { return math.IsNaN(s) || math.IsInf(s, 0) || s < 0 })
	if len(before) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(before))
	median := sorted[len(sorted)/2]
	all := append(before[max(0, len(before)-39):], c.Seconds)
	top := max(slices.Max(all), 0.001)
	h := &history{Text: fmt.Sprintf("median of %d: %s", len(before), seconds(median))}
	var points []string
	for i, s := range all {
		h.X, h.Y = fmt.Sprintf("%.1f", 2+76*float64(i)/float64(len(all)-1)), fmt.Sprintf("%.1f", 18-16*s/top)
		points = append(points, h.X+","+h.Y)
	}
	h.Points = strings.Join(points, " ")
	if median > 0 && c.Result == record.Passed { // what did not pass has ended somewhere else
		h.Text += fmt.Sprintf(", now %+.0f%%", (c.Seconds/median-1)*100)
	}
	return h
}

// links are hrefs from the page to files of the record.
type links struct{ base string }

// newLinks returns links for a page in the folder out to files in the run's folder dir.
func newLinks(out, dir string) links {
	o, err1 := filepath.Abs(out)
	d, err2 := filepath.Abs(dir)
	if err1 != nil || err2 != nil {
		return links{"."}
	}
	rel, err := filepath.Rel(o, d)
	if err != nil {
		return links{"."}
	}
	return links{filepath.ToSlash(rel)}
}

// to returns the link to a file of the record, whose path is relative to the run's folder. It is a relative one, whatever the record says the path
// is: none has a scheme.
func (l links) to(path string) string {
	parts := strings.Split(l.base+"/"+path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "./" + strings.TrimPrefix(strings.Join(parts, "/"), "./")
}

// clean makes text of a machine readable, with nothing in it that hides or turns text; html/template and encoding/json keep it from being markup.
func clean(s string) string { return console.Clean(s) }

// label is clean text of the length of a name: also a name may be one that somebody has made up.
func label(s string) string {
	s, left := clip(s, labelBytes)
	if left > 0 {
		s += "…"
	}
	return clean(s)
}

// short is clean text of one line's length.
func short(s string) string {
	s, left := clip(s, lineBytes)
	s = cleanLines(s)
	if left > 0 {
		s += fmt.Sprintf(" … (%d more bytes)", left)
	}
	return s
}

// cleanLines is clean text whose lines stay lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(strings.TrimSuffix(lines[i], "\r"))
	}
	return strings.Join(lines, "\n")
}

// clip returns the first n bytes of s at most, and how many are left out.
func clip(s string, n int) (string, int) {
	if len(s) <= n {
		return s, 0
	}
	all := len(s)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], all - n
}

// seconds returns a duration for people: "6.2s", "1m12s".
func seconds(s float64) string {
	if s < 59.95 {
		return fmt.Sprintf("%.1fs", s)
	}
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}
