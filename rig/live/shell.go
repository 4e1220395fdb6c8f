package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"dsoftbus-rig/nodes/agentapi"
)

// errHungUp is why a shell ends whose asker has gone.
var errHungUp = errors.New("hung up")

// shell serves a program on a terminal.
func (c *call) shell(data json.RawMessage) {
	args, err := parse[shellArgs](data)
	var m Machine
	if err == nil {
		m, err = c.machine(args.Node)
	}
	if err == nil {
		c.scenario.SteppedIn("attach " + args.Node)
	}
	c.say(nil, err)
	if err != nil {
		return
	}
	ctx, hangUp := context.WithCancelCause(c.ctx)
	typed, keyboard := io.Pipe()
	sizes := make(chan agentapi.Size, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		err := c.keys(keyboard, sizes)
		_ = keyboard.CloseWithError(err)
		if err != nil {
			hangUp(err)
		}
	})
	out := agentapi.NewFrameWriter(c.conn)
	exit, err := m.Shell(ctx, args.Shell, typed, out.Stream(agentapi.FrameStdout), sizes)
	kind, last := byte(agentapi.FrameExit), any(exit)
	if err != nil {
		kind, last = agentapi.FrameEnd, c.reply(nil, err)
	}
	if payload, err := json.Marshal(last); err == nil {
		_ = out.WriteFrame(kind, payload) // an error is its reader's end
	}
	_ = typed.Close()
	_ = c.conn.CloseRead()
	reader.Wait()
	hangUp(nil)
}

// keys reads what is typed, and how large the terminal is, until the connection ends. A nil error says that no more will be typed.
func (c *call) keys(keyboard *io.PipeWriter, sizes chan agentapi.Size) error {
	ended := false
	for {
		kind, payload, err := agentapi.ReadFrame(c.r)
		if err != nil {
			return errHungUp
		}
		switch kind {
		case frameInput:
			if _, err := keyboard.Write(payload); err != nil && !ended {
				return errHungUp // nothing runs any more that could be typed to
			}
		case frameInputEnd:
			ended = true
			_ = keyboard.Close() // never fails
		case frameSize:
			var s agentapi.Size
			if err := json.Unmarshal(payload, &s); err != nil {
				return fmt.Errorf("no size of a terminal: %w", err)
			}
			select {
			case <-sizes: // only the last one counts
			default:
			}
			sizes <- s
		default:
			return fmt.Errorf("a frame of kind %q: the scenario was started by another version of this program", kind)
		}
	}
}

// Shell runs a program on a terminal of its own in a node's machine, to its end, and returns how it ended. in is what is typed; nil, and its end, say
// that there is no more. A Read of it that waits when the program ends is not waited for: what is typed next would be lost. sizes are the
// terminal's, as they change; it may be nil. When ctx ends the terminal hangs up.
func (c *Client) Shell(ctx context.Context, node string, s agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (agentapi.Exit, error) {
	q, err := c.begin(ctx, methodShell, shellArgs{node, s})
	if err != nil {
		return agentapi.Exit{}, err
	}
	done := make(chan struct{})
	var resizing sync.WaitGroup
	defer func() {
		q.close() // ends what writes
		close(done)
		resizing.Wait()
	}()
	defer context.AfterFunc(ctx, q.close)()
	w := agentapi.NewFrameWriter(q.conn)
	// Both end with the connection, whose errors the loop below sees.
	go func() {
		if in != nil {
			_, _ = io.Copy(w.Stream(frameInput), in)
		}
		_ = w.WriteFrame(frameInputEnd, nil)
	}()
	resizing.Go(func() {
		for {
			select {
			case size, ok := <-sizes:
				if !ok {
					return
				}
				if payload, err := json.Marshal(size); err == nil {
					_ = w.WriteFrame(frameSize, payload)
				}
			case <-done:
				return
			}
		}
	})
	for {
		kind, payload, err := agentapi.ReadFrame(q.r)
		if err != nil {
			return agentapi.Exit{}, lost(ctx, err)
		}
		switch kind {
		case agentapi.FrameStdout:
			if _, err := out.Write(payload); err != nil {
				return agentapi.Exit{}, fmt.Errorf("show what node %s prints: %w", node, err)
			}
		case agentapi.FrameExit:
			var exit agentapi.Exit
			if err := json.Unmarshal(payload, &exit); err != nil {
				return exit, fmt.Errorf("read how a program of node %s ended: %w", node, err)
			}
			return exit, nil
		case agentapi.FrameEnd:
			var end reply
			if err := json.Unmarshal(payload, &end); err != nil {
				return agentapi.Exit{}, fmt.Errorf("read why a program of node %s ended: %w", node, err)
			}
			return agentapi.Exit{}, end.err(ctx)
		}
	}
}
