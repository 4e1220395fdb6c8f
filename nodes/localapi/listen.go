package localapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Listener is a claimed unix socket. Close gives it up and removes the
// socket file.
type Listener struct {
	*net.UnixListener
	lock *os.File
}

// Listen claims the unix socket at path for this process; network is "unix"
// or "unixpacket". The socket has mode 0600 from its first moment.
//
// A socket file left behind by a killed process is replaced. A live one is
// refused with an error that wraps syscall.EADDRINUSE, and so is anything at
// path that is not a socket. Which of two starting processes wins is decided
// by a lock on path+".lock": the kernel drops it however the holder ends, so
// the file stays, and a stale one means nothing.
func Listen(network, path string) (*Listener, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim socket %s: %w", path, err)
	}
	l, err := listenLocked(network, path, lock)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("claim socket %s: %w", path, err)
	}
	return &Listener{UnixListener: l, lock: lock}, nil
}

func listenLocked(network, path string, lock *os.File) (*net.UnixListener, error) {
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errTaken
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := removeStale(network, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// On Linux the mode of the descriptor before bind becomes the mode of
		// the file bind makes; a chmod afterwards would leave a gap.
		var chmod error
		if err := raw.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	l, err := config.Listen(context.Background(), network, path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

var errTaken = fmt.Errorf("another process serves it, stop that one first: %w", syscall.EADDRINUSE)

// removeStale removes the socket at path if nobody listens on it.
func removeStale(network, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("the file there is not a socket, move it away: %w", syscall.EADDRINUSE)
	}
	// Connecting to a local socket never waits for the other process: a
	// second is for a machine that is itself stuck.
	conn, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		conn.Close()
		return errTaken
	}
	// Anything but a refusal (a full backlog, another socket type, no
	// permission) comes from a socket that somebody still has.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w (%v)", errTaken, err)
	}
	return os.Remove(path)
}

// Close stops listening, removes the socket file and lets the next process
// claim the path.
func (l *Listener) Close() error {
	return errors.Join(l.UnixListener.Close(), l.lock.Close())
}
