package scenario

import (
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

func TestFaultCommandsReachTheWorld(t *testing.T) {
	b := newBench(t, nil)
	b.passes(`partition -maybe
up
link A down
link -maybe B delay=200ms jitter=20ms loss=20% dup=1% reorder=2.5% corrupt=0.5% rate=10mbit
link B clear
block A B
block -n 3 -maybe A B tcp 34567
unblock A B tcp 34567
unblock
heal
clock A -24h
pause B
resume B
reset B
crash B
up B
`)
	want := []string{
		"partition maybe=true",
		"up [] cold=false only=false",
		"link A down maybe=false",
		"link B delay=200ms jitter=20ms loss=20% dup=1% reorder=2.5% corrupt=0.5% rate=10000000bit maybe=true",
		"link B clear maybe=false",
		"block A B first=0 maybe=false",
		"block A B tcp 34567 first=3 maybe=true",
		"unblock A B tcp 34567",
		"unblock <nil>",
		"heal",
		"clock A -24h0m0s",
		"pause B", "resume B", "reset B", "crash B",
		"up [B] cold=false only=false",
	}
	if !slices.Equal(b.world.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(b.world.calls, "\n"), strings.Join(want, "\n"))
	}
}

// A scenario whose steps all hold is not proven by a fault that touched nothing; one that fails has failed for its own reason.
func TestUnproven(t *testing.T) {
	idle := []string{"link A down has touched nothing", "block A B has touched nothing"}
	for _, tt := range []struct {
		script string
		result record.Result
		reason record.Reason
	}{
		{"up\nlink A down\nblock A B\n", record.Unproven, record.NeverTouched},
		{"up\nlink A down\nexec A false\n", record.Failed, record.ExecStatus},
		{"skip\n", record.Skipped, ""},
	} {
		b := newBench(t, nil)
		b.world.unproven = idle
		out := b.run(t.Context(), tt.script)
		if out.Result != tt.result || (out.Failure == nil) != (tt.reason == "") {
			t.Fatalf("%q: %+v", tt.script, out)
		}
		if out.Failure != nil && out.Failure.Reason != tt.reason {
			t.Errorf("%q: %+v", tt.script, out.Failure)
		}
		if tt.result == record.Unproven && out.Failure.Message != strings.Join(idle, "; ") {
			t.Errorf("message %q", out.Failure.Message)
		}
	}
}
