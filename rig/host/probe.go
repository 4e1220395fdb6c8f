package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/pace"
	"dsoftbus-rig/rig/worker"

	"golang.org/x/sys/unix"
)

// Kinds of the jobs this package gives to workers.
const (
	ProbeJob   = "probe"   // machine.Hardware -> probeResult
	NetworkJob = "network" // nothing -> nothing: builds the network and takes it away
	FaultsJob  = "faults"  // nothing -> Faults: tries what the kernel has to break a network with
)

const (
	// firstByte is how long an accelerated machine may be silent on an idle host.
	// Its kernel speaks within 0.2 s; a broken /dev/kvm lets it spin for ever
	// before its first word.
	firstByte = 4 * time.Second
	// probeBoot bounds the boot that is measured, on an idle host.
	probeBoot = 60 * time.Second
)

// probeResult is what a probe tells: the boot's duration and how much of it the
// emulator was on a processor, or why there was none.
type probeResult struct {
	Seconds float64 `json:"seconds"`
	Work    float64 `json:"work"`
	Error   string  `json:"error,omitempty"`
}

// Probe carries out a ProbeJob.
func Probe(ctx context.Context, job json.RawMessage, out io.Writer) error {
	var hw machine.Hardware
	if err := json.Unmarshal(job, &hw); err != nil {
		return err
	}
	var result probeResult
	d, err := boot(ctx, hw)
	if err != nil {
		result.Error = err.Error()
	}
	result.Seconds, result.Work = d.Seconds(), work(d).Seconds()
	return json.NewEncoder(out).Encode(result)
}

// work returns how long this worker's one machine, which has ended, was on a
// processor while it booted for d. Its threads hardly work at the same time.
func work(d time.Duration) time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &used) != nil {
		return d
	}
	busy := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	if busy <= 0 {
		return d
	}
	return min(d, busy)
}

// boot boots one machine without a network and returns how long its agent took to
// answer.
func boot(ctx context.Context, hw machine.Hardware) (time.Duration, error) {
	slowness := pace.Slowness()
	within := func(d time.Duration) time.Duration { return time.Duration(float64(d) * slowness) }
	limit := within(probeBoot)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("a probe machine was not up within %s", limit))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	start := time.Now()
	m, err := machine.Start(ctx, machine.Spec{
		Hardware: hw,
		Name:     "probe",
		// The kernel's first words are the first sign of life there is.
		Append: "loglevel=6 earlyprintk=ttyS0",
	}, machine.Files{}, os.Stderr)
	if err != nil {
		return 0, err
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	defer m.Kill()
	spoken := make(chan struct{})
	for _, stream := range []string{"console", "journal"} {
		conn := m.Stream(stream)
		defer conn.Close()
		readers.Go(func() {
			if stream == "console" {
				if n, _ := conn.Read(make([]byte, 1)); n == 1 {
					close(spoken)
				}
			}
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	readers.Go(func() {
		for range m.Events() {
		}
	})
	if hw.Accel == "kvm" {
		silent := time.AfterFunc(within(firstByte), func() {
			select {
			case <-spoken:
			default:
				fail(fmt.Errorf("a probe machine printed nothing within %s", within(firstByte)))
			}
		})
		defer silent.Stop()
	}
	if err := m.Resume(ctx); err != nil {
		return 0, err
	}
	agent, _, err := guest.Reach(ctx, m, m.Stream("control"))
	if err != nil {
		return 0, err
	}
	return time.Since(start), agent.Close()
}

// Network carries out a NetworkJob.
func Network(ctx context.Context, _ json.RawMessage, _ io.Writer) error {
	return lan.Probe(ctx, lan.Config{})
}

// CheckNetwork tells whether this host lets its user build the network, by
// building one.
func CheckNetwork(ctx context.Context) error {
	if err := lan.Check(ctx, ""); err != nil {
		return err
	}
	p, err := worker.Start(ctx, NetworkJob, nil)
	if err != nil {
		return err
	}
	_, copyErr := io.Copy(io.Discard, p.Out())
	return errors.Join(p.Wait(), copyErr)
}

// Faults says what this host's kernel lacks to break a network; "" is nothing. Without filters there is no block, no partition and no pulled cable.
// What it lacks of impairments the machines' own kernel does.
type Faults struct {
	Filters string `json:"filters,omitempty"`
	Netem   string `json:"netem,omitempty"`
}

// TryFaults carries out a FaultsJob.
func TryFaults(_ context.Context, _ json.RawMessage, out io.Writer) error {
	var f Faults
	switch err := lan.ProbeFilters(); {
	case errors.Is(err, lan.ErrNoFilters):
		f.Filters = err.Error()
	case err != nil:
		return err
	}
	switch err := lan.ProbeNetem(); {
	case errors.Is(err, lan.ErrNoNetem):
		f.Netem = err.Error()
	case err != nil:
		return err
	}
	return json.NewEncoder(out).Encode(f)
}

// CheckFaults tries what this host's kernel has to break a network with, in a namespace of its own.
func CheckFaults(ctx context.Context) (Faults, error) {
	var f Faults
	p, err := worker.Start(ctx, FaultsJob, nil)
	if err != nil {
		return f, err
	}
	decodeErr := json.NewDecoder(p.Out()).Decode(&f)
	if err := p.Wait(); err != nil {
		return f, err
	}
	return f, decodeErr
}
