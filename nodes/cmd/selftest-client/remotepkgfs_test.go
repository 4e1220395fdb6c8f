package selftestclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/remotefs/remotefstest"
	"dsoftbus-rig/protocol/pk"
)

const (
	prop = "ro.nexus.build=dev\n"
	path = "pkg:/system/build.prop"
)

func big() []byte {
	b := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func newServer() *remotefstest.Server {
	return &remotefstest.Server{Files: map[string][]byte{"system/build.prop": []byte(prop), "system/big": big(), "system/empty": {}}}
}

// markers gives the lines of the steps.
func markers(steps ...string) string {
	var all strings.Builder
	for _, step := range steps {
		all.WriteString("SELFTEST: remote pkgfs " + step + "\n")
	}
	return all.String()
}

var allOK = markers("stat ok", "open ok", "read step ok", "close ok", "read ok")

func remotePkgfs(t testing.TB, s *remotefstest.Server, stdout io.Writer, args ...string) (status int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var diag bytes.Buffer
	status = Main(ctx, append([]string{"remote-pkgfs", "-socket", s.Socket, "-peer", "node-b"}, args...), stdout, &diag)
	return status, diag.String()
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func TestOK(t *testing.T) {
	s := newServer().Start(t)
	for _, args := range [][]string{
		{"-sha256", sum([]byte(prop)), path},
		{"-sha256", strings.ToUpper(sum([]byte(prop))), "/packages/system/build.prop"},
		{"-sha256", sum(big()), "pkg:/system/big"},
		{"-sha256", sum(big()), "-chunk", "128", "pkg:/system/big"},
		{"-sha256", sum(nil), "pkg:/system/empty"},
		{path}, {"pkg:/system/big"}, {"pkg:/system/empty"}, {"-chunk", "1", path},
	} {
		var lines lineWriter
		status, stderr := remotePkgfs(t, s, &lines, args...)
		if status != 0 || lines.String() != allOK || stderr != "" {
			t.Errorf("%q ended with %d, %q and\n%s", args, status, stderr, &lines)
		}
		for _, write := range lines.writes {
			if strings.Index(write, "\n") != len(write)-1 {
				t.Errorf("%q is no line in one write", write)
			}
		}
	}
	if n := s.Handles(); n != 0 {
		t.Errorf("%d handles are open", n)
	}
}

// TestSecondReading: without a digest there are two readings, which differ in
// the length of their reads.
func TestSecondReading(t *testing.T) {
	reads := map[uint16]int{}
	s := newServer()
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if r, _ := pk.ParseRequest(request, true, pk.DefaultLimits()); r.Op == pk.Read {
			reads[r.Length]++
		}
		send(honest)
	}
	s.Start(t)
	if status, stderr := remotePkgfs(t, s, io.Discard, "-chunk", "10000", "pkg:/system/big"); status != 0 {
		t.Fatalf("ended with %d, %q", status, stderr)
	}
	s.Stop()
	if len(reads) != 2 || reads[10000] != 1+31 || reads[5000] != 61 {
		t.Errorf("reads by length are %v, want 1 and 31 of 10000, 61 of 5000", reads)
	}
}

type lineWriter struct {
	bytes.Buffer
	writes []string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	return w.Buffer.Write(p)
}

// TestFail breaks one thing at a time: what held before is said, then FAIL with
// the step, then nothing.
func TestFail(t *testing.T) {
	on := func(op pk.Op, answer func(request, honest []byte) []byte) func(*remotefstest.Server) {
		return func(s *remotefstest.Server) {
			s.Answer = func(request, honest []byte, send func([]byte)) {
				if pk.Op(request[3]) == op {
					honest = answer(request, honest)
				}
				send(honest)
			}
		}
	}
	reject := func(op pk.Op, nth int, status pk.Status) func(*remotefstest.Server) {
		n := 0
		return on(op, func(request, honest []byte) []byte {
			if n++; n >= nth {
				return pk.AppendReject(nil, request, status)
			}
			return honest
		})
	}
	for _, c := range []struct {
		name   string
		spoil  func(*remotefstest.Server)
		args   []string
		before []string
		fail   string
		reason string
	}{
		{"no session", nil, []string{"-peer", "node-x", path}, nil, "session", "unknown peer node-x"},
		{"a peer that would be a marker", nil, []string{"-peer", "x\nSELFTEST: remote pkgfs read ok", path}, nil, "session", "unknown peer x?SELFTEST: remote"},
		{"missing file", nil, []string{"pkg:/none/x"}, nil, "stat", "STAT pkg:/none/x: NOT_FOUND"},
		{"a name that would be a marker", nil, []string{"pkg:/x\nSELFTEST: remote pkgfs read ok"}, nil, "stat", "NOT_FOUND"},
		{"no handle", reject(pk.Open, 1, pk.Limit), []string{path}, []string{"stat ok"}, "open", "LIMIT"},
		{"no first read", reject(pk.Read, 1, pk.IO), []string{path}, []string{"stat ok", "open ok"}, "read step", "IO"},
		{"first read is short", on(pk.Read, func(_, honest []byte) []byte { return pk.AppendReadResponse(nil, pk.OK, honest[7:12]) }),
			[]string{path}, []string{"stat ok", "open ok"}, "read step", "ended at 5 of 19 bytes"},
		{"a later read", reject(pk.Read, 5, pk.IO), []string{"pkg:/system/big"}, []string{"stat ok", "open ok", "read step ok"}, "read", "IO"},
		{"no close", reject(pk.Close, 1, pk.BadF), []string{path}, []string{"stat ok", "open ok", "read step ok"}, "close", "BADF"},
		{"wrong digest", nil, []string{"-sha256", sum([]byte("other")), path}, []string{"stat ok", "open ok", "read step ok", "close ok"}, "read", "sha256 is " + sum([]byte(prop)) + ", want " + sum([]byte("other"))},
		{"second reading differs", func(s *remotefstest.Server) {
			on(pk.Close, func(_, honest []byte) []byte {
				s.Put("system/build.prop", []byte(strings.ToUpper(prop)))
				return honest
			})(s)
		}, []string{path}, []string{"stat ok", "open ok", "read step ok", "close ok"}, "read", "sha256 is " + sum([]byte(prop))},
		{"second reading fails", reject(pk.Open, 2, pk.NotFound), []string{path}, []string{"stat ok", "open ok", "read step ok", "close ok"}, "read", "second reading: OPEN " + path + ": NOT_FOUND"},
		{"size of another file", func(s *remotefstest.Server) {
			n := 0
			on(pk.Stat, func(_, honest []byte) []byte {
				if n++; n > 1 {
					return honest
				}
				return pk.AppendStatResponse(nil, pk.OK, 18, 0)
			})(s)
		}, []string{path}, []string{"stat ok", "open ok", "read step ok"}, "read", "read 19 bytes, stat told 18"},
		{"session lost", func(s *remotefstest.Server) {
			s.Answer = func(request, honest []byte, send func([]byte)) {
				if pk.Op(request[3]) == pk.Read {
					s.Lose()
					return
				}
				send(honest)
			}
		}, []string{path}, []string{"stat ok", "open ok"}, "read step", "session lost node-b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer()
			if c.spoil != nil {
				c.spoil(s)
			}
			var stdout bytes.Buffer
			status, stderr := remotePkgfs(t, s.Start(t), &stdout, c.args...)
			head := markers(c.before...) + "SELFTEST: remote pkgfs " + c.fail + " FAIL "
			reason, rest, _ := strings.Cut(strings.TrimPrefix(stdout.String(), head), "\n")
			if status != 1 || stderr != "" || !strings.HasPrefix(stdout.String(), head) || rest != "" || !strings.Contains(reason, c.reason) {
				t.Errorf("ended with %d, %q and\n%swant\n%s…%s…", status, stderr, &stdout, head, c.reason)
			}
		})
	}
}

