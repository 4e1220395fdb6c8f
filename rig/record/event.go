package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Schema is the version of everything this package writes. It changes when a reader of the old form would misunderstand the new
// one; added fields do not change it.
const Schema = 1

// Kind says what an Event reports.
type Kind string

const (
	KindRunStart      Kind = "run-start"      // Name, Total, Host, Seed, Shard
	KindPlan          Kind = "plan"           // Plan: scenarios that will be played next, in the order in which they are listed and shown
	KindScenarioStart Kind = "scenario-start" // File, Of, Dir
	KindPhase         Kind = "phase"          // Name, Seconds: a phase of the scenario that has ended (boot, configure, services, script, teardown, …); with Node: of that node's start (qemu, restore, agent, configure)
	KindSection       Kind = "section"        // Line, Text: a comment line of the script
	KindStepStart     Kind = "step-start"     // Step, Line, Text
	KindOutput        Kind = "output"         // Step, Stream, Text: what a step's program printed, as it comes
	KindStepEnd       Kind = "step-end"       // Step, Seconds, Error, Ignored
	KindMarker        Kind = "marker"         // Step, Node, Unit, Text, Guest: the line of a node that a step matched
	KindNode          Kind = "node"           // Node, State, Text
	KindFault         Kind = "fault"          // Name, State, Node, Text, Count: what was done to a node or the network on purpose
	KindBudget        Kind = "budget"         // Name, Seconds, Limit
	KindHeld          Kind = "held"           // Name, File, Line, Text, Step, Failure: the script stands still and waits for a person
	KindReleased      Kind = "released"       // Name: it goes on
	KindWarning       Kind = "warning"        // Text
	KindScenarioEnd   Kind = "scenario-end"   // Result, Seconds, Failure, Text
	KindVerdict       Kind = "verdict"        // Result, Failed, Played, Failure: what became of a scenario that was played again because it had failed; it replaces the result of its scenario-end
	KindRecorded      Kind = "recorded"       // Name, Played: a scenario that had failed was played again with its machines recorded, until it failed, as Name (none: it did not), or had been played often enough
	KindRunEnd        Kind = "run-end"        // Result, Seconds, Failure
)

// States of a node, in events of KindNode.
const (
	StateStarting = "starting"
	StateReady    = "ready"
	StateDown     = "down"   // taken down by the scenario or at its end
	StateExited   = "exited" // ended by itself
)

// States of a fault, in events of KindFault: asked for by a step, injected, seen to have acted, taken back.
const (
	FaultAsked    = "asked"
	FaultInjected = "injected"
	FaultObserved = "observed"
	FaultHealed   = "healed"
)

