package dsoftbusd

import (
	"testing"
)

// The whole serving side, from the socket to the socket, makes no garbage for a request. The peer that asks makes none
// either, or its own would count.
func TestServingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates for its own purposes")
	}
	for _, size := range []int{128, 32768} {
		p := newPipeline(t, size)
		// Ten at a time: the figure is rounded down, and what was served ahead of the first would hide one for each.
		if n := testing.AllocsPerRun(200, func() {
			for range 10 {
				p.turn()
			}
		}); n > 0 {
			t.Errorf("%.0f allocations for ten READs of %d bytes", n, size)
		}
	}
}

// Nor does the whole way, two daemons and the client library, make any for a single READ.
func TestReadingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates for its own purposes")
	}
	ctx, a, _ := twoMachines(t, map[string][]byte{"big/data": noise(1<<20, 1)})
	f, err := a.open(ctx, t, "node-b").Open(ctx, "pkg:/big/data")
	if err != nil {
		t.Fatal(err)
	}
	const reads = 32
	buf := make([]byte, 1<<20)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.ReadAt(buf, 0); err != nil {
			t.Fatal(err)
		}
	}); n >= reads {
		t.Errorf("%.0f allocations for %d READs", n, reads)
	}
}
