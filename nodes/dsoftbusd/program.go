package dsoftbusd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

const (
	// firstMessageTime is how long a program may take to say what it wants.
	firstMessageTime = 5 * time.Second
	// lastMessageTime bounds the last message to a program, which may not be reading.
	// On a busy machine with one processor a goroutine can wait for hundreds of
	// milliseconds between setting a deadline and writing.
	lastMessageTime = time.Second
)

// program is a local program that uses a session.
type program struct {
	conn    *localapi.Conn
	slots   chan struct{} // one element for each request whose answer was not yet written to the program
	answers chan answer   // room for as many as there are slots, so that delivering never waits
	free    chan []byte   // buffers of answers written
}

// answer is an answer on its way to a program: in the memory shared with it, or in a buffer.
type answer struct {
	lent localapi.Lent
	buf  []byte // nil: it is lent
}

func newProgram(conn *localapi.Conn) *program {
	return &program{
		conn:    conn,
		slots:   make(chan struct{}, window),
		answers: make(chan answer, window),
		free:    make(chan []byte, window),
	}
}

// deliver queues an answer for the program; frame is copied.
func (p *program) deliver(frame []byte) {
	if lent, ok := p.conn.Lend(frame); ok {
		p.answers <- answer{lent: lent}
		return
	}
	var buf []byte
	select {
	case buf = <-p.free:
	default:
		buf = make([]byte, 0, len(frame)) // not nil, however short the frame
	}
	p.answers <- answer{buf: append(buf[:0], frame...)}
}

// acceptPrograms serves local programs until ctx ends.
func (d *daemon) acceptPrograms(ctx context.Context) {
	for {
		select {
		case d.programs <- struct{}{}:
		case <-ctx.Done():
			return
		}
		raw, err := d.network.Programs.Accept()
		if err != nil {
			<-d.programs
			if !d.acceptAgain(ctx, "programs", err) {
				return
			}
			continue
		}
		d.running.Go(func() {
			defer func() { <-d.programs }()
			d.serveProgram(ctx, raw)
		})
	}
}

