package ownport

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/pace/pacetest"
)

// limit is more than anything here takes.
var limit = pacetest.Limit(20 * time.Second)

// dialAsEnv has this program dial an address, as another user, and say a packet of gdb's; dialAsEnv ends with how it has gone.
const dialAsEnv = "OWNPORT_DIAL"

func TestMain(m *testing.M) {
	if address := os.Getenv(dialAsEnv); address != "" {
		os.Exit(dialAs(address))
	}
	os.Exit(m.Run())
}

// What a dialling process ends with.
const (
	served  = 10
	refused = 11
	failed  = 12
)

// dialAs says something, and then hangs up at once, where that is asked for, or waits for an answer.
func dialAs(address string) int {
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, address, limit)
	if errors.Is(err, fs.ErrPermission) {
		return refused
	}
	if err != nil {
		return failed
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "+")
	if os.Getenv(dialAsEnv+"_LEAVE") != "" {
		if err != nil {
			return failed
		}
		return 0
	}
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	n, err := conn.Read(make([]byte, 1))
	switch {
	case n == 1:
		return served
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failed
	}
	return refused
}

// asStranger dials an address as another user, and returns how that ended.
func asStranger(t *testing.T, address string, env ...string) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	// Its own file may be in a folder that only root may enter.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.Env = append([]string{dialAsEnv + "=" + address}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && !exit.Exited() {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// A stub is what stands behind a listener: it tells what reaches it, and answers each client with one byte.
type stub struct {
	*Listener
	t      *testing.T
	heard  chan string // what each client began with
	causes chan string // why clients were refused
}

func newStub(t *testing.T, o Options) *stub {
	t.Helper()
	s := &stub{t: t, heard: make(chan string, 100), causes: make(chan string, 100)}
	o.Refused = func(why string) { s.causes <- why }
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	done := make(chan struct{})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its client
				defer conn.Close()
				b := make([]byte, 100)
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				s.heard <- string(b[:n])
				_, _ = conn.Write([]byte("!"))
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return s
}

func (s *stub) dial() net.Conn {
	s.t.Helper()
	conn, err := net.DialTimeout(s.Addr().Network(), s.Addr().String(), limit)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

// talk says something as this user, and wants it to reach the stub, and an answer.
func (s *stub) talk(text string) net.Conn {
	s.t.Helper()
	conn := s.dial()
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		s.t.Fatalf("%q is not answered: %v", text, err)
	}
	return conn
}

// silent wants nothing to have reached the stub.
func (s *stub) silent(what string) {
	s.t.Helper()
	select {
	case got := <-s.heard:
		s.t.Errorf("%s: %q has come through", what, got)
	default:
	}
}

func (s *stub) because(want string) {
	s.t.Helper()
	select {
	case why := <-s.causes:
		if !strings.Contains(why, want) {
			s.t.Errorf("refused because %q, want %q", why, want)
		}
	case <-time.After(limit):
		s.t.Errorf("nobody was refused because %q", want)
	}
}

func TestAnotherUserIsRefused(t *testing.T) {
	for name, o := range map[string]Options{"gdb": {TCP: true, Protocol: GDB}, "any protocol": {TCP: true}} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, o)
			for range 3 {
				if got := asStranger(t, s.Addr().String()); got != refused {
					t.Errorf("it ends with %d", got)
				}
			}
			s.silent("another user")
			s.because("another user's")
			if len(s.causes) > 0 {
				t.Errorf("it is told more than once: %q", <-s.causes)
			}
			s.talk("+")
		})
	}
}

func TestAnyUser(t *testing.T) {
	s := newStub(t, Options{TCP: true, AnyUser: true})
	if got := asStranger(t, s.Addr().String()); got != served {
		t.Errorf("it ends with %d", got)
	}
}

// The kernel calls a socket root's that its process has closed, and what was said before can still be read.
func TestWhoHasHungUpIsNotRoot(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := asStranger(t, l.Addr().String(), dialAsEnv+"_LEAVE=1"); got != 0 {
		t.Fatalf("it ends with %d", got)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if why := foreign(conn); why == "" {
		t.Error("it is taken for this user's")
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "+" {
		t.Errorf("it has said %q, %v", b, err)
	}
}

func TestOwnUserByIPv6Socket(t *testing.T) {
	s := newStub(t, Options{TCP: true, Protocol: GDB})
	port := s.Addr().(*net.TCPAddr).Port
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer syscall.Close(fd)
	to := &syscall.SockaddrInet6{Port: port}
	copy(to.Addr[:], net.IPv4(127, 0, 0, 1).To16())
	if err := syscall.Connect(fd, to); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	if _, err := syscall.Write(fd, []byte("+")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.heard:
	case why := <-s.causes:
		t.Errorf("refused: %s", why)
	case <-time.After(limit):
		t.Error("it is not served")
	}
}

// A web page's request gets nothing through, also where its body is a packet.
func TestWebPageIsRefused(t *testing.T) {
	for name, p := range map[string]Protocol{"gdb": GDB, "Delve": Delve} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, Options{TCP: true, Protocol: p, One: true})
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Addr().String(), strings.NewReader("$qRcmd,696e666f#00\n{}\n"))
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := http.DefaultClient.Do(r); err == nil {
				answer.Body.Close()
				t.Errorf("it is answered: %s", answer.Status)
			}
			if ctx.Err() != nil {
				t.Error("nobody has hung up on it")
			}
			s.because("it does not speak " + p.name)
			for _, first := range []string{"GET / HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n", "\x16\x03\x01", "\x00\x03", "Contents"} {
				conn := s.dial()
				_, _ = io.WriteString(conn, first)
				if n, _ := conn.Read(make([]byte, 1)); n > 0 {
					t.Errorf("%q is answered", first)
				}
			}
			s.silent("a web page")
			for _, first := range p.openings {
				s.talk(first).Close()
				if got := <-s.heard; got != first {
					t.Errorf("the stub hears %q, want %q", got, first)
				}
				s.free()
			}
		})
	}
}

