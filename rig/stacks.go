package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dsoftbus-rig/images"
	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/memory"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/scenario"

	"github.com/spf13/cobra"
)

func newStacksCommand() *cobra.Command {
	var binary, core string
	cmd := asks(&cobra.Command{
		Use:   "stacks NODE PROGRAM | stacks FILE [PROGRAM]",
		Short: "Print the goroutines of a program on a node, or in a dump",
		Long: `Stacks prints the goroutines of a program on a node, which runs on.

Of a FILE that ` + "`rig dump`" + ` has written, or a run of a machine whose kernel panicked, it
prints those of all programs of ours that ran there, or of PROGRAM, by its name or
process id. (A file that is named like a node is ./A.) No scenario needs to be alive for that. It takes the programs' binary with debug
information, which must be the one of that machine: -binary FILE; otherwise a file
` + recording.DebugFile + ` beside the dump or above it in the run's folder; otherwise it is made from
the present source.

With -core OUT it writes a core of the one program instead, a new file, and prints
the command that opens it in Delve, which shows variables, too.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && !scenario.ValidNode(args[0]) {
				return checkDump(args, core)
			}
			if len(args) != 2 {
				return usage("stacks: name a node and a program, as in rig stacks A dsoftbusd, or the file of a dump")
			}
			if binary != "" || core != "" {
				return usage("stacks: -binary and -core are for the file of a dump; `rig dump %s FILE` writes one", args[0])
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		text, err := c.Stacks(cmd.Context(), args[0], args[1])
		if err != nil {
			return err
		}
		whole := string(text)
		if !strings.HasSuffix(whole, "\n") {
			whole += "\n"
		}
		show(cmd.OutOrStdout(), whole)
		return nil
	})
	cmd.Flags().StringVar(&binary, "binary", "", "the `FILE` of the programs' binary with debug information, for a dump")
	cmd.Flags().StringVar(&core, "core", "", "write a core of the program to this new `FILE`, for Delve, instead of printing")
	askNode := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if scenario.ValidNode(args[0]) {
			return askNode(cmd, args)
		}
		return classify(cmd.Context(), dumpedStacks(cmd, args[0], slices.Concat(args[1:], []string{""})[0], binary, core))
	}
	return cmd
}

// checkDump says what is wrong with arguments that name a dump.
func checkDump(args []string, core string) error {
	file := args[0]
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return usage("stacks: %s is no node's name, and no dump: %w", file, err)
	case !info.Mode().IsRegular() || !memory.IsCore(file):
		return usage("stacks: %s is no ELF core; name one that `rig dump NODE FILE` has written", file)
	case len(args) > 2:
		return usage("stacks: name a dump and at most one program")
	case core != "" && exists(core):
		return usage("stacks: %s exists; name another file", core)
	case core != "" && len(args) == 1:
		return usage("stacks: -core is of one program; name it, as in rig stacks -core OUT %s dsoftbusd", file)
	}
	return nil
}

// dumpedStacks prints the goroutines of the programs in a dump, or writes a core of one.
func dumpedStacks(cmd *cobra.Command, file, program, binary, core string) error {
	dlv := "dlv"
	if binary == "" {
		binary = debugBinaryOf(file)
	}
	if binary == "" {
		dir, err := project(cmd)
		if err != nil {
			return usage("stacks: no binary with debug information: %w; or name one with -binary", err)
		}
		cfg := images.Config{SourceDir: dir, Log: func(step string) { fmt.Fprintln(cmd.ErrOrStderr(), step) }}
		if core == "" {
			binary, err = images.DebugBinary(cmd.Context(), cfg)
		} else {
			var built *images.Debugger
			if built, err = images.DebuggerFor(cmd.Context(), cfg, false); err == nil {
				binary, dlv = built.Node, built.Dlv
			}
		}
		if err != nil {
			return err
		}
	}
	b, err := memory.OpenBinary(binary)
	if err != nil {
		return usage("%w; -binary names another", err)
	}
	d, err := memory.Open(file)
	if err != nil {
		return usage("%w", err)
	}
	defer d.Close()
	all, unread := d.Programs(b)
	if len(all) == 0 {
		return usage("%w; -binary names another", unread)
	}
	chosen := all
	if program != "" {
		if chosen = programsNamed(all, program); len(chosen) == 0 {
			return usage("stacks: no program %q ran; there were %s", program, listed(all))
		}
	}
	if core == "" {
		err := printStacks(cmd.OutOrStdout(), chosen, program == "" || len(chosen) > 1)
		if program == "" {
			err = errors.Join(err, unread)
		}
		return err
	}
	if len(chosen) > 1 {
		return usage("stacks: several are called %s: %s; name one by its process id", program, listed(chosen))
	}
	if err := chosen[0].WriteCore(core); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s core %s %s\n", machine.Quote(dlv), machine.Quote(binary), machine.Quote(core))
	return nil
}

// printStacks prints as much as can be had, and returns what could not.
func printStacks(out io.Writer, programs []*memory.Program, titles bool) error {
	var errs []error
	for i, p := range programs {
		text, err := p.Stacks()
		errs = append(errs, err)
		if titles {
			if i > 0 {
				fmt.Fprintln(out)
			}
			var args []string
			for _, arg := range p.Args {
				args = append(args, machine.Quote(arg))
			}
			show(out, fmt.Sprintf("== %s, process %d: %s\n\n", ranAs(p.Args), p.PID, strings.Join(args, " ")))
		}
		show(out, string(text))
	}
	return errors.Join(errs...)
}

// programsNamed returns those of a name, or the one of a process id.
func programsNamed(all []*memory.Program, program string) (named []*memory.Program) {
	pid, err := strconv.Atoi(program)
	for _, p := range all {
		if err == nil && p.PID == pid || err != nil && ranAs(p.Args) == program {
			named = append(named, p)
		}
	}
	return named
}

func listed(programs []*memory.Program) string {
	var all []string
	for _, p := range programs {
		all = append(all, fmt.Sprintf("%s (process %d)", ranAs(p.Args), p.PID))
	}
	return strings.Join(all, ", ")
}

// ranAs is which of the programs in the one binary a process was, by its arguments: see package main of nodes/cmd/node.
func ranAs(args []string) string {
	if len(args) == 0 {
		return "?"
	}
	switch name := filepath.Base(args[0]); {
	case name == "uinit":
		return agentapi.AgentUnit // the first program of a machine
	case name == "node" && len(args) > 1:
		return args[1]
	default:
		return name
	}
}

// debugBinaryOf returns the programs' binary with debug information that was left for a dump: beside it, or in a folder above it up to that of the
// run which the dump is a record of. It is "" when there is none.
func debugBinaryOf(dump string) string {
	dump, err := filepath.Abs(dump)
	if err != nil {
		return ""
	}
	isFile := func(elem ...string) bool {
		info, err := os.Stat(filepath.Join(elem...))
		return err == nil && info.Mode().IsRegular()
	}
	var above []string
	last := 0 // of them, the run's folder: the uppermost that has events
	for dir := filepath.Dir(dump); ; dir = filepath.Dir(dir) {
		if isFile(dir, record.EventsFile) {
			last = len(above)
		}
		above = append(above, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range above[:last+1] {
		if isFile(dir, recording.DebugFile) {
			return filepath.Join(dir, recording.DebugFile)
		}
	}
	return ""
}
