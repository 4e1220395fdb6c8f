package agent

import (
	"errors"
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
	if err := rehearse(t.Context(), card{}); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	good := agentapi.Configure{MAC: "52:54:00:00:00:0a", Address: "10.42.0.10/24"}
	if mac, ip, err := addresses(good); err != nil || mac.String() != good.MAC || ip.IPNet.String() != good.Address {
		t.Errorf("%v, %v, %v", mac, ip, err)
	}
	for _, bad := range []agentapi.Configure{{MAC: "52:54", Address: good.Address}, {MAC: good.MAC, Address: "10.42"}} {
		if _, _, err := addresses(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := (card{}).address(good); err == nil || !strings.Contains(err.Error(), "virtio_net") {
		t.Errorf("without a card: %v", err)
	}
}

func TestEntropyMustBeEnough(t *testing.T) {
	if err := addEntropy(make([]byte, minEntropy-1)); err == nil || !strings.Contains(err.Error(), "at least 32") {
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
