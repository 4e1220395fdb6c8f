package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/record"
)

// maxRead bounds the files that are compared and searched, which is done in memory.
const maxRead = 64 << 20

// read returns the content of a file of $WORK, or of stdout or stderr.
func (e *Engine) read(name string) ([]byte, error) {
	if !e.printed && (name == "stdout" || name == "stderr") {
		return nil, invalid(faultf("give this line the same condition", "%s is not there: what would leave it is behind a condition that is not met", name))
	}
	switch name {
	case "stdout":
		return e.last.stdout.whole(name)
	case "stderr":
		return e.last.stderr.whole(name)
	}
	f, err := e.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if info.Size() > maxRead {
		return nil, &stepError{reason: record.StepFailed, trouble: true, next: "Compare digests instead (sha256).",
			err: fmt.Errorf("read %s: it has %d bytes, the limit is %d", name, info.Size(), maxRead)}
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n < len(data) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// open opens a file of $WORK.
func (e *Engine) open(name string) (*os.File, error) {
	rel, f := e.scope.relative(name)
	if f != nil {
		return nil, f
	}
	file, err := e.work.Open(rel)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, pathless(err))
	}
	return file, nil
}

// pathless returns the cause of a file system error, whose path the message has
// already.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// hostPath returns the host's name of a file of $WORK.
func (e *Engine) hostPath(name string) (string, error) {
	rel, f := e.scope.relative(name)
	if f != nil {
		return "", f
	}
	return filepath.Join(e.cfg.Work, filepath.FromSlash(rel)), nil
}

// makeRoom makes the folders above a new file of $WORK.
func (e *Engine) makeRoom(name string) error {
	rel, f := e.scope.relative(name)
	if f != nil {
		return f
	}
	folder := "."
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		folder = rel[:i]
	}
	if err := e.work.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make folder %s: %w", folder, pathless(err))
	}
	return nil
}
