package dsoftbusd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/session"
)

// A keyFile is a key log in memory.
type keyFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *keyFile) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(p)
}

// sessions returns the keys so far.
func (k *keyFile) sessions(t *testing.T) []session.Keys {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []session.Keys
	for line := range strings.Lines(k.text.String()) {
		keys, err := session.ParseKeys(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, keys)
	}
	return all
}

// A daemon that is given no log has nowhere to write to, and does so.
func TestNoLog(t *testing.T) {
	cfg := config(t, "node-a")
	cfg.Markers = newLines()
	d, err := newDaemon(cfg, Network{})
	if err != nil {
		t.Fatal(err)
	}
	d.log.Print("why a session ended")
}

// Both ends log the same keys of their session. One that has no key log tells them to nobody: no marker and no line of its log has them, nor have those of the
// one that does.
func TestKeyLog(t *testing.T) {
	ctx := deadline(t)
	for _, logging := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		t.Run(fmt.Sprint(logging), func(t *testing.T) {
			lan := new(loopback)
			var files [2]keyFile
			var machines [2]*machine
			for i, id := range []string{"node-a", "node-b"} {
				cfg := config(t, id, []string{"node-b", "node-a"}[i])
				if logging[i] {
					cfg.KeyLog = &files[i]
				}
				machines[i] = lan.start(t, cfg, newStore(map[string][]byte{"system/build.prop": []byte(buildProp)}))
			}
			readThrough(ctx, t, machines[0])
			machines[1].markers.want(ctx, t, "dsoftbusd: cross-vm session ok node-a")
			var known []session.Keys
			for i := range files {
				got := files[i].sessions(t)
				if logging[i] != (len(got) == 1) {
					t.Fatalf("%s logs %d sessions", machines[i].id, len(got))
				}
				known = append(known, got...)
			}
			if len(known) == 2 && known[0] != known[1] {
				t.Error("the two ends log different keys")
			}
			for _, m := range machines {
				for _, text := range append(m.markers.texts(), m.log.texts()...) {
					for _, secret := range []session.PrivateKey{known[0].Dialler, known[0].Listener} {
						for _, form := range []string{"%x", "%X", "%d", "%s"} {
							if strings.Contains(strings.ToLower(text), strings.ToLower(fmt.Sprintf(form, secret[:]))) {
								t.Errorf("%s has printed a key: %q", m.id, text)
							}
						}
					}
				}
			}
		})
	}
}

// readThrough reads a file of node-b through a machine's own daemon.
func readThrough(ctx context.Context, t *testing.T, m *machine) {
	t.Helper()
	c, err := remotefs.Dial(ctx, m.socket, "node-b", remotefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
