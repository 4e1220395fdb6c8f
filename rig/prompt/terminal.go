package prompt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"dsoftbus-rig/rig/tty"

	"golang.org/x/term"
)

// errPasted says that a line was pasted, which is a line like any other.
var errPasted = term.ErrPasteIndicator

// A Terminal is a person's, for as long as the program runs: what is typed is read by one goroutine from its making on, since a read of a terminal
// cannot be given up. What is typed while there is no prompt is for the next one, as in a shell.
type Terminal struct {
	in, out *os.File
	more    chan struct{} // has room for one: something was typed, or the terminal has ended

	mu      sync.Mutex
	typed   []byte // and not read yet
	keys    keys   // what of it the editor gets
	ended   bool
	onInt   func() bool   // Ctrl-C; says whether it ended something
	restore func()        // nil while no prompt has the terminal
	over    chan struct{} // closed when the present reader is to end
}

// maxTyped is how much that nobody reads is kept, in bytes.
const maxTyped = 64 << 10

// NewTerminal returns the terminal of two files. It reads from the first from here on.
func NewTerminal(in, out *os.File) *Terminal {
	t := &Terminal{in: in, out: out, more: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := in.Read(buf)
			if errors.Is(err, io.EOF) && t.stands() {
				// Ctrl-D, while the terminal is not raw: an end of this line,
				// and not of all.
				buf[0], n, err = keyEOF, 1, nil
			}
			typed := t.filter(buf[:n])
			t.mu.Lock()
			t.typed = append(t.typed, typed[:min(len(typed), maxTyped-len(t.typed))]...)
			t.ended = err != nil
			t.mu.Unlock()
			select {
			case t.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return t
}

// Keys, as a terminal in raw mode sends them.
const (
	keyInterrupt = 0x03 // Ctrl-C
	keyEOF       = 0x04 // Ctrl-D
	keyEnd       = 0x05 // Ctrl-E
	keyKill      = 0x15 // Ctrl-U
)

// filter takes Ctrl-C out of what is typed: it ends the line that runs, or else empties the one that is edited.
func (t *Terminal) filter(b []byte) []byte {
	var out []byte
	for _, c := range b {
		if c != keyInterrupt {
			out = append(out, c)
			continue
		}
		t.mu.Lock()
		onInt := t.onInt
		t.mu.Unlock()
		if onInt == nil || !onInt() {
			out = append(out, keyEnd, keyKill)
		}
	}
	return out
}

func (t *Terminal) interrupted(f func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onInt = f
}

// stands reports whether the terminal is still there.
func (t *Terminal) stands() bool {
	_, err := term.GetState(int(t.in.Fd()))
	return err == nil
}

// begin takes the terminal over.
func (t *Terminal) begin(o Options) (*term.Terminal, error) {
	restore, err := tty.Keep(t.in)
	if err == nil {
		if _, err = term.MakeRaw(int(t.in.Fd())); err != nil {
			restore()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("take the terminal over: %w", err)
	}
	editor := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{t, t.out}, o.Text)
	if o.History != nil {
		editor.History = o.History
	}
	// Until the terminal is as it was nothing else may end the process: those
	// that mean its end do so by the context of the prompt.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	size := func() {
		if width, height, err := term.GetSize(int(t.out.Fd())); err == nil && width > 0 {
			_ = editor.SetSize(width, height)
		}
	}
	size()
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGWINCH {
					size()
				}
			case <-done:
				return
			}
		}
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over, t.keys = make(chan struct{}), keys{}
	t.restore = func() {
		restore()
		signal.Stop(signals)
		close(done)
		watching.Wait()
	}
	return editor, nil
}

// end gives the terminal back as it was.
func (t *Terminal) end() {
	t.mu.Lock()
	restore := t.restore
	t.restore, t.onInt = nil, nil
	t.mu.Unlock()
	if restore != nil {
		restore()
		_, _ = io.WriteString(t.out, "\r\x1b[K") // the prompt that nobody answers
	}
}

// giveUp ends the present reading.
func (t *Terminal) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		close(t.over)
		t.over = nil
	}
}

// errGivenUp is why a read ends that nobody waits for any more.
var errGivenUp = errors.New("nobody reads any more")

// Read returns what is typed, one line at most: those behind it may be for the
// next prompt.
func (t *Terminal) Read(b []byte) (int, error) {
	if len(b) < longestKey {
		return 0, io.ErrShortBuffer
	}
	for {
		t.mu.Lock()
		over := t.over
		n := 0
		for over != nil && len(t.typed) > 0 && n+longestKey <= len(b) {
			key := t.typed[0]
			t.typed = t.typed[1:]
			n = len(t.keys.append(b[:n], key))
			if key == '\r' || key == '\n' {
				break
			}
		}
		ended := t.ended
		t.mu.Unlock()
		switch {
		case over == nil:
			return 0, errGivenUp
		case n > 0:
			return n, nil
		case ended:
			return 0, io.EOF
		}
		select {
		case <-t.more:
		case <-over:
		}
	}
}
