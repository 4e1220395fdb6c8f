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

	"github.com/google/renameio/v2"
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
			reply, err = s.reply()
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

// maxPulled bounds a file that is pulled, in bytes: a machine has less memory to
// keep one in, and its disk is memory.
const maxPulled = 8 << 30

// Pull copies a file of the machine to the host. The file appears whole, or not
// at all. It has the permissions that it has in the machine, as far as the user's
// umask lets it.
func (c *Client) Pull(ctx context.Context, src, dst string) error {
	return c.transfer(ctx, fmt.Sprintf("pull %s to %s", src, dst), func(what string) error {
		s, reply, err := c.request(agentapi.MethodGet, agentapi.Get{Path: src})
		if err != nil {
			return err
		}
		defer s.abandon()
		var got agentapi.Got
		if err := json.Unmarshal(reply.Result, &got); err != nil {
			return fmt.Errorf("agent's answer: %w", err)
		}
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		// The owner, who has asked for it, may read and write it in any case.
		mode := got.Mode.Perm() | 0o600
		aside, err := renameio.NewPendingFile(dst, renameio.WithTempDir(filepath.Dir(dst)), renameio.WithPermissions(mode))
		if err != nil {
			return err
		}
		defer aside.Cleanup()
		if err := c.receive(s, aside, maxPulled, what); err != nil {
			return err
		}
		return aside.CloseAtomicallyReplace()
	})
}

// receive reads the frames of a file of at most so many bytes.
func (c *Client) receive(s io.Reader, to io.Writer, most int64, what string) error {
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
		if most -= int64(len(payload)); most < 0 {
			return errTooLong
		}
		if _, err := to.Write(payload); err != nil {
			return err
		}
	}
}

// errTooLong is the error of what a machine sends without end.
var errTooLong = errors.New("the machine sends more than can be")

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
