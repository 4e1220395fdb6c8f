// Package prompt is a person's side of a scenario that stands still: it reads lines, from a terminal with history and completion or from a
// pipe, gives each to the scenario, and shows what comes of it.
//
// It owns the terminal while it runs, and leaves it as it was. What a line means it does not know, but for `follow`, which is about what is shown.
package prompt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// A Scenario is what lines are given to. Its methods may be called concurrently.
type Scenario interface {
	// Do runs one line and returns when it is done; tell gets its events as they come. ctx ends the line only.
	Do(ctx context.Context, line string, tell func(record.Event)) error

	// Complete returns what the word at byte pos of a line can become, and the byte where that word starts.
	Complete(ctx context.Context, line string, pos int) (start int, words []string, err error)

	// Lines passes on what a node prints from now on, until ctx ends or the scenario has.
	Lines(ctx context.Context, node string, tell func(console.Line)) error

	// Nodes returns the names of all nodes.
	Nodes(ctx context.Context) ([]string, error)
}

// Options say how a prompt looks.
type Options struct {
	Text    string          // what it is called: "A+B> "
	Color   bool            // errors in red
	History *History        // what was typed before; nil: nothing is kept
	Moves   []string        // commands after which the scenario goes on, so that Over is awaited
	Over    <-chan struct{} // closed when nobody is asked any more: the scenario went on or is gone
}

// ErrOver is why Run ends when Options.Over is closed.
var ErrOver = errors.New("the scenario went on")

// A Prompt is one that runs.
type Prompt struct {
	s   Scenario
	o   Options
	out io.Writer // whole lines with "\n"; safe for concurrent use

	mu     sync.Mutex
	cancel context.CancelFunc // of the line that runs; nil while none does

	follow  context.CancelFunc // ends the following of nodes; nil: none is followed
	readers sync.WaitGroup
}

// Run asks for lines on a terminal, which in is one of, until there are no more (the terminal's end, Ctrl-D), ctx ends, or Options.Over is closed:
// its error is then nil, the cause of ctx, or ErrOver. A line that fails is shown and ends nothing.
func Run(ctx context.Context, t *Terminal, s Scenario, o Options) error {
	editor, err := t.begin(o)
	if err != nil {
		return err
	}
	defer t.end()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p := &Prompt{s: s, o: o, out: editor}
	defer p.unfollow()
	editor.AutoCompleteCallback = p.completer(ctx)
	t.interrupted(p.interrupt)
	defer context.AfterFunc(ctx, t.giveUp)()
	if o.Over != nil {
		var watching sync.WaitGroup
		defer watching.Wait()
		watching.Go(func() {
			select {
			case <-o.Over:
				p.interrupt()
				t.giveUp()
			case <-ctx.Done():
			}
		})
		defer stop()
	}
	for {
		line, err := editor.ReadLine()
		select {
		case <-o.Over:
			return ErrOver
		default:
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, errPasted) {
			return fmt.Errorf("read from the terminal: %w", err)
		}
		_ = p.line(ctx, line)
	}
}

// Lines are those of a pipe or a file, for as long as the program runs: what is left of them when a scenario goes on is for the next prompt.
type Lines struct {
	out   io.Writer
	lines chan string
	err   error // valid when lines is closed
}

// NewLines returns the lines of in, which it reads from here on; what comes of them is shown on out.
func NewLines(in io.Reader, out io.Writer) *Lines {
	l := &Lines{out: &lockedWriter{w: out}, lines: make(chan string)}
	go func() { // ends with the input, or with the process: a read of a pipe cannot be given up
		defer close(l.lines)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			l.lines <- scanner.Text()
		}
		l.err = scanner.Err()
	}()
	return l
}

// maxLine bounds a line of a pipe, in bytes.
const maxLine = 1 << 20

