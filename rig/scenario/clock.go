package scenario

import (
	"context"
	"sync"
	"time"
)

// A clock is what deadlines and budgets are measured by. It can be stopped: while a person looks at machines that
// stand still, nothing is late.
type clock struct {
	mu      sync.Mutex
	holders int           // who has stopped it and not started it again
	since   time.Time     // when it was stopped
	lost    time.Duration // how long it stood still in all, before since
	alarms  map[*alarm]struct{}
}

// An alarm is a deadline that is running.
type alarm struct {
	timer *time.Timer
	due   time.Time // while the clock runs
	left  time.Duration
}

// spent returns how long the clock has stood still until now.
func (c *clock) spent() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := c.lost
	if c.holders > 0 {
		lost += time.Since(c.since)
	}
	return lost
}

// stop stops the clock until what it returns is called, which may be called more than once. Several may stop it: it
// runs again when all have let it.
func (c *clock) stop() (start func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders++
	if c.holders == 1 {
		c.since = time.Now()
		for a := range c.alarms {
			a.timer.Stop() // one that has rung meanwhile is late all the same
			a.left = max(0, a.due.Sub(c.since))
		}
	}
	return sync.OnceFunc(c.start)
}

func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders--
	if c.holders > 0 {
		return
	}
	now := time.Now()
	c.lost += now.Sub(c.since)
	for a := range c.alarms {
		a.due = now.Add(a.left)
		a.timer.Reset(a.left)
	}
}

// withTimeout returns a context that ends with cause when the clock has run for d.
func (c *clock) withTimeout(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{due: time.Now().Add(d), left: d}
	a.timer = time.AfterFunc(d, func() { cancel(cause) })
	if c.holders > 0 {
		a.timer.Stop()
	}
	if c.alarms == nil {
		c.alarms = map[*alarm]struct{}{}
	}
	c.alarms[a] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		a.timer.Stop()
		delete(c.alarms, a)
		cancel(nil)
	}
}
