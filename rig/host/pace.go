package host

import (
	"sync"
	"time"
)

// The pace of a host is how many spins it gets through in a second: how fast its
// processor is at the moment, and how much of it others leave. It is compared
// with an earlier one of the same host and means nothing by itself.

const (
	// glance is how long the pace is measured for. A scheduler lets a program that
	// has just woken up run for some milliseconds before others get their share.
	glance = 60 * time.Millisecond
	// glances is how often the pace is measured while something else goes on.
	glances = 600 * time.Millisecond
	// spinSteps take some 0.1 ms.
	spinSteps = 200_000
)

// spin is a piece of work that is always the same. Its result keeps the compiler
// from leaving it out.
func spin(x uint64) uint64 {
	for range spinSteps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// A pace is a measurement that is under way.
type pace struct {
	spins int
	took  time.Duration
	x     uint64
}

// measure adds a measurement.
func (p *pace) measure() {
	start := time.Now()
	for took := time.Duration(0); took < glance; took = time.Since(start) {
		p.x = spin(p.x)
		p.spins++
	}
	p.took += time.Since(start)
}

func (p *pace) perSecond() float64 { return float64(p.spins) / p.took.Seconds() }

// paceNow returns the pace of this moment.
func paceNow() float64 {
	var p pace
	p.measure()
	return p.perSecond()
}

// paceWhile returns the pace while f runs. It takes a tenth of one core for that.
func paceWhile(f func()) float64 {
	var p pace
	over := make(chan struct{})
	var measuring sync.WaitGroup
	measuring.Go(func() {
		for {
			p.measure()
			select {
			case <-over:
				return
			case <-time.After(glances):
			}
		}
	})
	f()
	close(over)
	measuring.Wait()
	return p.perSecond()
}
