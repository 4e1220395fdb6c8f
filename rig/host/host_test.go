package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/pace"
	"dsoftbus-rig/rig/worker"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == worker.Command {
		os.Exit(worker.Main(map[string]worker.Handler{ProbeJob: Probe, NetworkJob: Network, FaultsJob: TryFaults}))
	}
	os.Exit(m.Run())
}

// emulator writes a script that stands in for QEMU: it knows its version, and its
// machines come to nothing, in the given way.
func emulator(t *testing.T, machine string) string {
	name := filepath.Join(t.TempDir(), "qemu")
	script := "#!/bin/sh\ncase $1 in --version) echo 'QEMU emulator version 9.9.9 (test)'; exit;; esac\n" + machine
	if err := os.WriteFile(name, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestVersion(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright": "7.2.22",
		"QEMU emulator version 9.1.0\n":                                 "9.1.0",
		"QEMU emulator version ":                                        "",
		"bash: no QEMU":                                                 "",
	} {
		if got, ok := parseVersion(out); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %t", out, got, ok)
		}
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	set := &images.Set{Kernel: "/none", Initrd: "/none", ID: "test"}
	tests := []struct {
		name        string
		options     Options
		want        []string
		unsupported bool
	}{
		{"no QEMU", Options{QEMU: "no-such-qemu"}, []string{"no-such-qemu", "./scripts/setup", "-qemu"}, true},
		{"another program", Options{QEMU: "true"}, []string{"does not say that it is QEMU"}, true},
		{"a program that fails", Options{QEMU: "false"}, []string{"false --version", "./scripts/setup"}, true},
		{"unknown acceleration", Options{QEMU: emulator(t, "exit 1"), Accel: "warp"}, []string{`"warp"`, "auto, kvm or tcg"}, true},
		{"no machine at all", Options{QEMU: emulator(t, "echo 'no machine today' >&2; exit 1"), Accel: "tcg"}, []string{"software emulation", "no machine today"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Log = func(string) {}
			_, err := Detect(t.Context(), tt.options, set)
			var unsupported *UnsupportedError
			if err == nil || errors.As(err, &unsupported) != tt.unsupported {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
		})
	}
}

// An Options without a Log probes like any other.
func TestNoLog(t *testing.T) {
	o := Options{QEMU: emulator(t, "echo 'no machine today' >&2; exit 1")}
	for _, o.Accel = range []string{"", "tcg"} {
		if _, err := Detect(t.Context(), o, &images.Set{}); err == nil || !strings.Contains(err.Error(), "no machine today") {
			t.Errorf("accel %q: %v", o.Accel, err)
		}
	}
}

func TestDetectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	o := Options{QEMU: emulator(t, "exec sleep 1000"), Accel: "tcg", Log: func(string) { cancel(stopped) }}
	if _, err := Detect(ctx, o, &images.Set{}); !errors.Is(err, stopped) {
		t.Fatalf("got %v", err)
	}
}

// remembered returns options for a stand-in of QEMU whose probe is remembered as
// found at the pace then, and a count of further probes.
func remembered(t *testing.T, boot, then float64) (o Options, set *images.Set, probes func() int) {
	t.Helper()
	dir := t.TempDir()
	count := 0
	o = Options{
		QEMU: emulator(t, "echo 'no machine today' >&2; exit 1"), CacheDir: dir, kvm: filepath.Join(dir, "kvm"),
		Log: func(s string) {
			if strings.HasPrefix(s, "probing") {
				count++
			}
		},
	}.withDefaults()
	if err := os.WriteFile(o.kvm, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	set = &images.Set{Kernel: "/cache/kernel-1/vmlinux"}
	h := Host{QEMU: o.QEMU, QEMUVersion: "9.9.9", Accel: "tcg", Why: "no luck", BootSeconds: 2 * boot, BootWork: boot, Pace: then, TSC: 2300000}
	writeCache(cacheFile(o, o.QEMU, "9.9.9", set), &h, func(s string) { t.Error(s) })
	return o, set, func() int { return count }
}

// A probe that was made at a bad moment holds for that moment alone.
func TestTheSlowdownIsThatOfNow(t *testing.T) {
	for _, tt := range []struct {
		what            string
		boot, then, now float64
		want            float64
	}{
		{"as fast as then", 3.5, 1000, 1000, 5},
		{"quick again", 28, 100, 800, 5},
		{"busy by now", 3.5, 1000, 700, 7.1},
		{"much slower than any deadline should be", 28, 1000, 1000, MaxSlowdown},
		{"faster than need be", 0.7, 1000, 2000, 1},
	} {
		t.Run(tt.what, func(t *testing.T) {
			o, set, probes := remembered(t, tt.boot, tt.then)
			o.pace = func() pace.Pace { return pace.Pace{Clock: tt.now} }
			h, err := Detect(t.Context(), o, set)
			if err != nil || h.Slowdown != tt.want || h.BootSeconds != 2*tt.boot || probes() != 0 {
				t.Errorf("%+v, %v after %d probes; want a slowdown of %v", h, err, probes(), tt.want)
			}
		})
	}
}

func TestProbesAreRememberedByWhatTheyDependOn(t *testing.T) {
	o, set, probes := remembered(t, 3.5, 1000)
	if h, err := Detect(t.Context(), o, set); err != nil || h.Accel != "tcg" || h.TSC != 2300000 {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, accel := range []string{"", AutoAccel} {
		same := o
		same.Accel = accel
		if _, err := Detect(t.Context(), same, set); err != nil {
			t.Errorf("accel %q: %v", accel, err)
		}
	}
	if probes() != 0 {
		t.Fatalf("%d probes, though one is remembered", probes())
	}
	touch := func(name string) error { return os.Chtimes(name, time.Time{}, time.Unix(1, 0)) }
	for _, tt := range []struct {
		what   string
		change func(o *Options, set *images.Set) error
	}{
		{"asked to probe again", func(o *Options, _ *images.Set) error { o.Again = true; return nil }},
		{"another wish", func(o *Options, _ *images.Set) error { o.Accel = "tcg"; return nil }},
		{"another kernel", func(_ *Options, set *images.Set) error { set.Kernel = "/cache/kernel-2/vmlinux"; return nil }},
		{"another emulator in its place", func(o *Options, _ *images.Set) error { return touch(o.QEMU) }},
		{"another emulator elsewhere", func(o *Options, _ *images.Set) error { o.QEMU = emulator(t, "exit 1"); return nil }},
		{"another mode of the device", func(o *Options, _ *images.Set) error { return os.Chmod(o.kvm, 0o660) }},
		{"another owner of the device", func(o *Options, _ *images.Set) error {
			if os.Geteuid() != 0 {
				o.Again = true // a user cannot give a file away
				return nil
			}
			return os.Chown(o.kvm, 1, 1)
		}},
		{"no device", func(o *Options, _ *images.Set) error { return os.Remove(o.kvm) }},
		{"a torn file", func(o *Options, set *images.Set) error {
			return os.WriteFile(cacheFile(*o, o.QEMU, "9.9.9", set), []byte(`{"accel":"tcg","pac`), 0o644)
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			o, set, probes := remembered(t, 3.5, 1000)
			if err := tt.change(&o, set); err != nil {
				t.Fatal(err)
			}
			if _, err := Detect(t.Context(), o, set); err == nil || probes() == 0 {
				t.Errorf("%d probes, %v", probes(), err)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	set := &images.Set{KernelRelease: "6.1.0-57-cloud-amd64", KernelSource: "debian package linux"}
	for _, tt := range []struct {
		host     Host
		crowding float64
		line     string
		slowdown float64
	}{
		{Host{QEMUVersion: "7.2.22", Accel: "tcg", Why: "QEMU exited: a long story", Slowdown: 3.6}, 1,
			"QEMU 7.2.22 · kernel 6.1.0-57 · emulated (no KVM: rig doctor) · deadlines x3.6", 3.6},
		{Host{QEMUVersion: "7.2.22", Accel: "tcg", Why: asked, Slowdown: 3.6}, 2, "QEMU 7.2.22 · kernel 6.1.0-57 · emulated · deadlines x7.2", 7.2},
		{Host{QEMUVersion: "9.1.0", Accel: "kvm", Slowdown: 1}, 1, "QEMU 9.1.0 · kernel 6.1.0-57 · KVM · deadlines x1", 1},
		{Host{QEMUVersion: "9.1.0", Accel: "kvm", Slowdown: 8}, 3, "QEMU 9.1.0 · kernel 6.1.0-57 · KVM · deadlines x10", MaxSlowdown},
	} {
		r := tt.host.Record(set, tt.crowding)
		if r.Line != tt.line || r.Slowdown != tt.slowdown || r.Crowding != tt.crowding {
			t.Errorf("%+v, want %s", r, tt.line)
		}
		if !strings.Contains(r.Detail, set.KernelRelease) || !strings.Contains(r.Detail, set.KernelSource) || tt.host.Why != asked && !strings.Contains(r.Detail, tt.host.Why) {
			t.Errorf("the detail lacks something: %s", r.Detail)
		}
	}
	for release, want := range map[string]string{"6.12.3": "6.12.3", "6.12.3+": "6.12.3", "5.15.0-91-generic": "5.15.0-91", "6.1.0-rc3": "6.1.0", "custom": "custom", "": ""} {
		if got := shortRelease(release); got != want {
			t.Errorf("%q: %q, want %q", release, got, want)
		}
	}
}

func TestACacheThatCannotBeWrittenIsNoFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	said := ""
	writeCache(filepath.Join(file, "probe.json"), &Host{}, func(s string) { said = s })
	if !strings.Contains(said, file) {
		t.Errorf("said %q", said)
	}
}

func TestBrief(t *testing.T) {
	err := errors.New("QEMU exited: failed\nAssertion \x1b[31m`ret' failed\n" + strings.Repeat("x", 500))
	if got := brief(err); strings.ContainsAny(got, "\n\x1b") || len([]rune(got)) > 121 || !strings.HasPrefix(got, "QEMU exited: failed Assertion") {
		t.Errorf("%q", got)
	}
}

func TestNetwork(t *testing.T) {
	if err := CheckNetwork(t.Context()); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("this host lets this user build no network: %v", err)
	}
}

func TestFaults(t *testing.T) {
	got, err := CheckFaults(t.Context())
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("this host lets this user build no network: %v", err)
	}
	// What is missing names what to load.
	for _, lack := range []string{got.Filters, got.Netem} {
		if lack != "" && !strings.Contains(lack, "modprobe") {
			t.Errorf("%q does not say what to do", lack)
		}
	}
}
