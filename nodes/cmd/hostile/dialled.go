package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// A lie decides on the answer to one request, given the honest one. It also returns whether it lied, and an error if the
// session is to end.
type lie func(p *peer, frame, honest []byte) (answer []byte, lied bool, err error)

// short answers a READ that reaches over byte -at of a file with the bytes in front of that one, as if the file ended there.
func short(ctx context.Context, r *request) (string, error) {
	return r.serve(ctx, "short", fmt.Sprintf("at=%d", r.at), func(_ *peer, frame, honest []byte) ([]byte, bool, error) {
		read, status := pk.ParseRequest(frame, true, pk.DefaultLimits())
		if status != pk.OK || read.Op != pk.Read || int(read.Offset) > r.at {
			return honest, false, nil
		}
		answer, err := pk.ParseResponse(honest)
		if err != nil || answer.Status != pk.OK || int(read.Offset)+len(answer.Data) <= r.at {
			return honest, false, err
		}
		return pk.AppendReadResponse(nil, pk.OK, answer.Data[:r.at-int(read.Offset)]), true, nil
	})
}

// stuck stops reading at the first long request, lets further ones fill the buffers on the way, and sends a record that is
// none. The victim ends the session, and cannot send the reason: it has to wait for a peer that does not read.
func stuck(ctx context.Context, r *request) (string, error) {
	return r.serve(ctx, "stuck", fmt.Sprintf("longer_than=%d", stuffing-1), func(p *peer, frame, honest []byte) ([]byte, bool, error) {
		if len(frame) < stuffing {
			return honest, false, nil
		}
		if !wait(ctx, time.Second) {
			return nil, false, context.Cause(ctx)
		}
		p.raw.SetWriteDeadline(time.Now().Add(atOnce))
		if _, err := p.raw.Write(recordOf(5, 5)); err != nil {
			return nil, false, err
		}
		// To close the connection now would end the victim's wait.
		wait(ctx, time.Second)
		return nil, true, errors.New("broken on purpose")
	})
}

// serving is the state of a server that the victim dials.
type serving struct {
	*request
	name, facts string
	lie         lie
	store       *packagefsd.Store
	told        bool // the first lie is reported
}

// serve announces this device to the victim, which will dial it, and serves this machine's packages until -for is over,
// honestly but for the lie.
func (r *request) serve(ctx context.Context, name, facts string, l lie) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.time)
	defer cancel()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.listen)
	if err != nil {
		return "", fmt.Errorf("listen for the peer (is dsoftbusd stopped here?): %w", err)
	}
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	s := &serving{request: r, name: name, facts: facts, lie: l, store: packagefsd.NewStore(r.root)}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	datagram, err := nxsb.Append(nil, nxsb.Announce{DeviceID: r.self.ID, Port: uint16(listener.Addr().(*net.TCPAddr).Port),
		Key: r.self.Key.Public, Services: []string{device.ServicePackageFS}})
	if err != nil {
		return "", err
	}
	announces, err := r.tell()
	if err != nil {
		return "", err
	}
	defer announces.Close()
	running.Go(func() {
		for {
			announces.Write(datagram)
			if !wait(ctx, announceEvery) {
				return
			}
		}
	})
	for {
		c, err := listener.Accept()
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return "", fmt.Errorf("accept the victim's connection: %w", err)
		}
		// One after the other: a device has one session.
		s.answer(ctx, c)
	}
	if !s.told {
		return "", fmt.Errorf("within %s nothing was asked that could be lied about", r.time)
	}
	return "", nil
}

// answer runs one session to its end.
func (s *serving) answer(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.(*net.TCPConn).SetReadBuffer(64 << 10) // few bytes fit in when stuck stops reading
	c.SetDeadline(time.Now().Add(handshakeTime))
	sess, err := session.Respond(c, session.Config{Static: s.self.Key, DeviceID: s.self.ID}, func(static [session.KeySize]byte, _ string) error {
		if static != s.victim.Key {
			return errors.New("not the victim")
		}
		return nil
	})
	if err != nil {
		return
	}
	c.SetDeadline(time.Time{})
	p := &peer{Conn: sess, raw: c}
	if p.Send(session.ChannelControl, session.AppendPing(nil)) != nil {
		return
	}
	files := &openFiles{store: s.store, next: 1, files: make(map[uint32]*os.File)}
	defer files.close()
	for {
		frame, err := p.frame()
		if err != nil {
			return
		}
		answer, lied, err := s.lie(p, frame, files.answer(frame))
		if lied && !s.told {
			s.told = s.ok(s.name, s.facts) == nil
		}
		if err != nil {
			return
		}
		c.SetWriteDeadline(time.Now().Add(deadAfter))
		if p.Send(session.ChannelPackageFS, answer) != nil {
			return
		}
	}
}

// openFiles are the files that a session has open.
type openFiles struct {
	store *packagefsd.Store
	next  uint32
	files map[uint32]*os.File
}

func (o *openFiles) close() {
	for _, f := range o.files {
		f.Close()
	}
}

// answer returns the honest answer to a request.
func (o *openFiles) answer(frame []byte) []byte {
	request, status := pk.ParseRequest(frame, true, pk.DefaultLimits())
	if status != pk.OK {
		return pk.AppendReject(nil, frame, status)
	}
	switch request.Op {
	case pk.Stat, pk.Open:
		f, info, err := o.store.Open(request.Name)
		if err != nil {
			return pk.AppendReject(nil, frame, pk.NotFound)
		}
		if request.Op == pk.Stat {
			f.Close()
			return pk.AppendStatResponse(nil, pk.OK, uint64(info.Size()), pk.KindFile)
		}
		handle := o.next
		o.next++
		o.files[handle] = f
		return pk.AppendOpenResponse(nil, pk.OK, handle)
	case pk.Read:
		f := o.files[request.Handle]
		if f == nil {
			return pk.AppendReadResponse(nil, pk.BadF, nil)
		}
		data := make([]byte, request.Length)
		n, _ := f.ReadAt(data, int64(request.Offset)) // a failure is as good as an end here
		return pk.AppendReadResponse(nil, pk.OK, data[:n])
	}
	f := o.files[request.Handle]
	if f == nil {
		return pk.AppendCloseResponse(nil, pk.BadF)
	}
	f.Close()
	delete(o.files, request.Handle)
	return pk.AppendCloseResponse(nil, pk.OK)
}
