package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A Server serves the control port.
type Server struct {
	Journal    *journal.Writer
	Supervisor *Supervisor
	Configure  func(agentapi.Configure) error
	Modules    int // kernel modules loaded at boot
}

// hostKey is the same in every machine, on purpose: the control port is a wire
// between this machine and the process that started it, with nobody in between
// to be told apart, and a machine that is saved and restored many times must not
// draw random bytes for a key before it got entropy.
var hostKey = sync.OnceValues(func() (ssh.Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, "dsoftbus-rig control port")
	return ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
})

// Serve serves one connection until it ends: opening calls, then SSH.
func (s *Server) Serve(ctx context.Context, rw io.ReadWriteCloser) error {
	in := bufio.NewReader(rw)
	if _, err := in.Peek(1); err != nil {
		return err
	}
	// The first entry the rig reads on a new connection: by it a program that
	// prints nothing, run on a clone that has printed nothing, is in step too.
	if err := s.Journal.Line(agentapi.AgentUnit, "stdout", []byte("the rig is connected"), false); err != nil {
		return err
	}
	if err := s.open(ctx, in, rw); err != nil {
		return err
	}
	return s.shell(ctx, streamConn{in, rw})
}

// open answers opening calls up to SSH's first line, which it leaves in in.
func (s *Server) open(ctx context.Context, in *bufio.Reader, out io.Writer) error {
	for {
		first, err := in.Peek(1)
		if err != nil {
			return err
		}
		if first[0] != '{' {
			return nil
		}
		line, err := readLine(in)
		if err != nil {
			return fmt.Errorf("opening call: %w", err)
		}
		var call agentapi.Opening
		reply := agentapi.Reply{}
		if err := json.Unmarshal(line, &call); err != nil {
			reply.Error = fmt.Sprintf("opening call: %v", err)
		} else {
			reply = s.answer(ctx, call.Method, bytes.NewReader(call.Request))
		}
		if err := json.NewEncoder(out).Encode(reply); err != nil {
			return fmt.Errorf("answer %s: %w", call.Method, err)
		}
	}
}

// readLine reads one line of at most agentapi.MaxRequest bytes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > agentapi.MaxRequest:
			return nil, fmt.Errorf("longer than %d bytes", agentapi.MaxRequest)
		}
	}
}

// shell speaks SSH on a connection until it ends.
func (s *Server) shell(ctx context.Context, stream streamConn) error {
	key, err := hostKey()
	if err != nil {
		return fmt.Errorf("make the host key: %w", err)
	}
	// One cheap algorithm of each kind: under software emulation a handshake of
	// SSH's newest ones takes longer than restoring the whole machine.
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.KeyExchanges = []string{ssh.KeyExchangeCurve25519}
	config.AddHostKey(key)
	conn, channels, requests, err := ssh.NewServerConn(stream, config)
	if err != nil {
		return fmt.Errorf("ssh handshake: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	handlers.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		handlers.Go(func() { s.channel(ctx, ch) })
	}
	return conn.Wait()
}

func (s *Server) channel(ctx context.Context, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case agentapi.CallChannel:
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		defer ch.Close()
		go ssh.DiscardRequests(requests)
		_ = json.NewEncoder(ch).Encode(s.answer(ctx, string(nc.ExtraData()), io.LimitReader(ch, agentapi.MaxRequest)))
	case "session":
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		s.session(ctx, ch, requests)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "the agent knows no channel of type "+nc.ChannelType())
	}
}

