package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// CheckOwner reports whether a folder of things that are executed, booted and
// restored is the user's alone: theirs, and writable by no other user, as are the
// folders that are to be made of it below. A folder that does not exist yet is,
// when the first one above it that exists is. Digests beside a file say that it is
// whole; whoever can write both can make them match.
//
// The error says which folder, whose it is, and what to do.
func CheckOwner(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	// Links are followed: the place that is meant counts.
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	for own := true; ; dir, own = filepath.Dir(dir), false {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w %s: %w", errCacheFolder, dir, err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if err := checkMode(dir, stat.Uid, info.Mode(), own); err != nil {
			return err
		}
		if !own || dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// checkMode judges one folder; own says that it is the one that is used, and not
// the one above it, in which others must not be able to put another in its place.
func checkMode(dir string, uid uint32, mode fs.FileMode, own bool) error {
	const next = "set XDG_CACHE_HOME to a folder that is yours alone"
	self := uint32(os.Geteuid())
	if uid != self && (own || uid != 0) {
		return &CacheError{fmt.Errorf("%w %s belongs to user %d, and this is user %d: what is in it would be executed; %s", errCacheFolder, dir, uid, self, next)}
	}
	if mode.Perm()&0o022 != 0 && (own || mode&fs.ModeSticky == 0) {
		return &CacheError{fmt.Errorf("%w %s can be written by other users (mode %v): what is in it would be executed; "+
			"take that away (chmod go-w), or %s", errCacheFolder, dir, mode, next)}
	}
	return nil
}
