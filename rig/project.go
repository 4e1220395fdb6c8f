package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/warm"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type (
	flagOf  = pflag.Flag
	flagSet = pflag.FlagSet
)

// module is the first line of this project's go.mod.
const module = "module dsoftbus-rig\n"

// project returns the root of the source tree: the folder given with -dir, or the
// nearest one above the current folder, or above this program's own file.
func project(cmd *cobra.Command) (string, error) {
	given, err := cmd.Flags().GetString("dir")
	if err != nil {
		return "", err
	}
	if given != "" {
		abs, err := filepath.Abs(given)
		if err != nil {
			return "", err
		}
		if !isProject(abs) {
			return "", fmt.Errorf("%s is not this project's folder: it has no go.mod that begins with %q", given, module[:len(module)-1])
		}
		return abs, nil
	}
	cwd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	starts := []string{cwd}
	if self, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(self))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if isProject(dir) {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("neither %s nor a folder above it is the project's; go there, or name it with -dir", cwd)
}

func isProject(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && bytes.Contains(append([]byte("\n"), data...), []byte("\n"+module))
}

// machineFlags are the flags of every command that boots machines.
type machineFlags struct {
	kernel, modules, qemu, accel string
	counting                     bool // the programs count what of them runs
	again                        bool // the host is probed again, whatever is remembered
}

func (f *machineFlags) add(cmd *cobra.Command) {
	f.addKernel(cmd)
	cmd.Flags().StringVar(&f.qemu, "qemu", "", "`PATH` of the QEMU to use (default: "+host.DefaultQEMU+" in PATH)")
	cmd.Flags().StringVar(&f.accel, "accel", "auto", "acceleration `HOW`: auto, kvm, or tcg (software emulation)")
}

func (f *machineFlags) addKernel(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kernel, "kernel", "", "kernel `FILE` to boot (default: the distribution's cloud kernel)")
	cmd.Flags().StringVar(&f.modules, "modules", "", "`FOLDER` with the modules of -kernel")
}

// check refuses what makes no sense before anything is started.
func (f *machineFlags) check() error {
	switch f.accel {
	case "", "auto", "kvm", "tcg":
	default:
		return usage("unknown acceleration %q: say -accel auto, kvm or tcg", f.accel)
	}
	if f.modules != "" && f.kernel == "" {
		return usage("-modules %s without -kernel: name the kernel that they belong to", f.modules)
	}
	for _, given := range []struct {
		flag, path string
		is         func(fs.FileMode) bool
		what       string
	}{
		{"-kernel", f.kernel, fs.FileMode.IsRegular, "file"}, {"-modules", f.modules, fs.FileMode.IsDir, "folder"},
	} {
		if given.path == "" {
			continue
		}
		info, err := os.Stat(given.path)
		if err != nil {
			return usage("%s: %w", given.flag, err)
		}
		if !given.is(info.Mode()) {
			return usage("%s %s: name a %s", given.flag, given.path, given.what)
		}
	}
	return nil
}

// arguments are the flags as this program takes them again.
func (f *machineFlags) arguments() []string {
	var args []string
	for _, flag := range []struct{ name, value string }{
		{"-kernel", f.kernel}, {"-modules", f.modules}, {"-qemu", f.qemu}, {"-accel", f.accel},
	} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	return args
}

// build builds what is missing of the images.
func (f *machineFlags) build(cmd *cobra.Command, log func(string)) (*images.Set, error) {
	dir, err := project(cmd)
	if err != nil {
		return nil, err
	}
	set, err := images.Build(cmd.Context(), images.Config{SourceDir: dir, Kernel: f.kernel, Modules: f.modules, Cover: f.counting, Log: log})
	if _, ok := errors.AsType[*images.CacheError](err); ok {
		return nil, &host.UnsupportedError{Err: err}
	}
	return set, err
}

// detect finds out what the host can do.
func (f *machineFlags) detect(cmd *cobra.Command, set *images.Set, log func(string)) (*host.Host, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	return host.Detect(cmd.Context(), host.Options{
		QEMU: f.qemu, Accel: f.accel, CacheDir: cache, Again: f.again, Log: log,
	}, set)
}

// save makes, or finds, the machine that nodes are cloned from.
func (f *machineFlags) save(cmd *cobra.Command, set *images.Set, h *host.Host, log func(string)) (machine.Saved, error) {
	cache, err := cacheDir()
	if err != nil {
		return machine.Saved{}, err
	}
	return warm.Get(cmd.Context(), warm.Config{
		Hardware: h.Hardware(set), Version: h.QEMUVersion, CacheDir: filepath.Join(cache, "machines"), Log: log,
	})
}

// cacheDir is where the rig keeps what can be made again.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", &host.UnsupportedError{Err: fmt.Errorf("find the cache folder: %w: set HOME or XDG_CACHE_HOME", err)}
	}
	dir = filepath.Join(dir, "dsoftbus-rig")
	return dir, images.CheckOwner(dir)
}

// usage is an error of how a command was called.
func usage(format string, args ...any) error {
	return &exitError{2, fmt.Errorf(format, args...)}
}
