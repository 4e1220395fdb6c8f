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

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// sftpPacket is the size of one read or write request, in bytes: what every SFTP
// server must take.
const sftpPacket = 32 << 10

// fileClient returns the connection's SFTP client, made at its first use.
func (c *Client) fileClient(ctx context.Context) (*sftp.Client, error) {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	if c.files != nil {
		return c.files, nil
	}
	// The client lives as long as the connection, not as long as ctx.
	ch, requests, stop, err := c.channel(ctx, "session", nil)
	if err != nil {
		return nil, err
	}
	defer stop()
	go ssh.DiscardRequests(requests)
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err == nil && !ok {
		err = errors.New("the agent refused it")
	}
	if err != nil {
		ch.Close()
		return nil, c.broken(ctx, "start file transfer", err)
	}
	files, err := sftp.NewClientPipe(ch, ch, sftp.MaxPacket(sftpPacket), sftp.UseConcurrentWrites(true))
	if err != nil {
		ch.Close()
		return nil, c.broken(ctx, "start file transfer", err)
	}
	c.files = files
	return files, nil
}

// transfer runs f, which copies over the SFTP client. When ctx ends, the
// transfer's channel is closed, and f is not waited for long.
func (c *Client) transfer(ctx context.Context, what string, f func(*sftp.Client) error) error {
	_, err := await(ctx, func() (struct{}, error) {
		files, err := c.fileClient(ctx)
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
			return struct{}{}, c.broken(ctx, what, err)
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
