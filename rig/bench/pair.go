package bench

import (
	"context"
	"fmt"

	"dsoftbus-rig/rig/suite"
)

// Pair are the figures of two machines that start at once.
type Pair struct {
	Cold *Samples `json:"cold_seconds,omitempty"` // from the kernel on, until both agents are configured
	Warm *Samples `json:"warm_seconds,omitempty"` // clones, until both agents are configured

	// ColdOverWarm is the median of the cold ones over that of the warm ones.
	ColdOverWarm float64 `json:"cold_over_warm,omitempty"`

	// WarmPhases are the parts of Warm for both nodes together, by phase: boot, configure. WarmNodes are those of each single node,
	// by step: qemu, restore, agent, configure; nodes go through them side by side.
	WarmPhases map[string]*Samples `json:"warm_phases_seconds,omitempty"`
	WarmNodes  map[string]*Samples `json:"warm_nodes_seconds,omitempty"`

	Teardown *Samples `json:"teardown_seconds,omitempty"` // of two clones, until all their processes are gone
}

// pairPhases are the phases until both agents are configured.
var pairPhases = []string{"boot", "configure"}

// A pairTally collects the rounds of Pair.
type pairTally struct {
	cold, warm, teardown []float64
	phases, nodes        tally
}

// addCold adds a round with booted machines.
func (t *pairTally) addCold(es events) error {
	seconds, err := es.phases(pairPhases...)
	if err == nil {
		t.cold = append(t.cold, seconds)
	}
	return err
}

// addWarm adds a round with clones.
func (t *pairTally) addWarm(es events) error {
	seconds, err := es.phases(pairPhases...)
	if err != nil {
		return err
	}
	teardown, err := es.phases("teardown")
	if err != nil {
		return err
	}
	t.warm = append(t.warm, seconds)
	t.teardown = append(t.teardown, teardown)
	for _, name := range pairPhases {
		part, _ := es.phase(name)
		t.phases[name] = append(t.phases[name], part)
	}
	t.nodes.addPhases(es, true)
	return nil
}

func (t *pairTally) pair() *Pair {
	p := &Pair{
		Cold: sampled(t.cold), Warm: sampled(t.warm), Teardown: sampled(t.teardown),
		WarmPhases: t.phases.samples(), WarmNodes: t.nodes.samples(),
	}
	if p.Cold != nil && p.Warm != nil && p.Warm.Median > 0 {
		p.ColdOverWarm = p.Cold.Median / p.Warm.Median
	}
	return p
}

// measurePair plays cold rounds spread among warm ones, so that a neighbour's noise meets both.
func measurePair(ctx context.Context, p *player, r *Report) error {
	warm, cold := p.cfg.rounds(warmRounds), p.cfg.rounds(coldRounds)
	p.cfg.Log(fmt.Sprintf("pair: %d rounds of clones, %d of booted machines", warm, cold))
	clones, err := p.embedded("warm")
	if err != nil {
		return err
	}
	booted, err := p.embedded("cold")
	if err != nil {
		return err
	}
	t := &pairTally{phases: tally{}, nodes: tally{}}
	defer func() { r.Pair = t.pair() }()
	round := func(item suite.Item, add func(events) error) error {
		es, err := p.play(ctx, item, playWait, nil)
		if err != nil {
			return err
		}
		return add(es)
	}
	// The first one finds the save's memory on disk, later ones in the page cache: it is not counted.
	if err := round(clones, func(events) error { return nil }); err != nil {
		return err
	}
	for i := range warm {
		for len(t.cold) < cold && len(t.cold)*warm <= i*cold {
			if err := round(booted, t.addCold); err != nil {
				return err
			}
		}
		if err := round(clones, t.addWarm); err != nil {
			return err
		}
	}
	return nil
}
