package tty

import (
	"os"
	"testing"
	"time"

	"dsoftbus-rig/rig/ptytest"

	"golang.org/x/term"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Command {
		os.Exit(Main())
	}
	Program = "/proc/self/exe"
	os.Exit(m.Run())
}

// limit bounds every wait. It is no figure: a busy host takes what it takes.
const limit = 30 * time.Second

func raw(t *testing.T, f *os.File) {
	t.Helper()
	if _, err := term.MakeRaw(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

func TestKeep(t *testing.T) {
	x := ptytest.Open(t, 24, 80, limit)
	restore, err := Keep(x.Slave())
	if err != nil {
		t.Fatal(err)
	}
	raw(t, x.Slave())
	restore()
	x.IsAsBefore()
	// What is changed afterwards is somebody else's.
	raw(t, x.Slave())
	changed := x.Settings()
	restore()
	if x.Settings() != changed {
		t.Error("it restores a second time")
	}
}

func TestKeepWithoutTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := Keep(r); err == nil {
		t.Error("a pipe was taken for a terminal")
	}
}

// Without a process that looks after it, the program restores the terminal by
// itself.
func TestKeepAlone(t *testing.T) {
	defer func(program string) { Program = program }(Program)
	for _, Program = range []string{"", "/nonexistent", "/bin/true"} {
		x := ptytest.Open(t, 24, 80, limit)
		restore, err := Keep(x.Slave())
		if err != nil {
			t.Fatal(err)
		}
		raw(t, x.Slave())
		restore()
		x.IsAsBefore()
	}
}
