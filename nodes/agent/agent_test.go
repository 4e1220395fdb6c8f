package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"

	"golang.org/x/sys/unix"
)

// What the agent does with programs, files and calls is tested from its other
// side, in rig/guest, over a real connection.

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFindPort(t *testing.T) {
	class := filepath.Join(t.TempDir(), "virtio-ports")
	if dev, err := findPort(class, agentapi.ControlPort); dev != "" || err != nil {
		t.Errorf("before the driver is there: %q, %v", dev, err)
	}
	write(t, filepath.Join(class, "vport1p0", "name"), "")
	write(t, filepath.Join(class, "vport1p1", "name"), "rig.control\n")
	write(t, filepath.Join(class, "vport1p2", "name"), "rig.journal\n")
	if err := os.Mkdir(filepath.Join(class, "vport1p3"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{agentapi.ControlPort: "vport1p1", agentapi.JournalPort: "vport1p2", "rig": ""} {
		if dev, err := findPort(class, name); dev != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, dev, err, want)
		}
	}
}

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	if n, err := loadModules(dir); n != 0 || err != nil {
		t.Errorf("a kernel with everything built in: %d, %v", n, err)
	}
	write(t, filepath.Join(dir, "order"), "\nvirtio_none.ko\n")
	if _, err := loadModules(dir); err == nil || !strings.Contains(err.Error(), "virtio_none.ko") {
		t.Errorf("a module that is not there: %v", err)
	}
	write(t, filepath.Join(dir, "virtio_none.ko"), "no module")
	if _, err := loadModules(dir); err == nil || !strings.Contains(err.Error(), "virtio_none.ko") {
		t.Errorf("a module that is none: %v", err)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]unix.Signal{"SIGTERM": unix.SIGTERM, "TERM": unix.SIGTERM, "kill": unix.SIGKILL, "9": unix.SIGKILL, "SIGHUP": unix.SIGHUP} {
		if got, err := parseSignal(in); got != want || err != nil {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "SIG", "SIGNONE", "0", "65", "-1", "9x"} {
		if got, err := parseSignal(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	f := agentapi.File{Path: filepath.Join(dir, "etc", "id", "key"), Mode: 0o600, Content: []byte("secret")}
	for range 2 { // into no folder, then over what is there
		if err := place(f); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Path)
		if err != nil || string(got) != "secret" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(f.Path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	f.Path = "etc/id"
	if err := place(f); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("relative path: %v", err)
	}
	f.Path = filepath.Join(dir, "etc", "id", "key", "below")
	if err := place(f); err == nil || !strings.Contains(err.Error(), f.Path) {
		t.Errorf("below a file: %v", err)
	}
}

func TestRehearsal(t *testing.T) {
	if err := rehearse(card{}); err != nil {
		t.Error(err)
	}
}

func TestACardMustBeThere(t *testing.T) {
	id := agentapi.Identity{MAC: make(net.HardwareAddr, 6), Address: netip.MustParsePrefix("10.42.0.10/24")}
	if err := (card{}).address(id); err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Errorf("without a card: %v", err)
	}
	id.Address = netip.MustParsePrefix("fe80::1/64")
	if err := (card{there: true}).address(id); err == nil || !strings.Contains(err.Error(), "no IPv4") {
		t.Errorf("with an odd address: %v", err)
	}
}

// What a clone finds may be anything; it takes an identity, or says why not.
func TestBecome(t *testing.T) {
	id := agentapi.Identity{Hostname: "node-a", MAC: make(net.HardwareAddr, 6), Address: netip.MustParsePrefix("10.42.0.10/24"), Entropy: []byte("e")}
	good, err := agentapi.Handover(id)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	for what, tt := range map[string]struct {
		handover  []byte
		configure error
		want      string
	}{
		"an identity":     {good, nil, ""},
		"one that is not": {good, refused, "refused"},
		"half of one":     {good[:len(good)/2], nil, "cut off"},
		"too much":        {[]byte{agentapi.HandoverGo, 0xff, 0xff, 0xff, 0xff}, nil, "the most is"},
		"nothing":         {[]byte{agentapi.HandoverGo}, nil, "cut off"},
	} {
		rest := bytes.NewReader(tt.handover[1:])
		var got agentapi.Identity
		err := become(func(p []byte) {
			clear(p) // as the device reads behind the end
			_, _ = io.ReadFull(rest, p)
		}, func(id agentapi.Identity) error { got = id; return tt.configure })
		if tt.want == "" && (err != nil || got.Hostname != "node-a") || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, %+v", what, err, got)
		}
	}
}

func TestEntropyMustBeEnough(t *testing.T) {
	if err := (entropySink{}).add(make([]byte, minEntropy-1)); err == nil || !strings.Contains(err.Error(), "at least 32") {
		t.Errorf("got %v", err)
	}
}

// The wait for a port ends with its deadline, not with the kernel's next event.
func TestUeventsEndWithTheirDeadline(t *testing.T) {
	events, err := listenUevents()
	if err != nil {
		t.Skipf("this host shows this user no kernel events: %v", err)
	}
	defer events.Close()
	if err := events.next(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
