package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"dsoftbus-rig/rig/scenario"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does, and its flags",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			if len(args) > 0 {
				found := subcommand(cmd.Root(), args[0])
				if found == nil {
					return unknownCommand(cmd.Root(), args[0])
				}
				about = found
			}
			printHelp(about, nil)
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return beginning(typed, commandNames(cmd.Root())), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// subcommand returns the command with that name, nil when there is none.
func subcommand(root *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
	if i < 0 {
		return nil
	}
	return root.Commands()[i]
}

// commandNames returns the names of all commands that people give.
func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

func unknownCommand(root *cobra.Command, name string) error {
	return usage("unknown command %q; %s", name, suggestion(name, commandNames(root), "`rig help` lists the commands"))
}

// suggestion says which of the known words was probably meant, or else what to
// do.
func suggestion(word string, known []string, otherwise string) string {
	if best := scenario.Nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return otherwise
}

// printHelp prints what a command does. It takes the place of cobra's own help,
// which shows flags with two dashes, and takes any word in backquotes for the
// name of a flag's value, of a switch too.
func printHelp(cmd *cobra.Command, _ []string) {
	_, _ = io.WriteString(cmd.OutOrStdout(), helpText(cmd))
}

func helpText(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n", text)
	for _, line := range usageLines(cmd) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	for _, group := range cmd.Groups() {
		fmt.Fprintf(&b, "\n%s\n", group.Title)
		for _, c := range cmd.Commands() {
			if c.GroupID == group.ID && !c.Hidden {
				fmt.Fprintf(&b, "  %-10s  %s\n", c.Name(), c.Short)
			}
		}
	}
	if rows := flagRows(cmd.LocalFlags()); rows != "" {
		fmt.Fprintf(&b, "\nFlags:\n%s", rows)
	}
	if rows := flagRows(cmd.InheritedFlags()); rows != "" {
		fmt.Fprintf(&b, "\nFlags of every command:\n%s", rows)
	}
	if !cmd.HasParent() {
		b.WriteString("\n`rig help COMMAND` says more.\n")
	}
	return b.String()
}

// usageLines returns how a command is written, one line for each of its forms.
func usageLines(cmd *cobra.Command) []string {
	name, rest, _ := strings.Cut(cmd.Use, " ")
	var lines []string
	for _, form := range strings.Split(rest, " | ") {
		words := []string{cmd.Root().Name(), "[FLAG...]", strings.TrimPrefix(form, name+" ")}
		if cmd.HasParent() {
			words = slices.Insert(words, 1, name)
		}
		lines = append(lines, strings.TrimSpace(strings.Join(words, " ")))
	}
	return lines
}

// checksArguments has a command refuse arguments with the rig's own words and
// status where its check has none.
func checksArguments(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		var exit *exitError
		if err == nil || errors.As(err, &exit) {
			return err
		}
		given := strings.Join(append([]string{cmd.Name()}, args...), " ")
		return usage("%s: wrong number of arguments; write %s", given, strings.Join(usageLines(cmd), ", or "))
	}
}

// flagRows returns one row for each flag, with one dash, as the documentation
// has them.
func flagRows(flags *flagSet) string {
	type row struct{ left, right string }
	var rows []row
	width := 0
	flags.VisitAll(func(f *flagOf) {
		if f.Hidden {
			return
		}
		left := "  "
		if f.Shorthand != "" {
			left += "-" + f.Shorthand + ", "
		} else {
			left += "    "
		}
		left += shownFlag(f)
		_, text := flagValue(f)
		if value := f.DefValue; !slices.Contains([]string{"", "0", "0s", "false", "-1"}, value) {
			text += " (default: " + value + ")"
		}
		width = max(width, len(left))
		rows = append(rows, row{left, text})
	})
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-*s   %s\n", width, r.left, r.right)
	}
	return b.String()
}

// shownFlag returns a flag as it is written: "-json", "-j N",
// "-record[=WHICH]".
func shownFlag(f *flagOf) string {
	value, _ := flagValue(f)
	switch {
	case isSwitch(f):
		return "-" + f.Name
	case f.NoOptDefVal != "":
		return "-" + f.Name + "[=" + value + "]"
	}
	return "-" + f.Name + " " + value
}

func isSwitch(f *flagOf) bool { return f.Value.Type() == "bool" }

// valueName is the form of the name of a flag's value, in backquotes in the
// text about the flag.
var valueName = regexp.MustCompile("`([A-Z][A-Z/|]*)`")

// typeNames are the names of values whose flag does not give one.
var typeNames = map[string]string{
	"duration": "D", "int": "N", "uint16": "N", "uint64": "N", "age": "AGE", "size": "SIZE", "string": "TEXT",
}

// flagValue returns the name of a flag's value, "" for a switch, and the text
// about the flag.
func flagValue(f *flagOf) (name, text string) {
	if isSwitch(f) {
		return "", f.Usage
	}
	name = typeNames[f.Value.Type()]
	if at := valueName.FindStringSubmatchIndex(f.Usage); at != nil {
		name = f.Usage[at[2]:at[3]]
		return name, f.Usage[:at[0]] + name + f.Usage[at[1]:]
	}
	return name, f.Usage
}

// flagError says in the rig's words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		bad     *pflag.InvalidValueError
		of      string // which command it is about
	)
	if cmd.HasParent() {
		of = cmd.Name() + ": "
	}
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		help := "`rig help` lists commands, and `rig help COMMAND` their flags, which stand behind the command"
		if cmd.HasParent() {
			help = fmt.Sprintf("`rig help %s` lists its flags", cmd.Name())
		}
		return usage("%sunknown flag -%s; %s", of, name, suggestion("-"+name, flagNames(cmd), help))
	case errors.As(err, &missing):
		return usage("%sflag -%s needs a value: %s", of, missing.GetSpecifiedName(), shownFlag(missing.GetFlag()))
	case errors.As(err, &bad):
		f := bad.GetFlag()
		why := bad.Unwrap()
		if form, ok := valueForms[f.Value.Type()]; ok {
			why = errors.New("say " + form)
		}
		return usage("%s-%s %q: %w", of, f.Name, bad.GetValue(), why)
	}
	return usage("%s%w", of, err)
}

// valueForms says what values of a type look like.
var valueForms = map[string]string{
	"duration": "how long, as in 90s or 10m",
	"int":      "a whole number",
	"uint16":   "a whole number up to 65535",
	"uint64":   "a whole number from 0 on",
	"bool":     "true or false, or leave the value out",
}

// flagNames returns the flags that a command takes, each with one dash.
func flagNames(cmd *cobra.Command) []string {
	var names []string
	add := func(f *flagOf) { names = append(names, "-"+f.Name) }
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names
}
