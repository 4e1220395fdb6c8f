package webreport

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/record"
)

// Lines of one node that are embedded, the last ones: many where somebody has to find out what happened, few where all went well.
const (
	otherLines = 2000
	greenLines = 300

	mostRaw     = 4 << 20 // bytes of one file's lines that are kept until they are merged
	mostRawLine = 1 << 20 // bytes of one line
)

// A line is what a node printed.
type line struct {
	T      float64 `json:"t"`
	Unit   int     `json:"u"`
	Text   string  `json:"x"`
	Approx bool    `json:"a,omitempty"` // of the console, which has no host's clock: T was found by the node's own
	Stderr bool    `json:"e,omitempty"`
}

// kernel is the unit of what the console says, as events have it.
const kernel = "kernel"

// entry is one line of journal.jsonl.
type entry struct {
	Time time.Time `json:"time"`
	journal.Entry
}

// readLines reads what a node printed, journal and console, merged by time: most lines at the most, the last ones. zero is what T counts from.
func (n *node) readLines(dir string, f record.NodeFiles, zero time.Time, most int) {
	units := map[string]int{}
	unit := func(name string) int {
		i, ok := units[name]
		if !ok {
			i = len(n.Units)
			units[name] = i
			n.Units = append(n.Units, label(name))
		}
		return i
	}
	read := func(p string) (lines []raw, left int) {
		if p == "" {
			return nil, 0
		}
		if !inside(p) {
			n.Notes = append(n.Notes, fmt.Sprintf("%s leads out of the run's folder and was not read", label(p)))
			return nil, 0
		}
		lines, left, err := lastLines(dir, p, most)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			n.Notes = append(n.Notes, fmt.Sprintf("there is no %s in the run's folder", label(p)))
		case err != nil:
			n.Notes = append(n.Notes, label(err.Error()))
		}
		return lines, left
	}

	var printed []line
	var clocks []clock
	entries, left := read(f.Journal)
	n.Left = left
	last := time.Duration(-1)
	for _, r := range entries {
		var e entry
		if err := json.Unmarshal([]byte(r.text), &e); err != nil {
			// The last one of a node that was killed; still somebody may want to see it.
			t := 0.0
			if len(printed) > 0 {
				t = printed[len(printed)-1].T
			}
			printed = append(printed, line{T: t, Unit: unit("?"), Text: short(r.text), Approx: true})
			continue
		}
		t := e.Time.Sub(zero).Seconds()
		if e.Time.IsZero() {
			t = e.Mono.Seconds()
		}
		if e.Mono < last { // it was reset
			clocks = append(clocks, clock{boot: true})
		}
		last = e.Mono
		clocks = append(clocks, clock{mono: e.Mono.Seconds(), t: t})
		text := short(e.Line())
		if e.More {
			text += " …"
		}
		printed = append(printed, line{T: record.Seconds(asDuration(t)), Unit: unit(e.Unit), Text: text, Stderr: e.Stream == "stderr"})
	}

	console, left := read(f.Console)
	n.Left += left
	start := 0.0
	for _, s := range n.States {
		if s.State == record.StateStarting {
			start = s.T
			break
		}
	}
	if len(console) > 0 {
		k := unit(kernel)
		for i, t := range consoleTimes(console, clocks, start) {
			text := short(console[i].text)
			if console[i].more > 0 {
				text += fmt.Sprintf(" … (%d more bytes)", console[i].more)
			}
			printed = append(printed, line{T: t, Unit: k, Text: text, Approx: true})
		}
	}
	slices.SortStableFunc(printed, func(a, b line) int { return cmp.Compare(a.T, b.T) })
	if over := len(printed) - most; over > 0 {
		n.Left += over
		printed = printed[over:]
	}
	if printed != nil {
		n.Lines = printed
	}
}

// A clock is a moment that both a node's monotonic clock and the scenario's have seen; or that the node booted anew.
type clock struct {
	mono, t float64
	boot    bool
}

var stamp = regexp.MustCompile(`^\[ *([0-9]{1,9}\.[0-9]{6})\] `)

