// Package cover joins what tests on the host have run of the machines' programs with what scenarios have run of them in machines, and tells both apart: which
// statements only two machines reach is what the rig is there for.
//
// It reads profiles and folders of counters (GOCOVERDIR) with the go command's own tools, and writes a profile, a page and a table. It starts no machine and
// plays nothing.
package cover

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/images"

	"golang.org/x/tools/cover"
)

// By says who has reached a statement: none, one or both of ByHost and ByMachines.
type By uint8

const (
	ByHost     By = 1 << iota // a test on the host
	ByMachines                // a scenario, in a machine

	ByNobody By = 0
	ByBoth      = ByHost | ByMachines
)

// A Profile is what has run, by one or several programs of the same source.
type Profile struct{ files []*cover.Profile }

// A position is where a block of statements lies in a file: from line and column to line and column, from 1, the end excluded.
type position struct{ line, col, endLine, endCol int }

func at(b cover.ProfileBlock) position { return position{b.StartLine, b.StartCol, b.EndLine, b.EndCol} }

// A Block is statements of a file that run one after the other, or not at all.
type Block struct {
	position
	Statements int
	By         By
}

// A File is one of the source.
type File struct {
	Name   string // with its package's path: "dsoftbus-rig/protocol/pk/op.go"
	Blocks []Block
}

// Figures count statements.
type Figures struct {
	Package  string // its path; "total" for all
	All      int
	Host     int // reached by tests on the host
	Machines int // reached in machines
	Together int // reached by either
	Only     int // reached in machines only
}

// A Coverage is two profiles of the same source, joined.
type Coverage struct {
	Files []File // by name
	// WithHost says whether there was a profile of tests on the host; without one ByHost is said of nothing.
	WithHost bool
}

// Load reads a profile that `go test -coverprofile` wrote, or a folder of counters, GOCOVERDIR of programs built with -cover.
func Load(ctx context.Context, name string) (*Profile, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	if info.IsDir() {
		return LoadCounters(ctx, name)
	}
	return loadFile(name)
}

func loadFile(name string) (*Profile, error) {
	files, err := cover.ParseProfiles(name)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %s is no profile as `go test -coverprofile` writes it: %w", name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read coverage: %s says nothing of any file: was it made with -coverpkg=./nodes/...,./protocol/...?", name)
	}
	return &Profile{files}, nil
}

// foldersAtOnce bounds how many folders the go command's tool is given at once: their names are one argument, of which the kernel takes 128 KiB.
const foldersAtOnce = 200

// LoadCounters reads folders of counters, of programs of one source. A folder without any counts for nothing; that all are is an error.
func LoadCounters(ctx context.Context, dirs ...string) (*Profile, error) {
	work, err := os.MkdirTemp("", "rig-cover-")
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	defer os.RemoveAll(work)
	var text bytes.Buffer
	for part := range slices.Chunk(dirs, foldersAtOnce) {
		out := filepath.Join(work, "profile")
		cmd := images.HostGo(ctx, "tool", "covdata", "textfmt", "-i="+strings.Join(part, ","), "-o="+out)
		if said, err := cmd.CombinedOutput(); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, fmt.Errorf("read coverage: %s: %w: %s", "go tool covdata textfmt", err, bytes.TrimSpace(said))
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return nil, fmt.Errorf("read coverage: %w", err)
		}
		mode, rest, _ := bytes.Cut(data, []byte("\n"))
		if text.Len() == 0 && len(rest) > 0 {
			text.Write(mode)
			text.WriteByte('\n')
		}
		text.Write(rest)
	}
	if text.Len() == 0 {
		return nil, fmt.Errorf("read coverage: no counters in %s", strings.Join(dirs, ", "))
	}
	files, err := cover.ParseProfilesFromReader(&text)
	if err != nil {
		return nil, fmt.Errorf("read coverage: go tool covdata wrote a profile that makes no sense: %w", err)
	}
	return &Profile{files}, nil
}

