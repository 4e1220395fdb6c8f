package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/pack"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/retain"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// packFlags are the flags of `rig pack`.
type packFlags struct {
	out string
	pack.Options
}

func newPackCommand() *cobra.Command {
	var f packFlags
	cmd := &cobra.Command{
		Use:   "pack [RUN]",
		Short: "Make one file of a run, for another machine",
		Long: `Pack makes one file of a run's folder: its record, and recordings with all that they
need, so that rig unpack and rig replay work on any other machine with the same QEMU.

RUN is a run's folder, or the name of one in runs; without it, the newest. It must
have ended. The file is <run>` + pack.Ext + ` in the current folder, or the one given with
-o; a file that is there already stays as it is.

Keys of sessions (` + record.KeysFile + ` of rig run -keylog) are left out unless -keys asks for them.
A recording has all that its machine was given, among it the machine's own private
key, which was made for that scenario alone.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return classify(cmd.Context(), packRun(cmd, slices.Concat(args, []string{""})[0], f))
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "output", "o", "", "write to the new `FILE` (default: <run>"+pack.Ext+" in the current folder)")
	flags.StringVar(&f.Only, "only", "", "leave out all scenarios but `SCENARIO`, named as in the record: roundtrip/basic, roundtrip/basic@2")
	flags.BoolVar(&f.Keys, "keys", false, "pack the keys of sessions, too: whoever has them can read all that the sessions carried")
	return cmd
}

func newUnpackCommand() *cobra.Command {
	limit := retain.Size(pack.DefaultLimit)
	cmd := &cobra.Command{
		Use:   "unpack FILE [DIR]",
		Short: "Make a run's folder again from what rig pack has made",
		Long: `Unpack makes a run's folder from a file that rig pack has made: DIR, or a folder with
the run's name in the current one. Nothing with that name may be there already. It
appears whole, or not at all.

It is not put among the records in runs, where it would be as old as the run is, and
might go at the end of the next one (rig gc).

The file may come from anybody: it can write nothing outside of the folder, and no
more than -size says.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return classify(cmd.Context(), unpackRun(cmd, args[0], slices.Concat(args[1:], []string{""})[0], int64(limit)))
		},
	}
	cmd.Flags().Var(&limit, "size", "how much it may unpack to; each file counts for 4 KiB beside its content")
	return cmd
}

func packRun(cmd *cobra.Command, run string, f packFlags) error {
	folder, err := packable(cmd, run)
	if err != nil {
		return usage("pack: %w", err)
	}
	out := f.out
	if out == "" {
		out = filepath.Base(folder) + pack.Ext
	}
	if into, err := filepath.EvalSymlinks(filepath.Dir(out)); err == nil {
		if into, err = filepath.Abs(into); err == nil && (into == folder || strings.HasPrefix(into, folder+string(filepath.Separator))) {
			return usage("pack: %s would be in the folder that it is made of; name another with -o", out)
		}
	}
	c, size, err := pack.Create(cmd.Context(), out, folder, f.Options)
	switch {
	case errors.Is(err, fs.ErrExist):
		return usage("pack: %s exists; name another file with -o", out)
	case errors.Is(err, pack.ErrNoScenario):
		return usage("%w", err)
	case err != nil:
		return err
	}
	w := cmd.OutOrStdout()
	tell(w, "%s: %s, of %s in %d files", suite.Shown(out), retain.Size(size), retain.Size(c.Bytes), c.Files)
	tellRecordings(w, c)
	for _, name := range c.Keys {
		if f.Keys {
			tell(w, "with %s: whoever has the file can read what these sessions carried", name)
		} else {
			tell(w, "left out %s: keys are secret; -keys packs them", name)
		}
	}
	for _, left := range c.LeftOut {
		tell(w, "left out %s", left)
	}
	line := "rig unpack "
	if c.Counts > pack.DefaultLimit {
		line += fmt.Sprintf("-size %dG ", c.Counts>>30+1)
	}
	line += machine.Quote(filepath.Base(out))
	if len(c.Lives) > 0 {
		line += " && " + replayLine(c.Name, c.Lives)
	}
	tell(w, "on the other machine: %s", line)
	return nil
}

