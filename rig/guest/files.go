package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dsoftbus-rig/nodes/agentapi"
)

// Push copies a file of the host into the machine, with its permission bits,
// making the folders above it. The file appears whole, or not at all.
func (c *Client) Push(ctx context.Context, src, dst string) error {
	return c.transfer(ctx, fmt.Sprintf("push %s to %s", src, dst), func(what string) error {
		from, err := os.Open(src)
		if err != nil {
			return err
		}
		defer from.Close()
		info, err := from.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", src)
		}
		s, _, err := c.request(agentapi.MethodPut, agentapi.Put{Path: dst, Mode: info.Mode().Perm()})
		if err != nil {
			return err
		}
		defer s.abandon()
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		out := agentapi.NewFrameWriter(s)
		if err := copyFrames(out.Stream(agentapi.FrameBytes), from); err != nil {
			return c.broken(what, err)
		}
		var reply agentapi.Reply
		err = out.WriteFrame(agentapi.FrameEnd, nil)
		if err == nil {
			err = json.NewDecoder(s).Decode(&reply)
		}
		if err != nil {
			return c.broken(what, err)
		}
		return failure(reply)
	})
}

// copyFrames copies in pieces that are frames.
func copyFrames(to io.Writer, from io.Reader) error {
	// Hidden, so that io.Copy does not ask a file to do it in its own way.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, agentapi.MaxFrame))
	return err
}

// failure is what a reply says went wrong.
func failure(reply agentapi.Reply) error {
	switch {
	case reply.NotStarted:
		return NotStartedError{reply.Error}
	case reply.Error != "":
		return errors.New(reply.Error)
	}
	return nil
}

// Pull copies a file of the machine to the host. The file appears whole, or not
// at all.
func (c *Client) Pull(ctx context.Context, src, dst string) error {
	return c.transfer(ctx, fmt.Sprintf("pull %s to %s", src, dst), func(what string) error {
		s, _, err := c.request(agentapi.MethodGet, agentapi.Get{Path: src})
		if err != nil {
			return err
		}
		defer s.abandon()
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		aside, err := os.CreateTemp(filepath.Dir(dst), ".pull-*")
		if err != nil {
			return err
		}
		defer os.Remove(aside.Name())
		err = c.receive(s, aside, what)
		if err := errors.Join(err, aside.Chmod(0o644), aside.Close()); err != nil {
			return err
		}
		return os.Rename(aside.Name(), dst)
	})
}

// receive reads the frames of a file.
func (c *Client) receive(s io.Reader, to io.Writer, what string) error {
	for {
		kind, payload, err := agentapi.ReadFrame(s)
		if err != nil {
			return c.broken(what, err)
		}
		if kind == agentapi.FrameEnd {
			var reply agentapi.Reply
			if err := json.Unmarshal(payload, &reply); err != nil {
				return err
			}
			return failure(reply)
		}
		if _, err := to.Write(payload); err != nil {
			return err
		}
	}
}

// transfer runs f, which copies on a stream that ends with ctx, and is then not
// waited for long.
func (c *Client) transfer(ctx context.Context, what string, f func(what string) error) error {
	_, err := await(ctx, func() (struct{}, error) {
		err := f(what)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return struct{}{}, err
	})
	if err != nil && !errors.Is(err, ErrLost) && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return err
}
