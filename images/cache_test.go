package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// A said collects what is logged.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) log(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *said) has(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.lines, func(l string) bool { return strings.Contains(l, part) })
}

// testCache opens the cache in dir until the test ends.
func testCache(t testing.TB, dir string) (*cache, *said) {
	t.Helper()
	s := &said{}
	c, err := openCache(t.Context(), dir, s.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c, s
}

// countingLayer is a layer with one file that holds the input, and the number of
// times it was built.
func countingLayer(input *string) (layer, *atomic.Int32) {
	var built atomic.Int32
	return layer{
		name:   "base",
		doing:  "counting",
		inputs: func() ([]Input, error) { return []Input{{"in", *input}}, nil },
		build: func(_ context.Context, dir string) (result, error) {
			built.Add(1)
			return result{facts: map[string]string{"fact": *input}}, os.WriteFile(filepath.Join(dir, "base.cpio"), []byte("made of "+*input), 0o644)
		},
	}, &built
}

// names lists what is in the cache apart from the lock.
func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		if d.Name() != "lock" {
			out = append(out, d.Name())
		}
	}
	return out
}

func TestCacheBuildsOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	c, _ := testCache(t, dir)
	input := "one"
	l, built := countingLayer(&input)
	first, err := c.get(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.get(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
	if d := cmp.Diff(first, again, cmp.AllowUnexported(entry{})); d != "" {
		t.Errorf("what was built and what was found differ:\n%s", d)
	}
	if content, err := os.ReadFile(again.file("base.cpio")); err != nil || string(content) != "made of one" {
		t.Errorf("content %q, %v", content, err)
	}
	if want := []Input{{"in", "one"}}; !slices.Equal(again.Inputs, want) || again.Facts["fact"] != "one" || again.Layer != "base" {
		t.Errorf("manifest %+v", again.Manifest)
	}

	input = "two"
	second, err := c.get(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if built.Load() != 2 || second.ID == first.ID || second.Facts["fact"] != "two" {
		t.Errorf("after a change: built %d times, entry %+v", built.Load(), second)
	}
	input = "one"
	if back, err := c.get(t.Context(), l); err != nil || back.ID != first.ID || built.Load() != 2 {
		t.Errorf("after changing back: built %d times, entry %+v, %v", built.Load(), back, err)
	}
	if d := cmp.Diff([]string{"base", "base"}, c.built); d != "" {
		t.Errorf("built (-want +got):\n%s", d)
	}
}

func TestCacheNoticesDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(dir string) error
		why    string
	}{
		{"truncated", func(dir string) error { return os.Truncate(filepath.Join(dir, "base.cpio"), 5) }, "5 bytes"},
		{"emptied", func(dir string) error { return os.Truncate(filepath.Join(dir, "base.cpio"), 0) }, "0 bytes"},
		{"changed", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "base.cpio"), []byte("made of any"), 0o644)
		}, "is damaged"},
		{"file gone", func(dir string) error { return os.Remove(filepath.Join(dir, "base.cpio")) }, "no such file"},
		{"manifest gone", func(dir string) error { return os.Remove(filepath.Join(dir, manifestFile)) }, "no such file"},
		{"manifest empty", func(dir string) error { return os.Truncate(filepath.Join(dir, manifestFile), 0) }, "JSON"},
		{"manifest of something else", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"schema":1,"id":"0123"}`), 0o644)
		}, `for "0123"`},
		{"manifest of another schema", func(dir string) error {
			text, err := os.ReadFile(filepath.Join(dir, manifestFile))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, manifestFile), bytes.Replace(text, []byte(`"schema": 1`), []byte(`"schema": 0`), 1), 0o644))
		}, "schema 0"},
		{"not a folder", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644))
		}, "not a directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, said := testCache(t, t.TempDir())
			input := "one"
			l, built := countingLayer(&input)
			e, err := c.get(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.damage(e.dir); err != nil {
				t.Fatal(err)
			}
			mended, err := c.get(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if built.Load() != 2 || mended.ID != e.ID {
				t.Errorf("built %d times", built.Load())
			}
			if !said.has("base: rebuilding it: broken entry") || !said.has(test.why) {
				t.Errorf("said %q, want something with %q", said.lines, test.why)
			}
			if _, err := openEntry(mended.dir, mended.ID); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestCacheFailedBuildLeavesNothing(t *testing.T) {
	c, _ := testCache(t, t.TempDir())
	reason := errors.New("the compiler's words")
	l := layer{
		name:   "nodes",
		inputs: func() ([]Input, error) { return nil, nil },
		build: func(_ context.Context, dir string) (result, error) {
			return result{}, errors.Join(os.WriteFile(filepath.Join(dir, "half"), []byte("half"), 0o644), reason)
		},
	}
	_, err := c.get(t.Context(), l)
	if !errors.Is(err, reason) || !strings.HasPrefix(err.Error(), "nodes layer: ") {
		t.Errorf("error %v", err)
	}
	if left := names(t, c.dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestCacheRefusesOtherThanFiles(t *testing.T) {
	c, _ := testCache(t, t.TempDir())
	_, err := c.get(t.Context(), layer{
		name:   "base",
		inputs: func() ([]Input, error) { return nil, nil },
		build: func(_ context.Context, dir string) (result, error) {
			return result{}, os.Symlink("elsewhere", filepath.Join(dir, "link"))
		},
	})
	if err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
	if left := names(t, c.dir); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestCacheInputsFail(t *testing.T) {
	c, _ := testCache(t, t.TempDir())
	_, err := c.get(t.Context(), layer{name: "base", inputs: func() ([]Input, error) { return nil, fs.ErrNotExist }})
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "base layer: ") {
		t.Errorf("error %v", err)
	}
}

// A source that is edited during the build must not end up under the name of what
// it was before.
func TestCacheSourceChangesDuringBuild(t *testing.T) {
	for _, test := range []struct {
		changes int
		fails   bool
	}{{1, false}, {2, false}, {buildAttempts, true}} {
		t.Run(fmt.Sprint(test.changes), func(t *testing.T) {
			c, said := testCache(t, t.TempDir())
			input := "edit 0"
			l, built := countingLayer(&input)
			make := l.build
			l.build = func(ctx context.Context, dir string) (result, error) {
				r, err := make(ctx, dir)
				if n := int(built.Load()); n <= test.changes {
					input = fmt.Sprintf("edit %d", n)
				}
				return r, err
			}
			e, err := c.get(t.Context(), l)
			if !said.has("its sources changed") {
				t.Errorf("said %q", said.lines)
			}
			if test.fails {
				if err == nil || !strings.Contains(err.Error(), "base layer: its sources changed during each of 3 builds") {
					t.Errorf("error %v", err)
				}
				if left := names(t, c.dir); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(e.file("base.cpio"))
			if want := "made of " + e.Inputs[0].Value; err != nil || string(content) != want {
				t.Errorf("content %q under the name of %q, %v", content, want, err)
			}
			if left := names(t, c.dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestCacheRemovesLeftovers(t *testing.T) {
	dir := writeTree(t, map[string][]byte{"tmp-base-123/half": []byte("half"), "tmp-456/lists/x": nil, "kernel-1/kept": nil})
	testCache(t, dir)
	if left := names(t, dir); !slices.Equal(left, []string{"kernel-1"}) {
		t.Errorf("left: %q", left)
	}
}

func TestConcurrentBuildersBuildOnce(t *testing.T) {
	dir := t.TempDir()
	input := "one"
	l, built := countingLayer(&input)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			c, err := openCache(t.Context(), dir, new(said).log)
			if err != nil {
				return err
			}
			defer c.close()
			e, err := c.get(t.Context(), l)
			if err != nil {
				return err
			}
			_, err = openEntry(e.dir, e.ID)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
}

func TestCacheWaitEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	holder, _ := testCache(t, dir)
	reason := errors.New("somebody pressed ctrl-c")
	ctx, cancel := context.WithCancelCause(t.Context())
	// The message that it waits is what says that it does.
	_, err := openCache(ctx, dir, func(format string, args ...any) {
		if said := fmt.Sprintf(format, args...); strings.HasPrefix(said, fmt.Sprintf("waiting for another rig (pid %d), which builds in ", os.Getpid())) {
			cancel(reason)
		}
	})
	if !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
	holder.close()
	// The one that gave up must not sit on the lock, which it gets at some time
	// when nobody has it.
	soon, cancelSoon := context.WithTimeout(t.Context(), time.Minute)
	defer cancelSoon()
	for range 100 {
		c, err := openCache(soon, dir, new(said).log)
		if err != nil {
			t.Fatal(err)
		}
		c.close()
	}
}

func TestCacheFolderErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := Build(t.Context(), Config{SourceDir: "..", CacheDir: dir})
		if err == nil {
			t.Fatalf("%s: no error", dir)
		}
		for _, part := range []string{"build images: image cache " + dir, "make it a folder you can write to", "XDG_CACHE_HOME"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %v, want something with %q", err, part)
			}
		}
	}
}

// mountHelper, in the environment of this test binary, makes it mount a tmpfs
// with these options on the folder given in its first argument and try to build
// there; see [TestMain].
const mountHelper = "IMAGES_TEST_MOUNT"

// mountRefused is the exit status of the helper that could not mount.
const mountRefused = 3

// TestCacheOnFullOrReadOnlyDisk needs a file system that is full, or read-only
// even for root, which takes namespaces to mount.
func TestCacheOnFullOrReadOnlyDisk(t *testing.T) {
	for _, test := range []struct {
		name, options string
		want          []string
	}{
		{"full", "size=64k,mode=755", []string{"base layer: ", "no space left on device", "free some space, or set XDG_CACHE_HOME", "left behind: []"}},
		{"read-only", "ro,mode=755", []string{"image cache ", "read-only file system", "make it a folder you can write to"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, t.TempDir())
			cmd.Env = append(os.Environ(), mountHelper+"="+test.options)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
			}
			out, err := cmd.CombinedOutput()
			if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() == mountRefused {
				t.Skipf("this host does not let us mount: %s", out)
			}
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
				t.Skipf("this host does not let us make namespaces: %v", err)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, part := range test.want {
				if !strings.Contains(string(out), part) {
					t.Errorf("said %q, want something with %q", out, part)
				}
			}
		})
	}
}

func TestMain(m *testing.M) {
	options := os.Getenv(mountHelper)
	if options == "" {
		os.Exit(m.Run())
	}
	dir := os.Args[1]
	flags := uintptr(0)
	if rest, ok := strings.CutPrefix(options, "ro,"); ok {
		flags, options = syscall.MS_RDONLY, rest
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		fmt.Println("mount:", err)
		os.Exit(mountRefused)
	}
	err := func() error {
		c, err := openCache(context.Background(), dir, new(said).log)
		if err != nil {
			return err
		}
		defer c.close()
		_, err = c.get(context.Background(), layer{
			name:   "base",
			inputs: func() ([]Input, error) { return nil, nil },
			build: func(_ context.Context, dir string) (result, error) {
				var a archive
				a.bytes("big", make([]byte, 1<<20), 0o644)
				return result{}, a.write(dir, "base")
			},
		})
		return err
	}()
	fmt.Println(withAdvice(err))
	left, _ := filepath.Glob(filepath.Join(dir, "*-*"))
	fmt.Printf("left behind: %q\n", left)
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	c, _ := testCache(t, dir)
	input := ""
	l, _ := countingLayer(&input)
	use := func(name string, age time.Duration) string {
		input = name
		e, err := c.get(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(e.dir, at, at); err != nil {
			t.Fatal(err)
		}
		return filepath.Base(e.dir)
	}
	var kept []string
	for i := range keptEntries {
		kept = append(kept, use(fmt.Sprint("kept ", i), time.Duration(i)*time.Minute))
	}
	kept = append(kept, use("recent", keptFor-time.Minute))
	use("old", keptFor+time.Minute)
	use("older", 100*keptFor)
	c.prune()
	slices.Sort(kept)
	if d := cmp.Diff(kept, names(t, dir)); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}

	// One old entry becomes recent by being used.
	input = "kept 5"
	before, err := c.get(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(before.dir)
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(info.ModTime()); age > time.Minute {
		t.Errorf("an entry that was just used looks %v old", age)
	}
}

func TestInputID(t *testing.T) {
	seen := map[string]string{}
	for _, in := range [][]Input{
		nil, {{"a", "b"}}, {{"a", "c"}}, {{"b", "a"}}, {{"ab", ""}}, {{"", "ab"}},
		{{"a", "b"}, {"c", "d"}}, {{"c", "d"}, {"a", "b"}}, {{"a", "b\" \"c\" \"d"}}, {{"a", "b\nc"}},
	} {
		for _, layer := range []string{"base", "nodes"} {
			id := inputID(layer, in)
			if other, twice := seen[id]; twice {
				t.Errorf("%s %q and %s have the same id", layer, in, other)
			}
			seen[id] = fmt.Sprintf("%s %q", layer, in)
		}
	}
}
