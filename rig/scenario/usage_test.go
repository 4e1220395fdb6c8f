package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/images"
)

// The part of the documentation that is made from the registry is between these.
const (
	docFile   = "../../docs/scenarios.md"
	docBegin  = "<!-- commands: made from the registry by `go test ./rig/scenario -update`; do not edit -->\n"
	docEnd    = "<!-- end of commands -->\n"
	condBegin = "<!-- conditions: made from the registry by `go test ./rig/scenario -update`; do not edit -->\n"
	condEnd   = "<!-- end of conditions -->\n"

	toolsBegin = "<!-- tools: made from images/userland/go.mod by `go test ./rig/scenario -update`; do not edit -->\n"
	toolsEnd   = "<!-- end of tools -->\n"

	promptBegin = "<!-- commands of the prompt: made from the registry by `go test ./rig/scenario -update`; do not edit -->\n"
	promptEnd   = "<!-- end of commands of the prompt -->\n"
)

func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	old := string(data)
	commands, all := Commands(), promptCommands()
	doc := replaceBetween(t, old, docBegin, docEnd, commandTable(commands))
	all.names = all.names[len(commands.names):]
	doc = replaceBetween(t, doc, promptBegin, promptEnd, commandTable(all))
	doc = replaceBetween(t, doc, condBegin, condEnd, conditionTable())
	doc = replaceBetween(t, doc, toolsBegin, toolsEnd, toolList(t))
	if doc == old {
		return
	}
	if !*update {
		t.Fatalf("%s does not say what the registry says; run go test ./rig/scenario -update", docFile)
	}
	if err := os.WriteFile(docFile, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
}

// toolList is the commands of the image that are not the project's own.
func toolList(t *testing.T) string {
	t.Helper()
	programs, err := images.Programs("../..")
	if err != nil || len(programs) == 0 {
		t.Fatalf("the programs of a node: %d, %v", len(programs), err)
	}
	var names []string
	for _, p := range programs {
		if name, ok := strings.CutPrefix(p, "/bbin/"); ok && name != "bb" && name != "init" {
			names = append(names, name)
		}
	}
	return "  `" + strings.Join(names, " ") + "`\n"
}

func replaceBetween(t *testing.T, doc, begin, end, text string) string {
	t.Helper()
	before, rest, ok := strings.Cut(doc, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", docFile, begin, end)
	}
	return before + begin + text + end + after
}

// TestDocumentationExamples checks every example scenario of the documentation.
func TestDocumentationExamples(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```")
	examples := 0
	for i := 1; i < len(blocks); i += 2 {
		text, ok := strings.CutPrefix(blocks[i], "txtar\n")
		if !ok {
			continue
		}
		examples++
		s, err := Parse("example", []byte(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		if err := Check(s); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if examples == 0 {
		t.Error("no examples")
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	r := Commands()
	if err := r.Help(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\n")
	if err := r.Help(&b, r.Names()...); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/help.want", b.String())
	for i, line := range strings.Split(b.String(), "\n") {
		if len(line) > 130 {
			t.Errorf("line %d has %d bytes", i+1, len(line))
		}
	}
	if err := r.Help(&b, "fly"); err == nil || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("help for what is no command: %v", err)
	}
}

// TestRegistry looks for descriptions that are not whole.
func TestRegistry(t *testing.T) {
	r := promptCommands()
	for _, name := range r.Names() {
		cmd := r.commands[name]
		if cmd.summary == "" || len(cmd.forms) == 0 || cmd.run == nil {
			t.Errorf("%s: no summary, form or code", name)
		}
		// What exec and push note is only that a program may be there from then on; the
		// others note nothing.
		if cmd.background && cmd.check != nil && !slices.Contains([]string{"tcp", "exec", "push", "marker"}, name) {
			t.Errorf("%s: changes the scope, and may run in the background", name)
		}
		waits := cmd.flag("within") != nil
		if waits != (cmd.deadline != noDeadline) {
			t.Errorf("%s: flag -within and a deadline belong together", name)
		}
		for _, fm := range cmd.forms {
			repeats := 0
			for i, a := range fm.args {
				if a.kind == nil {
					t.Errorf("%s: argument %s has no kind", name, a.name)
				}
				if a.repeat {
					repeats++
				}
				if a.optional && i < len(fm.args)-1 {
					t.Errorf("%s: optional argument %s is not the last", name, a.name)
				}
			}
			if repeats > 1 {
				t.Errorf("%s: %d arguments repeat", name, repeats)
			}
			for _, fl := range fm.flags {
				if (fl.kind == nil) != (fl.value == "") || fl.summary == "" {
					t.Errorf("%s: flag -%s", name, fl.name)
				}
			}
		}
	}
	if len(r.Names()) != len(r.names) {
		t.Errorf("a command is there twice: %v", r.names)
	}
}

// commandTable returns the commands as a table in Markdown.
func commandTable(r *Registry) string {
	var b strings.Builder
	b.WriteString("| command | does | around it |\n|---|---|---|\n")
	escape := strings.NewReplacer("|", "\\|")
	for _, name := range r.names {
		cmd := r.commands[name]
		var forms []string
		for i := range cmd.forms {
			forms = append(forms, "`"+cmd.forms[i].usage(cmd.name)+"`")
		}
		around := cmd.prefixes
		if cmd.background {
			around += "&"
		}
		if around != "" {
			around = "`" + strings.Join(strings.Split(around, ""), " ") + "`"
		}
		text := cmd.summary
		if cmd.detail != "" {
			text += ". " + strings.ReplaceAll(cmd.detail, "\n", " ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", escape.Replace(strings.Join(forms, "<br>")), escape.Replace(text), around)
	}
	return b.String()
}

// conditionTable returns the conditions as a table in Markdown.
func conditionTable() string {
	var b strings.Builder
	b.WriteString("| condition | holds when |\n|---|---|\n")
	for _, c := range conditions {
		var tags []string
		for _, tag := range conditionTags() {
			if name, _, _ := strings.Cut(tag, ":"); name == c.name {
				tags = append(tags, "`["+tag+"]`")
			}
		}
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(tags, " "), c.summary)
	}
	return b.String()
}