// answer carries out one call and makes its reply.
func (s *Server) answer(ctx context.Context, method string, r io.Reader) agentapi.Reply {
	reply := agentapi.Reply{}
	result, err := s.call(ctx, method, r)
	if err == nil && result != nil {
		reply.Result, err = json.Marshal(result)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// call reads the request of one call and carries it out.
func (s *Server) call(ctx context.Context, method string, r io.Reader) (any, error) {
	decode := func(into any) error {
		if err := json.NewDecoder(r).Decode(into); err != nil {
			return fmt.Errorf("request of %s: %w", method, err)
		}
		return nil
	}
	switch method {
	case agentapi.MethodInfo:
		return s.info()
	case agentapi.MethodConfigure:
		var c agentapi.Configure
		if err := decode(&c); err != nil {
			return nil, err
		}
		return nil, s.Configure(c)
	case agentapi.MethodStart:
		var c agentapi.Start
		if err := decode(&c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Start(s.Journal, c.Program, c.Args)
	case agentapi.MethodStop:
		var c agentapi.Stop
		if err := decode(&c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Stop(ctx, c.Program, c.Within)
	case agentapi.MethodKill:
		var c agentapi.Kill
		if err := decode(&c); err != nil {
			return nil, err
		}
		return nil, s.Supervisor.Kill(c.Program, c.Signal)
	}
	return nil, fmt.Errorf("the agent knows no call %q", method)
}

func (s *Server) info() (agentapi.Info, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return agentapi.Info{}, fmt.Errorf("uname: %w", err)
	}
	return agentapi.Info{
		KernelRelease: unix.ByteSliceToString(u.Release[:]),
		Uptime:        monotonic(),
		Modules:       s.Modules,
	}, nil
}

// session serves one "session" channel: a program or the sftp subsystem.
func (s *Server) session(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request) {
	started := false
	var running sync.WaitGroup
	defer running.Wait()
	// gone is closed when the other side has given the channel up.
	gone := make(chan struct{})
	defer close(gone)
	for req := range requests {
		switch {
		case started:
			reply(req, false, "this channel is in use")
		case req.Type == agentapi.ExecRequest:
			var e agentapi.Exec
			if err := json.Unmarshal(req.Payload, &e); err != nil {
				reply(req, false, "")
				continue
			}
			started = true
			running.Go(func() { s.exec(ctx, ch, req, e, gone) })
		case req.Type == "subsystem" && subsystem(req.Payload) == "sftp":
			started = true
			reply(req, true, "")
			running.Go(func() {
				defer ch.Close()
				server, err := sftp.NewServer(ch)
				if err == nil {
					_ = server.Serve()
				}
			})
		default:
			reply(req, false, "")
		}
	}
	if !started {
		ch.Close()
	}
}

// exec runs a program on a channel until it ends, or until the other side, or
// the connection, is gone.
func (s *Server) exec(ctx context.Context, ch ssh.Channel, req *ssh.Request, e agentapi.Exec, gone <-chan struct{}) {
	unit := "exec"
	if len(e.Argv) > 0 {
		unit = filepath.Base(e.Argv[0])
	}
	p, err := spawn(s.Journal, unit, e.Argv, ch, ch, ch.Stderr())
	reply(req, true, "")
	if err != nil {
		// As a shell has it: 127 for a program that is not there.
		fmt.Fprintln(ch.Stderr(), err)
		s.finish(ch, 127)
		return
	}
	select {
	case <-p.done:
	case <-gone:
		_ = p.signal(unix.SIGKILL)
	case <-ctx.Done():
		_ = p.signal(unix.SIGKILL)
	}
	<-p.done
	s.finish(ch, p.status())
}

// finish tells how a program ended and closes its channel.
func (s *Server) finish(ch ssh.Channel, status int) {
	if seq, err := json.Marshal(s.Journal.Seq()); err == nil {
		_, _ = ch.SendRequest(agentapi.JournalSeqRequest, false, seq)
	}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	_ = ch.CloseWrite()
	_ = ch.Close()
}

func reply(req *ssh.Request, ok bool, message string) {
	if req.WantReply {
		_ = req.Reply(ok, []byte(message))
	}
}

func subsystem(payload []byte) string {
	var s struct{ Name string }
	if ssh.Unmarshal(payload, &s) != nil {
		return ""
	}
	return s.Name
}

// streamConn makes a net.Conn, which package ssh wants, of a port, which has no
// addresses and whose deadlines are the rig's business.
//
// in holds what was read of the port already.
type streamConn struct {
	in *bufio.Reader
	io.ReadWriteCloser
}

func (c streamConn) Read(b []byte) (int, error) { return c.in.Read(b) }

func (streamConn) LocalAddr() net.Addr              { return portAddr{} }
func (streamConn) RemoteAddr() net.Addr             { return portAddr{} }
func (streamConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (streamConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (streamConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

type portAddr struct{}

func (portAddr) Network() string { return "virtio-serial" }
func (portAddr) String() string  { return agentapi.ControlPort }
