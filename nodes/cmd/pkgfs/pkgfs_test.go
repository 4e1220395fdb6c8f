package pkgfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs/remotefstest"
	"dsoftbus-rig/protocol/pk"
)

const prop = "ro.nexus.build=dev\n"

func big() []byte {
	b := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func newServer(t testing.TB) *remotefstest.Server {
	return &remotefstest.Server{Files: map[string][]byte{"system/build.prop": []byte(prop), "system/big": big(), "system/empty": {}}}
}

// pkgfs runs the program against s.
func pkgfs(t testing.TB, s *remotefstest.Server, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, diag bytes.Buffer
	status = Main(ctx, append([]string{"-socket", s.Socket, "-peer", "node-b"}, args...), &out, &diag)
	return status, out.String(), diag.String()
}

func TestCommands(t *testing.T) {
	s := newServer(t).Start(t)
	hash := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
	for _, c := range []struct {
		args   []string
		status int
		stdout string
		stderr string // part of it; empty: nothing
	}{
		{[]string{"stat", "pkg:/system/build.prop"}, 0, "size=19 kind=0\n", ""},
		{[]string{"stat", "pkg:/system/none"}, 1, "", "NOT_FOUND"},
		{[]string{"cat", "pkg:/system/build.prop"}, 0, prop, ""},
		{[]string{"cat", "/packages/system/big"}, 0, string(big()), ""},
		{[]string{"cat", "pkg:/system/empty"}, 0, "", ""},
		{[]string{"cat", "pkg:/../x"}, 1, "", "OPEN pkg:/../x: PATH_TRAVERSAL"},
		{[]string{"cat", ""}, 1, "", "OVERSIZED"},
		{[]string{"sum", "pkg:/system/build.prop"}, 0, hash([]byte(prop)) + "  pkg:/system/build.prop\n", ""},
		{[]string{"sum", "pkg:/system/big"}, 0, hash(big()) + "  pkg:/system/big\n", ""},
		{[]string{"sum", "file:/x"}, 1, "", "NON_PACKAGEFS_SCHEME"},
		{[]string{"bench", "file:/x"}, 1, "", "NON_PACKAGEFS_SCHEME"},
		{[]string{"get", "pkg:/system/none", filepath.Join(t.TempDir(), "x")}, 1, "", "NOT_FOUND"},
		{[]string{"-peer", "node-x", "stat", "pkg:/x"}, 1, "", "unknown peer node-x"},
		{[]string{"-socket", "/nowhere/s", "stat", "pkg:/x"}, 1, "", "is it running?"},
		{[]string{"-wait", "0", "stat", "pkg:/system/build.prop"}, 0, "size=19 kind=0\n", ""},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			status, stdout, stderr := pkgfs(t, s, c.args...)
			if status != c.status || stdout != c.stdout {
				t.Errorf("ended with %d, %.100q; want %d, %.100q", status, stdout, c.status, c.stdout)
			}
			if c.stderr == "" && stderr != "" || !strings.Contains(stderr, c.stderr) || strings.Count(stderr, "\n") > 1 {
				t.Errorf("said %q, want one line with %q", stderr, c.stderr)
			}
		})
	}
	if n := s.Handles(); n != 0 {
		t.Errorf("%d handles are open", n)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string // split at |
		status int
		stderr string
	}{
		{"-h", 0, "pkgfs -peer ID bench PATH [-chunk N] [-window N] [-bytes N] [-count N] [-sha256 HEX]"},
		{"", 2, "no command; there are stat, cat, get, sum, bench, pk, peers"},
		{"-peer|b", 2, "no command"},
		{"-peer|b|frob|x", 2, `unknown command "frob"`},
		{"-nope|stat", 2, "-nope"},
		{"stat|pkg:/x", 2, "stat needs -peer"},
		{"-peer|b|stat", 2, "stat got 0 arguments: pkgfs -peer ID stat PATH"},
		{"-peer|b|stat|a|b", 2, "stat got 2 arguments"},
		{"-peer|b|get|a", 2, "get got 1 arguments"},
		{"-peer|b|pk", 2, "pk got 0 arguments"},
		{"peers|x", 2, "peers got 1 arguments: pkgfs peers"},
		{"-peer|b|bench|-chunk|4", 2, "bench got 0 arguments"},
		{"-peer|b|bench|p|-chunk|x", 2, "-chunk"},
		{"-peer|b|bench|p|-nope", 2, "-nope"},
		{"-peer|b|bench|p|-bytes|-1", 2, "-bytes -1 is outside"},
		{"-peer|b|bench|p|-bytes|67108865", 2, "-bytes 67108865 is outside"},
		{"-peer|b|bench|p|-count|0", 2, "-count 0 is below 1"},
		{"-peer|b|bench|p|-sha256|abc", 2, `-sha256 "abc" is not 64 hex digits`},
		{"-wait|soon|peers", 2, "-wait"},
		{"-timeout|soon|peers", 2, "-timeout"},
		{"-peer|b|pk|stat", 2, `line 1, "stat": want stat PATH`},
		{"-peer|b|pk|stat x|frob", 2, `line 2, "frob": want stat, open, read, close, raw or await`},
		{"-peer|b|pk|", 2, "want stat, open, read, close, raw or await"},
		{"-peer|b|pk|read 1 2", 2, "want read HANDLE OFFSET LENGTH"},
		{"-peer|b|pk|read 1 2 65536", 2, `length "65536" is no number of 16 bits`},
		{"-peer|b|pk|read 1 -2 1", 2, `offset "-2"`},
		{"-peer|b|pk|read 4294967296 0 1", 2, `handle "4294967296" is no number of 32 bits`},
		{"-peer|b|pk|close", 2, "want close HANDLE"},
		{"-peer|b|pk|close first", 2, `handle "first"`},
		{"-peer|b|pk|raw 5", 2, "want raw HEX"},
		{"-peer|b|pk|await", 2, "want await FILE"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var args []string
			if c.args != "" {
				args = strings.Split(c.args, "|")
			}
			var stdout, stderr bytes.Buffer
			// With no dsoftbusd there, trying anything would end with 1.
			status := Main(t.Context(), append([]string{"-socket", "/nowhere/s"}, args...), &stdout, &stderr)
			if status != c.status || stdout.Len() != 0 || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("ended with %d, %q, %q; want %d and %q", status, &stdout, &stderr, c.status, c.stderr)
			}
		})
	}
}

