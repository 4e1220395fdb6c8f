// Package pack makes one file of a run's folder, and the folder of the file, so that a run can be read, and its recordings replayed, on another host.
//
// The file is a tar archive compressed with zstd, which `tar --zstd -xf` reads as well: one folder, with the run's name, of files and folders. Of equal folders
// it is equal, byte for byte: names are sorted, times are whole seconds, and nobody owns anything.
//
// It owns what goes into an archive and what one may hold. It never changes a run's folder, starts no machine, and does not ask whether the run has
// ended: whoever calls Write has done so.
package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/retain"

	"golang.org/x/sys/unix"
)

// Ext ends the name of an archive.
const Ext = ".tar.zst"

// DefaultLimit is how much an archive may unpack to, in bytes, unless somebody says otherwise. It is twice what the records of all runs may take together
// (retain.Default), since a hole in the dump of a machine's memory takes nothing there and counts here: more is hardly a run's, but an archive of a few
// kilobytes can unpack to any size, and fill the disk.
var DefaultLimit = 2 * retain.Default.Bytes

// perEntry is what a file or folder counts for beside its content: a block, which is about what it takes on a disk. It bounds their number, too.
const perEntry = 4096

// maxMachine is how large a file that describes a recorded machine may be, in bytes. They have some 4 KiB, and are read into memory.
const maxMachine = 1 << 20

// Contents is what is in an archive.
type Contents struct {
	Name   string              // of the run's folder
	Files  int                 // how many there are
	Bytes  int64               // of their contents; a file with several names counts once
	Counts int64               // what it counts for against a limit, in bytes
	Lives  []recording.Machine // recordings that can be replayed; those of one node in a row
	// Private says that a file in it may be read by its owner alone: a recording, say, which has the machine's key in it.
	Private bool
	// Unread says which recordings are none that this rig can read, and why.
	Unread []string
	// Keys are the files with keys of sessions, by their paths in the folder: those that are in it, or with Options.Keys unset, those that were left out.
	Keys []string
	// LeftOut are other things that were left out, each with the reason.
	LeftOut []string
}

// usableName reports whether a run's folder may have that name. One that is hidden, or looks like a flag, is nothing that a stranger's archive should make.
func usableName(name string) bool {
	return fs.ValidPath(name) && !strings.Contains(name, "/") && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "-")
}

// count completes c with the recordings in a run's folder, as far as keep has its folders (relative to it, by slashes), and checks that what they
// need of the run is there.
func (c *Contents) count(ctx context.Context, root *os.Root, keep func(name string) bool) error {
	var folders []string
	large := map[string]int64{}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case d.IsDir() && (!fs.ValidPath(name) || !keep(name)):
			return fs.SkipDir
		case d.IsDir():
			folders = append(folders, name)
		case path.Base(name) == recording.MachineFile && d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Size() > maxMachine {
				large[path.Dir(path.Dir(path.Dir(name)))] = info.Size() // the node's folder, if it is a recording's
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for recordings: %w", err)
	}
	for _, folder := range folders {
		if size := large[folder]; size > 0 {
			c.Unread = append(c.Unread, fmt.Sprintf("%s: a %s of %d bytes describes no machine", folder, recording.MachineFile, size))
			continue
		}
		lives, err := recording.Lives(filepath.Join(root.Name(), folder))
		if err != nil {
			c.Unread = append(c.Unread, strings.ReplaceAll(err.Error(), root.Name()+string(filepath.Separator), ""))
		}
		for _, life := range lives {
			c.Lives = append(c.Lives, life.Machine)
		}
	}
	if len(c.Lives) == 0 {
		return nil
	}
	for _, shared := range []struct {
		name string
		want func(recording.Machine) string
	}{
		{recording.KernelFile, func(m recording.Machine) string { return m.Kernel }},
		{recording.InitrdFile, func(m recording.Machine) string { return m.Initrd }},
	} {
		sum, err := sumOf(ctx, root, shared.name)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there are recordings, and no %s in the run's folder, without which none can be replayed", shared.name)
		}
		if err != nil {
			return err
		}
		for _, m := range c.Lives {
			if want := shared.want(m); want != sum {
				return fmt.Errorf("%s is not the one that node %s of %s was recorded with: its SHA-256 is %s, and should be %s", shared.name, m.Node, m.Scenario, sum, want)
			}
		}
	}
	return nil
}

// sumOf returns the SHA-256 of a file in hex.
func sumOf(ctx context.Context, root *os.Root, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// reader reads until a context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// rename gives a file or folder its name, which nothing has yet: fs.ErrExist otherwise.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot tell, such as NFS
		if _, err := os.Lstat(to); err == nil {
			return &os.PathError{Op: "make", Path: to, Err: fs.ErrExist}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.PathError{Op: "make", Path: to, Err: err}
	}
	return nil
}
