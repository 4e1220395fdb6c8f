package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"dsoftbus-rig/rig/record"

	"github.com/klauspost/compress/zstd"
)

// Options say what goes into an archive.
type Options struct {
	Only string // the one scenario, by its name in the record, whose folder goes in beside the run's own files; "": all
	Keys bool   // files with keys of sessions (record.KeysFile) go in, too
}

// ErrNoScenario says that the run has no scenario with the name in Options.Only.
var ErrNoScenario = errors.New("the run has no such scenario")

// Create writes an archive of the run's folder dir to a new file, which appears whole or not at all, and returns what is in it and how many bytes it has. A
// file that is there already stays as it is: fs.ErrExist. Where one of the files in it is its owner's alone, so is the archive.
func Create(ctx context.Context, file, dir string, o Options) (c *Contents, size int64, err error) {
	if _, err := os.Lstat(file); err == nil {
		return nil, 0, &os.PathError{Op: "make", Path: file, Err: fs.ErrExist}
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".packing-*")
	if err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", file, err)
	}
	defer func() {
		f.Close() // a second time after all went well
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if c, err = Write(ctx, f, dir, o); err != nil {
		return nil, 0, err
	}
	mode := fs.FileMode(0o644) &^ umask()
	if c.Private || o.Keys && len(c.Keys) > 0 {
		mode = 0o600
	}
	info, err := f.Stat()
	if err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync(), f.Close())
	}
	if err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", file, err)
	}
	return c, info.Size(), rename(f.Name(), file)
}

// Write writes an archive of the run's folder dir. It ends with an error when the context ends, when a file changes meanwhile, and when recordings
// could not be replayed from what would be in it.
func Write(ctx context.Context, w io.Writer, dir string, o Options) (*Contents, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	c := &Contents{Name: filepath.Base(dir)}
	if !usableName(c.Name) {
		return nil, fmt.Errorf("pack %s: a folder with such a name cannot be unpacked; rename it", dir)
	}
	keep, err := chosen(dir, o.Only)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	defer root.Close()
	if err := c.count(ctx, root, keep); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	// Made once, and carried: a seventh less than by default, for three times the processor time, which is 2 s for 100 MB. As many blocks at once as on any host,
	// since what comes out may depend on it.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	p := &packer{ctx: ctx, root: root, tar: tar.NewWriter(z), contents: c}
	entries, err := p.list(keep, o.Keys)
	for i := 0; i < len(entries) && err == nil; i++ {
		err = p.add(entries[i])
	}
	if err == nil {
		err = p.tar.Close()
	}
	// It is closed in any case, since there are goroutines behind it.
	if err = errors.Join(err, z.Close()); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	return c, nil
}

// chosen returns which names in a run's folder go in.
func chosen(dir, only string) (keep func(name string) bool, err error) {
	if only == "" {
		return func(string) bool { return true }, nil
	}
	rec, err := record.Load(dir)
	if err != nil {
		return nil, err
	}
	var names, others []string
	mine := ""
	for _, s := range rec.Summary.Scenarios {
		names = append(names, s.Name)
		if s.Name == only {
			mine = s.Dir
		} else {
			others = append(others, s.Dir)
		}
	}
	if mine == "" {
		return nil, fmt.Errorf("%s: %w; it has %s", only, ErrNoScenario, strings.Join(names, ", "))
	}
	within := func(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }
	return func(name string) bool {
		if name == "." || within(name, mine) || within(mine, name) {
			return true
		}
		for _, other := range others {
			if within(name, other) || within(other, name) {
				return false
			}
		}
		return true
	}, nil
}

// packer writes entries.
type packer struct {
	ctx      context.Context
	root     *os.Root
	tar      *tar.Writer
	contents *Contents
	written  map[inode]string // files that are in the archive, with their names there
}

// inode is a file on this host, whatever it is called.
type inode struct{ dev, ino uint64 }

func inodeOf(info fs.FileInfo) (inode, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{uint64(stat.Dev), stat.Ino}, true
}

// entry is a file or folder that goes in.
type entry struct {
	name string // in the run's folder, by slashes
	info fs.FileInfo
}

// list returns what goes in, by name, and tells the contents what does not. A symbolic link becomes what it leads to, where that is a file in the folder.
func (p *packer) list(keep func(string) bool, withKeys bool) (entries []entry, err error) {
	leave := func(name, why string) { p.contents.LeftOut = append(p.contents.LeftOut, name+": "+why) }
	keys := map[inode]bool{}
	err = fs.WalkDir(p.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case p.ctx.Err() != nil:
			return context.Cause(p.ctx)
		case err != nil:
			return err
		case !utf8.ValidString(name):
			leave(strings.ToValidUTF8(name, "\ufffd"), "its name is no text")
		case keep(name):
			info, err := p.root.Lstat(name)
			if err != nil {
				return err
			}
			if info.Mode().Type() == fs.ModeSymlink {
				if to, err := p.root.Stat(name); err == nil && to.Mode().IsRegular() {
					info = to
				}
			}
			switch {
			case info.IsDir() || info.Mode().IsRegular():
				entries = append(entries, entry{name, info})
			case info.Mode().Type() == fs.ModeSymlink:
				leave(name, "it is a link to no file in the run's folder")
			default:
				leave(name, "it is neither a file nor a folder")
			}
			if id, ok := inodeOf(info); ok && path.Base(name) == record.KeysFile {
				keys[id] = true
			}
			return nil
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rest := entries[:0]
	for _, e := range entries {
		// Under whatever other name, too.
		if id, ok := inodeOf(e.info); e.info.Mode().IsRegular() && (path.Base(e.name) == record.KeysFile || ok && keys[id]) {
			p.contents.Keys = append(p.contents.Keys, e.name)
			if !withKeys {
				continue
			}
		}
		rest = append(rest, e)
	}
	return rest, nil
}

// add writes an entry.
func (p *packer) add(e entry) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	c := p.contents
	h := &tar.Header{Name: path.Join(c.Name, e.name), Mode: int64(permission(e.info.Mode())), ModTime: e.info.ModTime().Truncate(time.Second)}
	c.Counts += perEntry
	if e.info.IsDir() {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
		h.Name += "/"
		return p.tar.WriteHeader(h)
	}
	c.Files++
	c.Private = c.Private || h.Mode&0o004 == 0
	if id, ok := inodeOf(e.info); ok {
		if first := p.written[id]; first != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.tar.WriteHeader(h)
		}
		if p.written == nil {
			p.written = map[inode]string{}
		}
		p.written[id] = h.Name
	}
	f, err := p.root.Open(e.name)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, e.info.Size()
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	if _, err := io.Copy(p.tar, io.LimitReader(reader{p.ctx, f}, h.Size)); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	if now, err := f.Stat(); err != nil || now.Size() != h.Size {
		return errors.Join(fmt.Errorf("%s has changed while it was packed: try again", e.name), err)
	}
	c.Bytes += h.Size
	c.Counts += h.Size
	return nil
}

// permission is what a file's mode amounts to: who may read it, and whether it is a program. Its owner may read and write it; nobody gets a right that they
// did not have.
func permission(mode fs.FileMode) fs.FileMode {
	p := 0o600 | mode&0o144
	if p&0o100 != 0 {
		p |= mode & 0o011
	}
	return p
}

// umask is the permissions that this user does not give to new files.
func umask() fs.FileMode {
	status, _ := os.ReadFile("/proc/self/status") // the call would change it, for all goroutines
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			if mask, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32); err == nil {
				return fs.FileMode(mask) & fs.ModePerm
			}
		}
	}
	return 0o077
}
