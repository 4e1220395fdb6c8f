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
	// Whatever the host did meanwhile, this many times the median of this many that passed is said.
	farTimes   = 4
	farSamples = 3
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

// usual returns how long playings that can be compared with p take, by like.
func usual(all []Playing, like func(Playing) bool) (u Usual, slowdown float64) {
	var took, slowdowns []float64
	for _, other := range slices.Backward(all) {
		if len(took) < maxSamples && other.Result == record.Passed && like(other) {
			took, slowdowns = append(took, other.Seconds), append(slowdowns, other.Slowdown)
		}
	}
	if len(took) == 0 {
		return Usual{}, 0
	}
	u = Usual{Median: median(took), Samples: len(took)}
	for i := range took {
		took[i] = math.Abs(took[i] - u.Median)
	}
	u.MAD = median(took)
	return u, median(slowdowns)
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

// slow returns how much longer p, which passed, took than those before it, nil when it did not. Where too few of them can be compared with it, a host that
// is under load say, it takes more to be called slow.
func slow(p Playing, before []Playing) *Slow {
	if p.Result != record.Passed {
		return nil
	}
	u, _ := usual(before, p.comparable)
	if u.Samples >= MinSamples && p.Seconds > u.Median+max(farOut*perMAD*u.MAD, leastPart*u.Median, leastSeconds) {
		return &Slow{Seconds: p.Seconds, Usual: u}
	}
	u, slowdown := usual(before, func(other Playing) bool { return other.Cold == p.Cold && other.Accel == p.Accel })
	if u.Samples < farSamples || p.Seconds < max(farTimes*u.Median, u.Median+leastSeconds) {
		return nil
	}
	s := &Slow{Seconds: p.Seconds, Usual: u}
	if slowdown > 0 && p.Slowdown > alike*slowdown {
		s.Host = p.Slowdown / slowdown
	}
	return s
}

// decided reports whether a playing says something about its scenario: one that the run cut off does not.
func decided(p Playing) bool {
	return p.Result != record.Skipped && p.Result != record.Interrupted && p.Result != record.Repaired && p.Reason != record.RunTimeout
}

// Signs of results in a row.
var signs = map[record.Result]byte{
	record.Passed: '.', record.Failed: 'F', record.Flaky: '~', record.Broken: 'B', record.Unproven: 'U', record.Repaired: 'R',
	record.Skipped: 's', record.Interrupted: 'i',
}

// Legend says what the signs in a Report's row mean.
const Legend = ". passed, F failed, ~ flaky, B broken, U unproven, R repaired, s skipped, i interrupted"

func sign(p Playing) byte {
	r := p.Result
	if p.Reason == record.RunTimeout { // its run cut it off
		r = record.Interrupted
	}
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
	// Flakes are playings that were flaky, and those that failed with what was tested when the scenario passed as well: the same programs and script, or the
	// same revision of the project without changes beyond it. Rate is their part of all that were decided.
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
	Host    float64 `json:"host,omitempty"` // how many times as slow the host was measured as in the others; 0: about the same
}

func (s Slow) String() string {
	text := fmt.Sprintf("took %.2fs, ", s.Seconds)
	if s.Usual.Median > 0 && s.Seconds >= 2*s.Usual.Median {
		text += fmt.Sprintf("%.0f times as long as ", s.Seconds/s.Usual.Median)
	}
	text += fmt.Sprintf("usually: %s", s.Usual)
	if s.Host > 0 {
		text += fmt.Sprintf("; the host was %.1f times as slow as then", s.Host)
	}
	return text
}

// NewReport makes a report of all playings of a scenario, oldest first, at least one, with the last of them in its row.
func NewReport(all []Playing, last int) Report {
	r := Report{Scenario: all[0].Scenario, Played: len(all), Results: make(map[record.Result]int)}
	passedWith := make(map[string]bool)
	for _, p := range all {
		if p.Result == record.Passed && p.subject() != "" {
			passedWith[p.subject()] = true
		}
	}
	sure := 0
	for i, p := range all {
		r.Results[p.Result]++
		if !decided(p) {
			continue
		}
		sure++
		if p.Result != record.Passed {
			r.Failure = &all[i]
		}
		if p.Result == record.Flaky || p.Result != record.Passed && passedWith[p.subject()] {
			r.Flakes++
		}
	}
	if sure > 0 {
		r.Rate = float64(r.Flakes) / float64(sure)
	}
	r.Last = all[max(0, len(all)-last):]
	for _, p := range r.Last {
		r.Row += string(sign(p))
	}
	for i, p := range slices.Backward(all) {
		if p.Result != record.Passed {
			continue
		}
		u, _ := usual(all[:i+1], p.comparable)
		r.Usual = &u
		if i == len(all)-1 {
			r.Slow = slow(p, all[:i])
		}
		break
	}
	return r
}

// subject returns what was tested, "" when it is not known well enough to tell a change of it.
func (p Playing) subject() string {
	switch {
	case p.Tested != "":
		return "tested " + p.Tested
	case p.Revision != "" && !p.Dirty:
		return "at " + p.Revision
	}
	return ""
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
		if decided(p) && p.Result != record.Passed && !failed[p.Scenario] {
			failed[p.Scenario] = true
			kind, text := failure(p, before[p.Scenario])
			notes = append(notes, Note{p.Scenario, kind, text})
		}
	}
	noted := make(map[string]bool)
	for _, p := range run {
		if s := slow(p, before[p.Scenario]); s != nil && !noted[p.Scenario] {
			noted[p.Scenario] = true
			notes = append(notes, Note{p.Scenario, Slower, "slower than usual: " + s.String()})
		}
	}
	return notes
}

