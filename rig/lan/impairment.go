package lan

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoNetem says that the kernel lacks what impairs frames. It comes in a *HostError that names what is missing. A machine's own kernel may have it.
var ErrNoNetem = errors.New("the kernel cannot impair frames")

// An Impairment is what happens to the frames that a node sends, to all of them alike, wherever they go. The zero value of a field leaves them alone.
type Impairment struct {
	Delay  time.Duration // of each frame; at most MaxDelay
	Jitter time.Duration // by which Delay varies to both sides, evenly; at most Delay. Frames overtake each other by it

	Loss      float64 // percent of frames that are dropped
	Duplicate float64 // percent that come twice
	Reorder   float64 // percent that are not delayed and so overtake others; needs a Delay
	Corrupt   float64 // percent that have one bit flipped

	// Rate is bytes a second, at least MinRate. What comes faster waits, up to 1000 full frames; the rest is dropped.
	Rate uint64
}

// Bounds of Impairment.
const (
	MaxDelay = 4 * time.Minute // the kernel counts 64 ns in 32 bits

	// Bytes a second. The token bucket counts its burst, of two full frames at least, as time, in nanoseconds and 32 bits.
	MinRate = 1000
)

func (i Impairment) check() error {
	for _, p := range []struct {
		name    string
		percent float64
	}{{"loss", i.Loss}, {"duplicate", i.Duplicate}, {"reorder", i.Reorder}, {"corrupt", i.Corrupt}} {
		if !(p.percent >= 0 && p.percent <= 100) {
			return fmt.Errorf("%s of %v%%: it is between 0 and 100", p.name, p.percent)
		}
	}
	switch {
	case i == Impairment{}:
		return errors.New("it changes nothing")
	case i.Delay < 0 || i.Delay > MaxDelay:
		return fmt.Errorf("delay of %s: it is between 0 and %s", i.Delay, MaxDelay)
	case i.Jitter < 0 || i.Jitter > i.Delay:
		return fmt.Errorf("jitter of %s: it is between 0 and the delay, %s", i.Jitter, i.Delay)
	case i.Reorder > 0 && i.Delay < time.Microsecond:
		return errors.New("reorder without a delay: a frame overtakes those that are delayed")
	case i.Delay > 0 && i.Delay < time.Microsecond:
		return fmt.Errorf("delay of %s: it is counted in microseconds", i.Delay)
	case i.Rate > 0 && i.Rate < MinRate:
		return fmt.Errorf("rate of %d bytes a second: at least %d", i.Rate, MinRate)
	}
	return nil
}

// ImpairmentCounts are frames since the impairment began. Seen + duplicates = Passed + Dropped + Held. How many were reordered or corrupted the
// kernel does not count.
type ImpairmentCounts struct {
	Seen, SeenBytes     uint64 // what the node sent
	Passed, PassedBytes uint64 // what went on, duplicates included
	Dropped             uint64 // lost as asked for, or because too many were waiting, or still held when the impairment ended
	Held                uint64 // waiting now
	Delayed             uint64 // that went on late or are waiting: Passed + Held of an impairment with a delay or a rate
}

// An impairing is an impairment in force. What a node sends comes *into* its tap, and queueing disciplines sit where frames leave a link. So frames are
// redirected from the tap's ingress to a link of their own (ifb), which puts what leaves it back to where it was taken from.
type impairing struct {
	impairment Impairment
	tap, ifb   netlink.Link
	before     ImpairmentCounts // Seen when a former impairment was replaced: the redirection's counter goes on
}

// Impair impairs what the port's node sends. An impairment in force is replaced by it, and its final counts are returned: what it still held is lost.
// The rig's own frames are not touched.
func (p *Port) Impair(i Impairment) (replaced ImpairmentCounts, err error) {
	l := p.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("impair port %s: %w", p.name, explainNetlink(err))
		}
	}()
	if l.closed {
		return ImpairmentCounts{}, os.ErrClosed
	}
	if err := i.check(); err != nil {
		return ImpairmentCounts{}, err
	}
	if l.impaired == nil {
		l.impaired = make(map[string]*impairing)
		l.undo("end impairments", func() error {
			var errs []error
			for name := range l.impaired {
				_, err := l.clearImpairment(name)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		})
	}
	l.made++
	if old := l.impaired[p.name]; old != nil {
		counts, err := l.impairmentCounts(old)
		if err != nil {
			return ImpairmentCounts{}, err
		}
		if err := l.setQdisc(old.ifb, i, l.made); err != nil {
			return ImpairmentCounts{}, err
		}
		l.impaired[p.name] = &impairing{
			impairment: i, tap: old.tap, ifb: old.ifb,
			before: ImpairmentCounts{Seen: old.before.Seen + counts.Seen, SeenBytes: old.before.SeenBytes + counts.SeenBytes},
		}
		return counts.ended(), nil
	}
	tap, err := l.handle.LinkByName(p.name)
	if err != nil {
		return ImpairmentCounts{}, err
	}
	// Links have 15 letters, and a port's name may take them all.
	im := &impairing{impairment: i, tap: tap}
	if im.ifb, err = l.addIfb(fmt.Sprint("ifb", tap.Attrs().Index), tap.Attrs().MTU); err != nil {
		return ImpairmentCounts{}, err
	}
	if err := l.setQdisc(im.ifb, i, l.made); err != nil {
		return ImpairmentCounts{}, errors.Join(err, l.handle.LinkDel(im.ifb))
	}
	if err := l.redirect(tap, im.ifb); err != nil {
		return ImpairmentCounts{}, errors.Join(err, l.handle.LinkDel(im.ifb))
	}
	l.impaired[p.name] = im
	return ImpairmentCounts{}, nil
}

