package node

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/protocol/session"
)

// testKey is a key that is the same in each run, with bytes of every kind in it.
func testKey(seed uint64) []byte {
	key := make([]byte, session.KeySize)
	r := rand.New(rand.NewPCG(seed, seed))
	for i := range key {
		key[i] = byte(r.Uint32())
	}
	key[7] = '\n'
	return key
}

func TestKeysAreFoundInEveryForm(t *testing.T) {
	key, other := testKey(1), testKey(2)
	var s secrets
	s.add("another key", other)
	s.add("the key", key)
	array := [session.KeySize]byte(key)
	json, _ := json.Marshal(array)
	for form, text := range map[string]string{
		"raw": string(key), "%x": fmt.Sprintf("%x", key), "%X": fmt.Sprintf("%X", key), "% x": fmt.Sprintf("% x", key), "%v": fmt.Sprint(key), "array": fmt.Sprint(array),
		"JSON": string(json), "base64": base64.StdEncoding.EncodeToString(key), "base64, for URLs": base64.RawURLEncoding.EncodeToString(key),
		"base64, one byte in":  base64.StdEncoding.EncodeToString(append([]byte("a"), append(key, "tail"...)...)),
		"base64, two bytes in": base64.URLEncoding.EncodeToString(append([]byte("ab"), append(key, "t"...)...)),
	} {
		for _, before := range []string{"", "one\ntwo\n", strings.Repeat("x", 300<<10) + "\n"} {
			for how, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader} {
				var found []string
				lines := map[int]bool{}
				err := searchText(wrap(strings.NewReader(before+"text "+text+" text\n")), &s, func(line int, what secret) {
					found = append(found, what.key)
					lines[line] = true
				})
				if want := strings.Count(before, "\n") + 1; err != nil || len(found) == 0 || found[0] != "the key" || len(lines) != 1 || !lines[want] {
					t.Errorf("%s, %s, behind %d bytes: found %v in lines %v, want %d; %v", form, how, len(before), found, lines, want, err)
				}
			}
		}
	}
	changed := bytes.Clone(key)
	changed[31] ^= 1
	if err := searchText(strings.NewReader(fmt.Sprintf("%x %v %s", changed, changed, changed)), &s, func(_ int, what secret) {
		t.Errorf("found %s (%s), which is not there", what.key, what.form)
	}); err != nil {
		t.Error(err)
	}
}

// In a journal a key may be cut anywhere, with lines of others in between.
func TestKeysAreFoundOverTheCutsOfAJournal(t *testing.T) {
	key := testKey(1)
	for form, text := range map[string]string{"raw": string(key), "hex": fmt.Sprintf("%x", key)} {
		n, _ := testNode(t)
		n.key.Private = session.PrivateKey(key)
		n.world.nodes = []*Node{n}
		dir := t.TempDir()
		n.files.Journal, n.files.Console, n.files.QEMULog = filepath.Join(dir, "journal.jsonl"), filepath.Join(dir, "console.log"), filepath.Join(dir, "none")
		long := strings.Repeat("x", journal.MaxLine-len(text)/2)
		var b bytes.Buffer
		for i, line := range bytes.SplitAfter(journaled(t, "prog", "stderr", long+text+"\n"), []byte("\n")) {
			b.Write(line)
			if i == 0 {
				b.Write(journaled(t, "other", "stdout", "in between\n"))
			}
		}
		if err := os.WriteFile(n.files.Journal, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.files.Console, []byte("nothing\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		leaks, err := n.world.Leaks(filepath.Join(dir, "keys.log"))
		if err != nil || len(leaks) != 1 || leaks[0].Node != "A" || leaks[0].File != "A/journal.jsonl" || leaks[0].Line != 3 || leaks[0].Key != "the private key of node A" {
			t.Errorf("%s: %v, %v", form, leaks, err)
		}
		for _, leak := range leaks {
			if strings.Contains(leak.String(), text) {
				t.Errorf("%s: it is told: %q", form, leak)
			}
		}
	}
}

func TestKeysOfSessionsAreSecretToo(t *testing.T) {
	n, _ := testNode(t)
	n.world.nodes = []*Node{n}
	dir := t.TempDir()
	n.files.Journal, n.files.Console, n.files.QEMULog = filepath.Join(dir, "journal.jsonl"), filepath.Join(dir, "console.log"), filepath.Join(dir, "none")
	keys := session.Keys{Dialler: session.PrivateKey(testKey(3)), Listener: session.PrivateKey(testKey(4))}
	keyLog := filepath.Join(dir, "keys.log")
	if err := os.WriteFile(keyLog, keys.AppendLine(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.files.Console, []byte("a\n"+fmt.Sprintf("%x", keys.Listener[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	leaks, err := n.world.Leaks(keyLog)
	if err != nil || len(leaks) != 1 || leaks[0].Line != 2 || leaks[0].Key != "a key of a session" {
		t.Errorf("%v, %v", leaks, err)
	}
	if err := os.WriteFile(n.files.Journal, []byte("{no entry}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.world.Leaks(keyLog); err == nil {
		t.Error("a journal that cannot be read is none with a key in it")
	}
}

func BenchmarkSecrets(b *testing.B) {
	var s secrets
	for i := range uint64(16) {
		s.add("a key", testKey(i))
	}
	text := bytes.Repeat([]byte("dsoftbusd: cross-vm session ok node-b 0123456789abcdef\n"), 20_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_ = searchText(bytes.NewReader(text), &s, func(int, secret) { b.Error("found") })
	}
}
