// Package warm keeps saved machines: one machine, booted once to its idle agent
// and saved, of which every node is a clone.
//
// It owns the making of a save, its place in the cache, its key and its check. It
// never gives a machine an identity: what is saved is the same for every node.
package warm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dsoftbus-rig/images/filelock"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/worker"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// SaveJob is the kind of the job this package gives to workers: a Job, which
// tells nothing and leaves a save.
const SaveJob = "save"

// Names in a save's folder.
const (
	ramFile      = "ram"
	stateFile    = "state"
	manifestFile = "save.json"
	asidePrefix  = "save-new-" // of a folder whose save is not finished
)

// What stays in the cache: so many saves, a hundred MiB each, and any that was used
// within so long, since a run may be about to clone it.
const (
	keepSaves = 3
	keepUsed  = time.Hour
)

// manifest says what a save is and how to tell that it is whole. It is written
// last.
type manifest struct {
	Schema int       `json:"schema"` // 2
	Key    string    `json:"key"`    // what the save was made for, in one line
	Made   time.Time `json:"made"`
	Took   float64   `json:"seconds"` // for booting and saving
	RAM    fileSum   `json:"ram"`
	State  fileSum   `json:"state"`
}

type fileSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Config says what machine is wanted.
type Config struct {
	Hardware machine.Hardware
	Version  string // of QEMU: another one may read a state in another way
	CacheDir string
	Log      func(step string) // gets each step that takes time; may be nil
}

// Get returns a save of that machine, made anew when there is none that is whole.
// Rigs that want the same one at the same time wait for each other.
func Get(ctx context.Context, cfg Config) (machine.Saved, error) {
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	dir := saveDir(cfg)
	saved := machine.Saved{RAM: filepath.Join(dir, ramFile), State: filepath.Join(dir, stateFile)}
	if err := os.MkdirAll(cfg.CacheDir, 0o755); err != nil {
		return saved, fmt.Errorf("keep a saved machine: %w", err)
	}
	unlock, err := filelock.Lock(ctx, dir+".lock", func(holder string) {
		cfg.Log(fmt.Sprintf("waiting for %s, which saves the same machine", holder))
	})
	if err != nil {
		return saved, fmt.Errorf("keep a saved machine: %w", err)
	}
	defer unlock()
	switch err := check(dir, cfg); {
	case err == nil:
		return saved, touch(dir)
	case !errors.Is(err, os.ErrNotExist):
		cfg.Log(fmt.Sprintf("the saved machine is of no use and is made anew: %v", err))
	}
	cfg.Log("saving a booted machine, of which nodes will be clones")
	if err := build(ctx, cfg, dir); err != nil {
		return saved, fmt.Errorf("save a machine: %w", err)
	}
	if err := prune(cfg.CacheDir, dir); err != nil {
		cfg.Log(fmt.Sprintf("old saved machines stay: %v", err))
	}
	return saved, nil
}

// saveDir returns the folder of the save.
func saveDir(cfg Config) string {
	sum := sha256.Sum256([]byte(key(cfg)))
	return filepath.Join(cfg.CacheDir, "save-"+hex.EncodeToString(sum[:8]))
}

// touch notes that a save is used.
func touch(dir string) error {
	now := time.Now()
	return os.Chtimes(filepath.Join(dir, manifestFile), now, now)
}

// prune removes all saves but the newest ones, those in use, and keep; and what
// builders that were killed have left.
func prune(cacheDir, keep string) error {
	type save struct {
		dir  string
		used time.Time
	}
	entries, err := os.ReadDir(cacheDir)
	if err != nil {
		return err
	}
	var saves []save
	var errs error
	for _, e := range entries {
		dir := filepath.Join(cacheDir, e.Name())
		if !e.IsDir() || dir == keep {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, manifestFile))
		if err != nil {
			// Without a manifest it is unfinished, or half removed.
			if info, err = e.Info(); err == nil && time.Since(info.ModTime()) > keepUsed {
				errs = errors.Join(errs, os.RemoveAll(dir))
			}
			continue
		}
		saves = append(saves, save{dir, info.ModTime()})
	}
	slices.SortFunc(saves, func(a, b save) int { return b.used.Compare(a.used) })
	for i, s := range saves {
		if i >= keepSaves-1 && time.Since(s.used) > keepUsed {
			errs = errors.Join(errs, os.RemoveAll(s.dir))
		}
	}
	return errs
}

// spec is the machine that is saved. Its card's address is nobody's: every clone
// sets its own.
func spec(hw machine.Hardware) machine.Spec {
	return machine.Spec{Hardware: hw, Name: "save", MAC: "52:54:00:00:00:00", Shared: true, Handover: true}
}

// key is everything that shapes a save. Kernel and initramfs are named by their
// content; the processor is part of the state.
func key(cfg Config) string {
	s := spec(cfg.Hardware)
	s.RAM = ramFile
	return fmt.Sprintf("schema 2, QEMU %s, %s: %s", cfg.Version, processor(), s.CommandLine())
}

// processor names the host's processor, which -cpu host and the emulator's choice
// of instructions depend on.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range bytes.Lines(info) {
		if name, ok := bytes.CutPrefix(line, []byte("model name")); ok {
			return string(bytes.TrimSpace(name))
		}
	}
	return "unknown processor"
}

// check tells whether a save is whole and the wanted one; os.ErrNotExist says that
// there is none.
func check(dir string, cfg Config) error {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, manifestFile), err)
	}
	if m.Schema != 2 || m.Key != key(cfg) {
		return fmt.Errorf("%s was made for something else", dir)
	}
	for name, want := range map[string]fileSum{ramFile: m.RAM, stateFile: m.State} {
		got, err := sumOf(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is gone", filepath.Join(dir, name))
		}
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s is damaged: %d bytes, SHA-256 %.8s…; it was made with %d, %.8s…",
				filepath.Join(dir, name), got.Size, got.SHA256, want.Size, want.SHA256)
		}
	}
	return nil
}

// sumOf digests a file. Holes, which are most of a machine's memory, are skipped:
// what is digested are the offsets and contents of what is not a hole.
func sumOf(name string) (fileSum, error) {
	f, err := os.Open(name)
	if err != nil {
		return fileSum{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileSum{}, err
	}
	h := sha256.New()
	for at := int64(0); at < info.Size(); {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return fileSum{}, fmt.Errorf("read %s: %w", name, err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fileSum{}, fmt.Errorf("read %s: %w", name, err)
		}
		fmt.Fprintf(h, "%d-%d:", start, end)
		if _, err := io.Copy(h, io.NewSectionReader(f, start, end-start)); err != nil {
			return fileSum{}, fmt.Errorf("read %s: %w", name, err)
		}
		at = end
	}
	return fileSum{Size: info.Size(), SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// build has a worker make a save aside, and puts it in its place.
func build(ctx context.Context, cfg Config, dir string) (err error) {
	start := time.Now()
	aside, err := os.MkdirTemp(cfg.CacheDir, asidePrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	p, err := worker.Start(ctx, SaveJob, Job{Hardware: cfg.Hardware, Dir: aside})
	if err != nil {
		return err
	}
	_, copyErr := io.Copy(io.Discard, p.Out())
	if err := p.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if copyErr != nil {
		return copyErr
	}
	m := manifest{Schema: 2, Key: key(cfg), Made: time.Now().UTC(), Took: time.Since(start).Seconds()}
	if m.RAM, err = sumOf(filepath.Join(aside, ramFile)); err != nil {
		return err
	}
	if m.State, err = sumOf(filepath.Join(aside, stateFile)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(aside, manifestFile), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(aside, dir)
}
