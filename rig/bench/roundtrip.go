package bench

import (
	"context"
	"fmt"
	"slices"

	"dsoftbus-rig/rig/suite"
)

// roundtripName is the scenario that stands for all.
const roundtripName = "roundtrip/basic"

// Roundtrip are the figures of roundtrip/basic on clones.
type Roundtrip struct {
	Whole  *Samples            `json:"whole_seconds,omitempty"`  // from its start to its verdict, teardown included
	Phases map[string]*Samples `json:"phases_seconds,omitempty"` // by phase: network, boot, configure, services, script, teardown
}

func measureRoundtrip(ctx context.Context, p *player, r *Report) error {
	i := slices.IndexFunc(p.cfg.Items, func(item suite.Item) bool { return item.Name == roundtripName })
	if i < 0 {
		return fmt.Errorf("there is no scenario %s", roundtripName)
	}
	rounds := p.cfg.rounds(someRounds)
	p.cfg.Log(fmt.Sprintf("roundtrip: %d rounds of %s", rounds, roundtripName))
	var whole []float64
	phases := tally{}
	defer func() { r.Roundtrip = &Roundtrip{Whole: sampled(whole), Phases: phases.samples()} }()
	for range rounds {
		es, err := p.play(ctx, p.cfg.Items[i], playWait, nil)
		if err != nil {
			return err
		}
		end, _ := es.end()
		whole = append(whole, end.Seconds)
		phases.addPhases(es, false)
	}
	return nil
}
