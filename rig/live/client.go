package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/record"
)

// giveUp bounds how long Do waits for what became of a line that it was told to end.
const giveUp = 10 * time.Second

// A Client asks one scenario. Its methods may be called concurrently: each has a connection of its own. What the scenario says of a request is an
// *Error; when ctx ends its cause is the error.
type Client struct {
	name string
	uid  int
}

// Open returns a client of the socket with that name, as Listen and List return it. It does not ask anything yet.
func Open(name string) (*Client, error) {
	if _, _, ok := maker(name); !ok {
		return nil, fmt.Errorf("%q is no name of a scenario's socket: that is <pid>-<start time>-<counter>", name)
	}
	return &Client{name, os.Geteuid()}, nil
}

// Name is that of the socket.
func (c *Client) Name() string { return c.name }

// A query is a request that was answered, and what follows.
type query struct {
	conn *net.UnixConn
	r    *bufio.Reader
}

func (q *query) close() { q.conn.Close() }

// begin sends a request and reads the reply. The query is nil when that has an error.
func (c *Client) begin(ctx context.Context, method string, args any) (*query, error) {
	q, _, err := c.ask(ctx, method, args)
	return q, err
}

func (c *Client) ask(ctx context.Context, method string, args any) (*query, json.RawMessage, error) {
	data, err := json.Marshal(args)
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", c.name, err)
	}
	line, err := marshalLine(request{method, data})
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", c.name, err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, &Error{Lost, fmt.Sprintf("the scenario is not there any more: %v", err)}
	}
	q := &query{conn.(*net.UnixConn), bufio.NewReader(conn)}
	stop := context.AfterFunc(ctx, q.close)
	result, err := c.exchange(ctx, q, line)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		q.close()
		return nil, nil, err
	}
	return q, result, nil
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	address, done, err := through(c.name)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", address)
}

func (c *Client) exchange(ctx context.Context, q *query, line []byte) (json.RawMessage, error) {
	// The folder is the user's alone; the kernel knows who answers in any case.
	uid, err := ownport.UnixPeer(q.conn)
	if err != nil {
		return nil, fmt.Errorf("ask %s: who answers is not known: %w", c.name, err)
	}
	if uid != c.uid {
		return nil, &Error{Refused, fmt.Sprintf("%s belongs to the user %d, not to %d: nothing was asked of it", c.name, uid, c.uid)}
	}
	_, sent := q.conn.Write(line)
	// Whoever refuses does not read the request, but says why.
	data, err := readLine(q.r, maxAnswer)
	if err != nil {
		return nil, lost(ctx, errors.Join(sent, err))
	}
	var answer reply
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("ask %s: the answer is none: %w", c.name, err)
	}
	return answer.Result, answer.err(ctx)
}

// err is the error that a reply tells of.
func (r *reply) err(ctx context.Context) error {
	switch {
	case r.Error == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), r.Error)
	}
	return r.Error
}

// lost is the error of a connection that has ended before all was said.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errTooLong) {
		return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return &Error{Lost, fmt.Sprintf("the scenario's process is gone, or did not wait: what it had to say is cut off (%v)", err)}
}

// get asks for something that one reply answers.
func (c *Client) get(ctx context.Context, method string, args, result any) error {
	q, data, err := c.ask(ctx, method, args)
	if err != nil {
		return err
	}
	q.close()
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(data, result); err != nil {
		return fmt.Errorf("ask %s: the answer is none of %s: %w", c.name, method, err)
	}
	return nil
}

// stream reads items until the end of a stream.
func (q *query) stream(ctx context.Context, take func(item) error) error {
	for {
		data, err := readLine(q.r, maxAnswer)
		if err != nil {
			return lost(ctx, err)
		}
		var it item
		if err := json.Unmarshal(data, &it); err != nil {
			return fmt.Errorf("read what a scenario tells: %w", err)
		}
		if it.End != nil {
			return it.End.err(ctx)
		}
		if err := take(it); err != nil {
			return err
		}
	}
}

// events passes events on.
func events(tell func(record.Event)) func(item) error {
	return func(it item) error {
		var e record.Event
		if err := json.Unmarshal(it.Event, &e); err != nil {
			return fmt.Errorf("read an event of a scenario: %w", err)
		}
		tell(e)
		return nil
	}
}

// Status asks where the scenario stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.get(ctx, methodStatus, nil, &s)
	return s, err
}

