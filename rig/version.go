package main

import (
	"fmt"
	"io"
	"runtime"
	build "runtime/debug"
	"strings"

	"dsoftbus-rig/rig/host"

	"github.com/spf13/cobra"
)

// builtFrom is the commit that the scripts built this program from, the time of
// the commit, and "modified" where the tree had changes beyond it. They set it by the
// linker: the go command's own stamp fails in a checkout that git does not trust.
var builtFrom string

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the rig, of Go and of QEMU",
		Long: `Version prints the module's version, the commit that this program was built from,
the Go release that has built it, and the QEMU that it finds in PATH.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printVersion(cmd) },
	}
}

func printVersion(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	info, _ := build.ReadBuildInfo()
	writeVersion(out, info, builtFrom)
	version, err := host.QEMUVersion(cmd.Context(), "")
	if err != nil {
		fmt.Fprintf(out, "QEMU none: %v\n", err)
		return nil
	}
	fmt.Fprintf(out, "QEMU %s\n", version)
	return nil
}

// writeVersion writes what a program knows of its own making: info, which is nil
// when it knows nothing, and from, which has the form of builtFrom.
func writeVersion(out io.Writer, info *build.BuildInfo, from string) {
	if info == nil {
		info = &build.BuildInfo{}
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if stamp := strings.Fields(from); len(stamp) > 1 {
		set["vcs.revision"], set["vcs.time"] = stamp[0], stamp[1]
		set["vcs.modified"] = fmt.Sprint(len(stamp) > 2)
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	commit := "commit unknown (built without version control)"
	if rev := set["vcs.revision"]; rev != "" {
		commit = "commit " + rev
		if t := set["vcs.time"]; t != "" {
			commit += " of " + t
		}
		if set["vcs.modified"] == "true" {
			commit += ", with changes beyond it"
		}
	}
	fmt.Fprintf(out, "rig %s, %s\n%s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
