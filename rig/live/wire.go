package live

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
)

// One connection carries one request: a line, a JSON request; the answer is a line, a JSON reply. What follows depends on the method.
const (
	methodStatus   = "status"   // nothing -> Status
	methodDo       = "do"       // doArgs -> nothing; then items: events, and the end. The client's end of its side ends the line
	methodComplete = "complete" // completeArgs -> completion
	methodFollow   = "follow"   // nothing -> nothing; then items: events, and the end
	methodLog      = "log"      // LogQuery -> nothing; then items: lines, and the end
	methodShell    = "shell"    // shellArgs -> nothing; then frames both ways
	methodDial     = "dial"     // dialArgs -> nothing; then bytes both ways, each until that side is closed
	methodPush     = "push"     // copyArgs -> nothing, when it is done
	methodPull     = "pull"     // copyArgs -> nothing, when it is done
	methodQMP      = "qmp"      // qmpArgs -> what QEMU returns
	methodDump     = "dump"     // dumpArgs -> nothing, when it is done
	methodStacks   = "stacks"   // stacksArgs -> stacks
)

// Frames of a shell, in the form of agentapi. The server's are agentapi.FrameStdout, and for the end agentapi.FrameExit, or a reply with an
// error as agentapi.FrameEnd.
const (
	frameInput    = 'i' // what was typed
	frameInputEnd = 'c' // there is no more; a connection that ends without it hangs up
	frameSize     = 'w' // a JSON agentapi.Size
)

type request struct {
	Method string          `json:"method"`
	Args   json.RawMessage `json:"args,omitempty"`
}

type reply struct {
	Error  *Error          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// An item is one line of a stream. The last one has an End; a stream without it was cut off.
type item struct {
	Event json.RawMessage `json:"event,omitempty"` // a record.Event
	Line  *line           `json:"line,omitempty"`
	End   *reply          `json:"end,omitempty"`
}

// line is a console.Line, whose text may be any bytes.
type line struct {
	Seq    int           `json:"seq"`
	Time   time.Time     `json:"time"`
	Guest  time.Duration `json:"guest_ns"`
	Unit   string        `json:"unit"`
	Stream string        `json:"stream"`
	Text   []byte        `json:"text"`
}

func (l *line) console() console.Line {
	return console.Line{Seq: l.Seq, Time: l.Time, Guest: l.Guest, Unit: l.Unit, Stream: l.Stream, Text: string(l.Text)}
}

type doArgs struct {
	Line string `json:"line"`
}

type completeArgs struct {
	Line string `json:"line"`
	Pos  int    `json:"pos"`
}

type completion struct {
	Start int      `json:"start"`
	Words []string `json:"words"`
}

// A LogQuery says which lines of a node are wanted.
type LogQuery struct {
	Node   string `json:"node"`
	From   int    `json:"from,omitempty"`   // the number (Seq) of the first line
	Last   int    `json:"last"`             // how many of those that are there already, the last ones; negative: all
	Source string `json:"source,omitempty"` // SourceConsole, SourceJournal; empty: both
	Unit   string `json:"unit,omitempty"`   // what printed them: "dsoftbusd"; empty: whatever did
	Follow bool   `json:"follow,omitempty"` // go on with those that come, until the scenario has ended
}

// Sources of lines.
const (
	SourceConsole = "console" // the kernel's
	SourceJournal = "journal" // programs'
)

// consoleStream is the stream of lines of the kernel's console.
const consoleStream = "console"

func (q *LogQuery) matches(l console.Line) bool {
	switch {
	case q.Unit != "" && l.Unit != q.Unit:
		return false
	case q.Source == SourceConsole:
		return l.Stream == consoleStream
	case q.Source == SourceJournal:
		return l.Stream != consoleStream
	}
	return true
}

type shellArgs struct {
	Node  string         `json:"node"`
	Shell agentapi.Shell `json:"shell"`
}

type dialArgs struct {
	Node string `json:"node"`
	Port uint16 `json:"port"`
}

type copyArgs struct {
	Node string `json:"node"`
	Src  string `json:"src"`
	Dst  string `json:"dst"`
}

type qmpArgs struct {
	Node      string          `json:"node"`
	Command   string          `json:"command"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

type dumpArgs struct {
	Node string `json:"node"`
	File string `json:"file"`
}

type stacksArgs struct {
	Node    string `json:"node"`
	Program string `json:"program"`
}

type stacks struct {
	Text []byte `json:"text"`
}

// Class says what is meant by an Error.
type Class string

// Classes.
const (
	Failed  Class = "failed"  // it was tried, and went wrong
	Invalid Class = "invalid" // it makes no sense: an unknown node, a line that is none of the language
	Refused Class = "refused" // who asks may not, or has to wait
	Ended   Class = "ended"   // the scenario has ended meanwhile
	Lost    Class = "lost"    // the process of the scenario is gone, nobody knows how far it came
)

// An Error is why a scenario did not do what it was asked. Text is whole sentences or halves of them, with what to do next where that is known.
type Error struct {
	Class Class  `json:"class"`
	Text  string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

func invalid(format string, args ...any) error { return &Error{Invalid, fmt.Sprintf(format, args...)} }

// Bounds.
const (
	maxRequest = 1 << 20  // bytes of a request's line
	maxAnswer  = 64 << 20 // bytes of one line of an answer; stacks of many goroutines are the longest
	maxConns   = 64       // connections that one scenario serves at a time
)

// errTooLong is what readLine returns for a line beyond its bound.
var errTooLong = errors.New("the line is too long")

// readLine reads a line of at most most bytes, without its end. io.EOF says that there was none; a part of one is io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var all []byte
	for {
		part, err := r.ReadSlice('\n')
		all = append(all, part...)
		switch {
		case len(all) > most:
			return nil, errTooLong
		case err == nil:
			return all[:len(all)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(all) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// marshalLine returns v as a JSON line.
func marshalLine(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append(data, '\n'), err
}
