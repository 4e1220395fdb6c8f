package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads the kernel modules listed, one file name a line, in
// dir/order, and returns how many it loaded. A kernel with every driver built in
// has no such list.
func loadModules(dir string) (int, error) {
	list, err := os.Open(filepath.Join(dir, "order"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load kernel modules: %w", err)
	}
	defer list.Close()
	n := 0
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		name := strings.TrimSpace(lines.Text())
		if name == "" {
			continue
		}
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return n, err
		}
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("load kernel modules: read the order: %w", err)
	}
	return n, nil
}

// loadOptional loads a module that no boot needs, after those it needs itself. Each
// line of dir/optional has a module's name and the files to load for it, in order, of
// which some may be loaded already. A module that is not listed is no error: it is built
// in, or whoever needs it finds out.
func loadOptional(dir, name string) error {
	list, err := os.ReadFile(filepath.Join(dir, "optional"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load kernel module %s: %w", name, err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != name {
			continue
		}
		for _, file := range fields[1:] {
			if err := loadModule(filepath.Join(dir, file)); err != nil {
				return fmt.Errorf("for %s: %w", name, err)
			}
		}
		return nil
	}
	return nil
}

// loadModule loads one module. ENOENT does not mean that the file is missing but
// that the module needs a symbol nobody has loaded: the order is wrong.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("load kernel module: %w", err)
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("load kernel module %s: unknown symbol: a module it needs is not loaded before it", path)
	case err != nil:
		return fmt.Errorf("load kernel module %s: %w", path, err)
	}
	return nil
}

// printkFile says which messages of the kernel go to the console.
const printkFile = "/proc/sys/kernel/printk"

// reportPrograms has the kernel's console show messages down to "info", of which
// the line about a program that died of a fault is one. The kernel says such
// things on its console alone, and that is where the rig looks for them. A kernel
// without the file prints nothing at all.
func reportPrograms(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString("7\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("have the kernel report programs that died of a fault: %w", err)
	}
	return nil
}
