package machine

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The core is an ELF with all of the memory, most of it holes, and the firmware in it.
func TestDump(t *testing.T) {
	m := idle(t)
	go func() {
		for range m.Events() {
		}
	}()
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a core, of memory")
	if err := m.Dump(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if status, err := m.Status(t.Context()); status != "running" || err != nil {
		t.Errorf("afterwards the machine is %s, %v", status, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if onDisk := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Mode() != 0o600 || info.Size() < DefaultMemory<<20 || onDisk > info.Size()/4 {
		t.Errorf("mode %v, %d bytes, %d of them on disk", info.Mode(), info.Size(), onDisk)
	}
	core, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	// What machine it is of depends on how far it has come; this one has no 64-bit code.
	if core.Type != elf.ET_CORE {
		t.Errorf("type %v of %v", core.Type, core.Machine)
	}
	var loaded uint64
	var found bool
	for _, p := range core.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		loaded += p.Filesz
		if p.Filesz <= 1<<20 { // the firmware has a range of its own
			content, err := io.ReadAll(p.Open())
			found = found || err == nil && bytes.Contains(content, []byte("SeaBIOS"))
		}
	}
	if loaded < DefaultMemory<<20 || !found {
		t.Errorf("%d bytes of memory in %d segments; the firmware is there: %t", loaded, len(core.Progs), found)
	}
}

func TestDumpFailures(t *testing.T) {
	m := idle(t)
	go func() {
		for range m.Events() {
		}
	}()
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Dump(t.Context(), taken); err == nil || !strings.Contains(err.Error(), taken+" is there already") {
		t.Errorf("over a file: %v", err)
	}
	if content, err := os.ReadFile(taken); err != nil || string(content) != "precious" {
		t.Errorf("it is now %q, %v", content, err)
	}
	if err := m.Dump(t.Context(), filepath.Join(dir, "none", "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into no folder: %v", err)
	}
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(over)
	left := filepath.Join(dir, "left")
	if err := m.Dump(ctx, left); !errors.Is(err, over) {
		t.Errorf("with no time: %v", err)
	}
	m.Kill()
	if err := m.Dump(t.Context(), left); !errors.Is(err, ErrExited) {
		t.Errorf("of no machine: %v", err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed dump has left its file: %v", err)
	}
}

func TestDigHoles(t *testing.T) {
	const mib = 1 << 20
	content := make([]byte, 5*mib+123)
	content[0], content[mib+4096*3], content[3*mib-1], content[len(content)-1] = 1, 2, 3, 4
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := digHoles(f); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
		t.Errorf("it reads otherwise: %d bytes, %v", len(got), err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if onDisk := info.Sys().(*syscall.Stat_t).Blocks * 512; onDisk > mib {
		t.Errorf("%d bytes on disk", onDisk)
	}
}
