package agentapi

import (
	"errors"
	"fmt"
	"time"
)

// An Impairment is what is done to the packets that a machine sends through its
// network card; those that it receives are left alone. The machine's own kernel does it
// (netem, see tc-netem(8)), so that the host's needs no part of it. The zero value is
// none.
//
// A packet is what the kernel hands to the card: with segmentation offload that is a
// stretch of up to 64 KiB of one TCP connection, which is delayed, lost or doubled as a
// whole.
type Impairment struct {
	// Delay is how long a packet is held back, Jitter by how much that varies, evenly, to
	// either side; where that makes it negative there is no delay. Without Rate a packet
	// with less of it overtakes those with more.
	Delay  time.Duration `json:"delay_ns,omitempty"`  // 0..MaxDelay
	Jitter time.Duration `json:"jitter_ns,omitempty"` // 0..MaxJitter

	// Of all packets so many percent, each for itself and by chance, are dropped, or sent
	// twice, or sent at once while others wait for their delay, or have one bit of them
	// flipped, their Ethernet header included. Each 0..100.
	Loss      float64 `json:"loss_percent,omitempty"`
	Duplicate float64 `json:"duplicate_percent,omitempty"`
	Reorder   float64 `json:"reorder_percent,omitempty"` // needs Delay
	Corrupt   float64 `json:"corrupt_percent,omitempty"`

	// Rate is how fast packets leave, in bits per second, Ethernet headers included, to the
	// next multiple of 8; 0 is as fast as the card takes them.
	Rate uint64 `json:"rate_bits_per_second,omitempty"`
}

// What netem takes. It counts a delay in 32 bits, in units of 64 ns, and cuts off a
// jitter beyond 31 bits of nanoseconds without a word.
const (
	MaxDelay  = 4 * time.Minute
	MaxJitter = 2 * time.Second
)

// Check returns nil for what a machine can do, else an error that names what is out of
// range, or what does nothing without something else.
func (i Impairment) Check() error {
	for _, d := range []struct {
		name      string
		got, most time.Duration
	}{{"delay", i.Delay, MaxDelay}, {"jitter", i.Jitter, MaxJitter}} {
		if d.got < 0 || d.got > d.most {
			return fmt.Errorf("%s %s is outside 0..%s", d.name, d.got, d.most)
		}
	}
	for _, p := range []struct {
		name string
		got  float64
	}{{"loss", i.Loss}, {"duplicate", i.Duplicate}, {"reorder", i.Reorder}, {"corrupt", i.Corrupt}} {
		if !(p.got >= 0 && p.got <= 100) { // so that what is no number is outside, too
			return fmt.Errorf("%s %v%% is outside 0..100%%", p.name, p.got)
		}
	}
	if i.Reorder > 0 && i.Delay == 0 {
		return errors.New("reorder without a delay: there is nothing that a packet could overtake")
	}
	return nil
}

// ImpairmentStatistics show whether an impairment acted, since it was set. Every packet
// that passed had its delay and its share of the rate. What was corrupted or sent twice
// nothing counts: of the latter both are among those that passed.
type ImpairmentStatistics struct {
	Set bool `json:"set"` // false: there is no impairment, and all else is 0

	Packets uint64 `json:"packets"` // that passed; here of the size on the wire
	Bytes   uint64 `json:"bytes"`   // of those
	// Dropped counts lost packets, and any that found as many held back as netem takes,
	// which is more than the sockets of one connection send ahead.
	Dropped uint64 `json:"dropped"`
	// Requeues counts packets put at the front: those that Reorder let overtake others. A
	// card that takes no more puts one back there, too.
	Requeues   uint64 `json:"requeues"`
	Overlimits uint64 `json:"overlimits"` // how often the kernel found a limit exceeded

	Queued  uint64 `json:"queued"`  // packets held back now
	Backlog uint64 `json:"backlog"` // bytes of those
}

// Step steps the machine's wall clock, CLOCK_REALTIME. Clocks that count the time since
// its boot, and timers on them, go on as if nothing had happened.
type Step struct {
	By time.Duration `json:"by_ns"` // forward, or back when negative
}

// Stepped is what the wall clock showed just before a step and just after it, so that
// their difference is a little more than the step.
type Stepped struct {
	Before time.Time `json:"before"`
	After  time.Time `json:"after"`
}
