package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"dsoftbus-rig/nodes/agentapi"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// netemModule is the kernel module that delays and loses packets. It is loaded with the
	// first impairment: few machines ever need it, and all would wait for it.
	netemModule = "sch_netem"
	netemKind   = "netem"

	// netemTick is the unit of netem's delays (PSCHED_TICKS2NS of net/pkt_sched.h).
	netemTick = 64 * time.Nanosecond

	// netemLimit is how many packets netem holds back; any more are dropped. 10,000: seven
	// times what one TCP connection of such a machine keeps on its way (2 MiB), so that
	// what only delays does not also lose.
	netemLimit = 10_000
)

// An impairer impairs what the machine's network card sends, by a netem that is the
// card's root queueing discipline.
type impairer struct {
	network card
	modules string // the folder of modules

	mu     sync.Mutex // held while the discipline is looked at or changed
	loaded bool       // netem's module, as far as there is one
	// base is what the discipline had done before the impairment in force: it goes on
	// counting when it is changed.
	base agentapi.ImpairmentStatistics
}

// impair replaces the impairment in force, and returns what that one had done. The zero
// value only ends it.
//
// A replacement leaves no moment in which packets pass unimpaired, and those held back
// leave when they would have. An end is one at once: what is held back is lost, and
// nothing comes later.
func (i *impairer) impair(want agentapi.Impairment) (before agentapi.ImpairmentStatistics, err error) {
	if err := want.Check(); err != nil {
		return before, fmt.Errorf("impair %s: %w", interfaceName, err)
	}
	none := want == agentapi.Impairment{}
	if !none && i.network.there {
		// Before the statistics are read: what happens between that and the change
		// counts for the new impairment.
		if err := i.load(); err != nil {
			return before, fmt.Errorf("impair %s: %w", interfaceName, err)
		}
	}
	err = i.withStatistics(func(old agentapi.ImpairmentStatistics) error {
		before = i.since(old)
		if none {
			i.base = agentapi.ImpairmentStatistics{}
			if !old.Set {
				return nil
			}
			return netlink.QdiscDel(netem(i.network.index, want))
		}
		err := set(netem(i.network.index, want))
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("the kernel has no %s: the module %s is neither built in nor among those in %s", netemKind, netemModule, i.modules)
		}
		if err == nil {
			i.base = old
		}
		return err
	})
	return before, err
}

// load loads netem's module, once.
func (i *impairer) load() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.loaded {
		return nil
	}
	err := loadOptional(i.modules, netemModule)
	i.loaded = err == nil
	return err
}

// impairment returns what the impairment in force has done so far.
func (i *impairer) impairment() (now agentapi.ImpairmentStatistics, err error) {
	err = i.withStatistics(func(all agentapi.ImpairmentStatistics) error {
		now = i.since(all)
		return nil
	})
	return now, err
}

// withStatistics calls f with what the card's netem has done since it was made.
func (i *impairer) withStatistics(f func(agentapi.ImpairmentStatistics) error) error {
	if !i.network.there {
		return fmt.Errorf("impair %s: there is none (is the virtio_net module loaded?)", interfaceName)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	all, err := statistics(i.network.index)
	if err != nil {
		return fmt.Errorf("impair %s: list its queueing disciplines: %w", interfaceName, err)
	}
	if err := f(all); err != nil {
		return fmt.Errorf("impair %s: %w", interfaceName, err)
	}
	return nil
}

// set makes q its link's root discipline, or changes the netem that is there.
//
// It is not netlink.QdiscReplace, which leaves out what is 0: netem that is changed keeps
// the corruption and the rate that it is not told of. Nor can a second netem take the
// place of the first: a kernel since 2025 takes the two for one within the other, and
// refuses that when one of them duplicates.
func set(q *netlink.Netem) error {
	r := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	r.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(q.LinkIndex), Parent: q.Parent})
	r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(netemKind)))
	r.AddData(options(q))
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// options is q in netem's own form, with all that an Impairment has.
func options(q *netlink.Netem) *nl.RtAttr {
	basic := nl.TcNetemQopt{Latency: q.Latency, Limit: q.Limit, Loss: q.Loss, Gap: q.Gap, Duplicate: q.Duplicate, Jitter: q.Jitter}
	o := nl.NewRtAttr(nl.TCA_OPTIONS, basic.Serialize())
	reorder := nl.TcNetemReorder{Probability: q.ReorderProb}
	o.AddRtAttr(nl.TCA_NETEM_REORDER, reorder.Serialize())
	corrupt := nl.TcNetemCorrupt{Probability: q.CorruptProb}
	o.AddRtAttr(nl.TCA_NETEM_CORRUPT, corrupt.Serialize())
	// Of the two rates the higher one counts.
	rate := nl.TcNetemRate{Rate: uint32(min(q.Rate64, math.MaxUint32))}
	o.AddRtAttr(nl.TCA_NETEM_RATE, rate.Serialize())
	o.AddRtAttr(nl.TCA_NETEM_RATE64, nl.Uint64Attr(q.Rate64))
	return o
}

