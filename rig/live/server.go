package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/scenario"
)

// timing is how long the server waits for what.
type timing struct {
	first time.Duration // for a connection's request
	flush time.Duration // for what was still to be said when the scenario has ended, or whoever asked has given up
}

// flush: a worker that was asked to end has 700 ms for all that is to be done.
var usual = timing{first: 5 * time.Second, flush: 300 * time.Millisecond}

// acceptAgain is after how long connections are taken again when the process had no more descriptors.
const acceptAgain = 100 * time.Millisecond

// Serve answers whoever asks on l until ctx ends, which is the scenario's end, and closes l. It returns when nothing of it runs any more: soon, if
// the scenario's methods keep their word. Its error is that of a socket which takes no connections any more.
//
// Whoever asks slowly, or reads slowly, has only their own connection slow.
func Serve(ctx context.Context, l *net.UnixListener, s Scenario) error {
	return serve(ctx, l, s, usual)
}

func serve(ctx context.Context, l *net.UnixListener, s Scenario, t timing) error {
	ctx, cancel := context.WithCancel(ctx)
	v := &server{scenario: s, timing: t}
	slots := make(chan struct{}, maxConns)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			if !passing(err) {
				return fmt.Errorf("serve who asks a scenario: %w", err)
			}
			// Nothing tells when descriptors are free again.
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		if err := mayAsk(conn); err != nil {
			v.refuse(conn, err)
			continue
		}
		select {
		case slots <- struct{}{}:
			conns.Go(func() {
				defer func() { <-slots }()
				defer conn.Close()
				v.answer(ctx, conn)
			})
		default:
			v.refuse(conn, &Error{Refused, fmt.Sprintf("this scenario is asked %d things already; end one of them first", maxConns)})
		}
	}
}

// passing reports whether connections can be taken again after an error.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

type server struct {
	scenario  Scenario
	timing    timing
	debuggers debuggers
}

// refuse says no. What is said has room in a new socket, so nobody waits for its reader.
func (v *server) refuse(conn *net.UnixConn, err error) {
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(v.timing.flush))
	_ = write(conn, failure(err))
}

// A call is one request, on its connection.
type call struct {
	*server
	over context.Context // ends with the scenario
	ctx  context.Context // ends with the scenario, or when whoever asked is gone or has given up
	conn *net.UnixConn
	r    *bufio.Reader // of conn
}

// errGone is why a call's context ends before the scenario.
var errGone = errors.New("who asked has gone")

