package images

import (
	"bytes"
	"debug/elf"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeTree writes files under a new folder.
func writeTree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// cloudModules is a tree like that of a cloud kernel, under prefix.
func cloudModules(t testing.TB, prefix string) map[string][]byte {
	module := func(depends ...string) []byte { return makeModule(t, testRelease, depends...) }
	tree := map[string][]byte{
		"kernel/drivers/virtio/virtio.ko":                module("virtio_ring"),
		"kernel/drivers/virtio/virtio_ring.ko":           module(),
		"kernel/drivers/virtio/virtio_pci_modern_dev.ko": module(),
		"kernel/drivers/virtio/virtio_pci.ko":            module("virtio_ring", "virtio-pci-modern-dev", "virtio"),
		"kernel/drivers/net/net_failover.ko":             module("failover"),
		"kernel/net/core/failover.ko":                    module(),
		"kernel/drivers/net/virtio_net.ko":               module("virtio", "virtio_ring", "net_failover"),
		"kernel/drivers/char/virtio_console.ko":          module("virtio", "virtio_ring"),
		"kernel/drivers/char/hw_random/virtio-rng.ko":    module("virtio", "rng-core"),
		"kernel/drivers/char/hw_random/rng-core.ko":      module(),
		"kernel/net/sched/sch_netem.ko":                  module(),
		"kernel/net/sched/sch_tbf.ko":                    module("not_in_this_package"),
		"kernel/fs/unrelated.ko":                         module("nothing_known"),
		"modules.builtin":                                []byte("kernel/lib/builtin_dep.ko\nkernel/net/packet/af_packet.ko\n"),
		"modules.order":                                  nil,
	}
	out := map[string][]byte{}
	for name, content := range tree {
		out[prefix+name] = content
	}
	return out
}

func quietCache() *cache { return &cache{log: func(string, ...any) {}} }

var testKernel = map[string]string{factRelease: testRelease, factDrivers: ""}

func TestPlanModules(t *testing.T) {
	for _, prefix := range []string{"", testRelease + "/", "lib/modules/" + testRelease + "/", "usr/lib/modules/" + testRelease + "/"} {
		t.Run("under "+prefix, func(t *testing.T) {
			p, err := planModules(quietCache(), testKernel, writeTree(t, cloudModules(t, prefix)))
			if err != nil {
				t.Fatal(err)
			}
			order := []string{
				"virtio_ring.ko", "virtio_pci_modern_dev.ko", "virtio.ko", "virtio_pci.ko",
				"virtio_console.ko", "failover.ko", "net_failover.ko", "virtio_net.ko",
			}
			if d := cmp.Diff(order, p.order); d != "" {
				t.Errorf("order (-want +got):\n%s", d)
			}
			optional := [][]string{{"sch_netem", "sch_netem.ko"}, {"virtio_rng", "rng_core.ko", "virtio_rng.ko"}}
			if d := cmp.Diff(optional, p.optional); d != "" {
				t.Errorf("optional (-want +got):\n%s", d)
			}
			if d := cmp.Diff([]string{"pvpanic", "pvpanic_pci", "sch_tbf", "vmw_vsock_virtio_transport"}, p.missing); d != "" {
				t.Errorf("missing (-want +got):\n%s", d)
			}
			if len(p.files) != len(order)+3 {
				t.Errorf("%d files, want %d", len(p.files), len(order)+3)
			}
		})
	}
}

func TestPlanModulesCompressed(t *testing.T) {
	tree := cloudModules(t, "")
	plain, err := planModules(quietCache(), testKernel, writeTree(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	packed := map[string][]byte{}
	suffixes := map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst"}
	formats := []string{"gzip", "xz", "zstd"}
	for i, name := range slices.Sorted(maps.Keys(tree)) {
		if !strings.HasSuffix(name, ".ko") {
			packed[name] = tree[name]
			continue
		}
		format := formats[i%len(formats)]
		content := pack(t, format, tree[name])
		if format != "gzip" {
			content = content[:len(content)-4] // only a kernel's payload has its size after it
		}
		packed[name+suffixes[format]] = content
	}
	p, err := planModules(quietCache(), testKernel, writeTree(t, packed))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(plain.inputs(), p.inputs()); d != "" {
		t.Errorf("compressed modules make another plan (-plain +compressed):\n%s", d)
	}
}

func TestPlanModulesRefuses(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(tree map[string][]byte)
	}{
		{"no driver", "has no virtio_net, neither as a module in ", func(tree map[string][]byte) {
			delete(tree, "kernel/drivers/net/virtio_net.ko")
		}},
		{"no dependency", "needed by virtio_net: needed by net_failover: there is no module failover in ", func(tree map[string][]byte) {
			delete(tree, "kernel/net/core/failover.ko")
		}},
		{"another kernel's", `is for kernel "5.0.0", not for "` + testRelease, func(tree map[string][]byte) {
			tree["kernel/drivers/virtio/virtio_ring.ko"] = makeModule(t, "5.0.0")
		}},
		{"not a module", "virtio_ring.ko", func(tree map[string][]byte) {
			tree["kernel/drivers/virtio/virtio_ring.ko"] = []byte("text")
		}},
		{"no modinfo", "no .modinfo section", func(tree map[string][]byte) {
			tree["kernel/drivers/virtio/virtio_ring.ko"] = makeELF(t, elf.ET_REL, elf.EM_X86_64, nil)
		}},
		{"broken compression", "virtio_ring.ko.xz", func(tree map[string][]byte) {
			delete(tree, "kernel/drivers/virtio/virtio_ring.ko")
			tree["kernel/drivers/virtio/virtio_ring.ko.xz"] = []byte("not xz")
		}},
		{"no modules", "has no modules for kernel " + testRelease, func(tree map[string][]byte) { clear(tree) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree := cloudModules(t, "")
			test.change(tree)
			_, err := planModules(quietCache(), testKernel, writeTree(t, tree))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want something with %q", err, test.want)
			}
		})
	}
	if _, err := planModules(quietCache(), testKernel, filepath.Join(t.TempDir(), "missing")); !os.IsNotExist(err) {
		t.Errorf("a missing folder: %v", err)
	}
}

func TestPlanModulesBuiltin(t *testing.T) {
	tree := map[string][]byte{
		"modules.builtin":                       []byte("kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/virtio/virtio.ko\nkernel/drivers/char/virtio_console.ko\n"),
		"kernel/drivers/net/virtio_net.ko":      makeModule(t, testRelease, "virtio"),
		"kernel/drivers/net/virtio_net.ko.orig": []byte("not a module's name"),
	}
	p, err := planModules(quietCache(), testKernel, writeTree(t, tree))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"virtio_net.ko"}, p.order); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"virtio_pci", "virtio_console"}, p.builtin); d != "" {
		t.Errorf("builtin (-want +got):\n%s", d)
	}
}

