package recording

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/machine"
)

func recorded() Machine {
	return Machine{Node: "A", Scenario: "roundtrip/basic", Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), QEMU: "/usr/bin/qemu-system-x86_64", QEMUVersion: "7.2.22",
		Args: []string{"-name", "A", "-S", "-kernel", "/cache/vmlinux", "-initrd", "/cache/initrd", "-append", "-netdev tap,id=x", "-chardev", "socket,id=qmp,fd=3",
			"-icount", "shift=auto,rr=record,rrfile=/x", "-chardev", "file,id=console,path=/x/c", "-chardev", "file,id=journal,path=/x/j",
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
	got, err := m.ReplayArgs(Replay{Log: "/r,1/log", Console: "/t/c", Journal: "/t/j", Kernel: "/r/kernel", Initrd: "/r/initrd", Snapshots: "/t/s",
		QMP: "socket,id=qmp,fd=4", GDB: "socket,id=gdb,fd=5"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-name", "A", "-S", "-kernel", "/r/kernel", "-initrd", "/r/initrd", "-append", "-netdev tap,id=x", "-chardev", "socket,id=qmp,fd=4",
		"-icount", "shift=auto,rr=replay,rrfile=/r,,1/log", "-chardev", "file,id=console,path=/t/c", "-chardev", "file,id=journal,path=/t/j",
		"-netdev", "hubport,id=lan,hubid=0", "-device", "virtio-net-pci,netdev=lan", "-netdev", "hubport,id=control,hubid=1",
		"-chardev", "socket,id=gdb,fd=5", "-drive", "if=none,id=snapshots,format=qcow2,file=/t/s"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Everything that the rig records can be replayed.
func TestReplayArgsOfTheRigsMachines(t *testing.T) {
	mac, err := net.ParseMAC("52:54:00:00:00:01")
	if err != nil {
		t.Fatal(err)
	}
	for _, sandbox := range []bool{false, true} {
		spec := machine.Spec{
			Hardware: machine.Hardware{QEMU: "qemu", Accel: "tcg", TSC: 1, Kernel: "/k", Initrd: "/i", Cover: true, Sandbox: sandbox},
			Name:     "A", MAC: mac.String(), Append: "rig.x=1", Memory: 512,
			Recording: &machine.Recording{Log: "/l,og", Console: "/c", Journal: "/j", Control: agentapi.ControlAddress{MAC: mac}},
		}
		m := Machine{Node: "A", Args: spec.Args()}
		if _, err := m.ReplayArgs(Replay{}); err != nil {
			t.Errorf("sandbox %t: %v", sandbox, err)
		}
	}
}

// Whatever else a recording says, nothing of it reaches QEMU.
func TestReplayArgsOfAStranger(t *testing.T) {
	for _, hostile := range [][]string{
		{"-incoming", "exec:touch /tmp/x"},
		{"-plugin", "/tmp/x.so"},
		{"-D", "/home/user/.profile"},
		{"-drive", "file=/etc/shadow,format=raw"},
		{"-blockdev", "{}"},
		{"-chardev", "pty,id=more"},
		{"-chardev", "pipe,id=console,path=/x"},
		{"-chardev", "file,path=/etc/cron.d/x,id=console"},
		{"-monitor", "tcp::1,server"},
		{"-qmp", "unix:/tmp/x,server"},
		{"-gdb", "tcp::1"},
		{"-netdev", "user,id=lan,smb=/"},
		{"-netdev", "tap,script=/tmp/x,id=lan,fd=3"},
		{"-nic", "user"},
		{"-device", "virtio-9p-pci"},
		{"-device", "virtio-net-pci,netdev=lan,romfile=/etc/shadow"},
		{"-object", "memory-backend-file,id=x,mem-path=/etc/shadow,size=1M,share=on"},
		{"-object", "filter-dump,id=x,netdev=lan,file=/x"},
		{"-fw_cfg", "name=opt/x,file=/etc/shadow"},
		{"-name", "A,process=x"},
		{"-machine", "pc,firmware=/etc/shadow"},
		{"-m", "256,slots=2,maxmem=1T"},
		{"-bios", "/etc/shadow"}, {"-L", "/tmp"}, {"-dtb", "/x"}, {"-pidfile", "/x"}, {"-readconfig", "/x"}, {"-trace", "file=/x"},
		{"-runas", "x"}, {"-chroot", "/"}, {"-daemonize"}, {"-vnc", ":0"}, {"-serial", "file:/x"}, {"--incoming", "exec:x"},
		{"disk.img"}, {"@/x"}, {""},
	} {
		for place := range 2 {
			m := recorded()
			if place == 0 {
				m.Args = append(slices.Clone(hostile), m.Args...)
			} else {
				m.Args = append(m.Args, hostile...)
			}
			args, err := m.ReplayArgs(Replay{})
			var e *ArgumentError
			if !errors.As(err, &e) || e.Option != hostile[0] || args != nil {
				t.Errorf("%q: got %q, %v; want an error that names it", hostile, args, err)
			}
		}
	}
	// An option whose value is cut off.
	m := recorded()
	m.Args = append(m.Args, "-kernel")
	if _, err := m.ReplayArgs(Replay{}); err == nil {
		t.Error("an option without its value was taken")
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
