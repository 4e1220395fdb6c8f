// Package pacetest scales the limits of tests to the host that they run on.
package pacetest

import (
	"sync"
	"time"

	"dsoftbus-rig/rig/pace"
)

// Limit returns when something that takes a small part of usual on an idle host counts
// as hung on this one: the host can be slow, busy, and become busier.
func Limit(usual time.Duration) time.Duration {
	return time.Duration(float64(usual) * (1 + slowness()))
}

// slowness is that of the moment at which it is first asked for.
var slowness = sync.OnceValue(pace.Slowness)