// What is for demand alone is never in the boot's order, brings what it needs with it, in
// load order, and is not missed where the kernel has it built in.
func TestPlanModulesOnDemand(t *testing.T) {
	plan := func(change func(tree map[string][]byte)) *modulePlan {
		t.Helper()
		tree := cloudModules(t, "")
		change(tree)
		p, err := planModules(quietCache(), testKernel, writeTree(t, tree))
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(p.order, func(file string) bool { return strings.HasPrefix(file, "sch_") }) {
			t.Errorf("loaded at boot: %v", p.order)
		}
		return p
	}
	netem := func(p *modulePlan) []string {
		for _, chain := range p.optional {
			if chain[0] == "sch_netem" {
				return chain[1:]
			}
		}
		return nil
	}
	const file = "kernel/net/sched/sch_netem.ko"
	boot := plan(func(map[string][]byte) {}).order

	p := plan(func(tree map[string][]byte) {
		tree[file] = makeModule(t, testRelease, "virtio", "sch_second")
		tree["kernel/net/sched/sch_second.ko"] = makeModule(t, testRelease, "sch_first")
		tree["kernel/net/sched/sch_first.ko"] = makeModule(t, testRelease)
	})
	if d := cmp.Diff([]string{"sch_first.ko", "sch_second.ko", "sch_netem.ko"}, netem(p)); d != "" {
		t.Errorf("with what it needs (-want +got):\n%s", d)
	}
	if d := cmp.Diff(boot, p.order); d != "" {
		t.Errorf("the boot changed (-want +got):\n%s", d)
	}
	for what, change := range map[string]func(tree map[string][]byte){
		"built in": func(tree map[string][]byte) {
			tree["modules.builtin"] = append(tree["modules.builtin"], file+"\n"...)
		},
		"not there": func(map[string][]byte) {},
	} {
		p := plan(func(tree map[string][]byte) {
			delete(tree, file)
			change(tree)
		})
		if missing := slices.Contains(p.missing, "sch_netem"); missing != (what == "not there") || netem(p) != nil || p.files["sch_netem.ko"] != nil {
			t.Errorf("%s: missing %t, files %v", what, missing, netem(p))
		}
	}
}

func TestPlanWithoutModules(t *testing.T) {
	tests := []struct {
		drivers, want string
	}{
		{"virtio_pci virtio_console virtio_net", ""},
		{"unknown", ""},
		{"virtio_pci virtio_net", "has no virtio_console, not built in"},
		{"", "has no virtio_pci, not built in"},
	}
	for _, test := range tests {
		var said []string
		c := &cache{log: func(format string, _ ...any) { said = append(said, format) }}
		p, err := planModules(c, map[string]string{factRelease: testRelease, factDrivers: test.drivers}, "")
		switch {
		case test.want == "" && (err != nil || len(p.order) != 0):
			t.Errorf("%q: %v %v", test.drivers, p, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: error %v, want something with %q", test.drivers, err, test.want)
		}
		if unsaid := len(said) == 0; unsaid == (test.drivers == "unknown") {
			t.Errorf("%q: said %q", test.drivers, said)
		}
	}
}

func TestModulePlanWrite(t *testing.T) {
	p, err := planModules(quietCache(), testKernel, writeTree(t, cloudModules(t, "")))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := p.write(dir); err != nil {
		t.Fatal(err)
	}
	got := readArchive(t, filepath.Join(dir, "modules.cpio"))
	want := "virtio_ring.ko\nvirtio_pci_modern_dev.ko\nvirtio.ko\nvirtio_pci.ko\nvirtio_console.ko\nfailover.ko\nnet_failover.ko\nvirtio_net.ko\n"
	if order := string(got["lib/rig/modules/order"].content); order != want {
		t.Errorf("order:\n%s", order)
	}
	if optional := string(got["lib/rig/modules/optional"].content); optional != "sch_netem sch_netem.ko\nvirtio_rng rng_core.ko virtio_rng.ko\n" {
		t.Errorf("optional:\n%s", optional)
	}
	for file := range strings.Lines(want) {
		if _, err := parseModule(got["lib/rig/modules/"+strings.TrimSpace(file)].content); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add(makeModule(f, testRelease, "a", "b-c"))
	f.Add(makeELF(f, elf.ET_REL, elf.EM_X86_64, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseModule(data)
		if err == nil && !bytes.Equal(m.content, data) {
			t.Error("the content changed")
		}
	})
}
