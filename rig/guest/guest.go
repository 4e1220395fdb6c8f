// Package guest is the rig's side of a machine's agent: calls, programs and
// files over one SSH connection on the control port.
//
// It owns the SSH connection. It never touches the machine's network, which
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
	"slices"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/machine"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// ErrLost is why everything on a connection ends when the agent is gone.
var ErrLost = errors.New("the connection to the agent is lost")

// lostWait is how long after a broken channel its connection's end is waited for.
const lostWait = 100 * time.Millisecond

// A Client is one connection to an agent. Its methods may be called
// concurrently.
//
// SSH begins with the first call that needs it: until then a connection costs its
// machine nearly nothing.
type Client struct {
	raw net.Conn
	in  *bufio.Reader // of raw

	begin sync.Once     // begins SSH
	ready chan struct{} // closed when conn is there
	conn  ssh.Conn      // valid after ready

	openMu sync.Mutex // one opening call at a time, and none with SSH
	begun  bool       // SSH has, or will have at once

	end  sync.Once
	done chan struct{} // closed when the connection has ended
	err  error         // wraps ErrLost; valid after done

	filesMu sync.Mutex
	files   *sftp.Client
}

// Reach connects to the agent of a machine, which may still be booting, and returns
// when it answers. ctx bounds the waiting; a machine that ends while its agent is
// awaited ends it too, and the error is then the machine's.
func Reach(ctx context.Context, m *machine.Machine) (*Client, agentapi.Info, error) {
	var info agentapi.Info
	conn, err := m.Dial(ctx, "control")
	if err != nil {
		return nil, info, err
	}
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
	err = client.Call(reaching, agentapi.MethodInfo, nil, &info)
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
	return &Client{raw: conn, in: bufio.NewReader(conn), ready: make(chan struct{}), done: make(chan struct{})}
}

// session returns the SSH connection, beginning it when nobody has.
func (c *Client) session(ctx context.Context) (ssh.Conn, error) {
	c.begin.Do(func() { go c.handshake() })
	select {
	case <-c.ready:
		return c.conn, nil
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// handshake begins SSH. It ends with the connection, at the latest.
func (c *Client) handshake() {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	c.begun = true
	config := &ssh.ClientConfig{
		User: "rig",
		// There is nobody in between on a wire that this process itself made.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	conn, channels, requests, err := ssh.NewClientConn(buffered{c.raw, c.in}, agentapi.ControlPort, config)
	if err != nil {
		c.lost(fmt.Errorf("begin SSH: %w", err))
		return
	}
	c.conn = conn
	close(c.ready)
	go ssh.DiscardRequests(requests)
	go func() {
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "the rig serves no channels")
		}
	}()
	go func() { c.lost(conn.Wait()) }()
}

// lost ends the connection, for a reason or for none.
func (c *Client) lost(err error) {
	c.end.Do(func() {
		c.err = ErrLost
		if err != nil && !errors.Is(err, io.EOF) {
			c.err = fmt.Errorf("%w: %v", ErrLost, err)
		}
		c.raw.Close()
		close(c.done)
	})
}

// buffered is a connection of which some has been read ahead.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.in.Read(p) }

// open makes an opening call. false says that it is too late for one.
func (c *Client) open(ctx context.Context, method string, in any) (reply agentapi.Reply, open bool, err error) {
	c.openMu.Lock()
	defer c.openMu.Unlock()
	if c.begun {
		return reply, false, nil
	}
	call := agentapi.Opening{Method: method}
	if in != nil {
		if call.Request, err = json.Marshal(in); err != nil {
			return reply, true, err
		}
	}
	line, err := json.Marshal(call)
	if err != nil {
		return reply, true, err
	}
	if len(line) >= agentapi.MaxRequest {
		return reply, true, fmt.Errorf("%s: a request of %d bytes, an agent takes %d", method, len(line), agentapi.MaxRequest)
	}
	// Half a call leaves nothing to go on with.
	stop := context.AfterFunc(ctx, func() { c.lost(context.Cause(ctx)) })
	defer stop()
	if _, err = c.raw.Write(append(line, '\n')); err == nil {
		line, err = c.in.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &reply)
	}
	if err != nil {
		c.lost(fmt.Errorf("%s: %w", method, err))
		if ctx.Err() != nil {
			return reply, true, context.Cause(ctx)
		}
		return reply, true, c.err
	}
	return reply, true, nil
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
// ends or an answer takes longer than silence. It always returns an error, which
// wraps ErrLost.
func (c *Client) Watch(every, silence time.Duration) error {
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
			if conn, err := c.session(context.Background()); err == nil {
				// Refused like every global request, which is an answer.
				_, _, _ = conn.SendRequest("keepalive@dsoftbus-rig", true, nil)
			}
		}()
		late := time.NewTimer(silence)
		select {
		case <-answered:
			late.Stop()
		case <-late.C:
			return fmt.Errorf("%w: no sign of life for %s", ErrLost, silence)
		}
	}
}

