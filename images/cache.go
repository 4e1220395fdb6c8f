package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/images/filelock"
)

// manifestSchema is the version of [Manifest]. An entry with another one is
// rebuilt.
const manifestSchema = 1

// manifestFile is the name of the manifest in the folder of an entry.
const manifestFile = "manifest.json"

// tempPrefix starts the names of folders that are still being filled. Whoever
// holds the lock may remove them: their builder is gone.
const tempPrefix = "tmp-"

// keptEntries and keptFor bound how much the cache keeps of each layer: the
// entries used last, and in any case those used so recently that a machine may
// be about to boot them. Without a bound every edit of a program would cost its
// layer and the joined image for good, some 60 MB.
const (
	keptEntries = 6
	keptFor     = time.Hour
)

// errCacheFolder is what errors about the cache folder itself are.
var errCacheFolder = errors.New("image cache")

// A CacheError says that this user cannot have a cache folder where it should be,
// and what to do.
type CacheError struct{ err error }

func (e *CacheError) Error() string { return e.err.Error() }
func (e *CacheError) Unwrap() error { return e.err }

// A Manifest says what an entry of the cache holds and what it was made from.
type Manifest struct {
	Schema  int               `json:"schema"`
	Layer   string            `json:"layer"`
	ID      string            `json:"id"`               // SHA-256 of the inputs, hex
	Created time.Time         `json:"created"`          //
	Seconds float64           `json:"seconds"`          // how long it took to build
	Inputs  []Input           `json:"inputs"`           //
	Facts   map[string]string `json:"facts,omitempty"`  // found out while building
	Files   []File            `json:"files"`            // all but the manifest itself
	Layers  []Manifest        `json:"layers,omitempty"` // of the set: what it was joined from
}

// An Input is one thing that went in: a file with the SHA-256 of its content in
// hex as its value, a setting, or a tool's version.
type Input struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// recipes is the code that makes the layers. Like the rest of what goes in, it
// decides what comes out.
//
//go:embed archive.go debugger.go golang.go kernel.go modules.go programs.go userland.go vmlinux.go
var recipes embed.FS

// recipe is the input that says which code made a layer.
func recipe(files ...string) Input {
	h := sha256.New()
	for _, name := range files {
		code, err := recipes.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("images: %s is not among the embedded recipes", name))
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(code), code)
	}
	return Input{"recipe", hex.EncodeToString(h.Sum(nil))}
}

// A File is one file of an entry.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// A layer is something the cache can hold: how to tell what goes in, and how to
// make it.
type layer struct {
	name string

	// doing says in a few words what build does, for whoever waits for it.
	doing string

	// inputs is everything the result depends on.
	inputs func() ([]Input, error)

	// build fills the empty folder dir.
	build func(ctx context.Context, dir string) (result, error)
}

// A result is what a build found out that its manifest should say.
type result struct {
	facts  map[string]string
	layers []Manifest
}

// An entry is a layer that is in the cache.
type entry struct {
	Manifest
	dir string
}

func (e entry) file(name string) string { return filepath.Join(e.dir, name) }

// A cache is the cache folder while this process holds its lock.
type cache struct {
	dir   string
	log   func(format string, args ...any)
	close func() // gives the lock back

	mu        sync.Mutex
	built     []string
	durations map[string]time.Duration
}

// openCache creates the cache folder where needed and waits for its lock.
func openCache(ctx context.Context, dir string, log func(string, ...any)) (*cache, error) {
	if err := CheckOwner(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w %s: %w", errCacheFolder, dir, err)
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(dir, "lock"), func(holder string) { log("waiting for %s, which builds in %s", holder, dir) })
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("wait for another rig, which builds in %s: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", errCacheFolder, dir, err)
	}
	c := &cache{dir: dir, log: log, close: unlock, durations: map[string]time.Duration{}}
	if err := c.removeLeftovers(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// removeLeftovers removes what a builder that was killed has left.
func (c *cache) removeLeftovers() error {
	left, err := filepath.Glob(filepath.Join(c.dir, tempPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("%w %s: remove what an interrupted build left: %w", errCacheFolder, c.dir, err)
		}
	}
	return nil
}

// buildAttempts bounds how often a layer is built anew because its inputs
// changed in the meantime.
const buildAttempts = 3

// get returns the entry for l, from the cache if it is there and whole.
func (c *cache) get(ctx context.Context, l layer) (entry, error) {
	e, err := c.find(ctx, l)
	if err != nil {
		return entry{}, fmt.Errorf("%s layer: %w", l.name, err)
	}
	return e, nil
}

// find finds or builds the entry for l. The inputs are read once more after a
// build: had they changed during it, the entry would be kept under a name that
// does not say what is in it.
func (c *cache) find(ctx context.Context, l layer) (entry, error) {
	inputs, err := l.inputs()
	if err != nil {
		return entry{}, err
	}
	for range buildAttempts {
		id := inputID(l.name, inputs)
		dir := filepath.Join(c.dir, l.name+"-"+id[:16])
		e, err := openEntry(dir, id)
		if err == nil {
			now := time.Now()
			// What this is for, pruning, does no harm when it fails.
			_ = os.Chtimes(dir, now, now)
			return e, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			c.log("%s: rebuilding it: %v", l.name, err)
		}
		if e, err = c.fill(ctx, l, id, inputs); err != nil {
			return entry{}, err
		}
		if inputs, err = l.inputs(); err == nil && inputID(l.name, inputs) == id {
			if err = replaceDir(e.dir, dir); err == nil {
				e.dir = dir
				c.record(e)
				return e, nil
			}
		}
		if err := errors.Join(err, os.RemoveAll(e.dir)); err != nil {
			return entry{}, err
		}
		c.log("%s: its sources changed while it was built: building it again", l.name)
	}
	return entry{}, fmt.Errorf("its sources changed during each of %d builds: wait until nothing writes to them", buildAttempts)
}

// record notes that e was built.
func (c *cache) record(e entry) {
	c.log("%s: done in %.1f s", e.Layer, e.Seconds)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.built = append(c.built, e.Layer)
	c.durations[e.Layer] = time.Duration(e.Seconds * float64(time.Second))
}

// fill builds l in a temporary folder, which it removes when it fails. The entry
// it returns lies there.
func (c *cache) fill(ctx context.Context, l layer, id string, inputs []Input) (entry, error) {
	c.log("%s: %s", l.name, l.doing)
	temp, err := os.MkdirTemp(c.dir, tempPrefix+l.name+"-")
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", errCacheFolder, err)
	}
	m := Manifest{Schema: manifestSchema, Layer: l.name, ID: id, Created: time.Now().UTC(), Inputs: inputs}
	if err := m.fill(ctx, l, temp); err != nil {
		return entry{}, errors.Join(err, os.RemoveAll(temp))
	}
	return entry{Manifest: m, dir: temp}, nil
}

