package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

// program returns a line that makes a program of machine code on node A, as /tmp/fault: an ELF file of one segment, which begins with its headers.
func program(code string) string {
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, half := range []uint16{2, 62} { // executable, x86-64
		b = le.AppendUint16(b, half)
	}
	b = le.AppendUint32(b, 1)
	for _, at := range []uint64{base + headers, 64, 0} { // entry, program headers, sections
		b = le.AppendUint64(b, at)
	}
	b = le.AppendUint32(b, 0)
	for _, half := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, half)
	}
	size := uint64(headers + len(code))
	b = le.AppendUint32(le.AppendUint32(b, 1), 5) // loaded, readable and executable
	for _, field := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, field)
	}
	var octal strings.Builder
	for _, c := range append(b, code...) {
		fmt.Fprintf(&octal, `\%03o`, c)
	}
	return "exec A gosh -c 'printf \"" + octal.String() + "\" > /tmp/fault; chmod +x /tmp/fault'\n"
}

// Reports that a machine can be brought to make: each ends the scenario with its class, and its line is what the failure means; with an `allow` the scenario goes on.
func TestReportsOfAMachineEndTheScenario(t *testing.T) {
	const memory = "exec A gosh -c 'mkdir /tmp/m; mount -t tmpfs -o size=400M none /tmp/m; dd if=/dev/zero of=/tmp/m/x bs=1048576 count=390'\n"
	for name, c := range map[string]struct {
		script string
		reason record.Reason
		line   string // in the failure's first line
	}{
		"out of memory":       {memory, record.OutOfMemory, "Out of memory: Killed process"},
		"segmentation fault":  {program("\x31\xc0\x8b\x00") + "! exec A /tmp/fault\n", record.ProgramFault, "segfault at 0"},
		"illegal instruction": {program("\x0f\x0b") + "! exec A /tmp/fault\n", record.ProgramFault, "trap invalid opcode"},
		"division by zero":    {program("\x31\xc9\xf7\xf1") + "! exec A /tmp/fault\n", record.ProgramFault, "trap divide error"},
		"privileged":          {program("\xf4") + "! exec A /tmp/fault\n", record.ProgramFault, "general protection fault"},
		"a kernel's warning":  {"exec A gosh -c 'echo \"<4>WARNING: CPU: 0 PID: 93 at net/core/dev.c:1 f+0x1\" > /dev/kmsg'\n", record.KernelWarning, "net/core/dev.c:1"},
		"a hung task":         {"exec A gosh -c 'echo \"<3>INFO: task x:93 blocked for more than 120 seconds.\" > /dev/kmsg'\n", record.HungTask, "task x:93"},
		"a caller":            {"exec A gosh -c 'echo \"[   12.3][   T93] BUG: KASAN: slab-use-after-free in f+0x1/0x2\" > /dev/console'\n", record.KASAN, "KASAN"},
		"no newline in front": {"exec A gosh -c 'printf \"a prompt> [   17.79] BUG: Bad page state in process x\\n\" > /dev/console'\n", record.KernelBug, "Bad page state"},
		"a data race":         {"exec A gosh -c 'echo \"WARNING: DATA RACE\" >&2'\n", record.DataRace, "WARNING: DATA RACE"},
		"a sanitizer":         {"exec A gosh -c 'echo \"==93==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\" >&2'\n", record.Sanitizer, "heap-use-after-free"},
		"glued to other text": {"exec A gosh -c 'printf \"1 of 2panic: x\\n\\ngoroutine 1 [running]:\\nmain.main()\\n\" >&2'\n", record.GoPanic, "1 of 2panic: x"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRun(t, "# It is broken.\nup -only A\n"+c.script+"marker -within 24h A never\n")
			f := r.failure(record.ExitFailed, record.Failed, c.reason, "A")
			if !strings.Contains(f.Headline(), c.line) {
				t.Errorf("it means %q, want %q", f.Headline(), c.line)
			}
		})
	}
	t.Run("allowed", func(t *testing.T) {
		r := startRun(t, "# It is broken on purpose.\nallow 'segfault at 0 '\nallow 'Out of memory: Killed process .*dd'\nup -only A\n"+program("\x31\xc0\x8b\x00")+
			"! exec A /tmp/fault\nmarker A 'segfault at 0'\n! "+memory+"marker A 'Out of memory'\nexec A true\n")
		if status := r.end(); status != record.ExitGreen {
			t.Fatalf("exit status %d", status)
		}
	})
}

