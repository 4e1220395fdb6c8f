package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportPrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "printk")
	if err := reportPrograms(file); err != nil {
		t.Errorf("a kernel that prints nothing: %v", err)
	}
	if err := os.WriteFile(file, []byte("4\t4\t1\t7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := reportPrograms(file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(got), "7\n") {
		t.Errorf("%q, %v", got, err)
	}
	if err := reportPrograms(t.TempDir()); err == nil {
		t.Error("a folder can be written to")
	}
}