func TestGet(t *testing.T) {
	s := newServer(t).Start(t)
	dir := t.TempDir()
	to := filepath.Join(dir, "copy")
	check := func(want []byte, mode fs.FileMode) {
		t.Helper()
		got, err := os.ReadFile(to)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the copy has %d bytes, %v; want %d", len(got), err, len(want))
		}
		if info, err := os.Stat(to); err != nil || info.Mode() != mode {
			t.Errorf("the copy is %v, %v; want mode %v", info.Mode(), err, mode)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the directory holds %v, %v; want the copy alone", entries, err)
		}
	}
	if status, stdout, stderr := pkgfs(t, s, "get", "pkg:/system/big", to); status != 0 || stdout+stderr != "" {
		t.Fatalf("ended with %d, %q, %q", status, stdout, stderr)
	}
	umask := syscall.Umask(0)
	syscall.Umask(umask)
	check(big(), 0o644&^fs.FileMode(umask))
	if err := os.Chmod(to, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := pkgfs(t, s, "get", "pkg:/system/build.prop", to); status != 0 {
		t.Fatalf("ended with %d, %q", status, stderr)
	}
	check([]byte(prop), 0o600)

	// Whatever goes wrong leaves what is there.
	if status, _, stderr := pkgfs(t, s, "get", "pkg:/system/none", to); status != 1 || !strings.Contains(stderr, "NOT_FOUND") {
		t.Errorf("ended with %d, %q", status, stderr)
	}
	check([]byte(prop), 0o600)
	reads := 0
	lossy := newServer(t)
	lossy.Answer = func(request, honest []byte, send func([]byte)) {
		if pk.Op(request[3]) == pk.Read {
			if reads++; reads > 3 {
				honest = pk.AppendReject(nil, request, pk.IO)
			}
		}
		send(honest)
	}
	if status, _, stderr := pkgfs(t, lossy.Start(t), "get", "pkg:/system/big", to); status != 1 || !strings.Contains(stderr, "READ pkg:/system/big: IO") {
		t.Errorf("ended with %d, %q", status, stderr)
	}
	check([]byte(prop), 0o600)
}

func TestGetRefuses(t *testing.T) {
	s := newServer(t).Start(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{dir: "not a regular file", link: "not a regular file", filepath.Join(dir, "no", "where"): "no such file"} {
		if status, _, stderr := pkgfs(t, s, "get", "pkg:/system/build.prop", to); status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: ended with %d, %q; want %q", to, status, stderr, want)
		}
	}
	if target, err := os.Readlink(link); err != nil || target != "/dev/null" {
		t.Errorf("the link is now %q, %v", target, err)
	}
}

