package history

import (
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/record"
)

// played are playings of one scenario, a minute apart, by signs of their results, each at commit "c".
func played(row string) (all []Playing) {
	for i, c := range []byte(row) {
		p := Playing{Scenario: "a/b", Revision: "c", Started: began.Add(time.Duration(i) * time.Minute), Seconds: 2, Accel: "tcg", Slowdown: 4, Jobs: 2}
		for r, s := range signs {
			if s == c {
				p.Result = r
			}
		}
		all = append(all, p)
	}
	return all
}

func TestWhatAFailureIs(t *testing.T) {
	tests := []struct {
		before string
		kind   NoteKind
		text   string
	}{
		{"", NewFailure, "nothing is known of it before"},
		{"ssi", NewFailure, "nothing is known of it before"},
		{strings.Repeat(".", 36), NewFailure, "fails for the first time in 37 playings"},
		{strings.Repeat(".", 60), NewFailure, "fails for the first time in 61 playings"},
		{"F" + strings.Repeat(".", 60), NewFailure, "fails after 40 playings that passed"},
		{"..F...~....B" + strings.Repeat(".", 28), KnownFlaky, "known flaky: 3 of the last 40 failed"},
		{"F.", KnownFlaky, "known flaky: 1 of the last 2 failed"},
		{"....FF", StillFailing, "so did the last 2 before, since "},
		{"....FsiF", StillFailing, "so did the last 2 before, since "},
		{".F..FFF", StillFailing, "so did the last 3 before, since "},
		{"..F..FF", KnownFlaky, "known flaky: 3 of the last 7 failed"},
	}
	for _, tt := range tests {
		now := played("F")
		notes := Notes(now, map[string][]Playing{"a/b": played(tt.before)})
		if len(notes) != 1 || notes[0].Kind != tt.kind || !strings.Contains(notes[0].Text, tt.text) || notes[0].Scenario != "a/b" {
			t.Errorf("after %s: %+v", tt.before, notes)
		}
	}
	// One note for a scenario that failed twice, none for what passed or says nothing.
	if notes := Notes(played("FF.si"), map[string][]Playing{"a/b": played("..")}); len(notes) != 1 {
		t.Errorf("%+v", notes)
	}
}

// with has a row of playings take these seconds.
func with(seconds ...float64) []Playing {
	all := played(strings.Repeat(".", len(seconds)))
	for i := range all {
		all[i].Seconds = seconds[i]
	}
	return all
}

func TestSlowerThanUsual(t *testing.T) {
	steady := []float64{2, 2.1, 1.9, 2, 2.2, 1.8, 2, 2.1}
	change := func(all []Playing, f func(*Playing)) []Playing {
		for i := range all {
			f(&all[i])
		}
		return all
	}
	tests := []struct {
		name    string
		before  []Playing
		seconds float64
		slow    bool
	}{
		{"far out", with(steady...), 6, true},
		{"within the spread", with(steady...), 2.4, false},
		{"faster", with(steady...), 0.1, false},
		{"too few", with(steady[:MinSamples-1]...), 6, false},
		{"two outliers change nothing", with(append([]float64{60, 90}, steady...)...), 6, true},
		{"a wide spread", with(1, 9, 2, 8, 3, 7, 4, 6), 12, false},
		{"no spread, a little more", with(2, 2, 2, 2, 2, 2, 2, 2), 2.4, false},
		{"no spread, much more", with(2, 2, 2, 2, 2, 2, 2, 2), 2.7, true},
		{"long ones, no spread, a little more", with(20, 20, 20, 20, 20, 20, 20, 20), 24, false},
		{"other acceleration", change(with(steady...), func(p *Playing) { p.Accel = "kvm" }), 6, false},
		{"other jobs", change(with(steady...), func(p *Playing) { p.Jobs = 1 }), 6, false},
		{"a faster host", change(with(steady...), func(p *Playing) { p.Slowdown = 1 }), 6, false},
		{"about as fast a host", change(with(steady...), func(p *Playing) { p.Slowdown = 3 }), 6, true},
		{"booted machines", change(with(steady...), func(p *Playing) { p.Cold = true }), 6, false},
		{"other jobs, and far longer", change(with(steady...), func(p *Playing) { p.Jobs = 1 }), 16, true},
		{"a host under load, and far longer", change(with(steady...), func(p *Playing) { p.Slowdown = 0.5 }), 16, true},
		{"few, and far longer", with(steady[:3]...), 16, true},
		{"two, and far longer", with(steady[:2]...), 16, false},
		{"other acceleration, and far longer", change(with(steady...), func(p *Playing) { p.Accel = "kvm" }), 16, false},
		{"booted machines, and far longer", change(with(steady...), func(p *Playing) { p.Cold = true }), 16, false},
		{"far longer, and short all the same", with(0.1, 0.1, 0.1), 0.5, false},
		{"only failures", change(with(steady...), func(p *Playing) { p.Result = record.Failed }), 6, false},
	}
	for _, tt := range tests {
		now := with(tt.seconds)
		notes := Notes(now, map[string][]Playing{"a/b": tt.before})
		if slow := len(notes) == 1 && notes[0].Kind == Slower; slow != tt.slow {
			t.Errorf("%s: %+v", tt.name, notes)
		}
		r := NewReport(append(tt.before, now...), 5)
		if slow := r.Slow != nil; slow != tt.slow {
			t.Errorf("%s: report %+v", tt.name, r)
		}
	}
	notes := Notes(with(6), map[string][]Playing{"a/b": with(steady...)})
	if want := "slower than usual: took 6.00s, 3 times as long as usually: median 2.00s ± 0.10s (median absolute deviation) of 8"; len(notes) != 1 || notes[0].Text != want {
		t.Errorf("%+v", notes)
	}
}

