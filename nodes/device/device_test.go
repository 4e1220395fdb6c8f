package device

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"dsoftbus-rig/protocol/session"
)

// testDevice has a key pair that only depends on seed.
func testDevice(t testing.TB, id string, seed byte) Device {
	t.Helper()
	key, err := session.GenerateKeyPair(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return Device{ID: id, Key: key}
}

func pairingOf(d Device, services ...string) Pairing {
	return Pairing{ID: d.ID, Key: d.Key.Public, Services: services}
}

func TestSaveLoad(t *testing.T) {
	a, b, c := testDevice(t, "node-a", 1), testDevice(t, "node-b", 2), testDevice(t, "gerät-ç", 3)
	for _, list := range [][]Pairing{
		{},
		{pairingOf(b, ServicePackageFS)},
		{pairingOf(b, ServicePackageFS, "samgrd"), pairingOf(c)},
	} {
		dir := filepath.Join(t.TempDir(), "made", "by-save")
		if err := Save(dir, a, list); err != nil {
			t.Fatal(err)
		}
		gotDevice, gotList, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if gotDevice != a {
			t.Errorf("device is %v, want %v", gotDevice, a)
		}
		if fmt.Sprint(gotList) != fmt.Sprint(list) {
			t.Errorf("pairings are %v, want %v", gotList, list)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf("%s has mode %v, want 0600", entry.Name(), info.Mode())
			}
		}
		if want := []string{deviceFile, pairingFile}; !reflect.DeepEqual(names, want) {
			t.Errorf("directory holds %q, want %q", names, want)
		}
	}
}

func TestSaveReplaces(t *testing.T) {
	dir := t.TempDir()
	if err := Save(dir, testDevice(t, "old", 1), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, deviceFile), 0o644); err != nil {
		t.Fatal(err)
	}
	want := testDevice(t, "new", 2)
	if err := Save(dir, want, nil); err != nil {
		t.Fatal(err)
	}
	// Loading also proves that the loose mode did not survive.
	got, _, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("device is %v, want %v", got, want)
	}
}

func TestSaveRefuses(t *testing.T) {
	a, b := testDevice(t, "node-a", 1), testDevice(t, "node-b", 2)
	mixed := a
	mixed.Key.Public = b.Key.Public
	nameless := a
	nameless.ID = ""
	many := make([]string, maxServices+1)
	for i := range many {
		many[i] = fmt.Sprint("service", i)
	}
	for _, c := range []struct {
		name   string
		device Device
		list   []Pairing
		want   string
	}{
		{"no id", nameless, nil, "id has 0 bytes, want 1 to 64"},
		{"foreign public key", mixed, nil, "public_key does not belong to private_key"},
		{"long peer id", a, []Pairing{{ID: strings.Repeat("x", 65), Key: b.Key.Public}}, "entry 0: id has 65 bytes"},
		{"not UTF-8", a, []Pairing{{ID: "\xff", Key: b.Key.Public}}, `id "\xff" is not UTF-8`},
		{"line feed", a, []Pairing{{ID: "b\nready", Key: b.Key.Public}}, `id "b\nready" holds a control character`},
		{"zero key", a, []Pairing{{ID: "node-b"}}, "node-b: public_key is all zeros"},
		{"own id", a, []Pairing{{ID: "node-a", Key: b.Key.Public}}, `entry 0: id "node-a" is this device's own`},
		{"own key", a, []Pairing{{ID: "node-b", Key: a.Key.Public}}, "entry 0 (node-b): public_key is this device's own"},
		{"id twice", a, []Pairing{pairingOf(b), {ID: "node-b", Key: [32]byte{1}}}, `entry 1: id "node-b" is that of entry 0 already`},
		{"key twice", a, []Pairing{pairingOf(b), {ID: "node-c", Key: b.Key.Public}}, "entry 1 (node-c): public_key is that of entry 0 already"},
		{"many services", a, []Pairing{pairingOf(b, many...)}, "17 services, at most 16"},
		{"service twice", a, []Pairing{pairingOf(b, "x", "x")}, `service "x" is listed twice`},
		{"empty service", a, []Pairing{pairingOf(b, "")}, "service name has 0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dsoftbus")
			err := Save(dir, c.device, c.list)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	a, b := testDevice(t, "node-a", 1), testDevice(t, "node-b", 2)
	private, public := hex.EncodeToString(a.Key.Private[:]), hex.EncodeToString(a.Key.Public[:])
	other := hex.EncodeToString(b.Key.Public[:])
	device := func(id, private, public string) string {
		return fmt.Sprintf(`{"id":%q,"private_key":%q,"public_key":%q}`, id, private, public)
	}
	good := device("node-a", private, public)
	for _, c := range []struct{ name, device, pairing, want string }{
		{"empty file", "", "[]", "device.json: file is empty"},
		{"not JSON", "node-a", "[]", "device.json: invalid character"},
		{"unknown field", `{"id":"a","secret":1}`, "[]", `unknown field "secret"`},
		{"two values", good + good, "[]", "bytes after the JSON value"},
		{"id missing", device("", private, public), "[]", "id has 0 bytes"},
		{"short key", device("a", private[2:], public), "[]", "private_key has 62 characters, want 64 hex digits"},
		{"key not hex", device("a", private[:63]+"g", public), "[]", "private_key holds something else than hex digits"},
		{"public key not hex", device("a", private, public[:63]+" "), "[]", "public_key holds something else"},
		{"keys do not match", device("a", private, other), "[]", "public_key does not belong to private_key"},
		{"huge", strings.Repeat(" ", maxFile+1), "[]", "is larger than"},
		{"pairing not a list", good, "{}", "pairing.json: json: cannot unmarshal object"},
		{"pairing key short", good, `[{"id":"b","public_key":"00","services":[]}]`, "public_key has 2 characters"},
		{"pairing unknown field", good, `[{"id":"b","key":"00"}]`, `unknown field "key"`},
		{"pairing id twice", good, fmt.Sprintf(`[{"id":"b","public_key":%q},{"id":"b","public_key":%q}]`,
			other, strings.Repeat("11", 32)), "entry 1: id \"b\" is that of entry 0 already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, deviceFile), c.device, 0o600)
			writeFile(t, filepath.Join(dir, pairingFile), c.pairing, 0o600)
			_, _, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), private[2:20]) {
				t.Errorf("the error holds the private key: %v", err)
			}
		})
	}
}

