package dsoftbusd

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"

	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/pk"
)

// memStore is a package store in memory which counts what is open, and can be away or stuck.
type memStore struct {
	mu       sync.Mutex
	files    map[string][]byte // by Name.Rel
	sizes    map[string]int64  // sizes other than the content's
	away     bool
	stuck    bool // Resolve waits for its context
	open     int
	resolves int
	changed  chan struct{} // closed, and replaced, when open changes
}

func newStore(files map[string][]byte) *memStore {
	return &memStore{files: files, changed: make(chan struct{})}
}

var errAway = errors.New("package service is away")

// Resolve implements packagefsd.Resolver.
func (s *memStore) Resolve(ctx context.Context, name pk.Name) (packagefsd.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolves++
	if s.stuck {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return nil, context.Cause(ctx)
	}
	if s.away {
		return nil, errAway
	}
	content, ok := s.files[name.Rel()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	size := int64(len(content))
	if other, ok := s.sizes[name.Rel()]; ok {
		size = other
	}
	s.count(1)
	return &memFile{Reader: bytes.NewReader(content), size: size, store: s}, nil
}

func (s *memStore) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// count changes the number of open files. s.mu is held.
func (s *memStore) count(by int) {
	s.open += by
	close(s.changed)
	s.changed = make(chan struct{})
}

// opened gives the number of open files, and a channel that closes when it changes.
func (s *memStore) opened() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.changed
}

// waitOpen waits until n files are open.
func (s *memStore) waitOpen(ctx context.Context, n int) error {
	for {
		open, changed := s.opened()
		if open == n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// memFile is an open file of a memStore.
type memFile struct {
	*bytes.Reader
	size   int64
	store  *memStore
	closed bool
}

// Size implements packagefsd.File.
func (f *memFile) Size() int64 { return f.size }

// Close implements packagefsd.File.
func (f *memFile) Close() error {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.store.count(-1)
	return nil
}
