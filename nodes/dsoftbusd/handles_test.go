package dsoftbusd

import (
	"context"
	"math"
	"testing"

	"dsoftbus-rig/protocol/pk"
)

func TestHandleValues(t *testing.T) {
	s := newStore(map[string][]byte{"a/f": nil})
	h := newHandles(3)
	add := func() (uint32, bool) {
		f, err := s.Resolve(context.Background(), pk.Name{Bundle: "a", Path: "f"})
		if err != nil {
			t.Fatal(err)
		}
		handle, ok := h.add(f)
		if !ok {
			f.Close()
		}
		return handle, ok
	}
	for want := uint32(1); want <= 3; want++ {
		if got, ok := add(); got != want || !ok {
			t.Errorf("got %d, %t, want %d", got, ok, want)
		}
	}
	if got, ok := add(); got != 0 || ok {
		t.Errorf("beyond the limit: %d, %t", got, ok)
	}
	h.remove(2).Close()
	if got, ok := add(); got != 4 || !ok {
		t.Errorf("a value was used again: %d, %t", got, ok)
	}
	// At the end of the counter it begins again, at 1, past 0 and past what is open.
	h.remove(3).Close()
	h.next = math.MaxUint32
	if got, ok := add(); got != math.MaxUint32 || !ok {
		t.Errorf("the last value: %d, %t", got, ok)
	}
	h.remove(4).Close()
	if got, ok := add(); got != 2 || !ok { // 1 is open
		t.Errorf("after the last value: %d, %t", got, ok)
	}
	if h.get(7) != nil || h.remove(7) != nil || h.get(0) != nil {
		t.Error("a handle that was never given out has a file")
	}
	h.release()
	if n, _ := s.opened(); n != 0 {
		t.Errorf("%d files are open after the release", n)
	}
}
