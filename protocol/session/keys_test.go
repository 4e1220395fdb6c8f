package session

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// logged establishes a session of which both sides tell their keys, and returns what each has written from its first byte on.
func logged(t *testing.T) (a, b *Conn, sentA, sentB *bytes.Buffer, keysA, keysB Keys) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	ra, rb := &recorder{Conn: near}, &recorder{Conn: far}
	alice, bob := keyPair(t, 1), keyPair(t, 2)
	done := respond(rb, Config{Static: bob, KeyLog: func(k Keys) { keysB = k }}, anyone)
	a, err := Initiate(ra, Config{Static: alice, DeviceID: "node-a", KeyLog: func(k Keys) { keysA = k }}, bob.Public)
	if err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return a, r.conn, &ra.written, &rb.written, keysA, keysB
}

// take takes one message off a stream.
func take(b *bytes.Buffer) []byte {
	header := b.Next(lengthSize)
	return bytes.Clone(b.Next(int(header[0])<<8 | int(header[1])))
}

// Both sides tell the same keys; the name of the session is what an observer computes, and the keys open its records.
func TestKeysOpenTheSession(t *testing.T) {
	a, b, sentA, sentB, keysA, keysB := logged(t)
	if keysA != keysB {
		t.Fatal("the two sides tell different keys")
	}
	for _, m := range []struct {
		from, to *Conn
		payload  string
	}{{a, b, "one"}, {b, a, "two"}, {a, b, "three"}} {
		sent := send(m.from, ChannelPackageFS, []byte(m.payload))
		if _, _, err := m.to.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	messages := [3][]byte{take(sentA), take(sentB), take(sentA)}
	if got := HandshakeHash(keyPair(t, 2).Public, messages); got != keysA.Hash {
		t.Errorf("the observer's hash is %x, the session's %x", got, keysA.Hash)
	}
	if got := HandshakeHash(keyPair(t, 3).Public, messages); got == keysA.Hash {
		t.Error("another listener gives the same hash")
	}
	for i, m := range messages {
		if err := CheckHandshakeLength(i+1, len(m)); err != nil {
			t.Error(err)
		}
	}
	dialler, listener := NewOpener(keysA.Dialler), NewOpener(keysA.Listener)
	for _, r := range []struct {
		opener *Opener
		record []byte
		want   string
	}{{dialler, take(sentA), "one"}, {listener, take(sentB), "two"}, {dialler, take(sentA), "three"}} {
		if channel, payload, err := r.opener.Open(r.record); err != nil || channel != ChannelPackageFS || string(payload) != r.want {
			t.Errorf("channel %d, %q, %v; want %q", channel, payload, err, r.want)
		}
	}
	if _, _, err := dialler.Open(make([]byte, minRecord)); !errors.Is(err, ErrDecrypt) {
		t.Errorf("a forged record: %v", err)
	}
	if _, _, err := dialler.Open(make([]byte, minRecord-1)); !errors.Is(err, ErrRecordLength) {
		t.Errorf("a short record: %v", err)
	}
}

func TestKeysLine(t *testing.T) {
	k := Keys{Hash: [HashSize]byte{1, 2}, Dialler: PrivateKey{3}, Listener: PrivateKey{4}}
	line := string(k.AppendLine(nil))
	if got, err := ParseKeys(line); err != nil || got != k {
		t.Errorf("%q is read as %x, %v", line, got.Hash, err)
	}
	secret := strings.Repeat("ab", 32)
	for _, bad := range []string{
		"", "DSOFTBUS_SESSION", "OTHER " + secret + " " + secret + " " + secret, "DSOFTBUS_SESSION " + secret + " " + secret,
		"DSOFTBUS_SESSION " + secret + " " + secret + "ab " + secret, "DSOFTBUS_SESSION " + secret + " " + secret + " g" + secret[1:],
	} {
		_, err := ParseKeys(bad)
		if !errors.Is(err, ErrKeys) {
			t.Errorf("%q: %v", bad, err)
		} else if strings.Contains(err.Error(), "abab") {
			t.Errorf("the error shows the line: %v", err)
		}
	}
	// Whoever formats keys by mistake shows none.
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d"} {
		if text := fmt.Sprintf(verb, Keys{Dialler: PrivateKey(bytes.Repeat([]byte{0xa7}, KeySize))}); strings.Contains(text, "a7a7") || strings.Contains(text, "167") {
			t.Errorf("%s shows a key: %s", verb, text)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(string(Keys{}.AppendLine(nil)))
	f.Fuzz(func(t *testing.T, line string) {
		k, err := ParseKeys(line)
		if err != nil {
			return
		}
		if again, err := ParseKeys(string(k.AppendLine(nil))); err != nil || again != k {
			t.Errorf("%q is not read again", line)
		}
	})
}
