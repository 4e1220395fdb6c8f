package live

import (
	"context"
	"net"
	"time"
)

// ServeWithin is Serve with other times to wait.
func ServeWithin(ctx context.Context, l *net.UnixListener, s Scenario, first, flush time.Duration) error {
	return serve(ctx, l, s, timing{first, flush})
}

// Choose, Allowed and the rest are for tables.
func Choose(all []Alive, pattern, source string) (Found, error) { return choose(all, pattern, source) }
func FirstFolder() string                                       { return folders()[0] }
func Dial(name string) (net.Conn, error)                        { return (&Client{name: name}).dial(context.Background()) }
func CheckFolder(dir string) error                              { return checkFolder(dir) }
func StartTime(pid int) (uint64, error)                         { return startTime(pid) }
func Allowed(peer, self int) bool                               { return allowed(peer, self) }
