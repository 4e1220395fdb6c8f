package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/nodes/agentapi"
	journallines "dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/rig/guest"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/warm"
	"dsoftbus-rig/rig/worker"
)

// What a machine's agent does to the machine is tested here with one real machine and
// the rig as the other end of its cable.

// faultsJob is the kind of the job that plays the faults: machine.Hardware -> faultsReport.
const faultsJob = "faults"

// A faultsReport is what a machine showed. Durations are round trips of echoes; echoes that were
// not answered have none.
type faultsReport struct {
	Started, Ended agentapi.Info

	Plain, Replaced, Delayed, Slow, Doubled, Restored time.Duration // the shortest of some
	Lossy                                             string        // what echoes printed while all was lost

	None, BeforeDelay, WhileDelayed, BeforeSlow, WhileLossy, WhileDoubled, BeforeEnd, AtEnd agentapi.ImpairmentStatistics

	Forward, Back agentapi.Stepped
	Year          string // by `date`, between the two
	TooFar        string // the error of a step out of range
	AfterTooFar   agentapi.Stepped
}

const (
	faultDelay = 100 * time.Millisecond
	// faultRate has an echo of 98 bytes, as it is on the wire, take 98 ms.
	faultRate = 8_000
	faultStep = 10_000 * time.Hour
	// stepLimit is when one call counts as hung.
	stepLimit = 30 * time.Second
)

// playFaults carries out a faultsJob.
func playFaults(ctx context.Context, data json.RawMessage, out io.Writer) error {
	var hw machine.Hardware
	if err := json.Unmarshal(data, &hw); err != nil {
		return err
	}
	network, err := lan.New(ctx, lan.Config{})
	if err != nil {
		return err
	}
	defer network.Close()
	agent, end, err := bootOn(ctx, network, hw)
	if err != nil {
		return err
	}
	defer end()
	var r faultsReport
	p := &faultPlayer{ctx: ctx, agent: agent, peer: network.Addr()}

	p.call(agentapi.MethodInfo, nil, &r.Started)
	p.call(agentapi.MethodClock, agentapi.Step{By: faultStep}, &r.Forward)
	r.Year = p.run(ctx, "date", "-u", "+%Y")
	p.call(agentapi.MethodClock, agentapi.Step{By: -faultStep}, &r.Back)
	if err := agent.Call(ctx, agentapi.MethodClock, agentapi.Step{By: math.MinInt64}, nil); err != nil {
		r.TooFar = err.Error()
	}
	p.call(agentapi.MethodClock, agentapi.Step{}, &r.AfterTooFar)
	p.call(agentapi.MethodInfo, nil, &r.Ended)

	p.call(agentapi.MethodImpairment, nil, &r.None)
	r.Plain = p.echoes()
	// Nothing of it may stay when it is replaced.
	p.call(agentapi.MethodImpair, agentapi.Impairment{Corrupt: 100, Rate: 100, Loss: 100, Duplicate: 1}, nil)
	p.call(agentapi.MethodImpair, agentapi.Impairment{Jitter: time.Millisecond}, nil)
	r.Replaced = p.echoes()
	p.call(agentapi.MethodImpair, agentapi.Impairment{Delay: faultDelay}, &r.BeforeDelay)
	r.Delayed = p.echoes()
	p.call(agentapi.MethodImpairment, nil, &r.WhileDelayed)
	p.call(agentapi.MethodImpair, agentapi.Impairment{Rate: faultRate}, &r.BeforeSlow)
	r.Slow = p.echoes()
	p.call(agentapi.MethodImpair, agentapi.Impairment{Delay: 10 * time.Millisecond, Duplicate: 100, Reorder: 50}, nil)
	r.Doubled = p.echoes()
	p.call(agentapi.MethodImpairment, nil, &r.WhileDoubled)
	p.call(agentapi.MethodImpair, agentapi.Impairment{}, &r.BeforeEnd)
	p.call(agentapi.MethodImpairment, nil, &r.AtEnd)
	r.Restored = p.echoes()
	p.call(agentapi.MethodImpair, agentapi.Impairment{Loss: 100}, nil)
	lossy, stop := context.WithTimeout(ctx, 3*time.Second) // one echo's time, and the program's
	r.Lossy = p.run(lossy, "netbench", "-peer", p.peer.String(), "ping")
	stop()
	p.call(agentapi.MethodImpairment, nil, &r.WhileLossy)
	if p.err != nil {
		return p.err
	}
	return json.NewEncoder(out).Encode(r)
}

