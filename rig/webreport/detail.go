package webreport

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/record"
)

// Limits of what is embedded of one scenario. Everything is in the record, and the page says what it leaves out.
const (
	mostEvents = 3000 // the first ones are its start, the last ones its end
	firstOnes  = 300
	eventBytes = 4000 // of one event's text

	mostTicks = 20000
)

// detail is what the script shows of one scenario when it is opened. Times are seconds since the scenario's start.
type detail struct {
	Name    string      `json:"name"`
	Result  string      `json:"result"`
	Seconds float64     `json:"seconds"`
	Fail    int         `json:"fail,omitempty"` // line of the script that failed
	Source  source      `json:"source"`
	Steps   []step      `json:"steps"`
	Events  []event     `json:"events"`
	Left    int         `json:"left,omitempty"` // events left out
	File    string      `json:"file"`           // link to all events
	Phases  []phase     `json:"phases,omitempty"`
	Faults  []fault     `json:"faults,omitempty"`
	Held    []held      `json:"held,omitempty"`
	Nodes   []node      `json:"nodes"`
	Ticks   []tick      `json:"ticks,omitempty"`
	NoTicks int         `json:"noTicks,omitempty"` // ticks left out
	Budgets []budgetRow `json:"budgets,omitempty"`
}

type step struct {
	Step    int     `json:"step"`
	Line    int     `json:"line"`
	Text    string  `json:"text"`
	T       float64 `json:"t"`
	Seconds float64 `json:"s"`
	State   string  `json:"state"` // passed; failed; allowed: it failed as it was asked or allowed to; cut: the scenario ended while it ran
	Error   string  `json:"error,omitempty"`
	Typed   bool    `json:"typed,omitempty"`
}

// event is a line of the list under a line of the script.
type event struct {
	T    float64 `json:"t"`
	Kind string  `json:"kind"`
	Step int     `json:"step,omitempty"`
	Node string  `json:"node,omitempty"`
	Text string  `json:"text"`
}

type phase struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// fault is one that was asked for, from then until it was healed or the scenario ended.
type fault struct {
	Name     string  `json:"name"`
	Node     string  `json:"node,omitempty"`
	Text     string  `json:"text"`
	Asked    float64 `json:"asked"`
	Injected float64 `json:"injected"`       // -1: never
	Healed   float64 `json:"healed"`         // -1: it was in force at the end
	Once     bool    `json:"once,omitempty"` // it happens once and nothing takes it back; Healed is when it was over
	Count    uint64  `json:"count"`          // what it touched
	At       string  `json:"at,omitempty"`   // the node at which it stops packets; of a partition, which parts all: none
	May      bool    `json:"may,omitempty"`  // it stops some packets: which ones, the record does not say
}

type held struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Why  string  `json:"why"`
	How  string  `json:"how"`
	Line int     `json:"line,omitempty"`
	Text string  `json:"text,omitempty"`
}

type node struct {
	Name   string   `json:"name"`
	States []state  `json:"states"`
	Marks  []mark   `json:"marks"`
	Units  []string `json:"units"`
	Lines  []line   `json:"lines"`
	Left   int      `json:"left,omitempty"` // lines left out
	Files  []file   `json:"files"`
	Notes  []string `json:"notes,omitempty"` // what could not be read
}

type state struct {
	T     float64 `json:"t"`
	State string  `json:"state"`
	Text  string  `json:"text,omitempty"`
}

type mark struct {
	T    float64 `json:"t"`
	Unit string  `json:"unit"`
	Text string  `json:"text"`
	Step int     `json:"step,omitempty"`
}

type file struct {
	Name string `json:"name"`
	Href string `json:"href"`
}

// tick is a packet. Captures have packets as they were sent, so those that a
// fault has stopped are among them.
type tick struct {
	Tick
	F    string `json:"from"`
	O    string `json:"to"`
	Cuts []int  `json:"cuts,omitempty"` // places in Faults of those that stop it, or may
}

type budgetRow struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Limit   float64 `json:"limit"`
}

