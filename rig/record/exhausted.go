package record

import (
	"errors"
	"io/fs"
	"syscall"
)

// Exhausted says what this host ran out of, when err tells that: an error of a system call that was refused for want of it. Text that
// merely mentions one, such as what a machine says of itself, does not count.
func Exhausted(err error) (what string, ok bool) {
	for _, limit := range []struct {
		errno syscall.Errno
		what  string
	}{
		{syscall.EMFILE, "open files"}, {syscall.ENFILE, "open files"},
		{syscall.ENOSPC, "disk space"}, {syscall.EDQUOT, "disk space"},
		{syscall.ENOMEM, "memory"},
	} {
		if errors.Is(err, limit.errno) {
			return limit.what, true
		}
	}
	// Elsewhere it means "try again".
	var call *fs.PathError
	if errors.As(err, &call) && call.Op == "fork/exec" && errors.Is(err, syscall.EAGAIN) {
		return "processes", true
	}
	return "", false
}