// A report whose end comes behind the last step is not lost.
func TestAReportBehindTheLastStep(t *testing.T) {
	r := startRun(t, "# It is broken in the end.\nup -only A\nexec A gosh -c 'echo \"<3>BUG: late\" > /dev/kmsg'\n")
	r.failure(record.ExitFailed, record.Failed, record.KernelBug, "A")
}

// A program that prints its node's private key fails the scenario, wherever it was cut; the key is told nowhere.
func TestPrintedKeysFailTheScenario(t *testing.T) {
	for name, script := range map[string]string{
		"as it is":     "exec B cat /etc/dsoftbus/device.json\n",
		"over a cut":   "exec B gosh -c 'printf %065500d 0; cat /etc/dsoftbus/device.json'\n",
		"to a console": "exec B gosh -c 'cat /etc/dsoftbus/device.json > /dev/console'\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := startRun(t, "# It prints a key.\nup -only\n"+script)
			f := r.failure(record.ExitFailed, record.Failed, record.KeyLeaked, "B")
			if !strings.Contains(f.Message, "the private key of node B") || !strings.Contains(f.Message, "B/") {
				t.Errorf("message %q", f.Message)
			}
		})
	}
}

// Faults that were over when a step failed are no evidence of anything.
func TestFaultsThatAreOver(t *testing.T) {
	r := startRun(t, "# All is mended.\nup\npause B\ncrash B\nup B\nreset B\nlink -maybe B down\nlink B up\nmarker -within 100ms A '^never$'\n")
	if f := r.failure(record.ExitFailed, record.Failed, record.MarkerTimeout, "A"); len(f.Evidence) > 0 {
		t.Errorf("evidence %q", f.Evidence)
	}
}

// A host that lets the rig open too few files is what is named, whichever of them is the one too many.
func TestTooFewOpenFiles(t *testing.T) {
	needQEMU(t)
	named := 0
	for files := 8; files <= 44; files += 4 {
		dir := t.TempDir()
		file := filepath.Join(dir, "test.txtar")
		if err := os.WriteFile(file, []byte("# Looks.\nup -only\nexec A true\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		runs := filepath.Join(dir, "runs")
		ctx, cancel := context.WithTimeout(t.Context(), runLimit)
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, files), "sh", rigBinary, "run", "-runs", runs, file)
		said, err := cmd.CombinedOutput()
		cancel()
		rec, loadErr := record.Load(filepath.Join(runs, record.LatestLink))
		if err == nil {
			break // it is enough
		}
		if loadErr != nil {
			if !strings.Contains(string(said), "too many open files") {
				t.Errorf("with %d files there is no record, and it says: %s", files, said)
			}
			continue
		}
		f := rec.Summary.Failure
		for _, s := range rec.Summary.Scenarios {
			if s.Failure != nil {
				f = s.Failure
			}
		}
		if f == nil || f.Reason != record.HostExhausted || !strings.Contains(f.Message, "open files") || rec.Summary.Exit != record.ExitBroken {
			t.Errorf("with %d files: %+v\n%s", files, f, said)
			continue
		}
		named++
	}
	if named == 0 {
		t.Error("no limit was met")
	}
}

// A disk that is full before all is written that nodes print ends the scenario, with a class of its own.
func TestAFullDisk(t *testing.T) {
	needQEMU(t)
	dir := t.TempDir()
	file, runs := filepath.Join(dir, "test.txtar"), filepath.Join(dir, "runs")
	if err := os.WriteFile(file, []byte("# Prints much.\nup -only A\nexec A gosh -c 'dd if=/dev/zero bs=65536 count=64; echo end'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(runs, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	const mounted = `mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"`
	cmd := exec.CommandContext(ctx, "unshare", "-r", "-m", "sh", "-c", mounted, "sh", runs, rigBinary, "run", "-runs", runs, file)
	said, err := cmd.CombinedOutput()
	if strings.Contains(string(said), "unshare failed") || strings.Contains(string(said), "mount:") {
		t.Skipf("this host does not let the test mount a disk of its own: %s", said)
	}
	if err == nil || cmd.ProcessState.ExitCode() != record.ExitBroken || !strings.Contains(string(said), "host-exhausted") || !strings.Contains(string(said), "disk space") {
		t.Errorf("%v:\n%s", err, said)
	}
}
