// Package host finds out what this host can do for machines: which QEMU there is,
// whether acceleration really works, how fast a machine is here, and whether the
// network can be built.
//
// It owns the probes and remembers the slow ones. It changes nothing on the host.
package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/pace"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/worker"

	"github.com/google/renameio/v2"
)

// DefaultQEMU is the emulator that is looked for in PATH. Machines are amd64
// whatever the host is; under software emulation that works everywhere.
const DefaultQEMU = "qemu-system-x86_64"

// Arch is the machines' processor architecture, as in GOARCH.
const Arch = "amd64"

// kvmDevice is what hardware virtualization is reached through.
const kvmDevice = "/dev/kvm"

// MaxSlowdown bounds what deadlines are scaled by, whatever was measured: a host
// that is slower has too much else to do, and a person who waits for a line that
// never comes should wait less than a minute.
const MaxSlowdown = 10

// referenceBoot is how long a machine of the rig takes from QEMU's start to the
// agent's answer where deadlines need no scaling: hardware virtualization on a
// present-day processor. The measured boot divided by it is the slowdown.
const referenceBoot = 700 * time.Millisecond

// asked is why there is no better acceleration where none was wanted.
const asked = "asked for"

// UnsupportedError is why this host cannot run machines. Its text says what to
// install or change.
type UnsupportedError struct{ Err error }

func (e *UnsupportedError) Error() string { return e.Err.Error() }
func (e *UnsupportedError) Unwrap() error { return e.Err }

// AutoAccel is the wish for hardware virtualization where it works, and for
// software emulation elsewhere.
const AutoAccel = "auto"

// Options are a user's wishes. The zero value is complete.
type Options struct {
	QEMU     string            // path or name; "" is DefaultQEMU
	Accel    string            // "kvm", "tcg" or AutoAccel; "" is AutoAccel
	CacheDir string            // where slow probes are remembered; "": nowhere
	Again    bool              // probe, whatever is remembered
	Log      func(step string) // gets each step that takes time; may be nil

	kvm  string           // the device; "" is kvmDevice
	pace func() pace.Pace // of this moment; nil is pace.Now
}

func (o Options) withDefaults() Options {
	o.QEMU = cmp.Or(o.QEMU, DefaultQEMU)
	o.Accel = cmp.Or(o.Accel, AutoAccel)
	o.kvm = cmp.Or(o.kvm, kvmDevice)
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.pace == nil {
		o.pace = pace.Now
	}
	return o
}

// A Host is what was found.
type Host struct {
	QEMU        string  `json:"qemu"`         // path
	QEMUVersion string  `json:"qemu_version"` // "7.2.22"
	Accel       string  `json:"accel"`        // "kvm" or "tcg"
	Why         string  `json:"why"`          // why not a better one; "" for kvm
	BootSeconds float64 `json:"boot_seconds"` // of the probe machine, to the agent's answer
	BootWork    float64 `json:"boot_work"`    // the part of them in which it had a processor
	Pace        float64 `json:"pace"`         // of the host then, for each second on the processor
	Slowdown    float64 `json:"slowdown"`     // what deadlines are scaled by now; 1 to MaxSlowdown
	Sandbox     string  `json:"sandbox"`      // why QEMU cannot confine itself (see machine.CheckSandbox); "" when it can
	TSC         int     `json:"tsc_khz"`      // frequency of the processor's time stamp counter; 0 unknown
}

// Detect finds out what this host can do, booting a probe machine from the images
// unless the result of one is remembered. What else the host does changes at any
// time: so of the boot counts what the machine itself has worked, and how long that
// would take now is told by the host's pace. An *UnsupportedError says what is
// missing.
func Detect(ctx context.Context, o Options, set *images.Set) (*Host, error) {
	o = o.withDefaults()
	qemu, version, err := findQEMU(ctx, o.QEMU)
	if err != nil {
		return nil, err
	}
	cached := cacheFile(o, qemu, version, set)
	h, ok := readCache(cached)
	if !ok || o.Again {
		h = &Host{QEMU: qemu, QEMUVersion: version, TSC: tscKHz()}
		if err := machine.CheckSandbox(ctx, qemu); err != nil {
			h.Sandbox = brief(err)
		}
		if err := h.accelerate(ctx, o, set); err != nil {
			return nil, err
		}
		writeCache(cached, h, o.Log)
	}
	boot := h.BootWork * h.Pace / o.pace().Clock // how long it would take now
	h.Slowdown = min(MaxSlowdown, max(1, math.Round(10*boot/referenceBoot.Seconds())/10))
	return h, nil
}

