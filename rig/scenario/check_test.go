package scenario

import (
	goflag "flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = goflag.Bool("update", false, "write what the tests get as what they want")

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got:\n%s\nwant:\n%s", name, got, want)
	}
}

// testPrograms are those of a node in these tests.
var testPrograms = []string{
	"/bbin/chmod", "/bbin/cp", "/bbin/echo", "/bbin/false", "/bbin/gosh", "/bbin/ls", "/bbin/mv", "/bbin/true",
	"/bin/dsoftbusd", "/bin/netbench", "/bin/packagefsd", "/bin/pkgfs", "/bin/selftest-client",
}

// TestCheck loads every testdata/check/*.txtar and compares what is wrong with it
// with the file of the same name ending in .want.
func TestCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			got := "ok\n"
			if _, err := Load(file, testPrograms); err != nil {
				got = strings.ReplaceAll(err.Error(), "testdata/check/", "") + "\n"
			}
			golden(t, strings.TrimSuffix(file, ".txtar")+".want", got)
		})
	}
}
