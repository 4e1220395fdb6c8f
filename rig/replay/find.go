package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// A Hunt looks for the first instruction after which something holds.
type Hunt struct {
	// Holds reports whether it does, of a machine that stands still. It may hold from a moment on, and no more cease to: what comes and goes is found at one of the
	// moments at which it came, or not at all.
	Holds func(context.Context, *Player) (bool, error)
	// Keep has states along the way kept, so that whoever looks at the machine then can go back.
	Keep bool
	// Told, if not nil, gets each narrower range, in instructions: it does not hold at low, and does at high.
	Told func(low, high int64)

	// early reports, while the machine runs, that it holds already; nil: that is seen only when it stands still.
	early func(*Player) bool
}

// A Found is what a Hunt found.
type Found struct {
	Instructions int64 // it holds after so many, and not after one less
	Replays      int   // how often a part of the recording was replayed
}

// ErrNever says that what is looked for holds nowhere.
var ErrNever = errors.New("it does not hold anywhere in the recording")

// FindMarker returns a hunt for a marker.
func FindMarker(t *Target) Hunt {
	return Hunt{
		Holds: func(_ context.Context, p *Player) (bool, error) { return t.reached(p), nil },
		early: t.reached,
	}
}

// Marker reports whether the target is a line of the machine, which has to be found.
func (t *Target) Marker() bool { return t.marker }

const (
	// strides is in how many parts a recording is gone through.
	strides = 12
	// worthSaving is how many instructions take longer to replay than a state to save: 0.1 s each.
	worthSaving = 10_000_000
	// few is how many states a hunt keeps: the one it goes on from, and another for when that turns out not to go on.
	few = 2
)

// stops are where, in instructions, a recording is stopped at by who goes through it in strides: of equal time, since that is what a replay takes, too.
func (p *Player) stops() (all []int64) {
	positions, err := p.life.Positions()
	if err != nil || len(positions) == 0 {
		return nil // then it is one stride
	}
	took := positions[len(positions)-1].Time.Sub(p.life.Started)
	n := 1
	for _, at := range positions {
		if at.Time.Sub(p.life.Started) >= took*time.Duration(n)/strides {
			all = append(all, at.Instructions+beside)
			for at.Time.Sub(p.life.Started) >= took*time.Duration(n)/strides {
				n++
			}
		}
	}
	return all
}

// beside is how many instructions after a place that was noted a machine is stopped. The places are those at which the machine was interrupted, where something entered it:
// one in twenty machines that were stopped at the very place did not go on.
const beside = 1

// next is the first of stops beyond at; beyond the last there is none.
func next(stops []int64, at int64) int64 {
	for _, stop := range stops {
		if stop > at {
			return stop
		}
	}
	return math.MaxInt64
}

// runKeeping is RunTo with states along the way kept.
func (p *Player) runKeeping(ctx context.Context, to int64, keep bool) error {
	stops := p.stops()
	for {
		at, err := p.Place(ctx)
		if err != nil {
			return err
		}
		stop := int64(math.MaxInt64)
		if keep {
			if err := p.Save(ctx); err != nil {
				return err
			}
			stop = next(stops, at.Instructions)
		}
		if p.noSave != nil || stop >= to {
			_, err := p.forth(ctx, to, nil)
			return err
		}
		if _, err := p.forth(ctx, stop, nil); err != nil {
			return err
		}
	}
}

// Find finds the first instruction after which something holds, from where the machine stands, and leaves it standing there. The recording is gone through in
// strides until it holds; then the last stride is halved again and again, from the last state in which it did not. The error wraps ErrNever when it never holds.
func (p *Player) Find(ctx context.Context, h Hunt) (Found, error) {
	replays := p.Replays
	low, high, err := p.comb(ctx, h)
	if err != nil {
		return Found{}, fmt.Errorf("look for it in the recording of node %s: %w", p.life.Node, err)
	}
	at := high // where the machine stands
	to := func(place int64) error {
		if at > place {
			if err := p.Back(ctx, low); err != nil {
				return err
			}
		}
		at = place
		_, err := p.forth(ctx, place, nil)
		if errors.Is(err, ErrEnded) && place == high {
			return nil // there, at the very end, it holds
		}
		return err
	}
	for high-low > 1 {
		if h.Told != nil {
			h.Told(low, high)
		}
		middle := low + (high-low)/2
		if err := to(middle); err != nil {
			return Found{}, err
		}
		holds, err := h.Holds(ctx, p)
		if err != nil {
			return Found{}, err
		}
		if holds {
			high = middle
			continue
		}
		low = middle
		if high-low > worthSaving {
			if err := p.save(ctx, h); err != nil {
				return Found{}, err
			}
		}
	}
	return Found{Instructions: high, Replays: p.Replays - replays}, to(high)
}

// save saves a state of a hunt.
func (p *Player) save(ctx context.Context, h Hunt) error {
	if err := p.Save(ctx); err != nil || h.Keep {
		return err
	}
	return p.Prune(ctx, few)
}

// comb goes through the recording in strides. It does not hold at low, and does at high, where the machine stands.
func (p *Player) comb(ctx context.Context, h Hunt) (low, high int64, err error) {
	var early func() bool
	if h.early != nil {
		early = func() bool { return h.early(p) }
	}
	stops := p.stops()
	for first := true; ; first = false {
		holds, err := h.Holds(ctx, p)
		if err != nil {
			return 0, 0, err
		}
		at, err := p.Place(ctx)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case holds && first:
			return at.Instructions, at.Instructions, nil
		case holds:
			return low, at.Instructions, nil
		}
		low = at.Instructions
		if err := p.save(ctx, h); err != nil {
			return 0, 0, err
		}
		_, err = p.forth(ctx, next(stops, low), early)
		if errors.Is(err, ErrEnded) {
			if holds, herr := h.Holds(ctx, p); herr != nil || !holds {
				return 0, 0, errors.Join(herr, ErrNever)
			}
			at, err := p.Place(ctx)
			return low, at.Instructions, err
		}
		if err != nil {
			return 0, 0, err
		}
	}
}
