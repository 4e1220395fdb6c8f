package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/record"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// maxWindow is how far back the compression of an archive may refer, in bytes, which is memory that unpacking takes: what `zstd --ultra` needs at most, of
// somebody who has packed a folder again.
const maxWindow = 128 << 20

// slack is what an archive has beside entries, in bytes: its end, and what tar fills it up with.
const slack = 1 << 20

// An ArchiveError says why an archive was not unpacked. Nothing is left of it.
type ArchiveError struct {
	Entry string // its name in the archive, as it is there; "" when it is none in particular
	Err   error
}

func (e *ArchiveError) Error() string {
	if e.Entry == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%q: %v", e.Entry, e.Err)
}

func (e *ArchiveError) Unwrap() error { return e.Err }

// Read makes a run's folder from an archive, in the folder parent: with that name, or with the one that it had where name is "". It is made under
// another name and appears whole; a file or folder with its name stays as it is: fs.ErrExist. With an error nothing is left of it.
//
// limit is how much may be unpacked, in bytes; each file and folder counts for perEntry beside its content.
//
// Nobody has to trust an archive. It may hold one folder with files, folders, and further names of files in it, and no name may come twice; no entry
// leads anywhere else, whatever it says.
func Read(ctx context.Context, r io.Reader, parent, name string, limit int64) (c *Contents, err error) {
	// Whatever it was, an end of the context is told as such.
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	free := func(name string) error {
		path := filepath.Join(parent, name)
		if _, err := os.Lstat(path); err == nil {
			return &os.PathError{Op: "make", Path: path, Err: fs.ErrExist}
		}
		return nil
	}
	if name != "" {
		if err := free(name); err != nil {
			return nil, err
		}
	}
	z, err := zstd.NewReader(reader{ctx, r}, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, &ArchiveError{Err: whole(err)}
	}
	defer z.Close()
	temp, err := os.MkdirTemp(parent, ".unpacking-*")
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	defer func() {
		if err != nil {
			c, err = nil, errors.Join(err, os.RemoveAll(temp))
		}
	}()
	root, err := os.OpenRoot(temp)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	c = &Contents{}
	stream := &bounded{r: reader{ctx, z}, left: limit + slack}
	u := &unpacker{ctx: ctx, root: root, tar: tar.NewReader(stream), contents: c, limit: limit, buf: make([]byte, 64<<10), zeros: make([]byte, 64<<10), begun: func(top string) error {
		if name == "" {
			name = top
		}
		return free(name)
	}}
	if err := u.all(); err != nil {
		return nil, err
	}
	// The rest is nothing, but the checksum is behind it.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, &ArchiveError{Err: whole(err)}
	}
	if !u.files[record.EventsFile] && !u.files[record.SummaryFile] {
		return nil, &ArchiveError{Err: fmt.Errorf("there is no run's folder in it: neither %s nor %s is there", record.EventsFile, record.SummaryFile)}
	}
	if err := c.count(ctx, root, func(string) bool { return true }); err != nil {
		return nil, &ArchiveError{Err: err}
	}
	c.Name = name
	return c, rename(temp, filepath.Join(parent, name))
}

// whole says of an error in reading an archive what it means.
func whole(err error) error {
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		return fmt.Errorf("it is no archive that `rig pack` has made: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it is cut off: %w", err)
	case errors.Is(err, ErrTooMuch):
		return err
	}
	return fmt.Errorf("it is damaged: %w", err)
}

// ErrTooMuch is the error of an archive that unpacks to more than it may.
var ErrTooMuch = errors.New("it unpacks to more than it may")

// bounded reads so many bytes at most.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooMuch
	}
	return n, err
}

// unpacker makes the files of an archive in a folder.
type unpacker struct {
	ctx      context.Context
	root     *os.Root
	tar      *tar.Reader
	contents *Contents
	limit    int64
	begun    func(top string) error // called once, with the name of the archive's folder
	top      string
	files    map[string]bool // that were made
	folders  []made
	buf      []byte // of a part of a file
	zeros    []byte // as many
}

// made is a folder that was made, and the time that it gets when all that is in it is there.
type made struct {
	name string
	time time.Time
}

