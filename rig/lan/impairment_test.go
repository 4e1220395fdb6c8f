package lan

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// full is a frame of the largest size.
func (s *station) full(to *station, payload string) []byte {
	f := s.frame(to.mac, payload)
	return append(f, bytes.Repeat([]byte(" "), DefaultMTU+ethernetHeader-len(f))...)
}

const fullFrame = DefaultMTU + ethernetHeader

// needRate skips where the kernel truly cannot slow frames down, with what is missing.
func needRate(t *testing.T, p *Port) {
	t.Helper()
	_, err := p.Impair(Impairment{Rate: 1 << 30})
	if errors.Is(err, ErrNoNetem) {
		t.Skip(err)
	}
	if err == nil {
		_, err = p.ClearImpairment()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRate(t *testing.T) {
	_, a, b, c := three(t)
	needRate(t, a.port)
	im := Impairment{Rate: 30_000}
	same(t, "replaced", ok[ImpairmentCounts](t)(a.port.Impair(im)), ImpairmentCounts{})

	start := time.Now()
	const frames = 10
	for i := range frames {
		a.send(a.full(b, fmt.Sprint("slow ", i)))
	}
	// Only what A sends is slow.
	b.send(b.full(a, "fast"))
	a.gets("fast")
	c.send(c.full(b, "fast"))
	for i := range frames {
		b.receive("slow", func(f []byte) bool { return isTest(fmt.Sprint("slow ", i))(f) && len(f) == fullFrame })
	}
	// A burst of two frames is free.
	if took, least := time.Since(start), (frames-2)*fullFrame*time.Second/30_000; took < least*9/10 {
		t.Errorf("%d frames took %s, want %s", frames, took, least)
	}
	want := ImpairmentCounts{
		Seen: frames, SeenBytes: frames * fullFrame,
		Passed: frames, PassedBytes: frames * fullFrame,
		Delayed: frames,
	}
	same(t, "faults", a.faults(), Faults{Impairments: []ImpairmentFault{{"A", im, want}}})
	same(t, "cleared", ok[ImpairmentCounts](t)(a.port.ClearImpairment()), want)
	same(t, "cleared again", ok[ImpairmentCounts](t)(a.port.ClearImpairment()), ImpairmentCounts{})
	same(t, "faults afterwards", a.faults(), Faults{})
}

func TestImpairmentHoldsAndReplaces(t *testing.T) {
	l, a, b, _ := three(t)
	needRate(t, a.port)
	// So slow that after the burst of two frames the next takes 1.5 s, and all of them more than the test has.
	still := Impairment{Rate: MinRate}
	ok[ImpairmentCounts](t)(a.port.Impair(still))
	const frames = 50
	for i := range frames {
		a.send(a.full(b, fmt.Sprint("first ", i)))
	}
	b.gets("first 0", "first 1")
	// accounts fails the test unless every frame is accounted for.
	accounts := func(c ImpairmentCounts, frames uint64) {
		t.Helper()
		if c.Seen != frames || c.SeenBytes != frames*fullFrame || c.Passed < 2 || c.PassedBytes != c.Passed*fullFrame ||
			c.Passed+c.Dropped+c.Held != frames || c.Delayed != c.Passed+c.Held {
			t.Errorf("%d frames: %+v", frames, c)
		}
	}
	got := a.faults().Impairments
	if len(got) != 1 || got[0].Port != "A" || got[0].Impairment != still {
		t.Fatalf("faults %+v", got)
	}
	c := got[0].Counts
	if accounts(c, frames); c.Held == 0 || c.Dropped != 0 {
		t.Errorf("before: %+v", c)
	}
	c = ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Rate: 1 << 30}))
	if accounts(c, frames); c.Held != 0 || c.Dropped == 0 {
		t.Errorf("replaced: %+v", c)
	}

	// What the former one held never comes.
	a.sends(b, "second", 2)
	came := uint64(2)
	b.receive("second 0", func(f []byte) bool {
		if bytes.HasPrefix(f[14:], []byte("first ")) {
			came++
		}
		return isTest("second 0")(f)
	})
	if came != c.Passed {
		t.Errorf("%d frames came, %d passed", came, c.Passed)
	}
	b.gets("second 1")
	want := ImpairmentCounts{Seen: 2, SeenBytes: 120, Passed: 2, PassedBytes: 120, Delayed: 2}
	same(t, "replaced again", ok[ImpairmentCounts](t)(a.port.Impair(still)), want)

	// What is too much for the queue is dropped: it takes 1000 full frames and a burst.
	const many = 1100
	for i := range many {
		a.send(a.full(b, fmt.Sprint("third ", i)))
	}
	b.gets("third 0", "third 1")
	c = a.faults().Impairments[0].Counts
	if accounts(c, many); c.Dropped == 0 || c.Held < 900 {
		t.Errorf("overflowed: %+v", c)
	}
	healed := ok[Faults](t)(l.Heal()).Impairments
	if len(healed) != 1 {
		t.Fatalf("healed %+v", healed)
	}
	if accounts(healed[0].Counts, many); healed[0].Counts.Held != 0 {
		t.Errorf("healed: %+v", healed)
	}
	same(t, "faults afterwards", a.faults(), Faults{})
	a.sends(b, "whole", 1)
	b.receive("whole 0", isTest("whole 0"))
	for _, name := range links(t) {
		if strings.HasPrefix(name, "ifb") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestImpairmentAndFilters(t *testing.T) {
	l, a, b, c := three(t)
	needFilters(t)
	needRate(t, a.port)
	ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Rate: 1 << 30}))
	ok[Drops](t)(l.Block(Block{From: "A", To: "B", First: 1}))
	a.sends(b, "n", 2)
	b.gets("n 1") // a frame comes out of the impairment as one of its port
	a.sends(c, "n", 1)
	c.gets("n 0")
	got := ok[Faults](t)(l.Heal())
	same(t, "dropped", got.Blocks[0].Drops, Drops{1, 60})
	same(t, "passed", got.Impairments[0].Counts.Passed, uint64(3))
}

