package debugcon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openPort gets the port for this thread, and looks whether the device is behind it: it reads as its own number.
func openPort() error {
	if err := unix.Ioperm(Port, 1, 1); err != nil {
		return fmt.Errorf("get its I/O port: %w", err)
	}
	if inb(Port) != Port {
		return ErrNoDevice
	}
	return nil
}

func write(p []byte) {
	if len(p) > 0 {
		outsb(Port, &p[0], len(p))
	}
}

// inb reads a byte from an I/O port.
func inb(port uint16) byte

// outsb writes n bytes from where p points to an I/O port.
//
//go:noescape
func outsb(port uint16, p *byte, n int)
