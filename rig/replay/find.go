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
	// lowest is the state from which a hunt goes on.
	lowest = "lowest"
)

// kept is the name of the n-th state that stays.
func kept(n int) string { return fmt.Sprintf("kept-%d", n) }

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
			all = append(all, at.Instructions)
			for at.Time.Sub(p.life.Started) >= took*time.Duration(n)/strides {
				n++
			}
		}
	}
	return all
}

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
	if !keep {
		return p.RunTo(ctx, to)
	}
	stops := p.stops()
	for n := 0; ; n++ {
		at, err := p.Place(ctx)
		if err != nil {
			return err
		}
		if err := p.Save(ctx, kept(n)); err != nil {
			return err
		}
		stop := next(stops, at.Instructions)
		if p.noSave != nil || stop >= to {
			return p.RunTo(ctx, to)
		}
		if err := p.RunTo(ctx, stop); err != nil {
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
	for high-low > 1 {
		if h.Told != nil {
			h.Told(low, high)
		}
		middle := low + (high-low)/2
		if at > middle {
			if err := p.Back(ctx, lowest); err != nil {
				return Found{}, err
			}
		}
		if err := p.RunTo(ctx, middle); err != nil {
			return Found{}, err
		}
		at = middle
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
			if err := p.Save(ctx, lowest); err != nil {
				return Found{}, err
			}
		}
	}
	if at > high {
		if err := p.Back(ctx, lowest); err != nil {
			return Found{}, err
		}
	}
	if err = p.RunTo(ctx, high); errors.Is(err, ErrEnded) {
		err = nil // it holds at the very end
	}
	return Found{Instructions: high, Replays: p.Replays - replays}, err
}

// comb goes through the recording in strides. It does not hold at low, where the state lowest was saved, and does at high, where the machine stands.
func (p *Player) comb(ctx context.Context, h Hunt) (low, high int64, err error) {
	var early func() bool
	if h.early != nil {
		early = func() bool { return h.early(p) }
	}
	stops := p.stops()
	for n := 0; ; n++ {
		holds, err := h.Holds(ctx, p)
		if err != nil {
			return 0, 0, err
		}
		at, err := p.Place(ctx)
		if err != nil {
			return 0, 0, err
		}
		if holds && n == 0 {
			return at.Instructions, at.Instructions, nil
		}
		if holds {
			return low, at.Instructions, nil
		}
		low = at.Instructions
		if h.Keep {
			if err := p.Save(ctx, kept(n)); err != nil {
				return 0, 0, err
			}
		}
		if err := p.Save(ctx, lowest); err != nil {
			return 0, 0, err
		}
		_, err = p.runTo(ctx, next(stops, low), early)
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
