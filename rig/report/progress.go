package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"dsoftbus-rig/rig/record"
)

// Options say how progress is shown.
type Options struct {
	Live    bool       // the writer is a terminal: keep a status line at its end
	Width   func() int // columns of the terminal, asked at every redraw, so that a resize is followed; nil or a result below 1: 80
	Color   bool
	Verbose bool // also every step, marker, phase and state of a node
	Shell   bool // somebody is at a prompt: that they stepped in, or ended it, is no verdict
}

// Detect returns the options that suit a file: a status line and colours on a terminal only, no colours when NO_COLOR is set, neither on a
// terminal that knows no control sequences (TERM=dumb).
func Detect(f *os.File, getenv func(string) string) Options {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) || getenv("TERM") == "dumb" {
		return Options{}
	}
	return Options{
		Live:  true,
		Color: getenv("NO_COLOR") == "",
		Width: func() int {
			width, _, err := term.GetSize(fd)
			if err != nil {
				return 0
			}
			return width
		},
	}
}

// Intervals of the status line.
const (
	tick    = 200 * time.Millisecond // how soon a change shows that no event brought: time, width
	atLeast = 50 * time.Millisecond  // between two redraws for events, so that a flood of them costs little
)

// Progress shows a run while it goes on. Its methods may be called concurrently; none of them waits for the terminal but Finish.
//
// Scenarios are shown in the order of the plan, whichever ends first; what of one would get in between waits until it is its turn. Those that
// no plan names are shown as they go.
//
// A goroutine of its own does the writing, from a queue: a terminal that is held (Ctrl-S) holds up neither the run nor its machines.
type Progress struct {
	w io.Writer
	o Options

	mu     sync.Mutex
	queue  []item
	closed bool
	wake   chan struct{} // has room for one: there is something in the queue
	done   chan struct{} // closed when the writer has ended

	// The rest belongs to the writer goroutine.
	folder  string
	host    string
	planned int
	started int
	bad     int
	running []*running
	waiting []*place     // of the plan, from the first that has not ended
	out     bytes.Buffer // lines to be printed above the status line
	shown   string       // the status line on the terminal
	drawn   time.Time    // when it was drawn
	err     error        // first error of w: nothing is written after it
}

// item is one thing for the writer: an event, text, the run's folder, a question how far it is, or the end.
type item struct {
	event   *record.Event
	text    string
	folder  string
	summary *record.Summary
	written chan<- struct{} // closed when all before it is written
}

// A place is that of a scenario in the plan's order. Until all before it have ended, what there is to say of it waits there.
type place struct {
	name  string // as recorded
	ended bool
	out   bytes.Buffer
}

// running is a scenario that is under way.
type running struct {
	name    string
	dir     string // its folder, relative to the run's
	since   time.Time
	section string
	step    string
	lines   map[int]int     // step -> line in the file
	retry   bool            // it is a further try of one that failed, which was counted
	shown   *record.Failure // the last one that was shown when it stood still
	held    bool            // it stands still for a person, who has the terminal's last line
}

// NewProgress returns a Progress that writes to w. Finish must be called in the end.
func NewProgress(w io.Writer, o Options) *Progress {
	p := &Progress{w: w, o: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go p.write()
	return p
}

// Event shows an event. It has the form of a record's sink.
func (p *Progress) Event(e record.Event) { p.put(item{event: &e}) }

// Print shows text of the rig itself on lines of its own.
func (p *Progress) Print(text string) { p.put(item{text: text}) }

// Folder says where the run is recorded, for the failures and the end.
func (p *Progress) Folder(dir string) { p.put(item{folder: dir}) }

// Finish shows what became of the run and returns when everything is written, with the first error of writing. What comes after it is
// not shown.
func (p *Progress) Finish(s record.Summary) error {
	p.mu.Lock()
	if !p.closed {
		p.queue = append(p.queue, item{summary: &s})
		p.closed = true
		p.signal()
	}
	p.mu.Unlock()
	<-p.done
	return p.err
}

// Flush returns when all is written that was to be shown until now. A scenario that stands still then has no status line.
func (p *Progress) Flush() {
	written := make(chan struct{})
	p.put(item{written: written})
	select {
	case <-written:
	case <-p.done:
	}
}

func (p *Progress) put(it item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, it)
	p.signal()
}

