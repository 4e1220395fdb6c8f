package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"dsoftbus-rig/rig/recording"
)

// A Point says where a replay is to stop, as a person writes it:
//
//	dsoftbusd: ready       the first line of the machine that has this text in it
//	/session ok node-.$/   the first line that matches
//	line:17, step:5        where the machine was when that line of the script, or step, began
//	12.5s                  where it was that long after the scenario's start
//	instruction:123456     after so many instructions
type Point struct {
	text        string // as it was written
	marker      *regexp.Regexp
	step, line  int
	after       time.Duration
	instruction int64
}

// String is the point as it was written.
func (p Point) String() string { return p.text }

// Marker reports whether it is a line of the machine.
func (p Point) Marker() bool { return p.marker != nil }

// A time has its unit, and nothing else that a marker could be.
var duration = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(ms|s|m)$`)

// ParsePoint reads a point.
func ParsePoint(text string) (p Point, err error) {
	p.text = text
	word, number, _ := strings.Cut(text, ":")
	switch {
	case text == "":
		return p, errors.New("a point is a marker, /regexp/, line:N, step:N, a time such as 12.5s, or instruction:N")
	case len(text) > 2 && text[0] == '/' && text[len(text)-1] == '/':
		p.marker, err = regexp.Compile(text[1 : len(text)-1])
		return p, err
	case duration.MatchString(text):
		p.after, err = time.ParseDuration(text)
		return p, err
	case word == "line" || word == "step" || word == "instruction":
		n, err := strconv.ParseInt(number, 10, 63)
		if err != nil {
			break // it is a marker
		}
		switch word {
		case "line":
			p.line = int(n)
		case "step":
			p.step = int(n)
		default:
			p.instruction = n
			return p, nil
		}
		if n < 1 {
			return p, fmt.Errorf("%s: they are counted from 1", text)
		}
		return p, nil
	}
	p.marker = regexp.MustCompile(regexp.QuoteMeta(text))
	return p, nil
}

// A NoPointError says that a point does not lie in what was recorded.
type NoPointError struct {
	Point string
	Why   string
}

func (e *NoPointError) Error() string { return fmt.Sprintf("%s: %s", e.Point, e.Why) }

// A Target is a point in one life.
type Target struct {
	Life         *recording.Life
	Instructions int64 // of a marker: not known before it was found
	marker       bool
	ends         []int // of a marker: where, in each stream, the first line that matches ends; -1: there is none
}

// Resolve returns in which of a node's lives a point lies: of a marker, the first one that printed such a line; of a step or time, the one of that moment.
func (s *Scenario) Resolve(lives []*recording.Life, p Point) (*Target, error) {
	if p.marker != nil {
		for _, life := range lives {
			t := &Target{Life: life, marker: true}
			found := false
			for _, name := range []string{recording.ConsoleFile, recording.JournalFile} {
				end, err := matchIn(life, name, p.marker)
				if err != nil {
					return nil, err
				}
				t.ends = append(t.ends, end)
				found = found || end >= 0
			}
			if found {
				return t, nil
			}
		}
		return nil, &NoPointError{p.text, "no such line was recorded of this node; console.log and journal.jsonl of the record have all there are"}
	}
	if p.step == 0 && p.line == 0 && p.after == 0 {
		if len(lives) > 1 {
			return nil, &NoPointError{p.text, fmt.Sprintf("instructions are counted from the start of each of the node's %d lives; name one with -life", len(lives))}
		}
		return &Target{Life: lives[0], Instructions: p.instruction}, nil
	}
	at := s.Started.Add(p.after)
	if p.step > 0 || p.line > 0 {
		step, ok := s.step(p)
		if !ok {
			return nil, &NoPointError{p.text, "no such step was begun"}
		}
		at = step.Time
	}
	for i := len(lives) - 1; i >= 0; i-- {
		instructions, begun, err := positionAt(lives[i], at)
		if err != nil {
			return nil, err
		}
		if begun {
			return &Target{Life: lives[i], Instructions: instructions}, nil
		}
	}
	return nil, &NoPointError{p.text, fmt.Sprintf("the machine was started only %.3f s after that", lives[0].Started.Sub(at).Seconds())}
}

func (s *Scenario) step(p Point) (Step, bool) {
	for _, step := range s.Steps {
		if p.step > 0 && step.Number == p.step || p.line > 0 && step.Line == p.line {
			return step, true
		}
	}
	return Step{}, false
}

// matchIn returns where the first line of a stream that matches ends; -1 when there is none.
func matchIn(life *recording.Life, stream string, marker *regexp.Regexp) (int, error) {
	all, err := os.ReadFile(life.File(stream))
	if err != nil {
		return 0, err
	}
	at, number := 0, 0
	for raw := range bytes.Lines(all) {
		at += len(raw)
		number++
		if marker.MatchString(newLine(stream, number, raw).Text) {
			return at, nil
		}
	}
	return -1, nil
}

// reached reports whether a marker's line is there.
func (t *Target) reached(p *Player) bool {
	for i, at := range p.out.where() {
		if t.ends[i] >= 0 && at >= t.ends[i] {
			return true
		}
	}
	return false
}

// GoTo replays to a point, of this player's life, with states along the way kept if whoever looks at it there wants to go back. The machine stands there: at a marker, after the very instruction that made its line whole.
func (p *Player) GoTo(ctx context.Context, t *Target, keep bool) error {
	if !t.marker {
		return p.runKeeping(ctx, t.Instructions, keep)
	}
	h := FindMarker(t)
	h.Keep = keep
	_, err := p.Find(ctx, h)
	return err
}
