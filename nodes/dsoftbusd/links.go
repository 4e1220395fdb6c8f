package dsoftbusd

import (
	"context"
	"sync"
)

// links are the sessions there are, at most one for each paired device.
type links struct {
	mu      sync.Mutex
	byPeer  map[string]*link
	changed chan struct{} // closed, and replaced, at each change
}

func newLinks() *links {
	return &links{byPeer: make(map[string]*link), changed: make(chan struct{})}
}

// adopt makes l the session with its peer and gives the one it replaces, or nil.
func (s *links) adopt(l *link) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.byPeer[l.peer.ID]
	s.byPeer[l.peer.ID] = l
	s.broadcast()
	return old
}

// comeUp makes l visible to programs: its peer has sent a first record.
func (s *links) comeUp(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.up = true
	s.broadcast()
}

// remove forgets l, unless it was replaced already.
func (s *links) remove(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.up = false
	if s.byPeer[l.peer.ID] == l {
		delete(s.byPeer, l.peer.ID)
	}
	s.broadcast()
}

func (s *links) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// get gives the peer's session if it is up, and a channel that closes at the next change of any. A session whose end has
// begun is not: a program that was told of the loss, and asks for another at once, must not get the same one again.
func (s *links) get(id string) (*link, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byPeer[id]
	if l == nil || !l.up || l.ctx.Err() != nil {
		return nil, s.changed
	}
	return l, s.changed
}

// up says whether a peer has a session.
func (s *links) up(id string) bool {
	l, _ := s.get(id)
	return l != nil
}

// wait gives the peer's session as soon as it is up, or ctx's cause.
func (s *links) wait(ctx context.Context, id string) (*link, error) {
	for {
		l, changed := s.get(id)
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
