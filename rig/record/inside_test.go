package record

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "a key of somebody"

// foreignRecord returns the folder of a record with one scenario, a/b, whose
// summary is as given, beside a folder "ssh" with a key.
func foreignRecord(t *testing.T, summary string) (run, ssh string) {
	t.Helper()
	temp := t.TempDir()
	run, ssh = filepath.Join(temp, "runs", "theirs"), filepath.Join(temp, "ssh")
	for _, dir := range []string{filepath.Join(run, "a", "b"), ssh} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		filepath.Join(ssh, "id"):          secret,
		filepath.Join(run, EventsFile):    `{"schema":1,"seq":0,"time":"2026-01-01T00:00:00Z","t":0,"kind":"run-start"}` + "\n",
		filepath.Join(run, SummaryFile):   summary,
		filepath.Join(run, "a", "b", "x"): "fine",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return run, ssh
}

func TestInside(t *testing.T) {
	run, ssh := foreignRecord(t, "")
	for link, to := range map[string]string{"out": ssh, "up": "../../ssh", "id": filepath.Join(ssh, "id"), "in": "a"} {
		if err := os.Symlink(to, filepath.Join(run, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, ok := range map[string]bool{
		"a/b": true, "a/b/x": true, "in/b/x": true,
		"": false, "..": false, "../../ssh": false, "a/../../../ssh": false, ssh: false, "out": false, "out/id": false, "up/id": false, "id": false, "none": false,
	} {
		path, err := Inside(run, name)
		if (err == nil) != ok || ok && path != filepath.Join(run, name) {
			t.Errorf("%q: %q, %v", name, path, err)
		}
	}
}

// wholeTree returns the contents of all files below a folder, links followed.
func wholeTree(t *testing.T, dir string) (all string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		all += string(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestMergeCopiesNothingFromElsewhere(t *testing.T) {
	for name, plant := range map[string]struct {
		summary string
		link    func(run, ssh string) error
		fails   bool
	}{
		"a folder elsewhere":          {summary: `{"name":"a/b","dir":"../../ssh"}`},
		"files elsewhere":             {summary: `{"name":"a/b","dir":"a/b","events":"../../ssh/id","nodes":[{"name":"../../../ssh","journal":"../../ssh/id"}]}`},
		"a link in place of a folder": {summary: `{"name":"a/b","dir":"c"}`, link: func(run, ssh string) error { return os.Symlink(ssh, filepath.Join(run, "c")) }, fails: true},
		"a link above the folder":     {summary: `{"name":"a/b","dir":"c/ssh"}`, link: func(run, ssh string) error { return os.Symlink(filepath.Dir(ssh), filepath.Join(run, "c")) }, fails: true},
		"a link to a file":            {summary: `{"name":"a/b","dir":"a/b"}`, link: func(run, ssh string) error { return os.Symlink(filepath.Join(ssh, "id"), filepath.Join(run, "a/b/id")) }, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			run, ssh := foreignRecord(t, `{"schema":1,"scenarios":[`+plant.summary+`]}`)
			if plant.link != nil {
				if err := plant.link(run, ssh); err != nil {
					t.Fatal(err)
				}
			}
			rec, err := Load(run)
			if err != nil {
				t.Fatal(err)
			}
			c := rec.Summary.Scenarios[0]
			for _, n := range c.Nodes {
				if !filepath.IsLocal(n.Journal) {
					t.Errorf("a journal is in %s", n.Journal)
				}
			}
			if !filepath.IsLocal(c.Events) || !filepath.IsLocal(c.Work) {
				t.Errorf("the scenario has %s and %s", c.Events, c.Work)
			}
			dir, _, err := Merge(filepath.Join(t.TempDir(), "runs"), "all", []*Record{rec}, 0, nil)
			if (err != nil) != plant.fails {
				t.Errorf("merge: %v", err)
			}
			if all := wholeTree(t, dir); strings.Contains(all, secret) {
				t.Errorf("the joined record has the key: %s", all)
			}
		})
	}
}

// A link within the run's folder becomes the file that it leads to, and who may
// read a file stays.
func TestMergeKeepsModes(t *testing.T) {
	run, _ := foreignRecord(t, `{"schema":1,"scenarios":[{"name":"a/b","dir":"a/b"}]}`)
	keys := filepath.Join(run, "a", "b", KeysFile)
	for name, mode := range map[string]os.FileMode{keys: 0o600, filepath.Join(run, "a", "b", "mine"): 0o400, filepath.Join(run, "a", "b", "program"): 0o755} {
		if err := os.WriteFile(name, []byte("text"), mode); err != nil {
			t.Fatal(err)
		}
	}
	private := filepath.Join(run, "a", "b", "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../x", filepath.Join(private, "link")); err != nil {
		t.Fatal(err)
	}
	rec, err := Load(run)
	if err != nil {
		t.Fatal(err)
	}
	dir, _, err := Merge(t.TempDir(), "all", []*Record{rec}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	from := os.DirFS(filepath.Join(run, "a", "b"))
	to := filepath.Join(dir, "a", "b")
	for _, name := range []string{KeysFile, "mine", "program", "private", "x"} {
		was, err := fs.Stat(from, name)
		if err != nil {
			t.Fatal(err)
		}
		is, err := os.Lstat(filepath.Join(to, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if is.Mode() != was.Mode() {
			t.Errorf("%s: %s, was %s", name, is.Mode(), was.Mode())
		}
	}
	if info, err := os.Lstat(filepath.Join(to, "private", "link")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link: %v, %v", info, err)
	}
}
