package live

import (
	"context"
	"io"
	"net"
	"time"
)

// ServeWithin is Serve with other times to wait.
func ServeWithin(ctx context.Context, l *net.UnixListener, s Scenario, first, flush time.Duration) error {
	return serve(ctx, l, s, timing{first, flush})
}

// Names, Choose and Allowed are for tables.
func Names(r io.Reader, uid int) ([]string, error)              { return names(r, uid) }
func Choose(all []Alive, pattern, source string) (Found, error) { return choose(all, pattern, source) }
func Allowed(peer, self int) bool                               { return allowed(peer, self) }
