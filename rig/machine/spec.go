// Package machine runs one QEMU process: a Spec becomes an argument line, the
// process is started with its sockets ready before it runs, is talked to over
// QMP, and is ended.
//
// It owns the process, its four sockets (QMP, kernel console, control, journal; of a
// recorded machine only the first) and its argument line. It never decides what kind of machine is wanted, makes
// no network device, and reads none of the streams: whoever asks for a socket
// drains it.
package machine

import (
	"fmt"
	"os"
	"strings"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/debugcon"
)

// DefaultMemory is a machine's memory in MiB: the userland in its initramfs
// takes some 60 of them, the rest is for packages and page cache.
const DefaultMemory = 256

// Hardware is what all machines of a run have in common.
type Hardware struct {
	QEMU   string `json:"qemu"`    // the emulator: "qemu-system-x86_64", or its path
	Accel  string `json:"accel"`   // "kvm" or "tcg"
	TSC    int    `json:"tsc_khz"` // the host's time stamp counter, told to emulated machines; 0: they find out
	Kernel string `json:"kernel"`  // path of a bzImage, or of a vmlinux with a PVH note
	Initrd string `json:"initrd"`  // path of the initramfs
	Saved  Saved  `json:"saved"`   // what nodes are cloned from; its zero value: every machine boots
	// Sandbox has QEMU confine itself, see CheckSandbox.
	Sandbox bool `json:"sandbox,omitempty"`
	// Cover says that the programs in Initrd count which of their statements run, and has them write it to agentapi.CoverageDir.
	Cover bool `json:"cover,omitempty"`
}

// Saved is a machine that was booted and saved.
type Saved struct {
	RAM   string `json:"ram"`   // path of its memory
	State string `json:"state"` // path of all the rest
}

// A Spec says what machine to run. It has no state: the same Spec always gives
// the same argument line.
type Spec struct {
	Hardware
	Name   string // "A"; names the sockets, unique within the network namespace
	Append string // added to the kernel's command line
	Memory int    // MiB; 0 is DefaultMemory
	MAC    string // of the network card; "" gives the machine none

	// RAM is a file that is the machine's memory; "" gives it memory of its own.
	// With Shared what the machine writes goes to the file, which is how a save
	// is made; without, it is the machine's alone, which is how a save is used.
	RAM    string
	Shared bool
	// Incoming has the machine wait for a saved state, see Machine.Restore.
	Incoming bool
	// Handover gives the machine a file in which it finds who it is, see Files.
	Handover bool

	// Recording has QEMU write down what enters the machine, so that it can be replayed; nil: it does not.
	Recording *Recording
}

// A Recording is of a machine that boots from its kernel, under software emulation. It has files in the place of its sockets, since of those QEMU would have to
// write down more than it can: the agent's journal goes to the debug console, and the rig reaches the agent over a network card of its own.
type Recording struct {
	Log     string // path of QEMU's log, which is whole when Machine.Kill returns
	Console string // path of what the kernel's console prints
	Journal string // path of the journal
	// Control is where the agent listens, on a card that is not the network's.
	Control agentapi.ControlAddress
}

// Files are what a machine is given open.
type Files struct {
	Tap *os.File // of its network card; nil for a machine without one
	// Handover is what the machine's agent finds as agentapi.HandoverFile, which
	// holds a private key: so it has no name on the host. Nil without Spec.Handover.
	Handover *os.File
	// Control is the tap of the card over which the rig reaches the agent of a recorded machine. Nil without Spec.Recording.
	Control *os.File
}

// File descriptors of the child, in the order of exec.Cmd.ExtraFiles.
const (
	fdQMP = iota + 3
	fdConsole
	fdControl
	fdJournal
	fdTap
	fdHandover
	fdControlTap
)

