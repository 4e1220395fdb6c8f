// Package pacetest scales the limits of tests to the host that they run on.
package pacetest

import (
	"sync"
	"time"

	"dsoftbus-rig/rig/pace"
)

// most bounds how many times its length a limit can get: what hangs has to end.
const most = 12

// Limit returns when something that takes a small part of usual on an idle host counts
// as hung on this one: the host can be slow, busy, and become busier.
func Limit(usual time.Duration) time.Duration {
	return time.Duration(float64(usual) * min(most, 1+slowness()))
}

// slowness is how many times longer work takes than usual when it is first asked for.
var slowness = sync.OnceValue(func() float64 { return max(1, pace.Usual/pace.Now().Clock) })
