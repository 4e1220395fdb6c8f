package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hardNames are names of scenarios whose folders would be one, or in each other, if they were called as the scenarios are.
var hardNames = []string{
	"zz", "zz/work", "zz/work/deeper", "zz/A", "zz/events.jsonl", "zz/coverage", "测试", "验证", "a b", "a-b", "a/测试", "a/验证", "Upper/x", "upper/x",
	strings.Repeat("n", 64) + "1", strings.Repeat("n", 64) + "2", "events.jsonl", "summary.json/x", "report.html", "kernel.image", ".hidden", "hidden",
	"zz@2", "a b@2", "a-b@2", "测试@retry1", "验证@retry1", "..", "",
}

func TestEachScenarioHasAFolderOfItsOwn(t *testing.T) {
	run := mustCreate(t, t.TempDir(), "names", nil)
	ordinary := map[string]string{}
	for _, name := range []string{"roundtrip/basic", "roundtrip/basic@2", "reject/v1.2_x-Y", "top"} {
		ordinary[name] = name
	}
	for name, want := range ordinary {
		if got := run.Folder(name); got != want {
			t.Errorf("the folder of %s is %s", name, got)
		}
	}
	for _, name := range hardNames {
		dir := run.Folder(name)
		if again := run.Folder(name); again != dir {
			t.Errorf("%q: %s, then %s", name, dir, again)
		}
		s, err := CreateScenario(run.Dir(), dir, name, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if err := errors.Join(os.WriteFile(filepath.Join(s.Work(), "whose"), []byte(name), 0o644), s.Append(Event{Kind: KindScenarioStart, Dir: dir}), s.Close()); err != nil {
			t.Error(err)
		}
	}
	// What one attempt does with its folder is nothing to others.
	for i, name := range hardNames {
		dir := filepath.Join(run.Dir(), filepath.FromSlash(run.Folder(name)))
		whose, err := os.ReadFile(filepath.Join(dir, workDir, "whose"))
		if err != nil || string(whose) != name {
			t.Errorf("%q (%s): %q, %v", name, dir, whose, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("%q (%s): %v, %v", name, dir, entries, err)
		}
		if i%2 == 0 {
			if err := os.RemoveAll(filepath.Join(dir, workDir)); err != nil {
				t.Error(err)
			}
		}
	}
}

// Parts of a joined run keep their folders apart, too, and an end of one record finds its own.
func TestMergeKeepsFoldersApart(t *testing.T) {
	temp := t.TempDir()
	one := shard(t, filepath.Join(temp, "one"), 3, nil, map[string]Result{"zz": Passed, "a b": Failed, "测试": Passed})
	two := shard(t, filepath.Join(temp, "two"), 3, nil, map[string]Result{"zz/work": Failed, "a-b": Passed, "验证": Failed})
	dir, s, err := Merge(filepath.Join(temp, "runs"), "all", []*Record{one, two}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Scenarios) != 6 {
		t.Fatalf("%d scenarios", len(s.Scenarios))
	}
	for _, c := range s.Scenarios {
		n := 0
		if _, err := ReadEvents(filepath.Join(dir, filepath.FromSlash(c.Events)), func(e Event) error {
			n++
			if e.Scenario != c.Name {
				t.Errorf("%s has an event of %s", c.Name, e.Scenario)
			}
			return nil
		}); err != nil || n != 2 {
			t.Errorf("%s: %d events, %v", c.Name, n, err)
		}
	}
}

// A record may come from anybody: its folders are in the run's.
func TestFoldersLeadNowhereElse(t *testing.T) {
	dir := t.TempDir()
	events := `{"schema":1,"seq":0,"time":"2026-01-01T00:00:00Z","t":0,"scenario":"a/b","kind":"scenario-start","dir":"../../etc"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, EventsFile), []byte(events), 0o644); err != nil {
		t.Fatal(err)
	}
	rec, err := Load(dir)
	if err != nil || rec.Summary.Scenarios[0].Dir != "a/b" {
		t.Errorf("%+v, %v", rec, err)
	}
	summary := `{"schema":1,"scenarios":[{"name":"a/b","dir":"../../etc"}]}`
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), []byte(summary), 0o644); err != nil {
		t.Fatal(err)
	}
	rec, err = Load(dir)
	if err != nil || rec.Summary.Scenarios[0].Dir != "a/b" || len(rec.Warnings) != 1 || !strings.Contains(rec.Warnings[0], "../../etc") {
		t.Errorf("%+v, %v", rec, err)
	}
}
