package agent

import (
	"bytes"
	"encoding/binary"
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
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// That netem does in a machine what it is asked for is tested in package rig: few hosts
// have a kernel with it. Here is what is asked for.

func TestNetem(t *testing.T) {
	const whole = math.MaxUint32
	base := netlink.Netem{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: 3, Parent: netlink.HANDLE_ROOT}, Limit: netemLimit}
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
			if d := cmp.Diff(&want, netem(3, tt.want)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// A netem that is changed forgets only what it is told of: so all is there, zeros too.
func TestNetemOptions(t *testing.T) {
	zero := make([]byte, 16)
	for name, tt := range map[string]struct {
		q    netlink.Netem
		want map[uint16][]byte
	}{
		"nothing": {netlink.Netem{}, map[uint16][]byte{
			nl.TCA_NETEM_REORDER: zero[:8], nl.TCA_NETEM_CORRUPT: zero[:8], nl.TCA_NETEM_RATE: zero, nl.TCA_NETEM_RATE64: zero[:8],
		}},
		"all": {netlink.Netem{ReorderProb: 1, CorruptProb: 2, Rate64: 3}, map[uint16][]byte{
			nl.TCA_NETEM_REORDER: {1, 7: 0}, nl.TCA_NETEM_CORRUPT: {2, 7: 0}, nl.TCA_NETEM_RATE: {3, 15: 0}, nl.TCA_NETEM_RATE64: {3, 7: 0},
		}},
		"a rate of more than 32 bits": {netlink.Netem{Rate64: 1 << 32}, map[uint16][]byte{
			nl.TCA_NETEM_REORDER: zero[:8], nl.TCA_NETEM_CORRUPT: zero[:8],
			nl.TCA_NETEM_RATE: {255, 255, 255, 255, 15: 0}, nl.TCA_NETEM_RATE64: {4: 1, 7: 0},
		}},
	} {
		form := options(&tt.q).Serialize()[unix.SizeofRtAttr:]
		if basic := form[:nl.SizeofTcNetemQopt]; !bytes.Equal(basic, make([]byte, nl.SizeofTcNetemQopt)) {
			t.Errorf("%s: begins with %v", name, basic)
		}
		attrs, err := nl.ParseRouteAttr(form[nl.SizeofTcNetemQopt:])
		if err != nil {
			t.Fatal(err)
		}
		got := map[uint16][]byte{}
		for _, a := range attrs {
			got[a.Attr.Type] = a.Value
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// discipline is one as a kernel lists it, with both forms of its statistics.
func discipline(link, parent uint32, kind string) []byte {
	head := nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(link), Handle: 0x80010000, Parent: parent}
	message := head.Serialize()
	add := func(a *nl.RtAttr) { message = append(message, a.Serialize()...) }
	add(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)))
	new := nl.NewRtAttr(nl.TCA_STATS2, nil)
	words := func(of ...uint32) (b []byte) {
		for _, w := range of {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	new.AddRtAttr(nl.TCA_STATS_BASIC, append(binary.NativeEndian.AppendUint64(nil, 1<<40), words(10, 0)...))
	new.AddRtAttr(nl.TCA_STATS_QUEUE, words(6, 600, 9, 8, 7))
	add(new)
	add(nl.NewRtAttr(nl.TCA_STATS, words(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)))
	return message
}

func TestParseStatistics(t *testing.T) {
	want := agentapi.ImpairmentStatistics{Set: true, Packets: 10, Bytes: 1 << 40, Queued: 6, Backlog: 600, Dropped: 9, Requeues: 8, Overlimits: 7}
	netem := discipline(2, netlink.HANDLE_ROOT, "netem")
	if got, err := parseStatistics(2, netem); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for what, message := range map[string][]byte{
		"another link's":     discipline(1, netlink.HANDLE_ROOT, "netem"),
		"another one's leaf": discipline(2, 0x10001, "netem"),
		"another kind":       discipline(2, netlink.HANDLE_ROOT, "fq_codel"),
	} {
		if got, err := parseStatistics(2, message); err != nil || got != (agentapi.ImpairmentStatistics{}) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	if _, err := parseStatistics(2, netem[:nl.SizeofTcMsg-1]); err == nil {
		t.Error("half a head is taken for one")
	}
}

// What a discipline had done before an impairment was set does not count for that.
func TestStatisticsSince(t *testing.T) {
	all := agentapi.ImpairmentStatistics{Set: true, Packets: 10, Bytes: 1000, Dropped: 9, Requeues: 8, Overlimits: 7, Queued: 6, Backlog: 600}
	i := &impairer{base: all}
	if got := i.since(all); got != (agentapi.ImpairmentStatistics{Set: true, Queued: 6, Backlog: 600}) {
		t.Errorf("at once: %+v", got)
	}
	all.Packets++
	all.Dropped++
	if got := i.since(all); got.Packets != 1 || got.Dropped != 1 {
		t.Errorf("after a packet that passed and one that did not: %+v", got)
	}
	if got := i.since(agentapi.ImpairmentStatistics{}); got != (agentapi.ImpairmentStatistics{}) {
		t.Errorf("none: %+v", got)
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
	for _, next := range []agentapi.Impairment{{Delay: time.Second, Duplicate: 1}, {Loss: 100}, {Delay: time.Second, Reorder: 1}} {
		before, err := i.impair(next)
		if err != nil || !before.Set {
			t.Fatalf("replace: %+v, %v", before, err)
		}
		all, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: i.network.index}})
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		got, want := all[0].(*netlink.Netem), netem(i.network.index, next)
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
