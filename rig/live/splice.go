package live

import (
	"context"
	"io"
	"sync"
)

// Splice passes bytes between two connections, each way until that side has been closed, which is passed on: by CloseWrite where a connection has
// it. It returns when both ways are over, one of them has failed, or ctx ends, and then both are closed. Its error is of the first failure,
// the cause of ctx, or nil.
func Splice(ctx context.Context, a, b io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		ways  sync.WaitGroup
		close = sync.OnceFunc(func() { a.Close(); b.Close() })
	)
	defer close()
	defer context.AfterFunc(ctx, close)()
	way := func(dst, src io.ReadWriteCloser) {
		_, err := io.Copy(dst, src)
		if err != nil {
			cancel(err)
			return
		}
		if half, ok := dst.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // of a connection that is gone the other way tells
		}
	}
	ways.Go(func() { way(a, b) })
	ways.Go(func() { way(b, a) })
	ways.Wait()
	return context.Cause(ctx)
}