// channel opens a channel by the deadline of ctx. The channel closes with ctx; stop
// ends that.
func (c *Client) channel(ctx context.Context, kind string, extra []byte) (ch ssh.Channel, requests <-chan *ssh.Request, stop func() bool, err error) {
	conn, err := c.session(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	type opened struct {
		ch       ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	result := make(chan opened, 1)
	go func() {
		ch, requests, err := conn.OpenChannel(kind, extra)
		result <- opened{ch, requests, err}
	}()
	select {
	case o := <-result:
		if o.err != nil {
			return nil, nil, nil, c.cause(o.err)
		}
		return o.ch, o.requests, context.AfterFunc(ctx, func() { o.ch.Close() }), nil
	case <-c.done:
		return nil, nil, nil, c.err
	case <-ctx.Done():
		go func() {
			if o := <-result; o.err == nil {
				go ssh.DiscardRequests(o.requests)
				o.ch.Close()
			}
		}()
		return nil, nil, nil, context.Cause(ctx)
	}
}

// cause prefers the connection's end to what followed from it.
func (c *Client) cause(err error) error {
	if lost := c.Err(); lost != nil {
		return lost
	}
	return err
}

// Call carries out one method of package agentapi. in is its request, nil for none;
// its result goes to out, unless out is nil.
func (c *Client) Call(ctx context.Context, method string, in, out any) error {
	reply, err := await(ctx, func() (agentapi.Reply, error) { return c.call(ctx, method, in) })
	switch {
	case err != nil:
		return err
	case reply.Error != "":
		return errors.New(reply.Error)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(reply.Result, out); err != nil {
		return fmt.Errorf("agent's answer to %s: %w", method, err)
	}
	return nil
}

// opening are the methods that are worth an opening call: they come first, and
// they wait for nothing.
var opening = []string{agentapi.MethodInfo, agentapi.MethodConfigure, agentapi.MethodStart}

func (c *Client) call(ctx context.Context, method string, in any) (reply agentapi.Reply, err error) {
	if slices.Contains(opening, method) {
		if reply, open, err := c.open(ctx, method, in); open {
			return reply, err
		}
	}
	ch, requests, stop, err := c.channel(ctx, agentapi.CallChannel, []byte(method))
	if err != nil {
		return reply, err
	}
	defer stop()
	defer ch.Close()
	go ssh.DiscardRequests(requests)
	// The agent may answer, and close, before it has read everything: what
	// went wrong with sending, the missing answer tells.
	_ = json.NewEncoder(ch).Encode(in)
	_ = ch.CloseWrite()
	if err := json.NewDecoder(ch).Decode(&reply); err != nil {
		return reply, c.broken(ctx, method, err)
	}
	return reply, nil
}

// broken says why a channel broke, best cause first.
func (c *Client) broken(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// A lost connection closes its channels a moment before it says so.
	soon := time.NewTimer(lostWait)
	defer soon.Stop()
	select {
	case <-c.done:
		return c.err
	case <-soon.C:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// A Result says how a program ended.
type Result struct {
	Status     int    // exit status; 128 + number when a signal ended it
	JournalSeq uint64 // every line it printed has this journal number or a lower one
}

// Exec runs a program in the machine to its end. What it prints goes to stdout
// and stderr as it comes. A status other than 0 is not an error. When ctx ends,
// the program is killed.
func (c *Client) Exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (Result, error) {
	var out, errs gate
	defer out.shut()
	defer errs.shut()
	out.to, errs.to = stdout, stderr
	return await(ctx, func() (Result, error) { return c.exec(ctx, argv, &out, &errs) })
}

func (c *Client) exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (Result, error) {
	payload, err := json.Marshal(agentapi.Exec{Argv: argv})
	if err != nil {
		return Result{}, err
	}
	ch, requests, stop, err := c.channel(ctx, "session", nil)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	defer ch.Close()
	var copies sync.WaitGroup
	var copyErr [2]error
	copies.Go(func() { _, copyErr[0] = io.Copy(stdout, ch) })
	copies.Go(func() { _, copyErr[1] = io.Copy(stderr, ch.Stderr()) })
	if ok, err := ch.SendRequest(agentapi.ExecRequest, true, payload); err != nil || !ok {
		ch.Close()
		copies.Wait()
		if err == nil {
			err = errors.New("the agent refused the request")
		}
		return Result{}, c.broken(ctx, "run "+argv[0], err)
	}
	// Nothing is sent to the program: its standard input is at its end.
	_ = ch.CloseWrite()
	result := Result{Status: -1}
	for req := range requests {
		switch req.Type {
		case agentapi.JournalSeqRequest:
			err = json.Unmarshal(req.Payload, &result.JournalSeq)
		case "exit-status":
			var s struct{ Status uint32 }
			err = ssh.Unmarshal(req.Payload, &s)
			result.Status = int(s.Status)
		}
		if req.WantReply {
			_ = req.Reply(err == nil, nil)
		}
	}
	copies.Wait()
	if err := errors.Join(err, copyErr[0], copyErr[1]); err != nil {
		return result, c.broken(ctx, "run "+argv[0], err)
	}
	if result.Status < 0 {
		return result, c.broken(ctx, "run "+argv[0], errors.New("the agent did not say how it ended"))
	}
	return result, nil
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
