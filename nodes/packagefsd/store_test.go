package packagefsd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/protocol/pk"
)

// put writes a file below dir, with the directories it needs.
func put(t testing.TB, dir, path, content string) {
	t.Helper()
	full := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read opens a name and returns its content.
func read(s *Store, name pk.Name) (string, error) {
	f, info, err := s.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err == nil && int64(len(content)) != info.Size() {
		err = errors.New("size and content differ")
	}
	return string(content), err
}

// name parses a path below the store as a PK server does.
func name(t testing.TB, rel string) pk.Name {
	t.Helper()
	n, status := pk.ResolvePath("pkg:/"+rel, pk.Limits{MaxPath: 1 << 16})
	if status != pk.OK {
		t.Fatalf("%q is no valid name: %v", rel, status)
	}
	return n
}

func TestIsSemantic(t *testing.T) {
	for version, want := range map[string]bool{
		"1.0.0": true, "0.0.0": true, "10.20.30": true, "1.0.0-rc.1": true, "1.0.0+build.5": true, "1.0.0-a+b": true,
		"": false, "1": false, "1.0": false, "v1.0.0": false, "dev": false, "01.0.0": false, "1.0.0.0": false,
		"1.0.0-": false, "1.0.0+": false, "1.0.0-01": false, " 1.0.0": false, "1.0.0@2": false, "latest": false,
	} {
		if got := isSemantic(version); got != want {
			t.Errorf("%q is semantic: %v, want %v", version, got, want)
		}
	}
}

func TestActiveVersion(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string // directories; a trailing "!" makes a file
		want    string   // empty: not found
	}{
		{"one", []string{"system@1.0.0"}, "1.0.0"},
		{"numbers, not text", []string{"system@9.0.0", "system@10.0.0", "system@2.99.99"}, "10.0.0"},
		{"release after its candidates", []string{"system@1.0.0-rc.2", "system@1.0.0", "system@1.0.0-rc.10"}, "1.0.0"},
		{"candidates", []string{"system@1.0.0-rc.2", "system@1.0.0-rc.10", "system@1.0.0-beta"}, "1.0.0-rc.10"},
		{"build metadata", []string{"system@1.0.0+a", "system@1.0.0+b", "system@1.0.0"}, "1.0.0+b"},
		{"a file is no version", []string{"system@1.0.0", "system@2.0.0!"}, "1.0.0"},
		{"not semantic is passed over", []string{"system@1.0.0", "system@dev", "system@99", "system@9.9"}, "1.0.0"},
		{"nothing semantic", []string{"system@dev", "system@1.0"}, ""},
		{"without a version", []string{"system", "system@"}, ""},
		{"other bundles", []string{"system2@9.0.0", "sys@9.0.0", "mysystem@9.0.0", "system@1.2.3", "system@x@9.0.0"}, "1.2.3"},
		{"empty store", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, entry := range c.entries {
				if file, isFile := strings.CutSuffix(entry, "!"); isFile {
					put(t, dir, file, "a file")
				} else {
					put(t, dir, entry+"/build.prop", entry)
				}
			}
			got, err := read(NewStore(dir), pk.Name{Bundle: "system", Path: "build.prop"})
			if c.want == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %q, %v; want not found", got, err)
				}
				return
			}
			if err != nil || got != "system@"+c.want {
				t.Errorf("got %q, %v; want version %s", got, err, c.want)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "secret", "secret")
	dir := t.TempDir()
	put(t, dir, "system@1.0.0/build.prop", "one")
	put(t, dir, "system@2.0.0/build.prop", "two")
	put(t, dir, "system@2.0.0/etc/deep/file", "deep")
	put(t, dir, "system@2.0.0/empty", "")
	put(t, dir, "system@dev/build.prop", "dev")
	put(t, dir, "odd@1@2/x", "odd version")
	put(t, dir, "at@@1.0.0/x", "bundle at@")
	put(t, dir, "plain", "a file in the root")
	for link, target := range map[string]string{
		"system@2.0.0/inside":      "etc/deep/file",
		"system@2.0.0/other":       "../system@1.0.0/build.prop",
		"system@2.0.0/dir":         "etc",
		"system@2.0.0/absolute":    filepath.Join(outside, "secret"),
		"system@2.0.0/relative":    strings.Repeat("../", 20) + filepath.Join(outside, "secret"),
		"system@2.0.0/dirout":      outside,
		"system@2.0.0/up":          "../..",
		"system@2.0.0/loop":        "loop",
		"system@2.0.0/dangling":    "nowhere",
		"system@2.0.0/etc/through": "../dirout/secret",
		"linked@1.0.0":             "system@1.0.0",
		"out@1.0.0":                outside,
		"dangling@2.0.0":           "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "dangling@1.0.0/x", "not the link")
	if err := syscall.Mkfifo(filepath.Join(dir, "system@2.0.0/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "system@2.0.0/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	s := NewStore(dir)
	for rel, want := range map[string]string{
		"system/build.prop":                  "two",
		"system@2.0.0/build.prop":            "two",
		"system@1.0.0/build.prop":            "one",
		"system@dev/build.prop":              "dev",
		"system/etc/deep/file":               "deep",
		"system/empty":                       "",
		"system/inside":                      "deep",
		"system/other":                       "one",
		"system/dir/deep/file":               "deep",
		"linked/build.prop":                  "one",
		"dangling/x":                         "not the link",
		"odd@1@2/x":                          "odd version",
		"at@/x":                              "bundle at@",
		"system@1.0.0/build.prop/x":          "-",
		"system@3.0.0/build.prop":            "-",
		"system@1.0/build.prop":              "-",
		"system/BUILD.PROP":                  "-",
		"system":                             "-",
		"system@1.0.0":                       "-",
		"system/etc":                         "-",
		"system/absolute":                    "-",
		"system/relative":                    "-",
		"system/dirout/secret":               "-",
		"system/up/x":                        "-",
		"system/etc/through":                 "-",
		"system/loop":                        "-",
		"system/loop/x":                      "-",
		"system/dangling":                    "-",
		"system/fifo":                        "-",
		"system/socket":                      "-",
		"out/secret":                         "-",
		"plain":                              "-",
		"plain/x":                            "-",
		"none/x":                             "-",
		"%2e%2e/x":                           "-",
		".../x":                              "-",
		"system/" + strings.Repeat("x", 300): "-",
		strings.Repeat("x", 300):             "-",
		strings.Repeat("x/", 4096) + "x":     "-",
		"system/" + "a\nb":                   "-",
		"system@2.0.0@/build.prop":           "-",
		"system@/build.prop":                 "-",
		"@2.0.0/build.prop":                  "-",
		"system@../build.prop":               "-",
		"system@./build.prop":                "-",
		"..@1/x":                             "-",
		".@../x":                             "-",
	} {
		got, err := read(s, name(t, rel))
		if want == "-" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%.40s: got %q, %v; want not found", rel, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", rel, got, err, want)
		}
	}
}

func TestOpenMalformed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "secret", "secret")
	put(t, dir, "packages/system@1.0.0/x", "x")
	s := NewStore(filepath.Join(dir, "packages"))
	for _, n := range []pk.Name{
		{},
		{Path: "secret"},
		{Bundle: ".."},
		{Bundle: "..", Path: "secret"},
		{Bundle: ".", Path: "system@1.0.0/x"},
		{Bundle: "a/../..", Version: "1.0.0", Path: "x"},
		{Bundle: "system", Version: "../1", Path: "x"},
		{Bundle: "..", Version: "1/../../..", Path: "secret"},
		{Bundle: "system", Version: "1.0.0", Path: "../../secret"},
		{Bundle: "system", Version: "1.0.0", Path: "/x"},
		{Bundle: "system", Version: "1.0.0", Path: "x/"},
		{Bundle: "system", Version: "1.0.0", Path: "x\x00y"},
		{Bundle: "sys\x00tem", Path: "x"},
	} {
		if f, _, err := s.Open(n); !errors.Is(err, errBadName) {
			if err == nil {
				f.Close()
			}
			t.Errorf("%+v: error is %v, want %v", n, err, errBadName)
		}
	}
}

