package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/pace/pacetest"

	"golang.org/x/sync/errgroup"
)

// served listens on the loopback interface and serves one connection there.
func served(t *testing.T, serve func(*net.TCPConn) error) (port uint16, result func() error) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error {
		defer l.Close()
		conn, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		defer conn.Close()
		return serve(conn)
	})
	t.Cleanup(func() { l.Close(); _ = g.Wait() })
	return uint16(l.Addr().(*net.TCPAddr).Port), g.Wait
}

// Either way ends by itself, while the other goes on.
func TestDial(t *testing.T) {
	m := newStandIn(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	port, result := served(t, func(conn *net.TCPConn) error {
		got, err := io.ReadAll(conn) // up to the half-close
		if err != nil {
			return err
		}
		if _, err := conn.Write(append([]byte("got "), got...)); err != nil {
			return err
		}
		return conn.CloseWrite()
	})
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Write(sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, append([]byte("got "), sent...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if err := result(); err != nil {
		t.Error(err)
	}
}

// The far side stops sending first; what goes there goes on.
func TestDialHalfClosedFromAfar(t *testing.T) {
	m := newStandIn(t)
	port, result := served(t, func(conn *net.TCPConn) error {
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(conn)
		if err == nil && string(got) != "still here" {
			err = errors.New("got " + string(got))
		}
		return err
	})
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("got %v", err)
	}
	if _, err := io.WriteString(conn, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := result(); err != nil {
		t.Error(err)
	}
}

// Who closes is gone for the far side, whatever that still sends.
func TestDialClosed(t *testing.T) {
	m := newStandIn(t)
	port, result := served(t, func(conn *net.TCPConn) error {
		for {
			if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
				return nil
			}
		}
	})
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1_000_000)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := result(); err != nil {
		t.Error(err)
	}
}

func TestDialDisorderlyEnd(t *testing.T) {
	m := newStandIn(t)
	port, _ := served(t, func(conn *net.TCPConn) error {
		// Not before the connection is known to be made.
		_, err := conn.Read(make([]byte, 1))
		return errors.Join(err, conn.SetLinger(0)) // a reset
	})
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF || !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %v", err)
	}
}

func TestDialNobody(t *testing.T) {
	m := newStandIn(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	if _, err := m.Dial(t.Context(), port); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	cancel(over)
	if conn, err := m.Dial(ctx, port); err == nil || !(errors.Is(err, over) || strings.Contains(err.Error(), "refused")) {
		t.Errorf("%v, %v", conn, err)
	}
}

// A connection ends with the agent.
func TestDialEndsWithTheAgent(t *testing.T) {
	m := newStandIn(t)
	port, result := served(t, func(conn *net.TCPConn) error {
		_, _ = conn.Read(make([]byte, 1))
		return nil
	})
	conn, err := m.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m.far.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- result() }()
	select {
	case <-ended:
	case <-time.After(pacetest.Limit(20 * time.Second)):
		t.Error("the far side was not told")
	}
}
