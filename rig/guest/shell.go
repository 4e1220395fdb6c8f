package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"dsoftbus-rig/nodes/agentapi"
)

// Shell runs a program on a terminal of its own in the machine, to its end. in is what
// is typed; at its end nothing more is. out gets what the terminal shows; sizes are
// those it takes after its first, nil for none. A status other than 0 is not an error. When
// ctx ends the terminal hangs up, which ends the program.
//
// A Read of in that is under way when Shell returns is left to end by itself, and what
// it reads is lost: whoever goes on reading from in ends it first.
func (c *Client) Shell(ctx context.Context, s agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (agentapi.Exit, error) {
	var shown gate
	defer shown.shut()
	shown.to = out
	return await(ctx, func() (agentapi.Exit, error) { return c.shell(ctx, s, in, &shown, sizes) })
}

func (c *Client) shell(ctx context.Context, shell agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (exit agentapi.Exit, err error) {
	const what = "shell"
	s, _, err := c.request(agentapi.MethodShell, shell)
	if err != nil {
		return exit, err
	}
	defer s.abandon()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	to := agentapi.NewFrameWriter(s)
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with in, or at its next read after the shell's end
		buf := make([]byte, 32<<10)
		for {
			n, err := in.Read(buf)
			select {
			case <-ended:
				return
			default:
			}
			// A stream that takes nothing has ended, which is seen below. Until then input is
			// read on: whoever writes it must not be held up.
			_, _ = to.Stream(agentapi.FrameStdin).Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for {
			select {
			case size, ok := <-sizes:
				if !ok {
					return
				}
				if data, err := json.Marshal(size); err == nil {
					_ = to.WriteFrame(agentapi.FrameSize, data)
				}
			case <-ended:
				return
			}
		}
	}()
	var lost error // of out
	for {
		kind, payload, err := agentapi.ReadFrame(s)
		if err != nil && ctx.Err() != nil {
			return exit, context.Cause(ctx)
		}
		if err != nil {
			return exit, c.broken(what, fmt.Errorf("the agent did not say how it ended: %w", err))
		}
		switch kind {
		case agentapi.FrameStdout:
			if lost == nil {
				_, lost = out.Write(payload)
			}
			if lost != nil {
				// Nobody sees it any more. What is still shown is read, up to how it ended.
				_ = s.Close()
			}
		case agentapi.FrameExit:
			if err := json.Unmarshal(payload, &exit); err != nil {
				return exit, fmt.Errorf("%s: how it ended: %w", what, err)
			}
			if ctx.Err() != nil {
				return exit, context.Cause(ctx)
			}
			if lost != nil {
				lost = fmt.Errorf("%s: what it shows cannot be written: %w", what, lost)
			}
			return exit, lost
		}
	}
}
