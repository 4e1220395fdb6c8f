package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/images/filelock"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/worker"
)

// The workers of these tests make saves out of thin air: what becomes of a save in
// the cache needs no machine. Real ones are saved in the tests of package rig.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{SaveJob: pretend}))
	}
	os.Exit(m.Run())
}

// pretend leaves a save with a hole in its memory, and a line in the file that
// counts saves. The kernel's name says how it goes wrong.
func pretend(ctx context.Context, data json.RawMessage, _ io.Writer) error {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	count, err := os.OpenFile(job.Hardware.Initrd, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintln(count, "made")
	count.Close()
	switch job.Hardware.Kernel {
	case "broken":
		return errors.New("the machine would not boot")
	case "slow":
		<-ctx.Done()
		return context.Cause(ctx)
	}
	ram, err := os.Create(filepath.Join(job.Dir, ramFile))
	if err != nil {
		return err
	}
	defer ram.Close()
	if err := ram.Truncate(4 << 20); err != nil {
		return err
	}
	if _, err := ram.WriteAt([]byte("memory"), 2<<20); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(job.Dir, stateFile), []byte("state"), 0o644)
}

type cache struct {
	Config
	t    *testing.T
	mu   sync.Mutex
	said []string
}

func newCache(t *testing.T) *cache {
	dir := t.TempDir()
	c := &cache{t: t}
	c.Config = Config{
		Hardware: machine.Hardware{QEMU: "qemu", Accel: "tcg", Kernel: "/cache/kernel-1/vmlinux", Initrd: filepath.Join(dir, "count")},
		Version:  "7.2.22",
		CacheDir: filepath.Join(dir, "machines"),
		Log: func(s string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.said = append(c.said, s)
		},
	}
	return c
}

func (c *cache) get() machine.Saved {
	c.t.Helper()
	saved, err := Get(c.t.Context(), c.Config)
	if err != nil {
		if os.Geteuid() != 0 && strings.Contains(err.Error(), "namespaces") {
			c.t.Skip(err)
		}
		c.t.Fatal(err)
	}
	for _, name := range []string{saved.RAM, saved.State} {
		if _, err := os.Stat(name); err != nil {
			c.t.Fatal(err)
		}
	}
	return saved
}

// made is how many saves were made so far.
func (c *cache) made() int {
	data, _ := os.ReadFile(c.Hardware.Initrd)
	return strings.Count(string(data), "made")
}

// asides are what builders have left unfinished.
func (c *cache) asides() []string {
	left, _ := filepath.Glob(filepath.Join(c.CacheDir, asidePrefix+"*"))
	return left
}

func TestMadeOnceAndReused(t *testing.T) {
	c := newCache(t)
	first := c.get()
	if second := c.get(); second != first || c.made() != 1 {
		t.Errorf("%v, then %v; %d made", first, second, c.made())
	}
	if len(c.asides()) != 0 {
		t.Errorf("left %v", c.asides())
	}
}

func TestWhateverShapesItIsInTheKey(t *testing.T) {
	base := newCache(t).Config
	seen := map[string]string{key(base): "the first"}
	for what, change := range map[string]func(*Config){
		"kernel":       func(c *Config) { c.Hardware.Kernel = "/cache/kernel-2/vmlinux" },
		"initramfs":    func(c *Config) { c.Hardware.Initrd += "2" },
		"QEMU":         func(c *Config) { c.Hardware.QEMU = "/opt/qemu" },
		"version":      func(c *Config) { c.Version = "9.1.0" },
		"acceleration": func(c *Config) { c.Hardware.Accel = "kvm" },
		"clock":        func(c *Config) { c.Hardware.TSC = 2_300_000 },
	} {
		c := base
		change(&c)
		if other, ok := seen[key(c)]; ok {
			t.Errorf("another %s has the key of %s", what, other)
		}
		seen[key(c)] = "another " + what
	}
}