func TestNetem(t *testing.T) {
	_, a, b, c := three(t)
	if err := ProbeNetem(); errors.Is(err, ErrNoNetem) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	const n = 20
	t.Run("loss", func(t *testing.T) {
		ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Loss: 100}))
		a.sends(b, "lost", n)
		same(t, "cleared", ok[ImpairmentCounts](t)(a.port.ClearImpairment()), ImpairmentCounts{Seen: n, SeenBytes: n * 60, Dropped: n})
		c.sends(b, "loss is over", 1)
		b.gets("loss is over 0")
	})
	t.Run("delay", func(t *testing.T) {
		const delay = 100 * time.Millisecond
		ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Delay: delay}))
		start := time.Now()
		a.sends(b, "late", n)
		c.sends(b, "not late", 1)
		b.gets("not late 0")
		for i := range n {
			b.gets(fmt.Sprint("late ", i))
			if took := time.Since(start); took < delay {
				t.Fatalf("frame %d came after %s", i, took)
			}
		}
		want := ImpairmentCounts{Seen: n, SeenBytes: n * 60, Passed: n, PassedBytes: n * 60, Delayed: n}
		same(t, "cleared", ok[ImpairmentCounts](t)(a.port.ClearImpairment()), want)
	})
	t.Run("duplicate", func(t *testing.T) {
		ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Duplicate: 100}))
		a.sends(b, "twice", n)
		for i := range n {
			b.gets(fmt.Sprint("twice ", i), fmt.Sprint("twice ", i))
		}
		want := ImpairmentCounts{Seen: n, SeenBytes: n * 60, Passed: 2 * n, PassedBytes: 2 * n * 60}
		same(t, "cleared", ok[ImpairmentCounts](t)(a.port.ClearImpairment()), want)
	})
	t.Run("reorder", func(t *testing.T) {
		ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Delay: 200 * time.Millisecond}))
		a.sends(b, "slow", 1)
		// All of these go at once, past one that the former impairment would still hold: replacing loses it.
		want := ImpairmentCounts{Seen: 1, SeenBytes: 60, Dropped: 1}
		same(t, "replaced", ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Delay: deadline * 2, Reorder: 100})), want)
		a.sends(b, "fast", 2)
		b.gets("fast 0", "fast 1")
		ok[ImpairmentCounts](t)(a.port.ClearImpairment())
	})
	t.Run("corrupt", func(t *testing.T) {
		ok[ImpairmentCounts](t)(a.port.Impair(Impairment{Corrupt: 100, Delay: time.Millisecond}))
		sent := a.full(b, "whole")
		a.send(sent)
		// One bit of some 12,000: it hardly hits the addresses, but if it does another frame comes.
		got := b.persuade(func() { a.send(sent) }, func(f []byte) bool { return bytes.Equal(f[:12], sent[:12]) && len(f) == len(sent) })
		if bytes.Equal(got, sent) {
			t.Error("it arrived as it was")
		}
		ok[ImpairmentCounts](t)(a.port.ClearImpairment())
	})
}

// TestNoNetem is what a caller sees where the kernel has none: an error to fall back by, and nothing done by half.
func TestNoNetem(t *testing.T) {
	_, a, b, _ := three(t)
	before := links(t)
	err := ProbeNetem()
	same(t, "links after the probe", links(t), before)
	if err == nil {
		t.Skip("this kernel has it: TestNetem is the proof")
	}
	wantNoNetem := func(err error) {
		t.Helper()
		var host *HostError
		if !errors.Is(err, ErrNoNetem) || !errors.As(err, &host) || !strings.Contains(host.Next, "modprobe") {
			t.Errorf("error %v", err)
		}
	}
	wantNoNetem(err)
	_, err = a.port.Impair(Impairment{Delay: time.Second})
	wantNoNetem(err)
	same(t, "links", links(t), before)
	same(t, "faults", a.faults(), Faults{})
	a.sends(b, "whole", 1)
	b.gets("whole 0")

	// Neither is one that is in force lost by it.
	needRate(t, a.port)
	im := Impairment{Rate: 1 << 30}
	ok[ImpairmentCounts](t)(a.port.Impair(im))
	_, err = a.port.Impair(Impairment{Loss: 100})
	wantNoNetem(err)
	a.sends(b, "still", 1)
	b.gets("still 0")
	want := ImpairmentCounts{Seen: 1, SeenBytes: 60, Passed: 1, PassedBytes: 60, Delayed: 1}
	same(t, "faults", a.faults(), Faults{Impairments: []ImpairmentFault{{"A", im, want}}})
}

