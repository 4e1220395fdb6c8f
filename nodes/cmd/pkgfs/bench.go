package pkgfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
)

const (
	// maxBench bounds what bench holds in memory: a quarter of a machine's.
	maxBench = 64 << 20
	// warmUpReads come before the clock starts.
	warmUpReads = 64
)

// benchmark is how bench reads.
type benchmark struct {
	bytes int64 // 0: all of the file
	count int
	want  []byte // the SHA-256 of what is read; nil: whatever it is
}

// parseBench takes bench's own flags from before and behind its path.
func (r *request) parseBench(stderr io.Writer) error {
	flags := newFlags("bench", stderr)
	flags.IntVar(&r.opts.Chunk, "chunk", 0, "bytes of one read (default 32768)")
	flags.IntVar(&r.opts.Window, "window", 0, "requests on the way at a time (default 32)")
	flags.Int64Var(&r.bench.bytes, "bytes", 0, "read only the first `N` bytes (default: all, at most 64 MiB)")
	flags.IntVar(&r.bench.count, "count", 1, "read `N` times, and print a line for each")
	digest := flags.String("sha256", "", "expected SHA-256 in `hex`: fail at the first reading that has another")
	var rest []string
	for args := r.args; ; args = flags.Args()[1:] {
		if err := cli.ParseFlags(flags, args, flags.PrintDefaults); err != nil {
			return err
		}
		if flags.NArg() == 0 {
			break
		}
		rest = append(rest, flags.Arg(0))
	}
	r.args = rest
	if r.bench.bytes < 0 || r.bench.bytes > maxBench {
		return cli.Usagef("bench: -bytes %d is outside 0..%d", r.bench.bytes, maxBench)
	}
	if r.bench.count < 1 {
		return cli.Usagef("bench: -count %d is below 1", r.bench.count)
	}
	if *digest != "" {
		want, err := hex.DecodeString(*digest)
		if err != nil || len(want) != sha256.Size {
			return cli.Usagef("bench: -sha256 %q is not %d hex digits", *digest, hex.EncodedLen(sha256.Size))
		}
		r.bench.want = want
	}
	return nil
}

// bench times reads of a file, or its beginning, into memory.
func bench(ctx context.Context, c *remotefs.Client, r *request) error {
	f, err := c.Open(ctx, r.args[0])
	if err != nil {
		return err
	}
	size := f.Size()
	if r.bench.bytes > 0 {
		size = min(size, r.bench.bytes)
	}
	if size > maxBench {
		return fmt.Errorf("bench %s: %d bytes are more than the %d that are held in memory: read less of it with -bytes N",
			plain(r.args[0]), size, maxBench)
	}
	chunk := int64(r.opts.Chunk)
	if chunk == 0 {
		chunk = int64(pk.DefaultLimits().MaxRead)
	}
	data := make([]byte, size)
	clear(data) // memory never touched is given when it is first written to, which takes time
	if err := readWhole(f, data[:min(size, warmUpReads*chunk)]); err != nil {
		return err
	}
	for range r.bench.count {
		before, start := c.Requests(), time.Now()
		if err := readWhole(f, data); err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		requests := c.Requests() - before
		got := sha256.Sum256(data)
		if _, err := fmt.Fprintf(r.stdout, "bytes=%d seconds=%.6f MB/s=%.4f requests=%d requests/s=%.0f sha256=%x\n",
			size, seconds, float64(size)/1e6/seconds, requests, float64(requests)/seconds, got); err != nil {
			return err
		}
		if r.bench.want != nil && !bytes.Equal(got[:], r.bench.want) {
			return fmt.Errorf("bench %s: sha256 is %x, want %x", plain(r.args[0]), got, r.bench.want)
		}
		clear(data) // what the next round digests must be what it has read
	}
	return f.Close()
}

// readWhole fills p from the beginning of the file.
func readWhole(f *remotefs.File, p []byte) error {
	if n, err := f.ReadAt(p, 0); n < len(p) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
