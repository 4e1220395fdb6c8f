package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machineCommands are the commands that scenarios may count on.
var machineCommands = strings.Fields("ls cat cp mv rm mkdir ln chmod dd df ps kill dmesg ip mount umount sleep date free hostname gosh")

func TestUserlandCommands(t *testing.T) {
	commands, err := userlandCommands("userland/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range commands {
		names = append(names, path.Base(c))
	}
	for _, want := range append(machineCommands, "init") {
		if !slices.Contains(names, want) {
			t.Errorf("userland/go.mod has no %s", want)
		}
	}
	if slices.Contains(names, "makebb") {
		t.Error("the builder would be a command of the machine")
	}
	if _, err := userlandCommands(writeFile(t, "go.mod", "tool (")); err == nil {
		t.Error("a broken go.mod: no error")
	}
}

func TestUserlandLayerInputs(t *testing.T) {
	id := func(gomod, gosum, version string) string {
		t.Helper()
		source := writeTree(t, map[string][]byte{userlandDir + "/go.mod": []byte(gomod), userlandDir + "/go.sum": []byte(gosum)})
		in, err := userlandLayer(&goTool{inputs: []Input{{"GOVERSION", version}}}, source).inputs()
		if err != nil {
			t.Fatal(err)
		}
		return inputID("base", in)
	}
	ids := []string{id("a", "b", "go1.26.8"), id("a2", "b", "go1.26.8"), id("a", "b2", "go1.26.8"), id("a", "b", "go1.26.9")}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 4 {
		t.Errorf("a change to go.mod, go.sum or the compiler does not make another layer: %q", ids)
	}
	if _, err := userlandLayer(&goTool{}, t.TempDir()).inputs(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no sources: error %v", err)
	}
}

