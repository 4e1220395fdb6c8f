// Package netnstest runs a package's tests in a network of their own. It is for tests only.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Of the test program that was started again: it is inside, or what the host said to that.
const (
	envInside  = "NETNSTEST_INSIDE"
	envRefused = "NETNSTEST_REFUSED"
)

// Main is for a package's TestMain. It starts the test program once more, in a user and network namespace of its own, and ends with its status. Where
// the host does not allow that the tests run all the same, and those that call Need are skipped.
func Main(m *testing.M) {
	if os.Getenv(envInside) != "" || os.Getenv(envRefused) != "" {
		os.Exit(m.Run())
	}
	start := func(env string, attr *syscall.SysProcAttr) (*exec.Cmd, error) {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), env)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = attr
		return cmd, cmd.Start()
	}
	cmd, err := start(envInside+"=1", &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	})
	if err != nil {
		cmd, err = start(envRefused+"="+err.Error(), nil)
	}
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Need skips a test that has no network of its own, with what the host said.
func Need(t testing.TB) {
	t.Helper()
	if why := os.Getenv(envRefused); why != "" {
		t.Skipf("this host does not let the test make namespaces: %s", why)
	}
}