// TestInterrupted: a signal ends a transfer and leaves nothing half-done.
func TestInterrupted(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if pk.Op(request[3]) == pk.Read {
			cancel(errors.New("terminated"))
			return
		}
		send(honest)
	}
	s.Start(t)
	dir := t.TempDir()
	var stderr bytes.Buffer
	status := Main(ctx, []string{"-socket", s.Socket, "-peer", "node-b", "-timeout", "1h", "get", "pkg:/system/big", filepath.Join(dir, "copy")}, io.Discard, &stderr)
	if status != 1 || !strings.Contains(stderr.String(), "interrupted: terminated") {
		t.Errorf("ended with %d, %q", status, &stderr)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

// TestClose: a file that could not be closed was not read properly.
func TestClose(t *testing.T) {
	s := newServer(t)
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if pk.Op(request[3]) == pk.Close {
			honest = pk.AppendReject(nil, request, pk.IO)
		}
		send(honest)
	}
	s.Start(t)
	for _, args := range [][]string{{"cat"}, {"sum"}, {"bench"}} {
		if status, _, stderr := pkgfs(t, s, append(args, "pkg:/system/build.prop")...); status != 1 || !strings.Contains(stderr, "CLOSE pkg:/system/build.prop: IO") {
			t.Errorf("%q ended with %d, %q", args, status, stderr)
		}
	}
}

func TestWait(t *testing.T) {
	for wait, want := range map[string]int64{"1500ms": 1500, "0": 0, "-1s": 0} {
		s := newServer(t)
		got := make(chan int64, 1)
		s.Opened = func(open localapi.Open) { got <- open.WaitMS }
		s.Start(t)
		if status, _, stderr := pkgfs(t, s, "-wait", wait, "stat", "pkg:/system/build.prop"); status != 0 {
			t.Errorf("ended with %d, %q", status, stderr)
		}
		if ms := <-got; ms != want {
			t.Errorf("-wait %s waits for %d ms, want %d", wait, ms, want)
		}
	}
}

