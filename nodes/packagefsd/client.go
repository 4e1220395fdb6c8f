package packagefsd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/protocol/pk"
)

// A File is a package file as it was when it was resolved. ReadAt may be called
// concurrently.
type File interface {
	io.ReaderAt
	Size() int64 // bytes
	Close() error
}

// A Resolver finds the file a name means and opens it. fs.ErrNotExist (by
// errors.Is) means there is none; any other error that the service is away,
// timed out or failed.
type Resolver interface {
	Resolve(ctx context.Context, name pk.Name) (File, error)
}

// ErrChanged is a file that was rewritten in place after it was resolved.
var ErrChanged = errors.New("the file was rewritten while it was open")

const (
	// resolveTimeout bounds one request when the caller's context does not.
	resolveTimeout = 3 * time.Second
	// maxRequests bounds the requests of one client under way at a time; a
	// quarter of what the service serves, so that several clients fit.
	maxRequests = maxConns / 4
)

// A Client asks the package service at one socket. Each request has its own
// connection, so a restarted service is simply reached again. It is safe for
// concurrent use.
type Client struct {
	socket string
	slots  chan struct{}
}

var _ Resolver = (*Client)(nil)

// NewClient returns a client of the service at socket. Nothing is connected
// before the first request.
func NewClient(socket string) *Client {
	return &Client{socket: socket, slots: make(chan struct{}, maxRequests)}
}

// Resolve asks the service for a file. It takes no longer than ctx and three
// seconds.
func (c *Client) Resolve(ctx context.Context, name pk.Name) (File, error) {
	if len(name.Bundle)+len(name.Version)+len(name.Path) > maxName {
		return nil, fmt.Errorf("resolve a name of more than %d bytes: %w", maxName, fs.ErrNotExist)
	}
	f, err := c.resolve(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", name.Rel(), err)
	}
	return f, nil
}

func (c *Client) resolve(ctx context.Context, name pk.Name) (File, error) {
	f, size, err := c.ask(ctx, opResolve, name)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("%w: no descriptor", errMalformed)
	}
	opened, err := newFile(f, size)
	if err != nil {
		f.Close()
		return nil, err
	}
	return opened, nil
}

// Ping asks the service for an answer and nothing else.
func (c *Client) Ping(ctx context.Context) error {
	f, _, err := c.ask(ctx, opPing, pk.Name{})
	if f != nil {
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("ping the package service: %w", err)
	}
	return nil
}

// ask has one request answered. The file is nil when none came along.
func (c *Client) ask(ctx context.Context, o op, name pk.Name) (*os.File, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	var d net.Dialer
	dialled, err := d.DialContext(ctx, "unixpacket", c.socket)
	if err != nil {
		// Not %w: a missing socket is ENOENT, and must not pass for a missing file.
		return nil, 0, fmt.Errorf("reach the package service (is packagefsd running?): %v", err)
	}
	conn := dialled.(*net.UnixConn)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	f, size, err := exchange(conn, appendRequest(nil, o, name))
	if err != nil && ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	return f, size, err
}

// exchange sends a request and returns the answer's file and size.
func exchange(conn *net.UnixConn, request []byte) (*os.File, int64, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, 0, err
	}
	msg := make([]byte, maxAnswer+1)
	// Room for more descriptors than the one expected, so that a surplus is
	// seen and closed rather than cut off.
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(msg, oob)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the package service closed the connection: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, 0, err
	}
	files, err := receivedFiles(oob[:oobn])
	if err != nil {
		return nil, 0, err
	}
	size, err := checkAnswer(msg[:n], flags, len(files))
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, 0, err
	}
	if len(files) == 0 {
		return nil, size, nil
	}
	return files[0], size, nil
}

// receivedFiles takes ownership of every descriptor in a control message.
func receivedFiles(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("take descriptor: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // credentials or the like: no descriptors in it
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "package file"))
		}
	}
	return files, nil
}

// checkAnswer returns the size an OK answer tells, and an error for any other.
func checkAnswer(msg []byte, flags, files int) (int64, error) {
	status, size, text, err := parseAnswer(msg)
	switch {
	case err != nil:
		return 0, err
	case status == statusOK && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) == unix.MSG_CTRUNC && files == 0:
		// There was a file, and no number for it.
		return 0, fmt.Errorf("take the file that came with the answer: %w", unix.EMFILE)
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || files > 1 || (status != statusOK && files > 0):
		return 0, fmt.Errorf("%w: %d descriptors with status %d, flags %#x", errMalformed, files, status, flags)
	}
	// The text names what was asked for, and so does the caller's error.
	switch status {
	case statusOK:
		return size, nil
	case statusNotFound:
		return 0, fs.ErrNotExist
	default:
		return 0, fmt.Errorf("the package service refused: %s", strings.ToValidUTF8(text, "?"))
	}
}