func TestOpenDevice(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "system@1.0.0/x", "x")
	// Major 1, minor 5 is /dev/zero.
	err := unix.Mknod(filepath.Join(dir, "system@1.0.0/zero"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))
	if errors.Is(err, unix.EPERM) {
		t.Skip("this user may not make device files")
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(NewStore(dir), name(t, "system/zero")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want not found", err)
	}
}

func TestRootComesAndGoes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "packages")
	s := NewStore(root)
	n := name(t, "system/x")
	if _, err := read(s, n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a root: %v, want not found", err)
	}
	put(t, root, "system@1.0.0/x", "first")
	if got, err := read(s, n); err != nil || got != "first" {
		t.Errorf("with a root: %q, %v", got, err)
	}
	if err := os.Rename(root, root+".old"); err != nil {
		t.Fatal(err)
	}
	put(t, root, "system@1.0.0/x", "second")
	if got, err := read(s, n); err != nil || got != "second" {
		t.Errorf("with another root: %q, %v", got, err)
	}
}

func TestRootIsNoDirectory(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"file", func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		{"fifo", func(path string) error { return syscall.Mkfifo(path, 0o644) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "packages")
			if err := c.make(root); err != nil {
				t.Fatal(err)
			}
			_, err := read(NewStore(root), name(t, "system/x"))
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "is not a directory") {
				t.Errorf("error is %v, want a failure of the store", err)
			}
		})
	}
}

func TestNoPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	put(t, dir, "system@1.0.0/x", "x")
	if err := os.Chmod(filepath.Join(dir, "system@1.0.0/x"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := read(NewStore(dir), name(t, "system/x")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want a failure of the store", err)
	}
}

// TestUpgradeIsNeverMissing: while versions follow each other, each put in
// before the last is taken away, the active one is always found.
func TestUpgradeIsNeverMissing(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	put(t, dir, "system@1.0.0/x", "content")
	upgraded := make(chan error, 1)
	go func() {
		upgraded <- func() error {
			current := filepath.Join(dir, "system@1.0.0")
			for i := range 300 {
				next := filepath.Join(dir, fmt.Sprintf("system@1.0.%d", i+1))
				built := filepath.Join(aside, "next")
				err := errors.Join(
					os.Mkdir(built, 0o755),
					os.WriteFile(filepath.Join(built, "x"), []byte("content"), 0o644),
					os.Rename(built, next),
					os.RemoveAll(current))
				if err != nil {
					return err
				}
				current = next
			}
			return nil
		}()
	}()
	s, n := NewStore(dir), name(t, "system/x")
	for {
		if got, err := read(s, n); err != nil || got != "content" {
			t.Errorf("got %q, %v in the middle of upgrades", got, err)
			break
		}
		select {
		case err := <-upgraded:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
	if err := <-upgraded; err != nil {
		t.Error(err)
	}
}

// TestFileBecomesFIFO: what changes between looking and opening does not hang
// the service, nor does it come out.
func TestFileBecomesFIFO(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	put(t, dir, "system@1.0.0/x", "content")
	swapped := make(chan error, 1)
	go func() {
		target := filepath.Join(dir, "system@1.0.0/x")
		file, fifo := filepath.Join(aside, "file"), filepath.Join(aside, "fifo")
		for range 500 {
			err := errors.Join(
				syscall.Mkfifo(fifo, 0o644), os.Rename(fifo, target),
				os.WriteFile(file, []byte("content"), 0o644), os.Rename(file, target))
			if err != nil {
				swapped <- err
				return
			}
		}
		swapped <- nil
	}()
	s, n := NewStore(dir), name(t, "system/x")
	for {
		if got, err := read(s, n); (err != nil || got != "content") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %q, %v", got, err)
		}
		select {
		case err := <-swapped:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// FuzzOpen asks for any name in a store with every kind of trap; content from
// outside must never come back.
func FuzzOpen(f *testing.F) {
	base := f.TempDir()
	put(f, base, "secret", "secret")
	dir := filepath.Join(base, "packages")
	put(f, dir, "system@1.0.0/x", "public")
	put(f, dir, "system@1.0.0/d/y", "public")
	for link, target := range map[string]string{"up": "../..", "d/up": "../../..", "abs": base, "in": "d"} {
		if err := os.Symlink(target, filepath.Join(dir, "system@1.0.0", link)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add("system", "", "x")
	f.Add("system", "1.0.0", "in/y")
	f.Add("system", "1.0.0", "up/secret")
	f.Add("system", "1.0.0", "d/up/secret")
	f.Add("system", "1.0.0", "abs/secret")
	f.Add("..", "", "secret")
	f.Add("system", "1.0.0/../..", "secret")
	s := NewStore(dir)
	f.Fuzz(func(t *testing.T, bundle, version, path string) {
		got, err := read(s, pk.Name{Bundle: bundle, Version: version, Path: path})
		if err == nil && got != "public" {
			t.Fatalf("%q %q %q gave %q", bundle, version, path, got)
		}
	})
}