// Join joins a profile of tests on the host, nil when there is none, with one of machines. The statements are those of the machines' programs: files that only
// tests have in them, or a race detector, do not count. A file that both have must be the same in both: that one of them is of another source is an
// error, since statements could not be told from each other.
func Join(host, machines *Profile) (*Coverage, error) {
	c := &Coverage{WithHost: host != nil}
	files := map[string]map[position]Block{}
	for _, f := range machines.files {
		blocks := map[position]Block{}
		for _, b := range f.Blocks {
			by := ByNobody
			if b.Count > 0 {
				by = ByMachines
			}
			blocks[at(b)] = Block{position: at(b), Statements: b.NumStmt, By: by}
		}
		files[f.FileName] = blocks
	}
	var changed []string
	if host == nil {
		host = &Profile{}
	}
	for _, f := range host.files {
		blocks, ours := files[f.FileName]
		if !ours {
			continue
		}
		same := len(blocks) == len(f.Blocks)
		for _, b := range f.Blocks {
			block, found := blocks[at(b)]
			same = same && found && block.Statements == b.NumStmt
			if b.Count > 0 {
				block.By |= ByHost
				blocks[at(b)] = block
			}
		}
		if !same {
			changed = append(changed, f.FileName)
		}
	}
	if len(changed) > 0 {
		return nil, fmt.Errorf("join coverage: what the host's tests ran is not the source that the machines ran: %s; run the tests again with -coverprofile",
			strings.Join(changed, ", "))
	}
	for name, blocks := range files {
		f := File{Name: name}
		for _, b := range blocks {
			f.Blocks = append(f.Blocks, b)
		}
		slices.SortFunc(f.Blocks, func(a, b Block) int {
			return cmp.Or(a.line-b.line, a.col-b.col, a.endLine-b.endLine, a.endCol-b.endCol)
		})
		c.Files = append(c.Files, f)
	}
	slices.SortFunc(c.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if len(c.Files) == 0 {
		return nil, errors.New("join coverage: there is none")
	}
	return c, nil
}

// Lines returns the lines of a file in blocks of statements that those, and no others, have reached, in rising order.
func (f *File) Lines(by By) []int {
	var lines []int
	for _, b := range f.Blocks {
		if b.By != by || b.Statements == 0 {
			continue
		}
		for l := b.line; l <= b.endLine; l++ {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// figures counts a file.
func (f *File) figures() Figures {
	out := Figures{Package: path.Dir(f.Name)}
	for _, b := range f.Blocks {
		n := b.Statements
		out.All += n
		if b.By&ByHost != 0 {
			out.Host += n
		}
		if b.By&ByMachines != 0 {
			out.Machines += n
		}
		if b.By != ByNobody {
			out.Together += n
		}
		if b.By == ByMachines {
			out.Only += n
		}
	}
	return out
}

func (f *Figures) add(other Figures) {
	f.All += other.All
	f.Host += other.Host
	f.Machines += other.Machines
	f.Together += other.Together
	f.Only += other.Only
}

// Packages returns the figures of each package, by its path, and last those of all.
func (c *Coverage) Packages() []Figures {
	total := Figures{Package: "total"}
	var out []Figures
	for _, f := range c.Files {
		n := f.figures()
		total.add(n)
		if last := len(out) - 1; last >= 0 && out[last].Package == n.Package {
			out[last].add(n)
			continue
		}
		out = append(out, n)
	}
	// Files of a package need not be neighbours: those of one below it can be in between.
	slices.SortStableFunc(out, func(a, b Figures) int { return strings.Compare(a.Package, b.Package) })
	merged := out[:0]
	for _, n := range out {
		if last := len(merged) - 1; last >= 0 && merged[last].Package == n.Package {
			merged[last].add(n)
			continue
		}
		merged = append(merged, n)
	}
	return append(merged, total)
}