func (p *Progress) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write is the writer goroutine. It ends after the item that Finish put.
func (p *Progress) write() {
	defer close(p.done)
	var ticks <-chan time.Time
	if p.o.Live {
		t := time.NewTicker(tick)
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-p.wake:
		case <-ticks:
			p.flush(true)
			continue
		}
		p.mu.Lock()
		items := p.queue
		p.queue = nil
		p.mu.Unlock()
		for _, it := range items {
			switch {
			case it.event != nil:
				p.event(*it.event)
			case it.summary != nil:
				p.running = nil
				p.settle()
				p.end(*it.summary)
				p.flush(true)
				return
			case it.folder != "":
				p.folder = it.folder
			case it.written != nil:
				p.flush(true)
				close(it.written)
			default:
				for line := range strings.Lines(it.text) {
					p.line("%s", clean(strings.TrimRight(line, "\n")))
				}
			}
		}
		p.flush(time.Since(p.drawn) >= atLeast)
	}
}

// flush writes the lines that wait, above the status line, and draws that again if it was in their way, or if redraw is set and it has
// changed. All of it is one write, so that the terminal never shows half of it.
func (p *Progress) flush(redraw bool) {
	var b bytes.Buffer
	shown := p.shown
	if p.out.Len() > 0 {
		if shown != "" {
			b.WriteString(clearLine)
			shown = ""
		}
		b.Write(p.out.Bytes())
		p.out.Reset()
		redraw = true
	}
	if p.o.Live && redraw {
		if status := p.status(); status != shown {
			if shown != "" {
				b.WriteString(clearLine)
			}
			b.WriteString(status)
			shown = status
			p.drawn = time.Now()
		}
	}
	p.shown = shown
	if b.Len() == 0 || p.err != nil {
		return
	}
	if _, err := p.w.Write(b.Bytes()); err != nil {
		p.err = fmt.Errorf("write progress: %w", err)
	}
}

// clearLine goes to the start of the line and erases it (ECMA-48: EL).
const clearLine = "\r\x1b[K"

