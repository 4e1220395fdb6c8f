// Package pace measures how fast this host works at the moment.
//
// It knows nothing of machines: package host scales what a machine's boot took by it,
// and tests scale their limits.
package pace

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// glance is how long the pace is measured for: several turns of a scheduler that
// has others to run, too.
const glance = 60 * time.Millisecond

// spinSteps take some 0.3 ms.
const spinSteps = 200_000

// A Pace is how fast this host works at the moment, in spins a second. A spin is a
// loop that is always the same.
type Pace struct {
	Processor float64 // for each second on the processor
	Clock     float64 // for each second by the clock: less, as far as others take the processor
}

// usual is the pace, in spins a second, of an idle host of the usual kind: a core of a
// present-day server.
const usual = 4000

// mostSlowness bounds Slowness: what hangs has to end on every host.
const mostSlowness = 10

// Slowness returns how many times longer work takes at the moment than on an idle host
// of the usual kind, from 1 to 10. What counts as hung there is multiplied by it.
func Slowness() float64 { return min(mostSlowness, max(1, usual/Now().Clock)) }

// Now measures the pace for as long as a glance.
func Now() Pace {
	// The processor's time is that of a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, busy := time.Now(), threadTime()
	spins := 0.0
	for x := uint64(1); time.Since(start) < glance && x != 0; spins++ {
		x = spin(x)
	}
	took, busy := time.Since(start), threadTime()-busy
	p := Pace{Processor: spins / took.Seconds(), Clock: spins / took.Seconds()}
	if busy > 0 {
		p.Processor = spins / busy.Seconds()
	}
	return p
}

// threadTime returns how long this thread has been on a processor; 0 if the kernel
// does not say.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// spin is a piece of work that is always the same. Its result, which is never 0,
// keeps the compiler from leaving it out.
func spin(x uint64) uint64 {
	for range spinSteps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x | 1
}
