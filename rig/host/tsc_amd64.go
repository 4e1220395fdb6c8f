package host

import (
	"slices"
	"time"
)

// readTSC returns the processor's time stamp counter.
func readTSC() uint64

const (
	tscWindow  = 10 * time.Millisecond
	tscSamples = 5
)

// tscKHz measures the frequency of the time stamp counter, in kHz. Under software
// emulation a machine sees the host's counter, and finds its frequency with timers
// that a busy host serves late: machines were seen whose clocks ran at more than
// twice the speed. So they are told.
func tscKHz() int {
	var samples []int
	for range tscSamples {
		start, t0 := time.Now(), readTSC()
		for time.Since(start) < tscWindow {
			// Busy on purpose: both clocks are read back to back at the end.
		}
		t1, elapsed := readTSC(), time.Since(start)
		samples = append(samples, int(float64(t1-t0)/elapsed.Seconds()/1000))
	}
	// The median: a sample that was interrupted between its two readings is out.
	slices.Sort(samples)
	return samples[len(samples)/2]
}
