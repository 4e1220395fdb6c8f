package live_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/live"
)

func TestChoose(t *testing.T) {
	one := func(run, name string) live.Alive {
		return live.Alive{Name: run + name, Status: live.Status{Run: "/here/runs/" + run, Scenario: name}}
	}
	suite := []live.Alive{
		one("20260101-000000-suite", "roundtrip/basic"), one("20260101-000000-suite", "roundtrip/basic@2"), one("20260101-000001-reject", "reject/token"),
	}
	silent := live.Alive{PID: 77, Err: errors.New("it does not answer")}
	for _, c := range []struct {
		all     []live.Alive
		pattern string
		want    string // the scenario, or a part of the error
	}{
		{suite[2:], "", "reject/token"},
		{suite, "reject", "reject/token"},
		{suite, "20260101-000001-reject", "reject/token"},
		{suite, "roundtrip/basic", "roundtrip/basic"}, // a part of another one's name, too
		{suite, "basic@2", "roundtrip/basic@2"},
		{suite, "20260101-000000-suite/roundtrip/basic", "roundtrip/basic"},
		{suite, "", "3 scenarios are running; name one with -run:\n  20260101-000000-suite/roundtrip/basic\n"},
		{suite, "20260101-000000-suite", `2 running scenarios match "20260101-000000-suite"; name one with -run:`},
		{suite, "nothing", `no running scenario matches "nothing"; there are:`},
		{nil, "", "no scenario is running; start one with `rig run PATTERN`"},
		{[]live.Alive{silent}, "", "process 77 does not say what it plays: it does not answer"},
		{append(suite[2:3:3], silent), "", "reject/token"},
	} {
		got, err := live.Choose(c.all, c.pattern, "")
		said := got.Status.Scenario
		if err != nil {
			said = err.Error()
		}
		if err == nil && said != c.want || !strings.Contains(said, c.want) {
			t.Errorf("%q of %d: got %q, want %q", c.pattern, len(c.all), said, c.want)
		}
	}
}

// Of scenarios of several checkouts those of one's own are meant, unless only
// another's match.
func TestChooseOwn(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(here, link); err != nil {
		t.Fatal(err)
	}
	one := func(source, run, name string) live.Alive {
		return live.Alive{Status: live.Status{Run: "/runs/" + run, Scenario: name, Source: source}}
	}
	all := []live.Alive{one(there, "1", "basic"), one(here, "2", "basic"), one(there, "3", "link")}
	for _, c := range []struct {
		pattern, source string
		want            string // the run, or a part of the error
		others          int
	}{
		{"", here, "2", 2},
		{"", link, "2", 2},
		{"basic", here, "2", 1},
		{"link", here, "3", 0},
		{"1", here, "1", 0},
		{"", there, "2 scenarios are running; name one with -run:\n  1/basic  (of " + there + ")\n  3/link", 0},
		{"", t.TempDir(), "3 scenarios are running", 0},
		{"", "", "3 scenarios are running", 0},
	} {
		got, err := live.Choose(all, c.pattern, c.source)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q in %s: got %v, want %q", c.pattern, c.source, err, c.want)
			}
			continue
		}
		if got.Run() != c.want || got.Others != c.others {
			t.Errorf("%q in %s: got %s and %d others, want %s and %d", c.pattern, c.source, got.Run(), got.Others, c.want, c.others)
		}
	}
}

func TestListAndFind(t *testing.T) {
	s := start(t)
	// Others may be alive on this host.
	mine := func() int {
		t.Helper()
		all, err := live.List(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		return len(slices.DeleteFunc(all, func(a live.Alive) bool { return a.Name != s.name }))
	}
	if n := mine(); n != 1 {
		t.Errorf("found %d times", n)
	}
	c, found, err := live.Find(bounded(t), s.Stand.Run[len("/runs/"):], "")
	if err != nil || c.Name() != s.name || found.Status.Scenario != "area/name" {
		t.Errorf("got %+v, %+v, %v", c, found, err)
	}
	s.end()
	if n := mine(); n != 0 {
		t.Errorf("found %d times when it had ended", n)
	}
	if _, err := live.Open("/run/dsoftbus-rig/live/me-1-1"); err == nil {
		t.Error("a name that is none was taken")
	}
}
