package live_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/live/livetest"
	"dsoftbus-rig/rig/record"
)

// role says, in the environment, what this program is when a test has started it again.
const role = "LIVE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "worker":
		worker()
	case "run":
		run()
	case "asker":
		asker(os.Args[1])
	}
	os.Exit(0)
}

// again is this program in another role. It is started by a name that another user can follow, too.
func again(as string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// worker serves the socket that it has inherited, as the process of a scenario does, until its input ends.
func worker() {
	l, err := live.Inherited(os.NewFile(3, "socket"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := live.Serve(ctx, l, livetest.New("/runs/child", "child/"+strconv.Itoa(os.Getppid()), "/nowhere")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startWorker starts a worker as `rig run` does: with a socket of this process's network, in namespaces of its own.
func startWorker() (cmd *exec.Cmd, name string, end io.Closer, err error) {
	f, name, err := live.Listen()
	if err != nil {
		return nil, "", nil, err
	}
	defer f.Close()
	cmd = again("worker")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return nil, "", nil, fmt.Errorf("the worker says %q: %w", line, err)
	}
	return cmd, name, in, nil
}

// run is a `rig run`: it starts a worker, says the socket's name, and asks it for its own status, until its input ends.
func run() {
	_, name, _, err := startWorker()
	if err == nil {
		fmt.Println(name)
		asker(name)
		_, _ = io.Copy(io.Discard, os.Stdin)
	} else {
		fmt.Println("cannot:", err)
	}
}

// asker says what becomes of a question, and what it finds.
func asker(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := live.Open(name)
	if err == nil {
		_, err = c.Status(ctx)
	}
	all, listErr := live.List(ctx)
	found := slices.ContainsFunc(all, func(a live.Alive) bool { return a.Name == name })
	fmt.Printf("asked: %v, found: %v, %v\n", err, found, listErr)
}

func skipUnlessNamespaces(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("no namespaces here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A scenario's process that is killed takes its name along, and whoever has asked it something hears so at once.
func TestKilledWorker(t *testing.T) {
	cmd, name, _, err := startWorker()
	skipUnlessNamespaces(t, err)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c, err := live.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(bounded(t))
	if err != nil || !strings.HasPrefix(status.Scenario, "child/") {
		t.Fatalf("got %+v, %v", status, err)
	}
	began := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- c.Do(bounded(t), "hang", func(record.Event) { began <- struct{}{} })
	}()
	receive(t, began)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wants(t, receive(t, done), live.Lost, "the scenario's process is gone")
	_ = cmd.Wait()
	_, err = c.Status(bounded(t))
	wants(t, err, live.Lost, "not there any more")
	all, err := live.List(bounded(t))
	if err != nil || slices.ContainsFunc(all, func(a live.Alive) bool { return a.Name == name }) {
		t.Errorf("found %+v, %v", all, err)
	}
	table, err := os.ReadFile("/proc/self/net/unix")
	if err != nil || strings.Contains(string(table), name) {
		t.Errorf("the name is still there, %v", err)
	}
}

// In an orderly way, too, and then the worker is through.
func TestWorkerThatEnds(t *testing.T) {
	cmd, name, end, err := startWorker()
	skipUnlessNamespaces(t, err)
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	c, err := live.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	followed := make(chan error, 1)
	go func() { followed <- c.Follow(bounded(t), func(record.Event) {}) }()
	if _, err := c.Status(bounded(t)); err != nil {
		t.Fatal(err)
	}
	end.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the worker: %v", err)
	}
	// Whether it was asked before the end is not known.
	if err := receive(t, followed); err != nil && class(err) != live.Lost && class(err) != live.Ended {
		t.Error(err)
	}
}

// strangers are users that this host need not know.
const (
	stranger = 54321
	another  = 54322
)

func asUser(cmd *exec.Cmd, uid uint32) *exec.Cmd {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	cmd.Dir = "/"
	return cmd
}

// outcome is what an asker says.
func outcome(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v; it said %q", err, out)
	}
	return string(out)
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
}

// Another user cannot ask a scenario of root's, though anybody can connect.
func TestOthersAreRefused(t *testing.T) {
	needsRoot(t)
	s := start(t)
	got := outcome(t, asUser(again("asker", s.name), stranger))
	if want := "asked: this scenario belongs to another user; ask as the one who has started it, found: false, <nil>\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := outcome(t, again("asker", s.name)); got != "asked: <nil>, found: true, <nil>\n" {
		t.Errorf("root: got %q", got)
	}
}

// In a worker's user namespace its owner looks like root, and others, root too, like nobody.
func TestOwnersOfNamespaces(t *testing.T) {
	needsRoot(t)
	cmd := asUser(again("run"), stranger)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	r := bufio.NewReader(out)
	name, err := r.ReadString('\n')
	if err != nil || strings.HasPrefix(name, "cannot:") {
		t.Skipf("an ordinary user makes no namespaces here: %s %v", name, err)
	}
	name = strings.TrimSpace(name)
	if !strings.HasPrefix(name, fmt.Sprintf("@dsoftbus-rig/live/%d/", stranger)) {
		t.Errorf("its name is %q", name)
	}
	if own, err := r.ReadString('\n'); err != nil || own != "asked: <nil>, found: true, <nil>\n" {
		t.Errorf("its owner: got %q, %v", own, err)
	}
	const refused = "asked: this scenario belongs to another user"
	if got := outcome(t, asUser(again("asker", name), another)); !strings.HasPrefix(got, refused) || !strings.Contains(got, "found: false") {
		t.Errorf("another user: got %q", got)
	}
	// Root sees that there is one, and that it cannot ask it.
	if got := outcome(t, again("asker", name)); !strings.HasPrefix(got, refused) || !strings.Contains(got, "found: true") {
		t.Errorf("root: got %q", got)
	}
}

// Somebody else's socket with a name of this user's is not asked anything.
func TestBorrowedName(t *testing.T) {
	l, err := net.Listen("unix", fmt.Sprintf("@dsoftbus-rig/live/%d/1/1", stranger))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		data, _ := io.ReadAll(conn)
		heard <- string(data)
	}()
	c, err := live.Open(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Status(bounded(t))
	wants(t, err, live.Refused, fmt.Sprintf("belongs to the user %d, not to %d", os.Geteuid(), stranger))
	if got := receive(t, heard); got != "" {
		t.Errorf("it was told %q", got)
	}
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct {
		what       string
		peer, self int
		want       bool
	}{
		{"the same user", 1000, 1000, true},
		{"root", 0, 1000, true},
		{"the owner of a user namespace", 0, 0, true},
		{"another user", 1001, 1000, false},
		{"an ordinary user of root's", 1000, 0, false},
		{"somebody outside of a user namespace", 65534, 0, false},
		{"somebody outside, of nobody's", 65534, 65534, false},
	} {
		if got := live.Allowed(c.peer, c.self); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// Whoever connects and says nothing is not waited for.
func TestSilence(t *testing.T) {
	f, name, err := live.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l, err := live.Inherited(f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- live.ServeWithin(ctx, l, livetest.New("/runs/silence", "area/silence", t.TempDir()), 50*time.Millisecond, time.Second)
	}()
	defer func() {
		cancel()
		if err := receive(t, served); err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write(t, conn, `{"method":`)
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}
