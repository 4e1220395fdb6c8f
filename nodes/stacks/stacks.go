// Package stacks has a running program tell its goroutines while it runs on: the asking side and the telling side, which agree on a signal and a
// folder.
//
// It owns that folder's files. Which programs answer is decided where signals are handled, in nodes/cmd/node.
package stacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"dsoftbus-rig/nodes/process"

	"golang.org/x/sys/unix"
)

// Signal asks a program for its goroutines.
const Signal = unix.SIGUSR1

// Dir is where a program of a machine writes them, as a file named by its process id. Whoever asks makes the folder.
const Dir = "/run/stacks"

// answerWait is how long a program may take to answer. Of a program that has a moment to spare, emulated and on a busy host, it takes some tens of
// milliseconds.
const answerWait = 5 * time.Second

// maxText bounds what All returns, in bytes: some ten thousand goroutines. A program that has more has shown what is wrong.
const maxText = 8 << 20

// All returns the goroutines of this process, each with its stack, as a panic prints them. It stops them for as long as that takes.
//
// It is what runtime/pprof calls for its profile of them, without that package's start-up, which every program would pay for.
func All() []byte {
	for size := 64 << 10; ; size *= 2 {
		text := make([]byte, size)
		if n := runtime.Stack(text, true); n < size || size >= maxText {
			return text[:n]
		}
	}
}

// Write answers Signal: the goroutines of this process become a file of dir that appears whole.
func Write(dir string) error {
	name := strconv.Itoa(os.Getpid())
	aside := filepath.Join(dir, "."+name)
	err := os.WriteFile(aside, All(), 0o600)
	if err == nil {
		err = os.Rename(aside, filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("tell the goroutines: %w", err)
	}
	return nil
}

// An Asker asks programs of one machine. Its methods may be called concurrently.
type Asker struct {
	dir  string
	wait time.Duration

	mu   sync.Mutex
	busy map[int]chan struct{} // the processes that are being asked; each is closed when it is not any more
}

// NewAsker returns one for programs that answer to dir, which in a machine is Dir.
func NewAsker(dir string) *Asker {
	return &Asker{dir: dir, wait: answerWait, busy: map[int]chan struct{}{}}
}

// Ask returns the goroutines of the only process of that name. It is an error when there is none or more than one, when it is no program that can
// answer, which is then left alone, and when it does not answer in time.
func (a *Asker) Ask(ctx context.Context, name string) ([]byte, error) {
	pid, err := process.One(process.Proc, name)
	if err != nil {
		return nil, fmt.Errorf("goroutines of %s: %w", name, err)
	}
	text, err := a.AskProcess(ctx, pid)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("goroutines of %s: its %w", name, err)
	}
	return text, err
}

// AskProcess is Ask for one process by its id. Its errors are sentences that begin with the process: "process 51 cannot be reached".
func (a *Asker) AskProcess(ctx context.Context, pid int) ([]byte, error) {
	done, err := a.turn(ctx, pid)
	if err != nil {
		return nil, err
	}
	defer done()
	text, err := a.ask(ctx, pid)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("process %d %w", pid, err)
	}
	return text, err
}

// turn waits until nobody else asks a process: two signals may become one, and so two answers.
func (a *Asker) turn(ctx context.Context, pid int) (done func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.busy[pid] != nil {
		other := a.busy[pid]
		a.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		a.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	own := make(chan struct{})
	a.busy[pid] = own
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, pid)
		close(own)
	}, nil
}

