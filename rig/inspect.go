package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dsoftbus-rig/rig/live"

	"github.com/spf13/cobra"
)

func newQMPCommand() *cobra.Command {
	return asks(&cobra.Command{
		Use:   "qmp NODE COMMAND [JSON]",
		Short: "Execute a command of QEMU's machine protocol on a node's machine",
		Long: `Qmp executes a command of QEMU's machine protocol (QMP) on a node's machine, with
arguments as a JSON object or without any, and prints what it returns, as in

    rig qmp A query-status
    rig qmp A human-monitor-command '{"command-line": "info registers"}'

The rig is not told what that changes. A scenario that was asked so cannot pass any
more, only be repaired.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 && len(args) != 3 {
				return usage("qmp: name a node and a command, as in rig qmp A query-status")
			}
			var object map[string]json.RawMessage
			if len(args) == 3 {
				if err := json.Unmarshal([]byte(args[2]), &object); err != nil || object == nil {
					return usage("qmp: the arguments %s are no JSON object, as in '{\"command-line\": \"info registers\"}'", args[2])
				}
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		var arguments json.RawMessage
		if len(args) == 3 {
			arguments = json.RawMessage(args[2])
		}
		result, err := c.QMP(cmd.Context(), args[0], args[1], arguments)
		if err != nil {
			return err
		}
		if len(result) == 0 {
			result = json.RawMessage("{}") // what QEMU returns for nothing
		}
		var b bytes.Buffer
		if err := json.Indent(&b, result, "", "  "); err != nil {
			return fmt.Errorf("qmp: the result is no JSON: %w", err)
		}
		show(cmd.OutOrStdout(), b.String()+"\n")
		return nil
	})
}

func newDumpCommand() *cobra.Command {
	return asks(&cobra.Command{
		Use:   "dump NODE [FILE]",
		Short: "Write the memory of a node's machine to a file, an ELF core",
		Long: `Dump writes the memory of a node's machine to a file on this host, by default
dump-NODE-TIME.core in the current folder: an ELF core, as crash, gdb and rig stacks
read it. The machine stands still meanwhile. A file that exists is left alone.`,
		Args: cobra.RangeArgs(1, 2),
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		// Its name becomes one of a file.
		if err := node(cmd, c, args[0]); err != nil {
			return err
		}
		name := fmt.Sprintf("dump-%s-%s.core", args[0], time.Now().Format("20060102-150405"))
		if len(args) == 2 {
			name = args[1]
		}
		file, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(file); err == nil {
			return usage("dump: %s exists; name another file", name)
		}
		if err := c.Dump(cmd.Context(), args[0], file); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), name)
		return nil
	})
}
