package pace

import "testing"

// Time that others have on the processor counts for the clock alone.
func TestNow(t *testing.T) {
	p := Now()
	if p.Clock <= 0 || p.Processor < 0.99*p.Clock { // the two clocks are read one after the other
		t.Errorf("%+v", p)
	}
	if s := Slowness(); !(s >= 1 && s <= mostSlowness) {
		t.Error(s)
	}
}
