package agentapi

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestImpairmentCheck(t *testing.T) {
	for _, good := range []Impairment{
		{},
		{Delay: MaxDelay, Jitter: MaxJitter, Loss: 100, Duplicate: 100, Reorder: 100, Corrupt: 100, Rate: math.MaxUint64},
		{Jitter: time.Nanosecond},
		{Loss: 1e-9},
		{Rate: 1},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for want, bad := range map[string]Impairment{
		"delay -1ns is outside 0..4m0s":        {Delay: -1},
		"delay 4m0.000000001s is outside":      {Delay: MaxDelay + 1},
		"jitter 2.000000001s is outside 0..2s": {Jitter: MaxJitter + 1},
		"loss -0.5% is outside 0..100%":        {Loss: -0.5},
		"duplicate 100.1% is outside":          {Duplicate: 100.1},
		"corrupt NaN% is outside":              {Corrupt: math.NaN()},
		"reorder +Inf% is outside":             {Delay: 1, Reorder: math.Inf(1)},
		"reorder without a delay":              {Jitter: time.Second, Reorder: 1},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", bad, err, want)
		}
	}
}

// The forms are a contract between two programs that may be of different age.
func TestFaultForms(t *testing.T) {
	at := time.Date(2024, 2, 29, 23, 59, 59, 1, time.UTC)
	for want, value := range map[string]any{
		`{}`: Impairment{},
		`{"delay_ns":100000000,"jitter_ns":1000,"loss_percent":0.5,"duplicate_percent":1,"reorder_percent":2,"corrupt_percent":3,"rate_bits_per_second":1000000}`: Impairment{
			Delay: 100 * time.Millisecond, Jitter: time.Microsecond, Loss: 0.5, Duplicate: 1, Reorder: 2, Corrupt: 3, Rate: 1_000_000},
		`{"set":false,"packets":0,"bytes":0,"dropped":0,"requeues":0,"overlimits":0,"queued":0,"backlog":0}`: ImpairmentStatistics{},
		`{"by_ns":-3600000000000}`: Step{By: -time.Hour},
		`{"before":"2024-02-29T23:59:59.000000001Z","after":"2024-03-01T00:00:00.000000001Z"}`: Stepped{Before: at, After: at.Add(time.Second)},
	} {
		if got, err := json.Marshal(value); err != nil || string(got) != want {
			t.Errorf("%T: %s, %v; want %s", value, got, err, want)
		}
	}
}