// netem returns the queueing discipline for an impairment that is not none. It is not
// netlink.NewNetem's, which takes a jitter without a delay for one in ticks, and
// percentages in 24 bits.
func netem(link int, want agentapi.Impairment) *netlink.Netem {
	q := &netlink.Netem{
		QdiscAttrs:  netlink.QdiscAttrs{LinkIndex: link, Parent: netlink.HANDLE_ROOT},
		Limit:       netemLimit,
		Latency:     ticks(want.Delay),
		Jitter:      ticks(want.Jitter),
		Loss:        probability(want.Loss),
		Duplicate:   probability(want.Duplicate),
		ReorderProb: probability(want.Reorder),
		CorruptProb: probability(want.Corrupt),
		Rate64:      want.Rate / 8,
	}
	if want.Rate%8 > 0 {
		q.Rate64++ // 0 would be no limit at all
	}
	if want.Reorder > 0 {
		q.Gap = 1 // each packet may be the one
	}
	return q
}

// ticks rounds up: what is asked for is never nothing.
func ticks(d time.Duration) uint32 { return uint32((d + netemTick - 1) / netemTick) }

// probability is a percentage as netem has it, in units of 1/(2^32-1). It rounds up, too.
func probability(percent float64) uint32 { return uint32(math.Ceil(percent / 100 * math.MaxUint32)) }

// since returns what of all, which the discipline has done, is the work of the impairment
// in force.
func (i *impairer) since(all agentapi.ImpairmentStatistics) agentapi.ImpairmentStatistics {
	if !all.Set {
		return all
	}
	all.Packets -= i.base.Packets
	all.Bytes -= i.base.Bytes
	all.Dropped -= i.base.Dropped
	all.Requeues -= i.base.Requeues
	all.Overlimits -= i.base.Overlimits
	return all
}

// statistics returns what the netem that is a link's root discipline has done since it
// was made.
//
// It is not netlink.QdiscList, which takes the older one of the two forms in which a
// kernel says this, and that one has no requeues.
func statistics(link int) (agentapi.ImpairmentStatistics, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
	r.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(link)})
	disciplines, err := r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if err != nil {
		return agentapi.ImpairmentStatistics{}, err
	}
	for _, d := range disciplines {
		// A kernel may list those of all links.
		if s, err := parseStatistics(link, d); err != nil || s.Set {
			return s, err
		}
	}
	return agentapi.ImpairmentStatistics{}, nil
}

// Sizes of what a kernel says of a discipline's work, in bytes (gnet_stats_basic and
// gnet_stats_queue of linux/gen_stats.h).
const (
	sizeofStatsBasic = 12
	sizeofStatsQueue = 20
)

// parseStatistics reads one discipline of a dump. One that is not the link's root, or no
// netem, counts as none.
func parseStatistics(link int, message []byte) (s agentapi.ImpairmentStatistics, err error) {
	if len(message) < nl.SizeofTcMsg {
		return s, fmt.Errorf("the kernel lists one in %d bytes", len(message))
	}
	head := nl.DeserializeTcMsg(message)
	if int(head.Ifindex) != link || head.Parent != netlink.HANDLE_ROOT {
		return s, nil
	}
	attrs, err := nl.ParseRouteAttr(message[nl.SizeofTcMsg:])
	if err != nil {
		return s, err
	}
	var parts []syscall.NetlinkRouteAttr
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.TCA_KIND:
			s.Set = unix.ByteSliceToString(a.Value) == netemKind
		case nl.TCA_STATS2:
			if parts, err = nl.ParseRouteAttr(a.Value); err != nil {
				return s, err
			}
		}
	}
	if !s.Set {
		return s, nil
	}
	for _, a := range parts {
		u32 := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(a.Value[at:])) }
		switch {
		case a.Attr.Type == nl.TCA_STATS_BASIC && len(a.Value) >= sizeofStatsBasic:
			s.Bytes, s.Packets = binary.NativeEndian.Uint64(a.Value), u32(8)
		case a.Attr.Type == nl.TCA_STATS_QUEUE && len(a.Value) >= sizeofStatsQueue:
			s.Queued, s.Backlog, s.Dropped, s.Requeues, s.Overlimits = u32(0), u32(4), u32(8), u32(12), u32(16)
		}
	}
	return s, nil
}
