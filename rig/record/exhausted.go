package record

import (
	"errors"
	"io/fs"
	"strings"
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

// ExhaustedText says the same of the last words of a process of this host, such as QEMU or a worker, which tell it by the names that the C
// library, or Go, has for those errors.
func ExhaustedText(said string) (what string, ok bool) {
	said = strings.ToLower(said)
	for _, words := range []struct{ text, what string }{
		{"too many open files", "open files"},
		{"no space left on device", "disk space"}, {"disk quota exceeded", "disk space"},
		{"cannot allocate memory", "memory"}, {"runtime: out of memory", "memory"},
		{"resource temporarily unavailable", "processes"}, {"failed to create new os thread", "processes"},
	} {
		if strings.Contains(said, words.text) {
			return words.what, true
		}
	}
	return "", false
}
