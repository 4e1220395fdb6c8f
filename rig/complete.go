package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

func newCompletionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash": func(cmd *cobra.Command) error { return cmd.Root().GenBashCompletionV2(cmd.OutOrStdout(), true) },
		"zsh":  func(cmd *cobra.Command) error { return cmd.Root().GenZshCompletion(cmd.OutOrStdout()) },
		"fish": func(cmd *cobra.Command) error { return cmd.Root().GenFishCompletion(cmd.OutOrStdout(), true) },
	}
	names := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that has a shell complete the rig's command lines",
		Long: `Completion prints a script for bash, zsh or fish. With it the Tab key completes
commands, flags, scenarios, runs, and the nodes of scenarios that run:

    source <(rig completion bash)                               # this shell; needs the package bash-completion
    rig completion zsh > "${fpath[1]}/_rig"                     # every later one
    rig completion fish > ~/.config/fish/completions/rig.fish   # every later one

The shell has to find rig by that name: put bin in PATH, or say alias rig=bin/rig.`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			script := shells[args[0]]
			if script == nil {
				return usage("completion %s: there are scripts for %s", args[0], strings.Join(names, ", "))
			}
			return script(cmd)
		},
	}
}

// complete answers a shell's script: it prints what the last of the words can
// become. Cobra knows flags with two dashes only, so those with one get the
// second one on the way in, and lose it on the way out.
func complete(ctx context.Context, root *cobra.Command, args []string) error {
	before, typed := args[1:max(1, len(args)-1)], args[len(args)-1]
	const unknownFlag = "-??"
	given := longFlags(root, append(slices.Clone(before), unknownFlag))
	isFlag := given[len(given)-1] != unknownFlag
	oneDash := isFlag && strings.HasPrefix(typed, "-") && !strings.HasPrefix(typed, "--")
	if oneDash && typed != "-" {
		typed = "-" + typed
	}
	root.SetArgs(append(append([]string{args[0]}, given[:len(given)-1]...), typed))
	var answer bytes.Buffer
	root.SetOut(&answer)
	err := root.ExecuteContext(ctx)
	for line := range strings.Lines(answer.String()) {
		if oneDash && strings.HasPrefix(line, "--") {
			line = line[1:]
		}
		// A name that a terminal should not see, of a machine or a record, is none to type.
		if text := strings.TrimSuffix(line, "\n"); console.Clean(text) != text {
			continue
		}
		fmt.Print(line)
	}
	return err
}

// A completer is cobra's form of what a word can become.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// addCompletions has all commands complete their arguments and the values of
// their flags.
func addCompletions(root *cobra.Command) {
	arguments := map[string]completer{
		"run": scenarioNames, "check": scenarioNames, "list": scenarioNames, "history": scenarioNames, "shell": scenarioNames,
		"report": runNames, "decode": runNames, "pack": runNames, "merge": runNames, "replay": replayWords,
		"attach": nodeNames, "console": nodeNames, "journal": nodeNames, "forward": nodeNames, "qmp": nodeNames,
		"dump": nodeNames, "gdb": nodeNames, "dlv": programWords, "stacks": programWords, "cp": copyWords, "do": lineWords,
		"build": noWords, "doctor": noWords, "bench": noWords, "soak": noWords, "gc": noWords, "ps": noWords, "version": noWords,
	}
	values := map[string]completer{
		"run": liveNames, "scenario": scenariosOf, "only": scenariosOf,
		"accel": words("auto", "kvm", "tcg"), "capture": words("always", "fail", "never"), "record": words("all", "fail"),
		"gdb": words("go", "kernel"), "shuffle": words("on"), "unit": unitNames, "runs": folders, "modules": folders,
	}
	for _, cmd := range root.Commands() {
		if f := arguments[cmd.Name()]; f != nil {
			cmd.ValidArgsFunction = f
		}
		cmd.Flags().VisitAll(func(flag *flagOf) {
			if f := values[flag.Name]; f != nil && !isSwitch(flag) {
				_ = cmd.RegisterFlagCompletionFunc(flag.Name, f) // fails for a flag that has one already
			}
		})
	}
}

// beginning returns the words that begin like what is typed.
func beginning(typed string, words []string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) })
}

func words(all ...string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return beginning(typed, slices.Clone(all)), cobra.ShellCompDirectiveNoFileComp
	}
}

