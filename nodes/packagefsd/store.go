package packagefsd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"

	"dsoftbus-rig/protocol/pk"
)

// DefaultRoot is where a machine keeps its packages.
const DefaultRoot = "/packages"

// A Store finds files below a root directory. It keeps nothing open and
// remembers nothing between calls: the root may be missing (then nothing is
// found) and may be replaced at any time. It is safe for concurrent use.
type Store struct {
	root string
}

// NewStore returns the store at root.
func NewStore(root string) *Store { return &Store{root: root} }

// errBadName is a name that no valid PK path gives.
var errBadName = errors.New("malformed name")

// Open opens the regular file that name means, read-only, and returns it with
// its metadata. A name without such a file is fs.ErrNotExist by errors.Is; any
// other error is a failure of the store. It never blocks on what it finds.
func (s *Store) Open(name pk.Name) (*os.File, fs.FileInfo, error) {
	if err := checkName(name); err != nil {
		return nil, nil, fmt.Errorf("open %q: %w", name.Rel(), err)
	}
	f, info, err := s.open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name.Rel(), err)
	}
	return f, info, nil
}

func (s *Store) open(name pk.Name) (*os.File, fs.FileInfo, error) {
	root, err := openRoot(s.root)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	if name.Version != "" {
		return openFile(root, name)
	}
	versions, err := semanticVersions(root, name.Bundle)
	if err != nil {
		return nil, nil, err
	}
	for range maxRounds {
		f, info, err := openActive(root, name, versions)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, info, err
		}
		// An upgrade may have put another version in and taken this one away
		// since the directory was read. Not found holds only if the versions
		// are still the same.
		again, listErr := semanticVersions(root, name.Bundle)
		if listErr != nil || slices.Equal(again, versions) {
			return nil, nil, err
		}
		versions = again
	}
	return nil, nil, fmt.Errorf("the versions of %s changed %d times while they were looked at", name.Bundle, maxRounds)
}

// maxRounds bounds Open against a store that never rests. Each further round
// means that the versions changed again; an upgrade takes two.
const maxRounds = 100

// openRoot opens the root directory. A FIFO in its place must not block, hence
// the look before.
func openRoot(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("package root %s is not a directory", dir)
	}
	return os.OpenRoot(dir)
}

// openActive opens the name in the first of versions that is a directory.
func openActive(root *os.Root, name pk.Name, versions []string) (*os.File, fs.FileInfo, error) {
	for _, name.Version = range versions {
		dir := pk.Name{Bundle: name.Bundle, Version: name.Version}
		// Stat follows a link, so that a version can be one to another version.
		info, err := root.Stat(dir.Rel())
		if err == nil && info.IsDir() {
			return openFile(root, name)
		}
		// A version that cannot be looked at must not make a lower one active.
		if err != nil && !errors.Is(asNotFound(err), fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("no version of %s: %w", name.Bundle, fs.ErrNotExist)
}

// semanticVersions lists the semantic versions of a bundle by name, the highest
// first.
func semanticVersions(root *os.Root, bundle string) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// Names and nothing else: ReadDir below an os.Root looks at each entry and
	// leaves out what was removed meanwhile, so in the middle of an upgrade
	// neither the old version nor the new one might be listed.
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var versions []string
	for _, name := range names {
		if version, ok := strings.CutPrefix(name, bundle+"@"); ok && isSemantic(version) {
			versions = append(versions, version)
		}
	}
	slices.SortFunc(versions, func(a, b string) int {
		return cmp.Or(semver.Compare("v"+b, "v"+a), strings.Compare(b, a))
	})
	return versions, nil
}

// isSemantic wants all three numbers; package semver alone would take "1" and
// "1.0" as well.
func isSemantic(version string) bool {
	v := "v" + version
	return semver.IsValid(v) && semver.Canonical(v)+semver.Build(v) == v
}

// openFile opens a name that has a version.
func openFile(root *os.Root, name pk.Name) (*os.File, fs.FileInfo, error) {
	path := name.Rel()
	// Look first: opening a device can be an act (a tape rewinds, a watchdog
	// starts), even when it does not block.
	info, err := root.Stat(path)
	if err != nil {
		return nil, nil, asNotFound(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: %w", info.Mode().Type(), fs.ErrNotExist)
	}
	// The file may have been replaced since: O_NONBLOCK against a FIFO, and
	// another look at what was really opened.
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, asNotFound(err)
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", info.Mode().Type(), fs.ErrNotExist)
	}
	if err == nil {
		err = setBlocking(f)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// setBlocking takes O_NONBLOCK off again: the descriptor goes to other
// programs, which expect the ordinary.
func setBlocking(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetNonblock(int(fd), false) }); err != nil {
		return err
	}
	return set
}

// asNotFound adds fs.ErrNotExist to the errors that mean the name leads to no
// file inside the root.
func asNotFound(err error) error {
	errno, fromKernel := errors.AsType[syscall.Errno](err)
	switch {
	case !fromKernel:
		// os.Root's own refusal of a way that leads out; it exports no error
		// to compare with, and has no other that is not the kernel's.
	case errno == syscall.ENOENT, errno == syscall.ENOTDIR, errno == syscall.ELOOP, errno == syscall.ENAMETOOLONG:
	case errno == syscall.ENXIO: // a socket, put there between the two looks
	default:
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
}

// checkName holds names to what pk.ResolvePath lets through: the service's
// socket takes names from other programs. Bundle and version are one segment
// together, so either may be dots beside the other: such a name leads nowhere,
// and is not found.
func checkName(name pk.Name) error {
	segment := name.Bundle
	if name.Version != "" {
		segment += "@" + name.Version
	}
	if name.Bundle == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "/\x00") {
		return errBadName
	}
	if strings.ContainsRune(name.Path, 0) || (name.Path != "" && !fs.ValidPath(name.Path)) {
		return errBadName
	}
	return nil
}
