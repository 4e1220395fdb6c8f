package agentapi

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func testIdentity() Identity {
	return Identity{
		Hostname: "node-a", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x0a}, Address: netip.MustParsePrefix("10.42.0.10/24"),
		Clock: time.Unix(1_700_000_000, 123456789), Entropy: bytes.Repeat([]byte{7}, 64),
		Files: []File{{"/etc/id", 0o600, []byte("secret")}, {"/empty", 0o644, []byte{}}},
	}
}

func TestIdentityGoesThereAndBack(t *testing.T) {
	for _, want := range []Identity{testIdentity(), {MAC: make(net.HardwareAddr, 6), Address: netip.MustParsePrefix("0.0.0.0/0"), Entropy: []byte{}, Clock: time.Unix(0, 0)}} {
		data, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Identity
		if err := got.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		for n := range data {
			if err := got.UnmarshalBinary(data[:n]); err == nil {
				t.Errorf("%d of %d bytes were taken", n, len(data))
			}
		}
		if err := got.UnmarshalBinary(append(data, 0)); err == nil {
			t.Error("a byte too many was taken")
		}
	}
}

func TestIdentityWithoutAPlaceInTheForm(t *testing.T) {
	for what, change := range map[string]func(*Identity){
		"MAC":  func(id *Identity) { id.MAC = id.MAC[:5] },
		"IPv6": func(id *Identity) { id.Address = netip.MustParsePrefix("fe80::1/64") },
		"none": func(id *Identity) { id.Address = netip.Prefix{} },
	} {
		id := testIdentity()
		change(&id)
		if _, err := id.MarshalBinary(); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	id := testIdentity()
	id.Files[0].Content = make([]byte, MaxHandover)
	if _, err := Handover(id); err == nil || !strings.Contains(err.Error(), "the most is") {
		t.Errorf("a handover of a megabyte: %v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	data, err := testIdentity().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		var id Identity
		if id.UnmarshalBinary(data) != nil {
			return
		}
		again, err := id.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var same Identity
		if err := same.UnmarshalBinary(again); err != nil || !reflect.DeepEqual(id, same) {
			t.Fatalf("%+v became %+v, %v", id, same, err)
		}
	})
}

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	w := NewFrameWriter(&wire)
	long := bytes.Repeat([]byte("0123456789"), MaxFrame/4)
	if n, err := w.Stream(FrameStdout).Write(long); n != len(long) || err != nil {
		t.Fatal(n, err)
	}
	if err := w.WriteFrame(FrameExit, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFrame(FrameExit, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that is too long was written")
	}
	sent := wire.Bytes()
	r := iotest.OneByteReader(bytes.NewReader(sent))
	var got []byte
	for {
		kind, payload, err := ReadFrame(r)
		if err != nil {
			t.Fatal(err)
		}
		if kind == FrameExit {
			break
		}
		got = append(got, payload...)
	}
	if !bytes.Equal(got, long) {
		t.Error("what comes out is not what went in")
	}
	if _, _, err := ReadFrame(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, _, err := ReadFrame(bytes.NewReader(sent[:100])); err != io.ErrUnexpectedEOF {
		t.Errorf("cut off: %v", err)
	}
	if _, _, err := ReadFrame(bytes.NewReader([]byte{FrameStdout, 0, 0, 1, 1})); err == nil || !strings.Contains(err.Error(), "the most is") {
		t.Errorf("too long: %v", err)
	}
}