// An Event is one line of events.jsonl. Which fields beyond the first six are set depends on the Kind. Text from nodes and programs
// is kept as it came (invalid UTF-8 replaced) and is not safe to print on a terminal without escaping.
type Event struct {
	Schema   int       `json:"schema,omitempty"`   // in a file's first line only
	Seq      int64     `json:"seq"`                // place in the file, from 0
	Time     time.Time `json:"time"`               // host clock, UTC, RFC 3339 with nanoseconds
	T        float64   `json:"t"`                  // seconds since the scenario's start; for the run's own events, since the run's
	Scenario string    `json:"scenario,omitempty"` // "roundtrip/basic"; empty for the run's own events
	Kind     Kind      `json:"kind"`

	Name    string   `json:"name,omitempty"`     // of a run, a phase, a budget; a fault's verb: "pause", "link", …; why a script stands still: "failed", "break", …; how it goes on: "retry", "continue", …
	Total   int      `json:"total,omitempty"`    // how many scenarios the run is to have
	Host    *Host    `json:"host,omitempty"`     // what runs the machines
	Seed    *uint64  `json:"seed,omitempty"`     // what the order was shuffled by
	Shard   *Shard   `json:"shard,omitempty"`    // which part of the selected scenarios the run has; nil: all
	Plan    []string `json:"plan,omitempty"`     // names of scenarios
	File    string   `json:"file,omitempty"`     // the scenario's file
	Of      string   `json:"of,omitempty"`       // the scenario's own name, when this is a further playing of it ("roundtrip/basic@2")
	Dir     string   `json:"dir,omitempty"`      // the scenario's folder, relative to the run's and separated by slashes
	RetryOf string   `json:"retry_of,omitempty"` // the playing that failed, when this is a further try of it
	Failed  int      `json:"failed,omitempty"`   // how many of all tries failed
	Played  int      `json:"played,omitempty"`   // how many tries there were, the first included
	Step    int      `json:"step,omitempty"`     // number of the step in the scenario, from 1
	Line    int      `json:"line,omitempty"`     // line in the scenario's file, from 1
	Text    string   `json:"text,omitempty"`     // the line, output, or message itself
	Cut     int      `json:"cut,omitempty"`      // bytes left out at Text's end, see MaxText
	Stream  string   `json:"stream,omitempty"`   // "stdout", "stderr"
	Node    string   `json:"node,omitempty"`     // "A"
	Unit    string   `json:"unit,omitempty"`     // what printed it on the node: "dsoftbusd", "kernel"
	State   string   `json:"state,omitempty"`    // of a node: starting, ready, down, exited; of a fault: asked, injected, observed, healed
	Count   uint64   `json:"count,omitempty"`    // what a fault has touched until now: frames, or events of a machine
	Guest   float64  `json:"guest,omitempty"`    // the node's own monotonic clock, seconds
	Seconds float64  `json:"seconds,omitempty"`  // how long it took
	Limit   float64  `json:"limit,omitempty"`    // how long it may take, seconds
	Error   string   `json:"error,omitempty"`    // why a step failed
	Typed   bool     `json:"typed,omitempty"`    // the step is a line that a person has typed; Line then counts those
	Ignored bool     `json:"ignored,omitempty"`  // the step was allowed or asked to fail, so Error does not count
	Result  Result   `json:"result,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Host says what runs the machines of a run, and how fast.
type Host struct {
	QEMU     string  `json:"qemu,omitempty"`     // version
	Kernel   string  `json:"kernel,omitempty"`   // release of the kernel in the machines
	Accel    string  `json:"accel,omitempty"`    // "kvm", "tcg"
	Why      string  `json:"why,omitempty"`      // why this acceleration and not a better one
	Slowdown float64 `json:"slowdown,omitempty"` // what deadlines are multiplied by, Crowding included
	Cores    int     `json:"cores,omitempty"`    // processors the run may use
	Jobs     int     `json:"jobs,omitempty"`     // how many scenarios are played side by side
	Crowding float64 `json:"crowding,omitempty"` // how many busy machines share a core then; at least 1
	Line     string  `json:"line,omitempty"`     // the run's first line: the most important of it
	Detail   string  `json:"detail,omitempty"`   // all of it in one line, for -v
}

// A Shard is the part of a suite that a run has, of some parts that together have each scenario once.
type Shard struct {
	Index int    `json:"index"` // from 1
	Of    int    `json:"of"`    // how many parts there are
	Set   string `json:"set"`   // digest of the names of all selected scenarios: equal for the parts of one suite
}

// Limits of one event. What is longer is cut when it is written: the whole text is in the node's console.log and journal.jsonl, and
// an unbounded line would make every reader of events.jsonl hold it in memory.
const (
	MaxText      = 64 << 10 // bytes of Text, Error, and a Failure's Message and Awaited
	MaxTailLine  = 4 << 10  // bytes of one line in a Failure's Tail
	MaxTailLines = 100      // lines in a Failure's Tail, per node: the last ones are kept
	maxLine      = 64 << 20 // bytes of one JSON line; above what the limits give with every byte escaped, for many nodes
)

// Seconds returns d as it is recorded: in seconds, to the microsecond.
func Seconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*1e6) / 1e6
}

// bounded returns e within the limits. It never changes what e points to.
func bounded(e Event) Event {
	if e.Kind == KindWarning {
		e.Text = plainText(e.Text)
	}
	if n := len(e.Text); n > MaxText {
		e.Text = clip(e.Text, MaxText)
		e.Cut += n - len(e.Text)
	}
	e.Error = clip(plainText(e.Error), MaxText)
	if e.Failure != nil {
		f := *e.Failure
		f.Message = clip(plainText(f.Message), MaxText)
		f.Awaited = clip(f.Awaited, MaxText)
		f.Said = clip(f.Said, MaxTailLine)
		f.Text = clip(f.Text, MaxText)
		f.Said, f.Next = clip(f.Said, MaxTailLine), clip(f.Next, MaxText)
		if f.Evidence != nil {
			f.Evidence = slices.Clone(f.Evidence)
			for i := range f.Evidence {
				f.Evidence[i] = clip(f.Evidence[i], MaxTailLine)
			}
		}
		if f.Tail != nil {
			tail := make(map[string][]string, len(f.Tail))
			for node, lines := range f.Tail {
				lines = lines[max(0, len(lines)-MaxTailLines):]
				kept := make([]string, len(lines))
				for i, line := range lines {
					kept[i] = clip(line, MaxTailLine)
				}
				tail[node] = kept
			}
			f.Tail = tail
		}
		e.Failure = &f
	}
	return e
}

// clip returns the first n bytes of s at most, without a part of a character at the end.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func position(file string, line int) string {
	if file == "" || line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// marshalLine returns v as one JSON line. Characters that are special in HTML stay readable.
func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// WriteEvent writes e to w as one JSON line in a single Write, which is how a worker passes its events on to its parent over a pipe.
func WriteEvent(w io.Writer, e Event) error {
	line, err := marshalLine(bounded(e))
	if err != nil {
		return fmt.Errorf("encode %s event: %w", e.Kind, err)
	}
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write %s event: %w", e.Kind, err)
	}
	return nil
}

// ErrTruncated is what Reader.Next returns for a last line without its end: the writer was killed, or is still writing.
var ErrTruncated = errors.New("the last line is incomplete")

// A Reader reads events, from a file or a pipe.
type Reader struct {
	r    *bufio.Reader
	line int
	max  int // bytes of one line
}

// NewReader returns a Reader of the JSON lines in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), max: maxLine}
}

// Next returns the next event. At the end it returns io.EOF, or ErrTruncated when the last line is incomplete; a line that is no event
// is an error that names the line's number.
func (r *Reader) Next() (Event, error) {
	var line []byte
	for {
		part, err := r.r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(line) > r.max {
				return Event{}, fmt.Errorf("line %d: longer than %d bytes: not an event", r.line+1, r.max)
			}
			continue
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return Event{}, ErrTruncated
		}
		return Event{}, err
	}
	r.line++
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("line %d: not an event: %w", r.line, err)
	}
	if (r.line == 1 || e.Schema != 0) && e.Schema != Schema {
		return Event{}, fmt.Errorf("line %d: %w", r.line, &SchemaError{Found: e.Schema})
	}
	return e, nil
}

// A SchemaError is a record in a form this program does not read.
type SchemaError struct {
	Found int
}

func (e *SchemaError) Error() string {
	if e.Found == 0 {
		return "no record of a run: it names no schema"
	}
	return fmt.Sprintf("schema %d, but this program reads schema %d: read it with the version that wrote it", e.Found, Schema)
}
