package images

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// requiredModules are the drivers without which a machine cannot be reached, and
// the only ones loaded at boot, where each costs time.
var requiredModules = []string{"virtio_pci", "virtio_console", "virtio_net"}

// optionalModules are taken along if the kernel has them, for whoever asks.
var optionalModules = []string{
	"af_packet", "pvpanic", "pvpanic_pci", "sch_netem", "sch_tbf", "virtio_rng", "vmw_vsock_virtio_transport",
}

// modulesDir is where the layer lies in the machine. u-root's init loads what it
// finds right in /lib/modules, in alphabetical order, so that is no place for
// modules that depend on one another.
const modulesDir = "lib/rig/modules"

// maxModule bounds a decompressed module. The largest of a distribution has a
// tenth of it.
const maxModule = 256 << 20

// A modulePlan is the content of a modules layer.
type modulePlan struct {
	// order has the files to load at boot, each after those it needs.
	order []string

	// optional has, for each module to load on demand, its name and the files
	// to load after those of order.
	optional [][]string

	// files has the content of each file.
	files map[string][]byte

	builtin []string // required modules that are part of the kernel
	missing []string // optional ones that the kernel does not have
}

// A moduleTree is a folder of modules like those under /lib/modules.
type moduleTree struct {
	dir     string
	paths   map[string]string // where each module's file is
	builtin map[string]bool   // those that are part of the kernel
	loaded  map[string]module
}

// A module is one kernel module, decompressed.
type module struct {
	content []byte
	depends []string
	release string // of the kernel it was built for
}

// moduleName is the name under which lsmod shows the module of a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(filepath.ToSlash(file)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// findModules finds the modules of a kernel in dir or where one would expect them
// under it.
func findModules(dir, release string) (*moduleTree, error) {
	for _, d := range []string{"", release, filepath.Join("lib/modules", release), filepath.Join("usr/lib/modules", release)} {
		d = filepath.Join(dir, d)
		for _, sign := range []string{"kernel", "modules.builtin", "modules.order"} {
			if _, err := os.Stat(filepath.Join(d, sign)); err == nil {
				return readModuleTree(d)
			}
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s has no modules for kernel %s: it should be a folder like /lib/modules/%s", dir, release, release)
}

// readModuleTree lists what is in dir. Dependencies are not read from
// modules.dep: it is made when a kernel is installed and so is not in a package.
// The modules themselves say what they need.
func readModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, paths: map[string]string{}, builtin: map[string]bool{}, loaded: map[string]module{}}
	// A kernel may have no such file, as it may have nothing built in.
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		t.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch filepath.Ext(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(path, ".gz"), ".xz"), ".zst")) {
		case ".ko":
			if _, ok := t.paths[moduleName(path)]; !ok {
				t.paths[moduleName(path)] = path
			}
		}
		return nil
	})
	return t, err
}

// has reports whether name exists as a module.
func (t *moduleTree) has(name string) bool { return t.paths[name] != "" }

// module reads the module called name.
func (t *moduleTree) module(name string) (module, error) {
	if m, ok := t.loaded[name]; ok {
		return m, nil
	}
	path, ok := t.paths[name]
	if !ok {
		return module{}, fmt.Errorf("there is no module %s in %s", name, t.dir)
	}
	content, err := readModule(path)
	if err != nil {
		return module{}, fmt.Errorf("read kernel module %s: %w", path, err)
	}
	m, err := parseModule(content)
	if err != nil {
		return module{}, fmt.Errorf("read kernel module %s: %w", path, err)
	}
	t.loaded[name] = m
	return m, nil
}

func readModule(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f); err == nil {
			r = z.IOReadCloser()
		}
	}
	if err != nil {
		return nil, err
	}
	return readAll(r, maxModule)
}

// parseModule reads what a module says of itself in its .modinfo section: strings
// of the form key=value, each ended by a zero.
func parseModule(content []byte) (module, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return module{}, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return module{}, errors.New("it has no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return module{}, err
	}
	m := module{content: content}
	for _, entry := range strings.Split(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			for _, d := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
				m.depends = append(m.depends, moduleName(d))
			}
		case "vermagic":
			m.release, _, _ = strings.Cut(value, " ")
		}
	}
	return m, nil
}

// chain appends to order the modules that name needs and then name itself, but
// none that is in done, which it brings up to date.
func (t *moduleTree) chain(order []string, done map[string]bool, name string) ([]string, error) {
	if done[name] || t.builtin[name] && !t.has(name) {
		return order, nil
	}
	m, err := t.module(name)
	if err != nil {
		return nil, err
	}
	done[name] = true
	for _, d := range m.depends {
		if order, err = t.chain(order, done, d); err != nil {
			return nil, fmt.Errorf("needed by %s: %w", name, err)
		}
	}
	return append(order, name), nil
}

