package images

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	debianRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"
	ubuntuRelease = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n"
)

// writeFile writes a file of its own for the test.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	return filepath.Join(writeTree(t, map[string][]byte{name: []byte(content)}), name)
}

func TestReadDistribution(t *testing.T) {
	tests := []struct {
		name, osRelease string
		id, meta        string
	}{
		{"Debian", debianRelease, "debian", "linux-image-cloud-amd64"},
		{"Ubuntu", ubuntuRelease, "ubuntu", "linux-image-virtual"},
		{"like Ubuntu", "ID=pop\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=1\n", "pop", "linux-image-virtual"},
		{"like Debian", "ID=kali\nID_LIKE=debian\nVERSION_CODENAME='rolling'\n", "kali", "linux-image-cloud-amd64"},
		{"another", "ID=fedora\n", "", ""},
		{"nothing", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := readDistribution(writeFile(t, "os-release", test.osRelease))
			if test.id == "" {
				if !errors.Is(err, errNoKernelPackage) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.id != test.id || d.meta != test.meta || d.version == "" {
				t.Errorf("%+v", d)
			}
		})
	}
	if _, err := readDistribution(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, errNoKernelPackage) {
		t.Errorf("no os-release: error %v", err)
	}
}

func TestParsePackage(t *testing.T) {
	version, depends, err := parsePackage("Package: x\nPre-Depends: dpkg (>= 1)\nVersion: 6.1.192-2\n" +
		"Provides: " + strings.Repeat("module-x, ", 100_000) + "\nDepends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool,\n" +
		"Description: the kernel\n\nPackage: x\nVersion: 5\nDepends: older\n")
	if err != nil || version != "6.1.192-2" {
		t.Errorf("version %q, %v", version, err)
	}
	if d := cmp.Diff([]string{"dpkg", "kmod", "linux-base", "initramfs-tools", "linux-initramfs-tool"}, depends); d != "" {
		t.Errorf("depends (-want +got):\n%s", d)
	}
	if _, _, err := parsePackage("Package: x\n"); err == nil {
		t.Error("no version: no error")
	}
}

