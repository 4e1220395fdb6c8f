package live

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Each scenario listens on a socket file in a folder that is its user's alone. So
// the file system says who may ask: no other user, and no container that shares only
// the host's network, as it was with abstract names. Whoever reaches the socket is
// asked for their user id all the same, see mayAsk.

// folderName is where the sockets are, below a folder of the user's.
const folderName = "dsoftbus-rig/live"

// folders returns the folders in which sockets of this user's scenarios may be: below
// the one for run time files that this session has, below the usual one, since not
// each session has it in its environment, and below the cache.
func folders() []string {
	var all []string
	add := func(base string) {
		if dir := filepath.Join(base, folderName); filepath.IsAbs(base) && (len(all) == 0 || all[len(all)-1] != dir) {
			all = append(all, dir)
		}
	}
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Geteuid())} {
		if checkFolder(base) == nil {
			add(base)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		add(cache)
	}
	return all
}

// checkFolder reports whether a folder is this user's alone. The error says what to
// do.
func checkFolder(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.IsDir():
		return fmt.Errorf("%s is no folder: remove it", dir)
	case int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, and this is user %d: set XDG_RUNTIME_DIR or XDG_CACHE_HOME to a folder that is yours alone", dir, stat.Uid, os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %v): whoever can use it can drive your runs; chmod 700 it", dir, info.Mode().Perm())
	}
	return nil
}

// makeFolder makes the first folder that can be had.
func makeFolder() (string, error) {
	all := folders()
	if len(all) == 0 {
		return "", errors.New("neither HOME nor XDG_RUNTIME_DIR says where: set one of them")
	}
	if err := os.MkdirAll(all[0], 0o700); err != nil {
		return "", err
	}
	return all[0], checkFolder(all[0])
}

var counter atomic.Uint64

// Listen makes the socket of one scenario and returns it with the path of its file,
// …/<pid>-<start time of that process>-<counter>. It is to be inherited by the process
// that serves it, and closed here when that has been started: whoever asks then finds
// nobody as soon as that process is gone. The caller removes the file with Remove;
// List removes those of callers that were killed.
func Listen() (f *os.File, name string, err error) {
	fail := func(err error) (*os.File, string, error) {
		return nil, "", fmt.Errorf("listen for who asks a scenario: %w", err)
	}
	dir, err := makeFolder()
	if err != nil {
		return fail(err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return fail(err)
	}
	name = filepath.Join(dir, fmt.Sprintf("%d-%d-%d", os.Getpid(), start, counter.Add(1)))
	address, done, err := through(name)
	if err != nil {
		return fail(err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: address})
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false) // the file is the scenario's, not this descriptor's
	f, err = l.File()
	l.Close()
	if err != nil {
		return fail(errors.Join(err, Remove(name)))
	}
	return f, name, nil
}

// Remove removes the file of a socket that Listen has made.
func Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// through returns an address of a socket file that is short whatever its path: a
// socket's address has 107 bytes at most. It holds until done is called.
func through(name string) (address string, done func(), err error) {
	dir, err := os.OpenFile(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name)), func() { dir.Close() }, nil
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
	u.SetUnlinkOnClose(false)
	return u, nil
}

// maker returns the process that made a socket, by the name of its file, and when that
// process began, in clock ticks since the host's boot.
func maker(name string) (pid int, start uint64, ok bool) {
	parts := strings.Split(filepath.Base(name), "-")
	if len(parts) != 3 {
		return 0, 0, false
	}
	var numbers [3]uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return 0, 0, false
		}
		numbers[i] = n
	}
	return int(numbers[0]), numbers[1], true
}

// startTime returns when a process began, in clock ticks since the host's boot: with
// it a process id means one process, also when the number is used again.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may have spaces; starttime is the
	// 22nd field, the 20th behind it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %d: its status has %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// sockets returns the sockets of this user's scenarios whose maker lives, and removes
// the files of those whose maker is gone and behind which nobody listens.
func sockets() ([]string, error) {
	var found []string
	for _, dir := range folders() {
		if err := checkFolder(dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue // what this user cannot look into has nothing of theirs
		} else if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			pid, start, ok := maker(name)
			info, err := os.Lstat(name)
			if !ok || err != nil || info.Mode().Type() != fs.ModeSocket {
				continue
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
				continue
			}
			if now, err := startTime(pid); err == nil && now == start {
				found = append(found, name)
			} else if deserted(name) {
				_ = Remove(name)
			}
		}
	}
	return found, nil
}

// deserted reports whether nobody listens on a socket. The process that made one may
// also live where its number says nothing here: in a container with the same home.
func deserted(name string) bool {
	address, done, err := through(name)
	if err != nil {
		return false
	}
	defer done()
	conn, err := net.Dial("unix", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
