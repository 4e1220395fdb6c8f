package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A goTool is the go command and what of it can change the code it makes.
type goTool struct {
	root   string // GOROOT
	env    []string
	inputs []Input
}

// stripFlags leaves symbols and debugging information out of a program; its stack
// traces stay complete.
const stripFlags = "-ldflags=-s -w -buildid="

// ownedVariables are the environment variables that decide what comes out of the
// go command and of makebb. They are set here and nowhere else, to something even
// where that is the default, which go env -w can change: an image must not depend
// on who built it.
var ownedVariables = []string{
	"CGO_ENABLED", "GO111MODULE", "GOARCH", "GOBIN", "GOFLAGS", "GOOS", "GOROOT", "GOWORK", "PWD",
	"GBBDEBUG", "GBB_PATH", "UROOT_SOURCE",
}

// findGo finds the go command that builds the module in dir.
func findGo(ctx context.Context, dir string) (*goTool, error) {
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return nil, fmt.Errorf("the source tree to build from: %w", err)
	}
	g := &goTool{env: goEnv("CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=-mod=readonly")}
	out, err := g.command(dir, "env", "-json", "GOVERSION", "GOROOT", "GOAMD64", "GOEXPERIMENT", "GOFIPS140").run(ctx)
	if err != nil {
		return nil, err
	}
	var answer map[string]string
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("read the answer of go env: %w", err)
	}
	g.root = answer["GOROOT"]
	for _, name := range []string{"GOVERSION", "GOAMD64", "GOEXPERIMENT", "GOFIPS140"} {
		g.inputs = append(g.inputs, Input{Name: name, Value: answer[name]})
	}
	return g, nil
}

// goEnv returns the environment of a go command with these variables of its own.
func goEnv(own ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(ownedVariables, name) {
			env = append(env, v)
		}
	}
	return append(append(env, "GO111MODULE=on", "GOWORK=off"), own...)
}

// HostGo returns a go command whose programs, and those it runs itself, are this
// host's, whatever the user's environment says (see also scripts/goenv.sh).
func HostGo(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = goEnv("GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "GOFLAGS=-mod=readonly -buildvcs=false")
	return cmd
}

// command is the go command with args, run in dir.
func (g *goTool) command(dir string, args ...string) command {
	return command{dir: dir, env: g.env, argv: append([]string{"go"}, args...)}
}

// build runs c, a command that compiles. Most people who see it fail for want of
// a module have no network.
func (g *goTool) build(ctx context.Context, c command) (string, error) {
	out, err := c.run(ctx)
	if failed, ok := errors.AsType[*commandError](err); ok && lacksModule(failed.text) {
		return "", fmt.Errorf("%w\nthe modules named above are not on this machine yet and could not be downloaded: check the network and GOPROXY", err)
	}
	return out, err
}

func lacksModule(text string) bool {
	return slices.ContainsFunc([]string{"dial tcp", "proxyconnect", "module lookup disabled", "i/o timeout"},
		func(sign string) bool { return strings.Contains(text, sign) })
}

// fileInputs are the inputs for files, named relative to root.
func fileInputs(root string, names ...string) ([]Input, error) {
	var in []Input
	for _, name := range names {
		_, sum, err := digestFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		in = append(in, Input{Name: name, Value: sum})
	}
	return in, nil
}
