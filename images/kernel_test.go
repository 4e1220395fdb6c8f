package images

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestKernelFromFiles(t *testing.T) {
	bzImage := makeBzImage(pack(t, "zstd", makeVmlinux(t, "")))
	dir := writeTree(t, cloudModules(t, "modules/"))
	image, modulesFolder := filepath.Join(dir, "bzImage"), filepath.Join(dir, "modules")
	write := func(path string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(image, bzImage)
	c, _ := testCache(t, t.TempDir())
	get := func() (kernel, modules entry) {
		t.Helper()
		kernel, modules, err := buildKernel(t.Context(), c, image, modulesFolder)
		if err != nil {
			t.Fatal(err)
		}
		return kernel, modules
	}
	kernel, modules := get()
	want := map[string]string{
		factKernelFile: "vmlinux", factRelease: testRelease, factSource: "-kernel " + image, factDrivers: "",
	}
	if d := cmp.Diff(want, kernel.Facts); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if again, m := get(); again.ID != kernel.ID || m.ID != modules.ID || len(c.built) != 2 {
		t.Errorf("again: %s %s, built %q", again.ID, m.ID, c.built)
	}

	// A change to a module that is not taken along does not matter.
	write(filepath.Join(modulesFolder, "kernel/fs/unrelated.ko"), makeModule(t, testRelease, "something"))
	if _, m := get(); m.ID != modules.ID {
		t.Error("an unrelated module made another layer")
	}
	write(filepath.Join(modulesFolder, "kernel/net/core/failover.ko"), append(makeModule(t, testRelease), "changed"...))
	k, changed := get()
	if k.ID != kernel.ID || changed.ID == modules.ID {
		t.Error("a changed module did not make another layer")
	}
	write(image, append(bzImage, 0))
	if k, m := get(); k.ID == kernel.ID || m.ID == changed.ID {
		t.Error("a changed kernel did not make other layers")
	}
}

func TestKernelThatCannotBeUnpacked(t *testing.T) {
	image := filepath.Join(writeTree(t, map[string][]byte{"bzImage": makeBzImage([]byte("\x89LZO"))}), "bzImage")
	c, said := testCache(t, t.TempDir())
	kernel, modules, err := buildKernel(t.Context(), c, image, "")
	if err != nil {
		t.Fatal(err)
	}
	if kernel.Facts[factKernelFile] != "bzImage" || !strings.Contains(kernel.Facts[factFormat], "unknown format") {
		t.Errorf("facts %q", kernel.Facts)
	}
	if got, err := os.ReadFile(kernel.file("bzImage")); err != nil || string(got[offHeaderMagic:offHeaderMagic+4]) != "HdrS" {
		t.Errorf("not the bzImage: %v", err)
	}
	if order := readArchive(t, modules.file("modules.cpio"))["lib/rig/modules/order"]; order.mode == 0 || len(order.content) != 0 {
		t.Errorf("order %+v", order)
	}
	if !said.has("whether it has its virtio drivers built in") {
		t.Errorf("said %q", said.lines)
	}
}

func TestBuildKernelRefuses(t *testing.T) {
	dir := writeTree(t, map[string][]byte{
		"bare":        makeVmlinux(t, "virtio_net\x00virtio_console\x00"),
		"text":        []byte("text"),
		"modules/x":   nil,
		"kernel-less": nil,
	})
	tests := []struct {
		name, kernel, modules, want string
	}{
		{"missing", "missing", "", "missing: no such file"},
		{"no kernel", "text", "", "text: this is neither an x86 bzImage nor an ELF kernel"},
		{"no virtio", "bare", "", "kernel " + testRelease + " has no virtio_pci, not built in"},
		{"no modules", "bare", "modules", "has no modules for kernel " + testRelease},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _ := testCache(t, t.TempDir())
			modules := test.modules
			if modules != "" {
				modules = filepath.Join(dir, modules)
			}
			_, _, err := buildKernel(t.Context(), c, filepath.Join(dir, test.kernel), modules)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want something with %q", err, test.want)
			}
		})
	}
	if _, err := Build(t.Context(), Config{SourceDir: "..", Modules: dir}); err == nil || !strings.Contains(err.Error(), "without the kernel") {
		t.Errorf("modules without a kernel: %v", err)
	}
}

func TestHostKernel(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	image, modules := "boot/vmlinuz-"+release, "lib/modules/"+release+"/modules.builtin"
	root := writeTree(t, map[string][]byte{image: nil, modules: nil})
	k, err := hostKernel(root)
	want := kernelTree{
		image:   filepath.Join(root, image),
		modules: filepath.Join(root, filepath.Dir(modules)),
		source:  "host " + filepath.Join(root, image),
	}
	if err != nil || k != want {
		t.Errorf("%+v, %v", k, err)
	}
	for _, tree := range []map[string][]byte{{image: nil}, {modules: nil}} {
		if _, err := hostKernel(writeTree(t, tree)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: error %v", tree, err)
		}
	}
}
