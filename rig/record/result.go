package record

// Result is the verdict on one scenario, or on a whole run.
type Result string

const (
	Passed      Result = "passed"
	Failed      Result = "failed"
	Flaky       Result = "flaky"       // failed, then passed on fresh machines
	Repaired    Result = "repaired"    // passed after a person stepped in
	Unproven    Result = "unproven"    // every step held, but a fault that was asked for never touched anything
	Skipped     Result = "skipped"     // the scenario does not apply on this host
	Broken      Result = "broken"      // the rig or a machine, not the scenario
	Interrupted Result = "interrupted" // stopped from outside
)

// Exit statuses of a run.
const (
	ExitGreen       = 0
	ExitFailed      = 1
	ExitInvalid     = 2
	ExitUnsupported = 3
	ExitBroken      = 4
	ExitInterrupted = 130 // 128 + SIGINT, as shells report it
)

// severity orders results for a run's own: what asks most of the reader comes last. An interruption outweighs everything, because
// the rest of the run is unknown; a failed scenario outweighs a broken one, because its verdict stands whatever broke beside it.
var severity = []Result{Skipped, Passed, Unproven, Repaired, Flaky, Broken, Failed, Interrupted}

// Green reports whether r leaves a run green: only passed and skipped do.
func (r Result) Green() bool {
	return r == Passed || r == Skipped
}

// Worst returns the result of a run whose scenarios ended with these results. Without any it is Skipped.
func Worst(results ...Result) Result {
	worst := 0
	for _, r := range results {
		rank := len(severity) - 2 // a result this version does not know counts as failed
		for i, s := range severity {
			if s == r {
				rank = i
			}
		}
		worst = max(worst, rank)
	}
	return severity[worst]
}

// ExitStatus returns the exit status of a process that ends with result r, for the given reason ("" when there is none).
func ExitStatus(r Result, why Reason) int {
	switch {
	case r.Green():
		return ExitGreen
	case r == Interrupted:
		return ExitInterrupted
	case why == Invalid:
		return ExitInvalid
	case why == HostUnsupported:
		return ExitUnsupported
	case r == Broken:
		return ExitBroken
	}
	return ExitFailed
}
