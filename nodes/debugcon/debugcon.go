// Package debugcon writes to QEMU's debug console, a device of one I/O port: each byte written there is one in a file of the host
// (QEMU, hw/char/debugcon.c). It has no state, no interrupt and no way to say "not now", so a machine that is replayed with nobody at the other end writes
// exactly what it wrote before, and can be restored at any instruction.
//
// It owns the port.
package debugcon

import (
	"errors"
	"fmt"
	"runtime"
)

// Port is the device's I/O port.
const Port = 0xe9

// ErrNoDevice says that this machine has no such device.
var ErrNoDevice = errors.New("this machine has no debug console")

// A Writer writes to the device. It is safe for concurrent use; each Write is whole.
type Writer struct {
	lines chan []byte
	taken chan struct{}
}

// Open finds the device. It takes root's permission to use I/O ports. The writer lives as long as the process, and so does the goroutine that owns the port: the
// kernel gives ports to single threads.
func Open() (*Writer, error) {
	w := &Writer{lines: make(chan []byte), taken: make(chan struct{})}
	opened := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := openPort()
		opened <- err
		if err != nil {
			return // and the thread with it
		}
		for line := range w.lines {
			write(line)
			w.taken <- struct{}{}
		}
	}()
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("open the debug console: %w", err)
	}
	return w, nil
}

// Write writes all of p. It does not fail.
func (w *Writer) Write(p []byte) (int, error) {
	w.lines <- p
	<-w.taken
	return len(p), nil
}
