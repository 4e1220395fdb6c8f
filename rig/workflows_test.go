package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/suite"

	"github.com/rhysd/actionlint"
)

// expression is what GitHub puts something in place of.
var expression = regexp.MustCompile(`\$\{\{.*?\}\}`)

// array is what a script of ours puts behind a command line when it was asked to.
var array = regexp.MustCompile(`"\$\{[a-z]+\[@\]\}"`)

// commandLines returns the commands of a shell script that call the project's own programs, word by word. It knows as much of a shell as they need.
func commandLines(script string) (lines [][]string) {
	script = array.ReplaceAllString(expression.ReplaceAllString(script, "1"), "")
	for _, command := range regexp.MustCompile(`\n|&&|\|\||[|;]`).Split(strings.ReplaceAll(script, "\\\n", " "), -1) {
		if words := strings.Fields(command); len(words) > 0 && (strings.HasPrefix(words[0], "./scripts/") || strings.HasPrefix(words[0], "./bin/")) {
			lines = append(lines, words)
		}
	}
	return lines
}

// checkCommandLine reports what the program of a command line would refuse of it, and does nothing else. root is the project's folder.
func checkCommandLine(root string, words []string) error {
	program, args := words[0], words[1:]
	for _, word := range words {
		if strings.ContainsAny(word, `'"$`+"`") {
			return fmt.Errorf("%s: more of a shell than this test understands", word)
		}
	}
	if strings.HasPrefix(program, "./scripts/") {
		info, err := os.Stat(filepath.Join(root, program))
		if err != nil {
			return err
		}
		if info.Mode()&0o111 == 0 {
			return fmt.Errorf("%s cannot be executed", program)
		}
	}
	switch program {
	case "./scripts/setup":
		text, err := os.ReadFile(filepath.Join(root, program)) // to run it would install something
		for _, arg := range args {
			if !strings.Contains(string(text), arg+")") {
				err = errors.Join(err, fmt.Errorf("%s is in none of its cases", arg))
			}
		}
		return err
	case "./scripts/test":
		out, err := exec.Command(filepath.Join(root, program), append(slices.Clone(args), "-n")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	case "./scripts/run":
		args = append([]string{"run"}, args...)
	case "./bin/rig":
	default:
		return errors.New("no program that this test knows")
	}
	top := newRoot()
	cmd, rest, err := top.Find(longFlags(top, args))
	if err != nil {
		return err
	}
	if cmd == top {
		return errors.New("it names no command")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if cmd.PreRunE != nil {
		if err := cmd.PreRunE(cmd, cmd.Flags().Args()); err != nil {
			return err
		}
	}
	if cmd.Name() == "run" || cmd.Name() == "check" {
		_, err = suite.Find(root, cmd.Flags().Args())
	}
	return err
}

// plays reports whether a command line leaves records of runs.
func plays(words []string) bool {
	return words[0] == "./scripts/run" || words[0] == "./scripts/test" || words[0] == "./bin/rig" && len(words) > 1 && slices.Contains([]string{"run", "soak", "merge"}, words[1])
}

// pinned is the line of an action that cannot change under a workflow: its
// repository, the commit, and the tag that the commit had.
var pinned = regexp.MustCompile(`^\s*(- )?uses: [\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+(\.\d+)*$`)

// unpinned returns the lines of a workflow that use an action by a tag or a
// branch, which its owner can move to any other commit.
func unpinned(workflow string) (lines []string) {
	for line := range strings.Lines(workflow) {
		line = strings.TrimRight(line, "\r\n")
		if strings.Contains(line, "uses:") && !pinned.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	uses := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		uses += strings.Count(string(data), "uses:")
		for _, line := range unpinned(string(data)) {
			t.Errorf("%s: %s: name the action's commit, and its tag in a comment", file, strings.TrimSpace(line))
		}
	}
	if uses == 0 {
		t.Error("no workflow uses an action: is it still found?")
	}
	const commit = "11d5960a326750d5838078e36cf38b85af677262"
	for line, wrong := range map[string]bool{
		"      - uses: actions/checkout@" + commit + " # v4.4.0":  false,
		"        uses: a/b/c@" + commit + " # v4":                 false,
		"      - uses: actions/checkout@v4":                       true,
		"      - uses: actions/checkout@" + commit:                true,
		"      - uses: actions/checkout@" + commit[:39] + " # v4": true,
		"      - {uses: actions/checkout@main} # v4":              true,
	} {
		if got := len(unpinned(line)) > 0; got != wrong {
			t.Errorf("%s: unpinned is %t", line, got)
		}
	}
}

func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	seen := map[string]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		workflow, problems := actionlint.Parse(data)
		for _, p := range problems {
			t.Errorf("%s: %v", file, p)
		}
		if workflow == nil {
			continue
		}
		for id, job := range workflow.Jobs {
			built, played, kept := false, false, false
			for _, step := range job.Steps {
				switch do := step.Exec.(type) {
				case *actionlint.ExecAction:
					if strings.HasPrefix(do.Uses.Value, "actions/upload-artifact@") {
						kept = kept || step.If != nil && step.If.Value == "always()"
					}
				case *actionlint.ExecRun:
					for _, words := range commandLines(do.Run.Value) {
						seen[words[0]]++
						if err := checkCommandLine("..", words); err != nil {
							t.Errorf("%s:%d: %s: %v", file, do.Run.Pos.Line, strings.Join(words, " "), err)
						}
						played = played || plays(words)
						if words[0] == "./bin/rig" && !built && !strings.Contains(do.Run.Value, "go build -o bin/rig") {
							t.Errorf("%s:%d: nothing before has built bin/rig", file, do.Run.Pos.Line)
						}
						built = built || words[0] == "./scripts/run" || words[0] == "./scripts/test"
					}
					built = built || strings.Contains(do.Run.Value, "go build -o bin/rig ./rig")
				}
			}
			if played && !kept {
				t.Errorf("%s: job %s leaves records, and does not always keep them", file, id)
			}
		}
	}
	for _, program := range []string{"./scripts/run", "./scripts/test", "./scripts/setup", "./bin/rig"} {
		if seen[program] == 0 {
			t.Errorf("no workflow calls %s: is it still found?", program)
		}
	}
}

