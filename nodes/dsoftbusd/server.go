package dsoftbusd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"math"

	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/pk"
)

// server answers the requests of one session, one after the other.
type server struct {
	packages packagefsd.Resolver
	limits   Limits
	log      *log.Logger
	handles  *handles
	failing  bool // the package service has failed last time; said once
	// mayComplain, if set, says whether a failure may be reported: sessions come and go, and so do failures.
	mayComplain func() bool
}

// largestFile is the size up to which a file can be opened: offsets have 32 bits.
const largestFile = math.MaxUint32

func newServer(packages packagefsd.Resolver, limits Limits, log *log.Logger) *server {
	return &server{packages: packages, limits: limits, log: log, handles: newHandles(limits.PK.MaxHandles)}
}

// release frees every handle.
func (s *server) release() { s.handles.release() }

// answer appends the answer's frame to dst, and tells whether it says OK.
func (s *server) answer(ctx context.Context, w work, dst []byte) (frame []byte, ok bool) {
	if w.status != pk.OK {
		return pk.AppendReject(dst, w.head[:w.headLen], w.status), false
	}
	switch w.request.Op {
	case pk.Stat:
		size, status := s.stat(ctx, w.request.Name)
		return pk.AppendStatResponse(dst, status, size, pk.KindFile), status == pk.OK
	case pk.Open:
		handle, status := s.open(ctx, w.request.Name)
		return pk.AppendOpenResponse(dst, status, handle), status == pk.OK
	case pk.Read:
		return s.read(dst, w.request)
	default:
		status := s.close(w.request.Handle)
		return pk.AppendCloseResponse(dst, status), status == pk.OK
	}
}

func (s *server) stat(ctx context.Context, name pk.Name) (uint64, pk.Status) {
	file, status := s.resolve(ctx, name)
	if status != pk.OK {
		return 0, status
	}
	defer file.Close()
	return uint64(file.Size()), pk.OK
}

func (s *server) open(ctx context.Context, name pk.Name) (uint32, pk.Status) {
	// Resolved before the limit is looked at: a missing file at the limit is NOT_FOUND.
	file, status := s.resolve(ctx, name)
	if status != pk.OK {
		return 0, status
	}
	if file.Size() > largestFile {
		file.Close()
		return 0, pk.Oversized
	}
	handle, ok := s.handles.add(file)
	if !ok {
		file.Close()
		return 0, pk.Limit
	}
	return handle, pk.OK
}

func (s *server) resolve(ctx context.Context, name pk.Name) (packagefsd.File, pk.Status) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.ResolveTimeout)
	defer cancel()
	file, err := s.packages.Resolve(ctx, name)
	switch {
	case err == nil:
		s.failing = false
		return file, pk.OK
	case errors.Is(err, fs.ErrNotExist):
		s.failing = false
		return nil, pk.NotFound
	}
	s.complain(err)
	return nil, pk.IO
}

// read reads into the answer itself.
func (s *server) read(dst []byte, r pk.Request) (frame []byte, ok bool) {
	file := s.handles.get(r.Handle)
	if file == nil {
		return pk.AppendReadResponse(dst, pk.BadF, nil), false
	}
	left := max(0, file.Size()-int64(r.Offset))
	frame, data := pk.AppendReadRoom(dst, int(min(int64(r.Length), left)))
	if len(data) == 0 {
		return frame, true
	}
	// A short read inside the file would pass for its end at the client.
	if n, err := file.ReadAt(data, int64(r.Offset)); n < len(data) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		s.complain(err)
		return pk.AppendReadResponse(dst, pk.IO, nil), false
	}
	return frame, true
}

func (s *server) close(handle uint32) pk.Status {
	file := s.handles.remove(handle)
	if file == nil {
		return pk.BadF
	}
	file.Close() // only read from: nothing can be lost
	return pk.OK
}

// complain reports the first of a row of failures: a client may ask again as fast as it likes.
func (s *server) complain(err error) {
	if s.failing || s.mayComplain != nil && !s.mayComplain() {
		return
	}
	s.log.Printf("package service: %v; answering IO until it is back", err)
	s.failing = true
}
