package dsoftbusd

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// markers prints the contract's lines (section 4), each in one write, and holds back those that strangers could repeat
// without end.
type markers struct {
	mu   sync.Mutex
	w    io.Writer
	last map[string]time.Time // by kind: when a limited marker was printed; the kinds are constants of this package
	once map[string]bool
	rows map[string]*allowance // by kind; there is a fixed number of kinds for each paired peer
}

// allowance is what is left of a row.
type allowance struct {
	left int
	at   time.Time // when left was right
}

// row is how many lines of a kind that paired peers cause are let through at once; then it is one in limitedInterval. It is far
// more than restarts make, and what one that has gone bad can make of the log is bounded.
const row = 64

// limitedInterval is the least time between two limited markers of a kind.
const limitedInterval = time.Second

func newMarkers(w io.Writer) *markers {
	return &markers{w: w, last: make(map[string]time.Time), once: make(map[string]bool), rows: make(map[string]*allowance)}
}

// print prints one line. What peers chose must not be in it unless it was checked to be one line.
func (m *markers) print(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write(fmt.Sprintf(format, args...))
}

// printOnce prints a line the first time only.
func (m *markers) printOnce(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.once[line] {
		m.once[line] = true
		m.write(line)
	}
}

// printLimited prints a line unless one of its kind was printed within the last second. It tells whether it did.
func (m *markers) printLimited(kind, line string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.due(kind) {
		return false
	}
	m.write(line)
	return true
}

// onceASecond says whether something of a kind may be printed: when nothing was within the last second.
func (m *markers) onceASecond(kind string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.due(kind)
}

func (m *markers) due(kind string) bool {
	now := time.Now()
	if last, ok := m.last[kind]; ok && now.Sub(last) < limitedInterval {
		return false
	}
	m.last[kind] = now
	return true
}

// allow says whether something of a kind may be printed: as often as row says at once, then once in limitedInterval.
func (m *markers) allow(kind string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	a := m.rows[kind]
	if a == nil {
		a = &allowance{left: row, at: now}
		m.rows[kind] = a
	}
	if more := now.Sub(a.at) / limitedInterval; more > 0 {
		a.left = min(row, a.left+int(min(more, row)))
		a.at = a.at.Add(more * limitedInterval)
	}
	if a.left == 0 {
		return false
	}
	a.left--
	return true
}

// write ignores errors: there is nobody left to tell.
func (m *markers) write(line string) { io.WriteString(m.w, line+"\n") }
