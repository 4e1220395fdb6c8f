package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/nodes/agentapi"
)

// programsSources is where all the source of the machine's programs lies that is
// not a module with a version. What a program would take from elsewhere would not
// be seen to change.
var programsSources = []string{"nodes", "protocol"}

// programsDir has a folder for each of the machine's programs, and one with this
// name for the binary that they are compiled into.
const (
	programsDir = "nodes/cmd"
	binaryName  = "node"
)

// factPrograms is the names of the programs, as in /bin.
const factPrograms = "programs"

// Programs returns the programs that a machine has, as the source in sourceDir says,
// by their paths in it, sorted: "/bin/pkgfs", "/bbin/ls". It compiles nothing. A
// folder without that source has none.
func Programs(sourceDir string) ([]string, error) {
	commands, err := userlandCommands(filepath.Join(sourceDir, userlandDir, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the machine's programs: %w", err)
	}
	programs := []string{"/init", "/bbin/bb", "/bin/" + binaryName, "/bin/uinit"}
	for _, c := range commands {
		programs = append(programs, "/bbin/"+path.Base(c))
	}
	folders, err := os.ReadDir(filepath.Join(sourceDir, programsDir))
	if err != nil {
		return nil, fmt.Errorf("list the machine's programs: %w", err)
	}
	for _, f := range folders {
		if f.IsDir() && f.Name() != binaryName {
			programs = append(programs, "/bin/"+f.Name())
		}
	}
	slices.Sort(programs)
	return programs, nil
}

// programsLayer is the programs of nodes/cmd, in /bin: one binary, and a link to
// it with the name of each, by which it knows what to be. The agent is what
// u-root's init calls uinit, the first program it starts.
//
// With cover it is the same programs, which count which of their statements run; and a layer of
// another name, so that neither can be taken for the other, nor makes the other go from the cache.
func programsLayer(g *goTool, source string, cover bool) layer {
	p := programsBuild{g: g, source: source, layer: "nodes"}
	doing := "compiling the machine's programs"
	if cover {
		p.layer, p.flags = "covered", coverFlags
		doing += ", which count what of them runs"
	}
	return layer{
		name:  p.layer,
		doing: doing,
		inputs: func() ([]Input, error) {
			in, err := programsInputs(source)
			if err != nil {
				return nil, err
			}
			in = append(in, g.inputs...)
			return append(in, recipe("programs.go", "archive.go", "golang.go"), Input{"flags", strings.Join(append([]string{stripFlags}, p.flags...), " ")}), nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			work, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
			if err != nil {
				return result{}, err
			}
			programs, err := p.build(ctx, work, dir)
			found := result{facts: map[string]string{factPrograms: strings.Join(programs, " ")}}
			return found, errors.Join(err, os.RemoveAll(work))
		},
	}
}

// programsInputs lists the files that the programs may be compiled from.
func programsInputs(source string) ([]Input, error) {
	names := []string{"go.mod", "go.sum"}
	for _, top := range programsSources {
		err := filepath.WalkDir(filepath.Join(source, top), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case d.Type().IsRegular() && !strings.HasSuffix(path, "_test.go"):
				name, err := filepath.Rel(source, path)
				names = append(names, name)
				return err
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return fileInputs(source, names...)
}

// coverFlags has the go command make programs that count which of their own statements run, and can write
// that while they do (package nodes/coverage). What is not the project's own is not counted.
var coverFlags = []string{"-cover", "-covermode=atomic", "-coverpkg=./nodes/...,./protocol/...", "-tags=covered"}

// A programsBuild is how the layer of the programs is made.
type programsBuild struct {
	g      *goTool
	source string
	layer  string
	flags  []string // of the go command, beside those of every build
}

// build compiles the programs and writes the layer to dir. It returns their
// names.
func (p programsBuild) build(ctx context.Context, work, dir string) ([]string, error) {
	g, source := p.g, p.source
	programs, err := checkProgramSources(ctx, g, source, p.flags...)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(programs, "agent") {
		return nil, fmt.Errorf("%s has no program called agent, the first that a machine starts", filepath.Join(source, programsDir, binaryName))
	}
	binary := filepath.Join(work, binaryName)
	if err := compileNode(ctx, g, source, binary, stripFlags, p.flags...); err != nil {
		return nil, err
	}
	var a archive
	if err := a.program("bin/"+binaryName, binary); err != nil {
		return nil, err
	}
	for _, name := range programs {
		a.link("bin/"+name, "/bin/"+binaryName)
	}
	a.link("bin/uinit", "/bin/agent")
	if p.layer == "covered" {
		// Before any program runs: each looks for it when it begins.
		a.dir(strings.TrimPrefix(agentapi.CoverageDir, "/"), 0o755)
	}
	return programs, a.write(dir, p.layer)
}

// compileNode compiles the programs' binary with the given flags of the linker, and further ones of the go command.
func compileNode(ctx context.Context, g *goTool, source, binary, linkerFlags string, more ...string) error {
	id, err := buildID(g, source, slices.Contains(more, coverFlags[0]))
	if err != nil {
		return err
	}
	args := []string{"build", "-trimpath", linkerFlags + " -B 0x" + id, "-buildvcs=false", "-o", binary}
	args = append(append(args, more...), "./"+programsDir+"/"+binaryName)
	_, err = g.build(ctx, g.command(source, args...))
	return err
}

// buildID is the GNU build id of the programs' binary, in hex: by it a debugger finds the debug information that a stripped program lacks.
// It depends on what the code is made from, and not on how much else is in the file, so a binary with debug information has it, too. One that
// counts what of it runs is other code.
func buildID(g *goTool, source string, cover bool) (string, error) {
	in, err := programsInputs(source)
	if err != nil {
		return "", err
	}
	if cover {
		in = append(in, Input{"flags", strings.Join(coverFlags, " ")})
	}
	return inputID(binaryName, append(in, g.inputs...))[:40], nil
}

// checkProgramSources makes sure that everything compiled in is an input. It
// returns the names of the programs: the folders of programsDir whose packages
// are compiled in.
func checkProgramSources(ctx context.Context, g *goTool, source string, flags ...string) (programs []string, err error) {
	source, err = filepath.EvalSymlinks(source)
	if err != nil {
		return nil, err
	}
	source, err = filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	args := append([]string{"list", "-deps", "-json=Dir,ImportPath,Standard,Module,EmbedFiles"}, flags...)
	out, err := g.build(ctx, g.command(source, append(args, "./"+programsDir+"/"+binaryName)...))
	if err != nil {
		return nil, err
	}
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var pkg struct {
			Dir, ImportPath string
			Standard        bool
			EmbedFiles      []string
			Module          *struct {
				Main    bool
				Replace *struct{ Version string }
			}
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			slices.Sort(programs)
			return programs, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the answer of go list: %w", err)
		}
		switch {
		case pkg.Standard || pkg.Module == nil:
		case pkg.Module.Main:
			rel, err := filepath.Rel(source, pkg.Dir)
			if err != nil {
				return nil, err
			}
			rel = filepath.ToSlash(rel)
			if dir, name := path.Split(rel); dir == programsDir+"/" && name != binaryName {
				programs = append(programs, name)
			}
			top, _, _ := strings.Cut(rel, "/")
			if !slices.Contains(programsSources, top) {
				return nil, fmt.Errorf("the machine's programs import %s: they may import only what lies in %s, or the image would not be rebuilt when it changes",
					pkg.ImportPath, strings.Join(programsSources, " and "))
			}
			for _, f := range pkg.EmbedFiles {
				if slices.Contains(strings.Split(filepath.ToSlash(f), "/"), "testdata") {
					return nil, fmt.Errorf("%s embeds %s: the image would not be rebuilt when something in a testdata folder changes: move it", pkg.ImportPath, f)
				}
			}
		case pkg.Module.Replace != nil && pkg.Module.Replace.Version == "":
			return nil, fmt.Errorf("the machine's programs import %s, which go.mod replaces with the folder %s: the image would not be rebuilt when it changes", pkg.ImportPath, pkg.Dir)
		}
	}
}
