package images

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// loaded are the sections of a program that are loaded into memory, with their
// addresses and contents, and its GNU build id in hex.
func loaded(t *testing.T, data []byte) (map[string][]byte, map[string]uint64, string) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	contents, addresses, id := map[string][]byte{}, map[string]uint64{}, ""
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		addresses[s.Name] = s.Addr
		if s.Type == elf.SHT_NOBITS {
			continue
		}
		if contents[s.Name], err = s.Data(); err != nil {
			t.Fatal(err)
		}
		if s.Name == ".note.gnu.build-id" {
			id = hex.EncodeToString(contents[s.Name][16:])
		}
	}
	return contents, addresses, id
}

// A debugger puts its breakpoints where the binary with debug information says, into
// processes of the one without.
func TestDebugInformationIsOfTheSameCode(t *testing.T) {
	source := writeTree(t, programsTree())
	c, _ := testCache(t, t.TempDir())
	g := goFor(t, source)
	plain, err := c.get(t.Context(), programsLayer(g, source, false))
	if err != nil {
		t.Fatal(err)
	}
	read := func(l layer) []byte {
		t.Helper()
		e, err := c.get(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(e.file(binaryName))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	debug := read(debugLayer(g, source, "debug"))
	slow := read(debugLayer(g, source, "unoptimized", "-gcflags=all=-N -l"))

	want, wantAt, wantID := loaded(t, readArchive(t, plain.file("nodes.cpio"))["bin/node"].content)
	got, gotAt, gotID := loaded(t, debug)
	if len(want[".text"]) == 0 || wantID == "" {
		t.Fatalf("the image's binary has %d bytes of code and the build id %q", len(want[".text"]), wantID)
	}
	for name := range want {
		if !bytes.Equal(want[name], got[name]) || wantAt[name] != gotAt[name] {
			t.Errorf("section %s differs: at %#x and %#x", name, wantAt[name], gotAt[name])
		}
	}
	if id, err := buildID(g, source, false); err != nil || id != wantID || id != gotID {
		t.Errorf("build ids: image %s, debug %s, expected %s (%v)", wantID, gotID, id, err)
	}
	if f, err := elf.NewFile(bytes.NewReader(debug)); err != nil || !slices.ContainsFunc(f.Sections, func(s *elf.Section) bool { return strings.HasPrefix(s.Name, ".debug_info") }) {
		t.Errorf("the debug binary has no debug information (%v)", err)
	}
	if other, _, _ := loaded(t, slow); bytes.Equal(other[".text"], want[".text"]) {
		t.Error("the unoptimized binary has the optimized code")
	}
}

// Another source must have another build id: else a debugger would take the debug
// information of the one for the other's.
func TestBuildIDFollowsTheSource(t *testing.T) {
	id := func(change string) string {
		tree := programsTree()
		tree["nodes/agent/agent.go"] = append(tree["nodes/agent/agent.go"], change...)
		source := writeTree(t, tree)
		got, err := buildID(goFor(t, source), source, false)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if a, b := id(""), id("// changed"); a == b || a != id("") || len(a) != 40 {
		t.Errorf("build ids %s and %s", a, b)
	}
}

// While one process builds a debugger, which takes minutes, another one gets at
// the images; one that wants the debugger, too, is told for whom it waits.
func TestDebuggerHasALockOfItsOwn(t *testing.T) {
	cfg := Config{SourceDir: "..", CacheDir: t.TempDir()}
	building, _, err := cfg.open(t.Context(), debuggerFolder)
	if err != nil {
		t.Fatal(err)
	}
	defer building.close()
	waits := errors.New("it waits")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.Log = func(said string) {
		t.Log(said)
		if strings.Contains(said, fmt.Sprintf("(pid %d)", os.Getpid())) {
			cancel(waits)
		}
	}
	images, _, err := cfg.open(ctx, "")
	if err != nil {
		t.Fatalf("open the images: %v", err)
	}
	images.close()
	if _, err := DebuggerFor(ctx, cfg, false); !errors.Is(err, waits) {
		t.Errorf("a second build of the debugger: %v", err)
	}
}

// The project's own: Delve runs, and is the version that is pinned.
func TestDebugger(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles Delve")
	}
	d, err := DebuggerFor(t.Context(), Config{SourceDir: "..", CacheDir: t.TempDir()}, false)
	if err != nil {
		t.Fatal(err)
	}
	if d.Unoptimized != "" || filepath.Base(d.Node) != binaryName {
		t.Errorf("%+v", d)
	}
	data, err := os.ReadFile(d.Node)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, id := loaded(t, data); d.NodePath != "/usr/lib/debug/.build-id/"+id[:2]+"/"+id[2:]+".debug" {
		t.Errorf("Delve would look for build id %s, not at %s", id, d.NodePath)
	}
	out, err := exec.CommandContext(t.Context(), d.Dlv, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := os.ReadFile("delve/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(out), "Version: ")
	version, _, _ = strings.Cut(version, "\n")
	if !bytes.Contains(pinned, []byte("github.com/go-delve/delve v"+version+" ")) {
		t.Errorf("dlv says that it is %q, go.mod has\n%s", version, pinned)
	}
}
