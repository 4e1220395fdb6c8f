package guest

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, name := range []string{"dsoftbusd", "a b", "covcounters.1.2", "é", strings.Repeat("x", maxName)} {
		n, err := ParseName(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
		} else if got, want := n.In("/run", "stacks-", ".txt"), "/run/stacks-"+name+".txt"; got != want {
			t.Errorf("%q is at %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"", ".", "..", ".ssh", "x/../../../../victim/notes", "/etc/passwd", `a\b`, "a\x00b", "a\nb", "a\x1b[2J",
		"\u202eb", "\xff", strings.Repeat("x", maxName+1)} {
		if n, err := ParseName(name); err == nil || strings.ContainsAny(err.Error(), "\x00\x1b\n\u202e") {
			t.Errorf("%q: got %q, %v; want a clean error", name, n.In("/run", "", ""), err)
		}
	}
	if dir := filepath.Dir(Name{}.In("/run", "x", "")); dir != "/run" {
		t.Errorf("no name leads to %q", dir)
	}
}
