package history

import (
	"fmt"
	"math"
	"slices"
	"time"

	"dsoftbus-rig/rig/record"
)

// When a playing is slower than usual.
const (
	// MinSamples is how many comparable ones that passed it takes to say what is usual: of fewer the spread is chance.
	MinSamples = 8
	// maxSamples is how many are looked at, the newest: what a scenario took long ago, with another script, is not usual any more.
	maxSamples = 50
	// farOut is how many deviations it has to be beyond the median: with a normal distribution, one in millions.
	farOut = 5
	// perMAD makes a standard deviation of a median absolute deviation, for a normal distribution.
	perMAD = 1.4826
	// Where samples hardly differ, a deviation says little: this much of the median, and this long, is never called slow.
	leastPart    = 0.3
	leastSeconds = 0.5
	// alike is how much the slowdown of two hosts may differ for durations to be compared.
	alike = 1.5
)

// recent is how many playings are looked at to call a scenario flaky: what was mended before is over.
const recent = 40

// A Usual is how long a scenario usually takes.
type Usual struct {
	Median  float64 `json:"median_seconds"`
	MAD     float64 `json:"mad_seconds"` // median absolute deviation
	Samples int     `json:"samples"`
}

func (u Usual) String() string {
	return fmt.Sprintf("median %.2fs ± %.2fs (median absolute deviation) of %d", u.Median, u.MAD, u.Samples)
}

// usual returns how long playings that can be compared with p take.
func usual(p Playing, all []Playing) Usual {
	var took []float64
	for _, other := range slices.Backward(all) {
		if len(took) < maxSamples && other.Result == record.Passed && p.comparable(other) {
			took = append(took, other.Seconds)
		}
	}
	if len(took) == 0 {
		return Usual{}
	}
	u := Usual{Median: median(took), Samples: len(took)}
	for i := range took {
		took[i] = math.Abs(took[i] - u.Median)
	}
	u.MAD = median(took)
	return u
}

// median returns the middle of values, which it sorts; of an even number, that between the middle two.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// comparable reports whether two playings of a scenario should take as long as each other.
func (p Playing) comparable(other Playing) bool {
	if p.Cold != other.Cold || p.Accel != other.Accel || p.Jobs != other.Jobs {
		return false
	}
	return p.Slowdown <= other.Slowdown*alike && other.Slowdown <= p.Slowdown*alike
}

// slow reports whether p, which passed, took longer than usual, and what is usual by those before it.
func slow(p Playing, before []Playing) (Usual, bool) {
	u := usual(p, before)
	if p.Result != record.Passed || u.Samples < MinSamples {
		return u, false
	}
	return u, p.Seconds > u.Median+max(farOut*perMAD*u.MAD, leastPart*u.Median, leastSeconds)
}

// decided reports whether a result says something about its scenario.
func decided(r record.Result) bool {
	return r != record.Skipped && r != record.Interrupted && r != record.Repaired
}

// Signs of results in a row.
var signs = map[record.Result]byte{
	record.Passed: '.', record.Failed: 'F', record.Flaky: '~', record.Broken: 'B', record.Unproven: 'U', record.Repaired: 'R',
	record.Skipped: 's', record.Interrupted: 'i',
}

// Legend says what the signs in a Report's row mean.
const Legend = ". passed, F failed, ~ flaky, B broken, U unproven, R repaired, s skipped, i interrupted"

func sign(r record.Result) byte {
	if s, ok := signs[r]; ok {
		return s
	}
	return '?'
}

// A Report is what the results of one scenario amount to.
type Report struct {
	Scenario string                `json:"scenario"`
	Played   int                   `json:"played"`
	Results  map[record.Result]int `json:"results"`
	// Flakes are playings that were flaky, and those that failed at a revision of the project, without changes beyond it, at which the scenario passed
	// as well; Rate is their part of all that were decided.
	Flakes  int       `json:"flakes"`
	Rate    float64   `json:"flake_rate"`
	Usual   *Usual    `json:"usual,omitempty"` // by playings that are comparable with the last one that passed
	Row     string    `json:"row"`             // signs of the last results, the newest last
	Last    []Playing `json:"last"`            // the same, in full
	Failure *Playing  `json:"failure,omitempty"`
	Slow    *Slow     `json:"slow,omitempty"` // the newest took longer than usual
}

