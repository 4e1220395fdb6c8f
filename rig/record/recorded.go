package record

import "fmt"

// RecordedText says what came of playing a scenario that failed again with its machines recorded, and what to do with that: as is the playing that failed, "" when none
// did, tries how often it was played, folder the run's.
func RecordedText(as string, tries int, folder string) string {
	times := "once"
	if tries != 1 {
		times = fmt.Sprintf("%d times", tries)
	}
	if as == "" {
		return fmt.Sprintf("it did not fail again, played %s with its machines recorded (-record-tries)", times)
	}
	return fmt.Sprintf("it failed again, played %s with its machines recorded; rig replay %s NODE -scenario %s", times, folder, as)
}
