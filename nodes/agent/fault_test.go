package agent

import (
	"errors"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// That netem does in a machine what it is asked for is tested in package rig: few hosts
// have a kernel with it. Here is what is asked for.

func TestNetem(t *testing.T) {
	const whole = math.MaxUint32
	base := netlink.Netem{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: 3, Handle: 0x20000, Parent: netlink.HANDLE_ROOT}, Limit: netemLimit}
	for _, tt := range []struct {
		name string
		want agentapi.Impairment
		set  func(*netlink.Netem)
	}{
		{"delay", agentapi.Impairment{Delay: 100 * time.Millisecond}, func(q *netlink.Netem) { q.Latency = 1_562_500 }},
		{"the longest delay", agentapi.Impairment{Delay: agentapi.MaxDelay}, func(q *netlink.Netem) { q.Latency = 3_750_000_000 }},
		{"a delay below the unit", agentapi.Impairment{Delay: 1}, func(q *netlink.Netem) { q.Latency = 1 }},
		{"jitter alone", agentapi.Impairment{Jitter: 64 * time.Microsecond}, func(q *netlink.Netem) { q.Jitter = 1000 }},
		{"loss", agentapi.Impairment{Loss: 100}, func(q *netlink.Netem) { q.Loss = whole }},
		{"hardly a loss", agentapi.Impairment{Loss: 1e-12}, func(q *netlink.Netem) { q.Loss = 1 }},
		{"duplicates", agentapi.Impairment{Duplicate: 50}, func(q *netlink.Netem) { q.Duplicate = 1 << 31 }},
		{"corruption", agentapi.Impairment{Corrupt: 0.1}, func(q *netlink.Netem) { q.CorruptProb = 4_294_968 }},
		{"reordering", agentapi.Impairment{Delay: 64 * time.Millisecond, Reorder: 100}, func(q *netlink.Netem) {
			q.Latency, q.ReorderProb, q.Gap = 1_000_000, whole, 1
		}},
		{"rate", agentapi.Impairment{Rate: 8_000_000}, func(q *netlink.Netem) { q.Rate64 = 1_000_000 }},
		{"the lowest rate", agentapi.Impairment{Rate: 1}, func(q *netlink.Netem) { q.Rate64 = 1 }},
		{"the highest rate", agentapi.Impairment{Rate: math.MaxUint64}, func(q *netlink.Netem) { q.Rate64 = 1 << 61 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := base
			tt.set(&want)
			if d := cmp.Diff(&want, netem(3, 2, tt.want)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// freshNetwork moves the test to a network of its own and returns its only interface,
// lo, as a card.
func freshNetwork(t *testing.T) card {
	t.Helper()
	// The thread ends with the test, and with it the network.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("this host gives this user no network of its own: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return card{there: true, index: lo.Attrs().Index}
}

// Through the kernel, be it one with netem or one without: then it must say so.
func TestImpair(t *testing.T) {
	i := &impairer{network: freshNetwork(t), modules: t.TempDir()}
	none := agentapi.ImpairmentStatistics{}
	for range 2 {
		if got, err := i.impair(agentapi.Impairment{}); err != nil || got != none {
			t.Fatalf("ending none: %+v, %v", got, err)
		}
		if got, err := i.impairment(); err != nil || got != none {
			t.Fatalf("none: %+v, %v", got, err)
		}
	}
	if _, err := i.impair(agentapi.Impairment{Loss: 101}); err == nil || !strings.Contains(err.Error(), "impair eth0: loss 101% is outside") {
		t.Errorf("too much: %v", err)
	}
	_, err := i.impair(agentapi.Impairment{Corrupt: 1, Rate: 1e6})
	if err != nil {
		if !strings.Contains(err.Error(), "the module sch_netem is neither built in nor among those in "+i.modules) {
			t.Errorf("got %v", err)
		}
		t.Skip("this host's kernel has no netem, and says so")
	}
	for _, next := range []agentapi.Impairment{{Delay: time.Second}, {Loss: 100}, {Delay: time.Second, Reorder: 1}} {
		before, err := i.impair(next)
		if err != nil || !before.Set {
			t.Fatalf("replace: %+v, %v", before, err)
		}
		all, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: i.network.index}})
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		got, want := all[0].(*netlink.Netem), netem(i.network.index, 1, next)
		if got.CorruptProb != 0 || got.Rate64 != 0 || got.Latency != want.Latency || got.Loss != want.Loss || got.ReorderProb != want.ReorderProb {
			t.Errorf("asked for %+v, there is %+v", want, got)
		}
		if now, err := i.impairment(); err != nil || now != (agentapi.ImpairmentStatistics{Set: true}) {
			t.Errorf("%+v, %v", now, err)
		}
	}
	if before, err := i.impair(agentapi.Impairment{}); err != nil || !before.Set {
		t.Errorf("end: %+v, %v", before, err)
	}
	if now, err := i.impairment(); err != nil || now.Set {
		t.Errorf("after the end: %+v, %v", now, err)
	}
}

func TestImpairWithoutACard(t *testing.T) {
	i := &impairer{}
	if _, err := i.impair(agentapi.Impairment{}); err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Errorf("impair: %v", err)
	}
	if _, err := i.impairment(); err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Errorf("impairment: %v", err)
	}
}

