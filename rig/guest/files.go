package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"dsoftbus-rig/nodes/agentapi"

	"github.com/pkg/sftp"
)

// sftpPacket is the size of one read or write request, in bytes: what every SFTP
// server must take.
const sftpPacket = 32 << 10

// fileClient returns the connection's SFTP client, made at its first use.
func (c *Client) fileClient() (*sftp.Client, error) {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	if c.files != nil {
		return c.files, nil
	}
	s, _, err := c.request(agentapi.MethodFiles, nil)
	if err != nil {
		return nil, err
	}
	files, err := sftp.NewClientPipe(s, s, sftp.MaxPacket(sftpPacket), sftp.UseConcurrentWrites(true))
	if err != nil {
		s.abandon()
		return nil, c.broken("start file transfer", err)
	}
	c.files = files
	return files, nil
}

// transfer runs f, which copies over the SFTP client. When ctx ends, the
// transfer's channel is closed, and f is not waited for long.
func (c *Client) transfer(ctx context.Context, what string, f func(*sftp.Client) error) error {
	_, err := await(ctx, func() (struct{}, error) {
		files, err := c.fileClient()
		if err != nil {
			return struct{}{}, err
		}
		stop := context.AfterFunc(ctx, func() {
			c.filesMu.Lock()
			if c.files == files {
				c.files = nil
			}
			c.filesMu.Unlock()
			files.Close()
		})
		defer stop()
		if err := f(files); err != nil {
			if ctx.Err() != nil {
				return struct{}{}, context.Cause(ctx)
			}
			return struct{}{}, c.broken(what, err)
		}
		return struct{}{}, nil
	})
	return err
}

// Push copies a file of the host into the machine, with its permission bits,
// making the folders above it. The file appears whole, or not at all.
func (c *Client) Push(ctx context.Context, src, dst string) error {
	return c.transfer(ctx, fmt.Sprintf("push %s to %s", src, dst), func(files *sftp.Client) error {
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
		return put(files, from, dst, info.Mode().Perm())
	})
}

// put writes a file aside and renames it.
func put(files *sftp.Client, from io.Reader, dst string, perm fs.FileMode) error {
	if err := files.MkdirAll(path.Dir(dst)); err != nil {
		return fmt.Errorf("make %s: %w", path.Dir(dst), err)
	}
	aside := path.Join(path.Dir(dst), "."+path.Base(dst)+".rig")
	to, err := files.Create(aside)
	if err != nil {
		return err
	}
	_, err = to.ReadFrom(from)
	err = errors.Join(err, to.Close())
	if err == nil {
		err = files.Chmod(aside, perm)
	}
	if err == nil {
		err = files.PosixRename(aside, dst)
	}
	if err != nil {
		_ = files.Remove(aside)
	}
	return err
}

// Pull copies a file of the machine to the host. The file appears whole, or not
// at all.
func (c *Client) Pull(ctx context.Context, src, dst string) error {
	return c.transfer(ctx, fmt.Sprintf("pull %s to %s", src, dst), func(files *sftp.Client) error {
		from, err := files.Open(src)
		if err != nil {
			return err
		}
		defer from.Close()
		aside, err := os.CreateTemp(filepath.Dir(dst), ".pull-*")
		if err != nil {
			return err
		}
		defer os.Remove(aside.Name())
		_, err = from.WriteTo(aside)
		if err := errors.Join(err, aside.Chmod(0o644), aside.Close()); err != nil {
			return err
		}
		return os.Rename(aside.Name(), dst)
	})
}
