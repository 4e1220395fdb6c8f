// Package delve stands between the clients of a debugger, editors or `dlv connect`, and a Delve that runs in a machine, and knows from what they
// say to each other whether the debugged program runs.
//
// It owns these connections, and one of its own to Delve. It changes nothing that is said, starts no Delve, and never touches a machine: whoever
// does is told of each change, before it matters to anybody. Delve's server speaks JSON-RPC 1.0 and DAP on one port; either is understood, and what is
// neither is passed on, and the program is then taken to run.
package delve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"strings"
	"sync"
	"time"
)

// A State is what a debugged program does.
type State int

const (
	// Running: it runs, or nothing is known about it. Everything has to run.
	Running State = iota
	// Working: it stands, and Delve has something to do. Delve's machine has to run, and no time should pass for others.
	Working
	// Stopped: it stands, and a person reads. No time should pass for anybody.
	Stopped
)

func (s State) String() string {
	switch s {
	case Running:
		return "running"
	case Working:
		return "working"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

const (
	// DefaultLinger lets an editor ask its next question: it asks a dozen at each stop, one after the other.
	DefaultLinger = 200 * time.Millisecond
	// DefaultGrace lets an editor that has only looked whether somebody is there come back.
	DefaultGrace = 2 * time.Second
	// letGoWait bounds how long Delve may take to let its program go. Emulated, it takes a tenth of a second.
	letGoWait = 30 * time.Second
	// askAgain is how long Delve may take to say whether its program runs. Emulated, it takes a tenth of a second.
	askAgain = time.Second
	// chunk is how much is passed on at once, in bytes.
	chunk = 32 << 10
)

// Config is what a Session needs.
type Config struct {
	// Dial connects to Delve's port. The session closes what it returns.
	Dial func(context.Context) (io.ReadWriteCloser, error)

	// OnState is told of each change, one at a time; nothing that depends on a change is passed on before it has returned. The first is
	// Working, from which on Delve must be able to answer. Its error ends the session. It may be nil.
	OnState func(context.Context, State) error

	// Attached is called once Delve holds the program, which until then
	// something else may have kept stopped; nil is nothing to do. Its error
	// ends the session.
	Attached func(context.Context) error

	// Linger is how long Delve has nothing to do before it is Stopped rather than Working; 0 is DefaultLinger.
	Linger time.Duration

	// Grace is how long after the last client has gone the program is let go; 0 is DefaultGrace.
	Grace time.Duration
}

// A Session is one Delve, from its start until it has let its program go. Its methods may be called concurrently.
type Session struct {
	cfg     Config
	control *rpc.Client
	calls   sync.WaitGroup // what goes on in the background: calls on control, and listening for clients

	ctx  context.Context // of OnState; ends with the session
	stop context.CancelCauseFunc

	mu      sync.Mutex
	now     State
	idle    *time.Timer // runs while now is Working and nothing is to be done
	clients map[*client]bool
	joined  chan struct{} // closed when a client comes
	running int           // calls of our own that end when the program stops
	own     int           // other calls of our own
	over    bool          // the program has ended, or was let go
	leaving bool          // it is being let go
	closed  bool          // nothing more begins

	letGo   sync.Once
	freed   error
	release chan struct{} // closed when the program was let go
}

// Attach begins a session with a Delve that has been started, without --continue, and may still be reading debug information; it returns when that
// answers. The program then goes on, unless stopped: then it waits for a client to say so.
//
// ctx is the whole session's; what ends it ends the clients' connections and lets the program go, as far as that can be done.
func Attach(ctx context.Context, cfg Config, stopped bool) (*Session, error) {
	if cfg.Linger == 0 {
		cfg.Linger = DefaultLinger
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	s := &Session{cfg: cfg, now: Running, own: 1, clients: map[*client]bool{}, joined: make(chan struct{}), release: make(chan struct{})}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	err := s.change(func() {})
	var conn io.ReadWriteCloser
	if err == nil {
		conn, err = cfg.Dial(ctx)
	}
	if err == nil {
		s.control = jsonrpc.NewClient(conn)
		// Delve accepts connections before it has attached, and answers when it has.
		if err = s.call(ctx, "RPCServer.GetVersion", struct{}{}, nil); err != nil {
			s.control.Close()
		}
	}
	if err == nil && cfg.Attached != nil {
		err = cfg.Attached(ctx)
	}
	if err != nil {
		s.over = true
		err = errors.Join(fmt.Errorf("attach to a program: %w", err), s.change(func() {}))
		s.stop(err)
		return nil, err
	}
	if !stopped {
		s.underway(ctx, s.watch("RPCServer.Command", command{Name: "continue"}))
	}
	if err := s.change(func() { s.own-- }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Forms of Delve's service/api and service/rpc2, as far as they are needed here.
type (
	command struct {
		Name string `json:"name"`
	}
	stateIn  struct{ NonBlocking bool }
	detachIn struct{ Kill bool }
	stateOut struct {
		State struct {
			Running bool
			Exited  bool `json:"exited"`
		}
	}
)

// call makes a call of our own and waits for its end.
func (s *Session) call(ctx context.Context, method string, in, out any) error {
	if out == nil {
		out = new(struct{})
	}
	call := s.control.Go(method, in, out, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("delve's %s: %w", method, call.Error)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("delve's %s: %w", method, context.Cause(ctx))
	}
}

// watch makes a call that ends when the program stops, and takes it to run until then. What it returns is closed when the call has ended.
func (s *Session) watch(method string, in any) <-chan struct{} {
	ended := make(chan struct{})
	if s.change(func() { s.running++ }) != nil {
		close(ended)
		return ended
	}
	began := s.start(func() {
		defer close(ended)
		var out stateOut
		err := s.call(s.ctx, method, in, &out)
		lost := errors.Is(err, rpc.ErrShutdown) || errors.Is(err, io.ErrUnexpectedEOF)
		_ = s.change(func() { // its error has ended the session
			s.running--
			// Nothing more will be heard of a program, or a Delve, that is gone.
			s.over = s.over || lost || out.State.Exited || err != nil && hasExited(err.Error())
		})
		if lost {
			_ = s.LetGo() // there is nothing to do for it
		}
	})
	if !began {
		_ = s.change(func() { s.running-- })
		close(ended)
	}
	return ended
}

// underway waits until Delve says that the program runs: a client that came earlier would be told that it stands. It gives up when the call that lets
// the program run has ended, whose watcher knows why, or when ctx has.
func (s *Session) underway(ctx context.Context, ended <-chan struct{}) {
	for {
		out := new(stateOut)
		call := s.control.Go("RPCServer.State", stateIn{NonBlocking: true}, out, make(chan *rpc.Call, 1))
		again := time.NewTimer(askAgain)
		select {
		case <-call.Done:
			again.Stop()
			if call.Error != nil || out.State.Running {
				return
			}
		case <-again.C:
			// Delve looks whether its program runs, and only then waits for it to stand: when it begins to run in between, the answer waits
			// for its next stop.
		case <-ended:
			again.Stop()
			return
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// hasExited reports whether Delve says in an error that the program has ended.
func hasExited(text string) bool { return strings.Contains(text, "has exited") }

// Released is closed when the program was let go, or has ended along with Delve: no client can be served any more.
func (s *Session) Released() <-chan struct{} { return s.release }

// State says what the program does.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// change changes what the state depends on, and tells when it has become another.
func (s *Session) change(what func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
	want := s.judge()
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	if want == Stopped && s.now != Stopped {
		// At once for the others; for Delve's machine when no more questions come.
		want = Working
		s.idle = time.AfterFunc(s.cfg.Linger, s.linger)
	}
	return s.tell(want)
}

// linger is called when Delve has had nothing to do for a while.
func (s *Session) linger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil && s.judge() == Stopped {
		_ = s.tell(Stopped) // its error has ended the session
	}
}

// tell tells of a state; s.mu is held.
func (s *Session) tell(state State) error {
	ctx := s.ctx
	if s.leaving || state == Running {
		// Whatever has ended the session, nothing may be left standing.
		ctx = context.WithoutCancel(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if state == s.now {
		return nil
	}
	if s.cfg.OnState != nil {
		if err := s.cfg.OnState(ctx, state); err != nil {
			err = fmt.Errorf("while the program is %s: %w", state, err)
			s.stop(err)
			return err
		}
	}
	s.now = state
	return nil
}

// judge says what the program does; s.mu is held.
func (s *Session) judge() State {
	if s.over || s.running > 0 {
		return Running
	}
	working := s.own > 0
	for c := range s.clients {
		if c.strange || c.resumed() {
			return Running
		}
		working = working || len(c.pending) > 0 || c.asks.mid() || c.answers.mid()
	}
	if working {
		return Working
	}
	return Stopped
}

// Serve passes on what a client and Delve say to each other until either hangs up, or ctx or the session ends; then both are closed. When it was the
// last client, and none comes within the grace, the program is let go on: its breakpoints would stop it with nobody there. Serve returns after that.
//
// A client that hangs up is no error.
func (s *Session) Serve(ctx context.Context, conn io.ReadWriteCloser) error {
	// Delve's machine may be standing.
	err := s.change(func() { s.own++ })
	var server io.ReadWriteCloser
	if err == nil {
		server, err = s.cfg.Dial(ctx)
		err = errors.Join(err, s.change(func() { s.own-- }))
	}
	if err != nil {
		if server != nil {
			server.Close()
		}
		return errors.Join(fmt.Errorf("connect a client to Delve: %w", err), conn.Close())
	}
	c := &client{session: s, pending: map[string]bool{}}
	s.mu.Lock()
	s.clients[c] = true
	close(s.joined)
	s.joined = make(chan struct{})
	s.mu.Unlock()

	end := func() { conn.Close(); server.Close() }
	for _, ended := range []context.Context{ctx, s.ctx} {
		defer context.AfterFunc(ended, end)()
	}
	heard := make(chan error, 1)
	listening := s.start(func() {
		defer context.AfterFunc(s.ctx, end)()
		heard <- s.listen(c, server, conn)
	})
	if !listening {
		end()
		return context.Cause(s.ctx)
	}
	err = c.pass(conn, server)
	var done bool
	err = errors.Join(err, s.change(func() {
		c.gone = true
		done = !c.resumed()
	}))
	conn.Close()
	if done || ctx.Err() != nil {
		server.Close()
		err = errors.Join(err, <-heard)
	}
	// Else it is not done: when the program stops, that comes on its connection.
	s.mu.Lock()
	last := c.spoke
	for other := range s.clients {
		last = last && other.gone
	}
	joined := s.joined
	s.mu.Unlock()
	if last && s.ctx.Err() == nil {
		grace := time.NewTimer(s.cfg.Grace)
		defer grace.Stop()
		select {
		case <-joined:
		case <-ctx.Done():
		case <-s.ctx.Done():
		case <-grace.C:
			return errors.Join(err, s.LetGo())
		}
	}
	return err
}

// listen passes on what Delve says to a client, and goes on listening for one that has gone until the program stops: nobody else would be told.
func (s *Session) listen(c *client, server, conn io.ReadWriteCloser) error {
	err := c.answer(server, conn)
	server.Close()
	conn.Close()
	var runs bool
	err = errors.Join(err, s.change(func() {
		runs = c.resumed()
		delete(s.clients, c)
		if runs {
			s.running++ // until the watch has begun
		}
	}))
	if runs {
		// It was Delve that hung up.
		s.watch("RPCServer.State", stateIn{})
		err = errors.Join(err, s.change(func() { s.running-- }))
	}
	return err
}

// start has f run in the background, unless the session is closed.
func (s *Session) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.calls.Go(f)
	return true
}

// LetGo has Delve take its breakpoints away and leave the program, which runs on; Delve ends by that. It may be called more than once.
func (s *Session) LetGo() error {
	s.letGo.Do(func() {
		s.freed = s.detach()
		s.freed = errors.Join(s.freed, s.change(func() { s.over = true }))
		close(s.release)
	})
	return s.freed
}

func (s *Session) detach() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), letGoWait)
	defer cancel()
	s.mu.Lock()
	over := s.over
	s.own++
	s.leaving = true
	s.mu.Unlock()
	if over {
		return nil
	}
	var out stateOut
	err := s.change(func() {})
	if err != nil {
		return err
	}
	err = s.call(ctx, "RPCServer.State", stateIn{NonBlocking: true}, &out)
	if err == nil && out.State.Running {
		err = s.call(ctx, "RPCServer.Command", command{Name: "halt"}, nil)
	}
	if err == nil {
		err = s.call(ctx, "RPCServer.Detach", detachIn{}, nil)
	}
	if err != nil && !hasExited(err.Error()) {
		return fmt.Errorf("let the program go: %w", err)
	}
	return nil
}

// Close lets the program go, unless it was, and ends every connection of the session.
func (s *Session) Close() error {
	err := s.LetGo()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop(errors.New("the debugging session was closed"))
	s.control.Close()
	s.calls.Wait()
	return err
}
