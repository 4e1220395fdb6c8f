package record

import (
	"io/fs"
	"slices"
	"sync"
	"time"
)

// A Summary is a run in one object: summary.json.
type Summary struct {
	Schema    int               `json:"schema"`
	Name      string            `json:"name"`
	Result    Result            `json:"result"`
	Exit      int               `json:"exit"` // exit status of the run
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"seconds"`
	Planned   int               `json:"planned"`              // scenarios the run was to have
	NotPlayed int               `json:"not_played,omitempty"` // those of them that never began, and are not listed
	Seed      *uint64           `json:"seed,omitempty"`       // what the order was shuffled by
	Shard     *Shard            `json:"shard,omitempty"`      // which part of the selected scenarios the run has; nil: all
	Counts    map[Result]int    `json:"counts"`               // scenarios by result; further tries of one that failed are none of their own
	Host      Host              `json:"host"`
	Failure   *Failure          `json:"failure,omitempty"` // what ended the run beside its scenarios
	Warnings  []string          `json:"warnings,omitempty"`
	Scenarios []ScenarioSummary `json:"scenarios"` // in the planned order; without a plan, in the order in which they started
}

// A ScenarioSummary is what became of one scenario. Paths are relative to the run's folder and separated by slashes.
type ScenarioSummary struct {
	Name     string      `json:"name"`
	Of       string      `json:"of,omitempty"`       // the scenario's own name, when this is a further playing of it
	RetryOf  string      `json:"retry_of,omitempty"` // the playing that failed, when this is a further try of it: its result then counts there
	Failed   int         `json:"failed,omitempty"`   // of a scenario that was tried again: how many tries failed
	Played   int         `json:"played,omitempty"`   // of a scenario that was tried again: how many tries there were, this one included
	Recorded string      `json:"recorded,omitempty"` // of a scenario that failed, and was played again to be recorded: as what it failed again; none: it did not
	Tries    int         `json:"tries,omitempty"`    // of such a scenario: how often it was played for that
	File     string      `json:"file,omitempty"`
	Result   Result      `json:"result"`
	Message  string      `json:"message,omitempty"` // why it was skipped, say
	Failure  *Failure    `json:"failure,omitempty"`
	Started  time.Time   `json:"started"`
	Seconds  float64     `json:"seconds"`
	Phases   []Phase     `json:"phases,omitempty"` // in the order in which they first ended; a phase that comes twice is added up
	Steps    []Step      `json:"steps,omitempty"`
	Budgets  []Budget    `json:"budgets,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Dir      string      `json:"dir"`
	Events   string      `json:"events"`
	Work     string      `json:"work"`
	Nodes    []NodeFiles `json:"nodes,omitempty"` // in the order in which they first started
}

// A Phase is a part of a scenario's time.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// A Step is one command of the script as it ran.
type Step struct {
	Step    int     `json:"step"`              // number, from 1
	Line    int     `json:"line"`              // line in the scenario's file, from 1
	Section string  `json:"section,omitempty"` // the comment line above it
	Text    string  `json:"text"`
	Seconds float64 `json:"seconds"`
	Ended   bool    `json:"ended"` // false: the scenario ended while the step ran
	Error   string  `json:"error,omitempty"`
	Ignored bool    `json:"ignored,omitempty"` // the step was allowed or asked to fail, so Error does not count
}

// A Budget is a limit on the time of some steps, and what they took.
type Budget struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Limit   float64 `json:"limit"` // seconds
}

// A builder makes a Summary of events as they come.
type builder struct {
	mu        sync.Mutex
	run       Summary
	scenarios []*progress
	byName    map[string]*progress
	places    map[string]int // in the plan, from 1
	last      time.Time
}

// progress is a scenario that a builder has heard of.
type progress struct {
	ScenarioSummary
	section string
	steps   map[int]int // step number -> index in Steps
	last    float64     // T of its last event
}

func newBuilder(name string) *builder {
	return &builder{run: Summary{Schema: Schema, Name: name}, byName: make(map[string]*progress), places: make(map[string]int)}
}

func (b *builder) add(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.run.Started.IsZero() {
		b.run.Started = e.Time
	}
	b.last = e.Time
	if e.Host != nil {
		b.run.Host = *e.Host
	}
	if e.Scenario != "" {
		b.scenario(e.Scenario, e).add(e)
		return
	}
	switch e.Kind {
	case KindRunStart:
		b.run.Started, b.run.Planned, b.run.Seed, b.run.Shard = e.Time, e.Total, e.Seed, e.Shard
		if e.Name != "" {
			b.run.Name = e.Name
		}
	case KindPlan:
		for _, name := range e.Plan {
			if b.places[name] == 0 {
				b.places[name] = len(b.places) + 1
			}
		}
	case KindWarning:
		b.run.Warnings = append(b.run.Warnings, e.Text)
	case KindRunEnd:
		b.run.Failure, b.run.Seconds = e.Failure, e.Seconds
	}
}

func (b *builder) fail(why *Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run.Failure = bounded(Event{Failure: why}).Failure
}

func (b *builder) scenario(name string, e Event) *progress {
	if p := b.byName[name]; p != nil {
		return p
	}
	p := &progress{ScenarioSummary: ScenarioSummary{Name: name, Started: e.Time}, steps: make(map[int]int)}
	p.in(ScenarioDir(name)) // as records of earlier versions have it
	b.byName[name] = p
	b.scenarios = append(b.scenarios, p)
	return p
}

