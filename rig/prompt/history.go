package prompt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// maxHistory is how many lines are kept.
const maxHistory = 1000

// A History is what was typed, in a file of lines, the newest last. It has the form that x/term asks for.
type History struct {
	file string

	mu    sync.Mutex
	lines []string
}

// LoadHistory reads a history; there is none yet when there is no file.
func LoadHistory(file string) (*History, error) {
	h := &History{file: file}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("read what was typed before: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		h.add(strings.TrimRight(line, "\r\n"))
	}
	return h, nil
}

func (h *History) add(line string) {
	line = strings.TrimSpace(line)
	if line == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
}

// Add keeps a line, unless it is the same as the one before.
func (h *History) Add(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(line)
}

// Len returns how many lines there are.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lines)
}

// At returns a line; 0 is the newest.
func (h *History) At(i int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lines[len(h.lines)-1-i]
}

// Save writes the file.
func (h *History) Save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(h.file), 0o755); err != nil {
		return fmt.Errorf("keep what was typed: %w", err)
	}
	data := []byte(strings.Join(h.lines, "\n") + "\n")
	if err := renameio.WriteFile(h.file, data, 0o600, renameio.WithTempDir(filepath.Dir(h.file))); err != nil {
		return fmt.Errorf("keep what was typed: %w", err)
	}
	return nil
}
