package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsoftbus-rig/rig/bench"
	"dsoftbus-rig/rig/record"
)

// startBench starts `rig bench`, with a folder of its own for temporary files, in which nothing may be left.
func startBench(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bufio.Reader, stdout *bytes.Buffer) {
	t.Helper()
	needQEMU(t)
	temp := t.TempDir()
	stdout = new(bytes.Buffer)
	cmd = exec.Command(rigBinary, append([]string{"bench"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.Stdout = stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return cmd, bufio.NewReader(pipe), stdout
}

// endBench reads what is left on stderr and returns the exit status.
func endBench(t *testing.T, cmd *exec.Cmd, stderr *bufio.Reader) (status int, said string) {
	t.Helper()
	var rest bytes.Buffer
	if _, err := stderr.WriteTo(&rest); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), rest.String()
}

// The figures are there and agree with each other; how large they are is the host's matter.
func TestBench(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	cmd, stderr, stdout := startBench(t, "-rounds", "2", "-only", "pair,memory,roundtrip", "-json", file)
	status, said := endBench(t, cmd, stderr)
	if status == record.ExitUnsupported {
		t.Skip(said)
	}
	if status != record.ExitGreen {
		t.Fatalf("exit status %d:\n%s%s", status, said, stdout)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != bench.Schema || r.Pair == nil || r.Memory == nil || r.Roundtrip == nil || r.Suite != nil || r.Link != nil || r.Host.Cores < 1 || r.Host.Line == "" {
		t.Fatalf("report:\n%s", data)
	}
	figures := map[string]*bench.Samples{
		"cold": r.Pair.Cold, "warm": r.Pair.Warm, "boot": r.Pair.WarmPhases["boot"], "configure": r.Pair.WarmPhases["configure"],
		"teardown": r.Pair.Teardown, "two": r.Memory.Idle.Two, "three": r.Memory.Idle.Three, "further": r.Memory.Idle.Further,
		"whole": r.Roundtrip.Whole, "script": r.Roundtrip.Phases["script"], "services": r.Roundtrip.Phases["services"],
	}
	for name, s := range figures {
		if s == nil || len(s.Samples) != 2 || s.Min <= 0 || s.Min > s.Median || s.Median > s.P95 || s.P95 > s.Max {
			t.Fatalf("%s: %+v", name, s)
		}
	}
	for i, warm := range r.Pair.Warm.Samples {
		parts := r.Pair.WarmPhases["boot"].Samples[i] + r.Pair.WarmPhases["configure"].Samples[i]
		if diff := warm - parts; diff > 1e-6 || diff < -1e-6 {
			t.Errorf("round %d: %f, its parts %f", i, warm, parts)
		}
		if further := r.Memory.Idle.Three.Samples[i] - r.Memory.Idle.Two.Samples[i]; further != r.Memory.Idle.Further.Samples[i] {
			t.Errorf("round %d: a clone adds %f, not %f", i, further, r.Memory.Idle.Further.Samples[i])
		}
		if r.Roundtrip.Whole.Samples[i] <= r.Roundtrip.Phases["script"].Samples[i] {
			t.Errorf("round %d: the script took longer than the whole", i)
		}
	}
	if r.Pair.ColdOverWarm != r.Pair.Cold.Median/r.Pair.Warm.Median || r.Pair.ColdOverWarm <= 1 {
		t.Errorf("cold over warm %f", r.Pair.ColdOverWarm)
	}
	if len(r.Targets) != 5 || !strings.Contains(stdout.String(), "targets reached") {
		t.Errorf("%d targets:\n%s", len(r.Targets), stdout)
	}
}

// An interrupt ends it at once, and prints what there is.
func TestBenchIsInterrupted(t *testing.T) {
	cmd, stderr, stdout := startBench(t, "-only", "pair,memory", "-rounds", "1000")
	for {
		line, err := stderr.ReadString('\n')
		if err != nil {
			status, _ := endBench(t, cmd, stderr)
			if status == record.ExitUnsupported {
				t.Skip("this host cannot run machines: see `rig doctor`")
			}
			t.Fatalf("it ended with %d before it measured anything: %v", status, err)
		}
		if strings.HasPrefix(line, "pair: ") {
			break
		}
	}
	fds, _ := offspring(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	status, said := endBench(t, cmd, stderr)
	if status != record.ExitInterrupted || !strings.Contains(said, "rig: interrupted") || strings.Contains(said, "memory: ") {
		t.Errorf("exit status %d, it said:\n%s", status, said)
	}
	if !strings.Contains(stdout.String(), "pair is not complete: interrupted") {
		t.Errorf("it printed:\n%s", stdout)
	}
	gone(t, fds)
}

func TestBenchStatus(t *testing.T) {
	missed := []bench.Target{{Reached: true}, {Reached: false}}
	broken := []bench.GroupError{{Group: bench.GroupLink}}
	for _, tt := range []struct {
		report bench.Report
		check  bool
		want   int
	}{
		{bench.Report{Targets: missed}, false, record.ExitGreen},
		{bench.Report{Targets: missed}, true, record.ExitFailed},
		{bench.Report{Targets: missed[:1]}, true, record.ExitGreen},
		{bench.Report{Errors: broken}, false, record.ExitBroken},
		{bench.Report{Targets: missed, Errors: broken}, true, record.ExitBroken},
	} {
		if got := benchStatus(&tt.report, tt.check); got != tt.want {
			t.Errorf("%+v with -check %t: %d, want %d", tt.report, tt.check, got, tt.want)
		}
	}
}