// in says which folder is the scenario's.
func (c *ScenarioSummary) in(dir string) {
	c.Dir, c.Events, c.Work = dir, dir+"/"+EventsFile, dir+"/"+workDir
}

func (p *progress) add(e Event) {
	p.last = e.T
	switch e.Kind {
	case KindScenarioStart:
		p.File, p.Of, p.RetryOf, p.Started = e.File, e.Of, e.RetryOf, e.Time
		if e.Dir != "." && fs.ValidPath(e.Dir) {
			p.in(e.Dir)
		}
	case KindPhase:
		if e.Node != "" {
			break // a part of one node's start: the events have it
		}
		i := slices.IndexFunc(p.Phases, func(ph Phase) bool { return ph.Name == e.Name })
		if i < 0 {
			p.Phases = append(p.Phases, Phase{Name: e.Name, Seconds: e.Seconds})
			break
		}
		p.Phases[i].Seconds = Seconds(duration(p.Phases[i].Seconds) + duration(e.Seconds))
	case KindSection:
		p.section = e.Text
	case KindStepStart:
		p.steps[e.Step] = len(p.Steps)
		p.Steps = append(p.Steps, Step{Step: e.Step, Line: e.Line, Section: p.section, Text: e.Text})
	case KindStepEnd:
		if i, ok := p.steps[e.Step]; ok {
			s := &p.Steps[i]
			s.Ended, s.Seconds, s.Error, s.Ignored = true, e.Seconds, e.Error, e.Ignored
		}
	case KindBudget:
		p.Budgets = append(p.Budgets, Budget{Name: e.Name, Seconds: e.Seconds, Limit: e.Limit})
	case KindNode:
		if e.Node != "" && !slices.ContainsFunc(p.Nodes, func(n NodeFiles) bool { return n.Name == e.Node }) {
			p.Nodes = append(p.Nodes, nodeFiles(p.Dir, e.Node))
		}
	case KindWarning:
		p.Warnings = append(p.Warnings, e.Text)
	case KindScenarioEnd:
		p.Result, p.Seconds, p.Failure, p.Message = e.Result, e.Seconds, e.Failure, e.Text
	case KindVerdict:
		p.Result, p.Failed, p.Played = e.Result, e.Failed, e.Played
		if e.Failure != nil {
			p.Failure = e.Failure
		}
	case KindRecorded:
		p.Recorded, p.Tries = e.Name, e.Played
	}
}

// summary returns what has been added so far.
func (b *builder) summary() Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.run
	s.Warnings = slices.Clone(s.Warnings)
	s.Counts = make(map[Result]int)
	s.Scenarios = make([]ScenarioSummary, 0, len(b.scenarios))
	if s.Seconds == 0 {
		s.Seconds = Seconds(b.last.Sub(s.Started))
	}
	var results []Result
	var deciding Reason
	for _, p := range b.inOrder() {
		c := p.ScenarioSummary
		if c.Result == "" {
			c.Result, c.Seconds = Interrupted, p.last
			c.Failure = &Failure{Reason: Stopped, File: c.File, Message: "the run ended before this scenario did"}
			if n := len(c.Steps); n > 0 && !c.Steps[n-1].Ended {
				c.Failure.Step, c.Failure.Line, c.Failure.Text = c.Steps[n-1].Step, c.Steps[n-1].Line, c.Steps[n-1].Text
			}
		}
		c.Phases, c.Steps = slices.Clone(c.Phases), slices.Clone(c.Steps)
		c.Budgets, c.Nodes, c.Warnings = slices.Clone(c.Budgets), slices.Clone(c.Nodes), slices.Clone(c.Warnings)
		s.Scenarios = append(s.Scenarios, c)
		if c.RetryOf != "" {
			continue // its scenario has the verdict
		}
		s.Counts[c.Result]++
		results = append(results, c.Result)
	}
	// A run without an end in sight plans no more than its first round.
	s.Planned = max(s.Planned, len(results))
	s.NotPlayed = s.Planned - len(results)
	if s.Failure != nil {
		results = append(results, s.Failure.Reason.Info().Result)
	}
	s.Result = Worst(results...)
	if s.Result.Green() && (s.NotPlayed > 0 || len(results) == 0) {
		s.Result = Interrupted // nobody knows what the others would have come to
	}
	// Of several reasons for the same result the first decides the exit status; what ended the run itself goes before.
	if s.Failure != nil && s.Failure.Reason.Info().Result == s.Result {
		deciding = s.Failure.Reason
	} else if i := slices.IndexFunc(s.Scenarios, func(c ScenarioSummary) bool {
		return c.Result == s.Result && c.Failure != nil && c.RetryOf == ""
	}); i >= 0 {
		deciding = s.Scenarios[i].Failure.Reason
	}
	s.Exit = ExitStatus(s.Result, deciding)
	return s
}

// inOrder returns the scenarios in the planned order, each with its further tries behind it, and then those that no plan names, as they started.
func (b *builder) inOrder() []*progress {
	place := func(p *progress) int {
		name := p.Name
		if p.RetryOf != "" {
			name = p.RetryOf
		}
		if n := b.places[name]; n > 0 {
			return n
		}
		return len(b.places) + 1
	}
	sorted := slices.Clone(b.scenarios)
	slices.SortStableFunc(sorted, func(x, y *progress) int { return place(x) - place(y) })
	return sorted
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
