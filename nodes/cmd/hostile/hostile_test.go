package hostile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/dsoftbusd"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

func deviceOf(t *testing.T, id string) device.Device {
	t.Helper()
	key, err := session.NewKeyPair(sha256.Sum256([]byte(id)))
	if err != nil {
		t.Fatal(err)
	}
	return device.Device{ID: id, Key: key}
}

func pairedWith(t *testing.T, id string) []device.Pairing {
	return []device.Pairing{{ID: id, Key: deviceOf(t, id).Key.Public, Services: []string{device.ServicePackageFS}}}
}

// content is the one file of every victim.
var content = bytes.Repeat([]byte("ro.nexus.build=dev\n"), 20_000)

type store struct{}

// Resolve implements packagefsd.Resolver.
func (store) Resolve(_ context.Context, name pk.Name) (packagefsd.File, error) {
	if name.Rel() != "system/build.prop" {
		return nil, fs.ErrNotExist
	}
	return file{bytes.NewReader(content)}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

// hearing hears on loopback, and announces to nobody.
type hearing struct{ *net.UDPConn }

func (hearing) Announce([]byte) error { return nil }

func (h hearing) Receive(buf []byte) (int, netip.Addr, error) {
	n, from, err := h.ReadFromUDPAddrPort(buf)
	return n, from.Addr().Unmap(), err
}

// victim is a running dsoftbusd.
type victim struct {
	peer, udp, socket string
	markers           *lines
}

type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) has(line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), line+"\n")
}

func startVictim(t *testing.T, id, paired string) *victim {
	t.Helper()
	return startVictimWith(t, id, paired, store{}, dsoftbusd.DefaultLimits())
}

// smallBuffers lets little be on the way to whatever a listener accepts.
var smallBuffers = net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10) })
	return errors.Join(err, set)
}}

