package live

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"dsoftbus-rig/rig/ownport"

	"golang.org/x/sys/unix"
)

// nobody is how a user looks who is none of this process's user namespace (/proc/sys/kernel/overflowuid).
const nobody = 65534

// mayAsk returns nil when the peer is this process's own user, or root. The socket's folder lets nobody else in;
// this says so once more, whatever becomes of the folder.
//
// A worker of an ordinary user sees that user as 0, in a user namespace of its own, and everybody else as nobody; the host's root, too.
func mayAsk(conn *net.UnixConn) error {
	uid, err := ownport.UnixPeer(conn)
	if err != nil {
		return &Error{Refused, fmt.Sprintf("who asks is not known: %v", err)}
	}
	if !allowed(uid, os.Geteuid()) {
		return &Error{Refused, "this scenario belongs to another user; ask as the one who has started it"}
	}
	return nil
}

func allowed(peer, self int) bool {
	return peer != nobody && (peer == self || peer == 0)
}

// A hangup waits until a connection's peer has gone, whether or not anybody reads what the peer has sent before.
type hangup struct {
	conn net.Conn // a duplicate, so that it can be waited for beside reads and writes
	done chan struct{}
}

// whenGone calls f when the peer has closed the connection; with half, also when it has closed only its own side, and will send no more.
func whenGone(conn *net.UnixConn, half bool, f func()) (*hangup, error) {
	file, err := conn.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	dup, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	raw, err := dup.(syscall.Conn).SyscallConn()
	if err != nil {
		dup.Close()
		return nil, err
	}
	h := &hangup{conn: dup, done: make(chan struct{})}
	events := int16(0) // POLLHUP comes without being asked for
	if half {
		events = unix.POLLRDHUP
	}
	go func() {
		defer close(h.done)
		gone := false
		// The runtime's poller calls this again for whatever happens to the socket.
		_ = raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
			n, err := unix.Poll(fds, 0)
			gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
			return gone
		})
		if gone {
			f()
		}
	}()
	return h, nil
}

// stop ends the waiting; f is not called any more when it has returned.
func (h *hangup) stop() {
	h.conn.Close()
	<-h.done
}