func TestBench(t *testing.T) {
	s := newServer(t)
	s.Files["system/huge"] = make([]byte, maxBench+1)
	s.Start(t)
	for _, c := range []struct {
		args            []string
		bytes, requests int
		lines           int
	}{
		{[]string{"bench", "pkg:/system/big"}, 300_000, 10, 1},
		{[]string{"bench", "pkg:/system/big", "-chunk", "1000", "-window", "4"}, 300_000, 300, 1},
		{[]string{"bench", "-chunk=10000", "pkg:/system/big", "-window=1"}, 300_000, 30, 1},
		{[]string{"bench", "-bytes", "1001", "-chunk=100", "pkg:/system/big"}, 1001, 11, 1},
		{[]string{"bench", "pkg:/system/big", "-bytes", "40000", "-count", "3"}, 40_000, 2, 3},
		{[]string{"bench", "pkg:/system/big", "-bytes", "300001"}, 300_000, 10, 1},
		{[]string{"bench", "pkg:/system/empty"}, 0, 0, 1},
	} {
		status, stdout, stderr := pkgfs(t, s, c.args...)
		form := regexp.MustCompile(fmt.Sprintf(`^(bytes=%d seconds=[0-9.]+ MB/s=[0-9.]+ requests=%d requests/s=[0-9]+ sha256=%x\n){%d}$`,
			c.bytes, c.requests, sha256.Sum256(big()[:c.bytes]), c.lines))
		if status != 0 || !form.MatchString(stdout) || stderr != "" {
			t.Errorf("%q ended with %d, %q, %q; want %v", c.args, status, stdout, stderr, form)
		}
	}
	if status, _, stderr := pkgfs(t, s, "bench", "pkg:/system/big", "-chunk", "65509"); status != 1 || !strings.Contains(stderr, "chunk of 65509 bytes is outside") {
		t.Errorf("ended with %d, %q", status, stderr)
	}
	if status, stdout, stderr := pkgfs(t, s, "bench", "pkg:/system/huge"); status != 1 || stdout != "" || !strings.Contains(stderr, "read less of it with -bytes N") {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
	if status, stdout, _ := pkgfs(t, s, "bench", "-bytes", "100", "pkg:/system/huge"); status != 0 || !strings.HasPrefix(stdout, "bytes=100 ") {
		t.Errorf("the beginning of a large file ended with %d, %q", status, stdout)
	}
}

// TestBenchDigest: the first reading with another digest ends it.
func TestBenchDigest(t *testing.T) {
	s := newServer(t).Start(t)
	good := fmt.Sprintf("%x", sha256.Sum256(big()))
	if status, stdout, stderr := pkgfs(t, s, "bench", "pkg:/system/big", "-count", "2", "-sha256", good); status != 0 || strings.Count(stdout, "sha256="+good) != 2 {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
	status, stdout, stderr := pkgfs(t, s, "bench", "pkg:/system/build.prop", "-count", "2", "-sha256", good)
	if status != 1 || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "bench pkg:/system/build.prop: sha256 is ") || !strings.Contains(stderr, ", want "+good) {
		t.Errorf("with another digest it ended with %d, %q, %q", status, stdout, stderr)
	}
}

// TestBenchReadsEachTime: no round may digest what the one before it has read.
func TestBenchReadsEachTime(t *testing.T) {
	s := newServer(t)
	reads := 0
	s.Answer = func(request, honest []byte, send func([]byte)) {
		// The warm-up is one read, too.
		if pk.Op(request[3]) == pk.Read {
			if reads++; reads == 3 {
				honest = pk.AppendReadResponse(nil, pk.OK, []byte("other"))
			}
		}
		send(honest)
	}
	s.Start(t)
	status, stdout, stderr := pkgfs(t, s, "bench", "-count", "2", "-bytes", "5", "pkg:/system/big")
	lines := strings.Fields(stdout)
	if status != 0 || len(lines) != 12 || lines[5] != fmt.Sprintf("sha256=%x", sha256.Sum256(big()[:5])) || lines[11] != fmt.Sprintf("sha256=%x", sha256.Sum256([]byte("other"))) {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
}

func TestPeers(t *testing.T) {
	s := newServer(t)
	s.Peers = []localapi.Peer{
		{ID: "node-b", Paired: true, Session: true, Addresses: []string{"10.0.0.2", "10.0.0.9"}, Port: 34567, Services: []string{"packagefs", "samgrd"}, AgeMS: 120},
		{ID: "node-c", Paired: true, AgeMS: -1},
		{ID: "evil\nnode-d paired=true", Services: []string{"a b", "\x1b[2J"}},
	}
	s.Start(t)
	want := "node-b paired=true session=true addresses=10.0.0.2,10.0.0.9 port=34567 services=packagefs,samgrd age=120ms\n" +
		"node-c paired=true session=false addresses=- port=0 services=- age=never\n" +
		`"evil\nnode-d paired=true" paired=false session=false addresses=- port=0 services="a b","\x1b[2J" age=0s` + "\n"
	var stdout, stderr bytes.Buffer
	if status := Main(t.Context(), []string{"-socket", s.Socket, "peers"}, &stdout, &stderr); status != 0 || stdout.String() != want || stderr.Len() != 0 {
		t.Errorf("ended with %d, %q, %q; want %q", status, &stdout, &stderr, want)
	}
}

func TestPK(t *testing.T) {
	s := newServer(t).Start(t)
	path := "pkg:/system/build.prop"
	statHex := fmt.Sprintf("%x", pk.AppendStat(nil, path))
	openHex := fmt.Sprintf("%x", pk.AppendOpen(nil, path))
	for _, c := range []struct {
		name         string
		lines, wants []string
	}{
		{"as documented", []string{"stat " + path, "open " + path, "read 1 0 19", "close 1"},
			[]string{"STAT OK size=19 kind=0", "OPEN OK handle=1", "READ OK n=19 726f2e6e657875732e6275696c643d6465760a", "CLOSE OK"}},
		{"rejected", []string{"stat pkg:/../x", "open pkg:/", "stat ", "open file:/etc/passwd", "read 9 0 1", "read 9 0 32769", "read 9 0 0", "close 9", "stat pkg:/a b"},
			[]string{"STAT PATH_TRAVERSAL", "OPEN OVERSIZED", "STAT OVERSIZED", "OPEN NON_PACKAGEFS_SCHEME", "READ BADF", "READ OVERSIZED", "READ OVERSIZED", "CLOSE BADF", "STAT NOT_FOUND"}},
		{"last", []string{"open " + path, "open pkg:/none", "open " + path, "read last 16 2", "close last", "close last", "read 0x1 0x3 5", "close 01"},
			[]string{"OPEN OK handle=1", "OPEN NOT_FOUND", "OPEN OK handle=2", "READ OK n=2 6576", "CLOSE OK", "CLOSE BADF", "READ OK n=5 6e65787573", "CLOSE OK"}},
		{"end of the file", []string{"open " + path, "read last 19 1", "read last 0xffffffff 0x8000"},
			[]string{"OPEN OK handle=1", "READ OK n=0", "READ OK n=0"}},
		{"raw", []string{"raw " + statHex, "raw", "raw 504b 0109", "raw " + openHex, "read last 18 1"},
			[]string{"504b01810013000000000000000000", "504b018101", "504b018901", "504b01820001000000", "READ OK n=1 0a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, stdout, stderr := pkgfs(t, s, append([]string{"pk"}, c.lines...)...)
			if want := strings.Join(c.wants, "\n") + "\n"; status != 0 || stdout != want || stderr != "" {
				t.Errorf("ended with %d, %q and\n%swant\n%s", status, stderr, stdout, want)
			}
		})
	}
}

func TestPKFails(t *testing.T) {
	path := "pkg:/system/build.prop"
	t.Run("last without an open", func(t *testing.T) {
		status, stdout, stderr := pkgfs(t, newServer(t).Start(t), "pk", "open pkg:/none", "close last", "stat "+path)
		if status != 1 || stdout != "OPEN NOT_FOUND\n" || !strings.Contains(stderr, `line 2, "close last": no open has succeeded before it`) {
			t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
		}
	})
	t.Run("session lost", func(t *testing.T) {
		s := newServer(t)
		s.Answer = func(request, honest []byte, send func([]byte)) {
			if pk.Op(request[3]) == pk.Open {
				s.Lose()
				return
			}
			send(honest)
		}
		status, stdout, stderr := pkgfs(t, s.Start(t), "pk", "stat "+path, "open "+path)
		if status != 1 || stdout != "STAT OK size=19 kind=0\n" || !strings.Contains(stderr, `line 2, "open `+path+`": session with node-b: session lost node-b`) {
			t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
		}
	})
	for answer, want := range map[string]string{"nonsense": "magic", string(pk.AppendCloseResponse(nil, pk.OK)): "the answer is to CLOSE"} {
		t.Run(want, func(t *testing.T) {
			s := newServer(t)
			s.Answer = func(_, _ []byte, send func([]byte)) { send([]byte(answer)) }
			s.Start(t)
			if status, stdout, stderr := pkgfs(t, s, "pk", "stat "+path); status != 1 || stdout != "" || !strings.Contains(stderr, want) {
				t.Errorf("ended with %d, %q, %q; want %q", status, stdout, stderr, want)
			}
			// raw shows it as it came.
			if status, stdout, _ := pkgfs(t, s, "pk", "raw 00"); status != 0 || stdout != fmt.Sprintf("%x\n", answer) {
				t.Errorf("raw ended with %d, %q", status, stdout)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	for _, text := range []string{"stat pkg:/x", "open pkg:/a b", "read 1 0 129", "read last 0x10 0xffff", "close last", "raw 504b", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLine(text)
		if err != nil {
			return
		}
		frame := l.request()
		request, status := pk.ParseRequest(frame, true, pk.Limits{MaxPath: 65509, MaxRead: 65535, MaxHandles: 1})
		switch {
		case l.op == 0:
		case status == pk.BadRequest && (l.op == pk.Read || l.op == pk.Close):
			t.Errorf("%q became the malformed frame % x", text, frame)
		case status == pk.OK && (request.Op != l.op || request.Path != l.path || request.Handle != l.handle || request.Offset != l.offset || request.Length != l.length):
			t.Errorf("%q became %+v", text, request)
		}
	})
}

// TestRetry: a session that is lost in the middle is the end, unless going on was asked for.
func TestRetry(t *testing.T) {
	for _, retry := range []bool{false, true} {
		var once sync.Once
		s := newServer(t)
		s.Answer = func(request, honest []byte, send func([]byte)) {
			if r, status := pk.ParseRequest(request, true, pk.DefaultLimits()); status == pk.OK && r.Op == pk.Read && r.Offset > 100_000 {
				lose := false
				once.Do(func() { lose = true })
				if lose {
					s.Lose()
					return
				}
			}
			send(honest)
		}
		s.Start(t)
		args := []string{"sum", "pkg:/system/big"}
		if retry {
			args = append([]string{"-retry"}, args...)
		}
		status, stdout, stderr := pkgfs(t, s, args...)
		want := fmt.Sprintf("%x  pkg:/system/big\n", sha256.Sum256(big()))
		if retry && (status != 0 || stdout != want || stderr != "") {
			t.Errorf("with -retry: %d, %q, %q", status, stdout, stderr)
		}
		if !retry && (status != 1 || stdout != "" || !strings.Contains(stderr, "session with node-b: session lost node-b")) {
			t.Errorf("without: %d, %q, %q", status, stdout, stderr)
		}
	}
	for _, command := range []string{"bench pkg:/x", "pk x", "peers"} {
		args := append([]string{"-retry"}, strings.Fields(command)...)
		if status, _, stderr := pkgfs(t, newServer(t), args...); status != 2 || !strings.Contains(stderr, "-retry is not for") {
			t.Errorf("%s: %d, %q", command, status, stderr)
		}
	}
}
