package localapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serve claims a socket and hands its first connection to f, on a goroutine
// that the test waits for.
func serve(t testing.TB, f func(*Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "dsoftbusd.sock")
	l, err := Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		c := NewConn(raw)
		defer c.Close()
		f(c)
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return socket
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestOpenPeer(t *testing.T) {
	socket := serve(t, func(c *Conn) {
		req, err := c.RecvRequest()
		if err != nil {
			t.Error(err)
			return
		}
		if want := (Request{Open: &Open{Peer: "node-b", WaitMS: 2, Shared: true}}); !reflect.DeepEqual(req, want) {
			t.Errorf("request is %+v, want %+v", req, want)
		}
		if err := c.SendControl(Reply{OK: true}); err != nil {
			t.Error(err)
		}
		for {
			kind, frame, err := c.Recv()
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				return
			}
			if err := c.Send(kind, frame); err != nil {
				t.Error(err)
			}
		}
	})
	c, err := OpenPeer(testContext(t), socket, "node-b", 1500*time.Microsecond)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frames := [][]byte{{}, []byte("PK"), bytes.Repeat([]byte("x"), MaxBody)}
	for _, frame := range frames {
		if err := c.Queue(KindFrame, frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range frames {
		kind, got, err := c.Recv()
		if err != nil || kind != KindFrame || !bytes.Equal(got, want) {
			t.Fatalf("got %v of %d bytes, %v; want a frame of %d", kind, len(got), err, len(want))
		}
	}
}

func TestOpenPeerFails(t *testing.T) {
	ok := func(c *Conn) { c.SendControl(Reply{OK: true}) }
	for _, c := range []struct {
		name   string
		answer func(*Conn)
		want   string
		is     error
	}{
		{"refused", func(c *Conn) {
			c.SendError(CodeBadRequest, fmt.Errorf("open: %w", &Error{Code: CodeNoSession, Text: "no session with node-b"}))
		}, "no session with node-b", &Error{Code: CodeNoSession}},
		{"refused by any error", func(c *Conn) { c.SendError(CodeUnknownPeer, errors.New("who?")) }, "who?", &Error{Code: CodeUnknownPeer}},
		{"closed", func(*Conn) {}, "closed the connection without an answer", io.ErrUnexpectedEOF},
		{"a frame first", func(c *Conn) { c.Send(KindFrame, []byte("PK")); ok(c) }, "want a control message, got frame", nil},
		{"neither ok nor error", func(c *Conn) { c.SendControl(Reply{}) }, `neither "ok" nor "error"`, nil},
		{"not JSON", func(c *Conn) { c.Send(KindControl, []byte("ok")) }, "malformed control message", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := serve(t, func(conn *Conn) {
				if _, err := conn.RecvRequest(); err != nil {
					t.Error(err)
				}
				c.answer(conn)
			})
			conn, err := OpenPeer(testContext(t), socket, "node-b", time.Second)
			if err == nil {
				conn.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || (c.is != nil && !errors.Is(err, c.is)) {
				t.Errorf("error is %v, want %q, %v", err, c.want, c.is)
			}
		})
	}
}

// TestRefusedUnread: the reason of a server that does not read the request at
// all still arrives.
func TestRefusedUnread(t *testing.T) {
	near, far, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	server := NewConn(far)
	if err := server.SendError(CodeNoSession, errors.New("going down")); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	client := NewConn(near)
	defer client.Close()
	if _, err := client.ask(Request{Peers: true}); !errors.Is(err, &Error{Code: CodeNoSession}) {
		t.Errorf("error is %v, want the reason", err)
	}
	// With no reason there, the failed request is the error.
	if _, err := client.ask(Request{Peers: true}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error is %v, want %v", err, syscall.EPIPE)
	}
}

func socketpair() (near, far net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conn, fileErr := net.FileConn(f) // a copy of the descriptor
		conns[i], err = conn, errors.Join(err, fileErr, f.Close())
	}
	return conns[0], conns[1], err
}

// TestOpenPeerCancelled: a dsoftbusd that takes the request and never answers
// holds nobody beyond its context.
func TestOpenPeerCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(testContext(t))
	why := errors.New("enough waited")
	socket := serve(t, func(c *Conn) {
		if _, err := c.RecvRequest(); err != nil {
			t.Error(err)
		}
		cancel(why)
		// Ends when the client gives up.
		if _, _, err := c.Recv(); err != io.EOF {
			t.Errorf("client left with %v", err)
		}
	})
	if c, err := OpenPeer(ctx, socket, "node-b", time.Second); !errors.Is(err, why) {
		t.Errorf("got %v, %v; want %v", c, err, why)
	}
}

func TestNoDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	_, err := OpenPeer(testContext(t), socket, "node-b", 0)
	if !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("error is %v", err)
	}
	if _, err := Peers(testContext(t), socket); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("error is %v", err)
	}
}

