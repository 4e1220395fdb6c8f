package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/recording"
)

func TestParsePoint(t *testing.T) {
	for text, want := range map[string]Point{
		"line:17":         {line: 17},
		"step:5":          {step: 5},
		"12.5s":           {after: 12500 * time.Millisecond},
		"40ms":            {after: 40 * time.Millisecond},
		"instruction:0":   {},
		"instruction:123": {instruction: 123},
	} {
		want.text = text
		if got, err := ParsePoint(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, line := range map[string]string{
		"dsoftbusd: ready": "x dsoftbusd: ready y",
		"/re.dy$/":         "all ready",
		"line: up":         "eth0 line: up",
		"/":                "a/b",
		"a.b(":             "a.b(",
		"12":               "the 12th",
	} {
		got, err := ParsePoint(text)
		if err != nil || !got.Marker() || !got.marker.MatchString(line) || got.marker.MatchString("acb[") {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "line:0", "step:-1", "/(/"} {
		if got, err := ParsePoint(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// Two lives, the second of which begins 10 s after the first.
func TestResolve(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	var lives []*recording.Life
	for i, console := range []string{"boot\nready\n", "boot\nagain\n"} {
		life := &recording.Life{Machine: recording.Machine{Node: "A", Started: start.Add(time.Duration(10*i) * time.Second)}, Dir: filepath.Join(dir, string(rune('1'+i))), Number: i + 1}
		lives = append(lives, life)
		if err := os.Mkdir(life.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{
			recording.ConsoleFile:   console,
			recording.JournalFile:   `{"seq":1,"mono_ns":1,"unit":"u","stream":"stdout","text":"life ` + string(rune('1'+i)) + `"}` + "\n",
			recording.PositionsFile: positionsAt(life.Started, 1, 2, 4),
		} {
			if err := os.WriteFile(life.File(name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := &Scenario{Name: "x/y", Started: start.Add(-time.Second), Steps: []Step{
		{Number: 1, Line: 3, Time: start.Add(-time.Second / 2)}, {Number: 2, Line: 7, Time: start.Add(2500 * time.Millisecond)}, {Number: 3, Line: 9, Time: start.Add(14 * time.Second)},
	}}
	for _, tt := range []struct {
		point string
		life  int
		at    int64
		ends  string // of a marker
	}{
		{"boot", 1, 0, "[5 -1]"},
		{"again", 2, 0, "[11 -1]"},
		{"/life 2/", 2, 0, "[-1 67]"},
		{"step:2", 1, 201, ""},
		{"line:9", 2, 401, ""},
		{"1s", 1, 0, ""},
		{"2.5s", 1, 101, ""},
		{"12.001s", 2, 101, ""},
	} {
		p, err := ParsePoint(tt.point)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Resolve(lives, p)
		if err != nil {
			t.Errorf("%s: %v", tt.point, err)
			continue
		}
		if got.Life.Number != tt.life || got.Instructions != tt.at || got.marker != (tt.ends != "") || got.marker && sprint(got.ends) != tt.ends {
			t.Errorf("%s: %+v in life %d", tt.point, got, got.Life.Number)
		}
	}
	for point, why := range map[string]string{
		"never said": "no such line", "step:4": "no such step", "step:1": "started only 0.500 s after that", "instruction:7": "name one with -life",
	} {
		p, err := ParsePoint(point)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Resolve(lives, p); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %+v, %v", point, got, err)
		}
	}
	for at, want := range map[int64]time.Duration{0: 0, 100: time.Second, 150: 1500 * time.Millisecond, 300: 3 * time.Second, 999: 4 * time.Second} {
		if got, err := TimeAt(lives[0], at); err != nil || got.Sub(start) != want {
			t.Errorf("instruction %d was %s after the start, %v", at, got.Sub(start), err)
		}
	}
	if step, ok := s.StepAt(start.Add(3 * time.Second)); !ok || step.Number != 2 {
		t.Errorf("after 3 s step %+v ran", step)
	}
}

func TestChoose(t *testing.T) {
	a, b, c := &Scenario{Name: "a"}, &Scenario{Name: "b", Failed: true}, &Scenario{Name: "c", Failed: true}
	for _, tt := range []struct {
		all  []*Scenario
		name string
		want *Scenario
		err  string
	}{
		{[]*Scenario{a}, "", a, ""},
		{[]*Scenario{a, b}, "", b, ""},
		{[]*Scenario{a, b, c}, "", nil, "a, b, c; name one with -scenario"},
		{[]*Scenario{a, b, c}, "a", a, ""},
		{[]*Scenario{a}, "b", nil, "there are those of a"},
		{nil, "", nil, "rig run -record"},
	} {
		got, err := Choose(tt.all, tt.name)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q of %d: %v, %v", tt.name, len(tt.all), got, err)
		}
	}
}