// ask asks one process. Its errors are the rest of a sentence that begins with the process.
func (a *Asker) ask(ctx context.Context, pid int) ([]byte, error) {
	// The signal goes to this process and to no later one of its number.
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("cannot be reached: %w", err)
	}
	defer p.Release()
	if err := answers(pid); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("has nowhere to answer to: %w", err)
	}
	watch, err := watchRenames(a.dir)
	if err != nil {
		return nil, fmt.Errorf("has nowhere to answer to: watch %s: %w", a.dir, err)
	}
	defer watch.Close()
	answer := filepath.Join(a.dir, strconv.Itoa(pid))
	// One that came too late for whoever asked, perhaps of another process of that number.
	if err := os.Remove(answer); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("has an old answer in the way: %w", err)
	}
	if err := p.Signal(Signal); err != nil {
		return nil, fmt.Errorf("cannot be reached: %w", err)
	}
	if err := watch.SetReadDeadline(time.Now().Add(a.wait)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { watch.SetReadDeadline(time.Now()) })
	defer stop()
	for {
		err := awaitRename(watch, filepath.Base(answer))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("did not answer SIGUSR1 within %s: %s", a.wait, silence(pid))
		}
		if err != nil {
			return nil, fmt.Errorf("was asked, but its answer cannot be seen: %w", err)
		}
		text, err := os.ReadFile(answer)
		if err == nil {
			err = os.Remove(answer)
		}
		if errors.Is(err, os.ErrNotExist) {
			continue // another process has moved something of that name there and away again
		}
		if err != nil {
			return nil, fmt.Errorf("answered, but not legibly: %w", err)
		}
		return text, nil
	}
}

// answers returns nil for a process that lives through Signal and may answer it.
//
// Two things are looked at. Its file: one of ours. And that it catches the signal: a process that has just been started does not yet, and would die
// of it.
func answers(pid int) error {
	exe := filepath.Join(process.Proc, strconv.Itoa(pid), "exe")
	ours, err := telling(exe)
	if err != nil {
		return fmt.Errorf("cannot be looked at: %w", err)
	}
	if !ours {
		name, err := os.Readlink(exe)
		if err != nil {
			name = "of unknown file"
		}
		return fmt.Errorf("is %s, no program of the rig's: only those tell their goroutines", name)
	}
	catches, err := process.Catches(process.Proc, pid, int(Signal))
	if err != nil {
		return fmt.Errorf("cannot be looked at: %w", err)
	}
	if !catches {
		return errors.New("would die of SIGUSR1: it has hardly begun, or does not answer at all; ask again")
	}
	return nil
}

// Tells reports whether a process is of a program that can answer.
func Tells(pid int) (bool, error) {
	return telling(filepath.Join(process.Proc, strconv.Itoa(pid), "exe"))
}

// mark is in every program that can call Write: the name of that function, which a Go program has in it even when it is stripped.
const mark = "dsoftbus-rig/nodes/stacks.Write"

// telling reports whether a file is a program with Write in it. All programs of an image are the file of this process; one that was changed meanwhile
// and copied into the machine is another.
func telling(file string) (bool, error) {
	theirs, err := os.Stat(file)
	if err != nil {
		return false, err
	}
	own, err := os.Stat(filepath.Join(process.Proc, "self", "exe"))
	if err != nil {
		return false, err
	}
	if os.SameFile(theirs, own) {
		return true, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	return bytes.Contains(content, []byte(mark)), nil
}

// silence says what may be the reason that a process does not answer, and what to do next.
func silence(pid int) string {
	state, err := process.Status(process.Proc, pid, "State")
	switch {
	case err != nil:
		return "it has ended meanwhile"
	case strings.HasPrefix(state, "T"):
		return "it is stopped; SIGCONT lets it go on"
	}
	return "it has hardly begun, is a program that does not handle it, or has a goroutine that lets no other run; SIGQUIT ends it with its goroutines printed"
}

// watchRenames returns an inotify descriptor that tells what is renamed to a name in dir.
func watchRenames(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		return nil, errors.Join(err, watch.Close())
	}
	return watch, nil
}

// awaitRename returns when something is renamed to name, or may have been.
func awaitRename(watch *os.File, name string) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := watch.Read(buf)
		if err != nil {
			return err
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			end := unix.SizeofInotifyEvent + int(event.Len)
			// Too many events at once are told by one that has no name.
			if event.Mask&unix.IN_Q_OVERFLOW != 0 || unix.ByteSliceToString(rest[unix.SizeofInotifyEvent:end]) == name {
				return nil
			}
			rest = rest[end:]
		}
	}
}
