package netbench

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/protocol/session"

	"golang.org/x/sys/unix"
)

// draw prints what a machine draws that no other must draw, and this one never again.
func draw(_ context.Context, r *request) error {
	var drawn string
	var err error
	switch r.what {
	case "random":
		drawn = drawRandom()
	case "sequence":
		drawn, err = drawSequence()
	case "ephemeral":
		drawn, err = drawEphemeral()
	default:
		return cli.Usagef("draw: -what %q is none of random, sequence, ephemeral", r.what)
	}
	if err != nil {
		return fmt.Errorf("draw %s: %w", r.what, err)
	}
	_, err = fmt.Fprintln(r.stdout, drawn)
	return err
}

// drawRandom takes from the source that keys are made from.
func drawRandom() string {
	var b [32]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x", b)
}

// drawSequence is the first sequence number of a TCP connection to this machine itself:
// while a connection is under repair (tcp(7), TCP_REPAIR; it takes root) the kernel
// tells which one it sends next.
func drawSequence() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return "", err
	}
	var next int
	var asked error
	err = raw.Control(func(fd uintptr) {
		const sendQueue = 2 // TCP_SEND_QUEUE of linux/tcp.h
		asked = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
		if asked == nil {
			asked = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, sendQueue)
		}
		if asked == nil {
			next, asked = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
		}
	})
	if err == nil {
		err = asked
	}
	// Behind the SYN, which has the first one.
	return fmt.Sprint(uint32(next) - 1), err
}

// drawEphemeral is the public key that a handshake's first message carries.
func drawEphemeral() (string, error) {
	own, err := session.GenerateKeyPair(nil)
	if err != nil {
		return "", err
	}
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// It fails for want of an answer.
		_, _ = session.Initiate(far, session.Config{Static: own, DeviceID: "draw"}, own.Public)
		far.Close()
	}()
	defer func() {
		near.Close()
		<-ended
	}()
	var message [2 + session.KeySize]byte // its length, then the key
	for n := 0; n < len(message); {
		m, err := near.Read(message[n:])
		if err != nil {
			return "", err
		}
		n += m
	}
	return fmt.Sprintf("%x", message[2:]), nil
}
