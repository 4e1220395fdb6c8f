package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// runName is the folder of the made-up run.
const runName = "20260102-030405-made"

// madeRun makes the folder of a run of two scenarios, each on two recorded nodes, as far as an archive has to do with it.
func madeRun(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), runName)
	put(t, dir, recording.KernelFile, strings.Repeat("kernel ", 1000))
	put(t, dir, recording.InitrdFile, "initrd")
	put(t, dir, recording.DebugFile, "\x7fELF")
	put(t, dir, record.JUnitFile, "<testsuites/>\n")
	events := ""
	for i, scenario := range []string{"roundtrip/basic", "roundtrip/basic@2", "recovery/link"} {
		folder := filepath.Join(dir, filepath.FromSlash(record.ScenarioDir(scenario)))
		put(t, folder, record.EventsFile, "{}\n")
		put(t, folder, "work/fixture", scenario)
		for j, kind := range []record.Kind{record.KindScenarioStart, record.KindScenarioEnd} {
			line, err := json.Marshal(record.Event{Seq: int64(2*i + j), Kind: kind, Scenario: scenario, Result: record.Passed})
			if err != nil {
				t.Fatal(err)
			}
			if events == "" {
				line = []byte(strings.Replace(string(line), "{", `{"schema":1,`, 1))
			}
			events += string(line) + "\n"
		}
		for _, node := range []string{"A", "B"} {
			life, err := recording.Create(filepath.Join(folder, node))
			if err != nil {
				t.Fatal(err)
			}
			put(t, life, recording.LogFile, scenario+node+strings.Repeat("\x00", 1000))
			put(t, life, recording.PositionsFile, "")
			if err := recording.Write(life, recording.Machine{
				Node: node, Scenario: scenario, QEMUVersion: "7.2.22", Kernel: sum(t, dir, recording.KernelFile), Initrd: sum(t, dir, recording.InitrdFile), Ended: true,
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(t, dir, record.EventsFile, events)
	return dir
}

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sum(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// tree says what is in a folder: of each name its mode, its time and what it holds.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(info.Mode(), " ", info.ModTime().Truncate(time.Second).UTC())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %q", data)
		}
		name, err := filepath.Rel(dir, path)
		all[name] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func written(t testing.TB, dir string, o Options) ([]byte, *Contents) {
	t.Helper()
	var out bytes.Buffer
	c, err := Write(t.Context(), &out, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), c
}

func unpacked(t testing.TB, archive []byte) (string, *Contents) {
	t.Helper()
	parent := t.TempDir()
	c, err := Read(t.Context(), bytes.NewReader(archive), parent, "", DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, c.Name), c
}

func TestRoundTrip(t *testing.T) {
	dir := madeRun(t)
	put(t, dir, "program", "#!/bin/sh\n")
	put(t, dir, "private", "mine")
	put(t, dir, "späte/"+strings.Repeat("long", 60), "a name that tar writes apart")
	if err := errors.Join(
		os.Chmod(filepath.Join(dir, "program"), 0o755),
		os.Chmod(filepath.Join(dir, "private"), 0o600),
		os.Mkdir(filepath.Join(dir, "empty"), 0o755),
		os.Chtimes(filepath.Join(dir, "empty"), time.Time{}, time.Unix(1e9, 5e8)),
	); err != nil {
		t.Fatal(err)
	}
	want := tree(t, dir)
	archive, packed := written(t, dir, Options{})
	back, c := unpacked(t, archive)
	if diff := cmp.Diff(want, tree(t, back)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(packed, c); diff != "" {
		t.Error(diff)
	}
	if c.Name != runName || len(c.Lives) != 6 || c.Lives[0].QEMUVersion != "7.2.22" || c.Files != 32 || len(c.Keys)+len(c.LeftOut)+len(c.Unread) > 0 {
		t.Errorf("%+v", c)
	}
	// What was unpacked is packed to the same again, wherever and by whomever.
	if again, _ := written(t, back, Options{}); !bytes.Equal(again, archive) {
		t.Error("the same folder has become another archive")
	}
	z, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Nanosecond() != 0 || !h.AccessTime.IsZero() {
			t.Errorf("%+v", h)
		}
	}
}

// A file with several names stays one, whether the other name is in the folder or not; a symbolic link becomes what it leads to, if that is in the folder.
func TestLinks(t *testing.T) {
	dir := madeRun(t)
	secret := filepath.Join(filepath.Dir(dir), "secret")
	if err := errors.Join(
		os.WriteFile(secret, []byte("secret"), 0o644),
		os.Link(filepath.Join(dir, recording.KernelFile), filepath.Join(filepath.Dir(dir), "cached")),
		os.Link(filepath.Join(dir, recording.DebugFile), filepath.Join(dir, "recovery", "node")),
		os.Symlink("../"+recording.DebugFile, filepath.Join(dir, "recovery", "soft")),
		os.Symlink(secret, filepath.Join(dir, "out")),
		os.Symlink("../secret", filepath.Join(dir, "up")),
		os.Symlink("recovery", filepath.Join(dir, "folder")),
		os.Symlink("nothing", filepath.Join(dir, "nowhere")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
		os.WriteFile(filepath.Join(dir, "bad\xff"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, "worse\xff"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	archive, packed := written(t, dir, Options{})
	want := []string{
		"bad\ufffd: its name is no text",
		"folder: it is a link to no file in the run's folder",
		"nowhere: it is a link to no file in the run's folder",
		"out: it is a link to no file in the run's folder",
		"pipe: it is neither a file nor a folder",
		"up: it is a link to no file in the run's folder",
		"worse\ufffd: its name is no text",
	}
	if diff := cmp.Diff(want, packed.LeftOut); diff != "" {
		t.Error(diff)
	}
	back, c := unpacked(t, archive)
	if c.Bytes != packed.Bytes || c.Counts != packed.Counts || c.Files != packed.Files {
		t.Errorf("packed %+v, unpacked %+v", packed, c)
	}
	first, err := os.Lstat(filepath.Join(back, recording.DebugFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"recovery/node", "recovery/soft"} {
		if info, err := os.Lstat(filepath.Join(back, name)); err != nil || !os.SameFile(first, info) {
			t.Errorf("%s is not %s: %v", name, recording.DebugFile, err)
		}
	}
	if sum(t, back, recording.KernelFile) != sum(t, dir, recording.KernelFile) {
		t.Error("the kernel has changed")
	}
}

func TestHolesStay(t *testing.T) {
	dir := madeRun(t)
	f, err := os.Create(filepath.Join(dir, "panic.core"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 64<<20 + 3
	_, err = f.WriteAt([]byte("memory"), 10<<20)
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	archive, _ := written(t, dir, Options{})
	back, _ := unpacked(t, archive)
	if sum(t, back, "panic.core") != sum(t, dir, "panic.core") {
		t.Error("it has changed")
	}
	info, err := os.Stat(filepath.Join(back, "panic.core"))
	if err != nil {
		t.Fatal(err)
	}
	if on := info.Sys().(*syscall.Stat_t).Blocks * 512; on > 1<<20 || info.Size() != size || len(archive) > 1<<20 {
		t.Errorf("it takes %d bytes on the disk, and %d in the archive", on, len(archive))
	}
}

func TestKeysOnlyIfAsked(t *testing.T) {
	dir := madeRun(t)
	put(t, dir, "roundtrip/basic/"+record.KeysFile, "0123 secret")
	if err := errors.Join(
		os.Link(filepath.Join(dir, "roundtrip/basic", record.KeysFile), filepath.Join(dir, "copy")),
		os.Symlink("roundtrip/basic/"+record.KeysFile, filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	want := []string{"copy", "link", "roundtrip/basic/" + record.KeysFile}
	for _, asked := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "a")
		packed, _, err := Create(t.Context(), file, dir, Options{Keys: asked})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, packed.Keys); diff != "" {
			t.Error(diff)
		}
		archive, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if mode := map[bool]fs.FileMode{false: 0o644, true: 0o600}[asked]; info.Mode() != mode {
			t.Errorf("asked %v: mode %v", asked, info.Mode())
		}
		back, c := unpacked(t, archive)
		all := fmt.Sprint(tree(t, back))
		if strings.Contains(all, "0123 secret") != asked || len(c.Keys) > 0 != asked {
			t.Errorf("asked %v: %v, %s", asked, c.Keys, all)
		}
	}
}

func TestOnlyOneScenario(t *testing.T) {
	dir := madeRun(t)
	archive, c := written(t, dir, Options{Only: "roundtrip/basic"})
	if len(c.Lives) != 2 || c.Lives[0].Scenario != "roundtrip/basic" {
		t.Errorf("%+v", c.Lives)
	}
	back, _ := unpacked(t, archive)
	for name := range tree(t, dir) {
		_, err := os.Lstat(filepath.Join(back, name))
		if other := strings.HasPrefix(name, "recovery") || strings.HasPrefix(name, "roundtrip/basic@2"); other == (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Write(t.Context(), io.Discard, dir, Options{Only: "roundtrip"}); !errors.Is(err, ErrNoScenario) || !strings.Contains(err.Error(), "it has roundtrip/basic, roundtrip/basic@2, recovery/link") {
		t.Errorf("%v", err)
	}
}

// What is packed can be replayed as far as the folder goes.
func TestRecordingsNeedTheirKernel(t *testing.T) {
	for _, name := range []string{recording.KernelFile, recording.InitrdFile} {
		dir := madeRun(t)
		put(t, dir, name, "another")
		file := filepath.Join(t.TempDir(), "a")
		if _, _, err := Create(t.Context(), file, dir, Options{}); err == nil || !strings.Contains(err.Error(), name+" is not the one that node A of ") {
			t.Errorf("%v", err)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Create(t.Context(), file, dir, Options{}); err == nil || !strings.Contains(err.Error(), "no "+name+" in the run's folder") {
			t.Errorf("%v", err)
		}
		if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}

	// One that is none keeps nobody from the others; large ones are not even read.
	dir := madeRun(t)
	put(t, dir, "recovery/link/A/recording/1/"+recording.MachineFile, "{")
	put(t, dir, "recovery/link/B/recording/1/"+recording.MachineFile, `{"node":"`+strings.Repeat("x", maxMachine)+`"}`)
	archive, packed := written(t, dir, Options{})
	_, c := unpacked(t, archive)
	for _, c := range []*Contents{packed, c} {
		if len(c.Lives) != 4 || len(c.Unread) != 2 || strings.Contains(fmt.Sprint(c.Unread), string(filepath.Separator)+"tmp") || !strings.Contains(c.Unread[1], "describes no machine") {
			t.Errorf("%d recordings, %q", len(c.Lives), c.Unread)
		}
	}
}

func TestFilesThatChange(t *testing.T) {
	dir := madeRun(t)
	log := filepath.Join(dir, "roundtrip/basic/A/recording/1", recording.LogFile)
	for _, size := range []int64{10, 2 << 20} {
		grown := false
		_, err := Write(t.Context(), writerFunc(func(p []byte) (int, error) {
			if !grown {
				grown = true
				return len(p), os.Truncate(log, size)
			}
			return len(p), nil
		}), enlarged(t, dir), Options{})
		if err == nil || !strings.Contains(err.Error(), "has changed while it was packed") {
			t.Errorf("to %d bytes: %v", size, err)
		}
	}
}

// enlarged gives the run a first file so large that a part of the archive is written before the rest is read.
func enlarged(t *testing.T, dir string) string {
	t.Helper()
	large := make([]byte, 4<<20)
	state := uint32(1)
	for i := range large {
		state = state*1664525 + 1013904223
		large[i] = byte(state >> 24)
	}
	put(t, dir, "a", string(large))
	return dir
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCreateLeavesNothingHalfDone(t *testing.T) {
	dir := madeRun(t)
	parent := t.TempDir()
	file := filepath.Join(parent, "a")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Create(t.Context(), file, dir, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	// Also when it comes while the archive is written.
	if err := rename(filepath.Join(dir, "events.jsonl"), file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, _, err := Create(ctx, filepath.Join(parent, "b"), dir, Options{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	hidden := filepath.Join(parent, ".run")
	if err := os.Mkdir(hidden, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), io.Discard, hidden, Options{}); err == nil || !strings.Contains(err.Error(), "rename it") {
		t.Errorf("a hidden folder: %v", err)
	}
}

// A context that ends while files are read, or written, ends the work at once.
func TestInterrupted(t *testing.T) {
	dir := enlarged(t, madeRun(t))
	hole := filepath.Join(dir, "a")
	if err := os.Truncate(hole, 1<<40); err != nil { // so much takes many minutes
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := Write(ctx, writerFunc(func(p []byte) (int, error) { cancel(why); return len(p), nil }), dir, Options{})
	if err != why {
		t.Errorf("pack: %v", err)
	}
	if err := os.Truncate(hole, 4<<20); err != nil {
		t.Fatal(err)
	}
	archive, _ := written(t, dir, Options{})
	ctx, cancel = context.WithCancelCause(t.Context())
	parent := t.TempDir()
	_, err = Read(ctx, io.MultiReader(bytes.NewReader(archive[:len(archive)/2]), readerFunc(func([]byte) (int, error) {
		cancel(why)
		return 0, io.ErrUnexpectedEOF
	})), parent, "", DefaultLimit)
	if err != why { // and not that the archive is cut off
		t.Errorf("unpack: %v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPermission(t *testing.T) {
	for mode, want := range map[fs.FileMode]fs.FileMode{
		0o644: 0o644, 0o664: 0o644, 0o666: 0o644, 0o600: 0o600, 0o400: 0o600, 0o755: 0o755, 0o775: 0o755, 0o700: 0o700, 0o640: 0o640, 0o711: 0o711, 0o611: 0o600, fs.ModeSetuid | 0o4755: 0o755, 0: 0o600,
	} {
		if got := permission(mode); got != want {
			t.Errorf("%v: %v, want %v", mode, got, want)
		}
	}
}

// compressed makes an archive of entries, whatever they are.
func compressed(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(data, nil)
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, max(h.Size, 1)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// begin is what a good archive begins with.
var begin = []tar.Header{{Name: "run/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "run/events.jsonl", Mode: 0o644}}

var hostile = map[string]struct {
	headers []tar.Header
	want    string
}{
	"absolute":           {[]tar.Header{{Name: "/etc/x"}}, "lead out"},
	"up":                 {[]tar.Header{{Name: "run/../../x"}}, "lead out"},
	"up at the end":      {[]tar.Header{{Name: "run/.."}}, "lead out"},
	"up at the top":      {[]tar.Header{{Name: "../x"}}, "lead out"},
	"only up":            {[]tar.Header{{Name: "..", Typeflag: tar.TypeDir}}, "lead out"},
	"doubled slash":      {[]tar.Header{{Name: "run//x"}}, "lead out"},
	"another folder":     {[]tar.Header{{Name: "other/x"}}, "more than one folder"},
	"symbolic link":      {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}, "neither a file nor a folder"},
	"link out":           {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}}, "no file of the archive"},
	"link up":            {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeLink, Linkname: "run/../../x"}}, "no file of the archive"},
	"link to later":      {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeLink, Linkname: "run/y"}, {Name: "run/y"}}, "no file of the archive"},
	"link to folder":     {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeLink, Linkname: "run"}}, "no file of the archive"},
	"link over":          {[]tar.Header{{Name: "run/x"}, {Name: "run/events.jsonl", Typeflag: tar.TypeLink, Linkname: "run/x"}}, "exists"},
	"twice":              {[]tar.Header{{Name: "run/events.jsonl"}}, "exists"},
	"folder over file":   {[]tar.Header{{Name: "run/events.jsonl/", Typeflag: tar.TypeDir}}, "exists"},
	"file over folder":   {[]tar.Header{{Name: "run/d/", Typeflag: tar.TypeDir}, {Name: "run/d"}}, "exists"},
	"file over all":      {[]tar.Header{{Name: "run"}}, "a run is a folder"},
	"file as folder":     {[]tar.Header{{Name: "run/events.jsonl/x"}}, "not a directory"},
	"no folder":          {[]tar.Header{{Name: "run/a/b/c"}}, "no such file"},
	"long name":          {[]tar.Header{{Name: "run/" + strings.Repeat("x", 300)}}, "name too long"},
	"longer path":        {[]tar.Header{{Name: "run" + strings.Repeat("/x", 3000)}}, "lead out"},
	"character device":   {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, "neither a file nor a folder"},
	"block device":       {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeBlock}}, "neither a file nor a folder"},
	"pipe":               {[]tar.Header{{Name: "run/x", Typeflag: tar.TypeFifo}}, "neither a file nor a folder"},
	"too large":          {[]tar.Header{{Name: "run/x", Size: 1 << 20}}, "more than it may"},
	"too many":           {[]tar.Header{{Name: "run/x/", Typeflag: tar.TypeDir}}, "more than it may"},
	"too much beside it": {[]tar.Header{{Name: "run/x", PAXRecords: map[string]string{"comment.x": strings.Repeat("x", 1<<19)}}, {Name: "run/y", PAXRecords: map[string]string{"comment.x": strings.Repeat("x", 1<<19)}}, {Name: "run/z", PAXRecords: map[string]string{"comment.x": strings.Repeat("x", 1<<19)}}}, "more than it may"},
}

func TestHostileArchives(t *testing.T) {
	for name, tt := range hostile {
		limit := int64(100 << 10)
		if name == "too many" {
			limit = 2*perEntry + 1
		}
		refused(t, name, compressed(t, tarOf(t, append(slices.Clone(begin), tt.headers...)...)), limit, tt.want)
	}
	for name, tt := range map[string]struct {
		headers []tar.Header
		want    string
	}{
		"hidden folder": {[]tar.Header{{Name: ".git/events.jsonl"}}, "no run's folder has such a name"},
		"a flag":        {[]tar.Header{{Name: "-rf/events.jsonl"}}, "no run's folder has such a name"},
		"dot":           {[]tar.Header{{Name: "./", Typeflag: tar.TypeDir}}, "no run's folder has such a name"},
		"nothing":       {nil, "no run's folder in it"},
		"no run":        {[]tar.Header{begin[0], {Name: "run/x"}}, "no run's folder in it"},
	} {
		refused(t, name, compressed(t, tarOf(t, tt.headers...)), 100<<10, tt.want)
	}
	good := compressed(t, tarOf(t, begin...))
	refused(t, "no archive", []byte("PK\x03\x04 and so on"), 100<<10, "no archive that `rig pack` has made")
	refused(t, "no tar", compressed(t, bytes.Repeat([]byte("x"), 2000)), 100<<10, "damaged")
	refused(t, "garbage behind it", append(slices.Clone(good), "garbage"...), 100<<10, "it is ")
	refused(t, "without end", append(slices.Clone(good), compressed(t, make([]byte, 4<<20))...), 100<<10, "more than it may")
	// A frame that refers to half a gigabyte ago.
	refused(t, "window", []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x01, 0x00, 0x00}, 100<<10, "window size")
}

// refused unpacks an archive that must be refused, and looks that nothing is left.
func refused(t *testing.T, name string, archive []byte, limit int64, want string) {
	t.Helper()
	outer := t.TempDir()
	parent := filepath.Join(outer, "parent")
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Read(t.Context(), bytes.NewReader(archive), parent, "", limit)
	var refused *ArchiveError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %s", name, err, want)
	}
	if left := slices.Sorted(maps.Keys(tree(t, outer))); len(left) != 2 {
		t.Errorf("%s: left: %v", name, left)
	}
}

func TestCutOffOrDamaged(t *testing.T) {
	archive, _ := written(t, madeRun(t), Options{})
	for n := range archive {
		refused(t, fmt.Sprintf("%d of %d bytes", n, len(archive)), archive[:n], DefaultLimit, "")
	}
	refused(t, "cut off", archive[:len(archive)/2], DefaultLimit, "it is cut off")
	refused(t, "cut off in the checksum", archive[:len(archive)-1], DefaultLimit, "it is cut off")
	other := slices.Clone(archive)
	other[len(other)-1] ^= 1
	refused(t, "another checksum", other, DefaultLimit, "it is damaged")
}

// What recordings were made with must be in an archive as well.
func TestReadChecksRecordings(t *testing.T) {
	machine, err := json.Marshal(recording.Machine{Schema: recording.Schema, Node: "A", Scenario: "s", Kernel: "00"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{"run/", "run/events.jsonl", "run/kernel.image", "run/initrd.cpio", "run/A/", "run/A/recording/", "run/A/recording/1/", "run/A/recording/1/machine.json"} {
		h := tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
		if !strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(machine))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(machine); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, "another kernel", compressed(t, out.Bytes()), DefaultLimit, "kernel.image is not the one that node A of s was recorded with")
}

func TestReadLeavesWhatIsThere(t *testing.T) {
	archive, _ := written(t, madeRun(t), Options{})
	for _, name := range []string{"", "named"} {
		parent := t.TempDir()
		there := filepath.Join(parent, name)
		if name == "" {
			there = filepath.Join(parent, runName)
		}
		if err := os.Mkdir(there, 0o755); err != nil { // an empty folder could be replaced
			t.Fatal(err)
		}
		var path *fs.PathError
		_, err := Read(t.Context(), bytes.NewReader(archive), parent, name, DefaultLimit)
		if !errors.Is(err, fs.ErrExist) || !errors.As(err, &path) || path.Path != there {
			t.Errorf("%v", err)
		}
		if all := tree(t, parent); len(all) != 2 {
			t.Errorf("%v", all)
		}
	}
	parent := t.TempDir()
	if c, err := Read(t.Context(), bytes.NewReader(archive), parent, "named", DefaultLimit); err != nil || c.Name != "named" {
		t.Errorf("%v, %v", c, err)
	}
	info, err := os.Stat(filepath.Join(parent, "named"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
}

// Whatever an archive says, nothing is made but the one folder, of files and folders, and no more than is allowed; or nothing at all.
func FuzzRead(f *testing.F) {
	for _, tt := range hostile {
		if data := tarOf(f, append(slices.Clone(begin), tt.headers...)...); len(data) < 64<<10 {
			f.Add(data)
		}
	}
	f.Add(tarOf(f, begin...))
	f.Add(compressed(f, tarOf(f, begin...)))
	archive, _ := written(f, madeRun(f), Options{})
	f.Add(archive)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, archive := range [][]byte{data, compressed(t, data)} {
			const limit = 256 << 10
			outer := t.TempDir()
			parent := filepath.Join(outer, "parent")
			if err := os.Mkdir(parent, 0o755); err != nil {
				t.Fatal(err)
			}
			c, err := Read(t.Context(), bytes.NewReader(archive), parent, "made", limit)
			var counts int64
			entries := 0
			walk := filepath.WalkDir(outer, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				entries++
				if path == outer || path == parent {
					return nil
				}
				if rel, err := filepath.Rel(filepath.Join(parent, "made"), path); err != nil || !filepath.IsLocal(rel) {
					t.Errorf("made %s", path)
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				if !info.IsDir() && !info.Mode().IsRegular() || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
					t.Errorf("%s is %v", path, info.Mode())
				}
				if info.Mode().IsRegular() {
					counts += info.Size() / int64(info.Sys().(*syscall.Stat_t).Nlink)
				}
				return nil
			})
			if walk != nil {
				t.Error(walk)
			}
			if err != nil && entries != 2 || err == nil && (entries < 4 || counts > limit || c.Name != "made") {
				t.Errorf("%v: %d entries, %d bytes", err, entries, counts)
			}
		}
	})
}

// An archive with a file in it that is its owner's alone, a recording say, is its owner's alone, too.
func TestArchiveOfPrivateFilesIsPrivate(t *testing.T) {
	dir := madeRun(t)
	for _, mode := range []fs.FileMode{0o644, 0o600} {
		if err := os.Chmod(filepath.Join(dir, "private"), mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		put(t, dir, "mine", "x")
		if err := os.Chmod(filepath.Join(dir, "mine"), mode); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "a")
		c, _, err := Create(t.Context(), file, dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := mode &^ umask(); info.Mode() != want || c.Private != (mode == 0o600) {
			t.Errorf("a file of mode %v: the archive has %v, want %v; private: %t", mode, info.Mode(), want, c.Private)
		}
	}
}
