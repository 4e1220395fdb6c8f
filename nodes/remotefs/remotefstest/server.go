// Package remotefstest gives tests of clients a dsoftbusd in their own process:
// a unix socket that speaks localapi, with one peer whose files are in memory.
// It answers by the contract through protocol/pk and leaves room to break it on
// purpose. It never touches the network and is no part of any program.
package remotefstest

import (
	"maps"
	"path/filepath"
	"sync"
	"testing"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
)

// A Server is a running fake. The exported fields are set before Start and not
// changed afterwards.
type Server struct {
	Peer   string            // the one peer there is a session with; "node-b" when empty
	Files  map[string][]byte // by pk.Name.Rel, as in "system/build.prop"
	Limits pk.Limits         // DefaultLimits when zero
	Peers  []localapi.Peer   // the answer to a peers request

	// Opened, if set, gets every request for the way to Peer.
	Opened func(localapi.Open)

	// Answer, if set, decides about every answer. It gets the request and the
	// honest answer, and a function that sends any PK frame (any number of
	// times, none included). Calls of one connection come one after the other.
	Answer func(request, honest []byte, send func(frame []byte))

	// Socket is set by Start.
	Socket string

	listener  *localapi.Listener
	accepting chan struct{} // closed when no connection can be added any more
	running   sync.WaitGroup

	mu    sync.Mutex
	files map[string][]byte
	conns map[*localapi.Conn]*connection
}

type connection struct {
	handles map[uint32][]byte
	last    uint32
}

// Start serves until the test's end.
func (s *Server) Start(t testing.TB) *Server {
	t.Helper()
	if s.Peer == "" {
		s.Peer = "node-b"
	}
	if s.Limits == (pk.Limits{}) {
		s.Limits = pk.DefaultLimits()
	}
	s.files = maps.Clone(s.Files)
	s.conns = map[*localapi.Conn]*connection{}
	s.Socket = filepath.Join(t.TempDir(), "s")
	l, err := localapi.Listen("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	s.listener = l
	s.accepting = make(chan struct{})
	s.running.Go(s.accept)
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server and every connection without a word, as SIGKILL would.
func (s *Server) Stop() {
	s.listener.Close()
	<-s.accepting
	s.each(func(c *localapi.Conn) { c.Close() })
	s.running.Wait()
}

// Lose ends every open connection the way dsoftbusd does when a session dies.
func (s *Server) Lose() {
	s.each(func(c *localapi.Conn) {
		c.SendControl(localapi.Reply{Error: "session lost " + s.Peer, Code: localapi.CodeSessionLost})
		c.Close()
	})
}

// Control sends a control message on every open connection.
func (s *Server) Control(body string) {
	s.each(func(c *localapi.Conn) { c.Send(localapi.KindControl, []byte(body)) })
}

// Put replaces one file; handles that are open keep what they have.
func (s *Server) Put(rel string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string][]byte{}
	}
	s.files[rel] = content
}

// Handles returns how many handles are open.
func (s *Server) Handles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, conn := range s.conns {
		n += len(conn.handles)
	}
	return n
}

func (s *Server) each(f func(*localapi.Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

func (s *Server) accept() {
	defer close(s.accepting)
	for {
		raw, err := s.listener.Accept()
		if err != nil {
			return
		}
		c, conn := localapi.NewConn(raw), &connection{handles: map[uint32][]byte{}}
		s.mu.Lock()
		s.conns[c] = conn
		s.mu.Unlock()
		s.running.Go(func() { s.serve(c, conn) })
	}
}

func (s *Server) serve(c *localapi.Conn, conn *connection) {
	defer c.Close()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	req, err := c.RecvRequest()
	switch {
	case err != nil:
		c.SendError(localapi.CodeBadRequest, err)
		return
	case req.Peers:
		c.SendPeers(s.Peers)
		return
	case req.Open.Peer != s.Peer:
		c.SendControl(localapi.Reply{Error: "unknown peer " + req.Open.Peer, Code: localapi.CodeUnknownPeer})
		return
	}
	if s.Opened != nil {
		s.Opened(*req.Open)
	}
	c.SendOpened(*req.Open)
	var answer []byte // reused, so that benchmarks of clients measure the client
	for {
		if !c.Ready() && c.Flush() != nil {
			return
		}
		kind, frame, err := c.Recv()
		if err != nil || kind != localapi.KindFrame {
			return
		}
		if s.Answer == nil {
			answer = s.answer(answer[:0], conn, frame)
			c.Queue(localapi.KindFrame, answer)
		} else {
			s.Answer(frame, s.answer(nil, conn, frame), func(frame []byte) { c.Send(localapi.KindFrame, frame) })
		}
	}
}

// answer appends the contract's answer to a request.
func (s *Server) answer(dst []byte, conn *connection, frame []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, status := pk.ParseRequest(frame, true, s.Limits)
	if status != pk.OK {
		return pk.AppendReject(dst, frame, status)
	}
	switch req.Op {
	case pk.Stat:
		content, there := s.files[req.Name.Rel()]
		if !there {
			return pk.AppendStatResponse(dst, pk.NotFound, 0, 0)
		}
		return pk.AppendStatResponse(dst, pk.OK, uint64(len(content)), pk.KindFile)
	case pk.Open:
		content, there := s.files[req.Name.Rel()]
		if !there {
			return pk.AppendOpenResponse(dst, pk.NotFound, 0)
		}
		if len(conn.handles) >= s.Limits.MaxHandles {
			return pk.AppendOpenResponse(dst, pk.Limit, 0)
		}
		conn.last++
		conn.handles[conn.last] = content
		return pk.AppendOpenResponse(dst, pk.OK, conn.last)
	case pk.Read:
		content, there := conn.handles[req.Handle]
		if !there {
			return pk.AppendReadResponse(dst, pk.BadF, nil)
		}
		rest := content[min(int(req.Offset), len(content)):]
		return pk.AppendReadResponse(dst, pk.OK, rest[:min(int(req.Length), len(rest))])
	default:
		if _, there := conn.handles[req.Handle]; !there {
			return pk.AppendCloseResponse(dst, pk.BadF)
		}
		delete(conn.handles, req.Handle)
		return pk.AppendCloseResponse(dst, pk.OK)
	}
}
