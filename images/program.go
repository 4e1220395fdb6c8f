package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Binary compiles the machine's programs from the present source in sourceDir, as the image has them, and writes the one binary to dst, whose
// folder exists. It returns the SHA-256 of it, in hex. What has not changed the go command has kept, so that takes a second or two.
//
// It is for a machine that runs; Build makes what new ones start with.
func Binary(ctx context.Context, sourceDir, dst string) (digest string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("compile the machine's programs: %w", withAdvice(err))
		}
	}()
	g, err := findGo(ctx, sourceDir)
	if err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dst), tempPrefix)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, binaryName)
	if err := compileNode(ctx, g, sourceDir, binary, stripFlags); err != nil {
		return "", err
	}
	if _, digest, err = digestFile(binary); err != nil {
		return "", err
	}
	return digest, os.Rename(binary, dst)
}
