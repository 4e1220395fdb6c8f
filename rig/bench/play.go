package bench

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/suite"
)

//go:embed scripts
var scripts embed.FS

// playWait is how long one scenario of a few steps may take as a whole, before scaling. Each of its steps has a deadline of its own;
// this one is for what is between them.
const playWait = 2 * time.Minute

// A player plays scenarios in the way of `rig run`, and keeps no record of them.
type player struct {
	cfg *Config
	dir string // for scripts and records; its owner removes it
}

// item makes a scenario of a text.
func (p *player) item(name string, text []byte) (suite.Item, error) {
	file := filepath.Join(p.dir, name+".txtar")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return suite.Item{}, fmt.Errorf("write scenario %s: %w", name, err)
	}
	script, err := scenario.Load(file, nil)
	if err != nil {
		return suite.Item{}, err
	}
	return suite.Item{Name: "bench/" + name, File: file, Script: script}, nil
}

// embedded returns the scenario scripts/NAME.txtar.
func (p *player) embedded(name string) (suite.Item, error) {
	text, err := scripts.ReadFile("scripts/" + name + ".txtar")
	if err != nil {
		return suite.Item{}, err
	}
	return p.item(name, text)
}

// play plays a scenario on clones, or as its script says, and returns its events. each, when not nil, gets them as they come, and
// must return at once. A scenario that does not pass is an error, but the events are returned.
func (p *player) play(ctx context.Context, item suite.Item, within time.Duration, each func(record.Event)) (events, error) {
	within = p.cfg.scaled(within)
	late := fmt.Errorf("not within %s", within)
	limited, cancel := context.WithTimeoutCause(ctx, within, late)
	defer cancel()
	var all events
	run, err := record.Create(filepath.Join(p.dir, "runs"), "bench", func(e record.Event) {
		if e.Scenario == "" {
			return
		}
		all = append(all, e)
		if each != nil {
			each(e)
		}
	})
	if err != nil {
		return nil, err
	}
	capture := suite.KeepNever
	if p.cfg.Capture {
		capture = suite.KeepFail
	}
	_, err = suite.Run(limited, suite.Config{Capture: capture, Rounds: 1, Jobs: 1, Items: []suite.Item{item}, Host: p.cfg.Host, Images: p.cfg.Images, Saved: p.cfg.Saved, Run: run})
	err = errors.Join(err, run.Close(), os.RemoveAll(run.Dir()))
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case limited.Err() != nil:
		err = late
	case err == nil:
		err = all.verdict()
	}
	if err != nil {
		return all, fmt.Errorf("play %s: %w", item.Name, err)
	}
	return all, nil
}

// events are those of one scenario, in time.
type events []record.Event

// verdict returns nil when the scenario passed, else why it did not.
func (es events) verdict() error {
	end, ok := es.end()
	switch {
	case !ok:
		return errors.New("it has no verdict")
	case end.Result == record.Passed:
		return nil
	case end.Failure != nil:
		return end.Failure
	}
	return fmt.Errorf("it was %s: %s", end.Result, end.Text)
}

// end returns the event of the scenario's end.
func (es events) end() (record.Event, bool) {
	i := slices.IndexFunc(es, func(e record.Event) bool { return e.Kind == record.KindScenarioEnd })
	if i < 0 {
		return record.Event{}, false
	}
	return es[i], true
}

// phase returns the seconds of one of the scenario's own phases; one that came several times is added up.
func (es events) phase(name string) (seconds float64, there bool) {
	for _, e := range es {
		if e.Kind == record.KindPhase && e.Node == "" && e.Name == name {
			seconds += e.Seconds
			there = true
		}
	}
	return seconds, there
}

// phases returns the seconds of several of the scenario's own phases, all of which must be there.
func (es events) phases(names ...string) (seconds float64, err error) {
	for _, name := range names {
		s, ok := es.phase(name)
		if !ok {
			return 0, fmt.Errorf("the scenario's events have no phase %q", name)
		}
		seconds += s
	}
	return seconds, nil
}

// A tally collects the values of figures that have names.
type tally map[string][]float64

// samples returns the Samples of each name, nil when there is none.
func (t tally) samples() map[string]*Samples {
	if len(t) == 0 {
		return nil
	}
	out := make(map[string]*Samples, len(t))
	for name, values := range t {
		out[name] = sampled(values)
	}
	return out
}

// addPhases adds the phases that a scenario's events have: its own, or those of its nodes.
func (t tally) addPhases(es events, ofNodes bool) {
	own := tally{}
	for _, e := range es {
		switch {
		case e.Kind != record.KindPhase || ofNodes != (e.Node != ""):
		case ofNodes:
			t[e.Name] = append(t[e.Name], e.Seconds)
		default:
			own[e.Name] = append(own[e.Name], e.Seconds)
		}
	}
	for name := range own {
		seconds, _ := es.phase(name)
		t[name] = append(t[name], seconds)
	}
}
