// Package ownport listens on this host for debuggers and other programs of the rig's own user, and yields connections of that user only.
//
// It owns the socket, its folder, and each connection until Accept returns it. By default the socket is a unix one in a folder that only its user may enter. A TCP
// port of the loopback address can be reached by every user of the host, and by each web page that is open in a browser: so the kernel is asked who has made the
// other end, and the first bytes have to be those of the protocol that is expected. It never reads more than those.
package ownport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// firstWait bounds how long a client may take to say its first bytes. Debuggers speak at once, also where everything is slow.
	firstWait = time.Minute
	// maxSilent is how many clients may be connected without having said anything: a browser connects ahead of its requests.
	maxSilent = 16
)

// A Protocol is known by how a client begins.
type Protocol struct {
	name     string
	openings []string // one of them begins every connection; none: anything does
}

var (
	// Any is any protocol, also one in which the server speaks first.
	Any = Protocol{}
	// GDB is the remote serial protocol: an acknowledgement, a packet, or an interrupt (gdb's "set remote interrupt-on-connect").
	GDB = Protocol{"the remote protocol of gdb", []string{"+", "-", "$", "\x03"}}
	// Delve is JSON-RPC, an object, or the Debug Adapter Protocol, which begins with a header field.
	Delve = Protocol{"JSON-RPC or DAP", []string{"{", "Content-"}}
)

// Options say where to listen, and for whom.
type Options struct {
	TCP     bool   // listen on a port of 127.0.0.1, instead of a unix socket
	Port    uint16 // with TCP; 0: any free port
	AnyUser bool   // let other users of this host connect, too
	One     bool   // serve one client at a time

	// Protocol is the one that clients have to speak.
	Protocol Protocol
	// Refused is told why a client was refused, once for each reason: a flood of clients must not become a flood of lines. It is called by one goroutine at a time.
	Refused func(why string)
}

// A Listener is a net.Listener for clients of this process's user. Its connections have CloseWrite.
type Listener struct {
	o     Options
	inner net.Listener
	dir   string // of a unix socket

	conns   chan net.Conn
	ctx     context.Context // ends with Close, or with the error by which accepting has ended
	end     context.CancelCauseFunc
	running sync.WaitGroup

	closed func() error

	mu   sync.Mutex
	busy bool // with One: a client is served
	told map[string]bool
}

// Listen begins to listen. Close it, which also removes the folder of a unix socket.
func Listen(o Options) (*Listener, error) {
	l := &Listener{o: o, conns: make(chan net.Conn), told: map[string]bool{}}
	var err error
	if o.TCP {
		l.inner, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.Port))))
	} else {
		l.inner, l.dir, err = listenUnix(folders())
	}
	if err != nil {
		return nil, err
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	l.closed = sync.OnceValue(l.close)
	l.running.Go(l.take)
	return l, nil
}

// Addr returns the socket's address: a path or an IP address and port.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Accept returns the next client. It is the caller's, who closes it.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Close ends listening, and hangs up on clients that Accept has not returned.
func (l *Listener) Close() error { return l.closed() }

func (l *Listener) close() error {
	l.end(net.ErrClosed)
	err := l.inner.Close()
	l.running.Wait()
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// take accepts connections, and passes those of this user on. Others are refused here, one after the other, so that no other user can take the places of silent
// clients.
func (l *Listener) take() {
	silent := make(chan struct{}, maxSilent)
	for {
		conn, err := l.inner.Accept()
		if err != nil {
			l.end(fmt.Errorf("accept connections on %s: %w", l.Addr(), err))
			return
		}
		if !l.o.AnyUser {
			if why := foreign(conn); why != "" {
				l.refuse(conn, why)
				continue
			}
		}
		select {
		case silent <- struct{}{}:
		default:
			l.refuse(conn, fmt.Sprintf("there are %d others that have not said anything", maxSilent))
			continue
		}
		l.running.Go(func() {
			client := l.begin(conn.(duplex))
			<-silent
			if client == nil {
				return
			}
			select {
			case l.conns <- client:
			case <-l.ctx.Done():
				client.Close()
			}
		})
	}
}

// begin reads how a client begins, and returns its connection, or nil for one that was refused or has gone.
func (l *Listener) begin(conn duplex) net.Conn {
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	client := &client{duplex: conn}
	if len(l.o.Protocol.openings) > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(firstWait)) // a connection that is gone is seen by Read
		first, ok, err := l.o.Protocol.opening(conn)
		if err != nil {
			conn.Close() // it has said nothing, and was not served
			return nil
		}
		if !ok {
			l.refuse(conn, "it does not speak "+l.o.Protocol.name+"; a web page may have tried to reach the debugger")
			return nil
		}
		_ = conn.SetReadDeadline(time.Time{})
		client.first = first
	}
	if l.o.One {
		l.mu.Lock()
		busy := l.busy
		l.busy = true
		l.mu.Unlock()
		if busy {
			l.refuse(conn, "another client is connected")
			return nil
		}
		client.release = func() {
			l.mu.Lock()
			l.busy = false
			l.mu.Unlock()
		}
	}
	return client
}

// opening reads as many bytes as tell whether a client speaks the protocol, and returns them.
func (p *Protocol) opening(conn net.Conn) (first []byte, ok bool, err error) {
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			return nil, false, err
		}
		first = append(first, b[0])
		possible := false
		for _, o := range p.openings {
			if o == string(first) {
				return first, true, nil
			}
			possible = possible || strings.HasPrefix(o, string(first))
		}
		if !possible {
			return nil, false, nil
		}
	}
}

// refuse hangs up on a client, and tells why.
func (l *Listener) refuse(conn net.Conn, why string) {
	conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told[why] && l.o.Refused != nil {
		l.o.Refused(why)
	}
	l.told[why] = true
}

// A duplex connection can be closed one way.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// A client is a connection whose first bytes have been read.
type client struct {
	duplex
	first   []byte // for Read
	release func() // nil, or ends that it is the only one
	once    sync.Once
}

func (c *client) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.duplex.Read(b)
}

func (c *client) Close() error {
	err := c.duplex.Close()
	if c.release != nil {
		c.once.Do(c.release)
	}
	return err
}