func newDetail(dir string, c *record.ScenarioSummary, events []record.Event, o Options, links links) *detail {
	d := &detail{
		Name: label(c.Name), Result: class(c.Result), Seconds: c.Seconds, File: links.to(c.Events),
		Steps: []step{}, Events: []event{}, Nodes: []node{},
	}
	if c.Failure != nil {
		d.Fail = c.Failure.Line
	}
	for _, b := range c.Budgets {
		d.Budgets = append(d.Budgets, budgetRow{label(b.Name), b.Seconds, b.Limit})
	}
	b := builder{detail: d, steps: map[int]int{}, nodes: map[string]*node{}}
	for _, n := range c.Nodes {
		b.node(n.Name)
	}
	sections := map[int]string{}
	for _, e := range events {
		if e.Kind == record.KindSection {
			sections[e.Line] = short(e.Text)
		}
		b.add(&e)
	}
	if f := c.Failure; f != nil && c.Result == record.Interrupted {
		for i := range d.Steps {
			if d.Steps[i].Step == f.Step { // it did not fail by itself
				d.Steps[i].State = "cut"
			}
		}
	}
	d.Source = newSource(dir, c, d.Steps, sections, o.Source)
	d.end()
	d.bound()
	lines := greenLines
	if !c.Result.Green() {
		lines = otherLines
	}
	zero := beginning(c, events)
	for _, f := range c.Nodes {
		n := b.nodes[f.Name]
		n.readLines(dir, f, zero, lines)
		for _, p := range []string{f.Journal, f.Console, f.QEMULog, f.QEMUCmd} {
			if there(dir, p) {
				n.Files = append(n.Files, file{label(path.Base(p)), links.to(p)})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		d.Nodes = append(d.Nodes, *b.nodes[name])
	}
	d.addTicks(o.Ticks[c.Name])
	return d
}

// beginning is what a scenario's times count from.
func beginning(c *record.ScenarioSummary, events []record.Event) time.Time {
	if len(events) > 0 { // exactly
		return events[0].Time.Add(-asDuration(events[0].T))
	}
	return c.Started
}

// inside reports whether a path of the record leads to where it may: into the run's folder.
func inside(p string) bool { return filepath.IsLocal(filepath.FromSlash(p)) }

// there reports whether the run's folder has that file; qemu.cmd and others may have been left out of a copy.
func there(dir, p string) bool {
	_, err := record.Inside(dir, p)
	return err == nil
}

// builder makes a detail of events as they come.
type builder struct {
	*detail
	steps map[int]int // a step's number -> its place in Steps
	nodes map[string]*node
}

func (b *builder) node(name string) *node {
	n := b.nodes[name]
	if n == nil {
		n = &node{Name: label(name), States: []state{}, Marks: []mark{}, Units: []string{}, Lines: []line{}, Files: []file{}}
		b.nodes[name] = n
	}
	return n
}

func (b *builder) add(e *record.Event) {
	text := ""
	switch e.Kind {
	case record.KindStepStart:
		b.steps[e.Step] = len(b.Steps)
		b.Steps = append(b.Steps, step{Step: e.Step, Line: e.Line, Text: short(e.Text), T: e.T, Seconds: -1, State: "cut", Typed: e.Typed})
		text = short(e.Text)
	case record.KindStepEnd:
		text = fmt.Sprintf("ok after %.3fs", e.Seconds)
		if i, ok := b.steps[e.Step]; ok {
			s := &b.Steps[i]
			s.Seconds, s.Error, s.State = e.Seconds, bounded(e.Error), "passed"
			switch {
			case e.Error == "":
			case e.Ignored:
				s.State = "allowed"
				text = fmt.Sprintf("failed as it may after %.3fs: %s", e.Seconds, s.Error)
			default:
				s.State = "failed"
				text = fmt.Sprintf("failed after %.3fs: %s", e.Seconds, s.Error)
			}
		}
	case record.KindSection:
		text = short(e.Text)
	case record.KindOutput:
		text = label(e.Stream) + ": " + bounded(e.Text)
		if e.Cut > 0 {
			text += fmt.Sprintf(" (and %d more bytes)", e.Cut)
		}
	case record.KindMarker:
		b.node(e.Node).Marks = append(b.node(e.Node).Marks, mark{e.T, label(e.Unit), short(e.Text), e.Step})
		text = fmt.Sprintf("[%s] %s", label(e.Unit), short(e.Text))
	case record.KindNode:
		if e.Node != "" {
			n := b.node(e.Node)
			n.States = append(n.States, state{e.T, label(e.State), short(e.Text)})
		}
		text = label(e.State)
		if e.Text != "" {
			text += ": " + short(e.Text)
		}
	case record.KindPhase:
		text = fmt.Sprintf("%s took %.3fs", label(e.Name), e.Seconds)
		if e.Node == "" {
			b.Phases = append(b.Phases, phase{label(e.Name), max(0, e.T-e.Seconds), e.T})
		}
	case record.KindFault:
		b.fault(e)
		text = fmt.Sprintf("%s %s %s", label(e.Name), label(e.State), short(e.Text))
		if e.Count > 0 {
			text += fmt.Sprintf(", touched %d", e.Count)
		}
	case record.KindHeld:
		b.Held = append(b.Held, held{From: e.T, To: -1, Why: label(e.Name), Line: e.Line, Text: short(e.Text)})
		text = fmt.Sprintf("stands still: %s, line %d", label(e.Name), e.Line)
	case record.KindReleased:
		if n := len(b.Held); n > 0 && b.Held[n-1].To < 0 {
			b.Held[n-1].To, b.Held[n-1].How = e.T, label(e.Name)
		}
		text = "goes on: " + label(e.Name)
	case record.KindBudget:
		text = fmt.Sprintf("%s took %.3fs of %.3fs", label(e.Name), e.Seconds, e.Limit)
	case record.KindScenarioEnd:
		text = word(e.Result)
		if e.Text != "" {
			text += ": " + short(e.Text)
		}
	default:
		text = bounded(e.Text)
	}
	b.Seconds = max(b.Seconds, e.T)
	b.Events = append(b.Events, event{T: e.T, Kind: label(string(e.Kind)), Step: e.Step, Node: label(e.Node), Text: text})
}

// fault adds what has become of one. The same words on the same node may come again later: then it is another fault.
func (b *builder) fault(e *record.Event) {
	text := short(e.Text)
	// What is injected may say more than what was asked for ("… (by the node itself)"), so the text is no part of what makes two of them one.
	i := -1
	for j := range b.Faults {
		f := &b.Faults[j]
		if f.Healed < 0 && f.Name == label(e.Name) && f.Node == label(e.Node) && (sameFault(f.Text, text)) {
			i = j
		}
	}
	if e.State == record.FaultAsked || i < 0 {
		b.Faults = append(b.Faults, fault{Name: label(e.Name), Node: label(e.Node), Text: text, Asked: e.T, Injected: -1, Healed: -1})
		i = len(b.Faults) - 1
	}
	f := &b.Faults[i]
	f.Count = max(f.Count, e.Count)
	switch e.State {
	case record.FaultInjected:
		f.Injected, f.Text = e.T, text
	case record.FaultObserved:
		if f.Injected < 0 {
			f.Injected = e.T
		}
		// A machine that has booted again, a clock that was set: neither is in force from then on. A crashed one stays down.
		if e.Name == "reset" || e.Name == "clock" {
			f.Healed, f.Once = e.T, true
		}
	case record.FaultHealed:
		f.Healed = e.T
	}
}

func sameFault(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return b[:len(a)] == a
}

// end ends what had not ended.
func (d *detail) end() {
	for i := range d.Steps {
		if s := &d.Steps[i]; s.Seconds < 0 {
			s.Seconds = max(0, d.Seconds-s.T)
		}
	}
	for i := range d.Held {
		if h := &d.Held[i]; h.To < 0 {
			h.To, h.How = d.Seconds, "nothing: the scenario ended"
		}
	}
}

// bound leaves out events of a scenario that has very many.
func (d *detail) bound() {
	if d.Left = len(d.Events) - mostEvents; d.Left <= 0 {
		d.Left = 0
		return
	}
	d.Events = slices.Delete(d.Events, firstOnes, firstOnes+d.Left)
}

func (d *detail) addTicks(ticks []Tick) {
	ticks = slices.Clone(ticks)
	slices.SortStableFunc(ticks, func(a, b Tick) int { return cmp.Compare(a.T, b.T) })
	if d.NoTicks = len(ticks) - mostTicks; d.NoTicks > 0 {
		ticks = ticks[d.NoTicks:]
	} else {
		d.NoTicks = 0
	}
	for _, t := range ticks {
		t.Kind, t.Text = short(t.Kind), short(t.Text)
		d.Ticks = append(d.Ticks, tick{t, label(t.From), label(t.To), d.cuts(&t)})
	}
}

// cuts returns the places in Faults of those that stop a packet on its way, or
// may, and notes in these where they do.
func (d *detail) cuts(t *Tick) (cuts []int) {
	from, to := label(t.From), label(t.To)
	everybody := to == "" || to == decode.All
	for i := range d.Faults {
		f := &d.Faults[i]
		if f.Injected < 0 || t.T < f.Injected || f.Healed >= 0 && t.T >= f.Healed {
			continue
		}
		var stops bool
		switch words := strings.Fields(f.Text); {
		case f.Name == "partition":
			stops = true
		case f.Name == "link" && f.Text == "down":
			f.At, stops = f.Node, from == f.Node || to == f.Node || everybody
		case f.Name == "link" && strings.Contains(f.Text, "loss="):
			f.At, f.May, stops = f.Node, true, from == f.Node
		case f.Name == "block" && len(words) >= 2:
			// It may be for one port only, or for the first few frames.
			f.At, f.May, stops = words[1], true, from == words[0] && (to == words[1] || everybody)
		}
		if stops {
			cuts = append(cuts, i)
		}
	}
	return cuts
}

// bounded is clean text of an event's length.
func bounded(s string) string {
	s, left := clip(strings.TrimRight(s, "\n"), eventBytes)
	s = cleanLines(s)
	if left > 0 {
		s += fmt.Sprintf("\n… (%d more bytes)", left)
	}
	return s
}
