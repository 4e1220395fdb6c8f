package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/rig/record"
)

// A testEvent is one line of TestJSON's output: what `go tool test2json` documents.
type testEvent struct {
	Time    time.Time
	Action  string   // start, run, output, pass, fail, skip
	Package string   // a scenario's area; the run's name for what belongs to none
	Test    string   `json:",omitempty"` // a scenario; empty: the area as a whole
	Elapsed *float64 `json:",omitempty"` // seconds, of pass, fail and skip
	Output  string   `json:",omitempty"`
}

// TestJSON tells a run as `go test -json` tells tests, while it goes on, for programs that read that: a scenario is a test, its area is the package. Only
// passed and skipped scenarios are no failures. What scenarios do step by step is output of theirs.
//
// Its methods may be called concurrently; none of them waits for the reader but Finish: a goroutine of its own does the writing, from a queue.
type TestJSON struct {
	w      io.Writer
	run    string
	folder string

	mu       sync.Mutex
	tests    map[string]*testCase
	packages []*testPackage
	queue    bytes.Buffer
	closed   bool
	wake     chan struct{} // has room for one: there is something in the queue
	done     chan struct{} // closed when the writer has ended
	err      error         // first error of w, the writer's: nothing is written after it
}

// testCase is a scenario that has begun.
type testCase struct {
	pkg   *testPackage
	name  string
	dir   string      // its folder, relative to the run's
	lines map[int]int // step -> line in the file
	ended bool
}

// testPackage is an area.
type testPackage struct {
	name   string
	began  time.Time
	failed bool
}

