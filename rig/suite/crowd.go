package suite

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// machinesPerScenario is how many machines most scenarios have. Each has one virtual
// processor, which keeps one core busy at most.
const machinesPerScenario = 2

// MemoryPerScenario is how much free memory each scenario is given room for when
// nobody says how many are to be played side by side: two machines that boot from
// their kernel at their largest (256 MiB of their own and some 60 MiB of emulator
// each), and a worker. On clones a scenario takes some 160 MiB.
const MemoryPerScenario = 704 << 20

// Cores is how many processors this process may use, limits of its control group
// included.
func Cores() int { return runtime.GOMAXPROCS(0) }

// DefaultJobs is how many scenarios are played side by side when nobody says: as many
// as there are cores and as fit into the memory that is free, and at least one. A
// scenario waits as much as it computes, so its two machines fill about one core.
func DefaultJobs() int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return Cores()
	}
	defer f.Close()
	available, err := memAvailable(f)
	if err != nil {
		return Cores()
	}
	return defaultJobs(Cores(), available)
}

func defaultJobs(cores int, available uint64) int {
	return int(max(1, min(uint64(cores), available/MemoryPerScenario)))
}

// memAvailable reads how many bytes programs can have before the host has to swap,
// from what /proc/meminfo holds (proc_meminfo(5)).
func memAvailable(r io.Reader) (uint64, error) {
	for s := bufio.NewScanner(r); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 54)
		if err != nil {
			return 0, fmt.Errorf("read the free memory: %w", err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("read the free memory: /proc/meminfo does not say")
}

// crowding is how many machines share a core when all of those side by side are busy,
// at least 1. The slowdown is multiplied by it: that of the host was measured with a
// machine that had a core to itself.
func crowding(jobs, cores int) float64 {
	return max(1, float64(jobs*machinesPerScenario)/float64(cores))
}