// What scripts call has to be there, too.
func TestScripts(t *testing.T) {
	for _, file := range []string{"../scripts/test"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := commandLines(string(data))
		if len(lines) < 4 {
			t.Errorf("%s: only %d command lines found", file, len(lines))
		}
		for _, words := range lines {
			if err := checkCommandLine("..", words); err != nil {
				t.Errorf("%s: %s: %v", file, strings.Join(words, " "), err)
			}
		}
	}
}

// The check above is worth what it finds.
func TestCommandLinesThatAreWrong(t *testing.T) {
	for line, says := range map[string]string{
		"./scripts/run -shart 1/2":              "shart",
		"./scripts/run -shard ${{ x }}/0":       "-shard 1/0",
		"./scripts/run -both -retries 1":        "-retries with -both",
		"./scripts/run roundtrip/gone":          "no scenario matches",
		"./scripts/gone":                        "no such file",
		"./scripts/test -short":                 "usage: scripts/test",
		"./scripts/setup -y":                    "none of its cases",
		"./bin/rig":                             "names no command",
		"./bin/rig dance":                       "names no command",
		"./bin/rig merge":                       "name the folders",
		"./bin/rig soak -for 0":                 "-for",
		"./bin/rig run \"a b\"":                 "more of a shell",
		"./bin/other":                           "no program",
		"./bin/rig doctor && ./bin/rig list -x": "unknown shorthand",
	} {
		var errs []error
		for _, words := range commandLines(line) {
			errs = append(errs, checkCommandLine("..", words))
		}
		if err := errors.Join(errs...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"go build ./rig", "echo ./scripts/gone", "./scripts/run -shard ${{ matrix.shard }}/2 \\\n  -repeat 3", "./scripts/test -long"} {
		for _, words := range commandLines(line) {
			if err := checkCommandLine("..", words); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func TestTellGitHub(t *testing.T) {
	page := filepath.Join(t.TempDir(), "summary.md")
	if err := os.WriteFile(page, []byte("what was there\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{gitHubSummary + "=" + page, gitHubActions + "=true"}
	one, two := shardOf(t, "a/x", "passed", ""), shardOf(t, "a/y", "failed", "exec-status")
	out, status := rig(t, env, "merge", "-runs", t.TempDir(), one, two)
	if status != 1 {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	data, err := os.ReadFile(page)
	if err != nil || !strings.HasPrefix(string(data), "what was there\n### merged: failed\n") || !strings.Contains(string(data), "| a/y | failed |") {
		t.Errorf("%v:\n%s", err, data)
	}
	if strings.Contains(out, "::error") {
		t.Errorf("what the parts have said is said again:\n%s", out)
	}

	// A run of a host that cannot play has a failure, too, and needs no machine.
	out, status = rig(t, env, "run", "-qemu", "no-such-qemu", "-runs", t.TempDir(), "-C", "..", "roundtrip/basic")
	if status != 3 || !strings.Contains(out, "\n::error title=broken (host-unsupported)::this host lacks something the rig needs: ") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	out, _ = rig(t, env, "run", "-json", "-qemu", "no-such-qemu", "-runs", t.TempDir(), "-C", "..", "roundtrip/basic")
	if strings.Contains(out, "::error") {
		t.Errorf("a program reads this:\n%s", out)
	}
	if data, err := os.ReadFile(page); err != nil || strings.Count(string(data), "### ") != 3 {
		t.Errorf("%v:\n%s", err, data)
	}
	out, status = rig(t, []string{gitHubSummary + "=/no/such/folder/x"}, "merge", "-runs", t.TempDir(), one)
	if status != 0 || !strings.Contains(out, "cannot write the GitHub step summary") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	out, _ = rig(t, nil, "run", "-qemu", "no-such-qemu", "-runs", t.TempDir(), "-C", "..", "roundtrip/basic")
	if strings.Contains(out, "::error") {
		t.Errorf("GitHub is told where it is not:\n%s", out)
	}
}
