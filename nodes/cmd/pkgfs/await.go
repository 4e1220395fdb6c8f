package pkgfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	// awaitPause is the time between two looks. Each costs an emulated machine
	// more than the pause's length is worth to a test.
	awaitPause = 50 * time.Millisecond
	// awaitTime is longer than any step of a scenario may take.
	awaitTime = 10 * time.Minute
)

// await waits until a file exists: so a test does something else between two
// operations of one session, however fast the machine is.
func await(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitTime, fmt.Errorf("%s is not there after %v", name, awaitTime))
	defer cancel()
	look := time.NewTicker(awaitPause)
	defer look.Stop()
	for {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