// fakeApt puts programs in place of apt's in $PATH. Each is a shell script; every
// call is noted in the file whose name is returned.
func fakeApt(t *testing.T, scripts map[string]string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	for name, script := range scripts {
		text := "#!/bin/sh\necho \"" + name + " $*\" >>" + calls + "\n" + script
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return calls
}

// Fake programs that know Debian's packages. The lists they look at are there if
// the state folder of the call is one that update was called for.
const (
	fakeCache = `
for last; do :; done
case "$last" in
linux-image-cloud-amd64) echo 'Version: 6.1.9-2
Depends: linux-image-` + testRelease + ` (= 6.1.9-2), linux-doc' ;;
linux-image-virtual) echo 'Version: 6.1.0.9.9
Depends: linux-firmware, linux-image-` + testRelease + `' ;;
linux-image-*) echo 'Version: 6.1.9-2
Depends: kmod, linux-base, linux-modules-` + testRelease + `
Provides: nothing' ;;
linux-modules-*) echo 'Version: 6.1.9-2' ;;
*) echo "E: No packages found" >&2; exit 100 ;;
esac
`
	fakeGet = `
for arg; do case "$arg" in linux-*=*) echo "$arg" >"${arg%%=*}.deb" ;; esac; done
`
	// Unpacking is copying a tree that the test has made.
	fakeDpkg = `
case "$2" in *image*) cp -R "$FAKE_TREE"/. "$3" ;; *) exit 0 ;; esac
`
	noLists = `echo 'E: No packages found' >&2; exit 100`
)

func aptCalls(t *testing.T, calls string) []string {
	t.Helper()
	text, err := os.ReadFile(calls)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	option := regexp.MustCompile(` -q| -o \S+`)
	var out []string
	for line := range strings.Lines(string(text)) {
		out = append(out, strings.TrimSpace(option.ReplaceAllString(line, "")))
	}
	return out
}

// packageTree is what a kernel package unpacks to.
func packageTree(t testing.TB, modulesUnder string) string {
	tree := cloudModules(t, modulesUnder+"/"+testRelease+"/")
	tree["boot/vmlinuz-"+testRelease] = makeBzImage(pack(t, "lz4", makeVmlinux(t, "")))
	return writeTree(t, tree)
}

func TestKernelFromPackages(t *testing.T) {
	tests := []struct {
		name, osRelease, modules, source string
		calls                            []string
	}{
		{"Debian", debianRelease, "lib/modules", "debian package linux-image-" + testRelease + " 6.1.9-2", []string{
			"apt-cache show --no-all-versions linux-image-cloud-amd64",
			"apt-cache show --no-all-versions linux-image-" + testRelease,
			"apt-get download linux-image-" + testRelease + "=6.1.9-2",
		}},
		{"Ubuntu", ubuntuRelease, "usr/lib/modules", "ubuntu package linux-image-" + testRelease + " 6.1.9-2", []string{
			"apt-cache show --no-all-versions linux-image-virtual",
			"apt-cache show --no-all-versions linux-image-" + testRelease,
			"apt-cache show --no-all-versions linux-modules-" + testRelease,
			"apt-get download linux-image-" + testRelease + "=6.1.9-2 linux-modules-" + testRelease + "=6.1.9-2",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			osRelease := writeFile(t, "os-release", test.osRelease)
			t.Setenv("FAKE_TREE", packageTree(t, test.modules))
			calls := fakeApt(t, map[string]string{"apt-cache": fakeCache, "apt-get": fakeGet, "dpkg-deb": fakeDpkg})
			c, _ := testCache(t, t.TempDir())
			get := func() (kernel, modules entry) {
				t.Helper()
				packages, err := kernelPackages(t.Context(), c, osRelease)
				if err != nil {
					t.Fatal(err)
				}
				kernel, modules, err = kernelFromPackages(t.Context(), c, packages)
				if err != nil {
					t.Fatal(err)
				}
				return kernel, modules
			}
			kernel, modules := get()
			got := aptCalls(t, calls)
			if len(got) != len(test.calls)+len(test.calls)-2 { // apt's, then a dpkg-deb for each package
				t.Errorf("calls:\n%s", strings.Join(got, "\n"))
			}
			if d := cmp.Diff(test.calls, got[:min(len(got), len(test.calls))]); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
			if kernel.Facts[factSource] != test.source || kernel.Facts[factRelease] != testRelease || kernel.Facts[factKernelFile] != "vmlinux" {
				t.Errorf("facts %q", kernel.Facts)
			}
			if vmlinux, err := os.ReadFile(kernel.file("vmlinux")); err != nil || checkVmlinux(vmlinux) != nil {
				t.Errorf("kernel of %d bytes, %v", len(vmlinux), err)
			}
			if order := readArchive(t, modules.file("modules.cpio"))["lib/rig/modules/order"]; !strings.Contains(string(order.content), "virtio_net.ko\n") {
				t.Errorf("order %q", order.content)
			}
			if d := cmp.Diff([]string{"packages", "kernel", "modules"}, c.built); d != "" {
				t.Errorf("built (-want +got):\n%s", d)
			}
			for _, name := range names(t, c.dir) {
				if strings.HasPrefix(name, tempPrefix) {
					t.Errorf("left behind: %s", name)
				}
			}

			// With everything there, nothing is called.
			fakeApt(t, map[string]string{"apt-cache": "exit 1", "apt-get": "exit 1", "dpkg-deb": "exit 1"})
			again, _ := get()
			if again.ID != kernel.ID || len(c.built) != 3 {
				t.Errorf("again: %+v, built %q", again, c.built)
			}

			// A lost layer is made from the packages, not from the network.
			calls = fakeApt(t, map[string]string{"apt-cache": "exit 1", "apt-get": "exit 1", "dpkg-deb": fakeDpkg})
			if err := os.RemoveAll(modules.dir); err != nil {
				t.Fatal(err)
			}
			if _, mended := get(); mended.ID != modules.ID {
				t.Errorf("after losing the modules: %+v", mended)
			}
			if got := aptCalls(t, calls); len(got) != len(test.calls)-2 || !strings.HasPrefix(got[0], "dpkg-deb -x ") {
				t.Errorf("after losing the modules it called %q", got)
			}
		})
	}
}

func TestKernelPackagesFetchesLists(t *testing.T) {
	calls := fakeApt(t, map[string]string{
		// The host's lists are empty, those in the folder that update filled are not.
		"apt-cache": `case "$*" in *Dir::State::Lists=*) ;; *) ` + noLists + ` ;; esac` + "\n" + fakeCache,
		"apt-get": `
for arg; do case "$arg" in Dir::State::Lists=*) lists=${arg#*=} ;; esac; done
case "$*" in *update*) test -d "$lists/partial" || exit 9; echo 'E: some other source is gone' >&2; exit 100 ;; esac
` + fakeGet,
	})
	c, said := testCache(t, t.TempDir())
	packages, err := kernelPackages(t.Context(), c, writeFile(t, "os-release", debianRelease))
	if err != nil {
		t.Fatal(err)
	}
	if packages.Facts[factSource] != "debian package linux-image-"+testRelease+" 6.1.9-2" || len(packages.Files) != 1 {
		t.Errorf("%+v", packages.Manifest)
	}
	if got := aptCalls(t, calls); !slices.Contains(got, "apt-get update --error-on=any") {
		t.Errorf("calls:\n%s", strings.Join(got, "\n"))
	}
	if !said.has("fetching fresh ones") {
		t.Errorf("said %q", said.lines)
	}
	if left := names(t, c.dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestKernelPackagesFails(t *testing.T) {
	const offline = `echo "E: Failed to fetch http://x/y.deb  Could not resolve 'x'" >&2; exit 100`
	tests := []struct {
		name     string
		scripts  map[string]string
		want     []string
		fallback bool // whether the host's kernel would be tried
	}{
		{"offline without lists", map[string]string{"apt-cache": noLists, "apt-get": offline},
			[]string{"apt-get -q ", " update", "Could not resolve 'x'", "check the network", "-kernel FILE -modules DIR"}, true},
		{"offline with lists", map[string]string{"apt-cache": fakeCache, "apt-get": `case "$*" in *update*) exit 0 ;; esac; ` + offline},
			[]string{"apt-get -q ", " download linux-image-" + testRelease + "=6.1.9-2", "Could not resolve 'x'", "check the network"}, true},
		{"no such package", map[string]string{"apt-cache": noLists, "apt-get": "exit 0"},
			[]string{"linux-image-cloud-amd64: exit status 100", "E: No packages found"}, true},
		{"a package without a kernel", map[string]string{"apt-cache": "echo 'Version: 1'"},
			[]string{"linux-image-cloud-amd64 depends on no kernel"}, true},
		{"nonsense", map[string]string{"apt-cache": "echo"},
			[]string{"read what apt-cache says of linux-image-cloud-amd64: it gives no version"}, false},
		{"disk full", map[string]string{"apt-cache": fakeCache, "apt-get": `echo 'E: Write error - write (28: No space left on device)' >&2; exit 100`},
			[]string{"No space left on device"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakeApt(t, test.scripts)
			c, _ := testCache(t, t.TempDir())
			_, err := kernelPackages(t.Context(), c, writeFile(t, "os-release", debianRelease))
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want something with %q", err, part)
				}
			}
			if errors.Is(err, errNoKernelPackage) != test.fallback {
				t.Errorf("would the host's kernel be tried: %v", !test.fallback)
			}
			if errors.Is(err, syscall.ENOSPC) != (test.name == "disk full") {
				t.Errorf("a full disk? %v", err)
			}
			if left := names(t, c.dir); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestKernelPackagesWithoutApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c, _ := testCache(t, t.TempDir())
	_, err := kernelPackages(t.Context(), c, writeFile(t, "os-release", debianRelease))
	if !errors.Is(err, errNoKernelPackage) || !strings.Contains(err.Error(), "apt-cache is not installed") {
		t.Errorf("error %v", err)
	}
}

func TestUnpackPackagesFails(t *testing.T) {
	fakeApt(t, map[string]string{"apt-cache": fakeCache, "apt-get": fakeGet, "dpkg-deb": "echo 'dpkg-deb: error: not a Debian format archive' >&2; exit 2"})
	c, _ := testCache(t, t.TempDir())
	packages, err := kernelPackages(t.Context(), c, writeFile(t, "os-release", debianRelease))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = kernelFromPackages(t.Context(), c, packages)
	if err == nil || !strings.Contains(err.Error(), "kernel layer: dpkg-deb -x ") || !strings.Contains(err.Error(), "not a Debian format archive") {
		t.Errorf("error %v", err)
	}
	if left := names(t, c.dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestPackagedKernel(t *testing.T) {
	for n, tree := range []map[string][]byte{
		{},
		{"boot/vmlinuz-1": nil},
		{"boot/vmlinuz-1": nil, "boot/vmlinuz-2": nil},
	} {
		k, err := packagedKernel(writeTree(t, tree), "a package")
		if ok := n == 1; ok != (err == nil) || ok != (filepath.Base(k.image) == "vmlinuz-1") {
			t.Errorf("%d kernels: %+v, %v", n, k, err)
		}
	}
}
