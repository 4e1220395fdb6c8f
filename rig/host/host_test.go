package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/images"
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

func TestProbesAreRememberedByWhatTheyDependOn(t *testing.T) {
	dir := t.TempDir()
	o := Options{CacheDir: dir, Log: func(s string) { t.Error(s) }}.withDefaults()
	set := &images.Set{Kernel: "/cache/kernel-1/vmlinux"}
	name := cacheFile(o, "7.2.22", set)
	if _, ok := readCache(name); ok {
		t.Fatal("something is there before anything was written")
	}
	want := Host{QEMU: "/usr/bin/qemu", QEMUVersion: "7.2.22", Accel: "tcg", Why: "asked for", BootSeconds: 3.5, Slowdown: 5, TSC: 2300000}
	writeCache(name, &want, o.Log)
	if got, ok := readCache(name); !ok || *got != want {
		t.Fatalf("read %+v, %t", got, ok)
	}
	for accel, same := range map[string]bool{AutoAccel: true, "": true, "tcg": false} {
		o := Options{CacheDir: dir, Accel: accel}.withDefaults()
		if got := cacheFile(o, "7.2.22", set) == name; got != same {
			t.Errorf("accel %q has the file of %q: %t, want %t", accel, AutoAccel, got, same)
		}
	}
	for what, other := range map[string]string{
		"QEMU":         cacheFile(o, "7.2.23", set),
		"kernel":       cacheFile(o, "7.2.22", &images.Set{Kernel: "/cache/kernel-2/vmlinux"}),
	} {
		if other == name {
			t.Errorf("another %s, the same file", what)
		}
	}
	if err := os.WriteFile(name, []byte(`{"accel":"tcg","slowdo`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := readCache(name); ok {
		t.Error("a torn file was believed")
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
