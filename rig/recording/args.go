package recording

import (
	"fmt"
	"regexp"
	"strings"

	"dsoftbus-rig/rig/machine"
)

// Replay says what stands behind the devices of a machine that replays. All but
// QMP and GDB are paths.
type Replay struct {
	Log, Console, Journal string
	Kernel, Initrd        string
	// Snapshots is an empty qcow2 disk, to which QEMU saves the states it can
	// go back to; "": there is none.
	Snapshots string
	// QMP and GDB are what follows -chardev for the sockets with these ids.
	QMP, GDB string
}

// An option is one that the command line of a recorded machine may have.
type option struct {
	name  string
	value string // the whole of its value, as a regular expression; "": it has none
	// instead returns the value that a replay has in its place. Nil: the
	// recorded one.
	instead func(r *Replay, value string) string
}

// options are all that a recorded machine's command line may have, beside the
// machine's own devices: QEMU's options can name files to read and to write, and
// programs to run, and a recording may come from a stranger.
//
// Values name neither a file nor a place of the host unless a replay puts its own
// there. What the machine itself sees (its kernel's command line) may be anything.
var options = []option{
	{name: "-name", value: `[A-Za-z0-9][A-Za-z0-9_-]*`},
	{name: "-nodefaults"},
	{name: "-no-user-config"},
	{name: "-display", value: `none`},
	{name: "-S"},
	{name: "-no-reboot"},
	{name: "-sandbox", value: `[a-z=,]+`, instead: func(*Replay, string) string { return "" }}, // the replay's own comes with its emulator
	{name: "-machine", value: `pc(-i440fx-[0-9.]+)?(,hpet=off)?`},
	{name: "-accel", value: `tcg(,tb-size=[0-9]{1,4})?`},
	{name: "-cpu", value: `[A-Za-z0-9_.-]+(,[a-z0-9_.-]+=(on|off))*`},
	{name: "-smp", value: `1`},
	{name: "-m", value: `[0-9]{1,5}`},
	{name: "-rtc", value: `base=utc`},
	{name: "-kernel", value: `.*`, instead: func(r *Replay, _ string) string { return r.Kernel }},
	{name: "-initrd", value: `.*`, instead: func(r *Replay, _ string) string { return r.Initrd }},
	{name: "-append", value: `.*`},
	{name: "-icount", value: `.*`, instead: func(r *Replay, _ string) string {
		return "shift=auto,rr=replay,rrfile=" + machine.Option(r.Log)
	}},
	{name: "-global", value: `apic\.vapic=off`},
	{name: "-mon", value: `chardev=qmp,mode=control`},
	{name: "-chardev", value: `socket,id=qmp,.*`, instead: func(r *Replay, _ string) string { return r.QMP }},
	{name: "-chardev", value: `file,id=console,.*`, instead: func(r *Replay, _ string) string {
		return "file,id=console,path=" + machine.Option(r.Console)
	}},
	{name: "-chardev", value: `file,id=journal,.*`, instead: func(r *Replay, _ string) string {
		return "file,id=journal,path=" + machine.Option(r.Journal)
	}},
	{name: "-serial", value: `chardev:console`},
	{name: "-device", value: `isa-debugcon,chardev=journal,iobase=0x[0-9a-f]{1,4}`},
	// What came from the network is in the log: a card's other end is a hub of its own.
	{name: "-netdev", value: `tap,id=lan,.*`, instead: hub},
	{name: "-netdev", value: `tap,id=control,.*`, instead: hub},
	{name: "-device", value: `virtio-net-pci,netdev=(lan|control)(,mac=[0-9a-f:]{17})?(,romfile=)?(,guest_announce=off)?(,tx=timer)?`},
	{name: "-object", value: `filter-replay,id=recorded-(lan|control),netdev=(lan|control)`},
}

func hub(_ *Replay, value string) string {
	if strings.Contains(value, "id=lan,") {
		return "hubport,id=lan,hubid=0"
	}
	return "hubport,id=control,hubid=1"
}

// An ArgumentError names an argument of a recording that a recorded machine of
// the rig does not have.
type ArgumentError struct{ Node, Option, Value string }

func (e *ArgumentError) Error() string {
	return fmt.Sprintf("node %s: its recording starts QEMU with %q, which no recorded machine of this rig has: "+
		"the recording was changed, or another version of the rig made it; nothing was started",
		e.Node, strings.TrimSpace(e.Option+" "+e.Value))
}

// ReplayArgs returns the command line that replays a machine. What the machine
// can see is as it was, also where a later rig would start it otherwise; only
// what stands behind its devices is replaced. The error is an *ArgumentError for
// an option, or a value of one, that a recorded machine does not have: a recording
// is data, and never decides what QEMU reads, writes or runs.
func (m *Machine) ReplayArgs(r Replay) ([]string, error) {
	var out []string
	for args := m.Args; len(args) > 0; {
		o, taken := find(args)
		if o == nil {
			e := &ArgumentError{Node: m.Node, Option: args[0]}
			if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
				e.Value = args[1]
			}
			return nil, e
		}
		value := ""
		if taken == 2 {
			value = args[1]
		}
		args = args[taken:]
		switch {
		case taken == 1:
			out = append(out, o.name)
		case o.instead == nil:
			out = append(out, o.name, value)
		default:
			if value = o.instead(&r, value); value != "" {
				out = append(out, o.name, value)
			}
		}
	}
	if r.GDB != "" {
		out = append(out, "-chardev", r.GDB)
	}
	if r.Snapshots != "" {
		out = append(out, "-drive", "if=none,id=snapshots,format=qcow2,file="+machine.Option(r.Snapshots))
	}
	return out, nil
}

// find returns the option that args begin with, and how many of them it takes.
func find(args []string) (o *option, taken int) {
	for i := range options {
		o := &options[i]
		switch {
		case o.name != args[0]:
		case o.value == "":
			return o, 1
		case len(args) > 1 && whole(o.value).MatchString(args[1]):
			return o, 2
		}
	}
	return nil, 0
}

func whole(value string) *regexp.Regexp { return regexp.MustCompile(`(?s)\A(?:` + value + `)\z`) }
