// Package capture writes the frames of one scenario's network into one pcapng file, each of them once, with what the scenario did meanwhile
// as packet comments.
//
// A frame is taken where it enters the network: what a node sends at its port, on an interface with the node's name, and what the rig sends
// at the bridge, on the interface RigInterface. So it is there whatever a fault of the network then does to it, and nothing is there twice
// but what was sent twice. Frames that a node's own impairment held back or dropped were never sent.
//
// The kernel puts frames into a ring (AF_PACKET, TPACKET_V3), one goroutine moves them from there to the file. Nobody waits for it: what
// finds no place in the ring is lost to the capture, not to the network, and counted. The package decodes nothing.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dsoftbus-rig/rig/record"

	"github.com/gopacket/gopacket/afpacket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// RigInterface is the interface of what the rig itself sends, and of comments that no frame follows.
const RigInterface = "rig"

// DefaultLimit is how large a file gets, in bytes: some minutes of a scenario, or the first seconds of a benchmark.
const DefaultLimit = 64 << 20

const (
	// The ring has room for what a pair of emulated machines sends in some 200 ms. Its blocks hold several of the longest frames,
	// which are 64 KiB where a machine leaves it to the network to cut up what it sends.
	blockSize  = 512 << 10
	blockCount = 32
	// blockWait is when the kernel hands over a block that is not full, and idleWait when the reader looks for its end, and writes
	// out what it has. Together they are what a capture's end takes at most.
	blockWait = 10 * time.Millisecond
	idleWait  = 20 * time.Millisecond
	// drainWait bounds the reading of what still comes when the capture ends. Machines are gone by then.
	drainWait = time.Second
)

// A Capture is a file that is being written. A nil Capture captures nothing: all its methods may be called. They may be called concurrently.
type Capture struct {
	path  string
	limit int64
	notes notes

	name     func(link string) string
	names    map[int]string // of interfaces, by the link's index; the reader's
	syncs    chan waiter    // from Sync to the reader
	draining atomic.Int64   // when the reader ends in any case, Unix nanoseconds; 0: not yet
	dropping atomic.Bool    // nothing more is wanted
	ready    chan struct{}  // closed when frames are captured, or cannot be; nil until Start
	done     chan struct{}  // closed when the reader has ended
	stats    Stats          // valid after done
	err      error          // valid after done
}

// New returns a capture that will be the file path, of limit bytes at most (0: DefaultLimit). Nothing is made before Start; events are
// heard from the first one on.
func New(path string, limit int64) *Capture {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Capture{path: path, limit: limit}
}

// Event makes a comment of a step, marker, fault or other event of the scenario, which goes to the next frame.
func (c *Capture) Event(e record.Event) {
	if c == nil {
		return
	}
	if text := comment(e); text != "" {
		c.notes.add(text)
	}
}

// Start begins to capture in the current network namespace, and to make the file. bridge is the index of the bridge, at which the rig sends;
// name gives the interface of a port by its link's name, "" for a link of which nothing is to be captured.
//
// It does not wait: for the ring the kernel takes some 15 ms, in which a machine's process can be started. See Await.
func (c *Capture) Start(bridge int, name func(link string) string) {
	if c == nil {
		return
	}
	c.name, c.names = name, map[int]string{bridge: RigInterface}
	c.ready, c.done, c.syncs = make(chan struct{}), make(chan struct{}), make(chan waiter)
	go func() {
		defer close(c.done)
		c.err = c.run(bridge)
	}()
}

// Await waits until frames are captured, or it is known that they cannot be, which Stop then says. It is called before a machine runs.
func (c *Capture) Await() {
	if c != nil && c.ready != nil {
		<-c.ready
	}
}

// A waiter waits until the frames of before a time are in the file.
type waiter struct {
	before time.Time
	done   chan struct{}
}

// Sync returns when all frames that were sent before the call are in the file,
// or the capture or ctx has ended.
func (c *Capture) Sync(ctx context.Context) {
	if c == nil || c.done == nil {
		return
	}
	s := waiter{time.Now(), make(chan struct{})}
	select {
	case c.syncs <- s:
	case <-c.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-s.done:
	case <-c.done:
	case <-ctx.Done():
	}
}

// run is the capture from its beginning to its end.
func (c *Capture) run(bridge int) error {
	began := time.Now()
	ring, err := open(bridge)
	var w *file
	if err == nil {
		defer ring.Close()
		w, err = create(c.path, c.limit)
	}
	close(c.ready)
	if err != nil {
		return err
	}
	err = c.read(ring, w)
	_, socket, statErr := ring.SocketStats()
	if statErr != nil {
		statErr = fmt.Errorf("count lost frames: %w", statErr)
	}
	c.stats = w.stats
	c.stats.Lost, c.stats.Limit = uint64(socket.Drops()), c.limit
	err = errors.Join(err, statErr, w.close(began, c.stats, &c.notes))
	if c.dropping.Load() {
		err = errors.Join(err, os.Remove(c.path))
	}
	return err
}