// ClearImpairment ends the impairment of the port and returns its final counts; with none in force they are 0. What it still holds is lost.
func (p *Port) ClearImpairment() (ImpairmentCounts, error) {
	l := p.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ImpairmentCounts{}, fmt.Errorf("end impairment of port %s: %w", p.name, os.ErrClosed)
	}
	if l.impaired[p.name] == nil {
		return ImpairmentCounts{}, nil
	}
	return l.clearImpairment(p.name)
}

func (l *LAN) clearImpairment(port string) (ImpairmentCounts, error) {
	im := l.impaired[port]
	counts, err := l.impairmentCounts(im)
	// The redirection first: while it is there and its end is not, frames are lost.
	err = errors.Join(err, l.handle.QdiscDel(ingress(im.tap)))
	if after, aerr := l.impairmentCounts(im); aerr == nil {
		// What came between the reading and the end.
		after.Seen, after.SeenBytes = counts.Seen, counts.SeenBytes
		counts = after
	}
	err = errors.Join(err, l.handle.LinkDel(im.ifb))
	delete(l.impaired, port)
	if err != nil {
		err = fmt.Errorf("end impairment of port %s: %w", port, explainNetlink(err))
	}
	return counts.ended(), err
}

func (c ImpairmentCounts) ended() ImpairmentCounts {
	c.Dropped += c.Held
	if c.Delayed > 0 {
		c.Delayed = c.Passed
	}
	c.Held = 0
	return c
}

func (l *LAN) impairmentCounts(im *impairing) (ImpairmentCounts, error) {
	var c ImpairmentCounts
	filters, err := l.handle.FilterList(im.tap, ingressHandle)
	if err != nil {
		return c, fmt.Errorf("read what was redirected: %w", err)
	}
	for _, f := range filters {
		u32, ok := f.(*netlink.U32)
		if !ok || len(u32.Actions) != 1 || u32.Actions[0].Attrs().Statistics == nil {
			continue
		}
		s := u32.Actions[0].Attrs().Statistics
		seen := withHeaders(uint64(s.Basic.Packets), s.Basic.Bytes)
		c.Seen, c.SeenBytes = seen.Frames-im.before.Seen, seen.Bytes-im.before.SeenBytes
	}
	qdiscs, err := l.handle.QdiscList(im.ifb)
	if err != nil {
		return c, fmt.Errorf("read the queue's counters: %w", err)
	}
	for _, q := range qdiscs {
		s := q.Attrs().Statistics
		if q.Attrs().Parent != netlink.HANDLE_ROOT || s == nil {
			continue
		}
		c.Passed, c.PassedBytes = uint64(s.Basic.Packets), s.Basic.Bytes
		c.Dropped, c.Held = uint64(s.Queue.Drops), uint64(s.Queue.Qlen)
		if im.impairment.Delay > 0 || im.impairment.Rate > 0 {
			c.Delayed = c.Passed + c.Held
		}
	}
	return c, nil
}

// addIfb makes the link that frames are redirected to.
func (l *LAN) addIfb(name string, mtu int) (_ netlink.Link, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	ifb := &netlink.Ifb{LinkAttrs: attrs}
	if err := l.handle.LinkAdd(ifb); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, noNetem("no ifb, the link that incoming frames are queued on", "ifb", err)
		}
		return nil, fmt.Errorf("add link %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.handle.LinkDel(ifb))
		}
	}()
	if err := l.noAutoconf(ifb); err != nil {
		return nil, err
	}
	if err := l.handle.LinkSetUp(ifb); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return ifb, nil
}