// fill builds l in dir and completes and writes the manifest.
func (m *Manifest) fill(ctx context.Context, l layer, dir string) error {
	// Readable by all, so that one user's cache can serve another's QEMU.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	found, err := l.build(ctx, dir)
	if err != nil {
		return err
	}
	if m.Files, err = digestFiles(dir); err != nil {
		return err
	}
	m.Facts, m.Layers = found.facts, found.layers
	m.Seconds = time.Since(m.Created).Seconds()
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestFile), append(text, '\n'), 0o644)
}

// replaceDir renames from to to, where a broken entry may be in the way.
func replaceDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// openEntry reads the manifest of the entry in dir and compares every file with
// it. The error is fs.ErrNotExist when there is no such entry.
func openEntry(dir, id string) (entry, error) {
	if _, err := os.Stat(dir); err != nil {
		return entry{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return entry{}, fmt.Errorf("broken entry: %s", err)
	}
	e := entry{dir: dir}
	if err := json.Unmarshal(text, &e.Manifest); err != nil {
		return entry{}, fmt.Errorf("broken entry: %s: %w", filepath.Join(dir, manifestFile), err)
	}
	if e.Schema != manifestSchema || e.ID != id {
		return entry{}, fmt.Errorf("broken entry: %s is of schema %d and for %q", filepath.Join(dir, manifestFile), e.Schema, e.ID)
	}
	for _, want := range e.Files {
		size, sum, err := digestFile(e.file(want.Name))
		if err != nil {
			return entry{}, fmt.Errorf("broken entry: %s", err)
		}
		if size != want.Size || sum != want.SHA256 {
			return entry{}, fmt.Errorf("broken entry: %s is damaged: %d bytes with digest %.12s instead of %d with %.12s",
				e.file(want.Name), size, sum, want.Size, want.SHA256)
		}
	}
	return e, nil
}

// prune removes the entries that were not used for longest. It is housekeeping:
// what cannot be removed stays.
func (c *cache) prune() {
	if len(c.built) == 0 {
		return
	}
	type used struct {
		path string
		at   time.Time
	}
	layers := map[string][]used{}
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, d := range list {
		name, _, ok := strings.Cut(d.Name(), "-")
		info, err := d.Info()
		if err != nil || !ok || !d.IsDir() {
			continue
		}
		layers[name] = append(layers[name], used{filepath.Join(c.dir, d.Name()), info.ModTime()})
	}
	for _, entries := range layers {
		slices.SortFunc(entries, func(a, b used) int { return b.at.Compare(a.at) })
		for i, e := range entries {
			if i >= keptEntries && time.Since(e.at) > keptFor {
				_ = os.RemoveAll(e.path)
			}
		}
	}
}

// inputID is the SHA-256 of a layer's inputs, in hex. Each string is written
// with its length, so that no two lists of inputs look the same.
func inputID(layer string, inputs []Input) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q\n", manifestSchema, layer)
	for _, in := range inputs {
		fmt.Fprintf(h, "%q %q\n", in.Name, in.Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digestFiles lists the regular files right in dir, by name.
func digestFiles(dir string) ([]File, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, d := range list {
		if !d.Type().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", filepath.Join(dir, d.Name()))
		}
		size, sum, err := digestFile(filepath.Join(dir, d.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: d.Name(), Size: size, SHA256: sum})
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return files, nil
}

// digestFile returns the size of a file in bytes and its SHA-256 in hex.
func digestFile(path string) (int64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return 0, "", err
	}
	return n, hex.EncodeToString(h.Sum(nil)), nil
}
