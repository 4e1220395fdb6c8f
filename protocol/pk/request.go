package pk

import "encoding/binary"

const version = 1

// Where the fields of a request are.
const (
	headerLen    = 4
	pathLenAt    = 4
	pathOffset   = 6
	handleAt     = 4
	offsetAt     = 8
	lengthAt     = 12
	readFrameLen = 14
	closeLen     = 8
)

// Request is one valid request. Which fields have a meaning depends on Op.
type Request struct {
	Op     Op
	Path   string // STAT, OPEN: as it was sent
	Name   Name   // STAT, OPEN: what Path names
	Handle uint32 // READ, CLOSE
	Offset uint32 // READ
	Length uint16 // READ: 1..Limits.MaxRead
}

// ParseRequest applies every check that needs no state, in the contract's order; the first failure decides the status.
// What is left to the server is whether the file exists (NotFound, IO), a handle is known (BadF) or free (Limit).
// authenticated says whether the peer is paired for the service.
func ParseRequest(frame []byte, authenticated bool, lim Limits) (Request, Status) {
	if !authenticated {
		return Request{}, Unauthenticated
	}
	if len(frame) < headerLen {
		return Request{}, BadRequest
	}
	if frame[0] != 'P' || frame[1] != 'K' || frame[2] != version {
		return Request{}, BadRequest
	}
	switch op := Op(frame[3]); op {
	case Stat, Open:
		return parsePathRequest(op, frame, lim)
	case Read:
		return parseRead(frame, lim)
	case Close:
		if len(frame) != closeLen {
			return Request{}, BadRequest
		}
		return Request{Op: Close, Handle: binary.LittleEndian.Uint32(frame[handleAt:])}, OK
	}
	return Request{}, BadRequest
}

func parsePathRequest(op Op, frame []byte, lim Limits) (Request, Status) {
	if len(frame) < pathOffset {
		return Request{}, BadRequest
	}
	n := int(binary.LittleEndian.Uint16(frame[pathLenAt:]))
	if n == 0 || n > lim.MaxPath {
		return Request{}, Oversized
	}
	if len(frame) != pathOffset+n {
		return Request{}, BadRequest
	}
	path := string(frame[pathOffset:])
	name, status := ResolvePath(path, lim)
	if status != OK {
		return Request{}, status
	}
	return Request{Op: op, Path: path, Name: name}, OK
}

func parseRead(frame []byte, lim Limits) (Request, Status) {
	if len(frame) != readFrameLen {
		return Request{}, BadRequest
	}
	n := binary.LittleEndian.Uint16(frame[lengthAt:])
	if n == 0 || int(n) > lim.MaxRead {
		return Request{}, Oversized
	}
	return Request{
		Op:     Read,
		Handle: binary.LittleEndian.Uint32(frame[handleAt:]),
		Offset: binary.LittleEndian.Uint32(frame[offsetAt:]),
		Length: n,
	}, OK
}

// AppendStat appends a STAT request for path. A path above 65,509 bytes fits no record; the server's limit is
// far below that, and it is the server that applies it.
func AppendStat(dst []byte, path string) []byte { return appendPath(dst, Stat, path) }

// AppendOpen appends an OPEN request for path, with AppendStat's bounds.
func AppendOpen(dst []byte, path string) []byte { return appendPath(dst, Open, path) }

func appendPath(dst []byte, op Op, path string) []byte {
	// Cut rather than wrapped: a wrapped length would name another path. Either way the server answers OVERSIZED.
	if len(path) > largestPath {
		path = path[:largestPath]
	}
	dst = append(dst, 'P', 'K', version, byte(op))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(path)))
	return append(dst, path...)
}

// AppendRead appends a READ request for length bytes of the handle's file from offset on.
func AppendRead(dst []byte, handle, offset uint32, length uint16) []byte {
	dst = append(dst, 'P', 'K', version, byte(Read))
	dst = binary.LittleEndian.AppendUint32(dst, handle)
	dst = binary.LittleEndian.AppendUint32(dst, offset)
	return binary.LittleEndian.AppendUint16(dst, length)
}

// AppendClose appends a CLOSE request.
func AppendClose(dst []byte, handle uint32) []byte {
	dst = append(dst, 'P', 'K', version, byte(Close))
	return binary.LittleEndian.AppendUint32(dst, handle)
}
