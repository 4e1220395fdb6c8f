package netbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// server is a running `netbench serve`.
type server struct {
	addr   string
	stop   context.CancelFunc
	done   chan int // its exit status
	stderr *bytes.Buffer
}

// start runs serve on a free port, and returns when it says that it is ready.
func start(t *testing.T) *server {
	t.Helper()
	// A port that was free a moment ago: netbench has no way to tell which one it took.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), done: make(chan int, 1), stderr: new(bytes.Buffer)}
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	out, in := io.Pipe()
	go func() {
		status := Main(ctx, []string{"serve", "-listen", s.addr}, in, s.stderr)
		in.CloseWithError(fmt.Errorf("serve ended with %d, %s", status, s.stderr))
		s.done <- status
	}()
	t.Cleanup(func() { cancel() })
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "netbench: ready\n" {
		t.Fatalf("said %q, %v", line[:n], err)
	}
	return s
}

// end stops the server and gives what it complained of.
func (s *server) end(t *testing.T) string {
	t.Helper()
	s.stop()
	if status := <-s.done; status != 0 {
		t.Errorf("serve ended with %d", status)
	}
	return s.stderr.String()
}

func netbench(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, diag bytes.Buffer
	status = Main(ctx, args, &out, &diag)
	return status, out.String(), diag.String()
}

func TestStreams(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		args  []string
		bytes int
	}{
		{[]string{"tcp"}, 16 << 20},
		{[]string{"tcp", "-bytes", "1"}, 1},
		{[]string{"tcp", "-bytes", "100001"}, 100_001},
		{[]string{"noise", "-bytes", "5000000"}, 5_000_000},
		{[]string{"noise", "-bytes", "1"}, 1},
		{[]string{"noise", "-plain", "-bytes", "1000000"}, 1_000_000},
		{[]string{"noise", "-bytes", "1000", "-record", "128"}, 1000},
		{[]string{"noise", "-bytes", "200000", "-record", fmt.Sprint(maxRecord)}, 200_000},
	} {
		status, stdout, stderr := netbench(t, append([]string{"-peer", s.addr}, c.args...)...)
		form := regexp.MustCompile(fmt.Sprintf(`^bytes=%d seconds=[0-9.]+ MB/s=[0-9.]+\n$`, c.bytes))
		if status != 0 || !form.MatchString(stdout) || stderr != "" {
			t.Errorf("%q ended with %d, %q, %q", c.args, status, stdout, stderr)
		}
	}
	if complaints := s.end(t); complaints != "" {
		t.Errorf("the server says %q", complaints)
	}
}

// What a record carries is as long as the answer to a READ, so that the two can be compared.
func TestRecordsAreAsLongAsAnswers(t *testing.T) {
	if n := len(pk.AppendReadResponse(nil, pk.OK, make([]byte, 100))); n != 100+readHeader {
		t.Errorf("an answer with 100 bytes has %d, want %d more", n, readHeader)
	}
	near, far := net.Pipe()
	made := make(chan *noiseSource, 1)
	go func() {
		source, err := newNoiseSource(far)
		if err != nil {
			t.Error(err)
		}
		made <- source
	}()
	self := identity()
	sess, err := session.Initiate(near, self, self.Static.Public)
	if err != nil {
		t.Fatal(err)
	}
	source := <-made
	for _, n := range []int{128, 32768, 100} {
		go source.send(n)
		channel, payload, err := sess.Recv()
		if err != nil || channel != session.ChannelPackageFS {
			t.Fatal(channel, err)
		}
		if r, err := pk.ParseResponse(payload); err != nil || len(r.Data) != n {
			t.Errorf("a record of %d carries %d bytes, %v", n, len(r.Data), err)
		}
	}
}

// Clients that are none, or want too much, cost one line, and the next one is served.
func TestServeGoesOn(t *testing.T) {
	s := start(t)
	for name, bytes := range map[string][]byte{
		"is not a client of netbench": []byte("GET / HTTP/1.1\r\n\r\n"),
		"wants another kind":          {'N', 'B', 1, 9},
		"goes":                        {},
		"wants nothing":               ask{piece: 100}.append(hello(kindTCP)),
		"wants too much":              ask{piece: 100, bytes: maxBytes + 1}.append(hello(kindTCP)),
		"wants it in nothing":         ask{bytes: 100}.append(hello(kindTCP)),
		"wants it too large":          ask{piece: maxRecord + 1, bytes: 100}.append(hello(kindTCP)),
		"makes no handshake":          append(hello(kindNoise), 0, 0),
	} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write(bytes)
		c.(*net.TCPConn).CloseWrite()
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("one that %s got %d bytes, %v", name, n, err)
		}
		c.Close()
	}
	if status, _, stderr := netbench(t, "-peer", s.addr, "tcp", "-bytes", "1000"); status != 0 {
		t.Errorf("afterwards: %d, %q", status, stderr)
	}
	complaints := s.end(t)
	if n := strings.Count(complaints, "netbench: connection from 127.0.0.1:"); n != 8 || strings.Count(complaints, "\n") != n {
		t.Errorf("the server says %q", complaints)
	}
}

