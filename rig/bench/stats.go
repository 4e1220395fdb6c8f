package bench

import (
	"math"
	"slices"
)

// Samples are the values of one figure, in the order in which they were measured, with what they amount to. All of them have the
// unit that the key they stand under is named after.
type Samples struct {
	Median  float64   `json:"median"`
	P95     float64   `json:"p95"` // nearest rank: one of the values, the largest of fewer than 20
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

// sampled returns the Samples of some values, nil of none.
func sampled(values []float64) *Samples {
	if len(values) == 0 {
		return nil
	}
	return &Samples{
		Median: median(values), P95: nearestRank(values, 0.95), Min: slices.Min(values), Max: slices.Max(values),
		Samples: slices.Clone(values),
	}
}

// median returns the middle one of at least one value; of an even number, what is between the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// nearestRank returns the smallest of at least one value that a share of p of them does not exceed, 0 < p <= 1.
func nearestRank(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	// 0.95*20 is a little more than 19 in binary.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[max(rank, 1)-1]
}

// quotients returns a[i]/b[i].
func quotients(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return out
}
