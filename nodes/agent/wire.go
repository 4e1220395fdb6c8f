package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/debugcon"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A wire is how the rig is connected to this machine, one connection at a time.
type wire interface {
	// next waits for the rig. The connection is the wire's, which ends it when the next one is asked for.
	next(context.Context) (io.ReadWriteCloser, error)
}

// openWires opens what the rig is spoken to through, and the journal's way out. A machine that is recorded says on its kernel's command line that it
// is: then both are devices of which everything that enters the machine is in the recording.
func openWires(ctx context.Context) (control wire, journal io.Writer, err error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel's command line: %w", err)
	}
	for word := range strings.FieldsSeq(string(cmdline)) {
		value, ok := strings.CutPrefix(word, agentapi.ControlParameter)
		if !ok {
			continue
		}
		at, err := agentapi.ParseControlAddress(value)
		if err != nil {
			return nil, nil, fmt.Errorf("%s on the kernel's command line: %w", word, err)
		}
		out, err := debugcon.Open()
		if err != nil {
			return nil, nil, err
		}
		l, err := listenApart(at)
		if err != nil {
			return nil, nil, fmt.Errorf("listen to the rig on a network card of its own: %w", err)
		}
		return &netWire{listener: l}, out, nil
	}
	events, err := listenUevents()
	if err != nil {
		return nil, nil, err
	}
	port, err := openPort(ctx, events, agentapi.ControlPort)
	if err != nil {
		return nil, nil, err
	}
	out, err := openPort(ctx, events, agentapi.JournalPort)
	if err != nil {
		return nil, nil, err
	}
	if err := events.Close(); err != nil {
		return nil, nil, fmt.Errorf("close the kernel's event socket: %w", err)
	}
	host, err := newHostWatch(port)
	if err != nil {
		return nil, nil, err
	}
	return portWire{host}, out, nil
}

// A portWire is a virtio-serial port.
type portWire struct{ *hostWatch }

func (w portWire) next(ctx context.Context) (io.ReadWriteCloser, error) {
	return w.port, w.wait(ctx)
}

// A netWire is a TCP listener in a network namespace that nothing else is in.
type netWire struct {
	listener net.Listener
	last     net.Conn
}

func (w *netWire) next(ctx context.Context) (io.ReadWriteCloser, error) {
	if w.last != nil {
		_ = w.last.Close() // its other end is gone
	}
	stop := context.AfterFunc(ctx, func() { _ = w.listener.Close() })
	defer stop()
	conn, err := w.listener.Accept()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("wait for the rig: %w", err)
	}
	w.last = conn
	return conn, nil
}

// listenApart moves the network card of that MAC into a new network namespace, gives it its address there, and listens: whatever the scenario's programs do to
// the machine's network, or would send through every card they find, this one is not theirs.
func listenApart(at agentapi.ControlAddress) (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		// The thread has another namespace from here on, and ends with this goroutine. The socket stays where it was made.
		runtime.LockOSThread()
		l, err := moveAndListen(at)
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}

func moveAndListen(at agentapi.ControlAddress) (net.Listener, error) {
	outside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer outside.Close()
	links, err := outside.LinkList()
	if err != nil {
		return nil, err
	}
	var card netlink.Link
	for _, link := range links {
		if link.Attrs().HardwareAddr.String() == at.MAC.String() {
			card = link
		}
	}
	if card == nil {
		return nil, fmt.Errorf("there is no network card %s (is the virtio_net module loaded?)", at.MAC)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer here.Close()
	if err := outside.LinkSetNsFd(card, int(here.Fd())); err != nil {
		return nil, fmt.Errorf("move %s: %w", card.Attrs().Name, err)
	}
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	if card, err = inside.LinkByName(card.Attrs().Name); err != nil {
		return nil, err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: at.Address.Addr().AsSlice(), Mask: net.CIDRMask(at.Address.Bits(), 32)}}
	if err := inside.AddrAdd(card, address); err != nil {
		return nil, fmt.Errorf("give %s the address %s: %w", card.Attrs().Name, at.Address, err)
	}
	if err := inside.LinkSetUp(card); err != nil {
		return nil, fmt.Errorf("set %s up: %w", card.Attrs().Name, err)
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at.Endpoint()))
	if err != nil {
		return nil, err
	}
	return l, nil
}
