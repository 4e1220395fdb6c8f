// Package guest is the rig's side of a machine's agent: calls, programs and
// files over one connection on the control port.
//
// It owns that connection. It never touches the machine's network, which
// belongs to the scenario, and it does not read the journal.
package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/machine"

	"github.com/hashicorp/yamux"
)

// ErrLost is why everything on a connection ends when the agent is gone.
var ErrLost = errors.New("the connection to the agent is lost")

// A NotStartedError is the error of a call whose program never ran: it could not be
// started, or there is no service of that name that ever was.
type NotStartedError struct {
	Why string // in the agent's words
}

func (e NotStartedError) Error() string { return e.Why }

// lostWait is how long after a broken stream its connection's end is waited for.
const lostWait = 100 * time.Millisecond

// A Client is one connection to an agent. Its methods may be called
// concurrently.
//
// Nothing is said on it before the first call: a machine that is asked nothing has
// nothing to do.
type Client struct {
	session *yamux.Session

	end  sync.Once
	done chan struct{} // closed when the connection has ended
	err  error         // wraps ErrLost; valid after done
}

// Reach asks the agent of a machine, which may still be booting, who it is, over a
// connection to its control port, which Reach owns from here on. It returns when the
// agent answers. ctx bounds the waiting; a machine that ends while its agent is
// awaited ends it too, and the error is then the machine's.
func Reach(ctx context.Context, m *machine.Machine, conn net.Conn) (*Client, agentapi.Info, error) {
	var info agentapi.Info
	reaching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.Done():
			cancel(m.Err())
		case <-reaching.Done():
		}
	}()
	client := New(conn)
	err := client.Call(reaching, agentapi.MethodInfo, nil, &info)
	if err == nil {
		return client, info, nil
	}
	client.Close()
	if ctx.Err() != nil {
		return nil, info, context.Cause(ctx)
	}
	// The connection breaks before the process is gone.
	return nil, info, m.Cause(err)
}

// New returns a client on a connection to the control port, which it owns from
// here on. It waits for nothing.
func New(conn net.Conn) *Client {
	words := &firstWords{}
	session, err := yamux.Client(conn, agentapi.Mux(words))
	if err != nil {
		panic(err) // the configuration, which is a constant, makes no sense
	}
	c := &Client{session: session, done: make(chan struct{})}
	go func() {
		<-session.CloseChan()
		c.lost(words.err())
	}()
	return c
}

// firstWords keeps what yamux says first of a connection that breaks, which it only
// logs; the rest follows from that.
type firstWords struct {
	mu   sync.Mutex
	text string
}

func (w *firstWords) Print(v ...any)                 { w.set(fmt.Sprint(v...)) }
func (w *firstWords) Printf(format string, v ...any) { w.set(fmt.Sprintf(format, v...)) }
func (w *firstWords) Println(v ...any)               { w.set(fmt.Sprintln(v...)) }

func (w *firstWords) set(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text == "" {
		w.text = strings.TrimSpace(text)
	}
}

func (w *firstWords) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text == "" {
		return nil
	}
	return errors.New(w.text)
}

// lost ends the connection, for a reason or for none.
func (c *Client) lost(err error) {
	c.end.Do(func() {
		c.err = ErrLost
		if err != nil {
			c.err = fmt.Errorf("%w: %v", ErrLost, err)
		}
		close(c.done)
	})
	c.session.Close()
}

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection lives.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the connection; programs run through it are killed.
func (c *Client) Close() error {
	c.lost(nil)
	return nil
}

// Watch asks the agent for a sign of life every so often, until the connection
// ends or an answer takes longer than silence, unless the silence is excused: that of
// a machine that is paused is. It always returns an error, which wraps ErrLost.
func (c *Client) Watch(every, silence time.Duration, excused func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return c.err
		case <-tick.C:
		}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			_, _ = c.session.Ping()
		}()
		for waiting := true; waiting; {
			late := time.NewTimer(silence)
			select {
			case <-answered:
				waiting = false
			case <-late.C:
				if !excused() {
					return fmt.Errorf("%w: no sign of life for %s", ErrLost, silence)
				}
			}
			late.Stop()
		}
	}
}

// A stream is one of a connection's, begun with a request and answered. in holds
// what has been read ahead of it.
type stream struct {
	*yamux.Stream
	in *bufio.Reader
}

func (s stream) Read(b []byte) (int, error) { return s.in.Read(b) }

// maxReply bounds an answer, in bytes: the largest is a list of files or services.
const maxReply = 1 << 20

// reply reads an answer, a line.
func (s stream) reply() (reply agentapi.Reply, err error) {
	var line []byte
	for {
		part, err := s.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxReply:
			return reply, fmt.Errorf("its answer has more than %d bytes", maxReply)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return reply, err
		}
		return reply, json.Unmarshal(line, &reply)
	}
}