// planModules decides which modules of dir go along with the kernel of the given
// facts. An empty dir means that the kernel is said to need none.
func planModules(c *cache, kernel map[string]string, dir string) (*modulePlan, error) {
	release := kernel[factRelease]
	if dir == "" {
		return planWithoutModules(c, kernel)
	}
	tree, err := findModules(dir, release)
	if err != nil {
		return nil, err
	}
	p := &modulePlan{files: map[string][]byte{}}
	done := map[string]bool{}
	var order []string
	for _, name := range requiredModules {
		switch {
		case tree.has(name):
			if order, err = tree.chain(order, done, name); err != nil {
				return nil, err
			}
		case tree.builtin[name]:
			p.builtin = append(p.builtin, name)
		default:
			return nil, noDriver(release, name, "neither as a module in "+tree.dir+" nor in its modules.builtin")
		}
	}
	if p.order, err = p.take(tree, release, order); err != nil {
		return nil, err
	}
	for _, name := range optionalModules {
		if !tree.has(name) {
			if !tree.builtin[name] {
				p.missing = append(p.missing, name)
			}
			continue
		}
		// Distributions split a kernel's modules between packages, and one
		// that is at hand may need one that is not.
		order, err := tree.chain(nil, maps.Clone(done), name)
		if err != nil {
			p.missing = append(p.missing, name)
			continue
		}
		files, err := p.take(tree, release, order)
		if err != nil {
			return nil, err
		}
		p.optional = append(p.optional, append([]string{name}, files...))
	}
	return p, nil
}

// planWithoutModules is the plan for a kernel given without modules.
func planWithoutModules(c *cache, kernel map[string]string) (*modulePlan, error) {
	builtin := strings.Fields(kernel[factDrivers])
	if kernel[factDrivers] == "unknown" {
		c.log("kernel: it cannot be unpacked here to see whether it has its virtio drivers built in; without them no machine will answer")
		return &modulePlan{}, nil
	}
	for _, name := range requiredModules {
		if !slices.Contains(builtin, name) {
			return nil, noDriver(kernel[factRelease], name, "not built in, and no folder of modules was given (-modules DIR)")
		}
	}
	return &modulePlan{builtin: builtin}, nil
}

func noDriver(release, name, where string) error {
	return fmt.Errorf("kernel %s has no %s, %s: no machine could be reached; choose a kernel with virtio drivers, such as Debian's linux-image-cloud-amd64", release, name, where)
}

// take adds the named modules to p and returns their files' names.
func (p *modulePlan) take(t *moduleTree, release string, names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		m, err := t.module(name)
		if err != nil {
			return nil, err
		}
		if m.release != release {
			return nil, fmt.Errorf("kernel module %s is for kernel %q, not for %q: give the modules that were built with the kernel", t.paths[name], m.release, release)
		}
		file := name + ".ko"
		p.files[file] = m.content
		files = append(files, file)
	}
	return files, nil
}

// lists are the two files that say what to load: order, with one file a line, and
// optional, with a name and the files it needs on each.
func (p *modulePlan) lists() (order, optional string) {
	var o, x strings.Builder
	for _, f := range p.order {
		fmt.Fprintln(&o, f)
	}
	for _, chain := range p.optional {
		fmt.Fprintln(&x, strings.Join(chain, " "))
	}
	return o.String(), x.String()
}

// inputs are the contents of the layer, in the order in which they are written.
func (p *modulePlan) inputs() []Input {
	order, optional := p.lists()
	in := []Input{{"order", order}, {"optional", optional}}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		sum := sha256.Sum256(p.files[name])
		in = append(in, Input{name, hex.EncodeToString(sum[:])})
	}
	return in
}

// write writes the layer to dir.
func (p *modulePlan) write(dir string) (result, error) {
	order, optional := p.lists()
	var a archive
	a.bytes(modulesDir+"/order", []byte(order), 0o644)
	a.bytes(modulesDir+"/optional", []byte(optional), 0o644)
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		a.bytes(modulesDir+"/"+name, p.files[name], 0o644)
	}
	facts := map[string]string{
		"order":   strings.Join(p.order, " "),
		"builtin": strings.Join(p.builtin, " "),
		"missing": strings.Join(p.missing, " "),
	}
	return result{facts: facts}, a.write(dir, "modules")
}