// status returns the status line: it leaves the last column free, since some terminals wrap as soon as that is written.
func (p *Progress) status() string {
	if len(p.running) == 0 || slices.ContainsFunc(p.running, func(r *running) bool { return r.held }) {
		return ""
	}
	columns := 80
	if p.o.Width != nil {
		if w := p.o.Width(); w > 0 {
			columns = w
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%d/%d", p.started, max(p.planned, p.started))
	if p.bad > 0 {
		fmt.Fprintf(&b, ", %d not green", p.bad)
	}
	b.WriteString("]")
	for i, r := range p.running {
		if i > 0 {
			b.WriteString(" |")
		}
		fmt.Fprintf(&b, " %s %s", r.name, time.Since(r.since).Truncate(time.Second))
		if r.section != "" {
			// A long comment must leave room for the step.
			fmt.Fprintf(&b, " # %s", shorten(r.section, columns/3))
		}
		if r.step != "" {
			fmt.Fprintf(&b, " > %s", r.step)
		}
	}
	return shorten(b.String(), columns-1)
}

// line prints a line. What goes into it must be clean.
func (p *Progress) line(format string, args ...any) { write(&p.out, format, args...) }

func write(out *bytes.Buffer, format string, args ...any) {
	fmt.Fprintf(out, format, args...)
	out.WriteByte('\n')
}

// of returns where lines of a scenario go: to its place in the plan when others before it have not ended, else out at once.
func (p *Progress) of(scenario string) *bytes.Buffer {
	i := slices.IndexFunc(p.waiting, func(w *place) bool { return w.name == scenario })
	if i <= 0 {
		return &p.out
	}
	return &p.waiting[i].out
}

// ended notes that a scenario has ended and prints what waited for that.
func (p *Progress) ended(scenario string) {
	i := slices.IndexFunc(p.waiting, func(w *place) bool { return w.name == scenario })
	if i < 0 {
		return
	}
	p.waiting[i].ended = true
	for len(p.waiting) > 0 && p.waiting[0].ended {
		p.waiting = p.waiting[1:]
		if len(p.waiting) > 0 {
			p.show(p.waiting[0])
		}
	}
}

// settle prints all that still waits: the scenarios it waits for will not come any more.
func (p *Progress) settle() {
	for _, w := range p.waiting {
		p.show(w)
	}
	p.waiting = nil
}

// show prints what waited at a place.
func (p *Progress) show(w *place) {
	p.out.Write(w.out.Bytes())
	w.out = bytes.Buffer{}
}

func (p *Progress) event(e record.Event) {
	if e.Host != nil && e.Host.Line != "" && e.Host.Line != p.host {
		p.host = e.Host.Line
		p.line("%s", clean(p.host))
		if p.o.Verbose && e.Host.Detail != "" {
			p.line("%s", clean(e.Host.Detail))
		}
	}
	if e.Scenario == "" {
		switch e.Kind {
		case record.KindRunStart:
			p.planned = e.Total
		case record.KindPlan:
			for _, name := range e.Plan {
				p.waiting = append(p.waiting, &place{name: name})
			}
		case record.KindWarning:
			p.line("%s %s", p.color(yellow, "warning:"), clean(e.Text))
		}
		return
	}
	switch e.Kind {
	case record.KindScenarioStart:
		if e.RetryOf == "" {
			p.started++
		}
		p.running = append(p.running, &running{name: clean(e.Scenario), dir: folderOf(e), since: time.Now(), lines: make(map[int]int), retry: e.RetryOf != ""})
	case record.KindScenarioEnd:
		p.verdict(e)
		return
	case record.KindVerdict:
		p.line("%s %s: %s", p.color(colorOf(e.Result), word(e.Result)), clean(e.Scenario), tries(e.Failed, e.Played, e.Failure))
		return
	case record.KindRecorded:
		p.line("recorded %s: %s", clean(e.Scenario), clean(record.RecordedText(e.Name, e.Played, p.folder)))
		return
	case record.KindWarning:
		write(p.of(e.Scenario), "%s %s: %s", p.color(yellow, "warning:"), clean(e.Scenario), clean(e.Text))
		return
	}
	i := slices.IndexFunc(p.running, func(r *running) bool { return r.name == clean(e.Scenario) })
	if i < 0 {
		return
	}
	r := p.running[i]
	if e.Typed {
		// On a terminal whoever typed it sees what comes of it; elsewhere it came from another one.
		if p.o.Verbose && !p.o.Live {
			p.verbose(r, e)
		}
		return
	}
	switch e.Kind {
	case record.KindHeld:
		r.held = true
		r.shown = e.Failure
		p.stands(e, r.dir)
		return
	case record.KindReleased:
		r.held = false
	case record.KindSection:
		r.section, r.step = clean(e.Text), ""
	case record.KindStepStart:
		r.step = clean(e.Text)
		r.lines[e.Step] = e.Line
	}
	if p.o.Verbose {
		p.verbose(r, e)
	}
}

// verbose prints one line for an event of a running scenario: its name, the time since its start, what happened.
func (p *Progress) verbose(r *running, e record.Event) {
	out := p.of(e.Scenario)
	for _, line := range told(e, r.lines[e.Step], p.color) {
		write(out, "%s %7.3fs  %s", p.color(dim, r.name), e.T, line)
	}
}

// folderOf returns the folder of an event's scenario, as its start says; records of earlier versions do not say it.
func folderOf(e record.Event) string { return cmp.Or(e.Dir, record.ScenarioDir(e.Scenario)) }

// stands shows where and why a scenario stands still.
func (p *Progress) stands(e record.Event, dir string) {
	held := p.color(yellow, "HELD") + " " + clean(e.Scenario)
	if e.Line == 0 {
		p.line("%s at its %s", held, clean(e.Name))
		return
	}
	if e.Failure != nil { // which says where
		p.line("%s, %s", held, clean(e.Name))
		p.box(e.Failure, path.Join(p.folder, dir))
		return
	}
	p.line("%s, %s at %s:%d: %s", held, clean(e.Name), clean(e.File), e.Line, shorten(clean(e.Text), lineCells))
}

// verdict prints the line of a scenario that has ended, and its failure, in its place. A failure does not wait for that: it is shown at once,
// and in its place is the line alone, so that whoever watches knows soon and whoever reads finds all verdicts in order.
func (p *Progress) verdict(e record.Event) {
	name := clean(e.Scenario)
	retry, artifacts := false, path.Join(p.folder, folderOf(e))
	var shown *record.Failure
	if i := slices.IndexFunc(p.running, func(r *running) bool { return r.name == name }); i >= 0 {
		retry, artifacts, shown = p.running[i].retry, path.Join(p.folder, p.running[i].dir), p.running[i].shown
	}
	p.running = slices.DeleteFunc(p.running, func(r *running) bool { return r.name == name })
	if !e.Result.Green() && !retry {
		p.bad++
	}
	if p.o.Shell && typedAway(e.Result) {
		p.ended(e.Scenario)
		return
	}
	text := clean(e.Text)
	if text != "" {
		text = ": " + text
	}
	line := fmt.Sprintf("%s %s %s%s", p.color(colorOf(e.Result), word(e.Result)), name, duration(e.Seconds), text)
	switch out := p.of(e.Scenario); {
	case e.Failure == nil:
		write(out, "%s", line)
	case same(e.Failure, shown):
		write(out, "%s (shown above)", line)
	case out == &p.out:
		p.line("%s", line)
		p.box(e.Failure, artifacts)
	default:
		p.line("ahead of its turn: %s", line)
		p.box(e.Failure, artifacts)
		write(out, "%s (shown above)", line)
	}
	p.ended(e.Scenario)
}

// same reports whether two failures are the same one, whose block is shown once.
func same(a, b *record.Failure) bool {
	return a != nil && b != nil && a.Reason == b.Reason && a.Step == b.Step && a.Line == b.Line && a.Message == b.Message && a.Headline() == b.Headline()
}

// typedAway says whether a result says no more than that a person was there.
func typedAway(r record.Result) bool { return r == record.Repaired || r == record.Interrupted }

func (p *Progress) box(f *record.Failure, artifacts string) {
	for _, line := range Block(f, artifacts) {
		p.line("  %s %s", p.color(red, "|"), line)
	}
}

// end prints the last lines. The very last is the count alone, for scripts and eyes that look for it.
func (p *Progress) end(s record.Summary) {
	if s.Failure != nil {
		p.line("%s", p.color(red, word(s.Failure.Reason.Info().Result)))
		p.box(s.Failure, p.folder)
	}
	others := make(map[record.Result][]string)
	for _, c := range s.Scenarios {
		if c.RetryOf == "" && !c.Result.Green() {
			others[c.Result] = append(others[c.Result], clean(c.Name))
		}
	}
	where := ""
	if p.folder != "" {
		where = ", record in " + clean(p.folder)
	}
	if p.o.Shell && s.Failure == nil && typedAway(s.Result) {
		p.line("total %s%s", duration(s.Seconds), where)
		return
	}
	for _, r := range sortedKeys(others) {
		p.line("%s: %s", clean(string(r)), strings.Join(others[r], " "))
	}
	if where != "" && (len(others) > 0 || s.Failure != nil) {
		p.line("what broke, as a page to look at: rig report %s", clean(p.folder))
	}
	p.line("total %s%s", duration(s.Seconds), where)
	if text := nothingTested(s); text != "" {
		p.line("%s", p.color(yellow, text))
	}
	p.line("%s", Count(s))
}

// SGR sequences (ECMA-48).
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	reset  = "\x1b[m"
)

func colorOf(r record.Result) string {
	switch r {
	case record.Passed:
		return green
	case record.Skipped, record.Interrupted:
		return yellow
	}
	return red
}

func (p *Progress) color(c, text string) string {
	if !p.o.Color {
		return text
	}
	return c + text + reset
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