// setQdisc puts a fresh queue in place of the link's own. Changing the one that is there would keep what it holds, but also what the new request says
// nothing of, and its counters. number makes the difference.
func (l *LAN) setQdisc(link netlink.Link, i Impairment, number int) error {
	q := queue(i, link.Attrs().Index, link.Attrs().MTU, number)
	err := l.handle.QdiscReplace(q)
	if errors.Is(err, unix.ENOENT) {
		return noNetem("no "+q.Type()+", the queue that impairs frames", "sch_"+q.Type(), err)
	}
	if err != nil {
		return fmt.Errorf("set %s of %s: %w", q.Type(), link.Attrs().Name, err)
	}
	return nil
}

// queue is the request for an impairment's queue. A rate alone needs no netem, which fewer kernels have than the token bucket.
func queue(i Impairment, index, mtu, number int) netlink.Qdisc {
	attrs := netlink.QdiscAttrs{
		LinkIndex: index,
		Parent:    netlink.HANDLE_ROOT,
		Handle:    netlink.MakeHandle(uint16(1+number%0x7000), 0), // those from 0x8000 on are the kernel's to give
	}
	frame := mtu + ethernetHeader
	if i == (Impairment{Rate: i.Rate}) {
		// A burst of what the rate lets through in 10 ms: less needs a timer's interrupt for each frame. But at least two frames.
		burst := uint32(min(max(i.Rate/100, 2*uint64(frame)), math.MaxInt32))
		return &netlink.Tbf{
			QdiscAttrs: attrs, Rate: i.Rate,
			Limit:  uint32(rateFrames*frame) + burst,
			Buffer: netlink.Xmittime(i.Rate, burst),
		}
	}
	limit := uint32(delayFrames)
	if i.Rate > 0 {
		limit = rateFrames
	}
	return netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{
		Latency: uint32(i.Delay.Microseconds()), Jitter: uint32(i.Jitter.Microseconds()), Limit: limit,
		Loss: float32(i.Loss), Duplicate: float32(i.Duplicate),
		ReorderProb: float32(i.Reorder), CorruptProb: float32(i.Corrupt),
		Rate64: i.Rate,
	})
}

const (
	rateFrames = 1000 // as a network card has; netem's default

	// As many as 1 s at 1 Gbit/s: a delay alone should lose nothing.
	delayFrames = 100_000
)

const ingressHandle = 0xffff_0000 // of the one queue for incoming frames that a link can have

func ingress(link netlink.Link) netlink.Qdisc {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_INGRESS, Handle: ingressHandle,
	}}
}

// redirect sends every frame that comes into a link to another one.
func (l *LAN) redirect(from, to netlink.Link) (err error) {
	if err := l.handle.QdiscAdd(ingress(from)); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return noNetem("no queue for incoming frames", "sch_ingress", err)
		}
		return fmt.Errorf("add ingress queue of %s: %w", from.Attrs().Name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.handle.QdiscDel(ingress(from)))
		}
	}()
	// u32 without a key matches every frame, as matchall does, and more kernels have it.
	err = l.handle.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: from.Attrs().Index, Parent: ingressHandle, Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	})
	if errors.Is(err, unix.ENOENT) {
		return noNetem("no filter that redirects frames", "-a cls_u32 act_mirred", err)
	}
	if err != nil {
		return fmt.Errorf("redirect %s: %w", from.Attrs().Name, err)
	}
	return nil
}

// ProbeNetem tells whether the kernel can impair frames as Port.Impair does, by making all that it takes in the current namespace, between two links
// of its own, and taking it away again. What is missing is named in a *HostError that is ErrNoNetem. An impairment that is a rate alone may
// be possible all the same.
func ProbeNetem() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("probe netem: open netlink socket: %w", err)
	}
	defer handle.Close()
	l := &LAN{handle: handle}
	if err := errors.Join(l.probeNetem(), l.Close()); err != nil {
		return fmt.Errorf("probe netem: %w", explainNetlink(err))
	}
	return nil
}

func (l *LAN) probeNetem() error {
	var links []netlink.Link
	for _, name := range []string{"rig-probe0", "rig-probe1"} {
		ifb, err := l.addIfb(name, DefaultMTU)
		if err != nil {
			return err
		}
		l.undo("delete link "+name, func() error { return l.handle.LinkDel(ifb) })
		links = append(links, ifb)
	}
	if err := l.redirect(links[0], links[1]); err != nil {
		return err
	}
	return l.setQdisc(links[1], Impairment{Delay: time.Millisecond, Loss: 1}, 0)
}

func noNetem(problem, module string, err error) error {
	return &HostError{Problem: "this kernel has " + problem, Next: "load it: `modprobe " + module + "`", Err: lack{ErrNoNetem, err}}
}
