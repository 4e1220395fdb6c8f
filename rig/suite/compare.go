package suite

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"dsoftbus-rig/rig/record"
)

// A playing is what became of a turn, as far as another one of the same scenario has
// to be like it.
type playing struct {
	result  record.Result
	failure *record.Failure
	seconds float64
	markers []record.Event // of record.KindMarker, as they came
	steps   []record.Event // of record.KindStepStart
	may     map[int]bool   // steps that failed and were let: what they saw is chance
}

// note takes in an event of the turn.
func (p *playing) note(e record.Event) {
	switch e.Kind {
	case record.KindMarker:
		p.markers = append(p.markers, e)
	case record.KindStepStart:
		p.steps = append(p.steps, e)
	case record.KindStepEnd:
		if e.Ignored {
			if p.may == nil {
				p.may = make(map[int]bool)
			}
			p.may[e.Step] = true
		}
	case record.KindScenarioEnd:
		p.result, p.failure, p.seconds = e.Result, e.Failure, e.Seconds
	}
}

// cutOff reports whether the run ended it from outside.
func (p *playing) cutOff() bool {
	return p.result == record.Interrupted || p.failure != nil && p.failure.Reason == record.RunTimeout
}

// retryable reports whether the scenario may end otherwise when it is played again:
// it failed, or something broke, and not for a reason that is still there.
func (p *playing) retryable() bool {
	if p.cutOff() || p.result != record.Failed && p.result != record.Broken {
		return false
	}
	return p.failure == nil || p.failure.Reason != record.Invalid && p.failure.Reason != record.HostUnsupported
}

// verdict is the playing's result, and why.
func (p *playing) verdict() string {
	if p.failure == nil {
		return string(p.result)
	}
	return fmt.Sprintf("%s (%s)", p.result, p.failure.Reason)
}

// differs returns what is wrong when the scenario of a file went in one way on clones and in
// another on booted machines, nil when it did not. Verdicts are compared by result
// and class. Where both are green, the lines that steps matched are too, node by
// node: unit, step and text, see mask.
func differs(file string, clones, cold *playing) *record.Failure {
	if clones.cutOff() || cold.cutOff() {
		return nil
	}
	if a, b := clones.verdict(), cold.verdict(); a != b {
		f := record.Failure{}
		message := fmt.Sprintf("verdict: %s on clones, %s on booted machines", a, b)
		if cold.failure != nil {
			f = *cold.failure // where, and with which last lines
			message += ": " + cold.failure.Message
		}
		f.Reason, f.Message, f.Awaited, f.Next, f.Said = record.ColdDiffers, message, "the same verdict as on clones", "", ""
		return &f
	}
	if !cold.result.Green() {
		return nil
	}
	a, b := clones.lines(cold.may), cold.lines(clones.may)
	for _, node := range slices.Sorted(maps.Keys(union(a, b))) {
		for i := range max(len(a[node]), len(b[node])) {
			x, y := at(a[node], i), at(b[node], i)
			if x.same(y) {
				continue
			}
			f := &record.Failure{
				Reason: record.ColdDiffers, Node: node, Step: max(x.step, y.step),
				Message: fmt.Sprintf("marker %d of node %s:\non clones:          %s\non booted machines: %s", i+1, node, x, y),
				Awaited: "the same markers as on clones",
			}
			if s := slices.IndexFunc(cold.steps, func(e record.Event) bool { return e.Step == f.Step }); s >= 0 {
				f.File, f.Line, f.Text = file, cold.steps[s].Line, cold.steps[s].Text
			}
			return f
		}
	}
	return nil
}

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// A line is a marker as it is compared. Its zero value stands for one that is not
// there.
type line struct {
	step       int
	unit, text string
}

func at(lines []line, i int) line {
	if i < len(lines) {
		return lines[i]
	}
	return line{}
}

func (l line) same(other line) bool {
	return l.step == other.step && l.unit == other.unit && (l.text == other.text || mask(l.text) == mask(other.text))
}

func (l line) String() string {
	if l == (line{}) {
		return "none"
	}
	return fmt.Sprintf("step %d, %s: %s", l.step, l.unit, l.text)
}

// lines returns the markers of each node by step, which for all but background jobs
// is as they came: two jobs that wait at once may see their lines in either order.
// Markers of steps that were let fail, here or as skip says, are left out.
func (p *playing) lines(skip map[int]bool) map[string][]line {
	nodes := make(map[string][]line)
	for _, e := range p.markers {
		if !p.may[e.Step] && !skip[e.Step] {
			nodes[e.Node] = append(nodes[e.Node], line{e.Step, e.Unit, e.Text})
		}
	}
	for _, lines := range nodes {
		slices.SortStableFunc(lines, func(a, b line) int { return a.step - b.step })
	}
	return nodes
}

// varying is what differs between two playings of the same scenario for no reason of
// theirs, with what stands for it. Other numbers are facts: counts, sizes, handles.
var varying = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "TIME"},
	{regexp.MustCompile(`^\[ *\d+\.\d+\]`), "[TIME]"}, // the kernel's
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+\b`), "DURATION"},
	{regexp.MustCompile(`\b(\d{1,3}(?:\.\d{1,3}){3}):\d+\b`), "$1:PORT"},
	{regexp.MustCompile(`\b(port|pid|PID)([ =:]+)\d+\b`), "$1${2}N"},
	{regexp.MustCompile(`\b[0-9a-f]{16,}\b`), "HEX"}, // keys, digests and nonces
}

// mask returns a line with what varies by chance taken out: times, durations, ports,
// process ids, random values.
func mask(text string) string {
	for _, v := range varying {
		text = v.what.ReplaceAllString(text, v.mask)
	}
	return text
}
