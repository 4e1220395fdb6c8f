// Package bench measures this host and the product: how long machines take to be there, what a clone costs, how long scenarios
// take, and what the link between two nodes carries.
//
// It owns the rounds, the figures made of them, their targets, and how they are shown. It has no way of measuring of its own where
// there is one that people use: machines come and go by playing scenarios through package suite, and times are those of their
// events. It never decides a scenario's verdict, and a figure that misses its target is a figure like any other.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/suite"
)

// Groups of figures, in the order in which they are measured.
const (
	GroupPair      = "pair"      // two machines, booted and cloned, and their teardown
	GroupMemory    = "memory"    // what a clone costs
	GroupRoundtrip = "roundtrip" // a whole scenario
	GroupSuite     = "suite"     // scenarios a minute
	GroupLink      = "link"      // what is between two nodes
)

// Groups returns the names of all groups.
func Groups() []string {
	return []string{GroupPair, GroupMemory, GroupRoundtrip, GroupSuite, GroupLink}
}

// Rounds of each measurement, unless Config.Rounds says otherwise. A cold pair takes seconds where a warm one takes a fraction.
const (
	warmRounds = 20
	coldRounds = 3
	someRounds = 5
)

// Config says what is measured, and on what.
type Config struct {
	Groups []string // in any order
	Rounds int      // of each measurement; 0: as many as each is worth

	Host   *host.Host
	Images *images.Set
	Saved  machine.Saved // what clones are made of

	Items []suite.Item // the project's scenarios

	// Run is the command that plays scenarios, "rig run" with its options, without -j and the patterns.
	Run []string

	// Capture has frames captured as `rig run` does, to see what that costs. Else nothing is.
	Capture bool

	Log func(step string) // gets each step that takes time; may be nil
}

// rounds returns how often something is measured that is worth standard rounds.
func (c *Config) rounds(standard int) int {
	if c.Rounds > 0 {
		return c.Rounds
	}
	return standard
}

// scaled returns a deadline for this host's machines.
func (c *Config) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.Host.Slowdown)
}

// Run measures the groups one after the other. A group that fails, or that ctx ends, has its error in the report, with what was
// measured before; the others are measured all the same. When ctx has ended, those that had not begun are left out.
//
// Run's own error is that nothing could be measured at all. Nothing stays behind on the host.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	r := &Report{Schema: Schema, Started: time.Now().UTC(), Host: describe(cfg)}
	dir, err := os.MkdirTemp("", "rig-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the records: %w", err)
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the records: %w", rmErr))
		}
	}()
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	p := &player{cfg: &cfg, dir: dir}
	for _, g := range []struct {
		name    string
		measure func(context.Context, *player, *Report) error
	}{
		{GroupPair, measurePair},
		{GroupMemory, measureMemory},
		{GroupRoundtrip, measureRoundtrip},
		{GroupSuite, measureSuite},
		{GroupLink, measureLink},
	} {
		if !slices.Contains(cfg.Groups, g.name) || ctx.Err() != nil {
			continue
		}
		if err := g.measure(ctx, p, r); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			r.Errors = append(r.Errors, GroupError{Group: g.name, Error: err.Error()})
		}
	}
	r.Seconds = time.Since(r.Started).Seconds()
	r.Targets = targets(r)
	return r, nil
}