func (u *unpacker) all() error {
	u.files = map[string]bool{}
	for {
		h, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &ArchiveError{Err: whole(err)}
		}
		if err := u.entry(h); err != nil {
			return err
		}
	}
	for _, f := range slices.Backward(u.folders) {
		if err := u.root.Chtimes(f.name, f.time, f.time); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
	}
	return u.root.Chmod(".", 0o755) // it was made for nobody else
}

// entry makes one file or folder.
func (u *unpacker) entry(h *tar.Header) error {
	refuse := func(format string, args ...any) error {
		return &ArchiveError{Entry: h.Name, Err: fmt.Errorf(format, args...)}
	}
	name, err := u.place(h.Name)
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil && name == "." && h.Typeflag != tar.TypeDir {
		err = errors.New("a run is a folder")
	}
	if err != nil {
		return refuse("%w", err)
	}
	var size int64
	if h.Typeflag == tar.TypeReg {
		size = h.Size
	}
	c := u.contents
	if u.limit-c.Counts < perEntry || u.limit-c.Counts-perEntry < size {
		return refuse("%w", ErrTooMuch)
	}
	c.Counts += perEntry + size
	switch h.Typeflag {
	case tar.TypeDir:
		u.folders = append(u.folders, made{name, h.ModTime})
		if name == "." {
			return nil
		}
		if err := u.root.Mkdir(name, 0o755); err != nil {
			return u.unmade(h, err)
		}
		return nil
	case tar.TypeLink:
		to, err := u.place(h.Linkname)
		if err != nil || !u.files[to] {
			return refuse("it is a link to %q, which is no file of the archive", h.Linkname)
		}
		if err := u.root.Link(to, name); err != nil {
			return u.unmade(h, err)
		}
	case tar.TypeReg:
		f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, permission(fs.FileMode(h.Mode)&fs.ModePerm))
		if err != nil {
			return u.unmade(h, err)
		}
		if err := errors.Join(u.fill(f, h), f.Close()); err != nil {
			return err
		}
		if err := u.root.Chtimes(name, h.ModTime, h.ModTime); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		c.Bytes += size
	default:
		return refuse("it is neither a file nor a folder (type %q)", h.Typeflag)
	}
	c.Files++
	c.Private = c.Private || h.Mode&0o004 == 0
	u.files[name] = true
	if path.Base(name) == record.KeysFile {
		c.Keys = append(c.Keys, name)
	}
	return nil
}

// place returns where in the run's folder a name in the archive belongs.
func (u *unpacker) place(name string) (string, error) {
	name = strings.TrimSuffix(name, "/")
	// What is longer than a path can be would only take time.
	if !fs.ValidPath(name) || len(name) > 4096 {
		return "", errors.New("such a name may lead out of the run's folder")
	}
	top, rest, _ := strings.Cut(name, "/")
	switch {
	case !usableName(top):
		return "", errors.New("no run's folder has such a name")
	case u.top == "":
		u.top = top
		if err := u.begun(top); err != nil {
			return "", err
		}
	case u.top != top:
		return "", fmt.Errorf("the archive has more than one folder: it began with %q", u.top)
	}
	if rest == "" {
		return ".", nil
	}
	return rest, nil
}

// unmade says why an entry could not be made. That one is there already, or no folder for it, is the archive's fault, since the folder was empty at first.
func (u *unpacker) unmade(h *tar.Header, err error) error {
	for _, archive := range []error{fs.ErrExist, fs.ErrNotExist, unix.ENOTDIR, unix.EINVAL, unix.ENAMETOOLONG} {
		if errors.Is(err, archive) {
			return &ArchiveError{Entry: h.Name, Err: err}
		}
	}
	return fmt.Errorf("unpack: %w", err)
}

// fill writes a file. Of zeros it makes holes, as the dump of a machine's memory has them.
func (u *unpacker) fill(f *os.File, h *tar.Header) error {
	for at := int64(0); at < h.Size; {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		part := u.buf[:min(int64(len(u.buf)), h.Size-at)]
		if _, err := io.ReadFull(u.tar, part); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &ArchiveError{Entry: h.Name, Err: whole(err)}
		}
		if !bytes.Equal(part, u.zeros[:len(part)]) {
			if _, err := f.WriteAt(part, at); err != nil {
				return fmt.Errorf("unpack: %w", err)
			}
		}
		at += int64(len(part))
	}
	if err := f.Truncate(h.Size); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}
