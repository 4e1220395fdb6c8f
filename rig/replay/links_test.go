package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
)

// A file of a recording that is a link out of the run's folder is never read.
func TestLinksOutOfTheRun(t *testing.T) {
	private := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(private, []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"", recording.LogFile, recording.ConsoleFile, recording.PositionsFile, recording.KernelFile, recording.InitrdFile, "folder"} {
		run := t.TempDir()
		node := filepath.Join(run, "a", "x", "A")
		life, err := recording.Create(node)
		if err != nil {
			t.Fatal(err)
		}
		if err := recording.Write(life, recording.Machine{Node: "A"}); err != nil {
			t.Fatal(err)
		}
		summary := `{"schema":1,"scenarios":[{"name":"a/x","dir":"a/x"}]}`
		at := filepath.Join(life, link)
		switch link {
		case recording.KernelFile, recording.InitrdFile:
			at = filepath.Join(run, link)
		case "folder": // the scenario's
			at, summary = filepath.Join(run, link), strings.Replace(summary, `"dir":"a/x"`, `"dir":"folder"`, 1)
		}
		if link != "" {
			if err := os.Symlink(private, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(run, record.SummaryFile), []byte(summary), 0o644); err != nil {
			t.Fatal(err)
		}
		all, err := Scenarios(run)
		switch {
		case link == "" && (err != nil || len(all) != 1):
			t.Errorf("without a link: %v, %v", all, err)
		case link != "" && (err == nil || !strings.Contains(err.Error(), "escapes")):
			t.Errorf("%s: %v, %v", link, all, err)
		}
	}
}
