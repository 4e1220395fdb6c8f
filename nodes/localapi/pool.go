package localapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// poolSlots is how many answers can lie in a pool: as many as a session has
	// requests on the way.
	poolSlots = 32
	// slotSize holds any body.
	slotSize = MaxBody + 1
	// smallestPooled is the shortest body that goes through a pool. A shorter one
	// is in the socket for less than it takes to say where it lies.
	smallestPooled = 4096
	// poolSeals keep the memory as long as it is, whoever has the descriptor, and
	// let nobody map it for writing any more.
	poolSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL
)

var errPool = errors.New("malformed use of the pool")

// pool is memory that dsoftbusd shares with one program, for bodies that are too
// long to be copied through a socket, which the kernel does twice. Only dsoftbusd
// can write to it, and it never reads it. The slots are a ring: used in turn, and
// given back in the same order.
type pool struct {
	mu   sync.Mutex
	mem  []byte // nil once closed
	next int    // slot to be used next; dsoftbusd's
	used int    // slots not yet given back; dsoftbusd's
	lent int    // frames that were lent and not yet queued; dsoftbusd's
}

// newPool makes the memory, and the descriptor by which the program gets it. The
// caller closes both.
func newPool() (*pool, *os.File, error) {
	fd, err := unix.MemfdCreate("dsoftbusd-pool", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pool: %w", err)
	}
	file := os.NewFile(uintptr(fd), "pool")
	p := new(pool)
	err = unix.Ftruncate(fd, poolSlots*slotSize)
	if err == nil {
		p.mem, err = unix.Mmap(fd, 0, poolSlots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, poolSeals)
	}
	if err != nil {
		p.close()
		file.Close()
		return nil, nil, fmt.Errorf("make a pool: %w", err)
	}
	return p, file, nil
}

// openPool maps what dsoftbusd sent. It checks that the memory cannot become
// shorter: touching what is not there would end the program.
func openPool(file *os.File) (*pool, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", err)
	}
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 || info.Size() != poolSlots*slotSize {
		return nil, fmt.Errorf("%w: %d bytes, seals %#x, %v", errPool, info.Size(), seals, err)
	}
	mem, err := unix.Mmap(int(file.Fd()), 0, poolSlots*slotSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("open the pool: %w", err)
	}
	return &pool{mem: mem}, nil
}

// close unmaps the memory. A nil pool has none.
func (p *pool) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mem != nil {
		unix.Munmap(p.mem)
		p.mem = nil
	}
}

// Lent is a frame in shared memory that was not yet queued.
type Lent struct{ slot, length int }

// lend puts a frame into the next slot; queued has to follow.
func (p *pool) lend(frame []byte) (Lent, bool) { return p.put(frame, false) }

// place is lend for a frame that is queued at once. It fails as long as frames that
// were lent are not queued: this one would overtake them in the socket, not in the
// ring, and so their slots would be taken for given back when its own is.
func (p *pool) place(frame []byte) (Lent, bool) { return p.put(frame, true) }

func (p *pool) put(frame []byte, atOnce bool) (Lent, bool) {
	if p == nil || len(frame) < smallestPooled || len(frame) > MaxBody {
		return Lent{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mem == nil || p.used == poolSlots || atOnce && p.lent > 0 {
		return Lent{}, false
	}
	lent := Lent{slot: p.next, length: len(frame)}
	copy(p.mem[lent.slot*slotSize:], frame)
	p.next = (p.next + 1) % poolSlots
	p.used++
	if !atOnce {
		p.lent++
	}
	return lent, true
}

// queued notes that a frame which was lent is on its way.
func (p *pool) queued() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent--
}

// get gives the body that a message says where to find.
func (p *pool) get(where []byte) ([]byte, error) {
	if p == nil || p.mem == nil || len(where) != 4 || binary.BigEndian.Uint16(where) >= poolSlots {
		return nil, fmt.Errorf("%w: a body at %x", errPool, where)
	}
	at := int(binary.BigEndian.Uint16(where)) * slotSize
	n := int(binary.BigEndian.Uint16(where[2:]))
	return p.mem[at : at+n : at+n], nil
}

// release takes back as many slots as a message says, those used longest.
func (p *pool) release(count []byte) error {
	if p == nil || len(count) != 2 {
		return fmt.Errorf("%w: %x slots given back", errPool, count)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(binary.BigEndian.Uint16(count)) > p.used {
		return fmt.Errorf("%w: %x slots given back, %d are used", errPool, count, p.used)
	}
	p.used -= int(binary.BigEndian.Uint16(count))
	return nil
}

// descriptorReader reads from a unix socket and keeps the one descriptor that
// may come along, until it is taken.
type descriptorReader struct {
	first *net.UnixConn
	then  net.Conn // the same socket, once the descriptor was taken and no further one will come
	file  *os.File
	taken bool
}

// Read implements io.Reader.
func (r *descriptorReader) Read(p []byte) (int, error) {
	if r.taken {
		return r.then.Read(p)
	}
	var oob [64]byte // room for a surplus, which is seen and closed
	n, oobn, _, _, err := r.first.ReadMsgUnix(p, oob[:])
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.EOF // bare, as readers of streams expect it
		}
		return 0, err
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			if r.file != nil {
				unix.Close(fd)
				continue
			}
			r.file = os.NewFile(uintptr(fd), "pool")
		}
	}
	return n, nil
}

// take gives what has come, or nil.
func (r *descriptorReader) take() *os.File {
	f := r.file
	r.file, r.taken = nil, true
	return f
}

// close closes what nobody took.
func (r *descriptorReader) close() {
	if f := r.take(); f != nil {
		f.Close()
	}
}
