package main

import (
	"fmt"
	"io"
	"runtime"
	build "runtime/debug"

	"dsoftbus-rig/rig/host"

	"github.com/spf13/cobra"
)

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
	writeVersion(out, info)
	version, err := host.QEMUVersion(cmd.Context(), "")
	if err != nil {
		fmt.Fprintf(out, "QEMU none: %v\n", err)
		return nil
	}
	fmt.Fprintf(out, "QEMU %s\n", version)
	return nil
}

// writeVersion writes what a program knows of its own making. info is nil when
// it knows nothing.
func writeVersion(out io.Writer, info *build.BuildInfo) {
	if info == nil {
		info = &build.BuildInfo{}
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
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