// NewTestJSON returns a TestJSON of the run with that name, which writes to w. Finish must be called in the end.
func NewTestJSON(w io.Writer, run string) *TestJSON {
	j := &TestJSON{w: w, run: run, tests: make(map[string]*testCase), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go j.write()
	return j
}

// Folder says where the run is recorded.
func (j *TestJSON) Folder(dir string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.folder = dir
}

// Print tells text of the rig itself.
func (j *TestJSON) Print(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(text) {
		j.output(time.Now(), j.pkg(j.run, time.Now()), "", clean(strings.TrimRight(line, "\n")))
	}
}

// Event tells an event. It has the form of a record's sink.
func (j *TestJSON) Event(e record.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Scenario == "" {
		if e.Host != nil && e.Host.Line != "" {
			j.output(e.Time, j.pkg(j.run, e.Time), "", clean(e.Host.Line))
		}
		if e.Kind == record.KindWarning {
			j.output(e.Time, j.pkg(j.run, e.Time), "", "warning: "+clean(e.Text))
		}
		return
	}
	c := j.tests[e.Scenario]
	if c == nil {
		area, name := path.Split(e.Scenario)
		if area = cmp.Or(strings.TrimSuffix(area, "/"), j.run); area == j.run {
			name = e.Scenario // an area may be called as the run, which has the scenarios without an area
		}
		c = &testCase{pkg: j.pkg(area, e.Time), name: clean(name), dir: folderOf(e), lines: make(map[int]int)}
		j.tests[e.Scenario] = c
		j.put(testEvent{Time: e.Time, Action: "run", Package: c.pkg.name, Test: c.name})
		j.output(e.Time, c.pkg, c.name, "=== RUN   "+c.name)
	}
	switch e.Kind {
	case record.KindScenarioEnd:
		j.end(c, e.Time, e.Result, e.Seconds, e.Text, e.Failure, c.dir)
	case record.KindVerdict: // the test has ended
		j.output(e.Time, c.pkg, "", fmt.Sprintf("%s %s: %s", word(e.Result), clean(e.Scenario), tries(e.Failed, e.Played, e.Failure)))
	case record.KindRecorded: // so has this one
		j.output(e.Time, c.pkg, "", "recorded "+clean(e.Scenario)+": "+clean(record.RecordedText(e.Name, e.Played, j.folder)))
	case record.KindWarning:
		j.output(e.Time, c.pkg, c.name, "    warning: "+clean(e.Text))
	case record.KindStepStart:
		c.lines[e.Step] = e.Line
		fallthrough
	default:
		for _, line := range told(e, c.lines[e.Step], plain) {
			j.output(e.Time, c.pkg, c.name, fmt.Sprintf("    %7.3fs  %s", e.T, line))
		}
	}
}

func plain(_, text string) string { return text }

// end tells the verdict on a test.
func (j *TestJSON) end(c *testCase, at time.Time, r record.Result, seconds float64, text string, f *record.Failure, dir string) {
	if c.ended {
		return
	}
	c.ended = true
	action, shown := "fail", "FAIL"
	switch r {
	case record.Passed:
		action, shown = "pass", "PASS"
	case record.Skipped:
		action, shown = "skip", "SKIP"
	case record.Failed:
	default:
		text = strings.TrimSuffix(string(r)+": "+text, ": ") // the words of tests know no more than failed
	}
	c.pkg.failed = c.pkg.failed || action == "fail"
	if f != nil {
		for _, line := range Block(f, path.Join(j.folder, dir)) {
			j.output(at, c.pkg, c.name, "    "+line)
		}
	}
	if text != "" {
		j.output(at, c.pkg, c.name, "    "+clean(text))
	}
	j.output(at, c.pkg, c.name, fmt.Sprintf("--- %s: %s (%.2fs)", shown, c.name, seconds))
	j.put(testEvent{Time: at, Action: action, Package: c.pkg.name, Test: c.name, Elapsed: &seconds})
}

// pkg returns the package with that name, and tells its start when it is new.
func (j *TestJSON) pkg(name string, at time.Time) *testPackage {
	name = clean(name)
	for _, p := range j.packages {
		if p.name == name {
			return p
		}
	}
	p := &testPackage{name: name, began: at}
	j.packages = append(j.packages, p)
	j.put(testEvent{Time: at, Action: "start", Package: name})
	return p
}

func (j *TestJSON) output(at time.Time, p *testPackage, test, line string) {
	j.put(testEvent{Time: at, Action: "output", Package: p.name, Test: test, Output: line + "\n"})
}

func (j *TestJSON) put(e testEvent) {
	if j.closed {
		return
	}
	enc := json.NewEncoder(&j.queue)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // into memory, of text and numbers
	j.signal()
}

func (j *TestJSON) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Finish tells what became of the run and returns when everything is written, with the first error of writing. What comes after it is not told.
func (j *TestJSON) Finish(s record.Summary) error {
	j.mu.Lock()
	now := time.Now()
	for _, c := range s.Scenarios {
		if t := j.tests[c.Name]; t != nil { // one that was cut off with its worker has no end
			j.end(t, now, c.Result, c.Seconds, c.Message, c.Failure, c.Dir)
		}
	}
	own := j.pkg(j.run, now)
	own.failed = own.failed || s.Failure != nil || s.NotPlayed > 0
	if s.Failure != nil {
		for _, line := range Block(s.Failure, j.folder) {
			j.output(now, own, "", line)
		}
	}
	if text := nothingTested(s); text != "" {
		j.output(now, own, "", text)
	}
	j.output(now, own, "", Count(s))
	for _, p := range j.packages {
		action, shown := "pass", "PASS"
		if p.failed {
			action, shown = "fail", "FAIL"
		}
		j.output(now, p, "", shown)
		seconds := now.Sub(p.began).Seconds()
		j.put(testEvent{Time: now, Action: action, Package: p.name, Elapsed: &seconds})
	}
	j.closed = true
	j.signal()
	j.mu.Unlock()
	<-j.done
	return j.err
}

// write is the writer goroutine. It ends when all is written after Finish has closed the queue.
func (j *TestJSON) write() {
	defer close(j.done)
	for range j.wake {
		j.mu.Lock()
		lines := bytes.Clone(j.queue.Bytes())
		j.queue.Reset()
		closed := j.closed
		j.mu.Unlock()
		if j.err == nil && len(lines) > 0 {
			if _, err := j.w.Write(lines); err != nil {
				j.err = fmt.Errorf("write test events: %w", err)
			}
		}
		if closed {
			return
		}
	}
}
