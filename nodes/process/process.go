// Package process finds the processes of this machine by their names. It only looks.
package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Proc is where the kernel shows processes.
const Proc = "/proc"

// maxComm is how much of a process's name the kernel keeps.
const maxComm = 15

// Find returns the ids of the processes of a name (comm, of which the kernel keeps 15 bytes), in rising order. proc is Proc, or a folder that looks
// like it.
func Find(proc, name string) ([]int, error) {
	return all(proc, "comm", func(comm string) bool { return strings.TrimSuffix(comm, "\n") == name[:min(len(name), maxComm)] })
}

// all returns the ids of the processes whose file of that name in proc is as wanted, in rising order.
func all(proc, file string, wanted func(content string) bool) ([]int, error) {
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", file))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !wanted(string(content)) {
			continue // or it has ended meanwhile, and is none of those wanted
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
}

// One returns the id of the one process of a name. None, or several, is an error.
func One(proc, name string) (int, error) {
	pids, err := Find(proc, name)
	switch {
	case err != nil:
		return 0, err
	case len(pids) == 0:
		return 0, fmt.Errorf("no process is called %s", name)
	case len(pids) > 1:
		return 0, fmt.Errorf("%d processes are called %s: pids %s", len(pids), name, strings.Trim(fmt.Sprint(pids), "[]"))
	}
	return pids[0], nil
}

// Descriptors returns the numbers of the descriptors that a process has open, in rising order.
func Descriptors(proc string, pid int) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(proc, strconv.Itoa(pid), "fd"))
	if err != nil {
		return nil, err
	}
	fds := make([]int, 0, len(entries))
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("descriptors of process %d: %w", pid, err)
		}
		fds = append(fds, fd)
	}
	slices.Sort(fds)
	return fds, nil
}

// Status returns a field of a process's status (proc(5)), as it stands there: "State" is "S (sleeping)".
func Status(proc string, pid int, field string) (string, error) {
	status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("status of process %d: no field %s", pid, field)
}

// Catches reports whether a process handles a signal itself.
func Catches(proc string, pid, signal int) (bool, error) {
	value, err := Status(proc, pid, "SigCgt")
	if err != nil {
		return false, err
	}
	mask, err := strconv.ParseUint(value, 16, 64)
	if err != nil {
		return false, fmt.Errorf("status of process %d: SigCgt: %w", pid, err)
	}
	return mask>>(signal-1)&1 != 0, nil
}

// Session returns the ids of the processes of a session, which is named by the id of the process that leads it or led it, in rising order. Processes
// that have ended and were not waited for are left out.
func Session(proc string, leader int) ([]int, error) { return members(proc, sessionField, leader) }

// Group returns the ids of the processes of a process group, as Session does of a session.
func Group(proc string, leader int) ([]int, error) { return members(proc, groupField, leader) }

// Fields of a process's stat (proc(5)), counted from the one behind its name.
const (
	stateField = iota
	_          // parent
	groupField
	sessionField
)

// members returns the ids of the processes that have that number in a field of their stat.
func members(proc string, field, number int) ([]int, error) {
	return all(proc, "stat", func(stat string) bool {
		// The second field is the name in parentheses, which may hold anything; state, parent, group and session follow.
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		return len(fields) > sessionField && fields[stateField] != "Z" && fields[field] == strconv.Itoa(number)
	})
}