// abandon ends a stream of which nothing more is wanted. What still comes is
// drained, so that the agent is not held up, until it has noticed.
func (s stream) abandon() {
	_ = s.Stream.Close()
	go func() { _, _ = io.Copy(io.Discard, s.Stream) }()
}

// request opens a stream and returns it with the agent's answer. What the answer
// says went wrong is an error.
func (c *Client) request(method string, args any) (s stream, reply agentapi.Reply, err error) {
	r := agentapi.Request{Method: method}
	if args != nil {
		if r.Args, err = json.Marshal(args); err != nil {
			return s, reply, err
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return s, reply, err
	}
	if len(line) >= agentapi.MaxRequest {
		return s, reply, fmt.Errorf("%s: a request of %d bytes, an agent takes %d", method, len(line), agentapi.MaxRequest)
	}
	raw, err := c.session.OpenStream()
	if err != nil {
		return s, reply, c.broken(method, err)
	}
	s = stream{raw, bufio.NewReader(raw)}
	if _, err = raw.Write(append(line, '\n')); err == nil {
		reply, err = s.reply()
	}
	if err != nil {
		err = c.broken(method, err)
	} else {
		err = failure(reply)
	}
	if err != nil {
		s.abandon()
	}
	return s, reply, err
}

// Call carries out one method of package agentapi that is answered and done. in is
// its request, nil for none; its result goes to out, unless out is nil.
func (c *Client) Call(ctx context.Context, method string, in, out any) error {
	reply, err := await(ctx, func() (agentapi.Reply, error) {
		s, reply, err := c.request(method, in)
		if err == nil {
			s.abandon()
		}
		return reply, err
	})
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(reply.Result, out); err != nil {
		return fmt.Errorf("agent's answer to %s: %w", method, err)
	}
	return nil
}

// broken says why a stream broke, best cause first.
func (c *Client) broken(what string, err error) error {
	// A lost connection ends its streams a moment before it says so.
	soon := time.NewTimer(lostWait)
	defer soon.Stop()
	select {
	case <-c.done:
		return c.err
	case <-soon.C:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// Exec runs a program in the machine to its end. What it prints goes to stdout
// and stderr as it comes. A status other than 0 is not an error; a program that
// could not be started is, a NotStartedError. When ctx ends, the program is killed.
func (c *Client) Exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (agentapi.Exit, error) {
	var out, errs gate
	defer out.shut()
	defer errs.shut()
	out.to, errs.to = stdout, stderr
	return await(ctx, func() (agentapi.Exit, error) { return c.exec(ctx, argv, &out, &errs) })
}

func (c *Client) exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (exit agentapi.Exit, err error) {
	s, _, err := c.request(agentapi.MethodExec, agentapi.Exec{Argv: argv})
	if err != nil {
		return exit, err
	}
	defer s.abandon()
	// The stream's end is what kills the program. Its output is then read on, up to
	// how it ended, which comes at once.
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	var copyErr error
	for {
		kind, payload, err := agentapi.ReadFrame(s)
		if err != nil && ctx.Err() != nil {
			return exit, context.Cause(ctx)
		}
		if err != nil {
			return exit, c.broken("run "+argv[0], fmt.Errorf("the agent did not say how it ended: %w", err))
		}
		switch kind {
		case agentapi.FrameStdout:
			_, err = stdout.Write(payload)
		case agentapi.FrameStderr:
			_, err = stderr.Write(payload)
		case agentapi.FrameExit:
			if err := json.Unmarshal(payload, &exit); err != nil {
				return exit, fmt.Errorf("run %s: how it ended: %w", argv[0], err)
			}
			if ctx.Err() != nil {
				return exit, context.Cause(ctx)
			}
			if exit.NotStarted != "" {
				return exit, NotStartedError{exit.NotStarted}
			}
			return exit, copyErr
		}
		// A program is read to its end even when nobody can keep what it prints.
		copyErr = errors.Join(copyErr, err)
	}
}

// abandonWait is how long after its context something may take to end. An agent
// that lives answers within that; a machine that hangs never does.
const abandonWait = 500 * time.Millisecond

// await runs f and returns what it returns, or the cause of ctx soon after that
// has ended. What f then still waits for ends with the connection.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := f()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
	}
	hung := time.NewTimer(abandonWait)
	defer hung.Stop()
	select {
	case o := <-done:
		return o.value, o.err
	case <-hung.C:
		var none T
		return none, context.Cause(ctx)
	}
}

// A gate passes writes on until it is shut: what comes from a program that nobody
// waits for any more goes nowhere.
type gate struct {
	mu   sync.Mutex
	to   io.Writer
	done bool
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return len(b), nil
	}
	return g.to.Write(b)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = true
}