func TestDamagedSavesAreMadeAnew(t *testing.T) {
	write := func(name string, at int64, data string) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(data), at)
		return err
	}
	for what, damage := range map[string]func(dir string) error{
		"a byte of memory":        func(d string) error { return write(filepath.Join(d, ramFile), 2<<20, "M") },
		"memory where was a hole": func(d string) error { return write(filepath.Join(d, ramFile), 100, "x") },
		"truncated memory":        func(d string) error { return os.Truncate(filepath.Join(d, ramFile), 1<<20) },
		"truncated state":         func(d string) error { return os.Truncate(filepath.Join(d, stateFile), 2) },
		"longer state":            func(d string) error { return write(filepath.Join(d, stateFile), 5, "!") },
		"no memory":               func(d string) error { return os.Remove(filepath.Join(d, ramFile)) },
		"no state":                func(d string) error { return os.Remove(filepath.Join(d, stateFile)) },
		"torn manifest":           func(d string) error { return os.Truncate(filepath.Join(d, manifestFile), 30) },
		"foreign manifest": func(d string) error {
			return os.WriteFile(filepath.Join(d, manifestFile), []byte(`{"schema":1,"key":"something else"}`), 0o644)
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newCache(t)
			dir := filepath.Dir(c.get().RAM)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			c.get()
			if c.made() != 2 {
				t.Errorf("%d made", c.made())
			}
			if said := strings.Join(c.said, "\n"); !strings.Contains(said, "made anew") {
				t.Errorf("said %q", said)
			}
			c.get()
			if c.made() != 2 {
				t.Error("the new one is not believed")
			}
		})
	}
}

// TestNoLog makes a save, finds it damaged and makes another, with no one told.
func TestNoLog(t *testing.T) {
	c := newCache(t)
	c.Log = nil
	if err := os.Remove(c.get().State); err != nil {
		t.Fatal(err)
	}
	c.get()
	if c.made() != 2 {
		t.Errorf("%d made", c.made())
	}
}

func TestManyWantItAtOnce(t *testing.T) {
	c := newCache(t)
	c.get() // skips where there are no namespaces
	if err := os.RemoveAll(c.CacheDir); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := Get(t.Context(), c.Config); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c.made() != 2 {
		t.Errorf("%d made", c.made()-1)
	}
}

func TestAWaitForAnotherRigIsSaid(t *testing.T) {
	c := newCache(t)
	if err := os.MkdirAll(c.CacheDir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := filelock.Lock(t.Context(), saveDir(c.Config)+".lock", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	waits := errors.New("it waits")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg := c.Config
	cfg.Log = func(said string) {
		if want := fmt.Sprintf("waiting for another rig (pid %d), which saves the same machine", os.Getpid()); said != want {
			t.Errorf("said %q, want %q", said, want)
		}
		cancel(waits)
	}
	if _, err := Get(ctx, cfg); !errors.Is(err, waits) {
		t.Errorf("got %v", err)
	}
}

func TestASaveThatFailsLeavesNothing(t *testing.T) {
	c := newCache(t)
	c.get()
	c.Hardware.Kernel = "broken"
	if _, err := Get(t.Context(), c.Config); err == nil || !strings.Contains(err.Error(), "would not boot") {
		t.Errorf("got %v", err)
	}
	if len(c.asides()) != 0 {
		t.Errorf("left %v", c.asides())
	}
}

func TestInterruptedSaveLeavesNothing(t *testing.T) {
	c := newCache(t)
	c.get()
	c.Hardware.Kernel = "slow"
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	c.Log = func(string) { cancel(stopped) }
	if _, err := Get(ctx, c.Config); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	if len(c.asides()) != 0 {
		t.Errorf("left %v", c.asides())
	}
	// The lock is free again.
	c.Hardware.Kernel, c.Log = "/cache/kernel-1/vmlinux", func(string) {}
	c.get()
}

func TestOldSavesGo(t *testing.T) {
	c := newCache(t)
	age := func(dir string, old time.Duration) {
		t.Helper()
		when := time.Now().Add(-old)
		for _, name := range []string{filepath.Join(dir, manifestFile), dir} {
			if err := os.Chtimes(name, when, when); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	var dirs []string
	for i := range keepSaves + 3 {
		c.Version = fmt.Sprint(i)
		dir := filepath.Dir(c.get().RAM)
		dirs = append(dirs, dir)
		if i < 3 {
			age(dir, keepUsed+time.Duration(10-i)*time.Minute)
		}
	}
	left := filepath.Join(c.CacheDir, asidePrefix+"old")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	age(left, 2*keepUsed)
	// The oldest is used once more: that makes it the newest.
	c.Version = "0"
	c.get()
	c.Version = "one more"
	c.get()
	for i, dir := range dirs {
		_, err := os.Stat(dir)
		if gone := errors.Is(err, os.ErrNotExist); gone != (i == 1 || i == 2) {
			t.Errorf("save %d: gone %t", i, gone)
		}
	}
	if len(c.asides()) != 0 {
		t.Errorf("left %v", c.asides())
	}
}

func TestACacheThatIsNone(t *testing.T) {
	c := newCache(t)
	c.CacheDir = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(c.CacheDir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Get(t.Context(), c.Config); err == nil || !strings.Contains(err.Error(), c.CacheDir) {
		t.Errorf("got %v", err)
	}
}
