package remotefs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs/remotefstest"
	"dsoftbus-rig/protocol/pk"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, s *remotefstest.Server, opts Options) *Client {
	t.Helper()
	c, err := Dial(testContext(t), s.Socket, "node-b", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t testing.TB, c *Client, path string) *File {
	t.Helper()
	f, err := c.Open(testContext(t), path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// random returns n bytes that are the same for the same n.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

const prop = "ro.nexus.build=dev\n"

func propServer(t testing.TB) *remotefstest.Server {
	return (&remotefstest.Server{Files: map[string][]byte{"system/build.prop": []byte(prop)}}).Start(t)
}

func TestRoundTrip(t *testing.T) {
	s := propServer(t)
	c := dial(t, s, Options{})
	info, err := c.Stat(testContext(t), "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 19 || info.Kind() != pk.KindFile || info.Name() != "build.prop" || info.Mode() != 0o444 || info.IsDir() {
		t.Errorf("stat gave %+v", info)
	}
	f := open(t, c, "/packages/system/build.prop")
	if got, err := io.ReadAll(f); err != nil || string(got) != prop {
		t.Errorf("read %q, %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Handles(); n != 0 {
		t.Errorf("%d handles are open", n)
	}
}

// TestSizes reads files around every boundary in each way there is.
func TestSizes(t *testing.T) {
	const chunk, window = 64, 4
	s := &remotefstest.Server{Files: map[string][]byte{}}
	var sizes []int
	for _, around := range []int{0, chunk, chunk * window / 2, chunk * window, 10 * chunk * window} {
		for _, size := range []int{around - 1, around, around + 1} {
			if size >= 0 {
				sizes = append(sizes, size)
				s.Files[fmt.Sprintf("b/%d", size)] = random(size)
			}
		}
	}
	s.Start(t)
	c := dial(t, s, Options{Chunk: chunk, Window: window})
	for _, size := range sizes {
		want := random(size)
		f := open(t, c, fmt.Sprintf("pkg:/b/%d", size))
		if f.Size() != int64(size) {
			t.Errorf("%d: size %d", size, f.Size())
		}
		// Exactly as many requests as it takes: a short answer is the end, and
		// an end on a boundary takes one more.
		before := c.Requests()
		var all bytes.Buffer
		if n, err := f.WriteTo(&all); err != nil || n != int64(size) || !bytes.Equal(all.Bytes(), want) {
			t.Errorf("%d: WriteTo gave %d bytes, %v", size, n, err)
		}
		if got, want := c.Requests()-before, uint64(size/chunk+1); got != want {
			t.Errorf("%d: WriteTo took %d requests, want %d", size, got, want)
		}
		p := make([]byte, size)
		before = c.Requests()
		if n, err := f.ReadAt(p, 0); err != nil || n != size || !bytes.Equal(p, want) {
			t.Errorf("%d: ReadAt gave %d bytes, %v", size, n, err)
		}
		if got, want := c.Requests()-before, uint64((size+chunk-1)/chunk); got != want {
			t.Errorf("%d: ReadAt took %d requests, want %d", size, got, want)
		}
		if n, err := f.ReadAt(make([]byte, size+1), 0); err != io.EOF || n != size {
			t.Errorf("%d: ReadAt beyond the end gave %d bytes, %v", size, n, err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		if err := iotest.TestReader(f, want); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBigFile(t *testing.T) {
	want := random(5<<20 + 12345)
	s := (&remotefstest.Server{Files: map[string][]byte{"b/big": want}}).Start(t)
	for _, opts := range []Options{{}, {Chunk: 128}, {Chunk: maxChunk}, {Window: 1}, {Window: 2, Chunk: 4096}, {WindowBytes: 1}, {Window: 1000}} {
		t.Run(fmt.Sprintf("%+v", opts), func(t *testing.T) {
			s.Limits.MaxRead = maxChunk
			c := dial(t, s, opts)
			f := open(t, c, "pkg:/b/big")
			digest := sha256.New()
			if n, err := io.Copy(digest, f); err != nil || n != int64(len(want)) {
				t.Fatalf("copied %d bytes, %v", n, err)
			}
			if sum := sha256.Sum256(want); !bytes.Equal(digest.Sum(nil), sum[:]) {
				t.Error("the content is another one")
			}
		})
	}
}

// TestConcurrentReads: readers of several files and offsets share one session.
func TestConcurrentReads(t *testing.T) {
	s := &remotefstest.Server{Files: map[string][]byte{}, Limits: pk.Limits{MaxPath: 192, MaxRead: 1000, MaxHandles: 8}}
	for i := range 4 {
		s.Files[fmt.Sprintf("b/%d", i)] = random(100_000 + i)
	}
	s.Start(t)
	c := dial(t, s, Options{Chunk: 1000, Window: 8})
	var wg sync.WaitGroup
	for i := range 4 {
		path, want := fmt.Sprintf("pkg:/b/%d", i), random(100_000+i)
		f := open(t, c, path)
		for j := range 4 {
			wg.Go(func() {
				for off := j * 1111; off < len(want); off += 7777 {
					p := make([]byte, 5000)
					n, err := f.ReadAt(p, int64(off))
					if !bytes.Equal(p[:n], want[off:min(off+5000, len(want))]) || (err != nil && err != io.EOF) {
						t.Errorf("%s at %d: %d bytes, %v", path, off, n, err)
						return
					}
					if _, err := c.Stat(testContext(t), path); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestWindow: no more than the window's requests are ever unanswered, and with
// enough to read they all are used.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		opts Options
		want int
	}{
		{Options{Chunk: 100}, 32},
		{Options{Chunk: 100, Window: 7}, 7},
		{Options{Chunk: 100, Window: 1}, 1},
		{Options{Chunk: 100, WindowBytes: 1000}, 10},
		{Options{Chunk: 100, WindowBytes: 99}, 1},
	} {
		t.Run(fmt.Sprintf("%+v", c.opts), func(t *testing.T) {
			var client *Client
			var held [][]byte
			answered := uint64(0)
			s := &remotefstest.Server{
				Files: map[string][]byte{"b/x": random(100 * c.want * 4)},
				Answer: func(request, honest []byte, send func([]byte)) {
					if pk.Op(request[3]) != pk.Read {
						answered++
						send(honest)
						return
					}
					if held = append(held, honest); len(held) < c.want && answered == 2 {
						return // the first burst: the whole window
					}
					for _, frame := range held {
						if onTheWay := client.Requests() - answered; onTheWay > uint64(c.want) {
							t.Errorf("%d requests on the way, want at most %d", onTheWay, c.want)
						}
						answered++
						send(frame)
					}
					held = nil
				},
			}
			s.Start(t)
			client = dial(t, s, c.opts)
			f := open(t, client, "pkg:/b/x")
			p := make([]byte, f.Size())
			if _, err := f.ReadAt(p, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p, random(len(p))) {
				t.Error("the content is another one")
			}
		})
	}
}

// TestShorterChunks: a server that finds the chunks too long gets the length
// that every server takes, from then on.
func TestShorterChunks(t *testing.T) {
	want := random(100_000)
	s := &remotefstest.Server{Files: map[string][]byte{"b/x": want}, Limits: pk.Limits{MaxPath: 192, MaxRead: 128, MaxHandles: 8}}
	s.Start(t)
	c := dial(t, s, Options{})
	f := open(t, c, "pkg:/b/x")
	var all bytes.Buffer
	if n, err := f.WriteTo(&all); err != nil || n != int64(len(want)) || !bytes.Equal(all.Bytes(), want) {
		t.Errorf("WriteTo gave %d bytes, %v", n, err)
	}
	before := c.Requests()
	p := make([]byte, 1000)
	if _, err := f.ReadAt(p, 5); err != nil || !bytes.Equal(p, want[5:1005]) {
		t.Errorf("ReadAt: %v", err)
	}
	if got := c.Requests() - before; got != 8 {
		t.Errorf("1000 bytes took %d requests, want 8 of 128", got)
	}
}

func TestTooShortChunks(t *testing.T) {
	s := &remotefstest.Server{Files: map[string][]byte{"b/x": random(1000)}, Limits: pk.Limits{MaxPath: 192, MaxRead: 100, MaxHandles: 8}}
	s.Start(t)
	for _, chunk := range []int{101, 32768} {
		f := open(t, dial(t, s, Options{Chunk: chunk}), "pkg:/b/x")
		_, err := f.WriteTo(io.Discard)
		wantStatus(t, err, pk.Read, pk.Oversized)
	}
}

func wantStatus(t testing.TB, err error, op pk.Op, status pk.Status) {
	t.Helper()
	answer, is := errors.AsType[*pk.StatusError](err)
	if !is || answer.Op != op || answer.Status != status {
		t.Errorf("error is %v, want %s %s", err, op, status)
	}
}

func TestStatuses(t *testing.T) {
	s := propServer(t)
	c := dial(t, s, Options{})
	for path, status := range map[string]pk.Status{
		"pkg:/system/none": pk.NotFound, "pkg:/system": pk.NotFound, "file:/etc/passwd": pk.NonPackageFSScheme, "pkg:/../x": pk.PathTraversal,
		"": pk.Oversized, "pkg:/": pk.Oversized, "pkg:/" + strings.Repeat("x", 188): pk.Oversized, "pkg:/\xff": pk.BadRequest,
		"pkg:/" + strings.Repeat("x", 1<<17): pk.Oversized,
	} {
		_, err := c.Stat(testContext(t), path)
		wantStatus(t, err, pk.Stat, status)
		_, err = c.Open(testContext(t), path)
		wantStatus(t, err, pk.Open, status)
	}
	if _, err := c.Stat(testContext(t), "pkg:/system/none"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "pkg:/system/none") {
		t.Errorf("error is %v, want %v and the path", err, fs.ErrNotExist)
	}
	// The handle limit, and a handle that the server does not know.
	var files []*File
	for range 8 {
		files = append(files, open(t, c, "pkg:/system/build.prop"))
	}
	_, err := c.Open(testContext(t), "pkg:/system/build.prop")
	wantStatus(t, err, pk.Open, pk.Limit)
	_, err = c.Open(testContext(t), "pkg:/system/none")
	wantStatus(t, err, pk.Open, pk.NotFound)
	files[0].handle = 99
	_, err = files[0].ReadAt(make([]byte, 1), 0)
	wantStatus(t, err, pk.Read, pk.BadF)
	wantStatus(t, files[0].Close(), pk.Close, pk.BadF)
	// None of it has harmed the session.
	if got, err := io.ReadAll(files[7]); err != nil || string(got) != prop {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestFailureForms: failures may have five bytes or their full length.
func TestFailureForms(t *testing.T) {
	for _, full := range []bool{false, true} {
		s := propServer(t)
		s.Answer = func(request, honest []byte, send func([]byte)) {
			switch op := pk.Op(request[3]); {
			case !full:
				send(pk.AppendReject(nil, request, pk.IO))
			case op == pk.Stat:
				send(pk.AppendStatResponse(nil, pk.IO, 0, 0))
			default:
				send(pk.AppendOpenResponse(nil, pk.IO, 0))
			}
		}
		c := dial(t, s, Options{})
		_, err := c.Stat(testContext(t), "pkg:/system/build.prop")
		wantStatus(t, err, pk.Stat, pk.IO)
		_, err = c.Open(testContext(t), "pkg:/system/build.prop")
		wantStatus(t, err, pk.Open, pk.IO)
	}
}

// TestOpenWithoutStat: a file that came to be between the two requests of an
// Open leaves no handle behind.
func TestOpenWithoutStat(t *testing.T) {
	s := propServer(t)
	closed := make(chan struct{})
	s.Answer = func(request, honest []byte, send func([]byte)) {
		switch pk.Op(request[3]) {
		case pk.Stat:
			send(pk.AppendReject(nil, request, pk.NotFound))
		case pk.Close:
			close(closed)
			fallthrough
		default:
			send(honest)
		}
	}
	_, err := dial(t, s, Options{}).Open(testContext(t), "pkg:/system/build.prop")
	wantStatus(t, err, pk.Stat, pk.NotFound)
	<-closed
}

func TestSeek(t *testing.T) {
	s := propServer(t)
	f := open(t, dial(t, s, Options{}), "pkg:/system/build.prop")
	for _, c := range []struct {
		offset int64
		whence int
		want   int64 // -1: fs.ErrInvalid
	}{
		{3, io.SeekStart, 3}, {4, io.SeekCurrent, 7}, {-2, io.SeekEnd, 17}, {100, io.SeekEnd, 119},
		{-1, io.SeekStart, -1}, {-120, io.SeekCurrent, -1}, {0, 3, -1}, {1<<63 - 1, io.SeekCurrent, -1}, {0, io.SeekCurrent, 119},
	} {
		got, err := f.Seek(c.offset, c.whence)
		if c.want < 0 && !errors.Is(err, fs.ErrInvalid) || c.want >= 0 && (err != nil || got != c.want) {
			t.Errorf("seek %d, %d gave %d, %v; want %d", c.offset, c.whence, got, err, c.want)
		}
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("beyond the end: %d bytes, %v", n, err)
	}
	if n, err := f.WriteTo(io.Discard); n != 0 || err != nil {
		t.Errorf("beyond the end: %d bytes, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 1), 1<<40); n != 0 || err != io.EOF {
		t.Errorf("beyond any end: %d bytes, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 1), 1<<63-1); n != 0 || err != io.EOF {
		t.Errorf("at the largest offset: %d bytes, %v", n, err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a negative offset: %v", err)
	}
}

func TestClosedFile(t *testing.T) {
	s := propServer(t)
	f := open(t, dial(t, s, Options{}), "pkg:/system/build.prop")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, readErr := f.Read(make([]byte, 1))
	_, readAtErr := f.ReadAt(make([]byte, 1), 0)
	_, seekErr := f.Seek(0, io.SeekStart)
	_, writeErr := f.WriteTo(io.Discard)
	for i, err := range []error{readErr, readAtErr, seekErr, writeErr, f.Close()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("call %d: %v, want %v", i, err, fs.ErrClosed)
		}
	}
}

// TestFailingWriter: what w says comes back, and the file goes on from there.
func TestFailingWriter(t *testing.T) {
	want := random(100_000)
	s := (&remotefstest.Server{Files: map[string][]byte{"b/x": want}}).Start(t)
	f := open(t, dial(t, s, Options{Chunk: 1000}), "pkg:/b/x")
	full := errors.New("disk full")
	var got bytes.Buffer
	n, err := f.WriteTo(writerFunc(func(p []byte) (int, error) {
		if got.Len() >= 10_000 {
			return 0, full
		}
		return got.Write(p)
	}))
	if n != 10_000 || err != full {
		t.Errorf("wrote %d bytes, %v; want 10000 and %v", n, err, full)
	}
	if n, err := f.WriteTo(writerFunc(func(p []byte) (int, error) { return len(p) / 2, nil })); n != 500 || err != io.ErrShortWrite {
		t.Errorf("a short write: %d bytes, %v", n, err)
	}
	got.Write(want[10_000:10_500])
	if _, err := f.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the rest: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestEarlyEnd: a file that ends before its size is not taken for whole.
func TestEarlyEnd(t *testing.T) {
	s := &remotefstest.Server{
		Files: map[string][]byte{"b/x": random(10_000)},
		Answer: func(request, honest []byte, send func([]byte)) {
			if r, _ := pk.ParseRequest(request, true, pk.DefaultLimits()); r.Op == pk.Read && r.Offset == 5000 {
				honest = pk.AppendReadResponse(nil, pk.OK, honest[7:107])
			}
			send(honest)
		},
	}
	s.Start(t)
	f := open(t, dial(t, s, Options{Chunk: 1000}), "pkg:/b/x")
	if n, err := f.WriteTo(io.Discard); n != 5100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("WriteTo gave %d bytes, %v", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 10_000), 0); n != 5100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt gave %d bytes, %v", n, err)
	}
}

// TestGrownFile: content beyond the size that was told is content.
func TestGrownFile(t *testing.T) {
	want := random(10_000)
	s := &remotefstest.Server{
		Files: map[string][]byte{"b/x": want},
		Answer: func(request, honest []byte, send func([]byte)) {
			if pk.Op(request[3]) == pk.Stat {
				honest = pk.AppendStatResponse(nil, pk.OK, 2500, pk.KindFile)
			}
			send(honest)
		},
	}
	s.Start(t)
	f := open(t, dial(t, s, Options{Chunk: 1000}), "pkg:/b/x")
	var got bytes.Buffer
	if _, err := f.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("WriteTo gave %d bytes, %v", got.Len(), err)
	}
}

// TestRudeAnswers: an answer that does not fit ends the session with a reason.
func TestRudeAnswers(t *testing.T) {
	ok := pk.AppendStatResponse(nil, pk.OK, 19, 0)
	for _, c := range []struct {
		name   string
		answer []byte
		want   string
	}{
		{"empty", []byte{}, "truncated"},
		{"garbage", []byte("HTTP/1.1 400 Bad Request"), "magic"},
		{"a request", pk.AppendStat(nil, "pkg:/x"), "unknown operation"},
		{"of another operation", pk.AppendCloseResponse(nil, pk.OK), "CLOSE instead of STAT"},
		{"a failure of another operation", pk.AppendReject(nil, pk.AppendRead(nil, 1, 0, 1), pk.IO), "READ instead of STAT"},
		{"an unknown operation", []byte("PK\x01\xff\x01"), "instead of STAT"},
		{"too short", ok[:14], "wrong length"},
		{"too long", append(ok[:15:15], 0), "wrong length"},
		{"an unknown status", []byte("PK\x01\x81\x2a"), "unknown status"},
		{"a huge size", pk.AppendStatResponse(nil, pk.OK, 1<<63, 0), "9223372036854775808 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &remotefstest.Server{Answer: func(_, _ []byte, send func([]byte)) { send(c.answer) }}
			s.Start(t)
			client := dial(t, s, Options{})
			_, err := client.Stat(testContext(t), "pkg:/x")
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want %v with %q", err, ErrProtocol, c.want)
			}
			if c.name == "a huge size" {
				return // fits the request; the session lives on
			}
			wantEnd(t, err, ErrProtocol)
			_, again := client.Stat(testContext(t), "pkg:/x")
			if again == nil || again.Error() != err.Error() {
				t.Errorf("a later call ends with %v, want %v", again, err)
			}
		})
	}
}

func wantEnd(t testing.TB, err, cause error) {
	t.Helper()
	end, is := errors.AsType[*SessionError](err)
	if !is || end.Peer != "node-b" || !strings.Contains(err.Error(), "node-b") || !errors.Is(err, cause) {
		t.Errorf("error is %v, want the end of the session with node-b by %v", err, cause)
	}
}

func TestTooMuchData(t *testing.T) {
	s := propServer(t)
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if pk.Op(request[3]) == pk.Read {
			honest = pk.AppendReadResponse(nil, pk.OK, make([]byte, 6))
		}
		send(honest)
	}
	f := open(t, dial(t, s, Options{}), "pkg:/system/build.prop")
	p := []byte("untouched")
	n, err := f.ReadAt(p[:5], 0)
	wantEnd(t, err, ErrProtocol)
	if n != 0 || string(p) != "untouched" {
		t.Errorf("%d bytes arrived, memory is %q", n, p)
	}
}

// TestUnasked: an answer to no request ends the session too.
func TestUnasked(t *testing.T) {
	s := propServer(t)
	s.Answer = func(_, honest []byte, send func([]byte)) { send(honest); send(honest) }
	c := dial(t, s, Options{})
	if _, err := c.Stat(testContext(t), "pkg:/system/build.prop"); err != nil {
		t.Fatal(err)
	}
	<-c.dead
	wantEnd(t, c.cause(), ErrProtocol)
}

func TestControlAmongAnswers(t *testing.T) {
	for _, body := range []string{"{}", `{"ok":true}`, "what?", ""} {
		s := propServer(t)
		c := dial(t, s, Options{})
		s.Control(body)
		<-c.dead
		_, err := c.Stat(testContext(t), "pkg:/system/build.prop")
		if _, is := errors.AsType[*SessionError](err); !is {
			t.Errorf("after control %q: %v", body, err)
		}
	}
}

// TestLateAnswer: a call that was given up does not spoil the next ones.
func TestLateAnswer(t *testing.T) {
	release := make(chan struct{})
	s := propServer(t)
	first := true
	s.Answer = func(_, honest []byte, send func([]byte)) {
		if first {
			first = false
			<-release
		}
		send(honest)
	}
	c := dial(t, s, Options{})
	ctx, cancel := context.WithCancelCause(testContext(t))
	why := errors.New("enough waited")
	time.AfterFunc(time.Millisecond, func() { cancel(why) })
	_, err := c.Stat(ctx, "pkg:/system/none")
	if !errors.Is(err, why) || !strings.Contains(err.Error(), "node-b") {
		t.Errorf("error is %v, want %v and the peer", err, why)
	}
	close(release)
	if info, err := c.Stat(testContext(t), "pkg:/system/build.prop"); err != nil || info.Size() != 19 {
		t.Errorf("the next one gave %+v, %v", info, err)
	}
}

// TestLateOpen: the handle of an Open that was given up is given back.
func TestLateOpen(t *testing.T) {
	for _, raw := range []bool{false, true} {
		release, closed := make(chan struct{}), make(chan []byte, 1)
		s := propServer(t)
		s.Answer = func(request, honest []byte, send func([]byte)) {
			switch pk.Op(request[3]) {
			case pk.Open:
				<-release
			case pk.Close:
				closed <- bytes.Clone(request)
			}
			send(honest)
		}
		c := dial(t, s, Options{})
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(time.Millisecond, cancel)
		var err error
		if raw {
			_, err = c.Do(ctx, pk.AppendOpen(nil, "pkg:/system/build.prop"))
		} else {
			_, err = c.Open(ctx, "pkg:/system/build.prop")
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want %v", err, context.Canceled)
		}
		close(release)
		if got, want := <-closed, pk.AppendClose(nil, 1); !bytes.Equal(got, want) {
			t.Errorf("request is % x, want % x", got, want)
		}
		if _, err := c.Stat(testContext(t), "pkg:/system/build.prop"); err != nil {
			t.Error(err)
		}
	}
}

// TestFullWindowAndContext: waiting for a place is bounded too.
func TestFullWindowAndContext(t *testing.T) {
	s := propServer(t)
	s.Answer = func(_, _ []byte, _ func([]byte)) {}
	c := dial(t, s, Options{Window: 1})
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := c.Stat(ctx, "pkg:/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	if _, err := c.Stat(ctx, "pkg:/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
}

// TestSessionEnds: whatever ends the session ends every pending call with the
// reason, and the peer's name.
func TestSessionEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		opts Options
		end  func(*remotefstest.Server, *Client)
		want error
	}{
		{"session lost", Options{}, func(s *remotefstest.Server, _ *Client) { s.Lose() }, &localapi.Error{Code: localapi.CodeSessionLost}},
		{"dsoftbusd killed", Options{}, func(s *remotefstest.Server, _ *Client) { s.Stop() }, io.ErrUnexpectedEOF},
		{"client closed", Options{}, func(_ *remotefstest.Server, c *Client) { c.Close() }, fs.ErrClosed},
		{"no answer", Options{Timeout: 20 * time.Millisecond}, func(*remotefstest.Server, *Client) {}, os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &remotefstest.Server{Files: map[string][]byte{"b/x": random(1 << 20)}}
			asked := make(chan struct{}, 1000)
			s.Answer = func(request, honest []byte, send func([]byte)) {
				if pk.Op(request[3]) == pk.Read || bytes.Contains(request, []byte("none")) {
					asked <- struct{}{}
					return
				}
				send(honest)
			}
			s.Start(t)
			client := dial(t, s, c.opts)
			f := open(t, client, "pkg:/b/x")
			calls := []func() error{
				func() error { _, err := client.Stat(testContext(t), "pkg:/none"); return err },
				func() error { _, err := client.Open(testContext(t), "pkg:/none"); return err },
				func() error { _, err := client.Do(testContext(t), []byte("none")); return err },
				func() error { _, err := f.ReadAt(make([]byte, 1<<20), 0); return err },
				func() error { _, err := f.Read(make([]byte, 10)); return err },
			}
			ended := make(chan error, len(calls))
			for _, call := range calls {
				go func() { ended <- call() }()
			}
			for range len(calls) {
				<-asked
			}
			c.end(s, client)
			for range calls {
				wantEnd(t, <-ended, c.want)
			}
			_, err := f.WriteTo(io.Discard)
			wantEnd(t, err, c.want)
			wantEnd(t, f.Close(), c.want)
		})
	}
}

// TestLostWhileWriting: dsoftbusd says why it ends and closes; the broken pipe of
// a request that crosses this on its way is not the reason.
func TestLostWhileWriting(t *testing.T) {
	near, far := net.Pipe()
	opts, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	tried := make(chan struct{})
	c := newClient(localapi.NewConn(brokenPipe{near, sync.OnceFunc(func() { close(tried) })}), "node-b", opts)
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Stat(testContext(t), "pkg:/x")
		ended <- err
	}()
	<-tried // in vain, and before there is anything to receive
	if err := localapi.NewConn(far).SendControl(localapi.Reply{Error: "session lost node-b", Code: localapi.CodeSessionLost}); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, <-ended, &localapi.Error{Code: localapi.CodeSessionLost})
}

// brokenPipe is a connection that the other side has closed after its last
// message.
type brokenPipe struct {
	net.Conn
	tried func()
}

func (b brokenPipe) Write([]byte) (int, error) {
	b.tried()
	return 0, &net.OpError{Op: "write", Net: "unix", Err: os.NewSyscallError("write", syscall.EPIPE)}
}

// TestDeadlines: Options.Timeout is about unanswered requests alone, so an idle
// session has no deadline, and each answer gives the next one its full time.
func TestDeadlines(t *testing.T) {
	near, far := net.Pipe()
	recorder := &deadlineRecorder{Conn: near, set: make(chan time.Time, 16)}
	opts, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(localapi.NewConn(recorder), "node-b", opts)
	defer c.Close()
	peer := localapi.NewConn(far)
	next := func(what string, idle bool) time.Time {
		t.Helper()
		set := <-recorder.set
		if set.IsZero() != idle {
			t.Errorf("%s the deadline is %v", what, set)
		}
		return set
	}
	next("at the start", true)
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := c.Stat(testContext(t), "pkg:/x"); err != nil {
				t.Error(err)
			}
		})
		if _, _, err := peer.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() {
		if err := peer.Send(localapi.KindFrame, pk.AppendStatResponse(nil, pk.OK, 1, 0)); err != nil {
			t.Error(err)
		}
	}
	first := next("with the first request", false)
	answer()
	if second := next("after the first answer", false); second.Before(first) {
		t.Errorf("the second request's deadline %v is before the first one's %v", second, first)
	}
	answer()
	next("after the last answer", true)
	calls.Wait()
	if n := len(recorder.set); n != 0 {
		t.Errorf("%d more deadlines were set", n)
	}
}

type deadlineRecorder struct {
	net.Conn
	set chan time.Time
}

func (r *deadlineRecorder) SetReadDeadline(t time.Time) error {
	r.set <- t
	return r.Conn.SetReadDeadline(t)
}

func TestDialFails(t *testing.T) {
	s := propServer(t)
	_, err := Dial(testContext(t), s.Socket, "node-x", Options{})
	if !errors.Is(err, &localapi.Error{Code: localapi.CodeUnknownPeer}) || !strings.Contains(err.Error(), "node-x") {
		t.Errorf("unknown peer: %v", err)
	}
	if _, err := Dial(testContext(t), filepath.Join(t.TempDir(), "none"), "node-b", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no dsoftbusd: %v", err)
	}
	for _, opts := range []Options{{Chunk: -1}, {Chunk: maxChunk + 1}, {Window: -1}, {Window: maxWindow + 1}, {WindowBytes: -1}, {Timeout: -1}} {
		if c, err := Dial(testContext(t), s.Socket, "node-b", opts); err == nil {
			c.Close()
			t.Errorf("options %+v were taken", opts)
		}
	}
}

// TestDialMute: a dsoftbusd that never answers is given up by itself.
func TestDialMute(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := localapi.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Dial(testContext(t), socket, "node-b", Options{Wait: -1, Timeout: 10 * time.Millisecond})
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("error is %v", err)
	}
}

func TestDo(t *testing.T) {
	s := propServer(t)
	c := dial(t, s, Options{})
	for _, frame := range []struct{ request, want string }{
		{"", "PK\x01\x81\x01"},
		{"x", "PK\x01\x81\x01"},
		{"PK\x01\x09", "PK\x01\x89\x01"},
		{"PK\x02\x02", "PK\x01\x82\x01"},
		{"PK\x01\x01\x16\x00pkg:/system/build.prop", "PK\x01\x81\x00\x13\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"PK\x01\x02\x16\x00pkg:/system/build.prop", "PK\x01\x82\x00\x01\x00\x00\x00"},
		{"PK\x01\x03\x01\x00\x00\x00\x03\x00\x00\x00\x05\x00", "PK\x01\x83\x00\x05\x00nexus"},
		{"PK\x01\x04\x01\x00\x00\x00", "PK\x01\x84\x00"},
		{"PK\x01\x04\x01\x00\x00\x00", "PK\x01\x84\x06"},
		{string(make([]byte, maxFrame)), "PK\x01\x80\x01"},
	} {
		got, err := c.Do(testContext(t), []byte(frame.request))
		if err != nil || string(got) != frame.want {
			t.Errorf("%.20q: answer is %q, %v; want %q", frame.request, got, err, frame.want)
		}
	}
	if _, err := c.Do(testContext(t), make([]byte, maxFrame+1)); err == nil {
		t.Error("a frame that no session carries was sent")
	}
	if _, err := c.Stat(testContext(t), "pkg:/system/build.prop"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// FuzzAnswers lets a peer send any bytes at all. Every call must end, and no
// content may come that was not in an answer.
func FuzzAnswers(f *testing.F) {
	frame := func(body []byte) []byte {
		return append([]byte{byte(len(body) >> 8), byte(len(body)), 0}, body...)
	}
	good := frame(pk.AppendStatResponse(nil, pk.OK, 19, 0))
	good = append(good, frame(pk.AppendOpenResponse(nil, pk.OK, 1))...)
	good = append(good, frame(pk.AppendReadResponse(nil, pk.OK, []byte(prop)))...)
	f.Add(good)
	f.Add(append(good, frame(pk.AppendCloseResponse(nil, pk.OK))...))
	f.Add(good[:20])
	f.Add([]byte("\x00\x02\x01{}"))
	f.Add([]byte("\x00\x00\x07"))
	opts, err := Options{Timeout: time.Minute}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		near, far := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() { io.Copy(io.Discard, far) })
		peer.Go(func() {
			far.Write(stream)
			far.Close()
		})
		c := newClient(localapi.NewConn(near), "node-b", opts)
		if file, err := c.Open(context.Background(), "pkg:/system/build.prop"); err == nil {
			var got bytes.Buffer
			if _, err := file.WriteTo(&got); err == nil && !bytes.Contains(stream, got.Bytes()[:min(got.Len(), opts.Chunk)]) {
				t.Errorf("content %q out of nowhere", &got)
			}
			file.Close()
		}
		c.Close()
		peer.Wait()
	})
}

func BenchmarkWriteTo(b *testing.B) {
	for _, opts := range []Options{{}, {Window: 1}, {Chunk: 128}} {
		b.Run(fmt.Sprintf("chunk%d_window%d", opts.Chunk, opts.Window), func(b *testing.B) {
			s := (&remotefstest.Server{Files: map[string][]byte{"b/x": random(8 << 20)}}).Start(b)
			f := open(b, dial(b, s, opts), "pkg:/b/x")
			b.SetBytes(f.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				if _, err := f.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	for _, size := range []int{128, 32768, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := (&remotefstest.Server{Files: map[string][]byte{"b/x": random(1 << 20)}}).Start(b)
			f := open(b, dial(b, s, Options{}), "pkg:/b/x")
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.ReadAt(p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
