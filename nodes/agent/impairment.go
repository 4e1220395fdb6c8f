package agent

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"

	"github.com/vishvananda/netlink"
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

	mu sync.Mutex // held while the discipline is replaced
}

// impair replaces the impairment in force, and returns what that one had done. The zero
// value only ends it.
//
// A new discipline takes the place of the old one, whose packets held back are lost as
// with a cable that is pulled. Changing the old one in its place would keep them, but
// netem keeps corruption and rate then, too, unless told otherwise.
func (i *impairer) impair(want agentapi.Impairment) (before agentapi.ImpairmentStatistics, err error) {
	if err := want.Check(); err != nil {
		return before, fmt.Errorf("impair %s: %w", interfaceName, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	err = i.withNetem(func(handle *netlink.Handle, old *netlink.Netem) error {
		before = statistics(old)
		if want == (agentapi.Impairment{}) {
			if old == nil {
				return nil
			}
			return handle.QdiscDel(old)
		}
		if err := loadOptional(i.modules, netemModule); err != nil {
			return err
		}
		major := uint16(1)
		if old != nil && old.Handle == netlink.MakeHandle(major, 0) {
			major++ // with the same one the old discipline would be changed
		}
		err := handle.QdiscReplace(netem(i.network.index, major, want))
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("the kernel has no %s: the module %s is neither built in nor among those in %s", netemKind, netemModule, i.modules)
		}
		return err
	})
	return before, err
}

// impairment returns what the impairment in force has done so far.
func (i *impairer) impairment() (now agentapi.ImpairmentStatistics, err error) {
	err = i.withNetem(func(_ *netlink.Handle, current *netlink.Netem) error {
		now = statistics(current)
		return nil
	})
	return now, err
}

// withNetem calls f with the card's netem, nil when there is none.
func (i *impairer) withNetem(f func(*netlink.Handle, *netlink.Netem) error) error {
	if !i.network.there {
		return fmt.Errorf("impair %s: there is none (is the virtio_net module loaded?)", interfaceName)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("impair %s: %w", interfaceName, err)
	}
	defer handle.Close()
	all, err := handle.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: i.network.index}})
	if err != nil {
		return fmt.Errorf("impair %s: list its queueing disciplines: %w", interfaceName, err)
	}
	var found *netlink.Netem
	for _, q := range all {
		if n, ok := q.(*netlink.Netem); ok && n.Parent == netlink.HANDLE_ROOT {
			found = n
		}
	}
	if err := f(handle, found); err != nil {
		return fmt.Errorf("impair %s: %w", interfaceName, err)
	}
	return nil
}

// netem returns the queueing discipline for an impairment that is not none. It is not
// netlink.NewNetem's, which takes a jitter without a delay for one in ticks, and
// percentages in 24 bits.
func netem(link int, major uint16, want agentapi.Impairment) *netlink.Netem {
	q := &netlink.Netem{
		QdiscAttrs:  netlink.QdiscAttrs{LinkIndex: link, Handle: netlink.MakeHandle(major, 0), Parent: netlink.HANDLE_ROOT},
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

func statistics(q *netlink.Netem) agentapi.ImpairmentStatistics {
	if q == nil {
		return agentapi.ImpairmentStatistics{}
	}
	s := agentapi.ImpairmentStatistics{Set: true}
	if q.Statistics != nil {
		basic, queue := q.Statistics.Basic, q.Statistics.Queue
		s.Packets, s.Bytes = uint64(basic.Packets), basic.Bytes
		s.Dropped, s.Requeues, s.Overlimits = uint64(queue.Drops), uint64(queue.Requeues), uint64(queue.Overlimits)
		s.Queued, s.Backlog = uint64(queue.Qlen), uint64(queue.Backlog)
	}
	return s
}
