package record

import (
	"fmt"
	"os"
	"path/filepath"
)

// Inside returns the path of the file or folder that a record calls name,
// relative to the folder dir and separated by slashes. A record may come from
// anyone: a name that leads out of dir, by itself or by a symbolic link, is an
// error, and so is one that does not exist.
func Inside(dir, name string) (path string, err error) {
	name = filepath.FromSlash(name)
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("find %q of the record in %s: it leads out of that folder", name, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err := root.Stat(name); err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}
