package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func newDoctorCommand() *cobra.Command {
	var f machineFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Show what this host can do, and what it lacks",
		Long: `Doctor looks for everything that running machines needs, tries it, and says what
to install or change where something is missing. Its exit status is 0 when
scenarios can run here, else 3.

How long a machine takes to boot is measured once for each boot of the host,
emulator and kernel; how busy the host is, each time. With -remeasure doctor
boots a machine again, and what it measures then holds for later runs, too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return classify(cmd.Context(), doctor(cmd.Context(), cmd, f))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.again, "remeasure", false, "measure how fast machines boot again")
	return cmd
}

func doctor(ctx context.Context, cmd *cobra.Command, f machineFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	lacking := 0
	say := func(state, what, text string) { fmt.Fprintf(out, "%-8s %-13s %s\n", state, what, text) }
	missing := func(what string, err error) {
		all := []error{err}
		var several *multierror.Error
		if errors.As(err, &several) {
			all = several.Errors
		}
		for _, err := range all {
			lacking++
			say("missing", what, err.Error())
		}
	}
	version, err := host.QEMUVersion(ctx, f.qemu)
	if err != nil {
		missing("qemu", err)
	} else {
		say("ok", "qemu", version)
	}
	network, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := host.CheckNetwork(network); err != nil {
		missing("network", err)
	} else {
		say("ok", "network", "namespaces, bridge and taps can be made")
		faults, err := host.CheckFaults(network)
		switch {
		case err != nil:
			missing("faults", err)
		case faults.Filters != "":
			say("lacking", "faults", "no `block`, `partition` and `link down`, which end their scenario: "+faults.Filters)
		default:
			say("ok", "faults", "frames can be dropped on the bridge")
		}
		switch {
		case err != nil:
		case faults.Netem != "":
			say("lacking", "impairments", "the node's own kernel does `link delay=…`: "+faults.Netem)
		default:
			say("ok", "impairments", "the host's kernel has netem")
		}
	}
	silent := func(step string) { fmt.Fprintln(cmd.ErrOrStderr(), step) }
	set, err := f.build(cmd, silent)
	if err != nil {
		missing("images", err)
	} else {
		say("ok", "images", fmt.Sprintf("kernel %s (%s)", set.KernelRelease, set.KernelSource))
	}
	if set != nil && version != "" {
		h, err := f.detect(cmd, set, silent)
		switch {
		case err != nil:
			missing("machines", err)
		case h.Accel == "kvm":
			say("ok", "acceleration", "kvm works")
		default:
			say("slow", "acceleration", "software emulation: "+h.Why)
		}
		switch {
		case h == nil:
		case h.Sandbox != "":
			say("lacking", "sandbox", "QEMU does not confine itself (one built with seccomp does): "+h.Sandbox)
		default:
			say("ok", "sandbox", "QEMU gives up starting programs and gaining privileges")
		}
		if h != nil {
			say("ok", "speed", fmt.Sprintf("a machine's boot is %.1fs of work; deadlines are x%.3g at the moment", h.BootWork, h.Slowdown))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if lacking > 0 {
		return &exitError{record.ExitUnsupported, errors.New("this host cannot run scenarios yet: see what is missing")}
	}
	fmt.Fprintln(out, "this host can run scenarios")
	return nil
}
