package live_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	case "elsewhere":
		elsewhere(os.Args[1])
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
	if err != nil || strings.Contains(string(table), filepath.Base(name)) {
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

// Another user cannot ask a scenario of root's: neither through its folder, nor, were that open, as the one who asks.
func TestOthersAreRefused(t *testing.T) {
	needsRoot(t)
	t.Setenv("XDG_RUNTIME_DIR", "")
	base, err := os.MkdirTemp("", "live") // one that others may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", base)
	s := start(t)
	got := outcome(t, asUser(again("asker", s.name), stranger))
	if want := "permission denied, found: false, <nil>\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, opened := range []string{filepath.Join(base, "dsoftbus-rig"), filepath.Dir(s.name), s.name} {
		if err := os.Chmod(opened, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	got = outcome(t, asUser(again("asker", s.name), stranger))
	if want := fmt.Sprintf("belongs to the user 0, not to %d: nothing was asked of it, found: false", stranger); !strings.Contains(got, want) {
		t.Errorf("with an open folder: got %q, want %q", got, want)
	}
	if err := os.Chmod(filepath.Dir(s.name), 0o700); err != nil {
		t.Fatal(err)
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

// elsewhere asks, as a process in a mount namespace of its own that has another folder in the place of the sockets': a container with the same user and
// network, say.
func elsewhere(name string) {
	dir := filepath.Dir(name)
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700")
	}
	if err != nil {
		fmt.Println("cannot:", err)
		return
	}
	asker(name)
}

// A process that shares the user and the network, and not the files, reaches nothing.
func TestOtherFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount what this takes")
	}
	_, name, end, err := startWorker()
	skipUnlessNamespaces(t, err)
	defer end.Close()
	t.Cleanup(func() { _ = live.Remove(name) })
	c, err := live.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(bounded(t)); err != nil {
		t.Fatalf("from here: %v", err)
	}
	cmd := again("elsewhere", name)
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	out, err := cmd.Output()
	if strings.HasPrefix(string(out), "cannot: ") {
		t.Skip(string(out))
	}
	if err != nil || !strings.Contains(string(out), "not there any more") || !strings.Contains(string(out), "found: false") {
		t.Errorf("from elsewhere: %q, %v", out, err)
	}
}

// A folder that others can use, or that is another user's, is not used.
func TestFolderOfOthers(t *testing.T) {
	base := t.TempDir()
	for _, c := range []struct {
		what string
		make func(dir string) error
		want string
	}{
		{"as it should be", func(string) error { return nil }, ""},
		{"open to others", func(dir string) error { return os.Chmod(dir, 0o711) }, "chmod 700"},
		{"a link", func(dir string) error { return errors.Join(os.Remove(dir), os.Symlink(base, dir)) }, "no folder"},
		{"another user's", func(dir string) error { return os.Chown(dir, stranger, stranger) }, fmt.Sprintf("belongs to user %d", stranger)},
	} {
		dir := filepath.Join(base, strings.ReplaceAll(c.what, " ", "-"))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.make(dir); errors.Is(err, os.ErrPermission) {
			t.Logf("%s: only root can give a folder away", c.what)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		err := live.CheckFolder(dir)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CACHE_HOME", base)
	dir := filepath.Join(base, "dsoftbus-rig", "live")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if live.FirstFolder() != dir {
		t.Skip("this host has a folder for run time files of this user, which comes first")
	}
	if f, name, err := live.Listen(); err == nil {
		f.Close()
		t.Errorf("a socket was made in a folder that others can use: %s", name)
	}
}

// Files of runs that were killed go; one of a living process, and what is no socket of this user's, stays.
func TestStaleSockets(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), strings.Repeat("long/", 30))) // longer than a socket's address can be
	if !strings.Contains(live.FirstFolder(), "/long/") {
		t.Skip("this host has a folder for run time files of this user, which comes first")
	}
	s := start(t)
	if len(s.name) <= 107 {
		t.Fatalf("%s is not long", s.name)
	}
	dir := filepath.Dir(s.name)
	began, err := live.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, listening bool) string {
		name = filepath.Join(dir, name)
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		cwd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Base(name)})
		t.Chdir(cwd)
		if err == nil && listening {
			err = syscall.Listen(fd, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		if listening {
			t.Cleanup(func() { syscall.Close(fd); os.Remove(name) })
		} else {
			syscall.Close(fd)
		}
		return name
	}
	dead := file("999999999-5-1", false)
	recycled := file(fmt.Sprintf("%d-%d-900", os.Getpid(), began+1), false)
	elsewhere := file("999999998-5-1", true) // of a container with the same home, say
	other := file("some.other.socket", false)
	t.Cleanup(func() { os.Remove(other) })
	all, err := live.List(bounded(t))
	if err != nil || len(all) != 1 || all[0].Name != s.name || all[0].PID != os.Getpid() {
		t.Errorf("found %+v, %v; want the living one", all, err)
	}
	for name, want := range map[string]bool{dead: false, recycled: false, elsewhere: true, other: true, s.name: true} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", filepath.Base(name), err == nil, want)
		}
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
	t.Cleanup(func() { _ = live.Remove(name) })
	conn, err := live.Dial(name)
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