// RunLines does for lines what Run does for a terminal. Its error is that of the first line that failed, in which case no further one is run.
func RunLines(ctx context.Context, l *Lines, s Scenario, o Options) error {
	p := &Prompt{s: s, o: o, out: l.out}
	defer p.unfollow()
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				return l.err
			}
			if err := p.line(ctx, line); err != nil {
				return err
			}
		case <-o.Over:
			return ErrOver
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// A line that lets the scenario go on is the last for this prompt.
		select {
		case <-o.Over:
			return ErrOver
		default:
		}
	}
}

// line runs one line and shows what comes of it.
func (p *Prompt) line(ctx context.Context, line string) error {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	if words[0] == "follow" {
		return p.show(p.startFollowing(ctx, words[1:]))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.running(cancel)
	defer p.running(nil)
	err := p.s.Do(ctx, line, p.event)
	if err != nil && ctx.Err() != nil {
		p.print(p.red("interrupted") + "\n")
		return err
	}
	if err == nil && words[0] == "help" && len(words) == 1 {
		p.print("Here, too: `follow` shows what nodes print as they print it (`follow NODE…` of some), `follow off` ends that.\n")
	}
	if err == nil && slices.Contains(p.o.Moves, words[0]) {
		select {
		case <-p.o.Over:
		case <-ctx.Done():
		}
	}
	return p.show(err)
}

// running notes what ends the line that runs.
func (p *Prompt) running(cancel context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = cancel
}

// interrupt ends the line that runs, and says whether one does.
func (p *Prompt) interrupt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil {
		return false
	}
	p.cancel()
	return true
}

func (p *Prompt) show(err error) error {
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			p.print(p.red(console.Clean(strings.TrimRight(line, "\n"))) + "\n")
		}
	}
	return err
}

// event shows what a line makes happen. How it ends, its error says.
func (p *Prompt) event(e record.Event) {
	switch e.Kind {
	case record.KindOutput:
		p.lines(e.Text, map[string]string{"stderr": "! ", "note": "# "}[e.Stream])
	case record.KindMarker:
		p.print(fmt.Sprintf("%s %.3f [%s] %s\n", console.Clean(e.Node), e.Guest, console.Clean(e.Unit), console.Clean(e.Text)))
	}
}

// lines prints text, of which every line begins with a sign.
func (p *Prompt) lines(text, sign string) {
	for line := range strings.Lines(text) {
		p.print(sign + console.Clean(strings.TrimRight(line, "\r\n")) + "\n")
	}
}

// print writes whole lines. Nobody can be told of a terminal that is gone; it ends the reading of lines, too.
func (p *Prompt) print(s string) { _, _ = io.WriteString(p.out, s) }

func (p *Prompt) red(s string) string {
	if !p.o.Color {
		return s
	}
	return "\x1b[31m" + s + "\x1b[m"
}

// startFollowing has what nodes print shown as it comes: of all without names, of none for "off".
func (p *Prompt) startFollowing(ctx context.Context, names []string) error {
	all, err := p.s.Nodes(ctx)
	if err != nil {
		return err
	}
	off := len(names) == 1 && names[0] == "off"
	for _, name := range names {
		if !off && !slices.Contains(all, name) {
			return fmt.Errorf("follow: there is no node %q; there are %s, and `follow off` ends it", name, strings.Join(all, ", "))
		}
	}
	p.unfollow()
	if off {
		return nil
	}
	if len(names) == 0 {
		names = all
	}
	ctx, p.follow = context.WithCancel(ctx)
	for _, name := range names {
		p.readers.Go(func() {
			err := p.s.Lines(ctx, name, func(l console.Line) {
				p.print(fmt.Sprintf("%s %.3f [%s] %s\n", name, l.Guest.Seconds(), console.Clean(l.Unit), console.Clean(l.Text)))
			})
			if err != nil && ctx.Err() == nil {
				p.print(p.red(fmt.Sprintf("follow %s: %v", name, err)) + "\n")
			}
		})
	}
	return nil
}

// unfollow ends the following, and waits until nothing more is shown.
func (p *Prompt) unfollow() {
	if p.follow != nil {
		p.follow()
		p.follow = nil
	}
	p.readers.Wait()
}

// lockedWriter is a writer for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
