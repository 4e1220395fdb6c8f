package scenario

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		late := errors.New("late")
		began := time.Now()
		ctx, cancel := c.withTimeout(t.Context(), 10*time.Second, late)
		defer cancel()
		time.Sleep(4 * time.Second)
		one, two := c.stop(), c.stop()
		time.Sleep(time.Minute)
		inside, cancelInside := c.withTimeout(t.Context(), time.Second, late)
		defer cancelInside()
		one()
		one()
		time.Sleep(time.Minute)
		if ctx.Err() != nil || inside.Err() != nil {
			t.Fatalf("it rang while the clock stood: %v, %v", context.Cause(ctx), context.Cause(inside))
		}
		if got := c.spent(); got != 2*time.Minute {
			t.Errorf("it stands still for %s", got)
		}
		two()
		<-inside.Done()
		if got := time.Since(began); got != 2*time.Minute+5*time.Second || context.Cause(inside) != late {
			t.Errorf("the one that was made meanwhile rang after %s: %v", got, context.Cause(inside))
		}
		<-ctx.Done()
		if got := time.Since(began); got != 2*time.Minute+10*time.Second || context.Cause(ctx) != late {
			t.Errorf("it rang after %s: %v", got, context.Cause(ctx))
		}
		if got := c.spent(); got != 2*time.Minute {
			t.Errorf("it stood still for %s", got)
		}
	})
}

// What is cancelled never rings, and leaves nothing.
func TestClockCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		ctx, cancel := c.withTimeout(t.Context(), time.Second, errors.New("late"))
		cancel()
		cancel()
		c.stop()()
		time.Sleep(time.Minute)
		if context.Cause(ctx) != context.Canceled || len(c.alarms) != 0 {
			t.Errorf("%v, %d alarms left", context.Cause(ctx), len(c.alarms))
		}
	})
}
