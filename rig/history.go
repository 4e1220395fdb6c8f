package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// pastWait is how long a run waits at most for what is known of earlier ones, and again to add to it.
const pastWait = 15 * time.Second

// past is what is known of earlier runs. A run goes on without it: whatever fails is a warning.
type past struct {
	ctx      context.Context // of the run, which may have ended
	dir      string          // the project's folder
	file     string          // the database; empty: not to be had
	err      error           // why it could not be read
	all      map[string][]history.Playing
	revision string
	dirty    bool
}

// recall reads the results of past runs.
func recall(ctx context.Context, dir string, print func(string)) *past {
	p := &past{ctx: context.WithoutCancel(ctx), dir: dir}
	limited, cancel := context.WithTimeout(p.ctx, pastWait)
	defer cancel()
	p.revision, p.dirty = revision(limited, dir)
	file, all, err := readPast(limited)
	if err != nil {
		print(fmt.Sprintf("warning: nothing is known of past runs, and the order may not be the best: %v", err))
	}
	p.file, p.all, p.err = file, all, err
	return p
}

// readPast reads all that is known of past runs, and says where it is, also when it cannot be read. It makes no file.
func readPast(ctx context.Context) (file string, all map[string][]history.Playing, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(cache, history.File)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return file, nil, nil
	}
	db, err := history.Open(ctx, file)
	if err != nil {
		return file, nil, err
	}
	defer db.Close()
	all, err = db.Playings(ctx)
	return file, all, err
}

// durations are how long scenarios took the last time they passed.
func (p *past) durations() suite.Durations {
	d := suite.Durations(history.LastPassed(p.all, false))
	for name, seconds := range history.LastPassed(p.all, true) {
		d[suite.ColdKey(name)] = seconds
	}
	return d
}

// keep adds a run's results, and says and returns what they are beside those before. Only scenarios of the project are kept: of a file elsewhere the name does
// not say which scenario it is. Results that cannot be added are kept aside for the next run.
func (p *past) keep(folder string, s record.Summary, out suite.Outcome, print func(string)) (notes []history.Note) {
	if p.file == "" {
		return nil
	}
	r := history.Run{Folder: folder, Revision: p.revision, Dirty: p.dirty, Cold: out.Cold}
	playings := r.Playings(s, func(c record.ScenarioSummary) (string, bool) {
		file, err := filepath.Abs(c.File)
		if err != nil {
			return "", false
		}
		rel, err := filepath.Rel(filepath.Join(p.dir, suite.Dir), file)
		return tested(out.Images, file), err == nil && filepath.IsLocal(rel)
	})
	if len(playings) == 0 {
		return nil
	}
	if p.err == nil {
		notes = history.Notes(playings, p.all)
	}
	for _, n := range notes {
		text := n.Scenario + ": " + n.Text
		if n.Kind == history.Slower {
			text = "warning: " + text
		}
		print(text)
	}
	ctx, cancel := context.WithTimeout(p.ctx, pastWait)
	defer cancel()
	err := p.err // what could not be read when the run began is not waited for again
	if err == nil {
		err = addPast(ctx, p.file, r, s, playings)
	}
	if err != nil {
		if asideErr := history.KeepAside(p.file, r, s, playings); asideErr != nil {
			print(fmt.Sprintf("warning: the results of this run are not kept: %v; %v", err, asideErr))
		} else {
			print(fmt.Sprintf("warning: the results of this run are kept aside until the next one: %v", err))
		}
	}
	return notes
}

// tested is the digest of what a scenario tests: the machines' images, by their ID, and its script. It is "" when one of them is not known.
func tested(images, script string) string {
	text, err := os.ReadFile(script)
	if err != nil || images == "" {
		return ""
	}
	return fmt.Sprintf("%.16x", sha256.Sum256(append([]byte(images+"\n"), text...)))
}

func addPast(ctx context.Context, file string, r history.Run, s record.Summary, playings []history.Playing) error {
	db, err := history.Open(ctx, file)
	if err != nil {
		return err
	}
	return errors.Join(db.Add(ctx, r, s, playings), db.Close())
}

// revision is that of the project's source, "" when it is not known (no git, no repository), and whether there are changes beyond it.
func revision(ctx context.Context, dir string) (rev string, dirty bool) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0") // to look at it must not get into anybody's way
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	rev, err := git("rev-parse", "HEAD")
	if err != nil {
		return "", false
	}
	changes, err := git("status", "--porcelain")
	return rev, err != nil || changes != ""
}