func TestPeers(t *testing.T) {
	// Sixteen neighbours whose services' JSON is six times their length: more
	// than one message holds.
	var hostile []Peer
	for i := range 16 {
		p := Peer{ID: fmt.Sprint("node-", i), Addresses: []string{}, AgeMS: -1}
		for range 16 {
			p.Services = append(p.Services, strings.Repeat("\x01", 64))
		}
		hostile = append(hostile, p)
	}
	for _, c := range []struct {
		name  string
		peers []Peer
	}{
		{"none", nil},
		{"one", []Peer{{ID: "node-b", Paired: true, Addresses: []string{"10.0.0.2"}, Services: []string{}}}},
		{"many", hostile},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := serve(t, func(conn *Conn) {
				if req, err := conn.RecvRequest(); err != nil || !req.Peers {
					t.Errorf("request is %+v, %v", req, err)
				}
				if err := conn.SendPeers(c.peers); err != nil {
					t.Error(err)
				}
			})
			got, err := Peers(testContext(t), socket)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.peers) || (len(got) > 0 && !reflect.DeepEqual(got, c.peers)) {
				t.Errorf("got %+v, want %+v", got, c.peers)
			}
		})
	}
}

func TestPeersFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*Conn)
		want   string
	}{
		{"refused", func(c *Conn) { c.SendError(CodeBadRequest, errors.New("no")) }, "no"},
		{"no list", func(c *Conn) { c.SendControl(Reply{OK: true}) }, `neither "peers" nor "error"`},
		{"cut", func(c *Conn) { c.SendControl(Reply{Peers: []Peer{}, More: true}) }, "without an answer"},
		{"endless", func(c *Conn) {
			for c.SendControl(Reply{Peers: make([]Peer, 512), More: true}) == nil {
			}
		}, "more than 4096 peers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := serve(t, func(conn *Conn) {
				if _, err := conn.RecvRequest(); err != nil {
					t.Error(err)
				}
				c.answer(conn)
			})
			if _, err := Peers(testContext(t), socket); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestRecvRequestRefuses(t *testing.T) {
	for _, c := range []struct {
		name, stream, want string
		badRequest         bool
	}{
		{"frame", message(KindFrame, "PK\x01\x01"), "the first message must be control", true},
		{"not JSON", message(KindControl, "PK"), "invalid character", true},
		{"vanished", "", "EOF", false},
		{"vanished in a message", "\x00\x20\x01{", "unexpected EOF", false},
		{"garbage", "GET / HTTP/1.1\r\n", "unknown message kind", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := make(chan error, 1)
			socket := serve(t, func(conn *Conn) {
				_, err := conn.RecvRequest()
				done <- err
			})
			raw, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(raw, c.stream); err != nil {
				t.Fatal(err)
			}
			if err := raw.Close(); err != nil {
				t.Fatal(err)
			}
			err = <-done
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			if got := errors.Is(err, &Error{Code: CodeBadRequest}); got != c.badRequest {
				t.Errorf("%v is the client's fault: %v, want %v", err, got, c.badRequest)
			}
		})
	}
}

// TestSendConcurrently: messages of many senders arrive whole.
func TestSendConcurrently(t *testing.T) {
	const senders, each = 8, 200
	socket := serve(t, func(c *Conn) {
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte(s)}, 100+s*2000)
				for range each {
					if err := c.Send(KindFrame, body); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	c, err := dial(testContext(t), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]int, senders)
	for {
		_, body, err := c.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s := int(body[0])
		if want := bytes.Repeat([]byte{byte(s)}, 100+s*2000); !bytes.Equal(body, want) {
			t.Fatalf("a message of sender %d is torn", s)
		}
		got[s]++
	}
	for s, n := range got {
		if n != each {
			t.Errorf("%d messages of sender %d, want %d", n, s, each)
		}
	}
}

func TestTooLong(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near)
	defer c.Close()
	if err := c.Send(KindFrame, make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("error is %v, want %v", err, ErrTooLong)
	}
}

func TestListen(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket"} {
		t.Run(network, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.sock")
			first, err := Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != 0o600 {
				t.Errorf("socket has mode %v, want 0600", got)
			}
			if second, err := Listen(network, path); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("second claim: %v, %v; want %v", second, err, syscall.EADDRINUSE)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("socket is still there: %v", err)
			}
			// What SIGKILL leaves: the file, nobody behind it, no lock.
			killed, err := Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			killed.SetUnlinkOnClose(false)
			if err := killed.Close(); err != nil {
				t.Fatal(err)
			}
			next, err := Listen(network, path)
			if err != nil {
				t.Fatalf("stale socket: %v", err)
			}
			if err := next.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestListenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(t *testing.T, path string)
		want string
	}{
		{"live, without a lock", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another process serves it"},
		{"live, of another type", func(t *testing.T, path string) {
			l, err := net.Listen("unixpacket", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another process serves it"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket, move it away"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket, move it away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.sock")
			c.put(t, path)
			l, err := Listen("unix", path)
			if err == nil {
				l.Close()
				t.Fatal("claimed")
			}
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error is %v, want one with %q and the path", err, c.want)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
	if _, err := Listen("unix", filepath.Join(t.TempDir(), "no", "such.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v, want a missing directory", err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	answer := make([]byte, 32768+7)
	socket := serve(b, func(c *Conn) {
		for {
			if _, _, err := c.Recv(); err != nil {
				return
			}
			if c.Send(KindFrame, answer) != nil {
				return
			}
		}
	})
	c, err := dial(testContext(b), socket)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	request := make([]byte, 14)
	b.SetBytes(int64(len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(KindFrame, request); err != nil {
			b.Fatal(err)
		}
		if _, _, err := c.Recv(); err != nil {
			b.Fatal(err)
		}
	}
}
