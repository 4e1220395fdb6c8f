// Package images builds what QEMU boots, a kernel and an initial file system,
// and keeps it in a cache.
//
// It owns the cache folder, the choice and the unpacking of the kernel, and the
// contents of the initial file system. It never starts a machine, never installs
// a package on the host, and never hands out an image that was not built from
// the inputs it was asked for: when a step fails there is no image at all.
//
// An image is made of layers, each a cpio archive named by the SHA-256 of what
// went into it, so that an edit rebuilds only its own layer:
//
//   - modules: the drivers of one kernel, under /lib/rig/modules;
//   - base: u-root's userland, pinned by userland/go.mod;
//   - nodes: the programs of nodes/cmd, in /bin, all in one binary.
//
// The programs in the image are stripped, which keeps the archive that every
// machine has to unpack at a third less. Stack traces do not need what is
// missing. A debugger does, and gets it from a binary of the same code with its
// symbols, see [DebuggerFor], which is built on demand and no part of an image.
package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what to build from, where to keep it, and which kernel to take.
type Config struct {
	// SourceDir is the root of the project's source tree.
	SourceDir string

	// CacheDir is where layers are kept; it is created when it is missing.
	// Empty means dsoftbus-rig/images in the user's cache folder.
	CacheDir string

	// Kernel is a kernel file, a bzImage or an x86-64 ELF with a PVH note.
	// Empty means the distribution's cloud kernel package, or the host's own
	// kernel where no package is to be had.
	Kernel string

	// Modules is the folder with the modules of Kernel: a /lib/modules/RELEASE
	// or a folder that such a path lies in. Empty means that Kernel has every
	// driver it needs built in. It is an error without Kernel.
	Modules string

	// Cover has the machine's programs count which of their statements run. They are an image of their own.
	Cover bool

	// Log, if not nil, is told of every step that takes time, in one line
	// without a newline. It is called by one goroutine at a time.
	Log func(step string)
}

// Set is what to boot.
type Set struct {
	// Kernel is the file for QEMU's -kernel, Initrd the one for -initrd.
	Kernel, Initrd string

	// KernelRelease is what uname -r says in the machine.
	KernelRelease string

	// KernelSource says where the kernel comes from: "debian package NAME
	// VERSION", "-kernel FILE", or "host FILE".
	KernelSource string

	// Cover is that of the Config.
	Cover bool

	// ID is the SHA-256 of all that went in, in hex.
	ID string

	// ManifestPath is a JSON file, a [Manifest], that lists all that went in.
	ManifestPath string

	// Built names the layers that were not in the cache, in the order in
	// which they were finished.
	Built []string

	// Durations says how long each layer of Built took, and "total" how long
	// the whole call took.
	Durations map[string]time.Duration
}

// Build returns the images for cfg and builds what is missing of them. Builders
// that share a cache folder wait for one another. When it fails or ctx ends, the
// cache holds nothing half-done.
func Build(ctx context.Context, cfg Config) (*Set, error) {
	start := time.Now()
	set, err := build(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("build images: %w", withAdvice(err))
	}
	set.Durations["total"] = time.Since(start)
	return set, nil
}

func build(ctx context.Context, cfg Config) (*Set, error) {
	if cfg.Modules != "" && cfg.Kernel == "" {
		return nil, errors.New("a folder of modules was given without the kernel they belong to: give both, or neither")
	}
	cache, gotool, err := cfg.open(ctx, "")
	if err != nil {
		return nil, err
	}
	defer cache.close()

	var kernel, modules, base, nodes entry
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		kernel, modules, err = buildKernel(ctx, cache, cfg.Kernel, cfg.Modules)
		return err
	})
	group.Go(func() (err error) {
		base, err = cache.get(ctx, userlandLayer(gotool, cfg.SourceDir))
		return err
	})
	group.Go(func() (err error) {
		nodes, err = cache.get(ctx, programsLayer(gotool, cfg.SourceDir, cfg.Cover))
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	whole, err := cache.get(ctx, setLayer(kernel, base, modules, nodes))
	if err != nil {
		return nil, err
	}
	cache.prune()
	return &Set{
		Kernel:        kernel.file(kernel.Facts[factKernelFile]),
		Initrd:        whole.file(initrdFile),
		KernelRelease: kernel.Facts[factRelease],
		KernelSource:  kernel.Facts[factSource],
		Cover:         cfg.Cover,
		ID:            whole.ID,
		ManifestPath:  whole.file(manifestFile),
		Built:         cache.built,
		Durations:     cache.durations,
	}, nil
}

// open locks a folder of the cache ("" is the cache's own, of the images),
// which the caller closes, and finds the go command.
func (cfg Config) open(ctx context.Context, folder string) (*cache, *goTool, error) {
	dir := cfg.CacheDir
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, nil, &CacheError{fmt.Errorf("find the cache folder: %w: set HOME or XDG_CACHE_HOME", err)}
		}
		dir = filepath.Join(user, "dsoftbus-rig", "images")
	}
	cache, err := openCache(ctx, filepath.Join(dir, folder), serialLog(cfg.Log))
	if err != nil {
		return nil, nil, err
	}
	gotool, err := findGo(ctx, cfg.SourceDir)
	if err != nil {
		cache.close()
		return nil, nil, err
	}
	return cache, gotool, nil
}

// serialLog makes log callable by several goroutines, and when it is nil.
func serialLog(log func(string)) func(string, ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		if log == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		log(fmt.Sprintf(format, args...))
	}
}

// initrdFile is the file of the set layer that QEMU's -initrd is given.
const initrdFile = "initrd.cpio"

// setLayer joins the archives of layers into the one file that QEMU takes; Linux
// unpacks concatenated archives one after the other. The archives are not
// compressed: the guest would spend more time on that than QEMU on copying them.
func setLayer(kernel entry, layers ...entry) layer {
	all := append([]entry{kernel}, layers...)
	return layer{
		name:  "set",
		doing: "joining the layers",
		inputs: func() ([]Input, error) {
			var in []Input
			for _, e := range all {
				in = append(in, Input{Name: e.Layer, Value: e.ID})
			}
			return in, nil
		},
		build: func(_ context.Context, dir string) (result, error) {
			var parts []Manifest
			for _, e := range all {
				parts = append(parts, e.Manifest)
			}
			out, err := os.Create(filepath.Join(dir, initrdFile))
			if err != nil {
				return result{}, err
			}
			defer out.Close()
			for _, e := range layers {
				if err := appendFile(out, e.file(archiveFile(e.Layer))); err != nil {
					return result{}, err
				}
			}
			return result{layers: parts}, out.Close()
		},
	}
}

func appendFile(w io.Writer, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = bufio.NewReader(in).WriteTo(w)
	return err
}

// withAdvice adds the next step to errors whose cause lies with the host.
func withAdvice(err error) error {
	const other = "set XDG_CACHE_HOME to have the cache elsewhere"
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: free some space, or %s", err, other)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: free some of your quota, or %s", err, other)
	case errors.Is(err, errCacheFolder) && (errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist)):
		return &CacheError{fmt.Errorf("%w: make it a folder you can write to, or %s", err, other)}
	}
	return err
}
