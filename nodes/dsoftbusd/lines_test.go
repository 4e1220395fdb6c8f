package dsoftbusd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines keeps what was printed, one line for each write, and when.
type lines struct {
	mu      sync.Mutex
	all     []line
	cursor  int
	changed chan struct{} // closed, and replaced, at each line
}

type line struct {
	at   time.Time
	text string
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

// Write implements io.Writer. A write that is not one whole line is kept as such, and so noticed by whoever compares.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(p)
	if strings.Count(text, "\n") == 1 && strings.HasSuffix(text, "\n") {
		text = text[:len(text)-1]
	}
	l.all = append(l.all, line{time.Now(), text})
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

// texts gives all lines so far.
func (l *lines) texts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var texts []string
	for _, line := range l.all {
		texts = append(texts, line.text)
	}
	return texts
}

func (l *lines) count(text string) int {
	n := 0
	for _, t := range l.texts() {
		if t == text {
			n++
		}
	}
	return n
}

// wait waits for the next line equal to text, behind the one that the wait before found, and gives when it was printed.
func (l *lines) wait(ctx context.Context, text string) (time.Time, error) {
	for {
		l.mu.Lock()
		for l.cursor < len(l.all) {
			line := l.all[l.cursor]
			l.cursor++
			if line.text == text {
				l.mu.Unlock()
				return line.at, nil
			}
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no line %q: %w; all lines:\n%s", text, ctx.Err(), strings.Join(l.texts(), "\n"))
		}
	}
}

// want fails the test unless the line comes before ctx ends.
func (l *lines) want(ctx context.Context, t testing.TB, text string) time.Time {
	t.Helper()
	at, err := l.wait(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// never fails the test if one of the lines starts like this.
func (l *lines) never(t testing.TB, prefix string) {
	t.Helper()
	if texts := l.texts(); slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, prefix) }) {
		t.Errorf("a line starts with %q:\n%s", prefix, strings.Join(texts, "\n"))
	}
}
