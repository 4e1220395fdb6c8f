package scenario

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/tools/txtar"
)

// A Fixture is a file of the scenario's archive.
type Fixture struct {
	Name string // slash-separated, clean and relative
	Data []byte
	Line int // of its marker line in the scenario file, from 1
}

// maxFixtureName keeps names within what every file system and the copy to a node
// take, with room for the folder in front; maxNamePart is the same for what is
// between two slashes.
const (
	maxFixtureName = 1024
	maxNamePart    = 255
)

// Bounds of a scenario file. A fixture that would need more is better made on a
// node, where it costs nothing to store: `exec B dd if=/dev/urandom …`. The bounds of
// the script keep the time short in which all problems of a file are found that is
// no scenario at all.
const (
	MaxSize   = 8 << 20 // bytes of the file
	MaxScript = 1 << 20 // bytes in front of the first fixture
	MaxLines  = 10_000  // lines there
)

// A refusal is why a file is not read at all.
type refusal struct {
	line int // 0: the whole file
	fault
}

// split splits a scenario file into its script and its fixtures.
func split(data []byte) (script []byte, fixtures []Fixture, no *refusal) {
	newline := []byte("\n")
	if len(data) > MaxSize {
		return nil, nil, &refusal{fault: fault{
			reason: fmt.Sprintf("the file has more than %d MiB", MaxSize>>20),
			next:   "make the large file on a node with `exec`, or `pull` it",
		}}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, nil, &refusal{line: 1 + bytes.Count(data[:i], newline), fault: fault{
			reason: "NUL byte in the file: a scenario is text",
			next:   "make binary content on a node with `exec`, or send it as hex",
		}}
	}
	if i := invalidUTF8(data); i >= 0 {
		return nil, nil, &refusal{line: 1 + bytes.Count(data[:i], newline), fault: fault{
			reason: fmt.Sprintf("byte %#02x is not UTF-8: a scenario is text", data[i]),
			next:   "save the file as UTF-8; make binary content on a node with `exec`, or send it as hex",
		}}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // the mark some editors begin UTF-8 with
	ar := txtar.Parse(unifyLineEnds(data))
	lines := bytes.Count(ar.Comment, newline)
	if lines > MaxLines || len(ar.Comment) > MaxScript {
		return nil, nil, &refusal{fault: fault{
			reason: fmt.Sprintf("the script has %d lines and %d bytes, the limits are %d and %d", lines, len(ar.Comment), MaxLines, MaxScript),
			next:   "put data into fixtures, or split the scenario",
		}}
	}
	line := 1 + lines
	for _, f := range ar.Files {
		fixtures = append(fixtures, Fixture{Name: f.Name, Data: f.Data, Line: line})
		line += 1 + bytes.Count(f.Data, newline)
	}
	return ar.Comment, fixtures, nil
}

// invalidUTF8 returns where the first byte is that is no UTF-8, -1 for none.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// unifyLineEnds turns CRLF into LF if every line ends in CRLF: then an editor or a
// checkout did it, and fixtures would not have the content and digests they are
// meant to have. Where only some lines do, it is meant.
func unifyLineEnds(data []byte) []byte {
	crlf := bytes.Count(data, []byte("\r\n"))
	if crlf == 0 || crlf != bytes.Count(data, []byte("\n")) {
		return data
	}
	return bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
}

// places remembers in which lines the names of fixtures and of the folders above
// them came first.
type places struct {
	files, folders map[string]int
}

// add takes the next fixture of a file, or says why its name cannot be.
func (p places) add(fx Fixture) *fault {
	if f := checkFixtureName(fx.Name); f != nil {
		return f
	}
	if line, ok := p.files[fx.Name]; ok {
		return faultf("rename one of them", "fixture %q is there twice, first in line %d", fx.Name, line)
	}
	if line, ok := p.folders[fx.Name]; ok {
		return faultf("rename one of them", "fixture %q is a folder in line %d", fx.Name, line)
	}
	for dir := path.Dir(fx.Name); dir != "."; dir = path.Dir(dir) {
		if line, ok := p.files[dir]; ok {
			return faultf("rename one of them", "fixture %q is a file in line %d, so %q cannot be", dir, line, fx.Name)
		}
	}
	p.files[fx.Name] = fx.Line
	for dir := path.Dir(fx.Name); dir != "."; dir = path.Dir(dir) {
		if _, ok := p.folders[dir]; !ok {
			p.folders[dir] = fx.Line
		}
	}
	return nil
}

// longPart returns the first part of a name that no file system takes, "" for none.
func longPart(name string) string {
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxNamePart {
			return part
		}
	}
	return ""
}

// systemFolders are those of a node's image: no file can be in their place.
var systemFolders = []string{"bbin", "bin", "dev", "etc", "lib", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "usr/lib", "var", "var/log"}

// checkOnNode says why a fixture cannot be placed on a node, under a path that is
// given without its first slash.
func checkOnNode(path string) *fault {
	top, _, _ := strings.Cut(path, "/")
	switch {
	case slices.Contains(systemFolders, path):
		return faultf("name a file in it", "/%s is a folder of every node", path)
	case slices.Contains([]string{"proc", "sys", "dev"}, top):
		return faultf("write there with `exec` when the node is up", "/%s of a node is the kernel's, no file can be placed there", top)
	}
	return nil
}

func checkFixtureName(name string) *fault {
	switch {
	case len(name) > maxFixtureName:
		return faultf("shorten it", "fixture name of %d bytes, the limit is %d", len(name), maxFixtureName)
	case longPart(name) != "":
		return faultf("shorten it", "fixture name with a part of %d bytes, the limit is %d: %.20s…", len(longPart(name)), maxNamePart, longPart(name))
	case strings.HasPrefix(name, "/"):
		return faultf("drop the leading slash: A/etc/hosts is /etc/hosts on node A", "fixture name %q is absolute", name)
	case strings.ContainsRune(name, '\\') || strings.ContainsFunc(name, unicode.IsControl):
		return faultf("use letters, digits and slashes", "fixture name %q holds a backslash or a control character", name)
	case !fs.ValidPath(name) || name == ".":
		return faultf("write it without '.', '..' and empty parts", "fixture name %q is not a clean path inside of the scenario's folder", name)
	case name == "stdout" || name == "stderr":
		return faultf("rename it", "fixture name %q means a command's output", name)
	}
	return nil
}
