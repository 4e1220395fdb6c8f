package guest

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Name is a name that came from a machine and becomes that of a file on the
// host: one element of a path, checked by ParseName. A machine runs what it is
// told to, and may name things as an attacker likes.
type Name struct{ name string }

// maxName bounds a Name, in bytes: with what the rig puts around it, a file
// system takes it.
const maxName = 128

// ParseName returns a machine's name for something as a Name, or an error that
// says why no file may have it.
func ParseName(name string) (Name, error) {
	odd := func(r rune) bool { return r == '/' || r == '\\' || !unicode.IsPrint(r) }
	switch {
	case name == "" || len(name) > maxName:
		return Name{}, fmt.Errorf("the machine names a file by %d bytes; 1 to %d are possible", len(name), maxName)
	case name[0] == '.' || !utf8.ValidString(name) || strings.ContainsFunc(name, odd):
		return Name{}, fmt.Errorf("the machine names a file %q: a name begins with no dot, and has no slash, backslash or control character", name)
	}
	return Name{name}, nil
}

// In returns the path of a file in a folder whose name is n between the two others.
func (n Name) In(dir, before, behind string) string { return filepath.Join(dir, before+n.name+behind) }

func (n Name) String() string { return n.name }
