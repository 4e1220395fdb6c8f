package journal

import (
	"bytes"
	"errors"
	"io"
)

// MaxLine is where an endless line is cut into pieces, in bytes. A guest may
// print a megabyte without a newline; every piece is handed on as a line of its
// own, so nothing is lost and nothing piles up.
const MaxLine = 64 << 10

// MaxEntry is what an entry of MaxLine bytes takes at most: JSON writes a
// control character as six bytes.
const MaxEntry = 6*MaxLine + 512

// readSize is the buffer of one read. QEMU hands over a virtio-serial port in
// pieces of at most 4 KiB, a pipe in 64 KiB.
const readSize = 32 << 10

// Split reads r until it ends and calls line for each line, without "\n" or
// "\r\n". A line longer than MaxLine comes in pieces, each but the last with
// more set. The slice is valid during the call only. The last line is handed on
// even when it has no newline. Split returns nil at the end of r, else the
// error of r.
func Split(r io.Reader, line func(text []byte, more bool)) error {
	return SplitAt(r, MaxLine, line)
}

// SplitAt is Split with the bound of a line in bytes as a parameter.
func SplitAt(r io.Reader, bound int, line func(text []byte, more bool)) error {
	var (
		buf  = make([]byte, readSize)
		rest []byte // the beginning of a line whose end has not come yet
	)
	for {
		n, err := r.Read(buf)
		for data := buf[:n]; len(data) > 0; {
			end := bytes.IndexByte(data, '\n')
			if end >= 0 && len(rest)+end <= bound {
				text := data[:end]
				if len(rest) > 0 {
					rest = append(rest, text...)
					text = rest
				}
				line(bytes.TrimSuffix(text, []byte{'\r'}), false)
				rest, data = rest[:0], data[end+1:]
				continue
			}
			take := len(data)
			if end >= 0 {
				take = end
			}
			take = min(take, bound-len(rest))
			rest, data = append(rest, data[:take]...), data[take:]
			if len(rest) == bound && len(data) > 0 && data[0] != '\n' {
				line(rest, true)
				rest = rest[:0]
			}
		}
		if err != nil {
			if len(rest) > 0 {
				line(rest, false)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