func TestQueue(t *testing.T) {
	const tick = 64 // ns
	netem := func(n netlink.Netem) *netlink.Netem {
		if n.Limit == 0 {
			n.Limit = delayFrames
		}
		return &n
	}
	tests := []struct {
		name string
		i    Impairment
		want netlink.Qdisc
	}{
		{"delay", Impairment{Delay: 100 * time.Millisecond}, netem(netlink.Netem{Latency: 1e8 / tick})},
		{"jitter", Impairment{Delay: time.Millisecond, Jitter: 500 * time.Microsecond}, netem(netlink.Netem{Latency: 1e6 / tick, Jitter: 7812})},
		{"longest", Impairment{Delay: MaxDelay}, netem(netlink.Netem{Latency: uint32(MaxDelay / tick)})},
		{"loss", Impairment{Loss: 50}, netem(netlink.Netem{Loss: 1 << 31})},
		{"all lost", Impairment{Loss: 100}, netem(netlink.Netem{Loss: math.MaxUint32})},
		{"duplicate", Impairment{Duplicate: 25}, netem(netlink.Netem{Duplicate: 1 << 30})},
		{"corrupt", Impairment{Corrupt: 25}, netem(netlink.Netem{CorruptProb: 1 << 30})},
		// Without a gap of 1 netem ignores it.
		{"reorder", Impairment{Delay: time.Millisecond, Reorder: 25}, netem(netlink.Netem{Latency: 1e6 / tick, ReorderProb: 1 << 30, Gap: 1})},
		{"rate and delay", Impairment{Rate: 5000, Delay: time.Millisecond}, netem(netlink.Netem{Latency: 1e6 / tick, Rate64: 5000, Limit: rateFrames})},
		{"rate", Impairment{Rate: 5000}, &netlink.Tbf{Rate: 5000, Limit: 1002 * fullFrame, Buffer: 2 * fullFrame * 1e9 / 5000 / tick}},
		{"high rate", Impairment{Rate: 100e6}, &netlink.Tbf{Rate: 100e6, Limit: 1000*fullFrame + 1e6, Buffer: 1e7 / tick}},
		{"highest rate", Impairment{Rate: math.MaxUint64}, &netlink.Tbf{Rate: math.MaxUint64, Limit: 1000*fullFrame + math.MaxInt32}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.i.check(); err != nil {
				t.Fatal(err)
			}
			got := queue(tt.i, 7, DefaultMTU, 3)
			if a := got.Attrs(); a.LinkIndex != 7 || a.Parent != netlink.HANDLE_ROOT || a.Handle != 4<<16 {
				t.Errorf("attributes %+v", a)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreTypes(netlink.QdiscAttrs{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	// Handles stay in the half that is not the kernel's, whatever number it is.
	for _, number := range []int{0, 0x6fff, 0x7000, 1 << 30} {
		if h := queue(Impairment{Loss: 1}, 7, DefaultMTU, number).Attrs().Handle; h < 1<<16 || h >= 0x8000<<16 {
			t.Errorf("number %d: handle %#x", number, h)
		}
	}
}

func TestImpairRefuses(t *testing.T) {
	ctx := inNamespace(t)
	l := newLAN(t, ctx, Config{})
	p := ok[*Port](t)(l.AddPort("A"))
	before := links(t)
	tests := []struct {
		i    Impairment
		want string
	}{
		{Impairment{}, "impair port A: it changes nothing"},
		{Impairment{Delay: -1}, "delay of -1ns: it is between 0 and 4m0s"},
		{Impairment{Delay: time.Hour}, "delay of 1h0m0s"},
		{Impairment{Delay: 1}, "delay of 1ns: it is counted in microseconds"},
		{Impairment{Jitter: 2, Delay: 1}, "jitter of 2ns: it is between 0 and the delay, 1ns"},
		{Impairment{Loss: 101}, "loss of 101%: it is between 0 and 100"},
		{Impairment{Loss: math.NaN()}, "loss of NaN%"},
		{Impairment{Duplicate: -1}, "duplicate of -1%"},
		{Impairment{Corrupt: math.Inf(1)}, "corrupt of +Inf%"},
		{Impairment{Reorder: 5}, "reorder without a delay"},
		{Impairment{Rate: 999}, "rate of 999 bytes a second: at least 1000"},
	}
	for _, tt := range tests {
		if _, err := p.Impair(tt.i); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want %q", tt.i, err, tt.want)
		}
	}
	same(t, "links", links(t), before)
	without(t, unix.CAP_NET_ADMIN, func() {
		var host *HostError
		if _, err := p.Impair(Impairment{Rate: 1000}); !errors.As(err, &host) || errors.Is(err, ErrNoNetem) {
			t.Errorf("error %v: a permission is no lack of the kernel", err)
		}
	})
}
