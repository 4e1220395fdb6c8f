package replay

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"dsoftbus-rig/rig/machine"
)

// A replay that lacks an input stands still at full speed: the processor waits for what the log does not have. Since a busy host makes everything late,
// it is the processor time of QEMU that is counted; one that uses none, either, has at most stalledIdle.
const (
	stalledBusy = 10 * time.Second // of QEMU's processor time; see Options.stalled
	stalledIdle = time.Minute
	// stalledIdleCPU is more than answering the rig takes in that time, and less than a replay that a busy host keeps waiting gets.
	stalledIdleCPU = time.Second
)

// clockTicks is in what part of a second /proc/PID/stat counts: USER_HZ, which is 100 on every architecture that QEMU runs on.
const clockTicks = 100

// A StalledError says that a replay does not go on.
type StalledError struct {
	Node         string
	Instructions int64
	Share        float64 // of the log
	CPU, Since   time.Duration
	Last         []Line
}

// errNoProgress is what all of them are.
var errNoProgress = errors.New("the replay does not go on")

func (e *StalledError) Is(target error) bool { return target == errNoProgress }

func (e *StalledError) Error() string {
	text := fmt.Sprintf("replay node %s: it does not go on at instruction %d, with %.1f %% of the log read: for %s, in which QEMU has used %s of processor time. "+
		"The machine waits for an input that is not in its recording, or computes what it did not then: QEMU, its arguments, or the host's processor are not those of the "+
		"recording, or QEMU does not record what this machine does. `rig replay -until instruction:%d` stops just before; -dump and -gdb look at it there",
		e.Node, e.Instructions, 100*e.Share, e.Since.Round(time.Second), e.CPU.Round(time.Second), max(e.Instructions-1, 0))
	for _, l := range e.Last {
		text += "\n           " + l.String()
	}
	return text
}

// A sample is where a replay was when somebody looked.
type sample struct {
	offset       int64 // in the log
	instructions int64 // as far as QEMU has answered
	cpu          time.Duration
	time         time.Time
}

// errStalled carries a sample, that of the last time the replay was seen to have gone on, and the present one.
type errStalled struct{ moved, now sample }

func (*errStalled) Error() string { return "stalled" }

// A watch looks at how far a machine is, and whether it goes on.
type watch struct {
	m     *machine.Machine
	log   string
	busy  time.Duration // of processor time, after which it has stalled
	fd    string        // its file in /proc
	last  sample        // the last one
	moved sample        // the last one that was further than the one before it
}

func newWatch(m *machine.Machine, log string, busy time.Duration) watch {
	if busy == 0 {
		busy = stalledBusy
	}
	return watch{m: m, log: log, busy: busy}
}

// begin says that the machine goes on, from that many instructions.
func (w *watch) begin(instructions int64) {
	w.last.instructions = instructions
	w.moved = w.last
	w.moved.time = time.Now()
	if cpu, err := cpuTime(w.m.Pid()); err == nil {
		w.moved.cpu = cpu
	}
}

// look looks, at a machine of which QEMU has last said that it has executed so many instructions. The error is an *errStalled, or that of looking.
func (w *watch) look(instructions int64) (now sample, err error) {
	now = sample{time: time.Now(), instructions: instructions}
	if now.offset, err = w.offset(); err != nil {
		return now, w.m.Cause(err)
	}
	if now.cpu, err = cpuTime(w.m.Pid()); err != nil {
		return now, w.m.Cause(err)
	}
	if now.offset != w.last.offset || now.instructions != w.last.instructions {
		w.moved = now
	}
	w.last = now
	if now.cpu-w.moved.cpu >= w.busy || now.time.Sub(w.moved.time) >= stalledIdle && now.cpu-w.moved.cpu < stalledIdleCPU {
		return now, &errStalled{w.moved, now}
	}
	return now, nil
}

// stalled is the error of a watch, for people.
func (p *Player) stalled(err error) error {
	s, ok := errors.AsType[*errStalled](err)
	if !ok {
		return err
	}
	return &StalledError{
		Node: p.life.Node, Instructions: s.now.instructions, Share: p.progress(s.now).Share,
		CPU: s.now.cpu - s.moved.cpu, Since: s.now.time.Sub(s.moved.time), Last: p.LastLines(),
	}
}

// offset is how much of its log QEMU has read, to its buffer's size of 4 KiB.
func (w *watch) offset() (int64, error) {
	proc := filepath.Join("/proc", strconv.Itoa(w.m.Pid()))
	if w.fd == "" {
		log, err := filepath.EvalSymlinks(w.log)
		if err == nil {
			log, err = filepath.Abs(log)
		}
		if err != nil {
			return 0, err
		}
		entries, err := os.ReadDir(filepath.Join(proc, "fd"))
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(proc, "fd", e.Name())); err == nil && to == log {
				w.fd = e.Name()
			}
		}
		if w.fd == "" {
			return 0, fmt.Errorf("QEMU, process %d, does not have its log %s open", w.m.Pid(), log)
		}
	}
	info, err := os.ReadFile(filepath.Join(proc, "fdinfo", w.fd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		if value, ok := bytes.CutPrefix(line, []byte("pos:")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/fdinfo/%s has no position", w.m.Pid(), w.fd)
}

// cpuTime is what a process has used of processors.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The second field, the name, is in parentheses and may hold anything. The 14th and 15th are user and system time.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}
