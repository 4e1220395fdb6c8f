package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"
)

// Suite are the scenarios a minute over all of the project's that do not wait on purpose, each played once. The time is that of the
// whole program, from making the record to the last verdict.
type Suite struct {
	Scenarios []string `json:"scenarios"`
	OneJob    *Pace    `json:"one_job,omitempty"`      // one scenario at a time
	Default   *Pace    `json:"default_jobs,omitempty"` // as many at a time as `rig run` thinks best
}

// A Pace is how fast scenarios were played.
type Pace struct {
	Seconds   float64 `json:"seconds"`
	PerMinute float64 `json:"scenarios_per_minute"`
}

const (
	// scenarioWait is how long the suite may take for each of its scenarios, before scaling.
	scenarioWait = 30 * time.Second
	// suiteGrace is how long a suite that was interrupted may take to end: its worker ends within a second.
	suiteGrace = 5 * time.Second
)

// measureSuite runs the program itself, so that what is measured is all that a person waits for.
func measureSuite(ctx context.Context, p *player, r *Report) error {
	r.Suite = &Suite{Scenarios: brisk(p.cfg.Items)}
	if len(r.Suite.Scenarios) == 0 {
		return errors.New("every scenario waits on purpose")
	}
	p.cfg.Log(fmt.Sprintf("suite: %d scenarios, one at a time", len(r.Suite.Scenarios)))
	var err error
	if r.Suite.OneJob, err = p.pace(ctx, "one", []string{"-j", "1"}, r.Suite.Scenarios); err != nil {
		return err
	}
	p.cfg.Log(fmt.Sprintf("suite: %d scenarios, as many at a time as is the default", len(r.Suite.Scenarios)))
	r.Suite.Default, err = p.pace(ctx, "default", nil, r.Suite.Scenarios)
	return err
}

// brisk returns the names of the scenarios that do not wait on purpose.
func brisk(items []suite.Item) []string {
	var names []string
	for _, item := range items {
		if !item.Script.Lingers() {
			names = append(names, item.Name)
		}
	}
	return names
}

// pace plays scenarios with `rig run`, which has to end green.
func (p *player) pace(ctx context.Context, label string, options, names []string) (*Pace, error) {
	within := p.cfg.scaled(time.Duration(len(names)) * scenarioWait)
	late := fmt.Errorf("not within %s", within)
	limited, cancel := context.WithTimeoutCause(ctx, within, late)
	defer cancel()
	runs := filepath.Join(p.dir, "suite-"+label)
	args := append(append(append([]string{}, p.cfg.Run[1:]...), "-runs", runs), options...)
	status, said, err := runCommand(limited, p.cfg.Run[0], append(args, names...))
	switch {
	case limited.Err() != nil:
		return nil, fmt.Errorf("play the suite: %w", context.Cause(limited))
	case err != nil:
		return nil, fmt.Errorf("play the suite: %w", err)
	}
	rec, err := record.Load(filepath.Join(runs, record.LatestLink))
	if err != nil {
		return nil, fmt.Errorf("play the suite: exit status %d, %w; it said:\n%s", status, err, said)
	}
	s := rec.Summary
	if status != record.ExitGreen || len(s.Scenarios) != len(names) || s.Counts[record.Passed] != len(names) || s.Seconds <= 0 {
		return nil, fmt.Errorf("play the suite: exit status %d, %d of %d scenarios passed; it said:\n%s", status, s.Counts[record.Passed], len(names), said)
	}
	return &Pace{Seconds: s.Seconds, PerMinute: float64(len(names)) / s.Seconds * 60}, nil
}

// runCommand runs a program to its end and returns its exit status and the last lines it printed. When ctx ends it is asked to end.
func runCommand(ctx context.Context, name string, args []string) (status int, said string, err error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = suiteGrace
	// Ctrl-C is this program's alone, which passes it on; and the suite does not outlive it, whatever ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ended := make(chan error, 1)
	go func() {
		// The kernel ties "die with your parent" to the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	}()
	err = <-ended
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	said = strings.Join(lines[max(0, len(lines)-20):], "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), said, nil
	}
	return 0, said, err
}