func folders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func noWords(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// scenarioNames are the project's scenarios and their areas, with what each
// proves. A word that is none of them may be a file.
func scenarioNames(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	dir, err := project(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	items, _ := suite.Find(dir, nil) // those of the others are worth having when one is not well formed
	var names []string
	for _, item := range items {
		if area := path.Dir(item.Name); area != "." && !slices.Contains(names, area) {
			names = append(names, area)
		}
		names = append(names, cobra.CompletionWithDesc(item.Name, item.Script.Title()))
	}
	return beginning(typed, names), cobra.ShellCompDirectiveDefault
}

// runsFolder is the folder of the records that a command looks into.
func runsFolder(cmd *cobra.Command) (string, error) {
	if given, err := cmd.Flags().GetString("runs"); err == nil && given != "" {
		return given, nil
	}
	dir, err := project(cmd)
	return filepath.Join(dir, "runs"), err
}

// runNames are the recorded runs, the newest first.
func runNames(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	folder, err := runsFolder(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	entries, _ := os.ReadDir(folder)
	var names []string
	for _, e := range entries {
		if e.IsDir() || e.Name() == record.LatestLink {
			names = append(names, e.Name())
		}
	}
	slices.Reverse(names)
	return beginning(typed, names), cobra.ShellCompDirectiveDefault | cobra.ShellCompDirectiveKeepOrder
}

// replayWords are a recorded run, and then the nodes of it that were recorded.
func replayWords(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return runNames(cmd, args, typed)
	}
	var nodes []string
	if folder, err := givenRun(cmd, args); err == nil && len(args) == 1 {
		_ = filepath.WalkDir(folder, func(dir string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() || slices.Contains(nodes, e.Name()) {
				return nil
			}
			if lives, err := recording.Lives(dir); err == nil && len(lives) > 0 {
				nodes = append(nodes, e.Name())
				return fs.SkipDir
			}
			return nil
		})
	}
	return beginning(typed, nodes), cobra.ShellCompDirectiveNoFileComp
}

// givenRun is the folder of the run that the arguments name, or of the newest
// one.
func givenRun(cmd *cobra.Command, args []string) (string, error) {
	folder, err := runsFolder(cmd)
	if err != nil {
		return "", err
	}
	run := ""
	if len(args) > 0 {
		run = args[0]
	}
	return runFolder(folder, run)
}

// scenariosOf are the scenarios of the run that the arguments name.
func scenariosOf(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if folder, err := givenRun(cmd, args); err == nil {
		if rec, err := record.Load(folder); err == nil {
			for _, s := range rec.Summary.Scenarios {
				names = append(names, s.Name)
			}
		}
	}
	return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp
}

// askedFor bounds the questions of one completion to scenarios that run: a
// person would rather go on typing.
const askedFor = 2 * time.Second

// liveNames are the scenarios that run.
func liveNames(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), askedFor)
	defer cancel()
	all, _ := live.List(ctx)
	var names []string
	for _, a := range all {
		if a.Err == nil {
			names = append(names, a.String())
		}
	}
	return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp
}

// fromLive calls ask with the scenario that a command would ask, if there is
// one.
func fromLive(cmd *cobra.Command, ask func(ctx context.Context, c *live.Client) ([]string, error)) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), askedFor)
	defer cancel()
	run, _ := cmd.Flags().GetString("run")
	c, _, err := findLive(ctx, cmd, run)
	if err != nil {
		return nil
	}
	found, err := ask(ctx, c)
	if err != nil {
		return nil
	}
	return found
}

// nodesOf are the nodes of the scenario that a command would ask, each with
// something behind its name.
func nodesOf(cmd *cobra.Command, typed, behind string) []string {
	return fromLive(cmd, func(ctx context.Context, c *live.Client) ([]string, error) {
		names, err := c.Nodes(ctx)
		for i := range names {
			names[i] += behind
		}
		return beginning(typed, names), err
	})
}

// inLine returns what the last word of a line can become in the scenario that a
// command would ask.
func inLine(cmd *cobra.Command, line, typed string) []string {
	return fromLive(cmd, func(ctx context.Context, c *live.Client) ([]string, error) {
		_, found, err := c.Complete(ctx, line+typed, len(line+typed))
		return found, err
	})
}

// nodeNames are the nodes of a running scenario, for a command's first
// argument.
func nodeNames(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nodesOf(cmd, typed, ""), cobra.ShellCompDirectiveNoFileComp
}

// programWords are a node, or the file of a dump, and then a program of ours.
func programWords(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0 && cmd.Name() == "stacks":
		return nodesOf(cmd, typed, ""), cobra.ShellCompDirectiveDefault
	case len(args) == 0:
		return nodeNames(cmd, args, typed)
	case len(args) == 1:
		return inLine(cmd, "kill "+args[0]+" ", typed), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// copyWords are a file of this host, or a node with a colon behind it.
func copyWords(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return nodesOf(cmd, typed, ":"), cobra.ShellCompDirectiveDefault | cobra.ShellCompDirectiveNoSpace
}

// unitNames are the programs whose lines a node has.
func unitNames(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return programWords(cmd, args[:1], typed)
}

// lineWords continue a line of the scenario language.
func lineWords(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	line := ""
	if len(args) > 0 {
		line = lineOf(append(slices.Clone(args), "")) // the empty word is ''
		line = strings.TrimSuffix(line, "''")
	}
	return inLine(cmd, line, typed), cobra.ShellCompDirectiveDefault
}
