package selftestclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
)

// A selftest is one checked command line of remote-pkgfs.
type selftest struct {
	socket string
	peer   string
	path   string
	want   []byte // expected SHA-256; nil: that of a second reading
	opts   remotefs.Options
	stdout io.Writer
}

// Main is the whole program but for signals, which end ctx. It returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	t, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "selftest-client: %v\nusage: selftest-client remote-pkgfs -peer ID [-sha256 HEX] [-chunk N] PATH\n", err)
		return 2
	}
	t.stdout = stdout
	if failed := t.run(ctx); failed != nil {
		if cause := context.Cause(ctx); cause != nil {
			failed.reason = fmt.Errorf("interrupted: %w", cause)
		}
		t.mark(failed.step + " FAIL " + sanitize(failed.reason.Error()))
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*selftest, error) {
	if len(args) == 0 {
		return nil, errors.New("no test; there is remote-pkgfs")
	}
	if args[0] != "remote-pkgfs" {
		return nil, fmt.Errorf("unknown test %q; there is remote-pkgfs", args[0])
	}
	t := &selftest{}
	flags := flag.NewFlagSet("selftest-client remote-pkgfs", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&t.peer, "peer", "", "device `id` of the peer")
	digest := flags.String("sha256", "", "expected SHA-256 in hex (default that of a second reading)")
	flags.IntVar(&t.opts.Chunk, "chunk", pk.DefaultLimits().MaxRead, "bytes of one read")
	flags.StringVar(&t.socket, "socket", localapi.DefaultSocket, "unix socket of dsoftbusd")
	flags.DurationVar(&t.opts.Wait, "wait", 5*time.Second, "how long to wait for a session with the peer")
	flags.DurationVar(&t.opts.Timeout, "timeout", 10*time.Second, "how long to wait for any answer before the session is given up")
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(stderr)
			flags.PrintDefaults()
		}
		return nil, err
	}
	if t.opts.Wait <= 0 {
		t.opts.Wait = -1 // zero would be the library's default
	}
	if t.peer == "" {
		return nil, errors.New("-peer is missing")
	}
	if flags.NArg() != 1 {
		return nil, fmt.Errorf("%d paths, want one, after the flags", flags.NArg())
	}
	t.path = flags.Arg(0)
	if t.opts.Chunk < 1 {
		return nil, fmt.Errorf("-chunk %d is below 1", t.opts.Chunk)
	}
	if *digest != "" {
		want, err := hex.DecodeString(*digest)
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("-sha256 %q is not %d hex digits", *digest, hex.EncodedLen(sha256.Size))
		}
		t.want = want
	}
	return t, nil
}

// failure is a step that did not succeed.
type failure struct {
	step   string
	reason error
}

// run takes every step once.
func (t *selftest) run(ctx context.Context) *failure {
	c, stop, err := t.dial(ctx, t.opts)
	if err != nil {
		return &failure{"session", err}
	}
	defer stop()
	info, err := c.Stat(ctx, t.path)
	if err != nil {
		return &failure{"stat", err}
	}
	t.mark("stat ok")
	f, err := c.Open(ctx, t.path)
	if err != nil {
		return &failure{"open", err}
	}
	t.mark("open ok")
	if err := readStep(f, t.opts.Chunk); err != nil {
		return &failure{"read step", err}
	}
	t.mark("read step ok")
	got, err := digestOf(f, info.Size())
	if err != nil {
		return &failure{"read", err}
	}
	if err := f.Close(); err != nil {
		return &failure{"close", err}
	}
	t.mark("close ok")
	want := t.want
	if want == nil {
		if want, err = t.readAgain(ctx, info.Size()); err != nil {
			return &failure{"read", fmt.Errorf("second reading: %w", err)}
		}
	}
	if !bytes.Equal(got, want) {
		return &failure{"read", fmt.Errorf("sha256 is %x, want %x", got, want)}
	}
	t.mark("read ok")
	return nil
}

// dial connects; stop ends the connection, and so does the end of ctx, which
// the reading of files does not look at.
func (t *selftest) dial(ctx context.Context, opts remotefs.Options) (c *remotefs.Client, stop func(), err error) {
	c, err = remotefs.Dial(ctx, t.socket, t.peer, opts)
	if err != nil {
		return nil, nil, err
	}
	release := context.AfterFunc(ctx, func() { c.Close() })
	return c, func() {
		release()
		c.Close()
	}, nil
}

// readStep reads the first chunk, or finds a file empty.
func readStep(f *remotefs.File, chunk int) error {
	n := int(min(int64(chunk), max(f.Size(), 1)))
	got, err := f.ReadAt(make([]byte, n), 0)
	if err == io.EOF && f.Size() == 0 {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes: %w", got, n, err)
	}
	return nil
}

// digestOf reads the whole file, which must have the size that STAT told.
func digestOf(f *remotefs.File, size int64) ([]byte, error) {
	digest := sha256.New()
	n, err := f.WriteTo(digest)
	if err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	if n != size {
		return nil, fmt.Errorf("read %d bytes, stat told %d", n, size)
	}
	return digest.Sum(nil), nil
}

// readAgain reads the file over a connection of its own in chunks of another
// length, so that nothing but the peer's file is common to both readings.
func (t *selftest) readAgain(ctx context.Context, size int64) ([]byte, error) {
	opts := t.opts
	opts.Chunk = max(1, opts.Chunk/2)
	c, stop, err := t.dial(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer stop()
	f, err := c.Open(ctx, t.path)
	if err != nil {
		return nil, err
	}
	digest, err := digestOf(f, size)
	if err != nil {
		return nil, err
	}
	return digest, f.Close()
}

// mark prints a marker, in one write.
func (t *selftest) mark(what string) {
	fmt.Fprintln(t.stdout, "SELFTEST: remote pkgfs "+what)
}

// maxReason keeps a marker a line that people read.
const maxReason = 300

// sanitize makes one printable line of a reason, whatever a peer has put into
// it: a line feed must not start another marker.
func sanitize(reason string) string {
	line := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(reason, "?"))
	if len(line) > maxReason {
		line = strings.ToValidUTF8(line[:maxReason], "") + "..."
	}
	return line
}
