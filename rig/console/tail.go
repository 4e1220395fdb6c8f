package console

import (
	"bytes"
	"sync"
)

// A Tail is a writer that keeps the last Max bytes written to it: the last words
// of a process, for an error text. It may be written to and read concurrently.
type Tail struct {
	Max int // bytes

	mu   sync.Mutex
	kept []byte
}

// Write never fails.
func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - t.Max; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

// String returns what was kept, without white space around it.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
