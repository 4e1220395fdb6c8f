package packagefsd

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/pk"
)

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx, cancel
}

// TestReady: the marker is printed when the service answers, and the end is
// clean.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	root, socket := filepath.Join(dir, "packages"), filepath.Join(dir, "s")
	if err := os.MkdirAll(filepath.Join(root, "system@1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "system@1.0.0/x"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := testContext(t)
	lines, stdout := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"-root", root, "-socket", socket}, stdout, &stderr)
		stdout.Close()
	}()
	line := make([]byte, 100)
	n, err := lines.Read(line)
	if err != nil || string(line[:n]) != "packagefsd: ready\n" {
		t.Fatalf("first line is %q, %v", line[:n], err)
	}
	f, err := packagefsd.NewClient(socket).Resolve(ctx, pk.Name{Bundle: "system", Path: "x"})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()

	// A second one says that the first is in its way.
	var second bytes.Buffer
	if status := Main(ctx, []string{"-root", root, "-socket", socket}, io.Discard, &second); status != 1 || !strings.Contains(second.String(), "another process serves it") {
		t.Errorf("a second one ended with %d, %q", status, &second)
	}

	cancel()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Errorf("more output: %q, %v", rest, err)
	}
	if status := <-ended; status != 0 || stderr.Len() != 0 {
		t.Errorf("it ended with %d, %q", status, &stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-h"}, 0, "-root"},
		{[]string{"-nope"}, 2, "-nope"},
		{[]string{"extra"}, 2, `unexpected argument "extra"`},
		{[]string{"-socket", filepath.Join(t.TempDir(), "no", "s")}, 1, "claim socket"},
	} {
		ctx, _ := testContext(t)
		var stdout, stderr bytes.Buffer
		if status := Main(ctx, c.args, &stdout, &stderr); status != c.status || stdout.Len() != 0 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%q ended with %d, %q, %q; want %d and %q", c.args, status, &stdout, &stderr, c.status, c.want)
		}
	}
}