// Nodes returns the names of all nodes.
func (c *Client) Nodes(ctx context.Context) ([]string, error) {
	s, err := c.Status(ctx)
	var all []string
	for _, n := range s.Nodes {
		all = append(all, n.Name)
	}
	return all, err
}

// Do runs one line and returns when it is done; tell gets its events as they come. When ctx ends the line is ended, and what became of it is waited
// for; the error has the cause of ctx then. The Class of an *Error is Invalid when the line makes no sense.
func (c *Client) Do(ctx context.Context, line string, tell func(record.Event)) error {
	q, err := c.begin(ctx, methodDo, doArgs{line})
	if err != nil {
		return err
	}
	defer q.close()
	defer context.AfterFunc(ctx, func() {
		_ = q.conn.SetReadDeadline(time.Now().Add(giveUp))
		_ = q.conn.CloseWrite()
	})()
	err = q.stream(ctx, events(tell))
	if err != nil && ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w; what became of the line was not said within %s", context.Cause(ctx), giveUp)
	}
	return err
}

// Complete returns what the word at byte pos of a line can become, and the byte where that word starts.
func (c *Client) Complete(ctx context.Context, line string, pos int) (start int, words []string, err error) {
	var answer completion
	err = c.get(ctx, methodComplete, completeArgs{line, pos}, &answer)
	return answer.Start, answer.Words, err
}

// Follow passes on the scenario's events from now on. It returns nil when the scenario has ended.
func (c *Client) Follow(ctx context.Context, tell func(record.Event)) error {
	q, err := c.begin(ctx, methodFollow, nil)
	if err != nil {
		return err
	}
	defer q.close()
	defer context.AfterFunc(ctx, q.close)()
	return q.stream(ctx, events(tell))
}

// Log passes on lines of a node. It returns nil after the last one, which of a query that follows is when the scenario has ended.
func (c *Client) Log(ctx context.Context, query LogQuery, tell func(console.Line)) error {
	q, err := c.begin(ctx, methodLog, query)
	if err != nil {
		return err
	}
	defer q.close()
	defer context.AfterFunc(ctx, q.close)()
	return q.stream(ctx, func(it item) error {
		if it.Line != nil {
			tell(it.Line.console())
		}
		return nil
	})
}

// Lines passes on what a node prints from now on, until ctx ends or the scenario has.
func (c *Client) Lines(ctx context.Context, node string, tell func(console.Line)) error {
	return c.Log(ctx, LogQuery{Node: node, Follow: true}, tell)
}

// A Conn is a connection to a port of a machine. Both sides can be closed separately.
type Conn struct {
	*net.UnixConn
	r *bufio.Reader // of UnixConn
}

// Read reads what the other side sends.
func (c *Conn) Read(b []byte) (int, error) { return c.r.Read(b) }

// WriteTo writes to w what the other side sends, until its end.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return c.r.WriteTo(w) }

// Dial connects to a TCP port of a node's own loopback address. ctx is for that only.
func (c *Client) Dial(ctx context.Context, node string, port uint16) (*Conn, error) {
	q, err := c.begin(ctx, methodDial, dialArgs{node, port})
	if err != nil {
		return nil, err
	}
	return &Conn{q.conn, q.r}, nil
}

// Push copies the host's file src to dst on a node. Both are absolute paths.
func (c *Client) Push(ctx context.Context, node, src, dst string) error {
	return c.get(ctx, methodPush, copyArgs{node, src, dst}, nil)
}

// Pull copies src on a node to the host's file dst. Both are absolute paths.
func (c *Client) Pull(ctx context.Context, node, src, dst string) error {
	return c.get(ctx, methodPull, copyArgs{node, src, dst}, nil)
}

// QMP executes a command of QEMU's machine protocol on a node's machine, with arguments or with nil, and returns what it returns.
func (c *Client) QMP(ctx context.Context, node, command string, arguments json.RawMessage) (json.RawMessage, error) {
	q, data, err := c.ask(ctx, methodQMP, qmpArgs{node, command, arguments})
	if err != nil {
		return nil, err
	}
	q.close()
	return data, nil
}

// Dump writes the memory of a node's machine to the host's file, an absolute path, as an ELF core. The machine stands still meanwhile.
func (c *Client) Dump(ctx context.Context, node, file string) error {
	return c.get(ctx, methodDump, dumpArgs{node, file}, nil)
}

// Stacks returns the goroutines of a program of ours on a node.
func (c *Client) Stacks(ctx context.Context, node, program string) ([]byte, error) {
	var answer stacks
	err := c.get(ctx, methodStacks, stacksArgs{node, program}, &answer)
	return answer.Text, err
}