// historySchema is the version of what `rig history -json` prints.
const historySchema = 1

func newHistoryCommand() *cobra.Command {
	var (
		last   int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "history [SCENARIO...]",
		Short: "Show past results: pass rate, flakes, slowdowns",
		Long: `History shows what rig run has kept of the project's scenarios, in the user's
cache: how often each was played, its flakes, how long it usually takes, and its last
results. A scenario is named as for rig run: by its name, a folder, or a glob.

A flake is a playing that was flaky (rig run -retries), or that failed with the very
programs and script with which the scenario passed as well. What a scenario
usually takes is the median of those that passed on the same acceleration, as many
side by side, on a host that is about as fast; the spread is the median absolute
deviation. Of at least ` + fmt.Sprint(history.MinSamples) + ` such playings, one that takes much longer is said to be slower
than usual, here and at the end of a run; so is one that takes several times as long
as any few, whatever else the host did.`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			if last < 1 {
				return usage("-last %d: say how many results to show, as in -last 20", last)
			}
			return classify(cmd.Context(), showHistory(cmd, patterns, last, asJSON))
		},
	}
	cmd.Flags().IntVar(&last, "last", 30, "how many results to show of each scenario")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return cmd
}

func showHistory(cmd *cobra.Command, patterns []string, last int, asJSON bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), pastWait)
	defer cancel()
	_, all, err := readPast(ctx)
	if err != nil {
		return err
	}
	dir, err := project(cmd)
	if err != nil {
		dir = "" // names are known without it, and paths are not
	}
	names, err := choose(dir, slices.Sorted(maps.Keys(all)), patterns)
	if err != nil {
		return err
	}
	reports := []history.Report{}
	for _, name := range names {
		reports = append(reports, history.NewReport(all[name], last))
	}
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Schema    int              `json:"schema"`
			Scenarios []history.Report `json:"scenarios"`
		}{historySchema, reports})
	}
	if len(reports) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing is known yet: rig run keeps the results of the project's scenarios")
		return err
	}
	return printHistory(cmd.OutOrStdout(), reports)
}

// choose returns the names that patterns select, all of them without any.
func choose(dir string, names, patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return names, nil
	}
	var chosen []string
	for _, pattern := range patterns {
		found, err := suite.Match(dir, names, pattern)
		if err != nil {
			return nil, usage("%w", err)
		}
		if len(found) == 0 {
			return nil, usage("no result is known of a scenario that matches %q%s; rig history alone lists all", pattern, suite.Suggestion(names, pattern))
		}
		chosen = append(chosen, found...)
	}
	slices.Sort(chosen)
	return slices.Compact(chosen), nil
}

func printHistory(w io.Writer, reports []history.Report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SCENARIO\tPLAYED\tPASSED\tFLAKES\tMEDIAN\tSPREAD\tLAST")
	for _, r := range reports {
		flakes, took, spread := "-", "-", "-"
		if r.Flakes > 0 {
			flakes = fmt.Sprintf("%d (%.0f%%)", r.Flakes, 100*r.Rate)
		}
		if r.Usual != nil {
			took, spread = fmt.Sprintf("%.2fs", r.Usual.Median), fmt.Sprintf("±%.2fs of %d", r.Usual.MAD, r.Usual.Samples)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", console.Clean(r.Scenario), r.Played, r.Results[record.Passed], flakes, took, spread, r.Row)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s; the newest last\n", history.Legend)
	for _, r := range reports {
		if r.Slow != nil {
			fmt.Fprintf(w, "%s: slower than usual: %s\n", console.Clean(r.Scenario), r.Slow)
		}
	}
	for _, r := range reports {
		if f := r.Failure; f != nil {
			at := ""
			if len(f.Revision) >= 12 {
				at = ", at commit " + f.Revision[:12]
				if f.Dirty {
					at += " with changes"
				}
			}
			fmt.Fprintf(w, "%s: %s on %s%s: %s: %s\n", console.Clean(r.Scenario), f.Result, f.Started.Local().Format("2006-01-02 15:04"), at,
				cmp.Or(string(f.Reason), "no reason"), console.Clean(cmp.Or(f.Message, f.Reason.Info().Meaning)))
		}
	}
	return nil
}
