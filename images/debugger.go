package images

import (
	"context"
	"fmt"
	"path"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// delveDir holds the module, with no code of its own, whose go.mod pins Delve and all
// it needs. It is apart from the main module because the main one's go.mod and go.sum
// are inputs of the machine's programs, and its versions what they are compiled with: an
// update of the debugger must change neither.
const delveDir = "images/delve"

// debuggerFolder is the cache's folder for debuggers. It has a lock of its own:
// a run must not wait for minutes until Delve is built for somebody else.
const debuggerFolder = "debugger"

// delveProgram is Delve's command.
const delveProgram = "github.com/go-delve/delve/cmd/dlv"

// debugFlags leave symbols and DWARF in. The rest is as in stripFlags, so that what is
// loaded into memory is the same.
const debugFlags = "-ldflags=-buildid="

// A Debugger is what it takes to debug a program in a machine. Its files are on the
// host, and of the machine's architecture; they are no part of an image.
type Debugger struct {
	// Dlv is a static Delve, some 16 MB.
	Dlv string

	// Node is the programs' binary with debug information, some 8 MB. Its code is that
	// of the one in the image, at the same addresses.
	Node string

	// NodePath is where Delve looks for Node in a machine: by the build id of the
	// image's binary. (Delve takes no file in place of a running program's own.)
	NodePath string

	// Unoptimized is the programs' binary with debug information, compiled without
	// optimizations and inlining: every variable is where the source says, and the
	// addresses are others, so it serves for programs started from it only. Empty
	// unless it was asked for.
	Unoptimized string
}

// DebuggerFor returns what to debug the programs of the images for cfg with, and builds
// what is missing of it, which takes a minute the first time. Kernel and Modules of cfg do
// not matter.
func DebuggerFor(ctx context.Context, cfg Config, unoptimized bool) (*Debugger, error) {
	d, err := debuggerFor(ctx, cfg, unoptimized)
	if err != nil {
		return nil, fmt.Errorf("build the debugger: %w", withAdvice(err))
	}
	return d, nil
}

func debuggerFor(ctx context.Context, cfg Config, unoptimized bool) (*Debugger, error) {
	cache, gotool, err := cfg.open(ctx, debuggerFolder)
	if err != nil {
		return nil, err
	}
	defer cache.close()
	id, err := buildID(gotool, cfg.SourceDir, false)
	if err != nil {
		return nil, err
	}
	d := &Debugger{NodePath: debugPath(id)}
	group, ctx := errgroup.WithContext(ctx)
	get := func(l layer, file string, out *string) {
		group.Go(func() error {
			e, err := cache.get(ctx, l)
			if err == nil {
				*out = e.file(file)
			}
			return err
		})
	}
	get(delveLayer(gotool, cfg.SourceDir), "dlv", &d.Dlv)
	get(debugLayer(gotool, cfg.SourceDir, "debug"), binaryName, &d.Node)
	if unoptimized {
		// Without inlining and registers for variables.
		get(debugLayer(gotool, cfg.SourceDir, "unoptimized", "-gcflags=all=-N -l"), binaryName, &d.Unoptimized)
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	cache.prune()
	return d, nil
}

// DebugBinary returns the programs' binary with debug information, of the images for cfg, and builds it if it is missing: see Debugger.Node.
func DebugBinary(ctx context.Context, cfg Config) (file string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("build the machine's programs with debug information: %w", withAdvice(err))
		}
	}()
	cache, gotool, err := cfg.open(ctx, debuggerFolder)
	if err != nil {
		return "", err
	}
	defer cache.close()
	e, err := cache.get(ctx, debugLayer(gotool, cfg.SourceDir, "debug"))
	if err != nil {
		return "", err
	}
	cache.prune()
	return e.file(binaryName), nil
}

// debugPath is where debuggers look for the debug information of a program with that
// build id.
func debugPath(id string) string {
	return path.Join("/usr/lib/debug/.build-id", id[:2], id[2:]+".debug")
}

// delveLayer is Delve alone.
func delveLayer(g *goTool, source string) layer {
	return layer{
		name:  "delve",
		doing: "compiling Delve, which takes a while the first time",
		inputs: func() ([]Input, error) {
			in, err := fileInputs(source, delveDir+"/go.mod", delveDir+"/go.sum")
			if err != nil {
				return nil, err
			}
			in = append(in, g.inputs...)
			return append(in, recipe("debugger.go", "golang.go"), Input{"flags", stripFlags}), nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			compile := g.command(filepath.Join(source, delveDir), "build", "-trimpath", stripFlags, "-buildvcs=false", "-o", filepath.Join(dir, "dlv"), delveProgram)
			_, err := g.build(ctx, compile)
			return result{}, err
		},
	}
}

// debugLayer is the programs' binary with debug information, compiled with further
// flags of the go command.
func debugLayer(g *goTool, source, name string, flags ...string) layer {
	return layer{
		name:  name,
		doing: "compiling the machine's programs with debug information",
		inputs: func() ([]Input, error) {
			in, err := programsInputs(source)
			if err != nil {
				return nil, err
			}
			in = append(in, g.inputs...)
			return append(in, recipe("debugger.go", "programs.go", "golang.go"), Input{"flags", fmt.Sprintf("%q", append(flags, debugFlags))}), nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			if _, err := checkProgramSources(ctx, g, source); err != nil {
				return result{}, err
			}
			return result{}, compileNode(ctx, g, source, filepath.Join(dir, binaryName), debugFlags, flags...)
		},
	}
}
