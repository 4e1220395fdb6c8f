package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parentMode makes this test program a parent that starts a worker and waits, for
// the tests that kill parents.
const parentMode = "RIG_WORKER_TEST_PARENT"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Command {
		os.Exit(Main(handlers))
	}
	if os.Getenv(parentMode) != "" {
		p, err := Start(context.Background(), "busy", nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = io.Copy(os.Stdout, p.Out())
		os.Exit(0)
	}
	// With the race detector each worker would stay a second longer than it may.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

var handlers = map[string]Handler{
	"echo": func(_ context.Context, job json.RawMessage, out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s\n", job)
		return err
	},
	"given": func(_ context.Context, _ json.RawMessage, out io.Writer) error {
		for i := 0; Given(i) != nil; i++ {
			text, err := io.ReadAll(Given(i))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d %s\n", i, text)
		}
		return nil
	},
	"fail": func(context.Context, json.RawMessage, io.Writer) error { return errors.New("it did not work") },
	"panic": func(context.Context, json.RawMessage, io.Writer) error {
		panic("out of cheese")
	},
	"namespaces": func(_ context.Context, _ json.RawMessage, out io.Writer) error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(map[string]int{"pid": os.Getpid(), "uid": os.Getuid(), "links": len(links)})
	},
	"why": func(ctx context.Context, _ json.RawMessage, out io.Writer) error {
		fmt.Fprintln(out, "up")
		<-ctx.Done()
		fmt.Fprintln(out, context.Cause(ctx))
		return nil
	},
	// busy has a child; its end is seen as the end of a pipe which both hold.
	"busy": func(ctx context.Context, _ json.RawMessage, out io.Writer) error {
		return withChild(ctx, out, ctx.Done())
	},
	"stubborn": func(ctx context.Context, _ json.RawMessage, out io.Writer) error {
		return withChild(ctx, out, nil)
	},
}

func withChild(_ context.Context, out io.Writer, done <-chan struct{}) error {
	child := exec.Command("sleep", "1000")
	child.Stdout = out
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Fprintln(out, "up")
	<-done
	fmt.Fprintln(out, "ending")
	return nil
}

func start(t *testing.T, ctx context.Context, kind string, job any, given ...*os.File) *Process {
	t.Helper()
	p, err := Start(ctx, kind, job, given...)
	if err != nil {
		if os.Geteuid() != 0 {
			t.Skipf("this host gives its users no namespaces: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestJob(t *testing.T) {
	p := start(t, t.Context(), "echo", map[string]string{"scenario": "roundtrip/basic"})
	out, err := io.ReadAll(p.Out())
	if err := errors.Join(err, p.Wait()); err != nil || string(out) != `{"scenario":"roundtrip/basic"}`+"\n" {
		t.Fatalf("%q, %v", out, err)
	}
}

func TestGiven(t *testing.T) {
	var files []*os.File
	for _, text := range []string{"one", "two"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		files = append(files, r)
	}
	p := start(t, t.Context(), "given", nil, files...)
	out, err := io.ReadAll(p.Out())
	if err := errors.Join(err, p.Wait()); err != nil || string(out) != "0 one\n1 two\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if Given(0) != nil {
		t.Error("this process was given something")
	}
}

func TestHowAWorkerEnds(t *testing.T) {
	for kind, want := range map[string]string{"fail": "it did not work", "panic": "out of cheese", "unknown": `no job of kind "unknown"`} {
		t.Run(kind, func(t *testing.T) {
			p := start(t, t.Context(), kind, nil)
			_, _ = io.Copy(io.Discard, p.Out())
			err := p.Wait()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v", err)
			}
			if died := strings.Contains(err.Error(), "died"); died != (kind != "fail") {
				t.Errorf("died: %t: %v", died, err)
			}
		})
	}
}

func TestNamespaces(t *testing.T) {
	p := start(t, t.Context(), "namespaces", nil)
	var got struct{ Pid, UID, Links int }
	if err := json.NewDecoder(p.Out()).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if got.Pid != 1 || got.UID != 0 || got.Links < 1 {
		t.Errorf("worker sees %+v", got)
	}
	mine, _ := os.Readlink("/proc/self/ns/net")
	if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.Pid())); err == nil && theirs == mine {
		t.Error("the worker shares this network namespace")
	}
}

// await reads a line, the sign that the worker and its child are up.
func await(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil || line != want+"\n" {
		t.Fatalf("read %q, %v; want %q", line, err, want)
	}
}

// The end of the pipe means that the worker and its child, which both hold it,
// are gone.
func TestAskedToEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := start(t, ctx, "busy", nil)
	out := bufio.NewReader(p.Out())
	await(t, out, "up")
	cancel()
	await(t, out, "ending")
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("then %q, %v", rest, err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("it ended as it was asked to, but: %v", err)
	}
}

// A worker knows why it is asked to end.
func TestWhyItIsAskedToEnd(t *testing.T) {
	for _, tt := range []struct{ cause, want error }{
		{errors.New("enough"), ErrInterrupted},
		{fmt.Errorf("a long day: %w", ErrOutOfTime), ErrOutOfTime},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		p := start(t, ctx, "why", nil)
		out := bufio.NewReader(p.Out())
		await(t, out, "up")
		cancel(tt.cause)
		await(t, out, tt.want.Error())
		_, _ = io.Copy(io.Discard, out)
		if err := p.Wait(); err != nil {
			t.Errorf("%v: %v", tt.cause, err)
		}
	}
}

func TestOneThatDoesNotEndIsKilled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := start(t, ctx, "stubborn", nil)
	out := bufio.NewReader(p.Out())
	await(t, out, "up")
	cancel()
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("then %q, %v", rest, err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
}

func TestKilledWorkerTakesItsChildrenAlong(t *testing.T) {
	p := start(t, t.Context(), "busy", nil)
	out := bufio.NewReader(p.Out())
	await(t, out, "up")
	p.Kill()
	if _, err := io.ReadAll(out); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "died (signal: killed)") {
		t.Errorf("got %v", err)
	}
}

func TestKilledParentTakesItsWorkerAlong(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			start(t, t.Context(), "echo", nil) // skips where there are no namespaces
			parent := exec.Command("/proc/self/exe")
			parent.Env = append(os.Environ(), parentMode+"=1")
			stdout, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			await(t, bufio.NewReader(stdout), "up")
			worker := onlyChild(t, parent.Process.Pid)
			fd, err := unix.PidfdOpen(worker, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := parent.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait()
			// A process's descriptor becomes readable when it has ended.
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Minute.Milliseconds()))
			if err != nil || n != 1 {
				t.Fatalf("the worker outlived its parent: %d, %v", n, err)
			}
		})
	}
}

// onlyChild returns the process id of a process's only child.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if child, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

func TestMainIsNotForPeople(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", Command)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "started by rig itself") {
		t.Fatalf("%s, %v", out, err)
	}
}