// bootOn starts a machine on the network, a clone where there is a saved one, and
// returns its agent and what ends it.
func bootOn(ctx context.Context, network *lan.LAN, hw machine.Hardware) (*guest.Client, func(), error) {
	id := agentapi.Identity{
		Hostname: "node-a", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 10}, Address: netip.MustParsePrefix("10.42.0.10/24"),
		Clock: time.Now(), Entropy: make([]byte, 64),
	}
	port, err := network.AddPort("tapA")
	if err != nil {
		return nil, nil, err
	}
	tap, err := port.Open()
	if err != nil {
		return nil, nil, err
	}
	defer tap.Close()
	spec, files := machine.Spec{Hardware: hw, Name: "A", MAC: id.MAC.String()}, machine.Files{Tap: tap}
	clone := hw.Saved.RAM != ""
	if clone {
		handover, err := agentapi.Handover(id)
		if err != nil {
			return nil, nil, err
		}
		if files.Handover, err = machine.Memory("handover", handover); err != nil {
			return nil, nil, err
		}
		defer files.Handover.Close()
		spec.RAM, spec.Incoming, spec.Handover = hw.Saved.RAM, true, true
	}
	m, err := machine.Start(ctx, spec, files, os.Stderr)
	if err != nil {
		return nil, nil, err
	}
	var readers sync.WaitGroup
	end := func() {
		m.Kill()
		readers.Wait()
	}
	console, entries := m.Stream("console"), m.Stream("journal")
	readers.Go(func() {
		defer console.Close()
		_, _ = io.Copy(io.Discard, console)
	})
	configured := make(chan struct{})
	readers.Go(func() {
		defer entries.Close()
		_ = journallines.SplitAt(entries, journallines.MaxEntry, func(line []byte, _ bool) {
			if e, err := journallines.Decode(line); err == nil && e.Unit == agentapi.AgentUnit && strings.HasPrefix(e.Line(), agentapi.ConfiguredLine) {
				close(configured)
			}
		})
	})
	readers.Go(func() {
		for range m.Events() {
		}
	})
	agent, err := func() (*guest.Client, error) {
		if clone {
			state, err := os.Open(hw.Saved.State)
			if err != nil {
				return nil, err
			}
			defer state.Close()
			if err := m.Restore(ctx, state); err != nil {
				return nil, err
			}
		}
		if err := m.Resume(ctx); err != nil {
			return nil, err
		}
		if clone {
			// Nobody talks to a clone before it says who it is.
			select {
			case <-configured:
				return guest.New(m.Stream("control")), nil
			case <-m.Done():
				return nil, m.Err()
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		agent, _, err := guest.Reach(ctx, m, m.Stream("control"))
		if err != nil {
			return nil, err
		}
		form, err := id.MarshalBinary()
		if err != nil {
			return nil, err
		}
		return agent, agent.Call(ctx, agentapi.MethodConfigure, form, nil)
	}()
	if err != nil {
		end()
		return nil, nil, err
	}
	return agent, end, nil
}

// A faultPlayer does one thing after the other, until one has failed.
type faultPlayer struct {
	ctx   context.Context
	agent *guest.Client
	peer  netip.Addr // answers echoes
	err   error
}

func (p *faultPlayer) call(method string, in, out any) {
	if p.err == nil {
		ctx, cancel := context.WithTimeoutCause(p.ctx, stepLimit, fmt.Errorf("%s took longer than %s", method, stepLimit))
		defer cancel()
		p.err = p.agent.Call(ctx, method, in, out)
	}
}

// run returns what a program printed, as far as it came to an end in time.
func (p *faultPlayer) run(ctx context.Context, argv ...string) string {
	var stdout, stderr bytes.Buffer
	if p.err == nil {
		_, err := p.agent.Exec(ctx, argv, &stdout, &stderr)
		if ctx.Err() == nil || p.ctx.Err() != nil {
			p.err = err
		}
	}
	return strings.TrimSpace(stdout.String())
}

// echoes returns the shortest of some round trips.
func (p *faultPlayer) echoes() time.Duration {
	const count = 5
	ctx, cancel := context.WithTimeout(p.ctx, stepLimit)
	defer cancel()
	line := p.run(ctx, "netbench", "-peer", p.peer.String(), "ping", "-count", fmt.Sprint(count))
	var got, lost int
	var shortest int64
	if p.err == nil {
		if _, err := fmt.Sscanf(line, "count=%d lost=%d min_us=%d", &got, &lost, &shortest); err != nil || got != count || lost > 0 {
			p.err = fmt.Errorf("ping says %q (%v)", line, err)
		}
	}
	return time.Duration(shortest) * time.Microsecond
}

func TestMachineFaults(t *testing.T) {
	if _, err := exec.LookPath(host.DefaultQEMU); err != nil {
		t.Skip("no qemu-system-x86_64 here: ./scripts/setup installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	log := func(step string) { t.Log(step) }
	set, err := images.Build(ctx, images.Config{SourceDir: "..", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.Detect(ctx, host.Options{CacheDir: cache, Log: log}, set)
	if err != nil {
		if unsupported, ok := errors.AsType[*host.UnsupportedError](err); ok {
			t.Skip(unsupported)
		}
		t.Fatal(err)
	}
	saved, err := warm.Get(ctx, warm.Config{
		Hardware: h.Hardware(set), Version: h.QEMUVersion, CacheDir: filepath.Join(cache, "machines"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, saved := range map[string]machine.Saved{"clone": saved, "booted": {}} {
		t.Run(name, func(t *testing.T) {
			hw := h.Hardware(set)
			hw.Saved = saved
			checkFaults(t, play(t, ctx, hw))
		})
	}
}

// play has a worker play the faults.
func play(t *testing.T, ctx context.Context, hw machine.Hardware) (r faultsReport) {
	t.Helper()
	p, err := worker.Start(ctx, faultsJob, hw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	told, err := io.ReadAll(p.Out())
	if err = errors.Join(err, p.Wait()); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(told, &r); err != nil {
		t.Fatalf("%v: %s", err, told)
	}
	return r
}

func checkFaults(t *testing.T, r faultsReport) {
	t.Logf("round trips: plain %s, with jitter %s, delayed %s, slow %s, doubled %s, restored %s", r.Plain, r.Replaced, r.Delayed, r.Slow, r.Doubled, r.Restored)
	t.Logf("delayed %+v", r.WhileDelayed)
	t.Logf("lossy   %+v", r.WhileLossy)
	t.Logf("doubled %+v", r.WhileDoubled)
	t.Logf("clock   %s -> %s, back %s -> %s", r.Forward.Before, r.Forward.After, r.Back.Before, r.Back.After)
	const busy = faultDelay / 2 // what an echo may take on a busy host
	for what, d := range map[string]time.Duration{"plain": r.Plain, "after a replacement": r.Replaced, "restored": r.Restored} {
		if d <= 0 || d > busy {
			t.Errorf("an echo %s took %s", what, d)
		}
	}
	if d := r.Delayed; d < faultDelay || d > faultDelay+busy {
		t.Errorf("an echo took %s, want %s and a little", d, faultDelay)
	}
	// The wire's 98 bytes at 8,000 bits a second.
	if d := r.Slow; d < 98*time.Millisecond || d > 98*time.Millisecond+busy {
		t.Errorf("an echo took %s, want 98ms and a little", d)
	}
	if r.Lossy != "" {
		t.Errorf("while all was lost ping said %q", r.Lossy)
	}
	none := agentapi.ImpairmentStatistics{}
	if r.None != none || r.AtEnd != none {
		t.Errorf("without an impairment: %+v, %+v", r.None, r.AtEnd)
	}
	// Echoes are of five and three to warm up; a question for a hardware address may come to it.
	if s := r.WhileDelayed; !s.Set || s.Packets < 8 || s.Bytes < 8*98 || s.Dropped != 0 || !r.BeforeSlow.Set || r.BeforeSlow.Packets < s.Packets {
		t.Errorf("while delayed: %+v, when replaced %+v", s, r.BeforeSlow)
	}
	if s := r.WhileLossy; !s.Set || s.Packets != 0 || s.Dropped < 1 {
		t.Errorf("while all was lost: %+v", s)
	}
	if s := r.WhileDoubled; s.Packets+s.Queued < 16 || s.Requeues < 1 || s.Dropped != 0 {
		t.Errorf("doubled and reordered: %+v", s)
	}
	if !r.BeforeDelay.Set || !r.BeforeEnd.Set || r.BeforeEnd.Packets < r.WhileDoubled.Packets {
		t.Errorf("what had been done when it was replaced or ended: %+v, %+v", r.BeforeDelay, r.BeforeEnd)
	}

	// A call takes a moment, which counts for the clock, too.
	const moment = 10 * time.Second
	for step, s := range map[time.Duration]agentapi.Stepped{faultStep: r.Forward, -faultStep: r.Back, 0: r.AfterTooFar} {
		if d := s.After.Sub(s.Before) - step; d < 0 || d > moment {
			t.Errorf("a step of %s went from %s to %s", step, s.Before, s.After)
		}
	}
	if d := r.Back.Before.Sub(r.Forward.After); d < 0 || d > moment {
		t.Errorf("the clock went from %s to %s by itself", r.Forward.After, r.Back.Before)
	}
	if d := time.Since(r.Back.After); d < -time.Second || d > time.Minute {
		t.Errorf("stepped back it is %s", r.Back.After)
	}
	if want := fmt.Sprint(r.Forward.After.Year()); r.Year != want {
		t.Errorf("date says %q, want %s", r.Year, want)
	}
	if !strings.Contains(r.TooFar, "out of range") {
		t.Errorf("a step of 292 years back: %q", r.TooFar)
	}
	if d := r.AfterTooFar.Before.Sub(r.Back.After); d < 0 || d > moment {
		t.Errorf("a step that is refused moved the clock from %s to %s", r.Back.After, r.AfterTooFar.Before)
	}
	if d := r.Ended.Uptime - r.Started.Uptime; d < 0 || d > moment {
		t.Errorf("the time since boot went by %s", d)
	}
}
