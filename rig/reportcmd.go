package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"
	"dsoftbus-rig/rig/webreport"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func newReportCommand() *cobra.Command {
	var out string
	var open bool
	cmd := &cobra.Command{
		Use:   "report [RUN]",
		Short: "Write a recorded run as one HTML page",
		Long: `Report writes a run as one HTML page: what broke and where, the script with how each
line went, a time line, and what the nodes printed. The page is a single file that
needs no network, so it can be attached to anything and opened from anywhere.

RUN is a run's folder, or the name of one in runs; without it, the newest. The page
is report.html in that folder, or the file given with -o. A run that was killed, or
still goes on, is shown as far as it is recorded.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run := ""
			if len(args) > 0 {
				run = args[0]
			}
			return classify(cmd.Context(), pageOf(cmd, run, out, open))
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the page to `FILE` (default: "+webreport.File+" in the run's folder)")
	cmd.Flags().BoolVar(&open, "open", false, "show the page in the browser")
	return cmd
}

func pageOf(cmd *cobra.Command, run, out string, open bool) error {
	// A record is readable without the project; then there is only less of the scenarios' files.
	dir, noProject := project(cmd)
	folder, err := runFolder(filepath.Join(dir, "runs"), run)
	if err != nil {
		if run == "" && noProject != nil {
			return usage("which run? %w", noProject)
		}
		return usage("%w", err)
	}
	rec, err := record.Load(folder)
	if err != nil {
		return usage("%w", err)
	}
	if out == "" {
		out = filepath.Join(folder, webreport.File)
	}
	say := func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
	mode := fs.FileMode(0o644)
	if hasKeys(rec) {
		mode = 0o600
	}
	size, err := writePage(out, mode, rec, webreport.Options{Out: out, Source: dir, Ticks: ticks(rec, say), History: before(cmd.Context(), rec, say), Notes: noted(rec, say)})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %.1f MB\n", console.Clean(suite.Shown(out)), rec.Summary.Result, float64(size)/1e6)
	if open {
		return openPage(cmd, out)
	}
	return nil
}

// runFolder returns the folder of the run that a person means: a path, or a name in root; the newest in root without either. What is no folder is
// returned as well.
func runFolder(root, run string) (string, error) {
	// The folder itself, since latest may be another one by the time somebody reads what was written.
	tries := []func() (string, error){
		func() (string, error) { return filepath.EvalSymlinks(run) },
		func() (string, error) { return filepath.EvalSymlinks(filepath.Join(root, run)) },
	}
	newest := func() (string, error) { return record.Latest(root) }
	switch run {
	case "":
		tries = []func() (string, error){newest}
	case record.LatestLink:
		tries[1] = newest
	}
	for _, try := range tries {
		dir, err := try()
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find the run: %w", err)
		}
	}
	if run == "" {
		return "", fmt.Errorf("there is no run yet: %s does not exist; `rig run` makes one", suite.Shown(filepath.Join(root, record.LatestLink)))
	}
	return "", fmt.Errorf("there is no run %s, and no %s; name a run's folder, or one of those in runs", run, suite.Shown(filepath.Join(root, run)))
}

// writePage writes the page, whole or not at all, and returns its size in bytes.
func writePage(out string, mode fs.FileMode, rec *record.Record, o webreport.Options) (size int64, err error) {
	f, err := renameio.NewPendingFile(out, renameio.WithTempDir(filepath.Dir(out)), renameio.WithPermissions(mode))
	if err != nil {
		return 0, fmt.Errorf("write the report: %w; -o FILE writes it elsewhere", err)
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	w := bufio.NewWriterSize(f, 256<<10)
	if err := webreport.Write(w, rec, o); err != nil {
		return 0, err
	}
	if err := w.Flush(); err != nil {
		return 0, fmt.Errorf("write %s: %w", out, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", out, err)
	}
	return info.Size(), f.CloseAtomicallyReplace()
}

// openPage hands the page to the desktop's browser.
func openPage(cmd *cobra.Command, page string) error {
	abs, err := filepath.Abs(page)
	if err != nil {
		return fmt.Errorf("open the report: %w", err)
	}
	opener := os.Getenv("BROWSER")
	if opener == "" {
		opener = "xdg-open"
	}
	if out, err := exec.CommandContext(cmd.Context(), opener, abs).CombinedOutput(); err != nil {
		return fmt.Errorf("open the report: %s: %w: %s; open %s in a browser by hand, or name one in BROWSER", opener, err, strings.TrimSpace(string(out)), abs)
	}
	return nil
}
