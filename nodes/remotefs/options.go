package remotefs

import (
	"fmt"
	"time"

	"dsoftbus-rig/protocol/pk"
)

// maxFrame is the largest PK frame a session's record carries, in bytes.
const maxFrame = 65515

// maxChunk is what an answer of maxFrame bytes holds besides its header.
const maxChunk = maxFrame - 7

// Options tune a Client. The zero value of each field is its default.
type Options struct {
	// Wait is how long dsoftbusd may wait for a session with the peer; 5 s by
	// default. Negative takes only a session that is there.
	Wait time.Duration
	// Timeout ends a session in which a request has been waiting and nothing
	// was answered for so long; 10 s by default. It bounds every call,
	// whatever its context.
	Timeout time.Duration
	// Chunk is the length of one READ in bytes, 1 to 65,508; 32,768 by default.
	Chunk int
	// Window is how many requests may be on the way at a time, at least 1; 32
	// by default, which is how far a server reads ahead.
	Window int
	// WindowBytes bounds what the READs of one transfer on the way ask for, in
	// bytes; 1 MiB by default. One READ is always allowed.
	WindowBytes int
	// Retries is how often a Reader goes on over a new session when the one it
	// had was lost; 0 by default. A Client takes no notice of it.
	Retries int
}

const (
	defaultWait    = 5 * time.Second
	defaultTimeout = 10 * time.Second
	defaultWindow  = 32
	defaultBytes   = 1 << 20
	maxWindow      = 4096 // each has its place in memory, and a server reads ahead 32
)

func (o Options) withDefaults() (Options, error) {
	setDefault(&o.Wait, defaultWait)
	setDefault(&o.Timeout, defaultTimeout)
	setDefault(&o.Chunk, pk.DefaultLimits().MaxRead)
	setDefault(&o.Window, defaultWindow)
	setDefault(&o.WindowBytes, defaultBytes)
	o.Wait = max(o.Wait, 0)
	switch {
	case o.Timeout < 0:
		return o, fmt.Errorf("timeout %v is negative", o.Timeout)
	case o.Chunk < 1 || o.Chunk > maxChunk:
		return o, fmt.Errorf("chunk of %d bytes is outside 1..%d", o.Chunk, maxChunk)
	case o.Window < 1 || o.Window > maxWindow:
		return o, fmt.Errorf("window of %d requests is outside 1..%d", o.Window, maxWindow)
	case o.Retries < 0:
		return o, fmt.Errorf("%d retries are below none", o.Retries)
	case o.WindowBytes < 0:
		return o, fmt.Errorf("window of %d bytes is negative", o.WindowBytes)
	}
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