func TestUserlandLayerFails(t *testing.T) {
	source := writeTree(t, map[string][]byte{
		"go.mod":                []byte("module tiny\n\ngo 1.26\n"),
		userlandDir + "/go.mod": []byte("module userland\n\ngo 1.26\n\ntool " + commandPrefix + "core/ls\n"),
		userlandDir + "/go.sum": nil,
	})
	c, _ := testCache(t, t.TempDir())
	_, err := c.get(t.Context(), userlandLayer(goFor(t, source), source))
	if err == nil || !strings.Contains(err.Error(), "go tool makebb") {
		t.Errorf("error %v", err)
	}
	if left := names(t, c.dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestSetLayer(t *testing.T) {
	c, _ := testCache(t, t.TempDir())
	part := func(name, content string) entry {
		t.Helper()
		e, err := c.get(t.Context(), layer{
			name:   name,
			inputs: func() ([]Input, error) { return []Input{{"content", content}}, nil },
			build: func(_ context.Context, dir string) (result, error) {
				return result{}, os.WriteFile(filepath.Join(dir, name+".cpio"), []byte(content), 0o644)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	kernel, base, nodes := part("kernel", "k"), part("base", "first "), part("nodes", "second")
	set, err := c.get(t.Context(), setLayer(kernel, base, nodes))
	if err != nil {
		t.Fatal(err)
	}
	if initrd, err := os.ReadFile(set.file(initrdFile)); err != nil || string(initrd) != "first second" {
		t.Errorf("initrd %q, %v", initrd, err)
	}
	if d := cmp.Diff([]Manifest{kernel.Manifest, base.Manifest, nodes.Manifest}, set.Layers); d != "" {
		t.Errorf("layers in the manifest (-want +got):\n%s", d)
	}
	for _, other := range []layer{setLayer(part("kernel", "k2"), base, nodes), setLayer(kernel, base, part("nodes", "third"))} {
		if e, err := c.get(t.Context(), other); err != nil || e.ID == set.ID {
			t.Errorf("another layer makes the same set: %v", err)
		}
	}
	if err := os.Remove(base.file("base.cpio")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(t.Context(), setLayer(kernel, base, part("nodes", "fourth"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is gone: error %v", err)
	}
}

// TestBuild builds what the rig boots, in the user's own cache, so that it takes
// long only where nothing was built yet.
func TestBuild(t *testing.T) {
	var said said
	cfg := Config{SourceDir: "..", Log: func(step string) { said.log("%s", step); t.Log(step) }}
	set, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(set.ManifestPath)
	if err != nil {
		t.Fatal(err)
	}
	var manifest Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.ID != set.ID || len(manifest.Layers) != 4 {
		t.Errorf("manifest of %s with %d layers, set %s", manifest.ID, len(manifest.Layers), set.ID)
	}
	if set.KernelRelease == "" || set.KernelSource == "" {
		t.Errorf("set %+v", set)
	}
	if kernel, err := os.ReadFile(set.Kernel); err != nil {
		t.Error(err)
	} else if k, err := parseKernel(kernel); err != nil || k.release != set.KernelRelease {
		t.Errorf("kernel %+v, %v", k.release, err)
	}

	var joined []byte
	files := map[string]archived{}
	for _, name := range []string{"base", "modules", "nodes"} {
		path := layerFile(set, manifest, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		joined = append(joined, content...)
		for file, a := range readArchive(t, path) {
			files[file] = a
		}
	}
	if initrd, err := os.ReadFile(set.Initrd); err != nil || !bytes.Equal(initrd, joined) {
		t.Errorf("the initrd of %d bytes is not its layers one after the other, %v", len(initrd), err)
	}
	for _, command := range machineCommands {
		if target := string(files["bbin/"+command].content); target != "bb" {
			t.Errorf("bbin/%s is a link to %q", command, target)
		}
	}
	if _, ok := files["bin/sh"]; ok {
		t.Error("bin/sh is there: u-root's init would start it when the agent ends")
	}
	for _, program := range []string{"bbin/bb", "bin/node"} {
		if !bytes.HasPrefix(files[program].content, []byte("\x7fELF")) {
			t.Errorf("%s is not a program", program)
		}
	}
	if target := string(files["bin/agent"].content); target != "/bin/node" {
		t.Errorf("bin/agent is a link to %q", target)
	}
	for file := range strings.Lines(string(files["lib/rig/modules/order"].content)) {
		if m, err := parseModule(files["lib/rig/modules/"+strings.TrimSpace(file)].content); err != nil || m.release != set.KernelRelease {
			t.Errorf("module %s is for kernel %q, %v", file, m.release, err)
		}
	}

	said.lines = nil
	again, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Built) != 0 || again.ID != set.ID || len(said.lines) != 0 {
		t.Errorf("with nothing changed it built %q as %s and said %q", again.Built, again.ID, said.lines)
	}
}

// layerFile is the archive of one of a set's layers.
func layerFile(set *Set, m Manifest, name string) string {
	for _, l := range m.Layers {
		if l.Layer == name {
			return filepath.Join(filepath.Dir(filepath.Dir(set.Initrd)), name+"-"+l.ID[:16], archiveFile(name))
		}
	}
	return name + " is no layer"
}

func BenchmarkBuildUnchanged(b *testing.B) {
	for b.Loop() {
		if _, err := Build(b.Context(), Config{SourceDir: ".."}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBoot boots the kernel, the modules and the userland, with a program of its
// own in the agent's place.
func TestBoot(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("QEMU is not installed (scripts/setup does that)")
	}
	set, err := Build(t.Context(), Config{SourceDir: ".."})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(set.ManifestPath)
	if err != nil {
		t.Fatal(err)
	}
	var manifest Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	standin := filepath.Join(dir, "standin")
	if _, err := goFor(t, "..").command("..", "build", "-o", standin, "./images/testdata/standin").run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var a archive
	a.link("bin/uinit", "/bin/agent")
	if err := a.program("bin/agent", standin); err != nil {
		t.Fatal(err)
	}
	if err := a.write(dir, "nodes"); err != nil {
		t.Fatal(err)
	}
	initrd, err := os.Create(filepath.Join(dir, initrdFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{layerFile(set, manifest, "base"), layerFile(set, manifest, "modules"), filepath.Join(dir, "nodes.cpio")} {
		if err := appendFile(initrd, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := initrd.Close(); err != nil {
		t.Fatal(err)
	}

	// A boot takes two to three seconds; the bound is for a machine under load.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	console := filepath.Join(dir, "console")
	machine := command{argv: []string{qemu, "-M", "pc", "-nodefaults", "-display", "none", "-no-reboot", "-accel", "tcg", "-cpu", "max", "-m", "256",
		"-kernel", set.Kernel, "-initrd", initrd.Name(), "-append", "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check cryptomgr.notests uroot.uinitargs=hello",
		"-netdev", "user,id=lan,restrict=on", "-device", "virtio-net-pci,netdev=lan,romfile=", "-device", "virtio-serial-pci",
		"-serial", "file:" + console}}
	_, err = machine.run(ctx)
	output, readErr := os.ReadFile(console)
	if err != nil || readErr != nil {
		t.Fatalf("%v, %v\n%s", err, readErr, output)
	}
	var said []string
	for line := range strings.Lines(string(output)) {
		if _, text, ok := strings.Cut(line, "standin: "); ok {
			said = append(said, strings.TrimSpace(text))
		}
	}
	want := []string{
		"driver virtio_net <nil>",
		"driver virtio_console <nil>",
		`uname: "` + set.KernelRelease + `\n" <nil>`,
		`gosh: "shell 42\n" <nil>`,
		`ls: "agent\nuinit\n" <nil>`,
		`nothing-such: "" exec: "nothing-such": executable file not found in $PATH`,
		`args ["hello"]`,
		"end",
	}
	if d := cmp.Diff(want, said); d != "" {
		t.Errorf("the machine said (-want +got):\n%s\nwhole console:\n%s", d, output)
	}
}
