package follow

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsoftbus-rig/rig/pace/pacetest"
)

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// within fails the test when f takes longer than anything here should.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(pacetest.Limit(20 * time.Second)):
		t.Fatal(what + ": it waits on")
	}
}

// The writer goes on only once its last piece was read: so each Read has to wait, and each wait to end.
func TestEachPieceIsReadWhenItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grows")
	f := open(t, path) // before there is such a file
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	pieces := make(chan string)
	read := make(chan error, 1)
	go func() {
		defer close(pieces)
		b := make([]byte, 64)
		for {
			n, err := f.Read(b)
			if err != nil {
				read <- err
				return
			}
			pieces <- string(b[:n])
		}
	}()
	within(t, "reading", func() {
		for _, want := range []string{"a", "bc\n", "d"} {
			if _, err := w.WriteString(want); err != nil {
				t.Error(err)
			}
			if got := <-pieces; got != want {
				t.Errorf("read %q, want %q", got, want)
			}
		}
		f.End()
		if err := <-read; !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestTheRestIsReadAfterTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789"), 10000)
	f := open(t, path)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f.End()
	f.End()
	within(t, "reading", func() {
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
		}
	})
}

func TestCloseEndsAWait(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "file"))
	ended := make(chan error, 1)
	waits := make(chan struct{})
	go func() {
		close(waits)
		_, err := f.Read(make([]byte, 1))
		ended <- err
	}()
	<-waits
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "reading", func() {
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestOpenOfNoPlace(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none", "file")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
