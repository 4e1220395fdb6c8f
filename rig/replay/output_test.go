package replay

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dsoftbus-rig/rig/recording"
)

// newOutput compares with a console and a journal, and hands lines on to told.
func newOutput(console, journal string, told *[]string) *output {
	return &output{
		tell:    func(l Line) { *told = append(*told, fmt.Sprintf("%s %d %s", l.Stream, l.Number, l.Text)) },
		changed: func() {},
		streams: []*stream{{name: recording.ConsoleFile, want: []byte(console)}, {name: recording.JournalFile, want: []byte(journal)}},
	}
}

func TestOutput(t *testing.T) {
	const console, journal = "one\r\ntwo\r\nthree\r\nfour\r\npart", `{"seq":1,"mono_ns":1500000000,"unit":"u","stream":"stdout","text":"ready"}` + "\n"
	for _, tt := range []struct {
		name             string
		console, journal string
		lines            int
		differs          string // "": it is the same
	}{
		{"the same", console, journal, 6, ""},
		{"another line", strings.Replace(console, "four", "fore", 1), journal, 4, "line 4 of the console\n           one\n           two\n           three\nrecorded:  four\nreplayed:  fore"},
		{"another time", console, strings.Replace(journal, "15", "16", 1), 4, "line 1 of the journal\nrecorded:  {"},
		{"a line too few", "one\r\ntwo\r\n", journal, 3, "line 3 of the console\n           one\n           two\nrecorded:  three\nreplayed:  nothing more"},
		{"a line cut off", strings.TrimSuffix(console, "rt"), journal, 5, "line 5 of the console\n           two\n           three\n           four\nrecorded:  part\nreplayed:  pa"},
		{"a line too many", console, journal + "more\n", 5, "line 2 of the journal\n               1.500 [u] ready\nrecorded:  nothing more\nreplayed:  more"},
		{"a line that is longer", console + "ing", journal, 5, "line 5 of the console"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told []string
			o := newOutput(console, journal, &told)
			for i, text := range []string{tt.console, tt.journal} {
				for _, b := range []byte(text) {
					o.feed(o.streams[i], []byte{b})
				}
			}
			err := o.end()
			var differs *DifferenceError
			switch {
			case tt.differs == "" && err != nil || tt.differs != "" && !errors.As(err, &differs):
				t.Fatalf("it ends with %v", err)
			case tt.differs != "" && !strings.Contains(err.Error(), tt.differs):
				t.Errorf("got\n%v\nwant\n%s", err, tt.differs)
			case tt.differs == "" && len(told) != tt.lines:
				t.Errorf("told %q", told)
			}
		})
	}
}

// A machine that goes back prints again what it printed, and nobody is told twice.
func TestRewind(t *testing.T) {
	var told []string
	o := newOutput("one\ntwo\nthree\n", "", &told)
	s := o.streams[0]
	o.feed(s, []byte("one\nt"))
	saved := o.where()
	o.feed(s, []byte("wo\nth"))
	if last := o.lastLines(); len(last) != 2 {
		t.Errorf("the last lines are %v", last)
	}
	o.rewind(saved, false)
	if last := o.lastLines(); len(last) != 1 || last[0].Text != "one" {
		t.Errorf("once it has gone back, the last lines are %v", last)
	}
	o.feed(s, []byte("wo\nthree\n"))
	if err := o.end(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(told, ", "); got != "console 1 one, console 2 two, console 3 three" {
		t.Errorf("told %s", got)
	}
	if s.read != int64(len("one\ntwo\nthwo\nthree\n")) {
		t.Errorf("%d bytes were read", s.read)
	}
	o.rewind([]int{0, 0}, true)
	o.feed(s, []byte("ene\n"))
	if err := o.difference(); err == nil || !strings.Contains(err.Error(), "line 1 of the console\nrecorded:  one\nreplayed:  ene") {
		t.Errorf("from the beginning, another line: %v", err)
	}
}
