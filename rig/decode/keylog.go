package decode

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"dsoftbus-rig/protocol/session"
)

// KeyLog reads a file of sessions' keys, one a line; empty lines, and those that begin with #, are left out. An error names the line and never shows it.
func KeyLog(path string) ([]session.Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the key log: %w", err)
	}
	defer f.Close()
	var keys []session.Keys
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := session.ParseKeys(line)
		if err != nil {
			return nil, fmt.Errorf("read the key log %s: line %d: %w", path, n, err)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the key log %s: %w", path, err)
	}
	return keys, nil
}

// Keys are those of one session.
type Keys = session.Keys