// answer serves one connection.
func (v *server) answer(over context.Context, conn *net.UnixConn) {
	c := &call{server: v, over: over, conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetReadDeadline(time.Now().Add(v.timing.first))
	defer context.AfterFunc(over, func() {
		_ = conn.SetReadDeadline(time.Now())
		c.hurry()
	})()
	data, err := readLine(c.r, maxRequest)
	_ = conn.SetReadDeadline(time.Time{})
	var req request
	switch {
	case over.Err() != nil:
		c.say(nil, over.Err())
		return
	case errors.Is(err, errTooLong):
		c.say(nil, invalid("a request of more than %d bytes", maxRequest))
		return
	case err != nil:
		return // gone, or silent
	}
	if err := json.Unmarshal(data, &req); err != nil {
		c.say(nil, invalid("no request: %v", err))
		return
	}
	serve, ok := methods[req.Method]
	if !ok {
		c.say(nil, invalid("unknown method %q: the scenario was started by another version of this program", req.Method))
		return
	}
	ctx, cancel := context.WithCancelCause(over)
	defer cancel(nil)
	c.ctx = ctx
	gone, err := whenGone(conn, !serve.both, func() {
		cancel(errGone)
		c.hurry()
	})
	if err != nil {
		c.say(nil, err)
		return
	}
	defer gone.stop()
	serve.run(c, req.Args)
}

// hurry bounds what is still to be said: nobody may read it.
func (c *call) hurry() { _ = c.conn.SetWriteDeadline(time.Now().Add(c.timing.flush)) }

// say answers the request.
func (c *call) say(result any, err error) {
	_ = write(c.conn, c.reply(result, err)) // an error is its reader's end
}

// reply is what there is to say: the result, or what went wrong.
func (c *call) reply(result any, err error) reply {
	if err == nil && result != nil {
		var data []byte
		if data, err = json.Marshal(result); err == nil {
			return reply{Result: data}
		}
	}
	if err != nil && c.over.Err() != nil {
		return failure(&Error{Ended, "the scenario has ended"})
	}
	return failure(err)
}

// failure is the reply with an error, or none.
func failure(err error) reply {
	var (
		known    *Error
		problems scenario.Problems
	)
	switch {
	case err == nil:
		return reply{}
	case errors.As(err, &known):
		return reply{Error: &Error{known.Class, err.Error()}}
	case errors.As(err, &problems):
		return reply{Error: &Error{Invalid, err.Error()}}
	}
	return reply{Error: &Error{Failed, err.Error()}}
}

// write writes a value as one JSON line.
func write(w io.Writer, v any) error {
	data, err := marshalLine(v)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// A method says how one is served. Of one that goes both ways whoever asked closes their side when they have no more to say; of any other, when they
// have given up.
type method struct {
	run  func(c *call, args json.RawMessage)
	both bool
}

var methods = map[string]method{
	methodStatus: {run: simple(func(c *call, _ struct{}) (any, error) { return c.scenario.Status(), nil })},
	methodComplete: {run: simple(func(c *call, a completeArgs) (any, error) {
		if a.Pos < 0 || a.Pos > len(a.Line) {
			return nil, invalid("complete: byte %d of a line of %d", a.Pos, len(a.Line))
		}
		start, words := c.scenario.Complete(a.Line, a.Pos)
		return completion{start, words}, nil
	})},
	methodDo:     {run: (*call).do},
	methodFollow: {run: (*call).follow},
	methodLog:    {run: (*call).log},
	methodShell:  {run: (*call).shell, both: true},
	methodDial:   {run: (*call).dial, both: true},

	methodDebug:       {run: (*call).debug},
	methodDebugClient: {run: (*call).debugClient, both: true},

	methodPush: {run: simple(func(c *call, a copyArgs) (any, error) {
		m, err := c.copying(a, a.Src, a.Dst)
		if err != nil {
			return nil, err
		}
		c.scenario.SteppedIn("cp " + a.Src + " " + a.Node + ":" + a.Dst)
		return nil, m.Push(c.ctx, a.Src, a.Dst)
	})},
	methodPull: {run: simple(func(c *call, a copyArgs) (any, error) {
		m, err := c.copying(a, a.Dst, a.Src)
		if err != nil {
			return nil, err
		}
		return nil, m.Pull(c.ctx, a.Src, a.Dst)
	})},
	methodQMP: {run: simple(func(c *call, a qmpArgs) (any, error) {
		m, err := c.machine(a.Node)
		if err != nil {
			return nil, err
		}
		c.scenario.SteppedIn("qmp " + a.Node + " " + a.Command)
		result, err := m.QMP(c.ctx, a.Command, a.Arguments)
		if len(result) == 0 {
			return nil, err
		}
		return result, err
	})},
	methodDump: {run: simple(func(c *call, a dumpArgs) (any, error) {
		m, err := c.machine(a.Node)
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(a.File) {
			return nil, invalid("dump %s: the file %q is not absolute", a.Node, a.File)
		}
		return nil, m.Dump(c.ctx, a.File)
	})},
	methodStacks: {run: simple(func(c *call, a stacksArgs) (any, error) {
		m, err := c.machine(a.Node)
		if err != nil {
			return nil, err
		}
		text, err := m.Stacks(c.ctx, a.Program)
		return stacks{text}, err
	})},
}

// simple serves a method that is one request and one reply.
func simple[A any](f func(*call, A) (any, error)) func(*call, json.RawMessage) {
	return func(c *call, data json.RawMessage) {
		args, err := parse[A](data)
		if err != nil {
			c.say(nil, err)
			return
		}
		c.say(f(c, args))
	}
}

func parse[A any](data json.RawMessage) (args A, err error) {
	if len(data) == 0 {
		return args, nil
	}
	if err := json.Unmarshal(data, &args); err != nil {
		return args, invalid("no arguments of this request: %v", err)
	}
	return args, nil
}

// declared returns nil when there is a node of that name.
func (c *call) declared(node string) error {
	if c.scenario.Log(node) != nil {
		return nil
	}
	return c.unknown(node)
}

func (c *call) unknown(node string) error {
	var all []string
	for _, n := range c.scenario.Status().Nodes {
		all = append(all, n.Name)
	}
	return invalid("there is no node %q; there are %s", node, strings.Join(all, ", "))
}

// machine returns a node that is up.
func (c *call) machine(node string) (Machine, error) {
	if err := c.declared(node); err != nil {
		return nil, err
	}
	return c.scenario.Machine(node)
}

// copying returns the node of a copy, if both paths make sense.
func (c *call) copying(a copyArgs, host, guest string) (Machine, error) {
	if err := c.declared(a.Node); err != nil {
		return nil, err
	}
	switch {
	case !strings.HasPrefix(guest, "/"):
		return nil, invalid("cp: %s:%s is not absolute: begin the path with /", a.Node, guest)
	case !filepath.IsAbs(host):
		return nil, invalid("cp: the host's file %q is not absolute", host)
	}
	return c.scenario.Machine(a.Node)
}

func (c *call) do(data json.RawMessage) {
	args, err := parse[doArgs](data)
	c.say(nil, err)
	if err != nil {
		return
	}
	out := newOutbox(c.conn, maxQueued)
	err = c.scenario.Do(c.ctx, args.Line, out.event)
	c.end(out, err)
}

func (c *call) follow(json.RawMessage) {
	c.say(nil, nil)
	out := newOutbox(c.conn, maxQueued)
	err := c.scenario.Follow(c.ctx, out.event)
	if c.ctx.Err() != nil {
		err = nil // it was followed to its end
	}
	c.end(out, err)
}

// end sends the end of a stream of events.
func (c *call) end(out *outbox, err error) {
	end := c.reply(nil, err)
	data, _ := marshalLine(item{End: &end}) // strings alone
	_ = out.finish(data)                    // an error is its reader's end
}

// log sends lines as they are taken: they wait in the log, where they are anyway.
func (c *call) log(data json.RawMessage) {
	q, err := parse[LogQuery](data)
	if err == nil {
		err = c.declared(q.Node)
	}
	if err == nil && q.Source != "" && q.Source != SourceConsole && q.Source != SourceJournal {
		err = invalid("no source of lines: %q", q.Source)
	}
	c.say(nil, err)
	if err != nil {
		return
	}
	log := c.scenario.Log(q.Node)
	next := log.Len()
	present := wanted(log.Lines(q.From, next), &q)
	next = max(next, q.From)
	w := bufio.NewWriter(c.conn)
	send := func(l console.Line) error {
		return write(w, item{Line: &line{Seq: l.Seq, Time: l.Time, Guest: l.Guest, Unit: l.Unit, Stream: l.Stream, Text: []byte(l.Text)}})
	}
	for _, l := range present {
		if send(l) != nil {
			return
		}
	}
	for q.Follow {
		if log.Len() <= next && w.Flush() != nil {
			return
		}
		l, err := log.Next(c.ctx, next)
		if err != nil {
			break
		}
		next = l.Seq + 1
		if q.matches(l) && send(l) != nil {
			return
		}
	}
	if write(w, item{End: &reply{}}) == nil {
		_ = w.Flush() // an error is its reader's end
	}
}

// wanted returns those of the lines that a query is for.
func wanted(lines []console.Line, q *LogQuery) []console.Line {
	var out []console.Line
	for _, l := range lines {
		if q.matches(l) {
			out = append(out, l)
		}
	}
	if q.Last >= 0 && len(out) > q.Last {
		out = out[len(out)-q.Last:]
	}
	return out
}

func (c *call) dial(data json.RawMessage) {
	args, err := parse[dialArgs](data)
	var (
		m    Machine
		peer io.ReadWriteCloser
	)
	if err == nil {
		m, err = c.machine(args.Node)
	}
	if err == nil {
		peer, err = m.Dial(c.ctx, args.Port)
	}
	c.say(nil, err)
	if err != nil {
		return
	}
	_ = Splice(c.ctx, &Conn{c.conn, c.r}, peer) // both sides see how it ends
}
