package fwcfg

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// I/O ports of the device on x86: the selector takes a key of 16 bits, the data
// port gives a byte at a time.
const (
	portSelector = 0x510
	portData     = 0x511
)

type ioPorts struct{}

// openPorts asks the kernel for the ports, which it gives to single threads.
func openPorts() (ports, error) {
	runtime.LockOSThread()
	if err := unix.Ioperm(portSelector, 2, 1); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("get its I/O ports: %w", err)
	}
	return ioPorts{}, nil
}

func (ioPorts) close() error {
	defer runtime.UnlockOSThread()
	return unix.Ioperm(portSelector, 2, 0)
}

func (ioPorts) choose(key uint16) { outw(portSelector, key) }

func (ioPorts) read(p []byte) {
	if len(p) > 0 {
		insb(portData, &p[0], len(p))
	}
}

// outw writes a word to an I/O port.
func outw(port, value uint16)

// insb reads n bytes from an I/O port to where p points.
//
//go:noescape
func insb(port uint16, p *byte, n int)
