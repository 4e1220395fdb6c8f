package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What the manifest of the kernel layer states.
const (
	factKernelFile = "kernel"  // the file to boot in the entry: "vmlinux" or "bzImage"
	factRelease    = "release" // uname -r
	factSource     = "source"  // [Set.KernelSource]
	factDrivers    = "drivers" // drivers found built in, or "unknown"
	factFormat     = "format"  // why it is a bzImage, if it is
)

// A kernelTree is a kernel and its modules as they lie on the disk.
type kernelTree struct {
	image   string // the kernel file
	modules string // the folder with its modules; empty when there is none
	source  string // [Set.KernelSource]
}

// buildKernel returns the kernel and the modules layer for the kernel asked for.
func buildKernel(ctx context.Context, c *cache, kernel, modules string) (entry, entry, error) {
	if kernel != "" {
		return kernelFromFiles(ctx, c, kernelTree{kernel, modules, "-kernel " + kernel})
	}
	packages, err := kernelPackages(ctx, c, "/etc/os-release")
	if err == nil {
		return kernelFromPackages(ctx, c, packages)
	}
	if ctx.Err() != nil || !errors.Is(err, errNoKernelPackage) {
		return entry{}, entry{}, err
	}
	host, hostErr := hostKernel("/")
	if hostErr != nil {
		return entry{}, entry{}, fmt.Errorf("%w\nnor can the host's own kernel be used: %w\nmend either, or give a kernel with -kernel FILE -modules DIR", err, hostErr)
	}
	c.log("kernel: taking the host's own, %s: %v", host.image, err)
	return kernelFromFiles(ctx, c, host)
}

// hostKernel is the kernel that runs, as installed under root.
func hostKernel(root string) (kernelTree, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return kernelTree{}, fmt.Errorf("find out which kernel runs: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	t := kernelTree{
		image:   filepath.Join(root, "boot", "vmlinuz-"+release),
		modules: filepath.Join(root, "lib/modules", release),
	}
	t.source = "host " + t.image
	for _, path := range []string{t.image, t.modules} {
		f, err := os.Open(path)
		if err != nil {
			return kernelTree{}, err
		}
		f.Close()
	}
	return t, nil
}

// kernelFromFiles makes the layers from files that may change at any time: their
// inputs are the contents.
func kernelFromFiles(ctx context.Context, c *cache, t kernelTree) (kernel, modules entry, err error) {
	kernel, err = c.get(ctx, kernelLayer(
		func() ([]Input, error) {
			_, sum, err := digestFile(t.image)
			return []Input{{"source", t.source}, {"image", sum}}, err
		},
		func(context.Context) (kernelTree, error) { return t, nil },
	))
	if err != nil {
		return entry{}, entry{}, err
	}
	// The plan has the modules' contents, so they are what their digests say.
	plan, err := planModules(c, kernel.Facts, t.modules)
	if err != nil {
		return entry{}, entry{}, fmt.Errorf("modules layer: %w", err)
	}
	modules, err = c.get(ctx, modulesLayer(
		func() ([]Input, error) { return append(plan.inputs(), Input{"kernel", kernel.ID}), nil },
		func(context.Context) (*modulePlan, error) { return plan, nil },
	))
	return kernel, modules, err
}

// kernelFromPackages makes the layers from packages in the cache, which are
// unpacked only if a layer is missing.
func kernelFromPackages(ctx context.Context, c *cache, packages entry) (kernel, modules entry, err error) {
	inputs := func() ([]Input, error) {
		in := []Input{{"source", packages.Facts[factSource]}}
		for _, f := range packages.Files {
			in = append(in, Input{f.Name, f.SHA256})
		}
		return in, nil
	}
	root := ""
	tree := func(ctx context.Context) (kernelTree, error) {
		if root == "" {
			temp, err := os.MkdirTemp(c.dir, tempPrefix)
			if err != nil {
				return kernelTree{}, err
			}
			root = temp
			if err := unpackPackages(ctx, packages, root); err != nil {
				return kernelTree{}, err
			}
		}
		return packagedKernel(root, packages.Facts[factSource])
	}
	defer func() {
		if root != "" {
			err = errors.Join(err, os.RemoveAll(root))
		}
	}()
	kernel, err = c.get(ctx, kernelLayer(inputs, tree))
	if err != nil {
		return entry{}, entry{}, err
	}
	modules, err = c.get(ctx, modulesLayer(inputs, func(ctx context.Context) (*modulePlan, error) {
		t, err := tree(ctx)
		if err != nil {
			return nil, err
		}
		return planModules(c, kernel.Facts, t.modules)
	}))
	return kernel, modules, err
}

// kernelLayer is the kernel in the form that boots fastest.
func kernelLayer(inputs func() ([]Input, error), tree func(context.Context) (kernelTree, error)) layer {
	return layer{
		name:  "kernel",
		doing: "unpacking the kernel",
		inputs: func() ([]Input, error) {
			in, err := inputs()
			return append(in, recipe("kernel.go", "vmlinux.go")), err
		},
		build: func(ctx context.Context, dir string) (result, error) {
			t, err := tree(ctx)
			if err != nil {
				return result{}, err
			}
			image, err := os.ReadFile(t.image)
			if err != nil {
				return result{}, err
			}
			k, err := parseKernel(image)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", t.image, err)
			}
			facts := map[string]string{
				factKernelFile: "vmlinux",
				factRelease:    k.release,
				factSource:     t.source,
				factDrivers:    k.drivers,
			}
			bootable := k.vmlinux
			if bootable == nil {
				facts[factKernelFile], bootable = "bzImage", image
				facts[factFormat] = "not unpacked: " + k.packed.Error()
			}
			return result{facts: facts}, os.WriteFile(filepath.Join(dir, facts[factKernelFile]), bootable, 0o644)
		},
	}
}

// modulesLayer is the archive of a plan.
func modulesLayer(inputs func() ([]Input, error), plan func(context.Context) (*modulePlan, error)) layer {
	return layer{
		name:  "modules",
		doing: "collecting the kernel's modules",
		inputs: func() ([]Input, error) {
			in, err := inputs()
			return append(in, recipe("modules.go", "archive.go")), err
		},
		build: func(ctx context.Context, dir string) (result, error) {
			p, err := plan(ctx)
			if err != nil {
				return result{}, err
			}
			return p.write(dir)
		},
	}
}
