package record

import "testing"

func TestExitStatus(t *testing.T) {
	tests := []struct {
		result Result
		reason Reason
		want   int
	}{
		{Passed, "", 0},
		{Skipped, "", 0},
		{Failed, MarkerTimeout, 1},
		{Flaky, ExecStatus, 1},
		{Repaired, ExecStatus, 1},
		{Unproven, "", 1},
		{Failed, Invalid, 2},
		{Broken, HostUnsupported, 3},
		{Broken, BootTimeout, 4},
		{Broken, ImageFailed, 4},
		{Broken, WorkerDied, 4},
		{Broken, "", 4},
		{Interrupted, Stopped, 130},
		{Interrupted, Invalid, 130},
	}
	for _, tt := range tests {
		if got := ExitStatus(tt.result, tt.reason); got != tt.want {
			t.Errorf("ExitStatus(%s, %q) = %d, want %d", tt.result, tt.reason, got, tt.want)
		}
	}
}

func TestWorst(t *testing.T) {
	tests := []struct {
		results []Result
		want    Result
	}{
		{nil, Skipped},
		{[]Result{Skipped}, Skipped},
		{[]Result{Skipped, Passed}, Passed},
		{[]Result{Passed, Unproven, Passed}, Unproven},
		{[]Result{Broken, Flaky}, Broken},
		{[]Result{Failed, Broken}, Failed},
		{[]Result{Interrupted, Failed}, Interrupted},
		{[]Result{Passed, "from-the-future"}, Failed},
	}
	for _, tt := range tests {
		if got := Worst(tt.results...); got != tt.want {
			t.Errorf("Worst(%v) = %s, want %s", tt.results, got, tt.want)
		}
	}
}

func TestEveryResultHasASeverity(t *testing.T) {
	for _, name := range constants(t, "result.go", "Result") {
		if got := Worst(Result(name)); got != Result(name) {
			t.Errorf("Worst(%s) = %s", name, got)
		}
	}
}