// free waits until no client has the one place.
func (s *stub) free() {
	s.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		busy := s.busy
		s.mu.Unlock()
		if !busy {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("the place is never free")
		}
	}
}

func TestOneClient(t *testing.T) {
	s := newStub(t, Options{TCP: true, Protocol: GDB, One: true})
	s.dial() // says nothing, as a browser does, and takes nobody's place
	first := s.talk("$")
	second := s.dial()
	if _, err := io.WriteString(second, "$"); err != nil {
		t.Fatal(err)
	}
	if n, err := second.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second client: %d bytes, %v", n, err)
	}
	s.because("another client is connected")
	first.Close()
	s.free()
	s.talk("$")
}

func TestUnixSocket(t *testing.T) {
	base := t.TempDir()
	if len(base) > 80 {
		base = ""
	}
	t.Setenv("XDG_RUNTIME_DIR", base)
	s := newStub(t, Options{Protocol: GDB})
	path := s.Addr().String()
	dir := filepath.Dir(path)
	if base != "" && filepath.Dir(dir) != base {
		t.Errorf("it is in %s, not in %s", dir, base)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != fs.ModeDir|0o700 || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("its folder: %v, %v", info.Mode(), err)
	}
	s.talk("+")
	if got := <-s.heard; got != "+" {
		t.Errorf("the stub hears %q", got)
	}
	if os.Geteuid() == 0 {
		// Also where the folder lets others in: the kernel says who connects.
		for _, mode := range []fs.FileMode{0o700, 0o755} {
			if err := errors.Join(os.Chmod(dir, mode), os.Chmod(path, 0o777), os.Chmod(base, 0o755)); err != nil && base != "" {
				t.Fatal(err)
			}
			if got := asStranger(t, path); got != refused {
				t.Errorf("another user, folder of mode %o: it ends with %d", mode, got)
			}
			s.silent("another user")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}

// Below a folder that another user may change, ours could be another one by the time gdb looks.
func TestUnusableFolders(t *testing.T) {
	open, theirs, good := t.TempDir(), t.TempDir(), t.TempDir()
	long := filepath.Join(t.TempDir(), strings.Repeat("x", maxPath))
	colon := filepath.Join(t.TempDir(), "a:b")
	if err := errors.Join(os.Chmod(open, 0o777), os.Mkdir(long, 0o700), os.Mkdir(colon, 0o700)); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{"relative": "take no socket", colon: "take no socket", open: "written by other users", long: "are possible", "/missing-folder": "no such file"}
	if os.Geteuid() == 0 {
		if err := os.Chown(theirs, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		bad[theirs] = "belongs to another user"
	}
	for base, why := range bad {
		if _, _, err := listenUnix([]string{base}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", base, err, why)
		}
		if len(good) > 80 {
			continue
		}
		l, dir, err := listenUnix([]string{"", base, good})
		if err != nil || filepath.Dir(dir) != good {
			t.Errorf("after %s: in %q, %v", base, dir, err)
			continue
		}
		l.Close()
	}
	for _, base := range []string{open, long} {
		if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", base, left, err)
		}
	}
}

func TestFind(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0 100 0 0 10 0
   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0 20 4 0 10 -1
   2: 0100007F:C002 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 2 0
   3: 0000000000000000FFFF00000100007F:C003 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 13 1 0
   4: nonsense
`
	server := netip.MustParseAddrPort("127.0.0.1:8080")
	for port, want := range map[uint16]int{0xc001: 1000, 0xc002: -1, 0xc003: 1001, 0xc004: -1} {
		uid, ok := find([]byte(table), netip.AddrPortFrom(server.Addr(), port), server)
		if !ok {
			uid = -1
		}
		if uid != want {
			t.Errorf("port %x: uid %d, want %d", port, uid, want)
		}
	}
}

// Close hangs up on those that were not accepted, and Accept says that it is over.
func TestClose(t *testing.T) {
	l, err := Listen(Options{TCP: true, Protocol: GDB})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "+"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("its client: %d bytes, %v", n, err)
	}
}
