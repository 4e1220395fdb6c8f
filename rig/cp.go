package main

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/live"

	"github.com/spf13/cobra"
)

func newCpCommand() *cobra.Command {
	return asks(&cobra.Command{
		Use:   "cp SRC DST",
		Short: "Copy a file to or from a node",
		Long: `Cp copies one file between this host and a node, as in

    rig cp A:/etc/dsoftbus/device.json .
    rig cp local.conf B:/etc/local.conf

Exactly one of the two is NODE:PATH, with an absolute path. What goes to a folder
of the host's, or to a path of a node's that ends in /, keeps its name. A file of
the host's that looks like a node's is ./A:x. A scenario that a file was copied to
cannot pass any more, only be repaired.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("cp: name two files, as in rig cp A:/etc/dsoftbus/device.json .")
			}
			_, srcPath, fromNode := remote(args[0])
			_, dstPath, toNode := remote(args[1])
			switch {
			case fromNode == toNode:
				return usage("cp %s %s: exactly one of both has to be a node's, as in A:/etc/dsoftbus/device.json", args[0], args[1])
			case fromNode && !strings.HasPrefix(srcPath, "/"):
				return usage("cp: %s is not absolute: begin the path with /", args[0])
			case toNode && !strings.HasPrefix(dstPath, "/"):
				return usage("cp: %s is not absolute: begin the path with /", args[1])
			}
			return nil
		},
	}, func(cmd *cobra.Command, c *live.Client, args []string) error {
		if name, src, ok := remote(args[0]); ok {
			dst, err := filepath.Abs(args[1])
			if err != nil {
				return err
			}
			if info, err := os.Stat(dst); err == nil && info.IsDir() {
				dst = filepath.Join(dst, path.Base(src))
			}
			return c.Pull(cmd.Context(), name, src, dst)
		}
		name, dst, _ := remote(args[1])
		src, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		if strings.HasSuffix(dst, "/") {
			dst = path.Join(dst, filepath.Base(src))
		}
		return c.Push(cmd.Context(), name, src, dst)
	})
}
