package quickconn

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Yielder lets those run that wait for sockets. runtime.Gosched does not: the scheduler looks at sockets when nothing else
// can run, and who has called Gosched can. So with one processor a goroutine that its own socket keeps busy holds off all
// that wait for others, for 10 ms and more, however often it calls Gosched.
type Yielder struct {
	event *os.File
	raw   syscall.RawConn
	told  bool
	wait  func(fd uintptr) bool // made once: one for each Yield would be garbage for each
}

// NewYielder makes a Yielder, for one goroutine. It needs a descriptor, which Close frees.
func NewYielder() (*Yielder, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an event: %w", err)
	}
	y := &Yielder{event: os.NewFile(uintptr(fd), "event")}
	if y.raw, err = y.event.SyscallConn(); err != nil {
		y.event.Close()
		return nil, fmt.Errorf("make an event: %w", err)
	}
	y.wait = func(fd uintptr) bool {
		if y.told {
			return true
		}
		// To wait for what has happened already is to run when the scheduler has looked at the sockets. Each write is an
		// event of its own, though none is ever read.
		_, errno := write(fd, one)
		y.told = true
		return errno != 0
	}
	return y, nil
}

// one is the number that each write adds to the event's counter, which has 64 bits.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// Yield returns when all had a turn whose sockets were ready.
func (y *Yielder) Yield() {
	y.told = false
	y.raw.Read(y.wait) // an error says that it was closed: nothing waits then
	// Those found with the event can run now; they go first.
	runtime.Gosched()
}

// Close frees the descriptor. A Yield after it is a runtime.Gosched.
func (y *Yielder) Close() error { return y.event.Close() }
