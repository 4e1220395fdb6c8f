package host

import "testing"

func TestTSCFrequencyIsSteady(t *testing.T) {
	a, b := tscKHz(), tscKHz()
	if a < 500_000 || a > 10_000_000 {
		t.Fatalf("%d kHz", a)
	}
	// The kernel of a machine takes a given frequency for granted; 1 in 1,000 is
	// a clock that is off by 4 s an hour.
	if diff := a - b; diff*1000 > a || diff*-1000 > a {
		t.Fatalf("%d kHz, then %d kHz", a, b)
	}
}
