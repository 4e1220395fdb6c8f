package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Impairment is what happens to everything a node sends. The zero value of a field
// leaves it alone.
type Impairment struct {
	Delay  time.Duration
	Jitter time.Duration // by which Delay varies, to both sides

	// Percent of the frames that are dropped, come twice, overtake others (which takes a
	// Delay), or have a bit flipped.
	Loss, Duplicate, Reorder, Corrupt float64

	Rate uint64 // bits a second; 0 is any
}

// A Link is one thing done to a node's cable.
type Link struct {
	Down, Up, Clear bool       // the cable is pulled, plugged in, or all faults of it end
	Impairment      Impairment // else
	Maybe           bool       // it need not touch anything
}

func (l Link) String() string {
	switch {
	case l.Down:
		return "down"
	case l.Up:
		return "up"
	case l.Clear:
		return "clear"
	}
	return l.Impairment.String()
}

func (i Impairment) String() string {
	var words []string
	add := func(is bool, format string, v any) {
		if is {
			words = append(words, fmt.Sprintf(format, v))
		}
	}
	add(i.Delay > 0, "delay=%v", i.Delay)
	add(i.Jitter > 0, "jitter=%v", i.Jitter)
	add(i.Loss > 0, "loss=%v%%", i.Loss)
	add(i.Duplicate > 0, "dup=%v%%", i.Duplicate)
	add(i.Reorder > 0, "reorder=%v%%", i.Reorder)
	add(i.Corrupt > 0, "corrupt=%v%%", i.Corrupt)
	add(i.Rate > 0, "rate=%vbit", i.Rate)
	return strings.Join(words, " ")
}

// A Block is a one-way filter between two nodes.
type Block struct {
	From, To string
	Proto    string // "tcp", "udp", or "" for every frame
	Port     uint16 // the destination's; 0 without Proto
	First    uint32 // how many frames are dropped; 0 is all
	Maybe    bool   // it need not touch anything
}

func (b Block) String() string {
	s := b.From + " " + b.To
	if b.Proto != "" {
		s += fmt.Sprintf(" %s %d", b.Proto, b.Port)
	}
	return s
}

var linkWords = []string{"clear", "corrupt=", "delay=", "down", "dup=", "jitter=", "loss=", "rate=", "reorder=", "up"}

// parseLink reads the words behind `link NODE`.
func parseLink(words []string) (l Link, f *fault) {
	seen := map[string]bool{}
	for _, w := range words {
		switch w {
		case "down", "up", "clear":
			if len(words) > 1 {
				return l, faultf("write a line for each", "%q stands alone", w)
			}
			l.Down, l.Up, l.Clear = w == "down", w == "up", w == "clear"
			continue
		}
		name, value, ok := strings.Cut(w, "=")
		if seen[name] {
			return l, faultf("leave one out", "%s is given twice", name)
		}
		seen[name] = true
		i := &l.Impairment
		switch {
		case !ok:
			return l, faultf("write down, up, clear, or delay=, jitter=, loss=, dup=, reorder=, corrupt=, rate= with a value", "%q is nothing that can be done to a link", w)
		case name == "delay":
			i.Delay, f = linkDuration(value)
		case name == "jitter":
			i.Jitter, f = linkDuration(value)
		case name == "loss":
			i.Loss, f = percent(value)
		case name == "dup":
			i.Duplicate, f = percent(value)
		case name == "reorder":
			i.Reorder, f = percent(value)
		case name == "corrupt":
			i.Corrupt, f = percent(value)
		case name == "rate":
			i.Rate, f = rate(value)
		default:
			return l, faultf(didYouMean(name+"=", linkWords), "%q is nothing that can be done to a link", w)
		}
		if f != nil {
			return l, f
		}
	}
	i := l.Impairment
	switch {
	case l == Link{}:
		return l, faultf("write `clear` to end what there is", "that does nothing to a link")
	case i.Jitter > i.Delay:
		return l, faultf("give it a delay= of at least that", "jitter=%v varies a delay of %v", i.Jitter, i.Delay)
	case i.Reorder > 0 && i.Delay == 0:
		return l, faultf("give it a delay=", "reorder= without a delay: there is nothing to overtake")
	}
	return l, nil
}

func linkDuration(s string) (time.Duration, *fault) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, faultf("write 200ms, 1.5s, …", "bad duration %q", s)
	}
	return d, checkLength(d)
}

func percent(s string) (float64, *fault) {
	number, ok := strings.CutSuffix(s, "%")
	p, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(p > 0 && p <= 100) {
		return 0, faultf("write 20%, 0.5%, …, more than 0 and at most 100", "bad share %q", s)
	}
	return p, nil
}

// rate reads bits a second as tc(8) writes them: 500kbit, 1mbit.
func rate(s string) (uint64, *fault) {
	unit := uint64(1)
	number := s
	for _, u := range []struct {
		suffix string
		bits   uint64
	}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}} {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = n, u.bits
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 || number == s {
		return 0, faultf("write 500kbit, 10mbit, …: bits a second", "bad rate %q", s)
	}
	return n * unit, nil
}
