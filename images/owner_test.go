package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// private returns a folder that is the test's alone, whatever the umask is.
func private(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "own")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCheckOwner(t *testing.T) {
	refused := func(what string, err error, want string) {
		t.Helper()
		var owner *CacheError
		if !errors.As(err, &owner) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
			t.Errorf("%s: got %v, want a CacheError with %q", what, err, want)
		}
	}
	dir := private(t)
	cache := filepath.Join(dir, "cache")
	for _, missing := range []string{cache, filepath.Join(cache, "deep", "er")} {
		if err := CheckOwner(missing); err != nil {
			t.Errorf("not there yet: %v", err)
		}
	}
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CheckOwner(cache); err != nil {
		t.Error(err)
	}
	for _, mode := range []fs.FileMode{0o775, 0o757, 0o777 | fs.ModeSticky} {
		if err := os.Chmod(cache, mode); err != nil {
			t.Fatal(err)
		}
		refused(mode.String(), CheckOwner(cache), "can be written by other users")
		link := filepath.Join(dir, "link")
		_ = os.Symlink(cache, link)
		refused("through a link", CheckOwner(link), "can be written by other users")
	}
	if err := errors.Join(os.Chmod(cache, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	refused("above", CheckOwner(cache), "can be written by other users")
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := CheckOwner(cache); err != nil {
		t.Errorf("as below /tmp: %v", err)
	}
	if os.Geteuid() != 0 {
		return // nothing can be given away
	}
	if err := os.Chown(cache, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	refused("another user's", CheckOwner(cache), "belongs to user 12345")
	if _, err := openCache(t.Context(), cache, func(string, ...any) {}); err == nil {
		t.Error("another user's cache was opened")
	}
}
