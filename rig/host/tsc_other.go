//go:build !amd64

package host

// tscKHz is 0, "unknown": emulated machines take their counter from another
// source on this processor, and find its frequency themselves.
func tscKHz() int { return 0 }
