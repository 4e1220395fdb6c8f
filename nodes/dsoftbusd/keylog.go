package dsoftbusd

import (
	"io"
	"sync"

	"dsoftbus-rig/protocol/session"
)

// keyLogger returns what writes the keys of sessions to w, nil without one. A write that fails is not said: it is a debugging aid, and the session
// matters more.
func keyLogger(w io.Writer) func(session.Keys) {
	if w == nil {
		return nil
	}
	var mu sync.Mutex
	return func(k session.Keys) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(k.AppendLine(nil))
	}
}
