package suite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/scenario"
)

// project makes a project folder with scenarios of the given content.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	root := project(t, map[string]string{
		"scenarios/roundtrip/basic.txtar": "# Basic.\nup\n",
		"scenarios/roundtrip/large.txtar": "# Large.\nup\n",
		"scenarios/reject/scheme.txtar":   "# Scheme.\nup\n",
		"scenarios/README.md":             "no scenario",
		"elsewhere/mine.txtar":            "# Mine.\nup\n",
	})
	elsewhere := filepath.Join(root, "elsewhere", "mine.txtar")
	inside := filepath.Join(root, "scenarios", "reject", "scheme.txtar")
	tests := []struct {
		patterns []string
		want     string // names, or a part of the error
	}{
		{nil, "reject/scheme roundtrip/basic roundtrip/large"},
		{[]string{"roundtrip/basic"}, "roundtrip/basic"},
		{[]string{"roundtrip"}, "roundtrip/basic roundtrip/large"},
		{[]string{"roundtrip/"}, "roundtrip/basic roundtrip/large"},
		{[]string{"scenarios/roundtrip"}, "roundtrip/basic roundtrip/large"},
		{[]string{"scenarios"}, "reject/scheme roundtrip/basic roundtrip/large"},
		{[]string{"*/*a*"}, "roundtrip/basic roundtrip/large"},
		{[]string{"reject", "reject/scheme", inside}, "reject/scheme"},
		{[]string{elsewhere}, "mine"},
		{[]string{"round"}, `no scenario matches "round"; ` + "`rig list`"},
		{[]string{"roundtrip/basci"}, `no scenario matches "roundtrip/basci"; did you mean "roundtrip/basic"?`},
		{[]string{"basic"}, `no scenario matches "basic"; did you mean "roundtrip/basic"?`},
		{[]string{"rejct/"}, `no scenario matches "rejct/"; did you mean "reject"?`},
		{[]string{inside + "/../schem.txtar"}, `did you mean`},
		{[]string{""}, `no scenario matches ""`},
		{[]string{"reject", "nothing"}, `no scenario matches "nothing"`},
		{[]string{"[a"}, `pattern "[a": syntax error`},
		{[]string{"gone.txtar"}, "gone.txtar: no such file"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.patterns, " "), func(t *testing.T) {
			items, err := Find(root, tt.patterns)
			var names []string
			for _, item := range items {
				names = append(names, item.Name)
			}
			got := strings.Join(names, " ")
			if err != nil {
				got = err.Error()
			}
			if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFindReportsEveryProblemOfEveryScenario(t *testing.T) {
	root := project(t, map[string]string{
		"scenarios/a/one.txtar":  "up\ndance A\n",
		"scenarios/a/two.txtar":  "up\nmarker A '('\nexec C ls\n",
		"scenarios/a/good.txtar": "up\n",
	})
	_, err := Find(root, nil)
	var problems scenario.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"one.txtar:2:", "two.txtar:2:", "two.txtar:3:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
	}
}

// An "@" in a name would make a scenario look like a further playing of another.
func TestFindRefusesAt(t *testing.T) {
	root := project(t, map[string]string{"scenarios/a/one@2.txtar": "up\n", "scenarios/a/one.txtar": "up\n"})
	if _, err := Find(root, nil); err == nil || !strings.Contains(err.Error(), "one@2.txtar") || !strings.Contains(err.Error(), "rename the file") {
		t.Errorf("got %v", err)
	}
	if _, err := Find(root, []string{"a/one"}); err != nil {
		t.Errorf("one that nobody asked for: %v", err)
	}
}

func TestFindInAnEmptyProject(t *testing.T) {
	if _, err := Find(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "no scenario") {
		t.Errorf("got %v", err)
	}
}

// A folder is found by any path that leads to it, from wherever it is asked for.
func TestFindFolders(t *testing.T) {
	root := project(t, map[string]string{
		"scenarios/reject/scheme.txtar":   "# Scheme.\nup\n",
		"scenarios/roundtrip/basic.txtar": "# Basic.\nup\n",
		"notes/plain.txt":                 "up\n",
		"empty/README.md":                 "",
	})
	elsewhere := project(t, map[string]string{"mine/a/one.txtar": "up\n", "mine/two.txtar": "up\n"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	all := "reject/scheme roundtrip/basic"
	for _, tt := range []struct{ cwd, pattern, want string }{
		{".", "./scenarios/reject", "reject/scheme"},
		{".", "./scenarios/reject/", "reject/scheme"},
		{".", "scenarios/reject", "reject/scheme"},
		{".", "reject/../roundtrip", "roundtrip/basic"},
		{".", ".", all},
		{"scenarios", ".", all},
		{"scenarios/reject", ".", "reject/scheme"},
		{"scenarios/reject", "..", all},
		{"scenarios/reject", "../roundtrip", "roundtrip/basic"},
		{"scenarios/reject", "../*/b*", "roundtrip/basic"},
		{"scenarios/reject", "scheme.txtar", "reject/scheme"},
		{"scenarios/reject", "roundtrip", "roundtrip/basic"},
		{".", root, all},
		{".", filepath.Join(root, "scenarios", "reject"), "reject/scheme"},
		{".", filepath.Join(root, "scenarios", "re*", "*.txtar"), "reject/scheme"},
		{".", filepath.Join(link, "scenarios", "reject"), "reject/scheme"},
		{".", filepath.Join(link, "scenarios", "reject", "scheme.txtar"), "reject/scheme"},
		{".", filepath.Join(elsewhere, "mine"), "a/one two"},
		{".", filepath.Join(root, "empty"), "no scenario (*.txtar) in"},
		{".", "notes/plain.txt", "is no scenario: the name of its file does not end in .txtar"},
		{".", "./roundtrip", `no scenario matches "./roundtrip"; did you mean "roundtrip"?`},
	} {
		t.Run(tt.cwd+" "+tt.pattern, func(t *testing.T) {
			t.Chdir(filepath.Join(root, tt.cwd))
			if got := found(Find(root, []string{tt.pattern})); got != tt.want && !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// found is the names of items, or an error.
func found(items []Item, err error) string {
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, item := range items {
		names = append(names, item.Name)
	}
	return strings.Join(names, " ")
}

// Each file that is given is found, whatever it is called, and none twice.
func TestFindKeepsFilesOfOneNameApart(t *testing.T) {
	root := project(t, map[string]string{
		"scenarios/x.txtar":   "up\n",
		"scenarios/b/x.txtar": "up\n",
		"a/x.txtar":           "up\n",
		"b/x.txtar":           "# Another.\nup\n",
		"p@1/x.txtar":         "up\n",
		"p@1/y.txtar":         "up\n",
	})
	at := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	for from, to := range map[string]string{"a/link.txtar": "a/x.txtar", "a/inside.txtar": "scenarios/x.txtar"} {
		if err := os.Symlink(at(to), at(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(at("a/x.txtar"), at("a/hard.txtar")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	parent := filepath.Base(root)
	for _, tt := range []struct{ patterns, want string }{
		{"b/x.txtar a/x.txtar", parent + "/b/x a/x"}, // the project has a b/x of its own
		{"a/x.txtar b/x.txtar", parent + "/b/x a/x"},
		{"a/x.txtar x", "a/x x"},
		{"a/x.txtar ./a/x.txtar " + at("a/x.txtar"), "a/x"},
		{"a/x.txtar a/hard.txtar a/link.txtar", "hard"},
		{"a/link.txtar", "link"},
		{"a/inside.txtar x scenarios/x.txtar", "x"},
		{"p@1/x.txtar", "p-1/x"},
		{"p@1/y.txtar", "y"},
	} {
		items, err := Find(root, strings.Fields(tt.patterns))
		if got := found(items, err); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.patterns, got, tt.want)
		}
	}
	items, err := Find(root, []string{"b/x.txtar", "a/x.txtar"})
	if err != nil || len(items) != 2 || items[0].File != "b/x.txtar" || items[1].File != "a/x.txtar" { // by their names
		t.Errorf("%v, %v", items, err)
	}
}

// A record is JSON, in which two names that are no UTF-8 would be the same one.
func TestFindRefusesNamesThatAreNoText(t *testing.T) {
	root := project(t, map[string]string{"scenarios/\xff.txtar": "up\n", "scenarios/\xfe.txtar": "up\n"})
	if _, err := Find(root, nil); err == nil || !strings.Contains(err.Error(), "rename the file") {
		t.Errorf("got %v", err)
	}
}

// What lies behind a link to a folder is not left out unsaid.
func TestFindLeavesNothingOutUnsaid(t *testing.T) {
	root := project(t, map[string]string{"scenarios/a/one.txtar": "up\n", "more/two.txtar": "up\n"})
	if err := os.Symlink(filepath.Join(root, "more"), filepath.Join(root, "scenarios", "more")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	if got := found(Find(root, nil)); !strings.Contains(got, "scenarios/more is a link to a folder") {
		t.Errorf("got %q", got)
	}
	if got := found(Find(root, []string{"a", "scenarios/more"})); got != "a/one two" {
		t.Errorf("got %q", got)
	}
}
