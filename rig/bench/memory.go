package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dsoftbus-rig/rig/record"
)

// Memory is what clones cost: the proportional set size of their QEMU processes, in which a page that several processes share, as
// most pages of the saved machine's memory, counts for each by its share. Clones of other rigs on this host share them too.
type Memory struct {
	Idle    Clones `json:"idle"`    // configured, with no service
	Serving Clones `json:"serving"` // with their services running
}

// Clones are figures of several clones.
type Clones struct {
	Two     *Samples `json:"two_clones_bytes,omitempty"` // of two together
	Three   *Samples `json:"three_clones_bytes,omitempty"`
	Further *Samples `json:"further_clone_bytes,omitempty"` // three less two
}

// measureMemory plays scenarios that wait, and looks at their machines from outside.
func measureMemory(ctx context.Context, p *player, r *Report) error {
	rounds := p.cfg.rounds(someRounds)
	p.cfg.Log(fmt.Sprintf("memory: %d rounds of two and of three clones", rounds))
	r.Memory = &Memory{}
	for _, kind := range []struct {
		name string
		to   *Clones
	}{{"idle", &r.Memory.Idle}, {"serving", &r.Memory.Serving}} {
		var two, three, further []float64
		for range rounds {
			ofTwo, err := p.clonesMemory(ctx, kind.name, 2)
			if err != nil {
				return err
			}
			ofThree, err := p.clonesMemory(ctx, kind.name, 3)
			if err != nil {
				return err
			}
			two, three, further = append(two, ofTwo), append(three, ofThree), append(further, ofThree-ofTwo)
			*kind.to = Clones{Two: sampled(two), Three: sampled(three), Further: sampled(further)}
		}
	}
	return nil
}

// errMeasured ends a scenario that has been looked at.
var errMeasured = errors.New("the measurement is over")

// clonesMemory returns the bytes that n clones of a kind take together.
func (p *player) clonesMemory(ctx context.Context, kind string, n int) (float64, error) {
	item, err := p.embedded(fmt.Sprintf("%s-%d", kind, n))
	if err != nil {
		return 0, err
	}
	playing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	waits := make(chan struct{})
	played := make(chan error, 1)
	go func() {
		_, err := p.play(playing, item, playWait, func(e record.Event) {
			if e.Kind == record.KindStepStart && strings.HasPrefix(e.Text, "sleep") {
				close(waits)
			}
		})
		played <- err
	}()
	var total int64
	var lookErr error
	select {
	case <-waits:
		total, lookErr = machinesMemory(n)
		stop(errMeasured)
		err = <-played
	case err = <-played:
		if err == nil {
			err = fmt.Errorf("%s ended before it was looked at", item.Name)
		}
	}
	if lookErr != nil {
		return 0, lookErr
	}
	// Its deadline may have ended it, or a machine, while it was looked at.
	if !errors.Is(err, errMeasured) {
		return 0, err
	}
	return float64(total), nil
}

// machinesMemory returns the proportional set size of the n machines that a worker of this process runs, in bytes.
func machinesMemory(n int) (int64, error) {
	children, err := processTree()
	if err != nil {
		return 0, err
	}
	var machines []int
	for _, worker := range children[os.Getpid()] {
		machines = append(machines, children[worker]...)
	}
	if len(machines) != n {
		return 0, fmt.Errorf("look at %d machines: there are %d processes", n, len(machines))
	}
	var total int64
	for _, pid := range machines {
		for rest := []int{pid}; len(rest) > 0; rest = rest[1:] {
			// QEMU may be behind a program that starts it.
			rest = append(rest, children[rest[0]]...)
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", rest[0]))
			if err != nil {
				return 0, fmt.Errorf("look at a machine's memory: %w", err)
			}
			pss, err := parsePss(data)
			if err != nil {
				return 0, fmt.Errorf("look at a machine's memory: /proc/%d/smaps_rollup: %w", rest[0], err)
			}
			total += pss
		}
	}
	return total, nil
}

// parsePss reads the line "Pss:   1234 kB" of a smaps_rollup.
func parsePss(data []byte) (int64, error) {
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("it has no Pss")
}

// processTree returns the children of every process that is seen from here.
func processTree() (map[int][]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		pid, parent, err := parseStat(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		children[parent] = append(children[parent], pid)
	}
	return children, nil
}

// parseStat reads a process's id and its parent's from its stat: "12 (name) S 1 ...". The name may hold anything.
func parseStat(data []byte) (pid, parent int, err error) {
	head, _, ok := bytes.Cut(data, []byte(" ("))
	tail := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if !ok || len(tail) < 2 {
		return 0, 0, fmt.Errorf("not a process's stat: %q", data)
	}
	pid, err = strconv.Atoi(string(head))
	if err == nil {
		parent, err = strconv.Atoi(tail[1])
	}
	return pid, parent, err
}
