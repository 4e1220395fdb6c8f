package recording

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func recorded() Machine {
	return Machine{Node: "A", Scenario: "roundtrip/basic", Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), QEMU: "/usr/bin/qemu-system-x86_64", QEMUVersion: "7.2.22",
		Args: []string{"-name", "A", "-S", "-kernel", "/cache/vmlinux", "-initrd", "/cache/initrd", "-append", "-netdev tap,id=x", "-chardev", "socket,id=qmp,fd=3",
			"-icount", "shift=auto,rr=record,rrfile=/x", "-no-hpet", "-chardev", "file,id=console,path=/x/c", "-chardev", "file,id=journal,path=/x/j",
			"-netdev", "tap,id=lan,fd=7", "-device", "virtio-net-pci,netdev=lan", "-netdev", "tap,id=control,fd=9"}}
}

// A node's lives are found in order, beside whatever else lies there.
func TestLives(t *testing.T) {
	node := t.TempDir()
	if all, err := Lives(node); err != nil || len(all) > 0 {
		t.Fatalf("a node that was not recorded: %v, %v", all, err)
	}
	want := recorded()
	for range 11 {
		dir, err := Create(node)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(node, "recording", "notes"), 0o755); err != nil {
		t.Fatal(err)
	}
	all, err := Lives(node)
	if err != nil || len(all) != 11 {
		t.Fatalf("%d lives, %v", len(all), err)
	}
	want.Schema = Schema
	for i, l := range all {
		if l.Number != i+1 || !reflect.DeepEqual(l.Machine, want) {
			t.Errorf("life %d is %d: %+v", i+1, l.Number, l.Machine)
		}
	}
	file := all[2].File(MachineFile)
	for content, want := range map[string]string{`{"schema": 2}`: "has the form 2, this rig knows 1", `{`: MachineFile} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Lives(node); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

// The last of what was asked for before a rig was killed may be cut off.
func TestPositions(t *testing.T) {
	l := &Life{Dir: t.TempDir()}
	const lines = `{"time":"2026-01-02T03:04:05.1Z","instructions":10}
{"time":"2026-01-02T03:04:05.2Z","instructions":25}
{"time":"2026-01-02T03:0`
	if err := os.WriteFile(l.File(PositionsFile), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := l.Positions()
	if err != nil || len(all) != 2 || all[1].Instructions != 25 || all[1].Time.Nanosecond() != 2e8 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Only what stands behind the devices is another.
func TestReplayArgs(t *testing.T) {
	m := recorded()
	got, err := m.ReplayArgs(Replay{Log: "/r,1/log", Console: "/t/c", Journal: "/t/j", Kernel: "/r/kernel", Initrd: "/r/initrd", Snapshots: "/t/s", QMP: "socket,id=qmp,fd=4"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-name", "A", "-S", "-kernel", "/r/kernel", "-initrd", "/r/initrd", "-append", "-netdev tap,id=x", "-chardev", "socket,id=qmp,fd=4",
		"-icount", "shift=auto,rr=replay,rrfile=/r,,1/log", "-no-hpet", "-chardev", "file,id=console,path=/t/c", "-chardev", "file,id=journal,path=/t/j",
		"-netdev", "hubport,id=lan,hubid=0", "-device", "virtio-net-pci,netdev=lan", "-netdev", "hubport,id=control,hubid=1",
		"-drive", "if=none,id=snapshots,format=qcow2,file=/t/s"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	m.Args = append(m.Args, "-chardev", "pty,id=more")
	if _, err := m.ReplayArgs(Replay{}); err == nil || !strings.Contains(err.Error(), "pty,id=more") {
		t.Errorf("a device nobody knows: %v", err)
	}
}

func TestRemove(t *testing.T) {
	scenario := t.TempDir()
	for _, node := range []string{"A", "B"} {
		dir, err := Create(filepath.Join(scenario, node))
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(dir, recorded()); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(scenario, "A", "console.log")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	events := filepath.Join(scenario, "events.jsonl")
	if err := os.WriteFile(events, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Remove(scenario); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"A", "B"} {
		if all, err := Lives(filepath.Join(scenario, node)); err != nil || len(all) > 0 {
			t.Errorf("%s: %d lives, %v", node, len(all), err)
		}
	}
	for _, file := range []string{log, events} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}
