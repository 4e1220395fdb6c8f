package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// uevents is the kernel's own announcement of devices, by which the agent waits
// for its ports without asking again and again.
type uevents struct{ fd int }

func listenUevents() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's event socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the kernel's events: %w", err), unix.Close(fd))
	}
	return &uevents{fd}, nil
}

func (u *uevents) Close() error { return unix.Close(u.fd) }

// next waits for any event. Its content does not matter: the caller looks for
// what it waits for. An overrun of the socket's buffer counts as an event.
func (u *uevents) next(deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return err
		}
		var buf [4096]byte
		if _, _, err := unix.Recvfrom(u.fd, buf[:], 0); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return err
		}
		return nil
	}
}

// openPort opens the virtio-serial port of the given name, waiting for it to
// appear.
func openPort(ctx context.Context, events *uevents, name string) (*port, error) {
	deadline := time.Now().Add(portWait)
	for {
		dev, err := findPort("/sys/class/virtio-ports", name)
		if err != nil {
			return nil, err
		}
		if dev != "" {
			fd, err := unix.Open(filepath.Join("/dev", dev), unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == nil {
				return &port{fd: fd}, nil
			}
			// devtmpfs makes the node a moment after sysfs shows the device.
			if !errors.Is(err, unix.ENOENT) {
				return nil, fmt.Errorf("open port %s (/dev/%s): %w", name, dev, err)
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := events.next(deadline); err != nil {
			return nil, fmt.Errorf("wait for virtio-serial port %s: %w (is the machine started with it?)", name, err)
		}
	}
}

// findPort returns the device name, such as "vport1p1", of a virtio-serial port,
// or "" when the kernel has not found it yet.
func findPort(class, name string) (string, error) {
	entries, err := os.ReadDir(class)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for port %s: %w", name, err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(class, e.Name(), "name"))
		if err == nil && strings.TrimSpace(string(got)) == name {
			return e.Name(), nil
		}
	}
	return "", nil
}

// A port is an open virtio-serial port. Reads and writes block in the kernel: a
// port knows no other state than "the host listens" and "it does not", and both
// are events there.
type port struct{ fd int }

// Read reads what the host sent. io.EOF means that nobody is connected there.
func (p *port) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write writes all of b, waiting while the host does not take it.
func (p *port) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := unix.Write(p.fd, b[written:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// Close does nothing: the port outlives each connection over it.
func (p *port) Close() error { return nil }

// A hostWatch waits until the host has connected to a port. The kernel reports
// the absence of a host as a permanent POLLHUP, so a plain poll would spin; an
// edge-triggered epoll wakes up when that changes.
//
// It lives as long as the machine: what is made before a machine is saved, no clone
// has to make or unmake.
type hostWatch struct {
	port  *port
	epoll int
}

func newHostWatch(p *port) (*hostWatch, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch the control port: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLHUP | unix.EPOLLET}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, p.fd, &event); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the control port: %w", err), unix.Close(epoll))
	}
	return &hostWatch{p, epoll}, nil
}

// wait looks at the port first, and then waits for what may change it. An edge from
// before the look costs one look more.
func (h *hostWatch) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		state := []unix.PollFd{{Fd: int32(h.port.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(state, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll the control port: %w", err)
		}
		if state[0].Revents&unix.POLLHUP == 0 {
			return nil
		}
		var got [1]unix.EpollEvent
		if _, err := unix.EpollWait(h.epoll, got[:], -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the rig: %w", err)
		}
	}
	return context.Cause(ctx)
}