// commandLine is what every machine's kernel is told.
//
//	loglevel=5              the serial port costs a trap a character; warnings come, which are the kernel's reports among others
//	panic=0                 a panicked machine stays, so that its last lines and memory can be had
//	tsc=reliable, no_timer_check
//	                        clock calibration under software emulation takes long and may fail
//	mitigations=off, nokaslr, random.trust_cpu=on, cryptomgr.notests
//	                        a few hundred milliseconds of boot (see docs/machines.md)
//	psi=0, lsm=none, audit=0, cgroup_disable=memory, nowatchdog
//	                        accounting and checks, at every switch, file and page, that nobody asks for: an
//	                        emulator has to translate each piece of them; a machine that hangs the rig notices itself
//	GODEBUG, GOMAXPROCS     go to init's environment, and so to every program: no signals to goroutines that run
//	                        for 10 ms, which under emulation all do, and no asking cgroups how many processors
//	                        there are, of which a machine has one
//	ipv6.disable=1          the contract is IPv4; router solicitations would only be noise
const commandLine = "console=ttyS0 loglevel=5 panic=0 tsc=reliable no_timer_check mitigations=off nokaslr " +
	"random.trust_cpu=on cryptomgr.notests psi=0 lsm=none nowatchdog cgroup_disable=memory audit=0 ipv6.disable=1 " +
	"GODEBUG=asyncpreemptoff=1 GOMAXPROCS=1"

// recordedCommandLine is what the kernel of a recorded machine is told in addition. There a nanosecond of the machine's clock is a tick of its time stamp counter.
// And each `pause` instruction is an entry in the log, which made up 98 % of it: the kernel spends 14 million instructions of its boot in loops of ten around
// one, to find out how fast clocks are that nobody needs (the local APIC's timer, the ACPI one).
const recordedCommandLine = " tsc_early_khz=1000000 nolapic_timer pmtmr=0 " + agentapi.ControlParameter

// Args returns QEMU's arguments, without the program's name. The sockets and the
// tap are file descriptors, which the machine inherits listening or open.
func (s Spec) Args() []string {
	memory := s.Memory
	if memory == 0 {
		memory = DefaultMemory
	}
	// Without the two, kernels copy and clear memory by words: the emulator runs
	// `rep movsb` and `rep stosb` byte by byte.
	accel, cpu, kernel := "tcg,tb-size=64", "max,erms=off,fsrm=off", commandLine
	switch {
	case s.Recording != nil:
		kernel += recordedCommandLine + s.Recording.Control.String()
	case s.Accel == "kvm":
		accel, cpu = "kvm", "host"
	case s.TSC > 0:
		kernel += fmt.Sprintf(" tsc_early_khz=%d", s.TSC)
	}
	if s.Cover {
		kernel += " GOCOVERDIR=" + agentapi.CoverageDir // to init's environment, as the others
	}
	board := "pc"
	if s.Recording != nil {
		board += ",hpet=off"
	}
	if s.RAM != "" {
		board += ",memory-backend=ram"
	}
	args := []string{
		"-name", s.Name,
		"-nodefaults", "-no-user-config", "-display", "none",
		// -S: nothing runs before the rig has its sockets connected.
		"-S", "-no-reboot",
		"-machine", board, "-accel", accel, "-cpu", cpu, "-smp", "1", "-m", fmt.Sprint(memory),
		"-rtc", "base=utc",
		"-kernel", s.Kernel, "-initrd", s.Initrd, "-append", strings.TrimSpace(kernel + " " + s.Append),
		"-chardev", pair("qmp", fdQMP), "-mon", "chardev=qmp,mode=control",
	}
	if s.Sandbox {
		args = append(args, "-sandbox", sandbox)
	}
	if s.Recording != nil {
		args = append(args, s.recordedDevices()...)
	} else {
		args = append(args,
			"-chardev", socket("console", fdConsole), "-serial", "chardev:console",
			"-device", "virtio-serial-pci,max_ports=4",
			"-chardev", socket("control", fdControl), "-device", "virtserialport,chardev=control,name=rig.control",
			"-chardev", socket("journal", fdJournal), "-device", "virtserialport,chardev=journal,name=rig.journal",
		)
	}
	if s.RAM != "" {
		share := "off"
		if s.Shared {
			share = "on"
		}
		args = append(args, "-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,share=%s,mem-path=%s", memory, share, Option(s.RAM)))
	}
	if s.Incoming {
		args = append(args, "-incoming", "defer")
	}
	if s.Handover {
		args = append(args, "-fw_cfg", fmt.Sprintf("name=%s,file=/proc/self/fd/%d", agentapi.HandoverFile, fdHandover))
	}
	if s.MAC != "" {
		args = append(args, s.card("lan", fdTap, s.MAC)...)
	}
	if s.Recording != nil {
		args = append(args, s.card("control", fdControlTap, s.Recording.Control.MAC.String())...)
	}
	return args
}

