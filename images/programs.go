package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// programsSources is where all the source of the machine's programs lies that is
// not a module with a version. What a program would take from elsewhere would not
// be seen to change.
var programsSources = []string{"nodes", "protocol"}

// programsLayer is the programs of nodes/cmd, in /bin. The agent is what u-root's
// init calls uinit, the first program it starts.
func programsLayer(g *goTool, source string) layer {
	return layer{
		name:  "nodes",
		doing: "compiling the machine's programs",
		inputs: func() ([]Input, error) {
			in, err := programsInputs(source)
			if err != nil {
				return nil, err
			}
			in = append(in, g.inputs...)
			return append(in, recipe("programs.go", "archive.go", "golang.go"), Input{"flags", stripFlags}), nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			work, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
			if err != nil {
				return result{}, err
			}
			err = buildPrograms(ctx, g, source, work, dir)
			return result{}, errors.Join(err, os.RemoveAll(work))
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

// buildPrograms compiles the programs and writes the layer to dir.
func buildPrograms(ctx context.Context, g *goTool, source, work, dir string) error {
	if err := checkProgramSources(ctx, g, source); err != nil {
		return err
	}
	compile := g.command(source, "build", "-trimpath", stripFlags, "-buildvcs=false", "-o", work+"/", "./nodes/cmd/...")
	if _, err := g.build(ctx, compile); err != nil {
		return err
	}
	list, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	var a archive
	a.link("bin/uinit", "/bin/agent")
	agent := false
	for _, d := range list {
		agent = agent || d.Name() == "agent"
		if err := a.program("bin/"+d.Name(), filepath.Join(work, d.Name())); err != nil {
			return err
		}
	}
	if !agent {
		return fmt.Errorf("%s has no program called agent, the first that a machine starts", filepath.Join(source, "nodes/cmd"))
	}
	return a.write(dir, "nodes")
}

// checkProgramSources makes sure that everything compiled in is an input.
func checkProgramSources(ctx context.Context, g *goTool, source string) error {
	source, err := filepath.EvalSymlinks(source)
	if err != nil {
		return err
	}
	source, err = filepath.Abs(source)
	if err != nil {
		return err
	}
	out, err := g.build(ctx, g.command(source, "list", "-deps", "-json=Dir,ImportPath,Standard,Module,EmbedFiles", "./nodes/cmd/..."))
	if err != nil {
		return err
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
			return nil
		} else if err != nil {
			return fmt.Errorf("read the answer of go list: %w", err)
		}
		switch {
		case pkg.Standard || pkg.Module == nil:
		case pkg.Module.Main:
			rel, err := filepath.Rel(source, pkg.Dir)
			if err != nil {
				return err
			}
			top, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
			if !slices.Contains(programsSources, top) {
				return fmt.Errorf("the machine's programs import %s: they may import only what lies in %s, or the image would not be rebuilt when it changes",
					pkg.ImportPath, strings.Join(programsSources, " and "))
			}
			for _, f := range pkg.EmbedFiles {
				if slices.Contains(strings.Split(filepath.ToSlash(f), "/"), "testdata") {
					return fmt.Errorf("%s embeds %s: the image would not be rebuilt when something in a testdata folder changes: move it", pkg.ImportPath, f)
				}
			}
		case pkg.Module.Replace != nil && pkg.Module.Replace.Version == "":
			return fmt.Errorf("the machine's programs import %s, which go.mod replaces with the folder %s: the image would not be rebuilt when it changes", pkg.ImportPath, pkg.Dir)
		}
	}
}
