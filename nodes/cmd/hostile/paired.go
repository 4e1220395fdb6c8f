package hostile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// A bad request and what the contract's section 3 has for it.
type bad struct {
	name  string
	frame []byte
	want  pk.Status
}

// badRequests are of every kind that the contract names, and every operation that it does not.
func badRequests() []bad {
	path := func(op byte, length int, path string) []byte {
		b := []byte{'P', 'K', 1, op}
		return append(binary.LittleEndian.AppendUint16(b, uint16(length)), path...)
	}
	const file = "pkg:/system/build.prop"
	all := []bad{
		{"nothing", nil, pk.BadRequest},
		{"one byte", []byte{'P'}, pk.BadRequest},
		{"no operation", []byte{'P', 'K', 1}, pk.BadRequest},
		{"magic", []byte{'X', 'K', 1, 1}, pk.BadRequest},
		{"version", append([]byte{'P', 'K', 2}, pk.AppendStat(nil, file)[3:]...), pk.BadRequest},
		{"record of zeros", make([]byte, session.MaxPayload), pk.BadRequest},
		{"READ too short", pk.AppendRead(nil, 1, 0, 1)[:13], pk.BadRequest},
		{"READ too long", append(pk.AppendRead(nil, 1, 0, 1), 0), pk.BadRequest},
		{"READ of a record", append(pk.AppendRead(nil, 1, 0, 1), make([]byte, session.MaxPayload-14)...), pk.BadRequest},
		{"READ of nothing", pk.AppendRead(nil, 1, 0, 0), pk.Oversized},
		{"READ above every limit", pk.AppendRead(nil, 1, 0, 65535), pk.Oversized},
		{"READ of no handle", pk.AppendRead(nil, 0, 0, 1), pk.BadF},
		{"READ of a handle never given", pk.AppendRead(nil, 0xffffffff, 0xffffffff, 1), pk.BadF},
		{"CLOSE too short", pk.AppendClose(nil, 1)[:7], pk.BadRequest},
		{"CLOSE too long", append(pk.AppendClose(nil, 1), 0), pk.BadRequest},
		{"CLOSE of no handle", pk.AppendClose(nil, 0), pk.BadF},
		{"CLOSE of a handle never given", pk.AppendClose(nil, 0xffffffff), pk.BadF},
	}
	for _, op := range []byte{byte(pk.Stat), byte(pk.Open)} {
		all = append(all, []bad{
			{"no length", []byte{'P', 'K', 1, op, 9}, pk.BadRequest},
			{"length 0", path(op, 0, ""), pk.Oversized},
			{"length 0 and a path", path(op, 0, file), pk.Oversized},
			{"length 65535", path(op, 65535, file), pk.Oversized},
			{"path of a record", path(op, 65509, strings.Repeat("x", 65509)), pk.Oversized},
			{"path shorter than it says", path(op, len(file)+1, file), pk.BadRequest},
			{"path longer than it says", path(op, len(file)-1, file), pk.BadRequest},
			{"not UTF-8", path(op, 8, "pkg:/a/\xff"), pk.BadRequest},
			{"surrogate", path(op, 10, "pkg:/a/\xed\xa0\x80"), pk.BadRequest},
			{"no scheme", path(op, 11, "/etc/passwd"), pk.NonPackageFSScheme},
			{"other scheme", path(op, 16, "file:/etc/passwd"), pk.NonPackageFSScheme},
			{"blank before", path(op, 8, " pkg:/a/"), pk.NonPackageFSScheme},
			{"prefix alone", path(op, 5, "pkg:/"), pk.Oversized},
			{"dots", path(op, 24, "pkg:/../../../etc/passwd"), pk.PathTraversal},
			{"dots behind", path(op, 9, "pkg:/a/.."), pk.PathTraversal},
			{"dot", path(op, 10, "pkg:/a/./b"), pk.PathTraversal},
			{"empty segment", path(op, 6, "pkg://"), pk.PathTraversal},
			{"backslash", path(op, 10, `pkg:/a\..\`), pk.PathTraversal},
			{"NUL", path(op, 8, "pkg:/a/\x00"), pk.PathTraversal},
			{"not there", path(op, 11, "pkg:/none/x"), pk.NotFound},
			{"encoded dots", path(op, 12, "pkg:/%2e%2e/"), pk.PathTraversal}, // its last segment is empty
			{"version of dots", path(op, 16, "pkg:/system@../x"), pk.NotFound},
			{"encoded dots of a file", path(op, 13, "pkg:/%2e%2e/x"), pk.NotFound},
		}...)
	}
	// With the top bit set it would be a response, which ends the session.
	for op := 0; op < 128; op++ {
		if op < int(pk.Stat) || op > int(pk.Close) {
			all = append(all, bad{fmt.Sprintf("operation %d", op), append([]byte{'P', 'K', 1, byte(op)}, make([]byte, 10)...), pk.BadRequest})
		}
	}
	return all
}

// malformed asks what is to be rejected, each alone and then all together.
func malformed(ctx context.Context, r *request) (string, error) {
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	all := badRequests()
	for _, b := range all {
		frame, err := p.call(b.frame)
		if err != nil {
			return "", fmt.Errorf("%s: %w", b.name, err)
		}
		if err := b.check(frame); err != nil {
			return "", err
		}
	}
	sent := make(chan error, 1)
	go func() {
		for _, b := range all {
			if err := p.Send(session.ChannelPackageFS, b.frame); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for _, b := range all {
		frame, err := p.frame()
		if err == nil {
			err = b.check(frame)
		}
		if err != nil {
			return "", fmt.Errorf("all together: %w", err)
		}
	}
	if err := <-sent; err != nil {
		return "", err
	}
	if _, err := p.ask(pk.AppendStat(nil, r.path), pk.OK); err != nil {
		return "", fmt.Errorf("afterwards: %w", err)
	}
	return fmt.Sprintf("requests=%d", 2*len(all)), nil
}

func (b bad) check(frame []byte) error {
	// What was parsed as far as its operation may be answered in that one's full length.
	short := pk.AppendReject(nil, b.frame, b.want)
	if len(frame) < len(short) || !bytes.Equal(frame[:len(short)], short) || len(bytes.Trim(frame[len(short):], "\x00")) > 0 {
		return fmt.Errorf("%s is answered %x, want %x (%s)", b.name, frame, short, b.want)
	}
	return nil
}

// reads reads behind the end of a file.
func reads(ctx context.Context, r *request) (string, error) {
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	open, err := p.ask(pk.AppendOpen(nil, r.path), pk.OK)
	if err != nil {
		return "", err
	}
	for n := range r.count {
		response, err := p.ask(pk.AppendRead(nil, open.Handle, 0xffffffff-uint32(n), 32768), pk.OK)
		if err != nil {
			return "", err
		}
		if len(response.Data) > 0 {
			return "", fmt.Errorf("%d bytes behind the end", len(response.Data))
		}
	}
	return fmt.Sprintf("reads=%d", r.count), nil
}

// handles leaks as many as it gets.
func handles(ctx context.Context, r *request) (string, error) {
	leak := func(over int) (*peer, error) {
		p, err := r.paired(ctx)
		if err != nil {
			return nil, err
		}
		for range r.limit {
			if _, err := p.ask(pk.AppendOpen(nil, r.path), pk.OK); err != nil {
				return p, err
			}
		}
		for range over {
			if _, err := p.ask(pk.AppendOpen(nil, r.path), pk.Limit); err != nil {
				return p, err
			}
		}
		_, err = p.ask(pk.AppendOpen(nil, "pkg:/none/x"), pk.NotFound)
		return p, err
	}
	const sessions, over = 5, 20
	for range sessions {
		p, err := leak(over)
		if p != nil {
			defer p.raw.Close() // not before the next has replaced it
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("sessions=%d handles=%d refused=%d", sessions, sessions*r.limit, sessions*over), nil
}

// content opens the file and gives its beginning.
func (p *peer) content(path string) (handle uint32, data []byte, err error) {
	open, err := p.ask(pk.AppendOpen(nil, path), pk.OK)
	if err != nil {
		return 0, nil, err
	}
	read, err := p.ask(pk.AppendRead(nil, open.Handle, 0, pk.FallbackRead), pk.OK)
	if err == nil && len(read.Data) == 0 {
		err = fmt.Errorf("%s is empty: name another one with -path", path)
	}
	return open.Handle, bytes.Clone(read.Data), err
}

// pipeline sends requests whose answers differ, as fast as the victim takes them.
func pipeline(ctx context.Context, r *request) (string, error) {
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	handle, data, err := p.content(r.path)
	if err != nil {
		return "", err
	}
	request := func(n int) []byte {
		if n%7 == 6 {
			return append([]byte{'P', 'K', 1, byte(5 + n%123)}, byte(n))
		}
		return pk.AppendRead(nil, handle, uint32(n%len(data)), 1)
	}
	sent := make(chan error, 1)
	go func() {
		var batch session.Batch
		for n := range r.count {
			batch.Add(session.ChannelPackageFS, request(n))
			if batch.Len() > 32<<10 || n == r.count-1 {
				p.raw.SetWriteDeadline(time.Now().Add(time.Minute))
				if err := p.SendBatch(&batch); err != nil {
					sent <- err
					return
				}
			}
		}
		sent <- nil
	}()
	begin := time.Now()
	for n := range r.count {
		frame, err := p.frame()
		if err != nil {
			return "", fmt.Errorf("request %d of %d: %w", n+1, r.count, err)
		}
		want := pk.AppendReadResponse(nil, pk.OK, data[n%len(data):][:1])
		if n%7 == 6 {
			want = pk.AppendReject(nil, request(n), pk.BadRequest)
		}
		if !bytes.Equal(frame, want) {
			return "", fmt.Errorf("request %d of %d is answered %x, want %x", n+1, r.count, frame, want)
		}
	}
	if err := <-sent; err != nil {
		return "", err
	}
	return fmt.Sprintf("requests=%d seconds=%.2f", r.count, time.Since(begin).Seconds()), nil
}

// deaf sends as many and reads nothing. The victim must not wait for it, whether or not the answers find room on the way.
func deaf(ctx context.Context, r *request) (string, error) {
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	handle, _, err := p.content(r.path)
	if err != nil {
		return "", err
	}
	sent := 0
	p.raw.SetWriteDeadline(time.Now().Add(2 * deadAfter))
	for sent < r.count && p.Send(session.ChannelPackageFS, pk.AppendRead(nil, handle, 0, 32768)) == nil {
		sent++
	}
	if !wait(ctx, deadAfter+slack) {
		return "", context.Cause(ctx)
	}
	n, _, err := closed(p.raw, 2*atOnce)
	if err != nil {
		return "", fmt.Errorf("%s after the last of %d requests: %w", deadAfter+slack, sent, err)
	}
	return fmt.Sprintf("requests=%d bytes_on_the_way=%d", sent, n), r.knock(ctx)
}

// Of ahead, in records.
const (
	// readAhead is how many requests a server reads ahead (contract, section 3).
	readAhead = 32
	// stalls is how many requests wait for the package service, two seconds each, and with them all requests behind.
	stalls = 16
	// room bounds the requests in other places: in the victim's inbox of 256 KiB, and in the kernels' buffers, of which this
	// machine's is made small and the victim's must be.
	room = 12
)

// ahead sends requests of the largest size while the victim's package service stands still. The victim must stop reading
// when it has taken in as many requests as the contract says.
func ahead(ctx context.Context, r *request) (string, error) {
	p, err := r.paired(ctx)
	if err != nil {
		return "", err
	}
	defer p.raw.Close()
	p.raw.(*net.TCPConn).SetWriteBuffer(64 << 10)
	for range stalls {
		if err := p.Send(session.ChannelPackageFS, pk.AppendStat(nil, r.path)); err != nil {
			return "", err
		}
	}
	sent := 0
	large := make([]byte, session.MaxPayload)
	for ; sent < r.count; sent++ {
		p.raw.SetWriteDeadline(time.Now().Add(deadAfter))
		err := p.Send(session.ChannelPackageFS, large)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("request %d: %w", stalls+sent+1, err)
		}
	}
	switch all := stalls + sent; {
	case all < readAhead:
		return "", fmt.Errorf("only %d requests were taken in: want %d", all, readAhead)
	case all > readAhead+room:
		return "", fmt.Errorf("%d requests were taken in while the package service stood still (did it?): want %d, and %d on the way", all, readAhead, room)
	default:
		return fmt.Sprintf("requests=%d", all), nil
	}
}

// ends does something in a session and sees it end in time, with the reason that is expected, and the next one begin.
func (r *request) ends(ctx context.Context, within time.Duration, reason string, do func(p *peer) error) (took time.Duration, err error) {
	p, err := r.paired(ctx)
	if err != nil {
		return 0, err
	}
	defer p.raw.Close()
	if err := do(p); err != nil {
		return 0, err
	}
	told, took, err := p.ended(within)
	if err != nil {
		return 0, err
	}
	if told != reason {
		return 0, fmt.Errorf("closed with reason %q, want %q", told, reason)
	}
	again, err := r.paired(ctx)
	if err != nil {
		return 0, fmt.Errorf("a new session afterwards: %w", err)
	}
	again.raw.Close()
	return took, nil
}

func channel(ctx context.Context, r *request) (string, error) {
	took, err := r.ends(ctx, atOnce, "unknown channel 7", func(p *peer) error { return p.Send(7, []byte("x")) })
	return fmt.Sprintf("ended_after_ms=%d", took.Milliseconds()), err
}

// unasked sends a response although the victim has asked nothing.
func unasked(ctx context.Context, r *request) (string, error) {
	took, err := r.ends(ctx, atOnce, "a response that answers no request", func(p *peer) error {
		return p.Send(session.ChannelPackageFS, pk.AppendReject(nil, pk.AppendStat(nil, r.path), pk.BadRequest))
	})
	return fmt.Sprintf("ended_after_ms=%d", took.Milliseconds()), err
}

// recordOf gives the bytes of a record that is not one: its length, and so much garbage behind it.
func recordOf(length, bytes int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(length))
	b = append(b, make([]byte, bytes)...)
	rand.Read(b[2:])
	return b
}

func silence(ctx context.Context, r *request) (string, error) {
	took, err := r.ends(ctx, deadAfter+slack, "peer is silent", func(p *peer) error {
		_, err := p.raw.Write(recordOf(1000, 500))
		return err
	})
	if err == nil && took < deadAfter-slack {
		err = errors.New("ended too early: " + took.String())
	}
	return fmt.Sprintf("ended_after_ms=%d", took.Milliseconds()), err
}

func undecryptable(ctx context.Context, r *request) (string, error) {
	took, err := r.ends(ctx, atOnce, "", func(p *peer) error {
		_, err := p.raw.Write(recordOf(100, 100))
		return err
	})
	return fmt.Sprintf("ended_after_ms=%d", took.Milliseconds()), err
}

func lengths(ctx context.Context, r *request) (string, error) {
	for _, l := range []struct {
		length, bytes int
		within        time.Duration
		reason        string
	}{
		{0, 0, atOnce, "session: record too short: 0 bytes"},
		{19, 19, atOnce, "session: record too short: 19 bytes"},
		{20, 20, atOnce, ""},
		{65535, 65535, atOnce, ""},
		{65535, 1000, deadAfter + slack, "peer is silent"},
	} {
		if _, err := r.ends(ctx, l.within, l.reason, func(p *peer) error {
			_, err := p.raw.Write(recordOf(l.length, l.bytes))
			return err
		}); err != nil {
			return "", fmt.Errorf("a record of %d bytes, %d sent: %w", l.length, l.bytes, err)
		}
	}
	return "lengths=5", nil
}

// turnover makes sessions that each replace the one before, with all its handles.
func turnover(ctx context.Context, r *request) (string, error) {
	begin := time.Now()
	for n := range r.count {
		p, err := r.paired(ctx)
		if err != nil {
			return "", fmt.Errorf("session %d of %d: %w", n+1, r.count, err)
		}
		defer p.raw.Close() // not before the next has replaced it
		if _, err := p.ask(pk.AppendOpen(nil, r.path), pk.OK); err != nil {
			return "", fmt.Errorf("session %d of %d: %w", n+1, r.count, err)
		}
	}
	return fmt.Sprintf("sessions=%d seconds=%.2f", r.count, time.Since(begin).Seconds()), nil
}
