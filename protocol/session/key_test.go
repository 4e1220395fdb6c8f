package session

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
)

func TestPrivateKeyIsNeverShown(t *testing.T) {
	// Bytes that read the same in no other field: 0xa7 is 167, "a7" and "\xa7".
	private := [KeySize]byte(bytes.Repeat([]byte{0xa7}, KeySize))
	k, err := NewKeyPair(private)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	done := respond(far, Config{Static: k}, anyone)
	a, err := Initiate(near, Config{Static: k, DeviceID: "node-a"}, k.Public)
	if err != nil {
		t.Fatal(err)
	}
	b := (<-done).conn
	values := map[string]any{
		"key":        k.Private,
		"key ptr":    &k.Private,
		"pair":       k,
		"pair ptr":   &k,
		"config":     Config{Static: k, DeviceID: "node-a"},
		"config ptr": &Config{Static: k, DeviceID: "node-a"},
		"pairs":      []KeyPair{k},
		"map":        map[string]KeyPair{"k": k},
		"dialler":    a,
		"listener":   b,
	}
	shown := []string{"167 167", "a7a7", "A7A7", "a7 a7", "A7 A7", "0xa7", "0xA7", "0xa7, 0xa7", "\xa7\xa7", "247 247", `\xa7\xa7`, "10100111 10100111"}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U"} {
			text := fmt.Sprintf(verb, v)
			for _, s := range shown {
				if strings.Contains(text, s) {
					t.Errorf("%s printed with %s shows the private key: %s", name, verb, text)
				}
			}
		}
		if name == "dialler" || name == "listener" {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s as JSON: %v", name, err)
		}
		if strings.Contains(string(text), "167") || strings.Contains(string(text), "a7a7") {
			t.Errorf("%s as JSON shows the private key: %s", name, text)
		}
	}
}

func TestKeyPairShowsItsPublicKey(t *testing.T) {
	k := keyPair(t, 1)
	text, err := json.Marshal(k)
	if want := fmt.Sprintf(`{"public":"%x"}`, k.Public); err != nil || string(text) != want {
		t.Errorf("as JSON %s, %v; want %s", text, err, want)
	}
	if got, want := fmt.Sprint(k), fmt.Sprintf("{public %x}", k.Public); got != want {
		t.Errorf("printed %s, want %s", got, want)
	}
}

func TestPrivateKeyCannotComeFromItsRedactedForm(t *testing.T) {
	text, err := json.Marshal(keyPair(t, 1).Private)
	if err != nil {
		t.Fatal(err)
	}
	var k PrivateKey
	if err := json.Unmarshal(text, &k); err == nil {
		t.Errorf("%s was read as a key", text)
	}
}

// Checked against another implementation of X25519.
func TestNewKeyPair(t *testing.T) {
	for b := range 8 {
		k := keyPair(t, byte(b))
		other, err := ecdh.X25519().NewPrivateKey(k.Private[:])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.Public[:], other.PublicKey().Bytes()) {
			t.Errorf("public key %x, want %x", k.Public, other.PublicKey().Bytes())
		}
	}
}

func TestGenerateKeyPair(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, KeySize)
	k, err := GenerateKeyPair(bytes.NewReader(seed))
	if err != nil || k != keyPair(t, 7) {
		t.Errorf("from fixed bytes: %v, %v", k, err)
	}
	if _, err := GenerateKeyPair(bytes.NewReader(seed[1:])); err == nil {
		t.Error("31 bytes of random were enough")
	}
	a, errA := GenerateKeyPair(nil)
	b, errB := GenerateKeyPair(nil)
	if errA != nil || errB != nil || a == b {
		t.Errorf("twice from the system: %v %v, %v %v", a, b, errA, errB)
	}
}
