package node

import (
	"testing"
)

// Silence is not late when the machine has stood still at some time of it: a debugger lets it run for a moment, now and then.
func TestSilenceIsExcusedOnceMore(t *testing.T) {
	n, l := &Node{}, &life{}
	looks := []struct {
		name   string
		before func()
		want   bool
	}{
		{"runs", func() {}, false},
		{"frozen", func() { l.frozen, l.stood = true, true }, true},
		{"still frozen", func() {}, true},
		{"thawed since", func() { l.frozen = false }, true},
		{"runs for the whole of it", func() {}, false},
		{"paused and resumed in between", func() { n.setPaused(l, true); n.setPaused(l, false) }, true},
		{"runs again", func() {}, false},
	}
	for _, look := range looks {
		look.before()
		if got := n.excused(l); got != look.want {
			t.Errorf("%s: excused %t", look.name, got)
		}
	}
}

// Stops that were asked for are not taken for a debugger's.
func TestWhoHasStoppedTheMachine(t *testing.T) {
	var told []bool
	w := &World{}
	w.OnStop(func(node string, stopped bool) {
		if node != "A" {
			t.Errorf("told of node %s", node)
		}
		told = append(told, stopped)
	})
	n, l := &Node{world: w, name: "A"}, &life{stops: 1}
	for _, event := range []string{"RESUME", "STOP", "RESUME", "STOP", "STOP", "RESUME", "RESUME"} {
		n.switchedBy(l, event)
	}
	if len(told) != 2 || !told[0] || told[1] {
		t.Errorf("told %v, want one stop and that it went on", told)
	}
}
