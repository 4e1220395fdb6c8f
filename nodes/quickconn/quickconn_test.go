package quickconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair gives the two ends of a connection over real sockets, both quick.
func pair(t *testing.T, network, address string) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	near, far = New(a), New(b)
	for _, c := range []net.Conn{near, far} {
		if _, quick := c.(*Conn); !quick {
			t.Fatalf("%T is not quick", c)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
	}
	return near, far
}

func each(t *testing.T, f func(t *testing.T, near, far net.Conn)) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "unix": t.TempDir() + "/s"} {
		t.Run(network, func(t *testing.T) {
			near, far := pair(t, network, address)
			f(t, near, far)
		})
	}
}

// More than any socket's buffer holds goes through whole, so both sides have to wait.
func TestTransfer(t *testing.T) {
	each(t, func(t *testing.T, near, far net.Conn) {
		want := make([]byte, 16<<20)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		sent := make(chan error, 1)
		go func() {
			n, err := near.Write(want)
			if err == nil && n != len(want) {
				err = io.ErrShortWrite
			}
			sent <- errors.Join(err, near.Close())
		}()
		got, err := io.ReadAll(far)
		if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
	})
}

func TestNothing(t *testing.T) {
	each(t, func(t *testing.T, near, _ net.Conn) {
		if n, err := near.Read(nil); n != 0 || err != nil {
			t.Errorf("read of nothing: %d, %v", n, err)
		}
		if n, err := near.Write(nil); n != 0 || err != nil {
			t.Errorf("write of nothing: %d, %v", n, err)
		}
	})
}

// A deadline ends what waits, and can be taken back.
func TestDeadlines(t *testing.T) {
	each(t, func(t *testing.T, near, far net.Conn) {
		near.SetReadDeadline(time.Unix(1, 0))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		near.SetWriteDeadline(time.Unix(1, 0))
		if _, err := near.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		near.SetDeadline(time.Now().Add(time.Minute))
		if _, err := far.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1)
		if n, err := near.Read(got); n != 1 || err != nil || got[0] != 'y' {
			t.Errorf("afterwards: %d, %v, %q", n, err, got)
		}
	})
}

// A write that a deadline ends says how much went out.
func TestPartOfAWrite(t *testing.T) {
	each(t, func(t *testing.T, near, far net.Conn) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The first byte is there, so the writer is on its way.
			io.ReadFull(far, make([]byte, 1))
			near.SetWriteDeadline(time.Unix(1, 0))
		}()
		n, err := near.Write(make([]byte, 64<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < 1 || n >= 64<<20 {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		<-done
	})
}

// Errors have the form of package net's.
func TestErrors(t *testing.T) {
	each(t, func(t *testing.T, near, far net.Conn) {
		far.Close()
		var err error
		for err == nil {
			_, err = near.Write([]byte("x"))
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "write" || !(errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
			t.Errorf("write to nobody: %#v", err)
		}
		near.Close()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed one: %v", err)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write to a closed one: %v", err)
		}
	})
}

// What is no socket stays what it is.
func TestPipeStays(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if c := New(near); c != near {
		t.Errorf("%T became %T", near, c)
	}
}

func TestNoGarbage(t *testing.T) {
	each(t, func(t *testing.T, near, far net.Conn) {
		buf := make([]byte, 1000)
		if n := testing.AllocsPerRun(100, func() {
			near.Write(buf)
			if _, err := io.ReadFull(far, buf); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%.0f allocations", n)
		}
	})
}