// Preflight looks for what machines cannot do without, as far as that is quickly
// found out, so that nobody waits for images first. Its error is an
// *UnsupportedError, unless ctx has ended.
func Preflight(ctx context.Context, o Options) error {
	o = o.withDefaults()
	if _, _, err := findQEMU(ctx, o.QEMU); err != nil {
		return err
	}
	if err := CheckNetwork(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &UnsupportedError{err}
	}
	return nil
}

// accelerate settles which acceleration works, and how fast a machine boots with
// it.
func (h *Host) accelerate(ctx context.Context, o Options, set *images.Set) error {
	probe := func(accel string) error {
		o.Log("probing " + accel + " with a machine")
		on := *h
		on.Accel = accel
		result, err := runProbe(ctx, on.Hardware(set))
		if err != nil {
			return err
		}
		h.Accel, h.BootSeconds, h.BootWork, h.Pace = accel, result.Seconds, result.Work, o.pace().Processor
		return nil
	}
	switch o.Accel {
	case "tcg":
		h.Why = asked
	case "kvm", AutoAccel:
		why := kvmUsable(o.kvm)
		if why == nil {
			if why = probe("kvm"); why == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			note := ""
			if flags := noFlags(); flags != "" {
				note = " (though " + flags + ")"
			}
			why = fmt.Errorf("%s opens%s, but does not work: %w", o.kvm, note, why)
		}
		if o.Accel == "kvm" {
			return &UnsupportedError{fmt.Errorf("no hardware acceleration: %w; run with -accel tcg for software emulation", why)}
		}
		h.Why = brief(why)
	default:
		return &UnsupportedError{fmt.Errorf("unknown acceleration %q: say auto, kvm or tcg", o.Accel)}
	}
	if err := probe("tcg"); err != nil {
		return fmt.Errorf("a probe machine under software emulation: %w", err)
	}
	return nil
}

// brief is an error in one short line; QEMU's last words may be many long ones.
func brief(err error) string {
	const most = 120
	line := strings.Join(strings.Fields(console.Clean(strings.ReplaceAll(err.Error(), "\n", " "))), " ")
	if r := []rune(line); len(r) > most {
		line = string(r[:most]) + "…"
	}
	return line
}

// Hardware is what machines are made of on this host.
func (h *Host) Hardware(set *images.Set) machine.Hardware {
	return machine.Hardware{QEMU: h.QEMU, Accel: h.Accel, TSC: h.TSC, Sandbox: h.Sandbox == "", Kernel: set.Kernel, Initrd: set.Initrd, Cover: set.Cover}
}

// Slow returns what deadlines are scaled by when that many busy machines share a
// core: the host's slowdown was measured with a machine that had one to itself.
func (h *Host) Slow(crowding float64) float64 { return min(MaxSlowdown, h.Slowdown*crowding) }

// Record returns the host as a record has it, for machines with the kernel of set
// of which that many share a core.
func (h *Host) Record(set *images.Set, crowding float64) *record.Host {
	short, long := "KVM", "hardware virtualization"
	switch {
	case h.Accel == "kvm":
	case h.Why == asked:
		short, long = "emulated", "software emulation, as asked for"
	default:
		short, long = "emulated (no KVM: rig doctor)", "software emulation ("+h.Why+")"
	}
	slow := h.Slow(crowding)
	return &record.Host{
		QEMU:     h.QEMUVersion,
		Kernel:   set.KernelRelease,
		Accel:    h.Accel,
		Why:      h.Why,
		Slowdown: slow,
		Crowding: crowding,
		Line:     fmt.Sprintf("QEMU %s · kernel %s · %s · deadlines x%.3g", h.QEMUVersion, shortRelease(set.KernelRelease), short, slow),
		Detail: fmt.Sprintf("kernel %s (%s), %s; a machine's boot is %.1fs of work, which makes the slowdown %.3g at the moment; %.3g machines share a core",
			set.KernelRelease, set.KernelSource, long, h.BootWork, h.Slowdown, crowding),
	}
}

// shortRelease returns what of a kernel's release is its version: 6.1.0-57 of
// 6.1.0-57-cloud-amd64.
func shortRelease(release string) string {
	return cmp.Or(releaseVersion.FindString(release), release)
}

var releaseVersion = regexp.MustCompile(`^\d+(\.\d+)*(-\d+)?\b`)

