package stacks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Programs to be asked are this test binary, run by links of other names.
const (
	envDir  = "STACKS_TEST_DIR"
	envKind = "STACKS_TEST_KIND"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(envKind); kind != "" {
		program(kind, os.Getenv(envDir))
		return
	}
	os.Exit(m.Run())
}

func program(kind, dir string) {
	asked := make(chan os.Signal, 1)
	if kind == "tells" {
		signal.Notify(asked, Signal)
		go waitsForItsEnd()
	}
	fmt.Println("ready")
	if kind == "mute" {
		select {
		case <-time.After(time.Hour): // no deadlock, for the runtime
		case <-asked:
		}
	}
	for range asked {
		if err := Write(dir); err != nil {
			fmt.Println(err)
		}
	}
}

//go:noinline
func waitsForItsEnd() { select {} }

// run starts a program of this name and returns it when it says that it is ready.
func run(t *testing.T, name, dir, kind string) *exec.Cmd {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(own, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link)
	cmd.Env = append(os.Environ(), envKind+"="+kind, envDir+"="+dir)
	return begun(t, cmd)
}

func begun(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// lived checks that a program ran until now.
func lived(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("it had ended: %v", cmd.ProcessState)
	}
}

// own is a name that no other process of this host has.
func own(what string) string { return fmt.Sprintf("%s-%d", what, os.Getpid()) }

func TestAsk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "stacks")
	name := own("told")
	p := run(t, name, dir, "tells")
	a := NewAsker(dir)
	var all sync.WaitGroup
	for range 5 { // at once: each has an answer of its own
		all.Go(func() {
			text, err := a.Ask(t.Context(), name)
			if err != nil || !strings.Contains(string(text), "stacks.waitsForItsEnd") || !strings.HasPrefix(string(text), "goroutine ") {
				t.Errorf("%v:\n%s", err, text)
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// An answer that nobody took is not taken for the next one.
	stale := filepath.Join(dir, fmt.Sprint(p.Process.Pid))
	if err := os.WriteFile(stale, []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := a.Ask(t.Context(), name); err != nil || strings.Contains(string(text), "stale") {
		t.Errorf("after an old answer: %v, %q", err, text)
	}
	run(t, name, dir, "tells")
	if _, err := a.Ask(t.Context(), name); err == nil || !strings.Contains(err.Error(), "2 processes are called "+name) {
		t.Errorf("of two: %v", err)
	}
	lived(t, p)
}

func TestNoAnswer(t *testing.T) {
	dir := t.TempDir()
	a := NewAsker(dir)
	if _, err := a.Ask(t.Context(), own("none")); err == nil || !strings.Contains(err.Error(), "no process is called none-") {
		t.Errorf("of nobody: %v", err)
	}
	a.wait = 50 * time.Millisecond
	mute := own("mute")
	run(t, mute, dir, "mute")
	if _, err := a.Ask(t.Context(), mute); err == nil || !strings.Contains(err.Error(), "did not answer SIGUSR1 within 50ms: it has hardly begun") {
		t.Errorf("of one that does not handle it: %v", err)
	}
	stopped := own("stop")
	p := run(t, stopped, dir, "tells")
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ask(t.Context(), stopped); err == nil || !strings.Contains(err.Error(), "it is stopped; SIGCONT") {
		t.Errorf("of one that is stopped: %v", err)
	}
	a.wait = time.Hour
	over := errors.New("over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, over)
	defer cancel()
	if _, err := a.Ask(ctx, mute); !errors.Is(err, over) {
		t.Errorf("when nobody waits any more: %v", err)
	}
	// A file where the folder should be.
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewAsker(file).Ask(t.Context(), mute); err == nil || !strings.Contains(err.Error(), "nowhere to answer to") {
		t.Errorf("without a folder: %v", err)
	}
}

// A program of another kind would die of the signal. It is not sent one.
func TestStrangersAreLeftAlone(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	name := own("alien")
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sh, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link, "-c", "echo ready; read x")
	if _, err := cmd.StdinPipe(); err != nil { // which nobody writes to
		t.Fatal(err)
	}
	p := begun(t, cmd)
	_, err = NewAsker(t.TempDir()).Ask(t.Context(), name)
	if err == nil || !strings.Contains(err.Error(), "no program of the rig's") {
		t.Errorf("got %v", err)
	}
	lived(t, p)
}

// One of our programs in another file can be asked, too: it was changed.
func TestTelling(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{exe: true, copied: true, "/bin/sh": false} {
		if got, err := telling(file); got != want || err != nil {
			t.Errorf("%s: %t, %v", file, got, err)
		}
	}
	if _, err := telling(copied + "none"); err == nil {
		t.Error("a file that is not there can tell")
	}
}

// A process that has not come to handle the signal would die of it.
func TestAnswers(t *testing.T) {
	if err := answers(os.Getpid()); err != nil {
		t.Error(err)
	}
	if err := answers(1 << 30); err == nil || !strings.Contains(err.Error(), "cannot be looked at") {
		t.Errorf("nobody: %v", err)
	}
}

func TestWriteNowhere(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "tell the goroutines") {
		t.Errorf("got %v", err)
	}
}