// card is a network card on a tap.
//
//	romfile=            without the network boot ROM the firmware has nothing to wait for
//	guest_announce=off  a card that is restored with nothing to announce (see Machine.Restore) would lose the timer that its reset stops (QEMU 7.2
//	                    crashes), and one of a recording would begin to announce where the log has nothing of it
//	tx=timer            what the machine sends is looked at by a timer, which is in the log; the bottom half that does it otherwise is not, before QEMU 9.2
func (s Spec) card(id string, fd int, mac string) []string {
	device := "virtio-net-pci,netdev=" + id + ",mac=" + mac + ",romfile=,guest_announce=off"
	args := []string{"-netdev", fmt.Sprintf("tap,id=%s,fd=%d", id, fd)}
	if s.Recording != nil {
		device += ",tx=timer"
	}
	args = append(args, "-device", device)
	if s.Recording != nil {
		args = append(args, "-object", "filter-replay,id=recorded-"+id+",netdev="+id)
	}
	return args
}

// recordedDevices are the devices of a recorded machine, and what it lacks: virtio-serial, which a restored machine serves by a timer that the log has nothing
// of; HPET, whose driver counts in a loop; the option ROM for APICs (vapic), with which QEMU 7.2 hangs when it restores a machine that replays.
func (s Spec) recordedDevices() []string {
	r := s.Recording
	return []string{
		"-icount", "shift=auto,rr=record,rrfile=" + Option(r.Log),
		"-global", "apic.vapic=off",
		"-chardev", "file,id=console,path=" + Option(r.Console), "-serial", "chardev:console",
		"-chardev", "file,id=journal,path=" + Option(r.Journal), "-device", fmt.Sprintf("isa-debugcon,chardev=journal,iobase=%#x", debugcon.Port),
	}
}

// Option is a word as it stands in a list of QEMU's options, in which a comma is read only when it is doubled.
func Option(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// pair is a socket that is connected already.
func pair(id string, fd int) string { return fmt.Sprintf("socket,id=%s,fd=%d", id, fd) }

// socket is one that QEMU inherits listening.
func socket(id string, fd int) string {
	return fmt.Sprintf("socket,id=%s,fd=%d,server=on,wait=off", id, fd)
}

// CommandLine returns the whole command as one could type it, each word quoted
// for a shell where it needs to be. The file descriptors in it exist only inside
// the rig; a comment line says so.
func (s Spec) CommandLine() string {
	words := []string{Quote(s.QEMU)}
	for _, arg := range s.Args() {
		words = append(words, Quote(arg))
	}
	if s.Recording != nil {
		return fmt.Sprintf("# fd %d is the other end of QMP, fd %d the tap, fd %d the tap of the control card\n%s\n", fdQMP, fdTap, fdControlTap, strings.Join(words, " "))
	}
	return fmt.Sprintf("# fd %d is the other end of QMP, fd %d..%d are listening sockets (console, control, journal), fd %d is the tap, fd %d the handover\n%s\n",
		fdQMP, fdConsole, fdJournal, fdTap, fdHandover, strings.Join(words, " "))
}

// Quote quotes one word for a POSIX shell, or leaves it when it needs none.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./,:=+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