// The module that is listed and of no use is named, whatever the kernel has.
func TestImpairNamesTheModule(t *testing.T) {
	i := &impairer{network: freshNetwork(t), modules: t.TempDir()}
	write(t, filepath.Join(i.modules, "optional"), "sch_netem none.ko sch_netem.ko\n")
	if _, err := i.impair(agentapi.Impairment{}); err != nil {
		t.Errorf("ending none needs no module: %v", err)
	}
	if _, err := i.impair(agentapi.Impairment{Delay: 1}); err == nil || !strings.Contains(err.Error(), "for sch_netem: load kernel module: open ") || !strings.Contains(err.Error(), "none.ko") {
		t.Errorf("got %v", err)
	}
}

func TestLoadOptional(t *testing.T) {
	dir := t.TempDir()
	if err := loadOptional(dir, "sch_netem"); err != nil {
		t.Errorf("a kernel with everything built in: %v", err)
	}
	write(t, filepath.Join(dir, "optional"), "pvpanic\n\nsch_netem dep.ko sch_netem.ko\nsch_netem_not x.ko\n")
	if err := loadOptional(dir, "sch_tbf"); err != nil {
		t.Errorf("a module that is not listed: %v", err)
	}
	if err := loadOptional(dir, "pvpanic"); err != nil {
		t.Errorf("a module with nothing to load: %v", err)
	}
	if err := loadOptional(dir, "sch_netem"); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), filepath.Join(dir, "dep.ko")) {
		t.Errorf("without the file that comes first: %v", err)
	}
	write(t, filepath.Join(dir, "dep.ko"), "no module")
	write(t, filepath.Join(dir, "sch_netem.ko"), "no module")
	if err := loadOptional(dir, "sch_netem"); err == nil || !strings.Contains(err.Error(), "for sch_netem: load kernel module "+filepath.Join(dir, "dep.ko")) {
		t.Errorf("a module that is none: %v", err)
	}
}

// The clock of the host that runs this stays as it is.
func TestOffset(t *testing.T) {
	for by, want := range map[time.Duration]unix.Timeval{
		0:                              {},
		1500 * time.Millisecond:        {Sec: 1, Usec: 500_000_000},
		-1:                             {Sec: -1, Usec: 999_999_999},
		-time.Hour:                     {Sec: -3600},
		-1500 * time.Millisecond:       {Sec: -2, Usec: 500_000_000},
		time.Duration(math.MaxInt64):   {Sec: 9_223_372_036, Usec: 854_775_807},
		time.Duration(math.MinInt64):   {Sec: -9_223_372_037, Usec: 145_224_192},
		999_999_999 * time.Nanosecond:  {Usec: 999_999_999},
		-999_999_999 * time.Nanosecond: {Sec: -1, Usec: 1},
	} {
		got := offset(by)
		if got.Time != want || got.Modes != unix.ADJ_SETOFFSET|unix.ADJ_NANO {
			t.Errorf("%s: %+v", by, got)
		}
	}
}
