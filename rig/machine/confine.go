package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An emulator runs code that a guest decides on, and reads what a stranger may
// have recorded. So it is started with less power than the rig has: system calls
// that only an attacker would make are refused by the kernel (QEMU's own
// sandbox), it has an environment of its own, and where the rig is root it has
// none of root's capabilities.

// sandbox has QEMU give up starting programs, gaining privileges, obsolete system
// calls, and setting priorities and processors. It takes a QEMU built with seccomp.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// sandboxWait bounds how long QEMU may take to say its version.
const sandboxWait = 20 * time.Second

// CheckSandbox reports whether a QEMU can confine itself. The error says why not,
// in QEMU's words.
func CheckSandbox(ctx context.Context, qemu string) error {
	ctx, cancel := context.WithTimeout(ctx, sandboxWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-sandbox", sandbox, "--version")
	cmd.Env = environment(os.Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s -sandbox: %w: %s", qemu, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// inherited are the variables that QEMU gets of the rig's environment: how to find
// its libraries and modules, and where temporary files go.
var inherited = []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"}

// environment returns QEMU's environment.
func environment(rig []string) []string {
	own := []string{"LC_ALL=C.UTF-8"}
	for _, variable := range rig {
		if name, _, _ := strings.Cut(variable, "="); slices.Contains(inherited, name) {
			own = append(own, variable)
		}
	}
	return own
}

// startConfined starts a command without root's capabilities and waits for it. started is
// called once, with the error of starting it; ended with that of the command.
//
// The kernel takes a program that root starts for one with all capabilities,
// unless the thread that starts it says otherwise; and a child that dies with its
// parent dies with that thread. So the thread is this command's alone, and ends
// with it.
func startConfined(cmd *exec.Cmd, started, ended func(error)) {
	runtime.LockOSThread() // for good: no other goroutine may run without root's capabilities
	if err := giveUpRoot(cmd); err != nil {
		started(err)
		return
	}
	if err := cmd.Start(); err != nil {
		started(err)
		return
	}
	started(nil)
	ended(cmd.Wait())
}

// giveUpRoot has programs that this thread starts get no capabilities for being
// root's, but one: reading what belongs to the user whose checkout root runs the
// rig in. That one is none where root is an ordinary user in a namespace.
func giveUpRoot(cmd *exec.Cmd) error {
	if os.Geteuid() != 0 {
		return nil
	}
	const noRoot, locked = 1 << 0, 1 << 1 // SECBIT_NOROOT, SECBIT_NOROOT_LOCKED
	err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|locked, 0, 0, 0)
	if err == unix.EPERM {
		return nil // root without CAP_SETPCAP, as in a container: it has little to give up
	}
	if err != nil {
		return fmt.Errorf("give up root's capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var own [2]unix.CapUserData
	if err := unix.Capget(&header, &own[0]); err != nil {
		return fmt.Errorf("look at root's capabilities: %w", err)
	}
	if own[0].Permitted&(1<<unix.CAP_DAC_READ_SEARCH) != 0 {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_DAC_READ_SEARCH}
	}
	return nil
}
