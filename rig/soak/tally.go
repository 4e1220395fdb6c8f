package soak

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"dsoftbus-rig/rig/record"
)

// A Tally is how much of a generated scenario was played, as its events say.
type Tally struct {
	Rounds int   // begun
	Faults int   // injected
	Reads  int   // whose content was compared, and was right
	Bytes  int64 // of those reads

	sizes map[string]int64 // of files, by their path
	reads map[int]*read    // by their step
	jobs  map[string]*read
	last  *read        // whose output a check looks at
	check map[int]bool // steps that are one
}

// A read is a step that reads a file some times.
type read struct {
	path  string
	times int
	may   bool // fail: then its lines are counted
	lines int
	job   bool
}

var (
	madeStep  = regexp.MustCompile(`^exec \S+ dd if=/dev/urandom of=/packages/soak@1\.0\.0/(\S+) bs=(\d+) count=(\d+)$`)
	readStep  = regexp.MustCompile(`^([?*]) exec .* (?:sum|bench) pkg:/soak/(\S+)(?: -count (\d+))?(?: &(\w+)&)?$`)
	waitStep  = regexp.MustCompile(`^wait (\w+)$`)
	roundText = regexp.MustCompile(`^Round \d+:`)
)

// Add takes the next event.
func (t *Tally) Add(e record.Event) {
	switch e.Kind {
	case record.KindScenarioStart:
		t.sizes, t.reads, t.jobs, t.check = map[string]int64{}, map[int]*read{}, map[string]*read{}, map[int]bool{}
	case record.KindSection:
		if roundText.MatchString(e.Text) {
			t.Rounds++
		}
	case record.KindFault:
		if e.State == record.FaultInjected {
			t.Faults++
		}
	case record.KindStepStart:
		t.begin(e)
	case record.KindOutput:
		if r := t.reads[e.Step]; r != nil && e.Stream == "stdout" {
			r.lines += strings.Count(e.Text, "\n")
		}
	case record.KindStepEnd:
		t.end(e)
	}
}

func (t *Tally) begin(e record.Event) {
	if m := madeStep.FindStringSubmatch(e.Text); m != nil {
		block, _ := strconv.ParseInt(m[2], 10, 64) // both are digits
		count, _ := strconv.ParseInt(m[3], 10, 64)
		t.sizes[m[1]] = block * count
		return
	}
	if m := readStep.FindStringSubmatch(e.Text); m != nil {
		r := &read{path: m[2], times: 1, may: m[1] == "?", job: m[4] != ""}
		if m[3] != "" {
			r.times, _ = strconv.Atoi(m[3])
		}
		t.reads[e.Step] = r
		if r.job {
			t.jobs[m[4]] = r
		} else {
			t.last = r
		}
		return
	}
	if m := waitStep.FindStringSubmatch(e.Text); m != nil {
		t.last = t.jobs[m[1]]
		return
	}
	if strings.HasPrefix(e.Text, "stdout ") {
		t.check[e.Step] = true
	}
}

func (t *Tally) end(e record.Event) {
	if !t.check[e.Step] || e.Error != "" || t.last == nil {
		return
	}
	// Of a read that was tried again only the last attempt is compared.
	times := t.last.times
	if t.last.may {
		times = t.last.lines
	}
	t.Reads += times
	t.Bytes += int64(times) * t.sizes[t.last.path]
	t.last = nil
}

// Sum adds what another scenario had.
func (t *Tally) Sum(other Tally) {
	t.Rounds += other.Rounds
	t.Faults += other.Faults
	t.Reads += other.Reads
	t.Bytes += other.Bytes
}

// Proves returns nil when all rounds of a scenario began and content was compared in it. A scenario that passed without is a fault of this package, or of
// the language that it is written in.
func (t *Tally) Proves(rounds int) error {
	switch {
	case t.Rounds < rounds:
		return fmt.Errorf("the scenario passed, but only %d of its %d rounds began: %s", t.Rounds, rounds, t)
	case t.Reads == 0 || t.Bytes == 0:
		return fmt.Errorf("the scenario passed, but no content was compared: %s", t)
	}
	return nil
}

func (t *Tally) String() string {
	return fmt.Sprintf("%d rounds, %d faults injected, %d reads compared, %d bytes compared", t.Rounds, t.Faults, t.Reads, t.Bytes)
}
