package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestLockIsOnePartysAtATime(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), name, func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	got := make(chan error, 1)
	go func() {
		next, err := Lock(t.Context(), name, func() { close(waits) })
		if err == nil {
			defer next()
		}
		got <- err
	}()
	<-waits
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
	unlock, err := Lock(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := Lock(ctx, name, func() { cancel(enough) }); !errors.Is(err, enough) {
		t.Fatalf("got %v", err)
	}
	unlock()
	// Who gave up does not keep it.
	again, err := Lock(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestLockWithoutAFolder(t *testing.T) {
	if _, err := Lock(t.Context(), filepath.Join(t.TempDir(), "none", "lock"), nil); err == nil {
		t.Error("it was taken")
	}
}
