package pkgfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"dsoftbus-rig/nodes/remotefs"
)

// get copies a file next to where it shall be and renames it there when it is
// whole: whatever goes wrong, the destination is what it was.
func get(ctx context.Context, c *remotefs.Reader, r *request) error {
	path, to := r.args[0], r.args[1]
	// Renaming would put a file in the place of a device or link.
	info, err := os.Lstat(to)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("get %s: %s is not a regular file; name a file to be made or replaced", path, to)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("get %s: %w", path, err)
	}
	aside, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)),
		renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	defer aside.Cleanup()
	if _, err := c.Copy(ctx, path, aside); err != nil {
		return err
	}
	if err := aside.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}
