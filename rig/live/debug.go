package live

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// DebugOptions say what is debugged, and how.
type DebugOptions struct {
	Node    string `json:"node"`
	Program string `json:"program,omitempty"` // one of ours, by Delve; empty: the machine's kernel, by the protocol of gdb's `target remote`
	Fresh   bool   `json:"fresh,omitempty"`   // the program is started anew, compiled without optimizations, and stands before its main function
	Freeze  bool   `json:"freeze"`            // the other machines stand still whenever it does

	// Files of the host, for a program.
	Delve       string `json:"delve,omitempty"`
	Binary      string `json:"binary,omitempty"`      // of all programs, with debug information
	BinaryPath  string `json:"binary_path,omitempty"` // where Delve looks for that in the machine
	Unoptimized string `json:"unoptimized,omitempty"` // for Fresh
}

// A Debugger is one that is at work in a machine.
type Debugger interface {
	// Serve passes on what one client and the debugger say to each other, until either hangs up or ctx ends, and closes conn.
	Serve(ctx context.Context, conn io.ReadWriteCloser) error

	// Over is closed when it has let go what it debugged.
	Over() <-chan struct{}

	// Close has it let go. What was debugged runs on.
	Close() error
}

const (
	methodDebug       = "debug"        // DebugOptions -> debugging; then, when the debugger has let go, another reply. It does when whoever asked closes their side
	methodDebugClient = "debug-client" // debugging -> nothing; then bytes both ways
)

type debugging struct {
	ID int `json:"id"`
}

// debuggers are those of one scenario, by number.
type debuggers struct {
	mu   sync.Mutex
	last int
	all  map[int]Debugger
}

func (d *debuggers) add(dbg Debugger) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[int]Debugger{}
	}
	d.last++
	d.all[d.last] = dbg
	return d.last
}

func (d *debuggers) remove(id int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, id)
}

func (d *debuggers) get(id int) Debugger {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[id]
}

// debug holds a debugger for as long as whoever asked is there.
func (c *call) debug(data json.RawMessage) {
	o, err := parse[DebugOptions](data)
	if err == nil {
		err = c.declared(o.Node)
	}
	if err != nil {
		c.say(nil, err)
		return
	}
	what := "gdb " + o.Node
	if o.Program != "" {
		what = "dlv " + o.Node + " " + o.Program
	}
	c.scenario.SteppedIn(what)
	d, err := c.scenario.Debug(c.ctx, o)
	if err != nil {
		c.say(nil, err)
		return
	}
	id := c.debuggers.add(d)
	defer c.debuggers.remove(id)
	c.say(debugging{id}, nil)
	select {
	case <-d.Over():
	case <-c.ctx.Done():
	}
	err = d.Close()
	c.hurry()
	_ = write(c.conn, failure(err)) // to whoever is still there
}

func (c *call) debugClient(data json.RawMessage) {
	args, err := parse[debugging](data)
	d := c.debuggers.get(args.ID)
	if err == nil && d == nil {
		err = &Error{Ended, "the debugger has let go"}
	}
	c.say(nil, err)
	if err != nil {
		return
	}
	_ = d.Serve(c.ctx, &Conn{c.conn, c.r}) // both sides see how it ends
}

// A DebugSession is a debugger, seen by whoever has asked for it.
type DebugSession struct {
	c    *Client
	q    *query
	id   int
	done chan struct{} // closed when it has let go
	err  error         // how that went; valid after done
}

// Debug has a debugger begin its work. ctx is for that only.
func (c *Client) Debug(ctx context.Context, o DebugOptions) (*DebugSession, error) {
	q, data, err := c.ask(ctx, methodDebug, o)
	if err != nil {
		return nil, err
	}
	var d debugging
	if err := json.Unmarshal(data, &d); err != nil {
		q.close()
		return nil, fmt.Errorf("ask %s: the answer is none of %s: %w", c.name, methodDebug, err)
	}
	s := &DebugSession{c: c, q: q, id: d.ID, done: make(chan struct{})}
	go func() { // ends with the debugger, or with the connection
		defer close(s.done)
		s.err = s.last()
	}()
	return s, nil
}

// last reads the last answer.
func (s *DebugSession) last() error {
	data, err := readLine(s.q.r, maxAnswer)
	if err != nil {
		return lost(context.Background(), err)
	}
	var answer reply
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("read what a debugger tells: %w", err)
	}
	return answer.err(context.Background())
}

// Connect connects a client of the debugger's.
func (s *DebugSession) Connect(ctx context.Context) (*Conn, error) {
	q, err := s.c.begin(ctx, methodDebugClient, debugging{s.id})
	if err != nil {
		return nil, err
	}
	return &Conn{q.conn, q.r}, nil
}

// Wait returns when the debugger has let go, with its error, or when ctx ends.
func (s *DebugSession) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close has the debugger let go, and returns when it has, or when ctx ends.
func (s *DebugSession) Close(ctx context.Context) error {
	defer s.q.close()
	_ = s.q.conn.CloseWrite() // which it takes for our going
	return s.Wait(ctx)
}