// open opens the ring.
func open(bridge int) (*afpacket.TPacket, error) {
	filter, err := ownFrames(bridge)
	if err != nil {
		return nil, err
	}
	ring, err := afpacket.NewTPacket(afpacket.TPacketVersion3,
		afpacket.OptFrameSize(4096), afpacket.OptBlockSize(blockSize), afpacket.OptNumBlocks(blockCount),
		afpacket.OptBlockTimeout(blockWait), afpacket.OptPollTimeout(idleWait))
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := ring.SetBPF(filter); err != nil {
		ring.Close()
		return nil, fmt.Errorf("filter the packet socket: %w", err)
	}
	return ring, nil
}

// ownFrames is the filter that passes what ports get from their machines, and what the bridge gets from this host.
func ownFrames(bridge int) ([]bpf.RawInstruction, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	const most = 256 << 10 // bytes of one frame, above the longest
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(lo.Index), SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(bridge), SkipTrue: 2},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 3, SkipFalse: 2},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipFalse: 1},
		bpf.RetConstant{Val: most},
		bpf.RetConstant{Val: 0},
	}
	return bpf.Assemble(program)
}

// read moves frames from the ring to the file. A file that cannot be written any more takes no more frames; they are read all the same.
func (c *Capture) read(ring *afpacket.TPacket, w *file) error {
	var waiting []waiter
	// passed lets go those who wait for frames of before a time.
	passed := func(now time.Time) {
		if len(waiting) == 0 {
			return
		}
		w.flush()
		waiting = slices.DeleteFunc(waiting, func(s waiter) bool {
			over := now.After(s.before)
			if over {
				close(s.done)
			}
			return over
		})
	}
	for {
		select {
		case s := <-c.syncs:
			waiting = append(waiting, s)
		default:
		}
		data, info, err := ring.ZeroCopyReadPacketData()
		end := c.draining.Load()
		switch {
		case c.dropping.Load():
			return nil
		case errors.Is(err, afpacket.ErrTimeout):
			w.flush()
			passed(time.Now().Add(-2 * blockWait)) // a frame may be in a block that the kernel has not handed over yet
			if end != 0 {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("read the packet socket: %w", err)
		}
		passed(info.Timestamp)
		if name := c.interfaceOf(info.InterfaceIndex); name != "" {
			w.frame(name, info.Timestamp, data, info.Length, &c.notes)
		}
		if end != 0 && time.Now().UnixNano() > end {
			return nil
		}
	}
}

// interfaceOf is the name of the interface to which the frames of a link belong.
func (c *Capture) interfaceOf(link int) string {
	name, known := c.names[link]
	if !known {
		if i, err := net.InterfaceByIndex(link); err == nil {
			name = c.name(i.Name)
		}
		c.names[link] = name
	}
	return name
}

// Stats are what became of the frames.
type Stats struct {
	Frames         uint64 // in the file
	Unwritten      uint64 // not in the file, since it had reached its limit or could not be written
	UnwrittenBytes uint64
	Lost           uint64 // never seen: the reader was late, and the ring full
	Limit          int64  // bytes of the file
}

// Warnings says what is missing in the file, in lines for the record; none when nothing is.
func (s Stats) Warnings() []string {
	var lines []string
	if s.Unwritten > 0 {
		lines = append(lines, fmt.Sprintf("%s has the first %d frames: %d more, %d bytes, were not written at its limit of %s (-capture-size)",
			record.CaptureFile, s.Frames, s.Unwritten, s.UnwrittenBytes, megabytes(s.Limit)))
	}
	if s.Lost > 0 {
		lines = append(lines, fmt.Sprintf("%s lacks %d frames that came faster than they could be read; the network itself has lost none of them", record.CaptureFile, s.Lost))
	}
	return lines
}

func megabytes(n int64) string { return fmt.Sprintf("%g MiB", float64(n)/(1<<20)) }

// Drop says that the file is not wanted, so that its end does not take any time of Stop. It does not wait.
func (c *Capture) Drop() {
	if c != nil {
		c.dropping.Store(true)
	}
}

// Stop ends the capture and, unless it is kept, removes the file. It is called when the machines are gone; events after it are not heard.
// With keep it returns when all that was sent is in the file. Without Start it does nothing. Its error is also that of the beginning.
func (c *Capture) Stop(keep bool) (Stats, error) {
	if c == nil || c.done == nil {
		return Stats{}, nil
	}
	if !keep {
		c.Drop()
	}
	c.draining.Store(time.Now().Add(drainWait).UnixNano())
	<-c.done
	if c.err != nil {
		return c.stats, fmt.Errorf("capture frames to %s: %w", c.path, c.err)
	}
	return c.stats, nil
}

// notes are comments that wait for a frame.
type notes struct {
	mu   sync.Mutex
	text []string
	more int // that found no room
}

// maxNotes bounds the comments of one frame: more than happens between two announces.
const maxNotes = 256

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.text) == maxNotes {
		n.more++
		return
	}
	n.text = append(n.text, text)
}

// take returns what waits, and leaves nothing.
func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := n.text
	if n.more > 0 {
		text = append(text, fmt.Sprintf("(%d more events)", n.more))
	}
	n.text, n.more = nil, 0
	return text
}