func (d *daemon) serveProgram(ctx context.Context, raw net.Conn) {
	conn := localapi.NewConn(raw)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { raw.SetReadDeadline(time.Unix(1, 0)) })
	conn.SetReadDeadline(time.Now().Add(firstMessageTime))
	request, err := conn.RecvRequest()
	if !stop() {
		return
	}
	if err != nil {
		d.refuse(conn, err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	if request.Peers {
		conn.SetWriteDeadline(time.Now().Add(firstMessageTime))
		conn.SendPeers(d.peers.list(time.Now(), d.links.up))
		return
	}
	d.openPeer(ctx, conn, *request.Open)
}

// refuse tells a program why not, if it made a mistake at all and is still there.
func (d *daemon) refuse(conn *localapi.Conn, err error) {
	if _, ok := errors.AsType[*localapi.Error](err); !ok {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(lastMessageTime))
	conn.SendError(localapi.CodeBadRequest, err)
}

// message is what a program sent.
type message struct {
	kind localapi.Kind
	body []byte
	err  error
}

// openPeer waits for the session that a program wants and passes frames between the two.
func (d *daemon) openPeer(ctx context.Context, conn *localapi.Conn, open localapi.Open) {
	if err := d.openable(open.Peer); err != nil {
		d.refuse(conn, err)
		return
	}
	// Receiving while waiting is how a program that gives up is noticed.
	first := make(chan message, 1)
	gone, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer conn.Close()
	receiving.Go(func() {
		kind, body, err := conn.Recv()
		first <- message{kind, body, err}
		leave(errProgramGone)
	})
	waiting, cancel := context.WithTimeout(gone, open.Wait())
	l, err := d.links.wait(waiting, open.Peer)
	cancel()
	if err != nil {
		if errors.Is(err, errProgramGone) {
			if m := <-first; m.err == nil {
				d.refuse(conn, &localapi.Error{Code: localapi.CodeBadRequest, Text: "bad request: a " + m.kind.String() + " before the answer to open"})
			}
		}
		if errors.Is(err, context.DeadlineExceeded) {
			d.refuse(conn, &localapi.Error{Code: localapi.CodeNoSession,
				Text: fmt.Sprintf("no session with %s within %s: is it running, on the same LAN, and paired with this device?", open.Peer, open.Wait())})
		}
		return
	}
	if conn.SendOpened(open) == nil {
		l.carry(conn, first)
	}
}

var errProgramGone = errors.New("program has gone")

// openable says why a device cannot be opened, however long one waits.
func (d *daemon) openable(id string) error {
	switch paired, heard := d.peers.status(id, time.Now()); {
	case paired != nil:
		return nil
	case heard:
		return &localapi.Error{Code: localapi.CodeNotPaired,
			Text: fmt.Sprintf("device %q is not paired with this one: add it to the pairing list", id)}
	}
	return &localapi.Error{Code: localapi.CodeUnknownPeer,
		Text: fmt.Sprintf("device %q is not known: see the list of peers", id)}
}

// carry passes a program's frames to the peer and the answers back, until either is gone. first holds or will hold what
// the program sends first.
func (l *link) carry(conn *localapi.Conn, first <-chan message) {
	p := newProgram(conn)
	defer l.calls.abandon(p)
	// Once the link has ended, nothing waits long for the program.
	stop := context.AfterFunc(l.ctx, func() { conn.SetWriteDeadline(time.Now().Add(lastMessageTime)) })
	defer stop()
	ctx, cancel := context.WithCancel(l.ctx)
	var writing sync.WaitGroup
	writing.Go(func() {
		p.write(ctx, l)
		conn.Close()
		cancel()
	})
	l.forward(ctx, p, first)
	cancel()
	writing.Wait()
}

// forward passes the program's frames on until it stops sending or ctx ends. Those that came together go on together.
func (l *link) forward(ctx context.Context, p *program, first <-chan message) {
	var m message
	select {
	case m = <-first:
	case <-ctx.Done():
		return
	}
	var out requests
	for ; m.err == nil; m.kind, m.body, m.err = p.conn.Recv() {
		if m.kind != localapi.KindFrame || len(m.body) > session.MaxPayload {
			l.d.refuse(p.conn, &localapi.Error{Code: localapi.CodeBadRequest,
				Text: fmt.Sprintf("bad request: a %s of %d bytes, want frames of at most %d", m.kind, len(m.body), session.MaxPayload)})
			break
		}
		if pk.Answers(m.body) {
			// The peer would end the session for it, which is not this program's alone.
			l.d.refuse(p.conn, &localapi.Error{Code: localapi.CodeBadRequest, Text: "bad request: a frame that is a response"})
			break
		}
		if err := l.pass(ctx, p, &out, m.body); err != nil {
			if ctx.Err() == nil {
				l.end(err)
			}
			break
		}
	}
	// What was sent before a mistake was no mistake.
	if err := l.calls.post(&out); err != nil {
		l.end(err)
	}
}

// pass takes in one frame of the program, and sends it on with those before it unless the next one is there already.
func (l *link) pass(ctx context.Context, p *program, out *requests, frame []byte) error {
	select {
	case p.slots <- struct{}{}:
	default:
		// Answers to what is not yet sent free slots, too.
		if err := l.calls.post(out); err != nil {
			return err
		}
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := l.calls.add(ctx, out, p, frame); err != nil {
		return err
	}
	if p.conn.Ready() && out.batch.Len() < batchSize {
		return nil
	}
	return l.calls.post(out)
}

// write passes answers to the program until ctx ends. If it is the link that ended, the program gets the answers that
// came before, and then the reason.
func (p *program) write(ctx context.Context, l *link) {
	for {
		select {
		case answer := <-p.answers:
			if p.pass(answer) != nil {
				return
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	if l.ctx.Err() == nil {
		return // the program has gone
	}
	<-l.received
	// The deadline that the link's end has set may have passed, if this machine
	// was busy: a write would not even be tried.
	p.conn.SetWriteDeadline(time.Now().Add(lastMessageTime))
	for {
		select {
		case answer := <-p.answers:
			if p.pass(answer) != nil {
				return
			}
			continue
		default:
		}
		break
	}
	p.conn.SendError(localapi.CodeSessionLost, fmt.Errorf("session lost %s", l.peer.ID))
}

// pass writes one answer, and hands it to the socket when no further one is there to go with it.
func (p *program) pass(a answer) error {
	if a.buf == nil {
		if err := p.conn.QueueLent(a.lent); err != nil {
			return err
		}
	} else {
		if err := p.conn.Queue(localapi.KindFrame, a.buf); err != nil {
			return err
		}
		p.free <- a.buf
	}
	<-p.slots
	if len(p.answers) > 0 {
		return nil
	}
	return p.conn.Flush()
}
