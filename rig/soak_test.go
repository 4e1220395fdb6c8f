package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Scenarios are begun as long as there is time, and what has begun is played to its end; once in any case.
func TestUntil(t *testing.T) {
	failed, ended := errors.New("failed"), errors.New("ended from outside")
	for _, c := range []struct {
		length time.Duration
		fail   int // the one that fails; 0: none
		cancel int // the one in which the context ends
		played int
	}{
		{0, 0, 0, 1},
		{25 * time.Second, 0, 0, 3},
		{20 * time.Second, 0, 0, 2},
		{25 * time.Second, 2, 0, 2},
		{time.Hour, 0, 4, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			played := 0
			err := until(ctx, c.length, func() error {
				played++
				time.Sleep(10 * time.Second)
				if played == c.cancel {
					cancel(ended)
				}
				if played == c.fail {
					return failed
				}
				return nil
			})
			if played != c.played || errors.Is(err, failed) != (c.fail > 0) || errors.Is(err, ended) != (c.cancel > 0) {
				t.Errorf("%+v: played %d, %v", c, played, err)
			}
		})
	}
}
