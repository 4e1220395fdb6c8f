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