// One connection cannot ask for more and more.
func TestBytesOfAConnection(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	served := make(chan error, 1)
	go func() { served <- serveConn(t.Context(), far) }()
	go func() {
		near.Write(hello(kindTCP))
		near.Write(ask{piece: maxRecord, bytes: maxBytes}.append(nil))
		near.Write(ask{piece: maxRecord, bytes: maxBytes}.append(nil))
	}()
	n, _ := io.Copy(io.Discard, near)
	if err := <-served; n != maxBytes || err == nil || !strings.Contains(err.Error(), "are left to this connection") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A server that ends while it is asked is an error, and not a result.
func TestServerGoes(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.ReadFull(c, make([]byte, helloSize+askSize))
		c.Write(make([]byte, 10))
		c.Close()
	}()
	if status, stdout, stderr := netbench(t, "-peer", l.Addr().String(), "tcp"); status != 1 || stdout != "" || !strings.Contains(stderr, "bytes early") {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
	l.Close()
	if status, _, stderr := netbench(t, "-peer", l.Addr().String(), "tcp"); status != 1 || !strings.Contains(stderr, "is `netbench serve` running there?") {
		t.Errorf("with nobody there: %d, %q", status, stderr)
	}
}

// The machines' own kernel answers echoes; so does this one's, where it lets its users send any.
func TestPing(t *testing.T) {
	status, stdout, stderr := netbench(t, "-peer", "127.0.0.1", "ping", "-count", "10")
	if strings.Contains(stderr, os.ErrPermission.Error()) || strings.Contains(stderr, "not permitted") {
		t.Skipf("this host lets its users send no echoes: %s", stderr)
	}
	if status != 0 || !regexp.MustCompile(`^count=10 lost=0 min_us=\d+ median_us=\d+ p95_us=\d+ max_us=\d+\n$`).MatchString(stdout) || stderr != "" {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
}

func TestRank(t *testing.T) {
	var sorted []time.Duration
	for i := range 20 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for _, c := range []struct{ n, percent, want int }{{1, 50, 1}, {1, 95, 1}, {2, 50, 1}, {3, 50, 2}, {20, 95, 19}, {20, 50, 10}, {19, 95, 19}} {
		if got := rank(sorted[:c.n], c.percent); got != time.Duration(c.want) {
			t.Errorf("%d %% of %d: %d, want %d", c.percent, c.n, got, c.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string // split at spaces
		status int
		stderr string
	}{
		{"-h", 0, "warm-up that is not in its figures"},
		{"", 2, "no command; there are serve, ping, tcp, noise"},
		{"frob", 2, `unknown command "frob"`},
		{"tcp", 2, "usage: netbench -peer IP[:PORT] tcp [-bytes N]"},
		{"-peer 1.2.3.4 serve", 2, "usage: netbench serve"},
		{"-peer host tcp", 2, "neither IP nor IP:PORT"},
		{"-peer 1.2.3.4:0 tcp", 2, "neither IP nor IP:PORT"},
		{"-peer 1.2.3.4 tcp -bytes 0", 2, "-bytes 0 is outside"},
		{"-peer 1.2.3.4 tcp -bytes 1073741825", 2, "-bytes 1073741825 is outside"},
		{"-peer 1.2.3.4 tcp -record 5", 2, "-record"},
		{"-peer 1.2.3.4 noise -record 65509", 2, "-record 65509 is outside"},
		{"-peer 1.2.3.4 ping -count 0", 2, "-count 0 is outside"},
		{"-peer 1.2.3.4 ping x", 2, `unexpected argument "x"`},
		{"-peer ::1 ping", 1, "only IPv4"},
	} {
		status, stdout, stderr := netbench(t, strings.Fields(c.args)...)
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q ended with %d, %q, %q; want %d and %q", c.args, status, stdout, stderr, c.status, c.stderr)
		}
	}
}
