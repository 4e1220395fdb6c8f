package quickconn

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// With one processor, who waits for a socket has its turn when another yields, and not only when that one has nothing to do.
func TestYieldLetsSocketsRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	near, far := pair(t, "unix", t.TempDir()+"/s")
	y, err := NewYielder()
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	var got atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := make([]byte, 1); ; got.Add(1) {
			if _, err := far.Read(p); err != nil {
				return
			}
		}
	}()
	const turns = 200
	missed := 0
	for i := range int32(turns) {
		if _, err := near.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if y.Yield(); got.Load() <= i {
			missed++
		}
		for got.Load() <= i {
			y.Yield()
		}
	}
	// Now and then the scheduler puts those first that have waited longest, which are not always the right ones.
	if missed > turns/4 {
		t.Errorf("%d of %d times who had something to read had no turn", missed, turns)
	}
	near.Close()
	<-done
}

func TestYieldAfterClose(t *testing.T) {
	y, err := NewYielder()
	if err != nil {
		t.Fatal(err)
	}
	if err := y.Close(); err != nil {
		t.Fatal(err)
	}
	y.Yield()
}

func TestYieldAllocatesNothing(t *testing.T) {
	y, err := NewYielder()
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if n := testing.AllocsPerRun(100, y.Yield); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
