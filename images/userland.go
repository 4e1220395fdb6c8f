package images

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

// userlandDir holds the module, with no code of its own, whose go.mod pins
// u-root, its builder and all they need, and whose tool lines are the commands
// that go into the base layer. It is apart from the main module because the
// versions that u-root needs are no business of the programs built here.
const userlandDir = "images/userland"

// commandPrefix is how the tool lines start that name a command for the machine;
// the others are tools to build with.
const commandPrefix = "github.com/u-root/u-root/cmds/"

// userlandTags are the build tags of the userland. goshliner gives the shell a
// small line editor in place of one that is a fifth of the whole archive, to be
// unpacked at each boot.
const userlandTags = "goshliner"

// userlandLayer is u-root's commands in one program, with u-root's init as the
// first process. The shell is called gosh and there is no /bin/sh: that is what
// init would start next if the first program ended, and a machine without its
// agent had better panic, which is seen at once.
func userlandLayer(g *goTool, source string) layer {
	return layer{
		name:  "base",
		doing: "compiling u-root's userland, which takes a while the first time",
		inputs: func() ([]Input, error) {
			in, err := fileInputs(source, userlandDir+"/go.mod", userlandDir+"/go.sum")
			if err != nil {
				return nil, err
			}
			in = append(in, g.inputs...)
			return append(in, recipe("userland.go", "archive.go", "golang.go"), Input{"tags", userlandTags}, Input{"flags", stripFlags}), nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			commands, err := userlandCommands(filepath.Join(source, userlandDir, "go.mod"))
			if err != nil {
				return result{}, err
			}
			work, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
			if err != nil {
				return result{}, err
			}
			err = buildUserland(ctx, g, filepath.Join(source, userlandDir), work, dir, commands)
			return result{}, errors.Join(err, os.RemoveAll(work))
		},
	}
}

// userlandCommands reads the packages of the machine's commands from go.mod.
func userlandCommands(gomod string) ([]string, error) {
	text, err := os.ReadFile(gomod)
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(gomod, text, nil)
	if err != nil {
		return nil, err
	}
	var commands []string
	for _, t := range mod.Tool {
		if strings.HasPrefix(t.Path, commandPrefix) {
			commands = append(commands, t.Path)
		}
	}
	return commands, nil
}

// buildUserland compiles commands into one program and writes the layer to dir.
// The builder only writes the source of that program, and the compiler is called
// from here: it would compile everything from scratch each time, and with more
// code in each call.
func buildUserland(ctx context.Context, g *goTool, source, work, dir string, commands []string) error {
	generate := g.command(source, append([]string{"tool", "makebb", "-g", "-gen-dir", work, "-go-build-tags", userlandTags}, commands...)...)
	// makebb was built elsewhere and would not know.
	generate.env = append(generate.env[:len(generate.env):len(generate.env)], "GOROOT="+g.root)
	if _, err := g.build(ctx, generate); err != nil {
		return err
	}
	program := filepath.Join(work, "bb")
	compile := g.command(filepath.Join(work, "src/bb.u-root.com/bb"), "build", stripFlags, "-tags", userlandTags, "-o", program, ".")
	compile.env = append(compile.env[:len(compile.env):len(compile.env)], "GO111MODULE=off", "GOPATH="+work, "GOFLAGS=-trimpath")
	if _, err := g.build(ctx, compile); err != nil {
		return err
	}

	var a archive
	for _, name := range []string{"bin", "etc", "lib", "mnt", "proc", "run", "sys", "usr/lib", "var/log"} {
		a.dir(name, 0o755)
	}
	a.dir("root", 0o700)
	a.dir("tmp", 0o1777)
	// The first process is given /dev/console before anything is mounted.
	a.device("dev/console", 0o600, 5, 1)
	a.device("dev/null", 0o666, 1, 3)
	if err := a.program("bbin/bb", program); err != nil {
		return err
	}
	for _, c := range commands {
		a.link("bbin/"+path.Base(c), "bb")
	}
	a.link("init", "bbin/init")
	a.bytes("etc/passwd", []byte("root:x:0:0:root:/root:/bbin/gosh\n"), 0o644)
	a.bytes("etc/group", []byte("root:x:0:\n"), 0o644)
	a.bytes("etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644)
	return a.write(dir, "base")
}
