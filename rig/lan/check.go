package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// A HostError is something this host lacks or does not allow, with what to do about it.
type HostError struct {
	Problem string
	Next    string
	Err     error // from the system; may be nil
}

func (e *HostError) Error() string {
	s := e.Problem
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + " (" + e.Next + ")"
}

func (e *HostError) Unwrap() error { return e.Err }

// Check tells whether this host lets its user build the network, without making anything that stays: the tun device, and namespaces for a
// child process. All that is missing is in the error, each as a *HostError. tun "" means DefaultTun.
//
// A host may allow the namespace and then refuse what is done in it (Ubuntu's AppArmor rules do): only Probe is proof.
func Check(ctx context.Context, tun string) error {
	var errs *multierror.Error
	if err := CheckTun(tun); err != nil {
		errs = multierror.Append(errs, err)
	}
	if err := CheckNamespaces(ctx); err != nil {
		errs = multierror.Append(errs, err)
	}
	return errs.ErrorOrNil()
}

// Probe is the proof: it makes the network with one port in the current, fresh namespace, opens the port and takes all away again.
func Probe(ctx context.Context, cfg Config) (err error) {
	l, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := l.Close(); cerr != nil {
			err = multierror.Append(err, cerr)
		}
	}()
	p, err := l.AddPort("probe")
	if err != nil {
		return err
	}
	f, err := p.Open()
	if err != nil {
		return err
	}
	return f.Close()
}

// CheckTun tells whether the tun device is there, is one, and may be opened. "" means DefaultTun.
func CheckTun(path string) error {
	if path == "" {
		path = DefaultTun
	}
	fd, err := openTun(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.IoctlGetInt(fd, unix.TUNGETFEATURES); err != nil {
		return &HostError{Problem: path + " is not a tun device", Next: "remove it and let the kernel make it: `modprobe tun`", Err: err}
	}
	return nil
}

// openTun opens the tun device itself, not yet attached to any link.
func openTun(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT):
		err = &HostError{Problem: path + " is missing", Next: "load the driver: `modprobe tun`; in a container start it with --device " + DefaultTun, Err: err}
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		err = &HostError{Problem: path + " has no driver", Next: "load it: `modprobe tun`", Err: err}
	case errors.Is(err, unix.EACCES):
		err = &HostError{Problem: "no permission for " + path, Next: "let every user open it, as most distributions do: `chmod 0666 " + path + "`", Err: err}
	case errors.Is(err, unix.EPERM):
		err = &HostError{Problem: "no permission for " + path, Next: "in a container start it with --device " + DefaultTun, Err: err}
	default:
		err = fmt.Errorf("open %s: %w", path, err)
	}
	return -1, err
}

// CheckCapability tells whether this process may change the network of the namespace it is in.
func CheckCapability() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return noCapability(nil)
	}
	return nil
}

func noCapability(err error) error {
	return &HostError{
		Problem: "no permission to change the network of this namespace (CAP_NET_ADMIN)",
		Next: "where AppArmor restricts user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; " +
			"in a container start it with --cap-add NET_ADMIN; or run as root",
		Err: err,
	}
}

// explainNetlink turns the kernel's refusal into a HostError.
func explainNetlink(err error) error {
	var host *HostError
	if errors.Is(err, unix.EPERM) && !errors.As(err, &host) {
		return noCapability(err)
	}
	return err
}

// CheckNamespaces tells whether this process can start others in network and PID namespaces of their own (and, when it is not root, in a user
// namespace), by starting one that does nothing.
func CheckNamespaces(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("check namespaces: %w", context.Cause(ctx))
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &HostError{
			Problem: "no permission to make namespaces",
			Next: "on Debian: `sysctl kernel.unprivileged_userns_clone=1`; on Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; " +
				"in a container start it with --cap-add SYS_ADMIN --cap-add NET_ADMIN; or run as root",
			Err: err,
		}
	case errors.Is(err, unix.ENOSPC):
		return &HostError{
			Problem: "no namespace is left",
			Next:    "raise the limits: `sysctl user.max_user_namespaces=15000 user.max_net_namespaces=15000 user.max_pid_namespaces=15000`",
			Err:     err,
		}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return &HostError{Problem: "this kernel has no namespaces", Next: "use a kernel with CONFIG_NET_NS, CONFIG_PID_NS and CONFIG_USER_NS", Err: err}
	}
	return fmt.Errorf("check namespaces: %w", err)
}