func TestLoadOddFiles(t *testing.T) {
	a := testDevice(t, "node-a", 1)
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
		is    error
	}{
		{"no device", func(t *testing.T, dir string) { remove(t, dir, deviceFile) }, "load device identity", fs.ErrNotExist},
		{"no pairing", func(t *testing.T, dir string) { remove(t, dir, pairingFile) }, "paired with nobody has the list []", fs.ErrNotExist},
		{"readable key", func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, deviceFile), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "mode 0640 lets others read the private key; chmod 600 it", nil},
		{"fifo", func(t *testing.T, dir string) {
			remove(t, dir, deviceFile)
			if err := syscall.Mkfifo(filepath.Join(dir, deviceFile), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a regular file", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := Save(dir, a, nil); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir)
			_, _, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v is not %v", err, c.is)
			}
		})
	}
}

// TestPrivateKeyStaysPrivate formats a device in every usual way.
func TestPrivateKeyStaysPrivate(t *testing.T) {
	d := testDevice(t, "node-a", 0x5a)
	asJSON, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %x %v %+v %#v %s", d, d, d, d, d, &d, d.Key, d.Key, asJSON)
	private := hex.EncodeToString(d.Key.Private[:])
	for _, form := range []string{private[:16], "90 90 90", "0x5a, 0x5a", "WlpaWl"} {
		if strings.Contains(shown, form) {
			t.Errorf("%q shows the private key", shown)
		}
	}
}

func TestAllows(t *testing.T) {
	p := Pairing{Services: []string{"samgrd", ServicePackageFS}}
	if !p.Allows(ServicePackageFS) || p.Allows("bundlemgrd") || (Pairing{}).Allows(ServicePackageFS) {
		t.Error("a pairing grants exactly the services it lists")
	}
}

// FuzzPairing decodes any bytes as a pairing list; what is accepted survives a
// round trip.
func FuzzPairing(f *testing.F) {
	f.Add([]byte(`[{"id":"node-b","public_key":"` + strings.Repeat("11", 32) + `","services":["packagefs"]}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"id":"\u0000","public_key":""}]`))
	self := testDevice(f, "node-a", 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		var list []Pairing
		if decode(data, &list) != nil || checkPairings(self, list) != nil {
			return
		}
		again, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var second []Pairing
		if err := decode(again, &second); err != nil {
			t.Fatalf("own form %s: %v", again, err)
		}
		if fmt.Sprint(list) != fmt.Sprint(second) {
			t.Fatalf("%v became %v", list, second)
		}
	})
}

func writeFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