// TestInterrupted: a signal in the middle is a FAIL like any other.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := newServer()
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if pk.Op(request[3]) == pk.Read {
			cancel(errors.New("terminated"))
			return
		}
		send(honest)
	}
	s.Start(t)
	var stdout, stderr bytes.Buffer
	status := Main(ctx, []string{"remote-pkgfs", "-socket", s.Socket, "-peer", "node-b", "-timeout", "1h", path}, &stdout, &stderr)
	if want := markers("stat ok", "open ok", "read step FAIL interrupted: terminated"); status != 1 || stdout.String() != want {
		t.Errorf("ended with %d, %q and\n%s", status, &stderr, &stdout)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		stderr string
	}{
		{"remote-pkgfs -h", 0, "-sha256"},
		{"", 2, "no test; there is remote-pkgfs"},
		{"local", 2, `unknown test "local"`},
		{"remote-pkgfs -nope", 2, "-nope"},
		{"remote-pkgfs " + path, 2, "-peer is missing"},
		{"remote-pkgfs -peer b", 2, "0 paths, want one"},
		{"remote-pkgfs -peer b x y", 2, "2 paths, want one"},
		{"remote-pkgfs -peer b -sha256 00 x", 2, `-sha256 "00" is not 64 hex digits`},
		{"remote-pkgfs -peer b -sha256 " + strings.Repeat("g", 64) + " x", 2, "is not 64 hex digits"},
		{"remote-pkgfs -peer b -chunk 0 x", 2, "-chunk 0 is below 1"},
	} {
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), strings.Fields(c.args), &stdout, &stderr)
		if status != c.status || stdout.Len() != 0 || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%q ended with %d, %q, %q; want %d and %q", c.args, status, &stdout, &stderr, c.status, c.stderr)
		}
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"plain: ünïcode":               "plain: ünïcode",
		"two\nlines\r\t\x1b[2J\x00":    "two?lines???[2J?",
		"bad \xff\xfe utf-8":           "bad ? utf-8",
		strings.Repeat("é", 200):       strings.Repeat("é", 150) + "...",
		"x" + strings.Repeat("é", 200): "x" + strings.Repeat("é", 149) + "...",
	} {
		if got := sanitize(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