// findQEMU returns the emulator's path and version.
func findQEMU(ctx context.Context, name string) (path, version string, err error) {
	path, err = exec.LookPath(name)
	if err != nil {
		return "", "", &UnsupportedError{fmt.Errorf("%w: install it with ./scripts/setup, or name another with -qemu", err)}
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", &UnsupportedError{fmt.Errorf("%s --version: %w: is it QEMU? reinstall it with ./scripts/setup", path, err)}
	}
	version, ok := parseVersion(string(out))
	if !ok {
		return "", "", &UnsupportedError{fmt.Errorf("%s does not say that it is QEMU; name another with -qemu", path)}
	}
	return path, version, nil
}

// parseVersion reads "QEMU emulator version 7.2.22 (Debian …)".
func parseVersion(s string) (string, bool) {
	_, rest, ok := strings.Cut(s, "QEMU emulator version ")
	if !ok {
		return "", false
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "", false
	}
	return fields[0], true
}

// kvmUsable says why a device need not even be probed.
func kvmUsable(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no %s", device)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission for %s: add this user to the group kvm", device)
	case err != nil:
		return err
	}
	return f.Close()
}

// noFlags notes the absence of virtualization from the processor's flags. It is a
// sign, not proof: a probe decides.
func noFlags() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(info) {
		if bytes.HasPrefix(line, []byte("flags")) {
			for _, flag := range strings.Fields(string(line)) {
				if flag == "vmx" || flag == "svm" {
					return ""
				}
			}
			return "/proc/cpuinfo has neither vmx nor svm"
		}
	}
	return ""
}

// runProbe has a worker boot one machine, so that nothing of it can stay behind.
func runProbe(ctx context.Context, hw machine.Hardware) (result probeResult, err error) {
	p, err := worker.Start(ctx, ProbeJob, hw)
	if err != nil {
		return result, &UnsupportedError{err}
	}
	decodeErr := json.NewDecoder(p.Out()).Decode(&result)
	err = p.Wait()
	switch {
	case err != nil && ctx.Err() != nil:
		return result, context.Cause(ctx)
	case err != nil:
		return result, err
	case decodeErr != nil:
		return result, fmt.Errorf("probe: %w", decodeErr)
	case result.Error != "":
		return result, errors.New(result.Error)
	}
	return result, nil
}

// cacheFile names a probe by all that its result depends on: the emulator as it
// lies there, the device of hardware virtualization and whether this user may open
// it, and the host's kernel; a host that was booted anew may be another one. The
// machine's programs are not among it; the machine's kernel is, by its file's name,
// which is that of its content. "" says that a probe cannot be remembered.
func cacheFile(o Options, qemu, version string, set *images.Set) string {
	if o.CacheDir == "" {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	program, err := os.Stat(qemu)
	if err != nil {
		return ""
	}
	device := "none"
	if info, err := os.Stat(o.kvm); err == nil {
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return ""
		}
		device = fmt.Sprint(info.Mode(), st.Uid, st.Gid, st.Rdev)
	}
	key := sha256.Sum256(fmt.Appendf(nil, "probe 5\n%s\n%s\n%d %d\n%s\n%s\n%v\n%s\n%s%s", qemu, version, program.Size(), program.ModTime().UnixNano(),
		o.Accel, device, kvmUsable(o.kvm), set.Kernel, boot, release))
	return filepath.Join(o.CacheDir, "probe-"+hex.EncodeToString(key[:8])+".json")
}

func readCache(name string) (*Host, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, false
	}
	var h Host
	if json.Unmarshal(data, &h) != nil || !(h.BootWork > 0) || !(h.Pace > 0) || h.Accel == "" {
		return nil, false
	}
	return &h, true
}

// writeCache is a convenience: without it the next run probes again.
func writeCache(name string, h *Host, log func(string)) {
	if name == "" {
		return
	}
	data, err := json.Marshal(h)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err == nil {
		err = renameio.WriteFile(name, data, 0o644)
	}
	if err != nil {
		log(fmt.Sprintf("the probe's result is not kept: %v", err))
	}
}

// QEMUVersion says in one line which emulator there is; "" means the default one.
func QEMUVersion(ctx context.Context, name string) (string, error) {
	path, version, err := findQEMU(ctx, cmp.Or(name, DefaultQEMU))
	if err != nil {
		return "", err
	}
	return version + " (" + path + ")", nil
}
