// Package quickconn owns reading and writing of sockets by system calls that the Go scheduler is not told of.
//
// The scheduler expects of every system call that it may block. When one takes longer than some 20 µs, a watching thread
// hands the processor on to another thread, and it goes on watching at that pace for a while. Where a machine is emulated,
// copying 64 KiB takes ten times as long: with one processor the watching and handing on then costs as much as the copying,
// dozens of thread switches for each read. The sockets of package net never block, so nothing has to be handed on.
//
// What waits is package net's as ever: deadlines, closing and the poller work as they do without this package.
package quickconn

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Conn is a connection whose Read and Write are quick. As with every session or program, one goroutine reads and one writes
// at a time; Close and deadlines come from anywhere.
type Conn struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is one direction. Its function is made once: one for each read would be garbage for each read.
type transfer struct {
	p   []byte
	n   int
	err error
	try func(fd uintptr) bool
}

// New gives the quick form of a socket. Anything else, as tests have it, stays as it is.
func New(c net.Conn) net.Conn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	q := &Conn{Conn: c, raw: raw}
	q.in.try = func(fd uintptr) bool { return q.in.once(read, fd) }
	q.out.try = func(fd uintptr) bool { return q.out.once(write, fd) }
	return q
}

// once makes the call unless the socket is not ready for it, which is to be waited for.
func (t *transfer) once(call func(uintptr, []byte) (int, syscall.Errno), fd uintptr) bool {
	for {
		n, errno := call(fd, t.p)
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		case 0:
			t.n, t.err = n, nil
		default:
			t.n, t.err = 0, errno
		}
		return true
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in.p = p
	err := c.raw.Read(c.in.try)
	c.in.p = nil
	if err != nil {
		return 0, err
	}
	if c.in.err != nil {
		return 0, c.failed("read", c.in.err)
	}
	if c.in.n == 0 {
		return 0, io.EOF
	}
	return c.in.n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	for done := 0; ; {
		c.out.p = p[done:]
		err := c.raw.Write(c.out.try)
		c.out.p = nil
		if err == nil && c.out.err != nil {
			err = c.failed("write", c.out.err)
		}
		if err != nil {
			return done, err
		}
		if done += c.out.n; done == len(p) {
			return done, nil
		}
	}
}

// failed is the error that package net would give.
func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
