package machine

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// pairTries bounds how many connections of others are turned away.
const pairTries = 100

// newMonitor returns a connection for QMP, and the end of it that QEMU inherits.
// Nothing of it can be reached by name: who speaks QMP has all the power of the
// rig's user, and the network namespace of a replay, in which such names are, is
// the host's.
//
// go-qemu only dials. So the pair is one dialled connection, to a socket with a
// name that nobody knew before, and which is gone when this returns.
func newMonitor() (*qmp.SocketMonitor, *os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix"}) // the kernel chooses an unused name
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	monitor, err := qmp.NewSocketMonitor("unix", l.Addr().String(), startWait)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to QMP: %w", err)
	}
	for range pairTries {
		theirs, err := l.AcceptUnix()
		if err != nil {
			_ = monitor.Disconnect()
			return nil, nil, err
		}
		f, err := ours(theirs)
		theirs.Close()
		if f != nil || err != nil {
			return monitor, f, err
		}
	}
	_ = monitor.Disconnect()
	return nil, nil, errors.New("connect to QMP: another process connects first, again and again")
}

// ours returns the file of a connection that this process has made, nil for one
// that another has.
func ours(conn *net.UnixConn) (*os.File, error) {
	f, err := conn.File()
	if err != nil {
		return nil, err
	}
	peer, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(peer.Pid) != os.Getpid() {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// newPair returns the two ends of a connection without a name: one for this
// process, and one for QEMU to inherit.
func newPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "pair"), os.NewFile(uintptr(fds[1]), "pair")
	conn, err := net.FileConn(mine)
	if err = errors.Join(err, mine.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}
