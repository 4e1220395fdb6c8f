package nxsb

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

type vector struct {
	Name     string   `json:"name"`
	Hex      string   `json:"hex"`
	DeviceID string   `json:"device_id"`
	Port     uint16   `json:"port"`
	KeyHex   string   `json:"key_hex"`
	Services []string `json:"services"`
	Error    string   `json:"error"`
}

func (v vector) datagram(tb testing.TB) []byte {
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		tb.Fatalf("vector %q: %v", v.Name, err)
	}
	return b
}

func vectors(tb testing.TB) []vector {
	text, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var all struct {
		NXSB []vector `json:"nxsb"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	if len(all.NXSB) == 0 {
		tb.Fatal("no vectors")
	}
	return all.NXSB
}

func TestVectors(t *testing.T) {
	named := map[string]error{"bad magic": ErrMagic, "truncated": ErrTruncated, "unsupported version": ErrVersion}
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			datagram := v.datagram(t)
			a, err := Parse(datagram)
			if v.Error != "" {
				want := named[v.Error]
				if want == nil || !errors.Is(err, want) || !strings.Contains(err.Error(), v.Error) {
					t.Errorf("got %v, want %q", err, v.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.DeviceID != v.DeviceID || a.Port != v.Port || hex.EncodeToString(a.Key[:]) != v.KeyHex || !slices.Equal(a.Services, v.Services) {
				t.Errorf("parsed as %+v, want %+v", a, v)
			}
			if again, err := Append(nil, a); err != nil || string(again) != string(datagram) {
				t.Errorf("encoded as %x, %v; want %x", again, err, datagram)
			}
		})
	}
}

// datagram puts one together from parts, good or bad.
func datagram(parts ...string) string { return strings.Join(parts, "") }

var key = strings.Repeat("k", KeySize)

func TestParse(t *testing.T) {
	name64 := strings.Repeat("n", 64)
	tests := []struct {
		name string
		data string
		want error // nil: valid
	}{
		{"smallest", datagram("NXSB\x01", "\x01a", "\x00\x00", key, "\x00"), nil},
		{"largest", datagram("NXSB\x01", "\x40", name64, "\xff\xff", key, "\x10", strings.Repeat("\x40"+name64, 16)), nil},
		{"bytes after the last service", datagram("NXSB\x01", "\x01a", "\x12\x34", key, "\x01", "\x01s", "trailing"), nil},
		{"bytes after no service", datagram("NXSB\x01", "\x01a", "\x12\x34", key, "\x00", "\xff\xff"), nil},

		{"empty", "", ErrTruncated},
		{"part of the magic, wrong", "NOP", ErrTruncated},
		{"magic", "NXSC\x02", ErrMagic},
		{"no version", "NXSB", ErrTruncated},
		{"version 0", "NXSB\x00", ErrVersion},
		{"version 2 and nothing else", "NXSB\x02", ErrVersion},
		{"no id length", "NXSB\x01", ErrTruncated},
		{"id length 0", "NXSB\x01\x00", ErrDeviceIDLength},
		{"id length 65 and no id", "NXSB\x01\x41", ErrDeviceIDLength},
		{"id cut", "NXSB\x01\x02a", ErrTruncated},
		{"id not UTF-8", "NXSB\x01\x01\xff", ErrUTF8},
		{"port cut", "NXSB\x01\x01a\x01", ErrTruncated},
		{"key cut", datagram("NXSB\x01\x01a\x01\x02", key[1:]), ErrTruncated},
		{"no service count", datagram("NXSB\x01\x01a\x01\x02", key), ErrTruncated},
		{"17 services", datagram("NXSB\x01\x01a\x01\x02", key, "\x11", strings.Repeat("\x01s", 17)), ErrServiceCount},
		{"17 services and none there", datagram("NXSB\x01\x01a\x01\x02", key, "\x11"), ErrServiceCount},
		{"service length missing", datagram("NXSB\x01\x01a\x01\x02", key, "\x01"), ErrTruncated},
		{"service length 0", datagram("NXSB\x01\x01a\x01\x02", key, "\x01\x00"), ErrServiceNameLength},
		{"service length 65", datagram("NXSB\x01\x01a\x01\x02", key, "\x01\x41"), ErrServiceNameLength},
		{"service cut", datagram("NXSB\x01\x01a\x01\x02", key, "\x01\x02s"), ErrTruncated},
		{"service not UTF-8", datagram("NXSB\x01\x01a\x01\x02", key, "\x01\x01\xff"), ErrUTF8},
		{"second service missing", datagram("NXSB\x01\x01a\x01\x02", key, "\x02", "\x01s"), ErrTruncated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := Parse([]byte(tt.data))
			if !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
				t.Fatalf("got %+v, %v; want %v", a, err, tt.want)
			}
			if err != nil {
				if !a.Equal(Announce{}) {
					t.Errorf("an error with %+v", a)
				}
				return
			}
			again, err := Append(nil, a)
			if err != nil || !strings.HasPrefix(tt.data, string(again)) {
				t.Errorf("encoded as %x, %v; want the front of %x", again, err, tt.data)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	small, err := Append(nil, Announce{DeviceID: "a"})
	if err != nil || len(small) != MinSize {
		t.Errorf("the smallest has %d bytes (%v), want %d", len(small), err, MinSize)
	}
	name := strings.Repeat("n", MaxName)
	large, err := Append(nil, Announce{DeviceID: name, Services: slices.Repeat([]string{name}, MaxServices)})
	if err != nil || len(large) != MaxSize {
		t.Errorf("the largest has %d bytes (%v), want %d", len(large), err, MaxSize)
	}
}

func TestAppendRefusesWhatParseWould(t *testing.T) {
	long := strings.Repeat("n", 65)
	tests := []struct {
		a    Announce
		want error
	}{
		{Announce{}, ErrDeviceIDLength},
		{Announce{DeviceID: long}, ErrDeviceIDLength},
		{Announce{DeviceID: "\xff"}, ErrUTF8},
		{Announce{DeviceID: "a", Services: make([]string, 17)}, ErrServiceCount},
		{Announce{DeviceID: "a", Services: []string{""}}, ErrServiceNameLength},
		{Announce{DeviceID: "a", Services: []string{"ok", long}}, ErrServiceNameLength},
		{Announce{DeviceID: "a", Services: []string{"\xff"}}, ErrUTF8},
	}
	for _, tt := range tests {
		got, err := Append([]byte("head"), tt.a)
		if !errors.Is(err, tt.want) || string(got) != "head" {
			t.Errorf("%+v: got %q, %v; want %v and dst as it was", tt.a, got, err, tt.want)
		}
	}
}

func TestEqual(t *testing.T) {
	a := Announce{DeviceID: "a", Port: 1, Key: [32]byte{1}, Services: []string{"s"}}
	if !a.Equal(a) {
		t.Error("not equal to itself")
	}
	for _, b := range []Announce{
		{DeviceID: "b", Port: 1, Key: [32]byte{1}, Services: []string{"s"}},
		{DeviceID: "a", Port: 2, Key: [32]byte{1}, Services: []string{"s"}},
		{DeviceID: "a", Port: 1, Key: [32]byte{2}, Services: []string{"s"}},
		{DeviceID: "a", Port: 1, Key: [32]byte{1}, Services: []string{"t"}},
		{DeviceID: "a", Port: 1, Key: [32]byte{1}},
	} {
		if a.Equal(b) {
			t.Errorf("%+v equals %+v", a, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.datagram(f))
	}
	f.Add([]byte(datagram("NXSB\x01", "\x01a", "\x12\x34", key, "\x02", "\x01s", "\x02tu", "trailing")))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Append(nil, a)
		if err != nil {
			t.Fatalf("%+v was parsed and cannot be encoded: %v", a, err)
		}
		if len(again) < MinSize || len(again) > MaxSize || !strings.HasPrefix(string(data), string(again)) {
			t.Errorf("%x became %x", data, again)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	d, err := Append(nil, Announce{DeviceID: "node-a", Port: 34567, Services: []string{"packagefs"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(d); err != nil {
			b.Fatal(err)
		}
	}
}
