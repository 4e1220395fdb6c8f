package lan

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/hashicorp/go-multierror"
)

// Faults are those in force, each with what it has done so far. All lists are in the order of their ports' names.
type Faults struct {
	Cables      []CableFault // that are pulled
	Impairments []ImpairmentFault
	Blocks      []BlockFault
	Partition   *Drops // nil: there is none
}

// A CableFault is a pulled cable.
type CableFault struct {
	Port  string
	Drops CableDrops
}

// An ImpairmentFault is an impairment of what a port sends.
type ImpairmentFault struct {
	Port       string
	Impairment Impairment
	Counts     ImpairmentCounts
}

// A BlockFault is a block with its count, and First as it was asked for.
type BlockFault struct {
	Block Block
	Drops Drops
}

// Faults returns all faults in force with their counts.
func (l *LAN) Faults() (Faults, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Faults{}, fmt.Errorf("read faults: %w", os.ErrClosed)
	}
	drops := make(map[filterKey][]Drops)
	var errs *multierror.Error
	if len(l.filters) > 0 {
		counts, err := counters()
		errs = multierror.Append(errs, err)
		for key, f := range l.filters {
			drops[key] = f.drops(counts)
		}
	}
	faults := filterFaults(l.filters, drops)
	for _, name := range slices.Sorted(maps.Keys(l.impaired)) {
		im := l.impaired[name]
		counts, err := l.impairmentCounts(im)
		errs = multierror.Append(errs, err)
		faults.Impairments = append(faults.Impairments, ImpairmentFault{name, im.impairment, counts})
	}
	if err := errs.ErrorOrNil(); err != nil {
		return faults, fmt.Errorf("read faults: %w", err)
	}
	return faults, nil
}

// Heal ends every fault and returns them with their final counts. An error joins what could not be ended; the rest is.
func (l *LAN) Heal() (Faults, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Faults{}, fmt.Errorf("heal: %w", os.ErrClosed)
	}
	var errs *multierror.Error
	keys := slices.Collect(maps.Keys(l.filters))
	were := maps.Clone(l.filters)
	drops, err := l.clearFilters(keys...)
	if err != nil {
		errs = multierror.Append(errs, explainNetlink(err))
	}
	faults := filterFaults(were, drops)
	for _, name := range slices.Sorted(maps.Keys(l.impaired)) {
		im := l.impaired[name]
		counts, err := l.clearImpairment(name)
		errs = multierror.Append(errs, err)
		faults.Impairments = append(faults.Impairments, ImpairmentFault{name, im.impairment, counts})
	}
	if err := errs.ErrorOrNil(); err != nil {
		return faults, fmt.Errorf("heal: %w", err)
	}
	return faults, nil
}

func filterFaults(filters map[filterKey]*filter, drops map[filterKey][]Drops) Faults {
	var faults Faults
	for key, f := range filters {
		switch key.kind {
		case "cable":
			faults.Cables = append(faults.Cables, CableFault{key.port, cableDrops(drops[key])})
		case "block":
			b := key.block
			b.First = f.first
			faults.Blocks = append(faults.Blocks, BlockFault{b, first(drops[key])})
		case "partition":
			all := total(drops[key])
			faults.Partition = &all
		}
	}
	slices.SortFunc(faults.Cables, func(a, b CableFault) int { return cmp.Compare(a.Port, b.Port) })
	slices.SortFunc(faults.Blocks, func(a, b BlockFault) int {
		return cmp.Or(
			cmp.Compare(a.Block.From, b.Block.From),
			cmp.Compare(a.Block.To, b.Block.To),
			cmp.Compare(a.Block.Proto, b.Block.Proto),
			cmp.Compare(a.Block.Port, b.Block.Port),
		)
	})
	return faults
}