// Slow is a playing that took longer than usual.
type Slow struct {
	Seconds float64 `json:"seconds"`
	Usual   Usual   `json:"usual"`
}

func (s Slow) String() string {
	return fmt.Sprintf("took %.2fs, usually %s", s.Seconds, s.Usual)
}

// NewReport makes a report of all playings of a scenario, oldest first, at least one, with the last of them in its row.
func NewReport(all []Playing, last int) Report {
	r := Report{Scenario: all[0].Scenario, Played: len(all), Results: make(map[record.Result]int)}
	passedAt := make(map[string]bool)
	for _, p := range all {
		if p.Result == record.Passed && p.Revision != "" && !p.Dirty {
			passedAt[p.Revision] = true
		}
	}
	sure := 0
	for i, p := range all {
		r.Results[p.Result]++
		if !decided(p.Result) {
			continue
		}
		sure++
		if p.Result != record.Passed {
			r.Failure = &all[i]
		}
		if p.Result == record.Flaky || p.Result != record.Passed && !p.Dirty && passedAt[p.Revision] {
			r.Flakes++
		}
	}
	if sure > 0 {
		r.Rate = float64(r.Flakes) / float64(sure)
	}
	r.Last = all[max(0, len(all)-last):]
	for _, p := range r.Last {
		r.Row += string(sign(p.Result))
	}
	for i, p := range slices.Backward(all) {
		if p.Result != record.Passed {
			continue
		}
		u := usual(p, all[:i+1])
		r.Usual = &u
		if u, ok := slow(p, all[:i]); ok && i == len(all)-1 {
			r.Slow = &Slow{Seconds: p.Seconds, Usual: u}
		}
		break
	}
	return r
}

// A Note is what a run's result is, seen against those before it.
type Note struct {
	Scenario string   `json:"scenario"` // by its own name, whichever playing it was
	Kind     NoteKind `json:"kind"`
	Text     string   `json:"text"` // behind the scenario's name
}

// NoteKind says what a Note is about.
type NoteKind string

const (
	NewFailure   NoteKind = "new-failure"
	StillFailing NoteKind = "still-failing"
	KnownFlaky   NoteKind = "known-flaky"
	Slower       NoteKind = "slower"
)

// Notes compares the playings of a run with all before it, by scenario: one note at most for each scenario that failed, and for each that passed but took
// longer than usual, in the order of the run.
func Notes(run []Playing, before map[string][]Playing) (notes []Note) {
	failed := make(map[string]bool)
	for _, p := range run {
		if decided(p.Result) && p.Result != record.Passed && !failed[p.Scenario] {
			failed[p.Scenario] = true
			kind, text := failure(before[p.Scenario])
			notes = append(notes, Note{p.Scenario, kind, text})
		}
	}
	noted := make(map[string]bool)
	for _, p := range run {
		if u, ok := slow(p, before[p.Scenario]); ok && !noted[p.Scenario] {
			noted[p.Scenario] = true
			notes = append(notes, Note{p.Scenario, Slower, "slower than usual: " + Slow{p.Seconds, u}.String()})
		}
	}
	return notes
}

// failure says what a failure is after these playings.
func failure(before []Playing) (NoteKind, string) {
	var sure []Playing
	for _, p := range before {
		if decided(p.Result) {
			sure = append(sure, p)
		}
	}
	if len(sure) == 0 {
		return NewFailure, "fails, and nothing is known of it before"
	}
	latest := sure[max(0, len(sure)-recent):]
	bad, streak := 0, 0 // the streak is of those just before
	var since time.Time
	for i, p := range slices.Backward(latest) {
		if p.Result == record.Passed {
			continue
		}
		bad++
		if i == len(latest)-1-streak {
			streak++
			since = p.Started
		}
	}
	switch {
	case bad == 0 && !slices.ContainsFunc(sure, func(p Playing) bool { return p.Result != record.Passed }):
		return NewFailure, fmt.Sprintf("fails for the first time in %d playings", len(sure)+1)
	case bad == 0:
		return NewFailure, fmt.Sprintf("fails after %d playings that passed", len(latest))
	case streak == bad || streak >= 3:
		return StillFailing, fmt.Sprintf("still failing: so did the last %d before, since %s", streak, since.Local().Format("2006-01-02 15:04"))
	}
	return KnownFlaky, fmt.Sprintf("known flaky: %d of the last %d failed", bad, len(latest))
}
