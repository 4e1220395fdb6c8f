package suite

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
)

// A turn is one playing of a scenario in a run.
type turn struct {
	item Item
	name string // unique in the run: "roundtrip/basic", "roundtrip/basic@2"
	cold bool   // every machine boots

	retryOf string // the turn that failed, when this is a further try of it

	recorded bool // its machines are
}

// of is the scenario's own name when the turn has another one.
func (t turn) of() string {
	if t.name == t.item.Name {
		return ""
	}
	return t.item.Name
}

// A task is what is played in one go, one turn after the other: with Config.Both a
// pair, of which the second is compared with the first.
type task []turn

// retry is the n-th further try of a turn, from 1: "roundtrip/basic@retry1", of a
// later round "roundtrip/basic@2.retry1".
func (t turn) retry(n int) turn {
	return t.again("retry", n)
}

// again is a further try of a turn.
func (t turn) again(what string, n int) turn {
	r := t
	r.retryOf = t.name
	link := again
	if t.name != t.item.Name {
		link = "."
	}
	r.name = t.name + link + what + strconv.Itoa(n)
	return r
}

// record is the n-th try to have a turn that failed fail again while it is recorded, from 1: "roundtrip/basic@recorded1".
func (t turn) record(n int) turn {
	r := t.again("recorded", n)
	r.cold, r.recorded = true, true
	return r
}

// ColdKey is under which name the duration of a scenario on booted machines is
// known.
func ColdKey(name string) string { return name + again + "cold" }

// newTask is an item's task in the n-th round, from 1.
func newTask(item Item, n int, both, cold bool) task {
	first := turn{item: item, name: item.Name, cold: cold}
	second := turn{item: item, name: ColdKey(item.Name), cold: true}
	if n > 1 {
		first.name += again + strconv.Itoa(n)
		second.name += strconv.Itoa(n)
	}
	if both {
		return task{first, second}
	}
	return task{first}
}

// A planner makes the rounds of a run.
type planner struct {
	items      []Item // sorted by name
	both, cold bool
	recorded   bool // every machine is
	rounds     int  // 0: without end
	sideBySide bool // more than one scenario is played at a time
	expected   Durations
	shuffle    *rand.Rand // nil: not shuffled
	made       int
}

// next plans the next round: shown is in the order in which its tasks are listed
// and shown, play in which they are begun. ok is false when there are no more.
//
// The longest begin first, so that none is left that runs on alone when the others
// have ended. Where one is played at a time that gains nothing, and the order in
// which they are shown lets each show as it runs; and whoever has the order
// shuffled wants it to be that one.
func (p *planner) next() (shown, play []task, ok bool) {
	if p.rounds > 0 && p.made == p.rounds || len(p.items) == 0 {
		return nil, nil, false
	}
	p.made++
	for _, item := range p.items {
		t := newTask(item, p.made, p.both, p.cold)
		for i := range t {
			t[i].recorded = p.recorded
		}
		shown = append(shown, t)
	}
	if p.shuffle != nil {
		p.shuffle.Shuffle(len(shown), func(i, j int) { shown[i], shown[j] = shown[j], shown[i] })
	}
	play = slices.Clone(shown)
	if p.shuffle == nil && p.sideBySide {
		median := p.expected.median(p.items)
		slices.SortStableFunc(play, func(a, b task) int { return longer(p.expect(a, median), p.expect(b, median)) })
	}
	return shown, play, true
}

// expect is how long a task will take, in seconds. A scenario that was never played
// on booted machines takes there as long as on clones: that all of them take some
// seconds more changes no order.
func (p *planner) expect(t task, median float64) (seconds float64) {
	for _, turn := range t {
		known, ok := p.expected[turn.item.Name]
		if turn.cold {
			if cold, found := p.expected[ColdKey(turn.item.Name)]; found {
				known, ok = cold, true
			}
		}
		if !ok {
			known = median
		}
		seconds += known
	}
	return seconds
}

// longer puts what takes longer first.
func longer(a, b float64) int { return cmp.Compare(b, a) }

// total is how many turns all rounds have, of a run without end those of the first.
func (p *planner) total() int {
	n := len(p.items) * max(1, p.rounds)
	if p.both {
		n *= 2
	}
	return n
}

// newShuffle returns what shuffles by a seed: the same on every host.
func newShuffle(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 0))
}

// Shard returns the items of shard number i of n, from 1: all n together have every
// item once, whatever the durations say, and take about as long as each other. It
// depends on its arguments alone, so that hosts which know nothing of each other
// agree.
//
// The longest go first, each to the shard that has least to do so far; among equals
// the name decides, and then the lower number.
func Shard(items []Item, i, n int, expected Durations) []Item {
	median := expected.median(items)
	expect := func(item Item) float64 {
		if seconds, ok := expected[item.Name]; ok {
			return seconds
		}
		return median
	}
	order := slices.SortedFunc(slices.Values(items), func(a, b Item) int {
		return cmp.Or(longer(expect(a), expect(b)), compareNames(a, b))
	})
	var mine []Item
	loads := make([]float64, n)
	for _, item := range order {
		least := slices.Index(loads, slices.Min(loads))
		loads[least] += expect(item)
		if least == i-1 {
			mine = append(mine, item)
		}
	}
	slices.SortFunc(mine, compareNames)
	return mine
}
