// Package agent is the first program of a machine after u-root's init: it loads
// the kernel modules, then serves the rig over the virtio-serial ports named in
// package agentapi: it gives the machine its identity, runs programs and
// supervises services, copies files, and journals every line they print.
//
// It owns what happens inside the machine on the rig's behalf. It never uses the
// network for itself, so nothing a scenario does to the network cuts it off, and
// it knows nothing of the protocol the services speak.
package agent

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/coverage"
	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/nodes/stacks"
)

// moduleDir is where the image's modules layer puts the kernel modules, the order to
// load them in, and the list of those that are loaded only on demand.
const moduleDir = "/lib/rig/modules"

// portWait bounds how long after loading the drivers the virtio-serial ports may
// take to appear. They come within milliseconds; without them nobody would ever
// hear from this machine, and the kernel console is where it can say so.
const portWait = 30 * time.Second

// Run makes this process the agent of the machine it runs in. It returns only
// when the machine is of no use any more, with the error that made it so.
func Run(ctx context.Context) error {
	log.SetFlags(0)
	log.SetPrefix("agent: ")
	modules, err := loadModules(moduleDir)
	if err != nil {
		return err
	}
	if err := reportPrograms(printkFile); err != nil {
		return err
	}
	control, journalPort, err := openWires(ctx)
	if err != nil {
		return err
	}
	network, err := openCard()
	if err != nil {
		return err
	}
	entropy, err := openEntropySink()
	if err != nil {
		return err
	}
	// Every node has its identity there; only its owner may look.
	if err := os.MkdirAll(device.DefaultDir, 0o700); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/bin:/bbin:/sbin:/usr/bin:/usr/sbin"); err != nil {
		return err
	}
	faults := &impairer{network: network, modules: moduleDir}
	asker := stacks.NewAsker(stacks.Dir)
	if coverage.On {
		counters = asker
	}
	s := &Server{
		Journal:    journal.NewWriter(journalPort, monotonic),
		Supervisor: NewSupervisor(),
		Configure:  configurer(entropy, network),
		Modules:    modules,
		Impair:     faults.impair,
		Impairment: faults.impairment,
		StepClock:  stepClock,
		Stacks:     asker.Ask,
	}
	if err := takeOver(s, network); err != nil {
		return err
	}
	if _, ok := control.(*netWire); ok {
		if err := s.Journal.Line(agentapi.AgentUnit, "stdout", []byte(agentapi.ListeningLine), false); err != nil {
			return err
		}
	}
	for {
		conn, err := control.next(ctx)
		if err != nil {
			return err
		}
		// A connection that ends badly is the rig's to notice: it has the
		// other end. The machine stays up for the next one.
		if err := s.Serve(ctx, conn); err != nil && !errors.Is(err, io.EOF) {
			log.Printf("control connection: %v", err)
		}
	}
}
