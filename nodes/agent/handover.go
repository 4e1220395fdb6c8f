package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/fwcfg"
	"dsoftbus-rig/nodes/journal"

	"golang.org/x/sys/unix"
)

// settled is how long after its start a kernel has nothing left to do by itself. The
// last of it is a second look at the clock's frequency (tsc_refine_calibration_work),
// a second after the devices were found.
const settled = 4 * time.Second

// takeOver is where a machine that is to be saved waits, and where its clones begin:
// each with an identity of its own, which it takes. In any other machine it does
// nothing, nor in a clone that was reset: that one has booted, and is configured
// like any machine that has.
//
// The machine is settled first, so that no clone has to do what a kernel leaves for
// after its boot. Nothing tells when the device's content is another one, which
// happens between two instructions; so the agent looks again every millisecond, for
// the short time until the machine is saved. A clone wakes up from one of these naps:
// that takes a tenth of the pieces of kernel code that the news of a connection does.
func takeOver(s *Server, network card) (err error) {
	file, err := fwcfg.Open(agentapi.HandoverFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fwcfg.ErrNoDevice):
		return nil
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if file.First() != agentapi.HandoverWait {
		return nil
	}
	if err := rehearse(network); err != nil {
		return err
	}
	nap := func(d time.Duration) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // a signal makes it shorter, which does no harm
	}
	for monotonic() < settled {
		nap(settled - monotonic())
	}
	if err := s.Journal.Line(agentapi.AgentUnit, "stdout", []byte(agentapi.IdleLine), false); err != nil {
		return err
	}
	for file.First() == agentapi.HandoverWait {
		nap(time.Millisecond)
	}
	since := monotonic()
	line := agentapi.ConfiguredLine
	if err := become(file.Read, s.Configure); err != nil {
		line = agentapi.RefusedLine + err.Error()
	} else {
		took := (monotonic() - since).Round(time.Millisecond)
		line += strconv.FormatInt(took.Milliseconds(), 10) + " ms"
	}
	return s.Journal.Line(agentapi.AgentUnit, "stdout", []byte(line), false)
}

// become reads the rest of a handover and configures the machine by it.
func become(read func([]byte), configure func(agentapi.Identity) error) error {
	var size [4]byte
	read(size[:])
	n := binary.LittleEndian.Uint32(size[:])
	if n > agentapi.MaxHandover {
		return fmt.Errorf("the identity has %d bytes, the most is %d", n, agentapi.MaxHandover)
	}
	data := make([]byte, n)
	read(data)
	var id agentapi.Identity
	if err := id.UnmarshalBinary(data); err != nil {
		return err
	}
	return configure(id)
}

// rehearse takes an identity once, to no effect. What the first time costs (pages
// to be mapped, memory to be had) is then part of the machine that is saved, not of
// each clone.
func rehearse(network card) error {
	handover, err := agentapi.Handover(agentapi.Identity{
		Hostname: "node", MAC: make(net.HardwareAddr, 6), Address: netip.MustParsePrefix("10.42.0.1/24"), Clock: time.Now(),
		Entropy: make([]byte, minEntropy), Files: []agentapi.File{{Path: "/none", Mode: 0o600, Content: []byte("none")}},
	})
	if err == nil {
		rest := bytes.NewReader(handover[1:])
		err = become(func(p []byte) { _, _ = io.ReadFull(rest, p) }, network.rehearse)
	}
	if err == nil {
		err = journal.NewWriter(io.Discard, monotonic).Line(agentapi.AgentUnit, "stdout", []byte(agentapi.ConfiguredLine), false)
	}
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	// A clone then begins with as little garbage as can be.
	runtime.GC()
	return nil
}