func startVictimWith(t *testing.T, id, paired string, packages packagefsd.Resolver, limits dsoftbusd.Limits) *victim {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := smallBuffers.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hostile") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := &victim{peer: tcp.Addr().String(), udp: port(udp.LocalAddr()), socket: filepath.Join(dir, "s"), markers: new(lines)}
	programs, err := localapi.Listen("unix", v.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- dsoftbusd.Run(ctx, dsoftbusd.Config{Device: deviceOf(t, id), Pairings: pairedWith(t, paired), Packages: packages,
			Limits: limits, Markers: v.markers, Log: io.Discard},
			dsoftbusd.Network{Announces: hearing{udp}, Sessions: tcp, Port: uint16(tcp.Addr().(*net.TCPAddr).Port), Programs: programs, Dial: dsoftbusd.DialTCP})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v
}

func port(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// identity is the folder of node-a's.
func identity(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := device.Save(dir, deviceOf(t, "node-a"), pairedWith(t, "node-b")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func hostile(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, diag bytes.Buffer
	status = Main(ctx, args, &out, &diag)
	return status, out.String(), diag.String()
}

// attacks are all but those that need more than a victim, with a load that a test can bear.
var attacks = []string{"full", "slow", "garbage", "unpaired", "impostor -count 20", "announces -count 2000", "datagrams -count 100", "replay", "pk", "reads -count 200",
	"handles", "pipeline -count 2000", "deaf -count 1000", "channel", "silence", "undecryptable", "lengths", "turnover -count 10", "mute",
	"announces -count 100 -devices 7", "lies -as node-b -count 20 -rate 100"}

// A dsoftbusd holds against every attack, and the next one finds it as it was.
func TestVictimThatHolds(t *testing.T) {
	v, config := startVictim(t, "node-b", "node-a"), identity(t)
	for _, attack := range attacks {
		status, stdout, stderr := hostile(t, append([]string{"-config", config, "-peer", v.peer, "-udp", v.udp}, strings.Fields(attack)...)...)
		name, _, _ := strings.Cut(attack, " ")
		if status != 0 || stderr != "" || !strings.HasPrefix(stdout, name+" ok ") || strings.Count(stdout, "\n") != 1 {
			t.Errorf("%s: status %d, %q, %q", attack, status, stdout, stderr)
		}
		t.Logf("%s", stdout)
	}
	for _, marker := range []string{"session denied too many handshakes", "session denied handshake timeout", "session denied handshake failed",
		"session denied not paired", "session denied wrong key", "identity mismatch peer=node-a", "announce ignored (malformed)"} {
		if !v.markers.has("dsoftbusd: " + marker) {
			t.Errorf("the victim did not say %q", marker)
		}
	}
}

// serveVictims serves a victim of a test's own until its end.
func serveVictims(t *testing.T, serve func(net.Conn)) (peer string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				serve(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); running.Wait() })
	return l.Addr().String()
}

// lax lets everybody in, takes everything, says OK to everything, and never ends anything.
func lax(b device.Device) func(c net.Conn) {
	return func(c net.Conn) {
		defer io.Copy(io.Discard, c)
		s, err := session.Respond(c, session.Config{Static: b.Key}, func([32]byte, string) error { return nil })
		if err != nil {
			c.Write([]byte("what?"))
			return
		}
		s.Send(session.ChannelControl, session.AppendPing(nil))
		for {
			channel, frame, err := s.Recv()
			if err != nil {
				return
			}
			if channel != session.ChannelPackageFS {
				continue
			}
			answer := pk.AppendStatResponse(nil, pk.OK, 1, 0)
			switch pk.EchoOp(frame) &^ 0x80 {
			case byte(pk.Open):
				answer = pk.AppendOpenResponse(nil, pk.OK, 1)
			case byte(pk.Read):
				answer = pk.AppendReadResponse(nil, pk.OK, []byte("x"))
			}
			s.Send(session.ChannelPackageFS, answer)
		}
	}
}

// A victim that does not behave is noticed by every attack.
func TestVictimThatDoesNot(t *testing.T) {
	config := identity(t)
	laxVictim := serveVictims(t, lax(deviceOf(t, "node-b")))
	deadVictim := serveVictims(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	nobody, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	var running sync.WaitGroup
	defer running.Wait()
	for _, attack := range attacks {
		name, _, _ := strings.Cut(attack, " ")
		peer := laxVictim
		switch name {
		case "impostor", "announces", "lies", "datagrams", "turnover":
			peer = deadVictim // a lax one is as good as any for them
		}
		running.Go(func() {
			args := append([]string{"-config", config, "-peer", peer, "-udp", port(nobody.LocalAddr())}, strings.Fields(attack)...)
			status, stdout, stderr := hostile(t, args...)
			if status != 1 || stdout != "" || !strings.HasPrefix(stderr, "hostile: "+name+": ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s: status %d, %q, %q", attack, status, stdout, stderr)
			}
			t.Logf("%s", stderr)
		})
	}
}

// A bit that is changed on the way ends the session, and no wrong byte of a file comes out of it.
func TestRelay(t *testing.T) {
	for _, from := range []string{"victim", "dialler"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			a, b := startVictim(t, "node-a", "node-b"), startVictim(t, "node-b", "node-a")
			dir := t.TempDir()
			// Whoever is in between needs no key; this one knows the victim's from its own pairing list.
			if err := device.Save(dir, deviceOf(t, "node-c"), pairedWith(t, "node-b")); err != nil {
				t.Fatal(err)
			}
			over := make(chan string, 1)
			go func() {
				status, stdout, stderr := hostile(t, "-config", dir, "-peer", b.peer, "-udp", a.udp, "relay", "-listen", "127.0.0.1:0", "-to", "127.0.0.1",
					"-record", "6", "-from", from, "-for", "5s")
				over <- fmt.Sprint(status, " ", stdout, stderr)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			lost := 0
			for {
				c, err := remotefs.Dial(ctx, a.socket, "node-b", remotefs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				f, err := c.Open(ctx, "pkg:/system/build.prop")
				if err == nil {
					_, err = f.WriteTo(&got)
				}
				c.Close()
				if !bytes.HasPrefix(content, got.Bytes()) {
					t.Fatalf("read wrong bytes")
				}
				if err == nil {
					if got.Len() != len(content) {
						t.Fatalf("read %d of %d bytes without an error", got.Len(), len(content))
					}
					break
				}
				if !strings.Contains(err.Error(), "node-b") {
					t.Errorf("the error does not name the peer: %v", err)
				}
				lost++
			}
			if lost == 0 {
				t.Error("the session did not end")
			}
			if got, want := <-over, "0 relay ok record=6 from="+from+"\n"; got != want {
				t.Errorf("relay ended with %q, want %q", got, want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	config := identity(t)
	for args, want := range map[string]string{
		"":                                            "no command",
		"-peer 10.0.0.1 nope":                         "unknown command",
		"full":                                        "usage: hostile -peer",
		"-peer node-b full":                           "neither IP",
		"-peer 10.0.0.1 full x":                       "unexpected argument",
		"-peer 10.0.0.1 full -count 0":                "outside 1..",
		"-peer 10.0.0.1 full -count 100001":           "outside 1..",
		"-peer 10.0.0.1 slow -count 1":                "flag provided but not defined",
		"-peer 10.0.0.1 announces -rate 0":            "outside 1..",
		"-peer 10.0.0.1 announces -devices 0":         "outside 1..",
		"-peer 10.0.0.1 lies -as node-b -rate 0":      "outside 1..",
		"-peer 10.0.0.1 lies":                         "not in the pairing list",
		"-peer 10.0.0.1 handles -limit 0":             "outside 1..",
		"-peer 10.0.0.1 short -at -1":                 "below 0",
		"-peer 10.0.0.1 stuck -for 0s":                "not above 0",
		"again":                                       "needs -id",
		"-peer 10.0.0.1 again -id node-b":             "usage: hostile again",
		"-peer 10.0.0.1 -udp 0 full":                  "outside 1..",
		"-peer 10.0.0.1 -victim node-x full":          "not in the pairing list",
		"-peer 10.0.0.1 relay":                        "no IP",
		"-peer 10.0.0.1 relay -to 10.0.0.2 -from x":   "neither victim",
		"-peer 10.0.0.1 relay -to 10.0.0.2 -record 0": "outside 1..",
		"-peer 10.0.0.1 relay -to 10.0.0.2 -for 1h":   "at most",
		"-peer 10.0.0.1 memory":                       "usage: hostile memory",
		"memory -most 0":                              "below 1",
	} {
		status, stdout, stderr := hostile(t, append([]string{"-config", config}, strings.Fields(args)...)...)
		if status != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %q, %q; want 2 and %q", args, status, stdout, stderr, want)
		}
	}
	if status, _, stderr := hostile(t, "-h"); status != 0 || !strings.Contains(stderr, "pipeline") {
		t.Errorf("help: status %d, %q", status, stderr)
	}
}

func TestMemory(t *testing.T) {
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(string(self))
	if status, stdout, stderr := hostile(t, "memory", "-program", name, "-most", "4096"); status != 0 || !strings.HasPrefix(stdout, "memory ok program="+name+" peak_kib=") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if status, _, stderr := hostile(t, "memory", "-program", name, "-most", "1"); status != 1 || !strings.Contains(stderr, "more than 1 MiB") {
		t.Errorf("status %d, %q", status, stderr)
	}
	if status, _, stderr := hostile(t, "memory", "-program", "no such"); status != 1 || !strings.Contains(stderr, "no process") {
		t.Errorf("status %d, %q", status, stderr)
	}
}
