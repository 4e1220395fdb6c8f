package hostile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dsoftbus-rig/nodes/process"
)

// memory looks at each process of a name in /proc.
func memory(_ context.Context, r *request) (string, error) {
	pids, err := process.Find(process.Proc, r.program)
	if err != nil {
		return "", err
	}
	found, peak, descriptors := 0, 0, 0
	for _, pid := range pids {
		// A process may end at any time, and then it is none of those wanted.
		status, err := os.ReadFile(filepath.Join(process.Proc, strconv.Itoa(pid), "status"))
		if err != nil {
			continue
		}
		kib, err := field(string(status), "VmHWM:")
		if err != nil {
			return "", err
		}
		fds, err := process.Descriptors(process.Proc, pid)
		if err != nil {
			return "", err
		}
		found, peak, descriptors = found+1, max(peak, kib), max(descriptors, len(fds))
	}
	if found == 0 {
		return "", fmt.Errorf("no process is called %s", r.program)
	}
	facts := fmt.Sprintf("program=%s peak_kib=%d descriptors=%d", r.program, peak, descriptors)
	if peak > r.most<<10 {
		return "", fmt.Errorf("more than %d MiB: %s", r.most, facts)
	}
	return facts, nil
}

// field gives the number of a line in kB.
func field(status, name string) (int, error) {
	for line := range strings.Lines(status) {
		if words := strings.Fields(line); len(words) >= 2 && words[0] == name {
			return strconv.Atoi(words[1])
		}
	}
	return 0, fmt.Errorf("no %s in a process's status", name)
}
