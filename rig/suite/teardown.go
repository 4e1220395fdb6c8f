package suite

import (
	"errors"
	"fmt"
	"strings"

	"dsoftbus-rig/rig/node"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
)

// examine looks at what is only known when no machine runs any more: reports of
// nodes that came to their end behind the last step, secret keys in what nodes
// printed, and a record that could not be written. Each fails a scenario that would
// have passed.
func (p *play) examine(e *scenario.Engine, world *node.World, outcome scenario.Outcome) scenario.Outcome {
	if fatal := e.Befell(); fatal != nil && outcome.Failure == nil {
		outcome = p.failure(outcome, &record.Failure{Reason: fatal.Reason, Node: fatal.Node, Message: fatal.Error()})
	}
	leaks, err := world.Leaks(p.rec.Keys())
	if err = errors.Join(err, p.rec.Err()); err != nil && outcome.Failure == nil {
		reason := record.LogIncomplete
		if what, ok := record.Exhausted(err); ok {
			reason, err = record.HostExhausted, fmt.Errorf("this host ran out of %s: %w", what, err)
		}
		outcome = p.failure(outcome, &record.Failure{Reason: reason, Message: err.Error()})
	}
	if len(leaks) == 0 {
		return outcome
	}
	const most = 10 // of them are shown; whoever prints a key once often does it again
	var places []string
	for _, leak := range leaks {
		if len(places) == most {
			places = append(places, fmt.Sprintf("and %d more places", len(leaks)-most))
			break
		}
		places = append(places, leak.String())
	}
	if outcome.Failure == nil {
		message := strings.Join(places, "\n")
		return p.failure(outcome, &record.Failure{Reason: record.KeyLeaked, Node: leaks[0].Node, Message: message})
	}
	// The failure that came first stays; its other evidence is still to be found.
	failure := *outcome.Failure
	failure.Evidence = append(places, failure.Evidence...)
	outcome.Failure = &failure
	text := record.KeyLeaked.Info().Meaning + ": " + strings.Join(places, "; ")
	p.tell(record.Event{Kind: record.KindWarning, Node: leaks[0].Node, Text: text})
	return outcome
}

// failure returns an outcome with a failure that came to light behind the last step.
func (p *play) failure(outcome scenario.Outcome, f *record.Failure) scenario.Outcome {
	f.File = p.job.File
	return scenario.Outcome{Result: f.Reason.Info().Result, Why: outcome.Why, Failure: f}
}
