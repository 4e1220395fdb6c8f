package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/dsoftbusd"
	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/nodes/remotefs/remotefstest"
	"dsoftbus-rig/protocol/pk"
)

// startDialled runs an attack of node-b that node-a dials, and returns what ends it and gives its status and all it printed.
func startDialled(t *testing.T, a *victim, attack ...string) (end func() string) {
	t.Helper()
	dir, root := t.TempDir(), t.TempDir()
	if err := device.Save(dir, deviceOf(t, "node-b"), pairedWith(t, "node-a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "system@1.0.0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "system@1.0.0", "build.prop"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		args := append([]string{"-config", dir, "-peer", "127.0.0.1", "-udp", a.udp}, attack...)
		status := Main(ctx, append(args, "-listen", "127.0.0.1:0", "-root", root, "-for", "1m"), &out, &out)
		over <- fmt.Sprint(status, " ", out.String())
	}()
	ended := false
	end = func() string {
		ended = true
		cancel()
		return <-over
	}
	t.Cleanup(func() {
		if !ended {
			end()
		}
	})
	return end
}

// A file that a server cuts short, in the middle of a READ or between two, is an error, and not one byte more of it than the
// server gave arrives. What does not reach as far is served honestly.
func TestShort(t *testing.T) {
	for _, at := range []int{100_000, 3 * 32768, 0} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			a := startVictim(t, "node-a", "node-b")
			end := startDialled(t, a, "short", "-at", fmt.Sprint(at))
			c, err := remotefs.Dial(t.Context(), a.socket, "node-b", remotefs.Options{Wait: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f, err := c.Open(t.Context(), "pkg:/system/build.prop")
			if err != nil {
				t.Fatal(err)
			}
			if f.Size() != int64(len(content)) {
				t.Errorf("a size of %d, want %d", f.Size(), len(content))
			}
			var got bytes.Buffer
			if _, err := f.WriteTo(&got); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("reading ended with %v", err)
			}
			if !bytes.Equal(got.Bytes(), content[:at]) {
				t.Errorf("%d bytes arrived, want the first %d", got.Len(), at)
			}
			_, err = c.Stat(t.Context(), "pkg:/system/none")
			if status, ok := errors.AsType[*pk.StatusError](err); !ok || status.Status != pk.NotFound {
				t.Errorf("a file that is not there: %v", err)
			}
			if got, want := end(), fmt.Sprintf("0 short ok at=%d\n", at); got != want {
				t.Errorf("short ended with %q, want %q", got, want)
			}
		})
	}
}

// Whoever serves a lie that was never asked for has shown nothing.
func TestDialledInVain(t *testing.T) {
	t.Parallel()
	a := startVictim(t, "node-a", "node-b")
	for _, attack := range []string{"short", "stuck"} {
		if got := startDialled(t, a, attack)(); !strings.HasPrefix(got, "1 hostile: "+attack+": ") || !strings.Contains(got, "nothing was asked") {
			t.Errorf("%s ended with %q", attack, got)
		}
	}
}

// A dsoftbusd whose peer breaks its sessions gives a program that asks again a session that works.
func TestAgain(t *testing.T) {
	t.Parallel()
	a := startVictim(t, "node-a", "node-b")
	end := startDialled(t, a, "stuck")
	status, stdout, stderr := hostile(t, "again", "-id", "node-b", "-socket", a.socket, "-count", "2")
	if status != 0 || !strings.HasPrefix(stdout, "again ok losses=2 quickest_ms=") || stderr != "" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	if got, want := end(), fmt.Sprintf("0 stuck ok longer_than=%d\n", stuffing-1); got != want {
		t.Errorf("stuck ended with %q, want %q", got, want)
	}
}

// A dsoftbusd that gives out a session which is lost already is noticed, and so is one that never loses any.
func TestAgainNotices(t *testing.T) {
	t.Parallel()
	lose := func(s *remotefstest.Server) func(request, honest []byte, send func([]byte)) {
		return func(request, honest []byte, send func([]byte)) { go s.Lose() }
	}
	s := &remotefstest.Server{}
	s.Answer = lose(s)
	s.Start(t)
	status, stdout, stderr := hostile(t, "again", "-id", "node-b", "-socket", s.Socket)
	if status != 1 || stdout != "" || !strings.Contains(stderr, "session 1 of 5 was lost, and the next one that dsoftbusd gave: ") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	stopping := &remotefstest.Server{}
	stopping.Opened = func(localapi.Open) { go stopping.Control("{}") }
	stopping.Start(t)
	status, stdout, stderr = hostile(t, "again", "-id", "node-b", "-socket", stopping.Socket)
	if status != 1 || stdout != "" || !strings.Contains(stderr, "want a session that is lost: ") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

// stalled is a package service that stands still.
type stalled struct{}

// Resolve implements packagefsd.Resolver.
func (stalled) Resolve(ctx context.Context, _ pk.Name) (packagefsd.File, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Reading ahead as far as the contract says passes; taking in everything, and nearly nothing, is noticed.
func TestAhead(t *testing.T) {
	limits := dsoftbusd.DefaultLimits()
	greedy := limits
	greedy.ReadAhead = 1 << 15
	for _, victim := range []struct {
		name           string
		limits         dsoftbusd.Limits
		status         int
		stdout, stderr string
	}{
		{"contract", limits, 0, "ahead ok requests=", ""},
		{"greedy", greedy, 1, "", "216 requests were taken in"},
	} {
		t.Run(victim.name, func(t *testing.T) {
			t.Parallel()
			v := startVictimWith(t, "node-b", "node-a", stalled{}, victim.limits)
			status, stdout, stderr := hostile(t, "-config", identity(t), "-peer", v.peer, "ahead")
			if status != victim.status || !strings.HasPrefix(stdout, victim.stdout) || !strings.Contains(stderr, victim.stderr) {
				t.Errorf("status %d, %q, %q", status, stdout, stderr)
			}
			t.Logf("%s%s", stdout, stderr)
		})
	}
}
