package dsoftbusd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/pk"
)

// The hostproof tests run two whole nodes in one process, over real sockets on 127.0.0.1 and the client library.

const buildProp = "ro.nexus.build=dev\n"

// noise makes content in which no block is like another.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func TestSmallFile(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp), "system@1.0.0/build.prop": []byte("old\n"), "system/empty": nil})
	c := a.open(ctx, t, "node-b")
	for path, want := range map[string]string{
		"pkg:/system/build.prop":       buildProp,
		"/packages/system/build.prop":  buildProp,
		"pkg:/system@1.0.0/build.prop": "old\n",
		"pkg:/system/empty":            "",
	} {
		info, err := c.Stat(ctx, path)
		if err != nil || info.Size() != int64(len(want)) || info.Kind() != pk.KindFile {
			t.Errorf("stat %s: %+v, %v", path, info, err)
		}
		f, err := c.Open(ctx, path)
		if err != nil {
			t.Errorf("open %s: %v", path, err)
			continue
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want {
			t.Errorf("read %s: %q, %v", path, got, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("close %s: %v", path, err)
		}
	}
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	b.markers.want(ctx, t, "dsoftbusd: remote packagefs served")
	a.markers.never(t, "dsoftbusd: remote packagefs served")
}

func TestLargeFile(t *testing.T) {
	content := noise(6<<20+12345, 1)
	ctx, a, _ := twoMachines(t, map[string][]byte{"big/data": content})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/big/data")
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	if n, err := io.Copy(hash, f); n != int64(len(content)) || err != nil {
		t.Errorf("copied %d bytes of %d: %v", n, len(content), err)
	}
	if want := sha256.Sum256(content); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("the content is another")
	}
	for _, r := range []struct{ off, n int }{{0, 1}, {32767, 2}, {1 << 20, 1 << 20}, {len(content) - 1, 1}, {77, 300000}} {
		got := make([]byte, r.n)
		if _, err := f.ReadAt(got, int64(r.off)); err != nil || !bytes.Equal(got, content[r.off:r.off+r.n]) {
			t.Errorf("%d bytes at %d: %v", r.n, r.off, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Both nodes are server and client on the same session, each for several programs at a time.
func TestBothDirectionsAtOnce(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	files := map[string]map[string][]byte{"node-a": {"p/f": noise(1<<20, 1)}, "node-b": {"p/f": noise(1<<20, 2)}}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(files["node-a"]))
	b := lan.start(t, config(t, "node-b", "node-a"), newStore(files["node-b"]))
	var programs sync.WaitGroup
	for range 4 {
		for _, way := range []struct {
			from *machine
			to   string
		}{{a, "node-b"}, {b, "node-a"}} {
			programs.Go(func() {
				c, err := remotefs.Dial(ctx, way.from.socket, way.to, remotefs.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for range 3 {
					f, err := c.Open(ctx, "pkg:/p/f")
					if err != nil {
						t.Error(err)
						return
					}
					var got bytes.Buffer
					if _, err := io.Copy(&got, f); err != nil || !bytes.Equal(got.Bytes(), files[way.to]["p/f"]) {
						t.Errorf("from %s: %d bytes, %v", way.to, got.Len(), err)
					}
					if err := f.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	programs.Wait()
	for _, m := range []*machine{a, b} {
		m.markers.never(t, "dsoftbusd: session lost")
		if n, _ := m.store.opened(); n != 0 {
			t.Errorf("%s: %d files are still open", m.id, n)
		}
	}
}

// OPEN pins the content: what an open handle reads does not change with the package.
func TestOpenPinsContent(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	b.store.set(func() { delete(b.store.files, "system/build.prop") })
	if got, err := io.ReadAll(f); err != nil || string(got) != buildProp {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := c.Stat(ctx, "pkg:/system/build.prop"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}
