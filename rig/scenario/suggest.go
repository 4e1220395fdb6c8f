package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// didYouMean returns `did you mean "x"?` for the known word that is most like s,
// or "" when none is like it.
func didYouMean(s string, known []string) string {
	if best := Nearest(s, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// Nearest returns the known word that is most like s, or "" when none is like it.
// Of two that are, it is the one that begins more like s.
func Nearest(s string, known []string) string {
	s = strings.ToLower(s)
	best, least, longest := "", max(1, len(s)/3)+1, 0
	for _, k := range slices.Sorted(slices.Values(known)) {
		d, n := distance(s, strings.ToLower(k)), sharedPrefix(s, strings.ToLower(k))
		if d < least || (d == least && best != "" && n > longest) {
			best, least, longest = k, d, n
		}
	}
	return best
}

// sharedPrefix returns how many bytes a and b have in common at their start.
func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// maxSuggest bounds the words that are compared: no known word is longer, and
// the comparison takes time and memory of the product of both lengths.
const maxSuggest = 64

// distance counts the single-byte insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	if len(a) > maxSuggest || len(b) > maxSuggest {
		return maxSuggest
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
