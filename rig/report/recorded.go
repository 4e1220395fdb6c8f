package report

import (
	"fmt"

	"dsoftbus-rig/rig/record"
)

// recordedLine says what came of playing a scenario again, recorded, and what to do with that.
func recordedLine(e record.Event, folder string) string {
	times := "once"
	if e.Played != 1 {
		times = fmt.Sprintf("%d times", e.Played)
	}
	if e.Name == "" {
		return fmt.Sprintf("recorded %s: it did not fail again, played %s with its machines recorded (-record-tries)", e.Scenario, times)
	}
	if folder == "" {
		folder = "RUN"
	}
	return fmt.Sprintf("recorded %s: it failed again, played %s with its machines recorded; rig replay %s NODE -scenario %s", e.Scenario, times, folder, e.Name)
}
