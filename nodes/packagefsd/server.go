package packagefsd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/localapi"
)

// DefaultSocket is where the service listens.
const DefaultSocket = "/run/packagefsd.sock"

const (
	// maxConns bounds the connections served at a time; more wait in the
	// kernel's queue. Each is over after one request.
	maxConns = 64
	// patience is how long a connected client may take for its one message,
	// and for taking the answer. Both programs are on this machine and the
	// message is one write; five seconds is a machine in deep trouble.
	patience = 5 * time.Second
)

// Config says what Run serves and where.
type Config struct {
	Root   string
	Socket string
	Ready  func()      // called once, after the service has answered a request over its own socket; may be nil
	Log    *log.Logger // gets failures worth an operator's eye; may be nil
}

// Run claims the socket and serves until ctx ends, then returns nil with every
// connection closed and the socket file removed.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = log.New(io.Discard, "", 0)
	}
	l, err := localapi.Listen("unixpacket", cfg.Socket)
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{store: NewStore(cfg.Root), log: cfg.Log, patience: patience}
	served := make(chan error, 1)
	go func() {
		err := s.serve(serving, l)
		cancel() // a failed accept must also end the ping
		served <- err
	}()
	if err := NewClient(cfg.Socket).Ping(serving); err != nil {
		cancel()
		if err := <-served; err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("check the package service over its own socket: %w", err)
	}
	if cfg.Ready != nil {
		cfg.Ready()
	}
	return <-served
}

type server struct {
	store    *Store
	log      *log.Logger
	patience time.Duration

	mu         sync.Mutex
	complained time.Time
}

// complainEvery bounds what peers, who may ask as often as they like for what
// cannot be had, put into the log.
const complainEvery = time.Second

// complain logs a failure, unless another one was just logged.
func (s *server) complain(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.complained.IsZero() || now.Sub(s.complained) >= complainEvery {
		s.complained = now
		s.log.Print(err)
	}
}

// serve accepts until ctx ends; it owns l and every connection, and returns
// when all are closed.
func (s *server) serve(ctx context.Context, l *localapi.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	// Once, and whoever comes second waits: the socket file is gone when serve
	// returns.
	closeListener := sync.OnceFunc(func() { l.Close() })
	defer closeListener()
	defer context.AfterFunc(ctx, closeListener)()
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.AcceptUnix()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) {
				return fmt.Errorf("accept package requests: %w", err)
			}
			// Nothing tells when a descriptor is free again.
			s.complain(fmt.Errorf("accept package requests: %w", err))
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			s.handle(conn)
		})
	}
}

// handle answers one request. A client that went away is nobody's error.
func (s *server) handle(conn *net.UnixConn) {
	conn.SetDeadline(time.Now().Add(s.patience))
	// One byte more than a request has, to tell a longer message.
	buf := make([]byte, maxRequest+1)
	n, err := conn.Read(buf)
	if err != nil || n == 0 {
		return
	}
	f, answer := s.answer(buf[:n])
	var rights []byte
	if f != nil {
		defer f.Close()
		rights = unix.UnixRights(int(f.Fd()))
	}
	conn.WriteMsgUnix(answer, rights, nil)
}

// answer returns the answer to a request and the file that goes with it, if
// any; the caller closes it.
func (s *server) answer(msg []byte) (*os.File, []byte) {
	if len(msg) > maxRequest {
		return nil, appendAnswer(nil, statusBadRequest, 0, "request too long")
	}
	op, name, err := parseRequest(msg)
	if err != nil {
		return nil, appendAnswer(nil, statusBadRequest, 0, err.Error())
	}
	if op == opPing {
		return nil, appendAnswer(nil, statusOK, 0, "")
	}
	f, info, err := s.store.Open(name)
	switch {
	case err == nil:
		return f, appendAnswer(nil, statusOK, info.Size(), "")
	case errors.Is(err, fs.ErrNotExist):
		return nil, appendAnswer(nil, statusNotFound, 0, err.Error())
	case errors.Is(err, errBadName):
		return nil, appendAnswer(nil, statusBadRequest, 0, err.Error())
	default:
		s.complain(err)
		return nil, appendAnswer(nil, statusFailed, 0, err.Error())
	}
}
