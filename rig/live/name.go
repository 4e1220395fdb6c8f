package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// namePrefix begins the name of every socket. '@' stands for the zero byte of abstract names, in Go as in /proc/net/unix.
const namePrefix = "@dsoftbus-rig/live/"

// nameTries is how many names Listen tries. Anybody may have taken one, but nobody has a reason to take so many.
const nameTries = 100

var counter atomic.Uint64

// Listen makes the socket of one scenario, in this process's network namespace, and returns it with its name,
// "@dsoftbus-rig/live/<uid>/<pid>/<counter>". It is to be inherited by the process that serves it, and closed here when that has been started:
// whoever asks then finds nobody as soon as that process is gone.
//
// The name is an abstract one: nothing is left of it when its last holder ends, however that happens.
func Listen() (f *os.File, name string, err error) {
	for range nameTries {
		name = fmt.Sprintf("%s%d/%d/%d", namePrefix, os.Geteuid(), os.Getpid(), counter.Add(1))
		var l *net.UnixListener
		l, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // a process of another PID namespace, or somebody who means ill
		}
		if err != nil {
			return nil, "", fmt.Errorf("listen for who asks a scenario: %w", err)
		}
		f, err = l.File()
		l.Close()
		if err != nil {
			return nil, "", fmt.Errorf("listen for who asks a scenario: %w", err)
		}
		return f, name, nil
	}
	return nil, "", fmt.Errorf("listen for who asks a scenario: %d names are taken already: %w", nameTries, err)
}

// Inherited makes a listener of a socket that Listen returned, in the process that has inherited it. It closes f, and no program that this
// process starts inherits the socket any further.
func Inherited(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the socket of a scenario: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take over the socket of a scenario: it is one of %s", l.Addr().Network())
	}
	return u, nil
}

// owner returns the user id and process id in a socket's name.
func owner(name string) (uid, pid int, ok bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return 0, 0, false
	}
	var numbers [3]int
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return 0, 0, false
		}
		numbers[i] = int(n)
	}
	return numbers[0], numbers[1], true
}

// listening is the flag of a socket that listens, in /proc/net/unix (__SO_ACCEPTCON). Its connections have its name, too.
const listening = 1 << 16

// names returns the names of sockets of scenarios in r, which has the form of /proc/net/unix. uid says whose; 0, root, sees all.
func names(r io.Reader, uid int) ([]string, error) {
	var found []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// Num RefCount Protocol Flags Type St Inode Path
		fields := strings.Fields(lines.Text())
		if len(fields) != 8 {
			continue
		}
		flags, err := strconv.ParseUint(fields[3], 16, 64)
		if err != nil || flags&listening == 0 {
			continue
		}
		of, _, ok := owner(fields[7])
		if ok && (uid == 0 || of == uid) {
			found = append(found, fields[7])
		}
	}
	return found, lines.Err()
}
