package retain

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Age is a time for which records are kept. It is a flag's value: days as in "14d", or what time.ParseDuration reads.
type Age time.Duration

func (a Age) String() string {
	if d := time.Duration(a); d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return time.Duration(a).String()
}

// Set reads an age.
func (a *Age) Set(s string) error {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q: say days as in 14d, or hours as in 36h", s)
		}
		*a = Age(time.Duration(n) * day)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%q: say days as in 14d, or hours as in 36h", s)
	}
	*a = Age(d)
	return nil
}

// Type names the value in a command's help.
func (a *Age) Type() string { return "age" }

// Size is a number of bytes. It is a flag's value: "500M", "4G", or bytes.
type Size int64

var units = []struct {
	letter string
	bytes  int64
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

func (s Size) String() string {
	for _, u := range units {
		if int64(s) >= u.bytes {
			return strings.TrimSuffix(strconv.FormatFloat(float64(s)/float64(u.bytes), 'f', 1, 64), ".0") + " " + u.letter + "iB"
		}
	}
	return strconv.FormatInt(int64(s), 10) + " bytes"
}

// Set reads a size.
func (s *Size) Set(text string) error {
	number, factor := strings.TrimSuffix(strings.TrimSuffix(strings.ReplaceAll(text, " ", ""), "iB"), "B"), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.letter); ok {
			number, factor = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || n*float64(factor) >= math.MaxInt64 {
		return fmt.Errorf("%q: say how much, as in 500M or 4G", text)
	}
	*s = Size(n * float64(factor))
	return nil
}

// Type names the value in a command's help.
func (s *Size) Type() string { return "size" }