// failure says what p, which failed, is after the playings before it. A scenario is called flaky for what it did with the very programs and script that
// failed now: with others it may have failed for another reason.
func failure(p Playing, before []Playing) (NoteKind, string) {
	var sure, same []Playing
	known := false
	for _, b := range before {
		if !decided(b) {
			continue
		}
		sure = append(sure, b)
		known = known || b.Tested != ""
		if b.Tested == p.Tested {
			same = append(same, b)
		}
	}
	switch {
	case len(sure) == 0:
		return NewFailure, "fails, and nothing is known of it before"
	case p.Tested == "" || !known:
		same = sure // there is no telling them apart
	case len(same) == 0:
		return afterChange(sure)
	}
	latest, bad, streak, since := recently(same)
	with := ""
	if len(same) < len(sure) {
		with = " with these programs and this script"
	}
	switch {
	case bad == 0 && !slices.ContainsFunc(same, func(p Playing) bool { return p.Result != record.Passed }):
		return NewFailure, fmt.Sprintf("fails for the first time in %d playings%s", len(same)+1, with)
	case bad == 0:
		return NewFailure, fmt.Sprintf("fails after %d playings that passed%s", latest, with)
	case streak == bad || streak >= 3:
		return StillFailing, fmt.Sprintf("still failing%s: so did the last %d before, since %s", with, streak, since.Local().Format("2006-01-02 15:04"))
	}
	return KnownFlaky, fmt.Sprintf("known flaky%s: %d of the last %d failed", with, bad, latest)
}

// afterChange says what a failure is of which all playings before were with other programs or another script.
func afterChange(sure []Playing) (NoteKind, string) {
	latest, bad, streak, since := recently(sure)
	switch {
	case streak > 0:
		return StillFailing, fmt.Sprintf("still failing, after the programs or the script changed: so did the last %d before, since %s", streak, since.Local().Format("2006-01-02 15:04"))
	case bad > 0:
		return NewFailure, fmt.Sprintf("fails after the programs or the script changed; before that %d of the last %d failed", bad, latest)
	}
	return NewFailure, fmt.Sprintf("fails after the programs or the script changed; before that the last %d passed", latest)
}

// recently returns how many of the latest playings there are and how many failed, and how many of those just before, since when.
func recently(all []Playing) (latest, bad, streak int, since time.Time) {
	all = all[max(0, len(all)-recent):]
	for i, p := range slices.Backward(all) {
		if p.Result == record.Passed {
			continue
		}
		bad++
		if i == len(all)-1-streak {
			streak++
			since = p.Started
		}
	}
	return len(all), bad, streak, since
}