// What a host does to a scenario is said with it.
func TestSlowOfAHostUnderLoad(t *testing.T) {
	before := with(10, 10, 11)
	for i := range before {
		before[i].Slowdown = 3.6
	}
	now := with(80)
	now[0].Slowdown = 11.6
	notes := Notes(now, map[string][]Playing{"a/b": before})
	want := "slower than usual: took 80.00s, 8 times as long as usually: median 10.00s ± 0.00s (median absolute deviation) of 3; the host was 3.2 times as slow as then"
	if len(notes) != 1 || notes[0].Text != want {
		t.Errorf("%+v", notes)
	}
}

// A changed tree is another thing than a flake.
func TestAFailureAfterAChange(t *testing.T) {
	const now = "now"
	tests := []struct {
		name, tested, before string // of each before: with what it was tested
		kind                 NoteKind
		text                 string
	}{
		{"flaky with the same", "nnnn", "F.F.", KnownFlaky, "known flaky: 2 of the last 4 failed"},
		{"flaky before the change", "oooo", "F.F.", NewFailure, "fails after the programs or the script changed; before that 2 of the last 4 failed"},
		{"passed before the change", "oooo", "....", NewFailure, "fails after the programs or the script changed; before that the last 4 passed"},
		{"failed before the change", "oooo", "..FF", StillFailing, "still failing, after the programs or the script changed: so did the last 2"},
		{"flaky before, passed with the same", "oooonn", "F.F...", NewFailure, "fails for the first time in 3 playings with these programs and this script"},
		{"flaky before, fails again", "oooon", "F.F.F", StillFailing, "still failing with these programs and this script: so did the last 1"},
		{"flaky before and with the same", "oooonn", "F.F.F.", KnownFlaky, "known flaky with these programs and this script: 1 of the last 2 failed"},
		{"nothing is known of what was tested before", "    ", "F.F.", KnownFlaky, "known flaky: 2 of the last 4 failed"},
	}
	with := map[byte]string{'n': now, 'o': "old", ' ': ""}
	for _, tt := range tests {
		before, failed := played(tt.before), played("F")
		failed[0].Tested = now
		for i := range before {
			before[i].Tested = with[tt.tested[i]]
		}
		notes := Notes(failed, map[string][]Playing{"a/b": before})
		if len(notes) != 1 || notes[0].Kind != tt.kind || !strings.Contains(notes[0].Text, tt.text) {
			t.Errorf("%s: %+v", tt.name, notes)
		}
	}
	// At the same commit: with changes beyond it that are told apart by what was tested.
	all := played("..F.")
	for i := range all {
		all[i].Dirty, all[i].Tested = true, with["noon"[i]]
	}
	if r := NewReport(all, 4); r.Flakes != 1 {
		t.Errorf("%d flakes", r.Flakes)
	}
	all[1].Tested = "other"
	if r := NewReport(all, 4); r.Flakes != 0 {
		t.Errorf("%d flakes", r.Flakes)
	}
}

// A scenario that the run cut off has not failed.
func TestACutOffPlayingSaysNothing(t *testing.T) {
	cut := played("F")
	cut[0].Reason = record.RunTimeout
	if notes := Notes(cut, map[string][]Playing{"a/b": played("....")}); len(notes) != 0 {
		t.Errorf("%+v", notes)
	}
	all := append(played("...."), cut...)
	if notes := Notes(played("F"), map[string][]Playing{"a/b": all}); len(notes) != 1 || !strings.Contains(notes[0].Text, "for the first time in 5 playings") {
		t.Errorf("%+v", notes)
	}
	if r := NewReport(all, 9); r.Failure != nil || r.Flakes != 0 || r.Row != "....i" {
		t.Errorf("%+v", r)
	}
}

func TestReport(t *testing.T) {
	all := played("..F.~sBi.R.")
	all[6].Revision, all[6].Reason = "other", record.BootTimeout // nothing passed there, so that is no flake
	r := NewReport(all, 4)
	if r.Played != 11 || r.Row != "i.R." || len(r.Last) != 4 || r.Results[record.Passed] != 5 {
		t.Errorf("%+v", r)
	}
	if r.Flakes != 2 || r.Rate != 0.25 { // F and ~, of 8 that say something
		t.Errorf("%d flakes, rate %v", r.Flakes, r.Rate)
	}
	if r.Failure == nil || r.Failure.Reason != record.BootTimeout {
		t.Errorf("newest failure %+v", r.Failure)
	}
	if r.Usual == nil || r.Usual.Median != 2 || r.Usual.Samples != 5 {
		t.Errorf("usual %+v", r.Usual)
	}
	// With changes beyond the commit, a failure may come from those.
	all[2].Dirty = true
	if r := NewReport(all, 4); r.Flakes != 1 {
		t.Errorf("%d flakes", r.Flakes)
	}
	if r := NewReport(played("FF"), 9); r.Usual != nil || r.Flakes != 0 || r.Row != "FF" {
		t.Errorf("%+v", r)
	}
}

func TestEveryResultHasASign(t *testing.T) {
	for _, r := range []record.Result{record.Passed, record.Failed, record.Flaky, record.Repaired, record.Unproven, record.Skipped, record.Broken, record.Interrupted} {
		if s := string(sign(Playing{Result: r})); !strings.Contains(Legend, s+" "+string(r)) {
			t.Errorf("%s has the sign %s, and the legend is %q", r, s, Legend)
		}
	}
	if sign(Playing{Result: "new"}) != '?' {
		t.Error("a result of a later version has a sign")
	}
}
