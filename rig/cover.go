package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/cover"
	"dsoftbus-rig/rig/record"

	"github.com/spf13/cobra"
)

// coverFlags are the flags of `rig run` by which machines' programs count what of them runs; whether they do is one of machineFlags.
type coverFlags struct {
	host string // a profile of the host's tests, or a folder of counters
}

// Files of a covered run's folder.
const (
	coverProfile = "coverage.out"
	coverPage    = "coverage.html"
)

// coverWait bounds how long joining may take: some seconds for all scenarios, a minute or two for some thousand playings.
const coverWait = 10 * time.Minute

func (f *runFlags) addCover(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.counting, "cover", false, "have the machines' programs count which of their statements run; slower, and an image of their own")
	cmd.Flags().StringVar(&f.cover.host, "cover-host", "", "`FILE` that go test -coverprofile has written (or a GOCOVERDIR folder), to be told from what machines reach; with -cover")
}

// checkCover refuses what would be found to be wrong when all is played.
func (f *runFlags) checkCover(ctx context.Context) error {
	if f.cover.host == "" && !f.counting {
		return nil
	}
	switch {
	case !f.counting:
		return usage("-cover-host %s without -cover: nothing would be counted in the machines; say -cover, too", f.cover.host)
	case f.saveDurations:
		return usage("-save-durations with -cover: programs that count are slower than the ones that are mostly played; leave one of them out")
	case f.cover.host == "":
		return nil
	}
	if _, err := cover.Load(ctx, f.cover.host); err != nil {
		return usage("-cover-host: %w", err)
	}
	return nil
}

// writeCoverage joins what all machines of a run have counted with what the host's tests did, in the run's folder, and shows the figures. project is the
// folder with the source.
func (f *runFlags) writeCoverage(ctx context.Context, w io.Writer, run *record.Run, project string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, coverWait, fmt.Errorf("what machines have counted was not joined within %s", coverWait))
	defer cancel()
	var dirs []string
	err := filepath.WalkDir(run.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), "covcounters.") {
			dirs = append(dirs, filepath.Dir(path))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find what machines have counted: %w", err)
	}
	if dirs = slices.Compact(dirs); len(dirs) == 0 {
		_, err := fmt.Fprintln(w, "coverage: none, since no machine lived to tell")
		return err
	}
	machines, err := cover.LoadCounters(ctx, dirs...)
	if err != nil {
		return err
	}
	var host *cover.Profile
	if f.cover.host != "" {
		if host, err = cover.Load(ctx, f.cover.host); err != nil {
			return err
		}
	}
	joined, err := cover.Join(host, machines)
	var differs error
	if err != nil && host != nil {
		differs = err // what the machines have counted is not lost for it
		joined, err = cover.Join(nil, machines)
	}
	if err != nil {
		return err
	}
	name := strings.TrimSpace(strings.TrimPrefix(module, "module "))
	err = errors.Join(
		run.WriteFile(coverProfile, joined.WriteProfile),
		run.WriteFile(coverPage, func(w io.Writer) error { return joined.WriteHTML(w, name, project) }),
	)
	fmt.Fprintf(w, "coverage, in percent of statements; %s in the run's folder shows every line:\n", coverPage)
	return errors.Join(err, joined.WriteTable(w, name), differs)
}
