package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestLockIsOnePartysAtATime(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), name, func(holder string) { t.Errorf("waited for %s, which does not hold it", holder) })
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 1)
	got := make(chan error, 1)
	go func() {
		next, err := Lock(t.Context(), name, func(holder string) { waits <- holder })
		if err == nil {
			defer next()
		}
		got <- err
	}()
	if got, want := <-waits, fmt.Sprintf("another rig (pid %d)", os.Getpid()); got != want {
		t.Errorf("waits for %s, want %s", got, want)
	}
	select {
	case err := <-got:
		t.Fatalf("two have it: %v", err)
	default:
	}
	unlock()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), name, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := Lock(ctx, name, func(string) { cancel(enough) }); !errors.Is(err, enough) {
		t.Fatalf("got %v", err)
	}
	unlock()
	// Who gave up does not keep it.
	again, err := Lock(t.Context(), name, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestLockWithoutAFolder(t *testing.T) {
	if _, err := Lock(t.Context(), filepath.Join(t.TempDir(), "none", "lock"), func(string) {}); err == nil {
		t.Error("it was taken")
	}
}
