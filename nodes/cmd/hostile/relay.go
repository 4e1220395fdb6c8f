package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/nxsb"
)

const (
	// relayed bounds the connections at a time; one more is closed.
	relayed = 4
	// announceEvery is more often than the victim, so that its own address never is the latest.
	announceEvery = 300 * time.Millisecond
)

// relaying is the state of a relay.
type relaying struct {
	*request
	mu      sync.Mutex
	changed bool  // the bit was
	verdict error // set with told
	told    chan struct{}
}

// relay has the device at r.to dial it in the victim's place.
func relay(ctx context.Context, r *request) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.time)
	defer cancel()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", r.listen)
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	s := &relaying{request: r, told: make(chan struct{})}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	datagram, err := nxsb.Append(nil, nxsb.Announce{DeviceID: r.victim.ID, Port: uint16(l.Addr().(*net.TCPAddr).Port), Key: r.victim.Key,
		Services: []string{device.ServicePackageFS}})
	if err != nil {
		return "", err
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(r.to), r.udp.Port())
	udp, err := net.Dial("udp", to.String())
	if err != nil {
		return "", err
	}
	defer udp.Close()
	running.Go(func() {
		for {
			udp.Write(datagram)
			if !wait(ctx, announceEvery) {
				return
			}
		}
	})
	running.Go(func() {
		// At once, since what follows is for somebody who looks at this line.
		select {
		case <-s.told:
			if s.verdict == nil {
				r.ok("relay", fmt.Sprintf("record=%d from=%s", r.record, r.from))
			}
		case <-ctx.Done():
		}
	})
	places := make(chan struct{}, relayed)
	for {
		c, err := l.Accept()
		if err != nil {
			break // ctx has ended
		}
		select {
		case places <- struct{}{}:
			running.Go(func() {
				defer func() { <-places }()
				s.carry(ctx, c)
			})
		default:
			c.Close()
		}
	}
	select {
	case <-s.told:
		return "", s.verdict
	default:
		return "", fmt.Errorf("within %s no record %d came from the %s", r.time, r.record, r.from)
	}
}

// carry passes one connection on until either side ends it.
func (s *relaying) carry(ctx context.Context, dialler net.Conn) {
	defer dialler.Close()
	victim, err := s.connect(ctx)
	if err != nil {
		return
	}
	defer victim.Close()
	defer context.AfterFunc(ctx, func() { dialler.Close() })()
	ended := make(chan net.Conn, 2) // who ended
	bad := make(chan net.Conn, 1)   // who got the changed record
	var passing sync.WaitGroup
	pass := func(from, to net.Conn, handshake int, changes bool) {
		passing.Go(func() {
			if s.pass(from, to, handshake, changes, bad) != errWrite {
				ended <- from
			} else {
				ended <- to
			}
		})
	}
	pass(dialler, victim, 2, s.from == "dialler")
	pass(victim, dialler, 1, s.from == "victim")
	select {
	case <-ended:
	case who := <-bad:
		select {
		case first := <-ended:
			var err error
			if first != who {
				err = errors.New("the other side ended the session, not the one that got a changed record")
			}
			s.tell(err)
		case <-time.After(atOnce):
			s.tell(fmt.Errorf("the session goes on %s after a changed record", atOnce))
		}
	}
	dialler.Close()
	victim.Close()
	passing.Wait()
}

func (s *relaying) tell(verdict error) {
	s.verdict = verdict
	close(s.told)
}

var errWrite = errors.New("cannot write")

// pass passes records on from one side, behind the messages of the handshake that it sends.
func (s *relaying) pass(from, to net.Conn, handshake int, changes bool, bad chan<- net.Conn) error {
	buf := make([]byte, 2+65535)
	for n := 1 - handshake; ; n++ {
		if _, err := io.ReadFull(from, buf[:2]); err != nil {
			return err
		}
		record := buf[:2+int(binary.BigEndian.Uint16(buf))]
		if _, err := io.ReadFull(from, record[2:]); err != nil {
			return err
		}
		change := changes && n == s.record && len(record) > 2 && s.first()
		if change {
			record[2+(len(record)-2)/2] ^= 0x10
			bad <- to
		}
		if _, err := to.Write(record); err != nil {
			return errWrite
		}
	}
}

// first says yes once.
func (s *relaying) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.changed
	s.changed = true
	return !was
}