// packable returns the folder of the run that a person means, an absolute path, if the run has ended.
func packable(cmd *cobra.Command, run string) (string, error) {
	// A run is found without the project, too, by its path.
	dir, noProject := project(cmd)
	folder, err := runFolder(filepath.Join(dir, "runs"), run)
	if err != nil {
		if run == "" && noProject != nil {
			return "", fmt.Errorf("which run? %w", noProject)
		}
		return "", err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", err
	}
	if !isRecord(folder) {
		return "", fmt.Errorf("%s is no run's folder: neither %s nor %s is in it", run, record.EventsFile, record.SummaryFile)
	}
	alive, err := record.Alive(folder)
	if alive {
		return "", fmt.Errorf("the run of %s goes on: wait for its end", suite.Shown(folder))
	}
	// Where nobody can tell, a run that has its summary has ended.
	if err != nil && !exists(filepath.Join(folder, record.SummaryFile)) {
		return "", err
	}
	return folder, nil
}

func unpackRun(cmd *cobra.Command, file, dir string, limit int64) error {
	f, err := os.Open(file)
	if err != nil {
		return usage("unpack: %w", err)
	}
	defer f.Close()
	// What is a pipe may have nothing to read for long.
	defer context.AfterFunc(cmd.Context(), func() { f.Close() })()
	parent, name := ".", ""
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return usage("unpack: %w", err)
		}
		parent, name = filepath.Dir(abs), filepath.Base(abs)
	}
	c, err := pack.Read(cmd.Context(), f, parent, name, limit)
	var refused *pack.ArchiveError
	var there *fs.PathError
	switch {
	case errors.As(err, &refused) && errors.Is(err, pack.ErrTooMuch):
		return usage("unpack %s: %w, %s; if it is from somebody whom you trust, -size allows more", file, err, retain.Size(limit))
	case errors.As(err, &refused):
		return usage("unpack %s: %w; nothing is left of it", file, err)
	case errors.Is(err, fs.ErrExist) && errors.As(err, &there):
		return usage("unpack: %s exists; name another folder, as in rig unpack %s DIR", suite.Shown(there.Path), file)
	case err != nil:
		return err
	}
	w := cmd.OutOrStdout()
	shown := suite.Shown(filepath.Join(parent, c.Name))
	tell(w, "%s: %s in %d files", shown, retain.Size(c.Bytes), c.Files)
	tellRecordings(w, c)
	for _, name := range c.Keys {
		tell(w, "with %s: whoever has it can read what these sessions carried", name)
	}
	if len(c.Lives) > 0 {
		tell(w, "next: %s", replayLine(shown, c.Lives))
	}
	return nil
}

// replayLine is the command that replays the first of a run's recordings.
func replayLine(run string, lives []recording.Machine) string {
	first := lives[0]
	line := "rig replay " + machine.Quote(run) + " " + machine.Quote(first.Node)
	if slices.ContainsFunc(lives, func(l recording.Machine) bool { return l.Scenario != first.Scenario }) {
		line += " -scenario " + machine.Quote(first.Scenario)
	}
	return line
}

// tell prints a line. An archive may have any names in it.
func tell(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, console.Clean(fmt.Sprintf(format, args...)))
}

// tellRecordings says what of a run can be replayed, and by which QEMU.
func tellRecordings(w io.Writer, c *pack.Contents) {
	for _, why := range c.Unread {
		tell(w, "no recording: %s", why)
	}
	if len(c.Lives) == 0 {
		tell(w, "there are no recordings in it, so there is nothing to replay")
		return
	}
	count := map[string]int{}
	var nodes, versions []string
	unended := 0
	for _, m := range c.Lives {
		node := m.Scenario + " " + m.Node
		if count[node]++; count[node] == 1 {
			nodes = append(nodes, node)
		}
		versions = append(versions, m.QEMUVersion)
		if !m.Ended {
			unended++
		}
	}
	for i, node := range nodes {
		if n := count[node]; n > 1 {
			nodes[i] += fmt.Sprintf(" (%d)", n)
		}
	}
	slices.Sort(versions)
	noun := "recordings"
	if len(c.Lives) == 1 {
		noun = "recording"
	}
	tell(w, "%d %s: %s; for QEMU %s", len(c.Lives), noun, strings.Join(nodes, ", "), strings.Join(slices.Compact(versions), " and "))
	if unended > 0 {
		tell(w, "%d of them without an end: QEMU was killed before it had written all", unended)
	}
}
