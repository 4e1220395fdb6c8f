package history

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotesAreKept(t *testing.T) {
	dir := t.TempDir()
	if notes, err := ReadNotes(dir); err != nil || notes != nil {
		t.Errorf("of a run without notes: %v, %v", notes, err)
	}
	want := []Note{{"a/b", NewFailure, "fails for the first time in 3 playings"}, {"a/c", Slower, "slower than usual: took 3s"}}
	var text strings.Builder
	if err := WriteNotes(&text, want); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, NotesFile)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(text.String())
	got, err := ReadNotes(dir)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	for bad, what := range map[string]string{`{"schema": 2}`: "schema is 2", `{"schema": `: "unexpected end"} {
		write(bad)
		if _, err := ReadNotes(dir); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q and the file's name in it", bad, err, what)
		}
	}
}
