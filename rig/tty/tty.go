// Package tty remembers the settings of a terminal that a program changes, and
// restores them however the program ends: also by a panic, by SIGKILL, or in a
// child that another process has killed.
//
// It owns one process per terminal that is kept, and changes no settings
// itself.
package tty

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is the first argument of the process that restores a terminal's
// settings when the program has ended without doing so.
const Command = "restore-terminal"

// Program is the file that Keep starts with Command as its argument; its main
// function calls Main then. Empty: Keep starts nothing, and the settings are
// restored by this process alone.
var Program string

// pipeFD is the keeper's end of a pipe, of which the program has the other one:
// its end is the program's.
const pipeFD = 3

// startWait bounds the wait for the keeper to have read the settings: without
// it the terminal is the program's alone.
const startWait = 10 * time.Second

// Keep remembers the present settings of a terminal. restore restores them, the
// first time that it is called; when this process ends without that, another
// one does. The error says that f is no terminal.
func Keep(f *os.File) (restore func(), err error) {
	settings, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	dismiss := startKeeper(f)
	return sync.OnceFunc(func() {
		_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, settings) // fails for a terminal that is gone
		dismiss()
	}), nil
}

// startKeeper starts the process that restores the present settings when this
// one has ended. dismiss ends it without that. Where no process can be started
// there is none, and a program that is killed leaves its own settings behind.
func startKeeper(f *os.File) (dismiss func()) {
	if Program == "" {
		return func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer r.Close()
	keeper := exec.Command(Program, Command)
	keeper.Stdin, keeper.ExtraFiles = f, []*os.File{r}
	// In a session of its own no signal of the terminal reaches it, and none of
	// its calls counts as one from the background.
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := keeper.StdoutPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		w.Close()
		return func() {}
	}
	// It has read the settings when it says so.
	if out, ok := out.(*os.File); ok {
		_ = out.SetReadDeadline(time.Now().Add(startWait))
	}
	_, _ = out.Read(make([]byte, 1))
	return func() {
		_, _ = w.Write([]byte{0})
		w.Close()
		_ = keeper.Wait()
	}
}

// Main is what the process does that Keep has started: it reads the settings of
// the terminal on its stdin, waits for the program's end, and restores them
// unless the program has done so. It returns the exit status.
func Main() int {
	settings, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	os.Stdout.Write([]byte{0})
	if err != nil {
		return 1
	}
	n, _ := io.ReadFull(os.NewFile(pipeFD, "program"), make([]byte, 1))
	if n == 0 {
		_ = unix.IoctlSetTermios(int(os.Stdin.Fd()), unix.TCSETS, settings)
	}
	return 0
}
