package ownport

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxPath is how long a socket's path may be, in bytes: sun_path has 108, the last one zero.
const maxPath = 106

// folders returns where a folder for a socket can be made, the best place first. The last one is there for those whose TMPDIR does not do.
func folders() []string {
	return []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"}
}

// listenUnix listens on a socket in a new folder of mode 0700, below the first of the given folders that is good for it.
func listenUnix(below []string) (net.Listener, string, error) {
	var all error
	for _, base := range below {
		if base == "" {
			continue
		}
		l, dir, err := listenBelow(base)
		if err == nil {
			return l, dir, nil
		}
		all = errors.Join(all, err)
	}
	return nil, "", fmt.Errorf("make a folder for a socket: %w; name a folder of your own by XDG_RUNTIME_DIR, or take a TCP port by -port", all)
}

func listenBelow(base string) (net.Listener, string, error) {
	if err := usable(base); err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp(base, "rig-")
	if err != nil {
		return nil, "", err
	}
	l, err := listenAt(filepath.Join(dir, "socket"))
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	return l, dir, nil
}

func listenAt(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path %s has %d bytes, and %d are possible for a socket", path, len(path), maxPath)
	}
	return net.Listen("unix", path)
}

// usable returns nil for a folder in which no other user but root can put another folder in the place of ours, and whose name debuggers take as it is.
func usable(base string) error {
	// gdb takes what has a colon for a host and a port, and Delve's commands end at a space.
	if !filepath.IsAbs(base) || strings.ContainsAny(base, ": \t\r\n'\"\\") {
		return fmt.Errorf("%q: debuggers take no socket with such a path", base)
	}
	info, err := os.Stat(base)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != os.Geteuid() && owner != 0 {
		return fmt.Errorf("%s belongs to another user (uid %d)", base, owner)
	}
	if info.Mode()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%s can be written by other users (mode %v)", base, info.Mode())
	}
	return nil
}
