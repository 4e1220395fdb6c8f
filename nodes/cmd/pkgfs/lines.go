package pkgfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
)

// A line is one operation of pk.
type line struct {
	text  string
	op    pk.Op // 0: raw or await
	path  string
	frame []byte // raw's
	await string // the file that await waits for

	last           bool // the handle is that of the latest successful open
	handle, offset uint32
	length         uint16
}

func parseLines(texts []string) ([]line, error) {
	var lines []line
	for i, text := range texts {
		l, err := parseLine(text)
		if err != nil {
			return nil, cli.Usagef("line %d, %q: %w", i+1, text, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func parseLine(text string) (line, error) {
	l := line{text: text}
	verb, rest, spaced := strings.Cut(text, " ")
	switch verb {
	case "stat", "open":
		if !spaced {
			return l, fmt.Errorf("want %s PATH", verb)
		}
		l.op, l.path = pk.Stat, rest
		if verb == "open" {
			l.op = pk.Open
		}
		return l, nil
	case "read":
		fields := strings.Fields(rest)
		if len(fields) != 3 {
			return l, errors.New("want read HANDLE OFFSET LENGTH")
		}
		l.op = pk.Read
		offset, offsetErr := number("offset", fields[1], 32)
		length, lengthErr := number("length", fields[2], 16)
		l.offset, l.length = uint32(offset), uint16(length)
		return l, errors.Join(l.setHandle(fields[0]), offsetErr, lengthErr)
	case "close":
		fields := strings.Fields(rest)
		if len(fields) != 1 {
			return l, errors.New("want close HANDLE")
		}
		l.op = pk.Close
		return l, l.setHandle(fields[0])
	case "raw":
		frame, err := hex.DecodeString(strings.Join(strings.Fields(rest), ""))
		if err != nil {
			return l, fmt.Errorf("want raw HEX: %w", err)
		}
		l.frame = frame
		return l, nil
	case "await":
		if rest == "" {
			return l, errors.New("want await FILE")
		}
		l.await = rest
		return l, nil
	}
	return l, errors.New("want stat, open, read, close, raw or await")
}

func (l *line) setHandle(text string) error {
	if text == "last" {
		l.last = true
		return nil
	}
	handle, err := number("handle", text, 32)
	l.handle = uint32(handle)
	return err
}

// number reads a decimal or 0x number; a leading zero does not make it octal.
func number(what, text string, bits int) (uint64, error) {
	digits, base := text, 10
	if after, isHex := strings.CutPrefix(text, "0x"); isHex {
		digits, base = after, 16
	}
	n, err := strconv.ParseUint(digits, base, bits)
	if err != nil {
		return 0, fmt.Errorf("%s %q is no number of %d bits, decimal or 0x hexadecimal", what, text, bits)
	}
	return n, nil
}

// runLines sends one line after the other, each when the one before is
// answered, and prints a result line for each.
func runLines(ctx context.Context, c *remotefs.Client, r *request) error {
	var last uint32
	opened := false
	for i, l := range r.lines {
		if l.await != "" {
			err := await(ctx, l.await)
			if err == nil {
				_, err = fmt.Fprintln(r.stdout, "AWAIT OK")
			}
			if err != nil {
				return fmt.Errorf("line %d, %q: %w", i+1, l.text, err)
			}
			continue
		}
		if l.last && !opened {
			return fmt.Errorf("line %d, %q: no open has succeeded before it", i+1, l.text)
		}
		if l.last {
			l.handle = last
		}
		answer, err := c.Do(ctx, l.request())
		if err != nil {
			return fmt.Errorf("line %d, %q: %w", i+1, l.text, err)
		}
		response, err := pk.ParseResponse(answer)
		if err == nil && response.Op == pk.Open && response.Status == pk.OK {
			last, opened = response.Handle, true
		}
		if err := l.print(r.stdout, answer, response, err); err != nil {
			return fmt.Errorf("line %d, %q: %w", i+1, l.text, err)
		}
	}
	return nil
}

func (l *line) request() []byte {
	switch l.op {
	case pk.Stat:
		return pk.AppendStat(nil, l.path)
	case pk.Open:
		return pk.AppendOpen(nil, l.path)
	case pk.Read:
		return pk.AppendRead(nil, l.handle, l.offset, l.length)
	case pk.Close:
		return pk.AppendClose(nil, l.handle)
	}
	return l.frame
}

// print writes the result line. What the answer to a raw line holds is the
// reader's business; to any other line it must fit.
func (l *line) print(w io.Writer, answer []byte, r pk.Response, malformed error) error {
	result := hex.EncodeToString(answer)
	if l.op != 0 {
		if malformed == nil && r.Op != l.op {
			malformed = fmt.Errorf("the answer is to %s", r.Op)
		}
		if malformed != nil {
			return malformed
		}
		result = describe(r)
	}
	_, err := fmt.Fprintln(w, result)
	return err
}

func describe(r pk.Response) string {
	head := r.Op.String() + " " + r.Status.String()
	if r.Status != pk.OK {
		return head
	}
	switch r.Op {
	case pk.Stat:
		return fmt.Sprintf("%s size=%d kind=%d", head, r.Size, r.Kind)
	case pk.Open:
		return fmt.Sprintf("%s handle=%d", head, r.Handle)
	case pk.Read:
		return strings.TrimSuffix(fmt.Sprintf("%s n=%d %x", head, len(r.Data), r.Data), " ")
	}
	return head
}