// consoleTimes says when lines of the console were printed. Kernels give most of theirs their monotonic clock, which is the journal's, too; the
// journal's entry before it says what that is on the host. Of others all that is known is what they stand between. start is when the node began.
func consoleTimes(lines []raw, clocks []clock, start float64) []float64 {
	boots := [][]clock{nil}
	for _, c := range clocks {
		if c.boot {
			boots = append(boots, nil)
			continue
		}
		boots[len(boots)-1] = append(boots[len(boots)-1], c)
	}
	times := make([]float64, len(lines))
	boot, last, now := 0, 0.0, start
	known := false
	for i, l := range lines {
		if m := stamp.FindStringSubmatch(l.text); m != nil {
			mono, _ := strconv.ParseFloat(m[1], 64) // the expression takes care of it
			if mono+1 < last && boot+1 < len(boots) {
				boot++
			}
			last = mono
			t := start + mono
			if b := boots[boot]; len(b) > 0 {
				at := b[0]
				for _, c := range b {
					if c.mono > mono {
						break
					}
					at = c
				}
				t = at.t + mono - at.mono
			}
			now = max(now, t)
			if boot == 0 && !known {
				now = max(t, 0)
				for j := range i {
					times[j] = now
				}
			}
			known = true
		}
		times[i] = record.Seconds(asDuration(now))
	}
	return times
}

// raw is a line as a file has it, and how many bytes of it were too many.
type raw struct {
	text string
	more int
}

// lastLines returns the last lines of a file below dir, out of which no link leads, and how many there are before them. Neither very many nor very long ones take much memory.
func lastLines(dir, file string, most int) (lines []raw, left int, err error) {
	f, err := os.OpenInRoot(dir, filepath.FromSlash(file))
	if err != nil {
		return nil, 0, fmt.Errorf("read lines: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	var text []byte
	more, bytes := 0, 0
	add := func() {
		lines = append(lines, raw{strings.TrimRight(string(text), "\r\n"), more})
		bytes += len(text)
		text, more = text[:0], 0
		for len(lines) > most || bytes > mostRaw && len(lines) > 1 {
			bytes -= len(lines[0].text)
			lines = lines[1:]
			left++
		}
	}
	for {
		part, err := r.ReadSlice('\n')
		if room := mostRawLine - len(text); len(part) > room {
			more += len(part) - room
			part = part[:room]
		}
		text = append(text, part...)
		switch {
		case err == nil:
			add()
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			if len(text) > 0 {
				add()
			}
			if !errors.Is(err, io.EOF) {
				return lines, left, fmt.Errorf("read lines: %w", err)
			}
			return lines, left, nil
		}
	}
}

func asDuration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// timesOf returns when lines of nodes were printed, in seconds since the
// scenario's start: by node, and by the line as a failure has it, with the
// node's own time in front. Two boots of a node may have printed the same at
// the same time of theirs: it is the later one.
func timesOf(dir string, c *record.ScenarioSummary, zero time.Time) map[string]map[string]float64 {
	if c.Result.Green() {
		return nil
	}
	times := map[string]map[string]float64{}
	for _, n := range c.Nodes {
		if n.Journal == "" || !inside(n.Journal) {
			continue
		}
		lines, _, _ := lastLines(dir, n.Journal, otherLines) // what is missing keeps the node's time, and says so
		of := map[string]float64{}
		for _, l := range lines {
			var e entry
			if json.Unmarshal([]byte(l.text), &e) == nil && !e.Time.IsZero() {
				of[fmt.Sprintf("%.3f [%s] %s", e.Mono.Seconds(), e.Unit, e.Line())] = e.Time.Sub(zero).Seconds()
			}
		}
		times[n.Name] = of
	}
	return times
}

var ownTime = regexp.MustCompile(`^([0-9]{1,9}\.[0-9]{3}) `)

// inScenarioTime has a failure's line of a node begin with the scenario's time
// in place of the node's.
func inScenarioTime(line string, times map[string]float64) string {
	if t, ok := times[line]; ok {
		return fmt.Sprintf("%.3f %s", t, ownTime.ReplaceAllString(line, ""))
	}
	return ownTime.ReplaceAllString(line, "(node's clock: $1) ")
}
