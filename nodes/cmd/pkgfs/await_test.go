package pkgfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// called is a writer that calls a function before each write, with what is to
// be written.
type called func(p []byte)

func (f called) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestAwait: the operation before it is answered, and the one behind it is not
// sent, until the file is there.
func TestAwait(t *testing.T) {
	s := newServer(t)
	answered := 0
	s.Answer = func(_, honest []byte, send func([]byte)) {
		answered++
		send(honest)
	}
	s.Start(t)
	file := filepath.Join(t.TempDir(), "with space")
	var stdout, stderr bytes.Buffer
	status := Main(t.Context(),
		[]string{"-socket", s.Socket, "-peer", "node-b", "pk", "stat pkg:/none", "await " + file, "stat pkg:/system/big"},
		called(func(p []byte) {
			stdout.Write(p)
			if strings.HasPrefix(string(p), "STAT NOT_FOUND") {
				if answered != 1 {
					t.Errorf("%d answers before the file is there", answered)
				}
				if err := os.WriteFile(file, nil, 0o644); err != nil {
					t.Error(err)
				}
			}
		}), &stderr)
	if want := "STAT NOT_FOUND\nAWAIT OK\nSTAT OK size=300000 kind=0\n"; status != 0 || stdout.String() != want {
		t.Errorf("ended with %d, %q and\n%swant\n%s", status, &stderr, &stdout, want)
	}
}

func TestAwaitInterrupted(t *testing.T) {
	s := newServer(t).Start(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var stderr bytes.Buffer
	status := Main(ctx,
		[]string{"-socket", s.Socket, "-peer", "node-b", "pk", "stat pkg:/none", "await /nowhere/file", "stat pkg:/none"},
		called(func([]byte) { cancel(errors.New("terminated")) }), &stderr)
	if status != 1 || !strings.Contains(stderr.String(), "interrupted: terminated") {
		t.Errorf("ended with %d, %q", status, &stderr)
	}
}

// TestAwaitFails: a file that cannot be looked at is not awaited for ever.
func TestAwaitFails(t *testing.T) {
	s := newServer(t).Start(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := pkgfs(t, s, "pk", "await "+file+"/below", "stat pkg:/none")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "line 1, ") || !strings.Contains(stderr, "not a directory") {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
}
