package packagefsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// service is a running package service.
type service struct {
	cfg  Config
	stop func() error // ends it and returns what Run returned
}

// start runs a service until the test's end and returns when it is ready.
func start(t testing.TB, root, socket string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	ready := make(chan struct{})
	ended := make(chan error, 1)
	cfg := Config{Root: root, Socket: socket, Ready: func() { close(ready) }, Log: log.New(t.Output(), "", 0)}
	go func() { ended <- Run(ctx, cfg) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("the service ended before it was ready: %v", err)
	}
	return &service{cfg: cfg, stop: stop}
}

func startNew(t testing.TB) *service {
	t.Helper()
	dir := t.TempDir()
	return start(t, filepath.Join(dir, "packages"), filepath.Join(dir, "s"))
}

func content(t testing.TB, f File) string {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()+10))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func resolve(t testing.TB, c *Client, rel string) File {
	t.Helper()
	f, err := c.Resolve(testContext(t), name(t, rel))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestResolve(t *testing.T) {
	s := startNew(t)
	c := NewClient(s.cfg.Socket)
	if _, err := c.Resolve(testContext(t), name(t, "system/x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without packages: %v, want not found", err)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	put(t, s.cfg.Root, "system@1.0.0/x", "one")
	put(t, s.cfg.Root, "system@2.0.0/x", "two")
	put(t, s.cfg.Root, "system@2.0.0/big", big)
	put(t, s.cfg.Root, "system@2.0.0/empty", "")
	for rel, want := range map[string]string{"system/x": "two", "system@1.0.0/x": "one", "system/big": big, "system/empty": ""} {
		f := resolve(t, c, rel)
		if f.Size() != int64(len(want)) {
			t.Errorf("%s has size %d, want %d", rel, f.Size(), len(want))
		}
		if got := content(t, f); got != want {
			t.Errorf("%s holds %.20q, want %.20q", rel, got, want)
		}
	}
	for _, n := range []pk.Name{name(t, "system/none"), name(t, "system"), name(t, "none/x"), {Bundle: "a", Path: strings.Repeat("x", maxName)}} {
		if _, err := c.Resolve(testContext(t), n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.20s: %v, want not found", n.Rel(), err)
		}
	}
	if _, err := c.Resolve(testContext(t), pk.Name{Bundle: "..", Path: "x"}); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "malformed name") {
		t.Errorf("malformed name: %v", err)
	}
}

// TestDescriptor looks at what really came over the socket.
func TestDescriptor(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", "x")
	f := resolve(t, NewClient(s.cfg.Socket), "system/x").(*file)
	if _, err := f.f.Write([]byte("y")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("writing gave %v, want %v", err, syscall.EBADF)
	}
	err := f.raw.Control(func(fd uintptr) {
		status, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil {
			t.Error(err)
		}
		if status&unix.O_NONBLOCK != 0 || status&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("status flags are %#x, want read-only and blocking", status)
		}
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err != nil {
			t.Error(err)
		}
		if flags&unix.FD_CLOEXEC == 0 {
			t.Error("the descriptor would leak into child processes")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpenFileIsPinned: what is done to the package by removing and renaming
// does not reach an open file; rewriting it in place is noticed.
func TestOpenFileIsPinned(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace func(t *testing.T, root string)
		err     error
	}{
		{"package directory replaced", func(t *testing.T, root string) {
			if err := os.Rename(filepath.Join(root, "system@1.0.0"), filepath.Join(root, "gone")); err != nil {
				t.Fatal(err)
			}
			put(t, root, "system@1.0.0/x", "new!")
		}, nil},
		{"store removed", func(t *testing.T, root string) {
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"file replaced", func(t *testing.T, root string) {
			put(t, root, "aside", "new!")
			if err := os.Rename(filepath.Join(root, "aside"), filepath.Join(root, "system@1.0.0/x")); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"newer version", func(t *testing.T, root string) { put(t, root, "system@1.0.1/x", "new!") }, nil},
		{"mode changed", func(t *testing.T, root string) {
			if err := os.Chmod(filepath.Join(root, "system@1.0.0/x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"rewritten in place", func(t *testing.T, root string) {
			put(t, root, "system@1.0.0/x", "new!")
			touch(t, filepath.Join(root, "system@1.0.0/x"))
		}, ErrChanged},
		{"appended to", func(t *testing.T, root string) { put(t, root, "system@1.0.0/x", "old!more") }, ErrChanged},
		{"appended to, and the time put back", func(t *testing.T, root string) {
			path := filepath.Join(root, "system@1.0.0/x")
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			put(t, root, "system@1.0.0/x", "old!more")
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, ErrChanged},
		{"truncated", func(t *testing.T, root string) {
			if err := os.Truncate(filepath.Join(root, "system@1.0.0/x"), 0); err != nil {
				t.Fatal(err)
			}
		}, ErrChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startNew(t)
			put(t, s.cfg.Root, "system@1.0.0/x", "old!")
			f := resolve(t, NewClient(s.cfg.Socket), "system/x")
			c.replace(t, s.cfg.Root)
			p := make([]byte, 4)
			n, err := f.ReadAt(p, 0)
			if !errors.Is(err, c.err) {
				t.Fatalf("read gave %v, want %v", err, c.err)
			}
			if c.err == nil && string(p[:n]) != "old!" {
				t.Errorf("read %q, want what was opened", p[:n])
			}
		})
	}
}

// touch moves a file's modification time off whatever it was: a rewrite within
// one tick of the file system's clock would not.
func touch(t *testing.T, path string) {
	t.Helper()
	then := time.Unix(1, 0)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestReadAt(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", "0123456789")
	f := resolve(t, NewClient(s.cfg.Socket), "system/x")
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 4, "0123", nil}, {6, 4, "6789", nil}, {8, 4, "89", io.EOF}, {10, 4, "", io.EOF}, {1 << 40, 4, "", io.EOF}, {3, 0, "", nil},
	} {
		p := make([]byte, c.n)
		n, err := f.ReadAt(p, c.off)
		if string(p[:n]) != c.want || err != c.err {
			t.Errorf("%d bytes at %d: %q, %v; want %q, %v", c.n, c.off, p[:n], err, c.want, c.err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was read")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v, want %v", err, fs.ErrClosed)
	}
}

// TestReadAtAllocatesNothing: it is called for every READ of every peer.
func TestReadAtAllocatesNothing(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", strings.Repeat("x", 32768))
	f := resolve(t, NewClient(s.cfg.Socket), "system/x")
	p := make([]byte, 32768)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := f.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per read, want none", allocs)
	}
}

// TestManyRequests: thousands of requests of several clients, with none of
// their descriptors left open.
func TestManyRequests(t *testing.T) {
	s := startNew(t)
	for i := range 10 {
		put(t, s.cfg.Root, fmt.Sprintf("system@1.0.%d/x", i), fmt.Sprint(i))
	}
	before := openDescriptors(t)
	var wg sync.WaitGroup
	for range 4 {
		c := NewClient(s.cfg.Socket)
		for range 8 {
			wg.Go(func() {
				for i := range 100 {
					f, err := c.Resolve(testContext(t), pk.Name{Bundle: "system", Version: fmt.Sprintf("1.0.%d", i%11), Path: "x"})
					if i%11 == 10 {
						if !errors.Is(err, fs.ErrNotExist) {
							t.Errorf("request %d: %v, want not found", i, err)
						}
						continue
					}
					if err != nil {
						t.Errorf("request %d: %v", i, err)
						return
					}
					p := make([]byte, 1)
					if _, err := f.ReadAt(p, 0); err != nil || p[0] != byte('0'+i%11) {
						t.Errorf("request %d got %q, %v", i, p, err)
					}
					f.Close()
				}
			})
		}
	}
	wg.Wait()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestOddClients: after every kind of rude client the service answers as before.
func TestOddClients(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", "x")
	ask := func(t *testing.T, msg []byte) []byte {
		t.Helper()
		conn := dial(t, s.cfg.Socket)
		if _, err := conn.Write(msg); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, maxAnswer)
		n, err := conn.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		return got[:n]
	}
	request := appendRequest(nil, opResolve, name(t, "system/x"))
	for _, c := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"vanishes at once", func(t *testing.T) { dial(t, s.cfg.Socket).Close() }},
		{"vanishes without taking the answer", func(t *testing.T) {
			conn := dial(t, s.cfg.Socket)
			if _, err := conn.Write(request); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}},
		{"half a request", func(t *testing.T) { wantStatus(t, ask(t, request[:5]), statusBadRequest) }},
		{"half a name", func(t *testing.T) { wantStatus(t, ask(t, request[:10]), statusBadRequest) }},
		{"garbage", func(t *testing.T) { wantStatus(t, ask(t, []byte("GET / HTTP/1.1\r\n\r\n")), statusBadRequest) }},
		{"too long", func(t *testing.T) {
			long := appendRequest(nil, opResolve, pk.Name{Bundle: "system", Path: strings.Repeat("x", maxName)})
			wantStatus(t, ask(t, long), statusBadRequest)
		}},
		{"far too long", func(t *testing.T) { wantStatus(t, ask(t, make([]byte, 60000)), statusBadRequest) }},
		{"silent for the whole test", func(t *testing.T) { dial(t, s.cfg.Socket) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do(t)
			if got := content(t, resolve(t, NewClient(s.cfg.Socket), "system/x")); got != "x" {
				t.Errorf("afterwards the service gives %q", got)
			}
		})
	}
}

func dial(t testing.TB, socket string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unixpacket", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}

func wantStatus(t *testing.T, answer []byte, want status) {
	t.Helper()
	if got, _, text, err := parseAnswer(answer); err != nil || got != want || text == "" {
		t.Errorf("answer is %d %q, %v; want %d and a reason", got, text, err, want)
	}
}

// TestSilentClientsAreOnlyInTheirOwnWay fills every connection the service
// serves; who waits behind them has its own deadline, and is served when they
// are gone.
func TestSilentClientsAreOnlyInTheirOwnWay(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", "x")
	var silent []*net.UnixConn
	for range maxConns {
		silent = append(silent, dial(t, s.cfg.Socket))
	}
	c := NewClient(s.cfg.Socket)
	ctx, cancel := context.WithTimeout(testContext(t), time.Millisecond)
	defer cancel()
	if _, err := c.Resolve(ctx, name(t, "system/x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind silent clients: %v, want the deadline", err)
	}
	for _, conn := range silent {
		conn.Close()
	}
	if got := content(t, resolve(t, c, "system/x")); got != "x" {
		t.Errorf("afterwards the service gives %q", got)
	}
}

// TestRestart: one client outlives the service, and an open file does too.
func TestRestart(t *testing.T) {
	s := startNew(t)
	put(t, s.cfg.Root, "system@1.0.0/x", "x")
	c := NewClient(s.cfg.Socket)
	open := resolve(t, c, "system/x")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(testContext(t), name(t, "system/x")); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is packagefsd running?") {
		t.Errorf("while it is away: %v", err)
	}
	if got := content(t, open); got != "x" {
		t.Errorf("the open file gives %q", got)
	}
	start(t, s.cfg.Root, s.cfg.Socket)
	if got := content(t, resolve(t, c, "system/x")); got != "x" {
		t.Errorf("after the restart the service gives %q", got)
	}
}

func TestRunRefuses(t *testing.T) {
	s := startNew(t)
	err := Run(testContext(t), s.cfg)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("a second service: %v", err)
	}
	if err := NewClient(s.cfg.Socket).Ping(testContext(t)); err != nil {
		t.Errorf("the first one no longer answers: %v", err)
	}
}

// TestOptionsLeftOut: a service that has nothing to call when it is ready, and
// nowhere to log to, serves, and ends cleanly.
func TestOptionsLeftOut(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	cfg := Config{Root: filepath.Join(t.TempDir(), "none"), Socket: filepath.Join(t.TempDir(), "s")}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	for NewClient(cfg.Socket).Ping(ctx) != nil {
		select {
		case err := <-ended:
			t.Fatalf("the service ended before it answered: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	dial(t, cfg.Socket).Close() // without a request, which is worth a line of the log
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRunStoppedBeforeReady: a service that is told to end at once ends cleanly.
func TestRunStoppedBeforeReady(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("terminated"))
	cfg := Config{Root: t.TempDir(), Socket: filepath.Join(t.TempDir(), "s"), Ready: func() { t.Error("said to be ready") }, Log: log.New(t.Output(), "", 0)}
	if err := Run(ctx, cfg); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestStopWithOpenConnections: the end does not wait for clients, however much
// time they have.
func TestStopWithOpenConnections(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := localapi.Listen("unixpacket", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	s := &server{store: NewStore(t.TempDir()), log: log.New(t.Output(), "", 0), patience: time.Hour}
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, l) }()
	conn := dial(t, socket)
	// Once a later connection is answered, the first one is being waited for.
	if err := NewClient(socket).Ping(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != nil && err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection gave %d bytes, %v", n, err)
	}
}

// TestFailureIsLogged: what a peer sees as IO has a reason on this side.
func TestFailureIsLogged(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "packages")
	if err := os.WriteFile(root, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var diagnostics bytes.Buffer
	s := &server{store: NewStore(root), log: log.New(&diagnostics, "", 0)}
	f, answer := s.answer(appendRequest(nil, opResolve, pk.Name{Bundle: "system", Path: "x"}))
	if f != nil {
		t.Error("a file came along")
	}
	wantStatus(t, answer, statusFailed)
	if !strings.Contains(diagnostics.String(), root+" is not a directory") {
		t.Errorf("the log is %q", &diagnostics)
	}
}

// TestRudeService has a client ask services that do not keep to the protocol.
func TestRudeService(t *testing.T) {
	file, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	fd, dirFD := int(file.Fd()), int(dir.Fd())
	ok := appendAnswer(nil, statusOK, info.Size(), "")
	for _, c := range []struct {
		name   string
		answer []byte
		fds    []int
		want   string
	}{
		{"no answer", nil, nil, "closed the connection"},
		{"garbage", []byte("hello, world"), nil, "malformed message"},
		{"too long", append(ok, make([]byte, 2*maxAnswer)...), []int{fd}, "malformed message"},
		{"no descriptor", ok, nil, "no descriptor"},
		{"two descriptors", ok, []int{fd, fd}, "2 descriptors"},
		{"many descriptors", ok, []int{fd, fd, fd, fd, fd, fd, fd, fd, fd, fd}, "malformed message"},
		{"descriptor with an error", appendAnswer(nil, statusNotFound, 0, "none"), []int{fd}, "1 descriptors with status 1"},
		{"a directory", ok, []int{dirFD}, "not a regular file"},
		{"wrong size", appendAnswer(nil, statusOK, info.Size()+1, ""), []int{fd}, ErrChanged.Error()},
		{"failed", appendAnswer(nil, statusFailed, 0, "disk on fire"), nil, "disk on fire"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := localapi.Listen("unixpacket", socket)
			if err != nil {
				t.Fatal(err)
			}
			before := openDescriptors(t)
			var served sync.WaitGroup
			served.Go(func() {
				conn, err := l.AcceptUnix()
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Read(make([]byte, maxRequest))
				if c.answer != nil {
					conn.WriteMsgUnix(c.answer, unix.UnixRights(c.fds...), nil)
				}
			})
			_, err = NewClient(socket).Resolve(testContext(t), name(t, "system/x"))
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want a failure with %q", err, c.want)
			}
			l.Close()
			served.Wait()
			if after := openDescriptors(t); after > before {
				t.Errorf("%d descriptors are open, %d were before", after, before)
			}
		})
	}
}

// TestMuteService: the caller's context ends the wait for an answer.
func TestMuteService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := localapi.Listen("unixpacket", socket)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough waited")
	ctx, cancel := context.WithCancelCause(testContext(t))
	var served sync.WaitGroup
	defer func() {
		l.Close()
		served.Wait()
	}()
	served.Go(func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Read(make([]byte, maxRequest))
		cancel(why)
		conn.Read(make([]byte, 1)) // until the client hangs up
	})
	if _, err := NewClient(socket).Resolve(ctx, name(t, "system/x")); !errors.Is(err, why) {
		t.Errorf("error is %v, want %v", err, why)
	}
}

func BenchmarkResolve(b *testing.B) {
	s := startNew(b)
	for i := range 20 {
		put(b, s.cfg.Root, fmt.Sprintf("bundle%d@1.0.0/x", i), "x")
	}
	c := NewClient(s.cfg.Socket)
	for _, rel := range []string{"bundle7@1.0.0/x", "bundle7/x"} {
		n := name(b, rel)
		b.Run(strings.ReplaceAll(rel, "/", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, err := c.Resolve(b.Context(), n)
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}

func BenchmarkReadAt(b *testing.B) {
	s := startNew(b)
	put(b, s.cfg.Root, "system@1.0.0/x", strings.Repeat("x", 32768))
	f := resolve(b, NewClient(s.cfg.Socket), "system/x")
	p := make([]byte, 32768)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.ReadAt(p, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// TestComplaintsAreBounded: whoever asks again and again for what cannot be had does
// not fill the log.
func TestComplaintsAreBounded(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		s := &server{store: NewStore(root), log: log.New(&logged, "", 0)}
		request := appendRequest(nil, opResolve, pk.Name{Bundle: "a", Path: "b"})
		for range 350 {
			_, answer := s.answer(request)
			wantStatus(t, answer, statusFailed)
			time.Sleep(10 * time.Millisecond)
		}
		if n := strings.Count(logged.String(), "\n"); n != 4 {
			t.Errorf("complained %d times in 3.5 s", n)
		}
	})
}
