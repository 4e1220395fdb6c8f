// Package guest is the rig's side of a machine's agent: calls, programs and
// files over one SSH connection on the control port.
//
// It owns the SSH connection. It never touches the machine's network, which
// belongs to the scenario, and it does not read the journal.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
type Client struct {
	conn ssh.Conn
	done chan struct{} // closed when the connection has ended
	err  error         // wraps ErrLost; valid after done

	filesMu sync.Mutex
	files   *sftp.Client
}

// Reach connects to the agent of a machine, which may still be booting. ctx bounds
// the waiting; a machine that ends while its agent is awaited ends it too, and
// the error is then the machine's.
func Reach(ctx context.Context, m *machine.Machine) (*Client, error) {
	conn, err := m.Dial(ctx, "control")
	if err != nil {
		return nil, err
	}
	connecting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.Done():
			cancel(m.Err())
		case <-connecting.Done():
		}
	}()
	client, err := Connect(connecting, conn)
	switch {
	case err == nil:
		return client, nil
	case ctx.Err() != nil:
		return nil, err
	}
	// The connection breaks before the process is gone.
	return nil, m.Cause(err)
}

// Connect speaks SSH on a connection to the control port. The machine may still
// be booting: its answer comes when the agent runs. ctx bounds the waiting; the
// client owns conn from here on.
func Connect(ctx context.Context, conn net.Conn) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	config := &ssh.ClientConfig{
		User: "rig",
		// There is nobody in between on a wire that this process itself made.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	c, channels, requests, err := ssh.NewClientConn(conn, agentapi.ControlPort, config)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	client := &Client{conn: c, done: make(chan struct{})}
	go ssh.DiscardRequests(requests)
	go func() {
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "the rig serves no channels")
		}
	}()
	go func() {
		err := c.Wait()
		client.err = ErrLost
		if err != nil && !errors.Is(err, io.EOF) {
			client.err = fmt.Errorf("%w: %v", ErrLost, err)
		}
		close(client.done)
	}()
	return client, nil
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
func (c *Client) Close() error { return c.conn.Close() }

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
			// Refused like every global request, which is an answer.
			_, _, _ = c.conn.SendRequest("keepalive@dsoftbus-rig", true, nil)
			close(answered)
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

// open opens a channel by the deadline of ctx. The channel closes with ctx; stop
// ends that.
func (c *Client) open(ctx context.Context, kind string, extra []byte) (ch ssh.Channel, requests <-chan *ssh.Request, stop func() bool, err error) {
	type opened struct {
		ch       ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	result := make(chan opened, 1)
	go func() {
		ch, requests, err := c.conn.OpenChannel(kind, extra)
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

// Call carries out one method of package agentapi. in is its request; its result
// goes to out, unless out is nil.
func (c *Client) Call(ctx context.Context, method string, in, out any) error {
	result, err := await(ctx, func() (json.RawMessage, error) { return c.call(ctx, method, in) })
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(result, out); err != nil {
		return fmt.Errorf("agent's answer to %s: %w", method, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method string, in any) (json.RawMessage, error) {
	ch, requests, stop, err := c.open(ctx, agentapi.CallChannel, []byte(method))
	if err != nil {
		return nil, err
	}
	defer stop()
	defer ch.Close()
	go ssh.DiscardRequests(requests)
	// The agent may answer, and close, before it has read everything: what
	// went wrong with sending, the missing answer tells.
	_ = json.NewEncoder(ch).Encode(in)
	_ = ch.CloseWrite()
	var reply agentapi.Reply
	if err := json.NewDecoder(ch).Decode(&reply); err != nil {
		return nil, c.broken(ctx, method, err)
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	return reply.Result, nil
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
	ch, requests, stop, err := c.open(ctx, "session", nil)
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
