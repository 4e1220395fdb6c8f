package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"

	"dsoftbus-rig/rig/record"
)

func fileCommands() []command {
	return []command{
		{
			name:    "cat",
			idle:    true,
			summary: "prints files to `stdout`",
			forms:   []form{{args: []argument{{name: "FILE", kind: readable, repeat: true}}}},

			prefixes: "?", output: true,
			run: runCat,
		},
		{
			name:    "cp",
			idle:    true,
			summary: "copies files of `$WORK`, or `stdout` or `stderr`, to a file or into a folder",
			detail:  "Folders above DEST are made. DEST is a folder if it exists as one, ends in a slash, or several files are copied.",
			forms:   []form{{args: []argument{{name: "FILE", kind: readable, repeat: true}, {name: "DEST", kind: destination}}}},

			prefixes: "?",
			check: func(k *checker, _ *Statement, b *binding) {
				dest, known := k.scope.value(b.all("DEST")[0])
				srcs := b.all("FILE")
				for _, w := range srcs {
					src, srcKnown := k.scope.value(w)
					rel, f := k.scope.relative(copyTarget(k.scope, src, dest, len(srcs)))
					if !known || !srcKnown || f != nil {
						k.scope.anyFile = true
						continue
					}
					k.scope.files[rel] = true
				}
			},
			run: runCp,
		},
		{
			name:    "sha256",
			idle:    true,
			summary: "sets an environment variable to a file's digest; an empty file is an error",
			forms:   []form{{args: []argument{{name: "VAR", kind: variable}, {name: "FILE", kind: readable}}}},
			run:     runSHA256,
		},
	}
}

var destination = &kind{
	check: func(sc *scope, s string) *fault {
		if s == "stdout" || s == "stderr" {
			return faultf("name a file", "%s cannot be written to", s)
		}
		_, f := sc.relative(s)
		return f
	},
	words: fileNames,
}

// copyTarget returns the name of the file that a copy of src to dest makes, when n
// files are copied.
func copyTarget(sc *scope, src, dest string, n int) string {
	folder := n > 1 || strings.HasSuffix(dest, "/")
	if rel, f := sc.relative(dest); f == nil && !folder {
		folder = rel == "."
		for known := range sc.files {
			folder = folder || strings.HasPrefix(known, rel+"/")
		}
	}
	if folder {
		return dest + "/" + path.Base(src)
	}
	return dest
}

func runCp(_ context.Context, c *call) error {
	srcs := c.all("FILE")
	for _, src := range srcs {
		if err := c.engine.copyFile(src, copyTarget(c.engine.scope, src, c.arg("DEST"), len(srcs))); err != nil {
			return failed(record.StepFailed, "cp: %w", err)
		}
	}
	return nil
}

func (e *Engine) copyFile(src, dest string) error {
	data, err := e.read(src)
	if err != nil {
		return err
	}
	if err := e.makeRoom(dest); err != nil {
		return err
	}
	rel, f := e.scope.relative(dest)
	if f != nil {
		return f
	}
	if err := e.work.WriteFile(rel, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", dest, pathless(err))
	}
	e.scope.files[rel] = true
	return nil
}

func runCat(_ context.Context, c *call) error {
	for _, name := range c.all("FILE") {
		data, err := c.engine.read(name)
		if err != nil {
			return err
		}
		c.print(string(data))
	}
	return nil
}

func runSHA256(_ context.Context, c *call) error {
	name := c.arg("FILE")
	h := sha256.New()
	var size int64
	if name == "stdout" || name == "stderr" {
		data, err := c.engine.read(name)
		if err != nil {
			return err
		}
		size = int64(len(data))
		h.Write(data)
	} else {
		f, err := c.engine.open(name)
		if err != nil {
			return failed(record.StepFailed, "sha256: %w", err)
		}
		defer f.Close()
		if size, err = io.Copy(h, f); err != nil {
			return failed(record.StepFailed, "sha256: read %s: %w", name, pathless(err))
		}
	}
	if size == 0 {
		return &stepError{reason: record.ContentMismatch, node: c.engine.origin(name), awaited: name + " to have content",
			next: "Look at the lines that should have filled it; `stdout -whole ^$` and `grep -whole ^$` ask for nothing.",
			err:  fmt.Errorf("sha256: %s is empty, and the digest of nothing is that of every other nothing", name)}
	}
	digest := hex.EncodeToString(h.Sum(nil))
	c.engine.vars[c.arg("VAR")] = digest
	c.teller.note("%s=%s", c.arg("VAR"), digest)
	return nil
}
