package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A run holds a lock (flock(2)) of its events.jsonl as long as it goes on: the kernel drops it however the run ends.

// hold takes the lock for a run. Where the file system knows no locks, the run goes on without.
func hold(f *os.File) {
	for {
		// Shared: whoever asks with Alive just now must not leave the run without.
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Alive reports whether the run with the folder dir is still going on.
func Alive(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, EventsFile))
	if err != nil {
		return false, fmt.Errorf("look whether a run goes on: %w", err)
	}
	defer f.Close()
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("look whether the run of %s goes on: %w", dir, err)
		default:
			return false, nil
		}
	}
}
